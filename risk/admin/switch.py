"""The trading switch: where it stands, a form that asks why, and its history."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from risk.admin.service_pages import ReadOnlyInline, RiskForm, RiskPage, operates
from risk.models import TradingSwitch, TradingSwitchEvent
from risk.services.switch import SET, switch_set

_COLOURS = {"Normal": "success", "Reduce only": "warning", "Killed": "danger"}


class TradingSwitchForm(RiskForm):
    """A turn of a switch; the reason is asked anew each time."""

    class Meta:
        model = TradingSwitch
        fields = ("scope", "owner", "bot", "state", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["seen_version"].initial = self.instance.version if self.instance.pk is not None else 0
        self.initial["reason"] = ""
        if "scope" in self.fields and not self.actor.has_perm("bots.operate_all"):
            scopes = self.fields["scope"]
            assert isinstance(scopes, forms.ChoiceField)
            scopes.choices = [choice for choice in scopes.choices if choice[0] != TradingSwitch.Scope.GLOBAL]

    def perform(self, actor: Any) -> TradingSwitch:
        given = self.cleaned_data
        if self.instance.pk is None:
            scope, owner, bot = given["scope"], getattr(given["owner"], "pk", None), getattr(given["bot"], "pk", None)
        else:
            scope, owner, bot = self.instance.scope, self.instance.owner_id, self.instance.bot_id
        return switch_set(
            actor=actor,
            scope=scope,
            owner_id=owner,
            bot_id=bot,
            state=given["state"],
            reason=given["reason"],
            seen_version=given["seen_version"],
        )


class TurnInline(ReadOnlyInline):
    model = TradingSwitchEvent
    fields = readonly_fields = ("at", "from_state", "to_state", "reason", "by")
    show_change_link = False

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("by")


@admin.register(TradingSwitch)
class TradingSwitchAdmin(RiskPage):
    form = TradingSwitchForm
    inlines = (TurnInline,)
    list_display = ("subject", "scope", "state_badge", "reason", "changed_by", "changed_at")
    list_filter = (("scope", ChoicesDropdownFilter), ("state", ChoicesDropdownFilter))
    search_fields = ("reason", "owner__username", "bot__name")
    autocomplete_fields = ("bot",)
    fieldsets = ((None, {"fields": ("scope", "owner", "bot", "state", "reason", "seen_version")}),)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("owner", "bot", "changed_by")
        if operates(request):
            return rows
        mine = Q(owner=request.user.pk) | Q(bot__owner=request.user.pk) | Q(scope=TradingSwitch.Scope.GLOBAL)
        return rows.filter(mine)

    def get_readonly_fields(self, request: HttpRequest, obj: TradingSwitch | None = None) -> Any:
        return ("scope", "owner", "bot") if obj is not None else ()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer a user nobody's but their own."""
        if not operates(request):
            rows = db_field.remote_field.model._default_manager
            own = (
                {"pk": request.user.pk}
                if db_field.remote_field.model is get_user_model()
                else {"owner": request.user.pk}
            )
            kwargs["queryset"] = rows.filter(**own)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    # Who may turn it is the service's rule: one permission, and of users only what is theirs.

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(SET))

    def has_change_permission(self, request: HttpRequest, obj: TradingSwitch | None = None) -> bool:
        if not request.user.has_perm(SET):
            return False
        if obj is None or operates(request):
            return True
        owner = obj.owner_id if obj.bot is None else obj.bot.owner_id
        return bool(owner == request.user.pk)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # its history stands

    @display(description="For")
    def subject(self, switch: TradingSwitch) -> str:
        return switch.source

    @display(description="State", ordering="state", label=_COLOURS)
    def state_badge(self, switch: TradingSwitch) -> str:
        return switch.get_state_display()
