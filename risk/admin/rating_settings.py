"""The settings of sizing, slippage, scoring and rebalancing: one row each."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from risk.admin.base import NumberField
from risk.models import RebalanceSettings, ScoringSettings, SizingSettings, SlippageSettings
from risk.models.rating_settings import RatingSettings
from risk.services.rating_settings import rating_update, settings_ensure, settings_lock


class RatingSettingsForm(forms.ModelForm):
    """Rules as an operator edits them; the version they were opened at goes with them."""

    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in list(self.fields.items()):
            if isinstance(field, forms.DecimalField | forms.IntegerField) and name != "seen_version":
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
        settings_lock(type(self.instance), seen_version=cleaned.get("seen_version"), values=cleaned)
        return cleaned


class RatingSettingsAdmin(ModelAdmin):
    form = RatingSettingsForm
    list_display = ("__str__", "version", "changed_at")
    warn_unsaved_form = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if self.has_change_permission(request):
            settings_ensure(self.model)  # with the defaults, which hold without it too
        return super().changelist_view(request, extra_context)

    def formfield_for_dbfield(self, db_field: models.Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        if isinstance(db_field, models.DecimalField | models.PositiveIntegerField | models.PositiveSmallIntegerField):
            # The form has a field of its own for numbers.
            return db_field.formfield(**kwargs)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    # The service saves and audits.
    def save_model(self, request: HttpRequest, obj: RatingSettings, form: Any, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in type(obj).editable()}
        rating_update(
            type(obj), actor=request.user, values=values, seen_version=form.cleaned_data["seen_version"]
        )  # fmt: skip
        obj.refresh_from_db()

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """The service has."""


@admin.register(SizingSettings)
class SizingSettingsAdmin(RatingSettingsAdmin):
    fieldsets = (
        (None, {"fields": ("seen_version", "enabled")}),
        ("Depth", {"fields": (("depth_share", "band_bps"),)}),
        ("Volatility", {"fields": (("volatility_target_bps", "volatility_floor"), "volatility_unknown")}),
        ("Reward and score", {"fields": (("reward_full", "reward_floor"), "score_floor")}),
    )


@admin.register(SlippageSettings)
class SlippageSettingsAdmin(RatingSettingsAdmin):
    fieldsets = (
        ("Allowed", {"fields": ("seen_version", ("share_of_profit", "cap_bps"))}),
        ("Expected", {"fields": (("drift_sigmas", "unknown_sigma_bps"), "impact_coefficient")}),
        (
            "Learned from legs of before",
            {"fields": (("min_sample", "days"), ("edge_floor_bps", "edge_cap_bps"), "threshold_floor")},
        ),
    )


@admin.register(ScoringSettings)
class ScoringSettingsAdmin(RatingSettingsAdmin):
    fieldsets = (
        (
            "Weights",
            {
                "description": "Of any scale: the score is the weighted mean of the components, each from 0 to 1.",
                "fields": ("seen_version", ("profit", "liquidity"), ("volatility", "success"), "conditions"),
            },
        ),
        ("Profit and liquidity", {"fields": ("profit_full_bps", ("depth_full", "volume_full"))}),
        ("Volatility", {"fields": (("volatility_half_bps", "volatility_unknown"),)}),
        ("Success", {"fields": (("prior_wins", "prior_losses"),)}),
        (
            "Conditions",
            {"fields": (("latency_worst_ms", "errors_worst"), ("book_age_worst_ms", "spread_unknown"))},
        ),
    )


@admin.register(RebalanceSettings)
class RebalanceSettingsAdmin(RatingSettingsAdmin):
    fieldsets = (
        (
            None,
            {
                "description": "What an account holds of a pair is its value; the part of it that is base, its share.",
                "fields": ("seen_version", "enabled"),
            },
        ),
        ("When", {"fields": (("target", "band"),)}),
        ("How much", {"fields": (("least_value", "most_value"),)}),
        ("For how long", {"fields": (("lifetime_hours", "pause_hours"),)}),
    )
