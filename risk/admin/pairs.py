"""Allowed pairs: operators put them on lists and take them off, users see the lists over them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from risk.admin.service_pages import RiskForm, RiskPage, operates
from risk.models import AllowedPair
from risk.selectors import bots_running_under, is_last_pair
from risk.services.pairs import pair_allow, pair_disallow


class AllowedPairForm(RiskForm):
    """A pair for a list."""

    class Meta:
        model = AllowedPair
        fields = ("scope", "owner", "bot", "pair", "note")

    def perform(self, actor: Any) -> AllowedPair:
        given = self.cleaned_data
        return pair_allow(
            actor=actor,
            scope=given["scope"],
            pair_id=given["pair"].pk,
            owner_id=getattr(given["owner"], "pk", None),
            bot_id=getattr(given["bot"], "pk", None),
            note=given["note"],
        )


@admin.register(AllowedPair)
class AllowedPairAdmin(RiskPage):
    form = AllowedPairForm
    list_display = ("pair", "scope", "subject", "note", "created_at")
    list_filter = (("scope", ChoicesDropdownFilter),)
    search_fields = ("note", "owner__username", "bot__name", "pair__base__code", "pair__quote__code")
    autocomplete_fields = ("bot", "pair")
    delete_confirmation_template = "admin/risk/delete_bound.html"
    fieldsets = ((None, {"fields": ("scope", "owner", "bot", "pair", "note")}),)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("owner", "bot", "pair")
        if operates(request):
            return rows
        mine = Q(owner=request.user.pk) | Q(bot__owner=request.user.pk) | Q(scope=AllowedPair.Scope.GLOBAL)
        return rows.filter(mine)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a pair is on a list or it is not

    @display(description="For")
    def subject(self, allowed: AllowedPair) -> str:
        return allowed.source

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        allowed = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if allowed is not None:
            last = is_last_pair(allowed)
            context = {
                "running_bots": bots_running_under(allowed),
                "question": f"Take {allowed.pair} off the list of {allowed.source}?",
                "bound": f"It is the last pair on the list: without it {allowed.source} may trade every pair. "
                "These running bots may, at once:"
                if last
                else "The list is over these running bots, which no longer trade the pair:",
                "seen": {"last_seen": "yes" if last else ""},
            }
        return super().delete_view(request, object_id, {**context, **(extra_context or {})})

    def delete_by_service(self, request: HttpRequest, obj: AllowedPair) -> None:
        pair_disallow(actor=request.user, allowed=obj, last_seen=request.POST.get("last_seen") == "yes")
