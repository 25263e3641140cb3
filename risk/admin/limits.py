"""Limits: operators set them, users see those that bind them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from risk.models import RiskLimit
from risk.rules import RULES
from risk.services.limits import limit_create, limit_delete, limit_update

_OPERATE_ALL = "bots.operate_all"


class RiskLimitForm(forms.ModelForm):
    """A limit as an operator edits it; the version it was opened at goes with it."""

    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = RiskLimit
        fields = ("scope", "owner", "bot", "rule", "value", "note")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            self.fields["seen_version"].initial = self.instance.version

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.instance.pk is not None:
            with transaction.atomic():
                stored = RiskLimit.objects.select_for_update(of=("self",)).get(pk=self.instance.pk)
                if stored.version != cleaned.get("seen_version"):
                    raise ValidationError(
                        f"Somebody changed this limit meanwhile: it is {stored.value:f} now. Open it again.",
                        code="stale",
                    )
        return cleaned


@admin.register(RiskLimit)
class RiskLimitAdmin(ModelAdmin):
    form = RiskLimitForm
    list_display = ("rule", "scope", "subject", "limit", "note", "version", "changed_at")
    list_filter = (("scope", ChoicesDropdownFilter), ("rule", ChoicesDropdownFilter))
    search_fields = ("note", "owner__username", "bot__name")
    autocomplete_fields = ("bot",)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("owner", "bot")
        if request.user.has_perm(_OPERATE_ALL):
            return rows
        mine = Q(owner=request.user.pk) | Q(bot__owner=request.user.pk) | Q(scope=RiskLimit.Scope.GLOBAL)
        return rows.filter(mine)

    def get_readonly_fields(self, request: HttpRequest, obj: RiskLimit | None = None) -> Any:
        return ("scope", "owner", "bot", "rule") if obj is not None else ()

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    @display(description="For")
    def subject(self, limit: RiskLimit) -> str:
        return str(limit.bot or limit.owner or "everybody")

    @display(description="Limit", ordering="value")
    def limit(self, limit: RiskLimit) -> str:
        rule = RULES.get(limit.rule)
        bound = "" if rule is None else "at most " if rule.tighter == "lower" else "at least "
        value = f"{limit.value:f}".rstrip("0").rstrip(".")
        return f"{bound}{value} {rule.unit if rule else ''}"

    # The services save and audit.
    def save_model(self, request: HttpRequest, obj: RiskLimit, form: Any, change: bool) -> None:
        if change:
            saved = limit_update(
                actor=request.user,
                limit=obj,
                value=obj.value,
                note=obj.note,
                seen_version=form.cleaned_data["seen_version"],
            )
        else:
            saved = limit_create(
                actor=request.user,
                scope=obj.scope,
                rule=obj.rule,
                value=obj.value,
                owner_id=obj.owner_id,
                bot_id=obj.bot_id,
                note=obj.note,
            )
        obj.pk = saved.pk
        obj.refresh_from_db()

    def delete_model(self, request: HttpRequest, obj: RiskLimit) -> None:
        limit_delete(actor=request.user, limit=obj)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """The service has."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """The service has."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:
        """The service has."""
