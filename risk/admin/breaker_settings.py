"""The rules of circuit breakers, a row for each scope."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin
from unfold.decorators import display

from risk.admin.base import EMPTY, NumberField, plain
from risk.models import BreakerSettings
from risk.models.breaker_settings import EDITABLE
from risk.services.breaker_operations import SETTINGS, settings_ensure, settings_lock, settings_update


class BreakerSettingsForm(forms.ModelForm):
    """Rules as an operator edits them; the version they were opened at goes with them."""

    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = BreakerSettings
        fields = sorted(EDITABLE)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in list(self.fields.items()):
            if isinstance(field, forms.DecimalField | forms.IntegerField) and name in EDITABLE:
                self.fields[name] = NumberField(
                    whole=not isinstance(field, forms.DecimalField),
                    label=field.label,
                    required=field.required,
                    help_text=field.help_text,
                )
        self.fields["seen_version"].initial = self.instance.version

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        # Held until the admin's transaction ends, so that nobody comes between this check and the saving.
        settings_lock(scope=self.instance.scope, seen_version=cleaned.get("seen_version"))
        return cleaned


@admin.register(BreakerSettings)
class BreakerSettingsAdmin(ModelAdmin):
    form = BreakerSettingsForm
    list_display = ("scope", "cool_down", "steps", "on", "version", "changed_at")
    warn_unsaved_form = True
    fieldsets = (
        (
            "How they open",
            {
                "fields": (
                    "seen_version",
                    ("cooldown_seconds", "cooldown_growth"),
                    ("max_cooldown_seconds", "forget_seconds"),
                )
            },
        ),
        (
            "How they come back",
            {"fields": (("probe_edge_factor", "probe_seconds"), ("steps", "clean_per_step"))},
        ),
        (
            "What trips them",
            {
                "fields": (
                    ("consecutive_losses", "reconciliation_difference"),
                    ("window_loss", "window_seconds"),
                    ("error_rate", "error_sample"),
                    ("rejects", "rejects_seconds"),
                    ("latency_ms", "latency_sample"),
                    ("one_legged", "one_legged_seconds"),
                    "stale_seconds",
                )
            },
        ),
        (
            "The day's loss",
            {"fields": ("daily_loss", ("share_of_equity", "share_of_profit"), ("floor", "ceiling"))},
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if request.user.has_perm(SETTINGS):
            settings_ensure()
        return super().changelist_view(request, extra_context)

    def formfield_for_dbfield(self, db_field: models.Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        if isinstance(db_field, models.DecimalField | models.PositiveIntegerField):
            # The form has a field of its own for numbers.
            return db_field.formfield(**kwargs)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @display(description="Cool-down")
    def cool_down(self, row: BreakerSettings) -> str:
        first, growth, most = row.cooldown_seconds, row.cooldown_growth, row.max_cooldown_seconds
        return f"{plain(first)} s, times {plain(growth)} up to {plain(most)} s"

    @display(description="Triggers on")
    def on(self, row: BreakerSettings) -> str:
        counted = (
            "consecutive_losses",
            "window_loss",
            "error_rate",
            "rejects",
            "latency_ms",
            "one_legged",
            "stale_seconds",
        )
        names = [name for name in counted if getattr(row, name) is not None]
        names += [name for name in ("reconciliation_difference", "daily_loss") if getattr(row, name)]
        return ", ".join(str(row._meta.get_field(name).verbose_name) for name in names) or EMPTY

    # The service saves and audits.
    def save_model(self, request: HttpRequest, obj: BreakerSettings, form: Any, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in EDITABLE}
        settings_update(
            actor=request.user, scope=obj.scope, values=values, seen_version=form.cleaned_data["seen_version"]
        )
        obj.refresh_from_db()

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """The service has."""
