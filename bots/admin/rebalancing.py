"""Requests to rebalance: proposed by the platform or on the page's own form, decided on with buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display

from bots.admin.base import ChoicesFilter, ScopedRelatedFilter, ServiceAdmin, ServiceForm
from bots.admin.display import BAD, BUSY, EMPTY, GOOD, WAITING, age, amount, link, moment, rounded, small_table, state
from bots.live_cache import quotes_heard
from bots.selectors.rebalancing import rebalance_may
from bots.services.rebalancing import (
    rebalance_approve,
    rebalance_cancel,
    rebalance_moved,
    rebalance_propose,
    rebalance_reject,
)
from risk.models import RebalanceRequest

STATES = {"PROPOSED": WAITING, "APPROVED": BUSY, "RUNNING": BUSY, "DONE": GOOD, "FAILED": BAD}
# Where a service names a column, and the form its relation.
FIELDS = {"account_id": "account", "to_account_id": "to_account", "symbol": "market"}


class RebalanceForm(ServiceForm):
    """A proposal by hand; it is another person's to approve."""

    class Meta:
        model = RebalanceRequest
        fields = ("kind", "account", "market", "side", "to_account", "asset", "amount", "reason")
        help_texts = {
            "account": "Where it is converted, or sent from.",
            "market": "Of a conversion: one of that account's exchange.",
            "asset": "Of a move; a conversion's is its market's base.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("asset", "market", "to_account"):
            if name in self.fields:
                self.fields[name].required = False

    def _get_validation_exclusions(self) -> set[str]:
        return {field.name for field in self._meta.model._meta.get_fields()}  # the service checks it

    def perform(self, actor: Any) -> RebalanceRequest:
        given = self.cleaned_data
        market, to_account = given["market"], given["to_account"]
        data = {
            "kind": given["kind"],
            "account_id": given["account"].pk,
            "to_account_id": None if to_account is None else to_account.pk,
            "symbol": "" if market is None else market.symbol,
            "side": given["side"],
            "asset": given["asset"],
            "amount": given["amount"],
            "reason": given["reason"],
        }
        return rebalance_propose(owner=given["account"].owner, actor=actor, data=data)

    def _refuse(self, problem: ValidationError) -> None:
        if not hasattr(problem, "error_dict"):
            super()._refuse(problem)
            return
        for field, errors in problem.error_dict.items():
            name = FIELDS.get(field, field)
            self.add_error(name if name in self.fields else None, errors)


@admin.register(RebalanceRequest)
class RebalanceRequestAdmin(ServiceAdmin):
    form = RebalanceForm
    actions = None
    list_display = (
        "what",
        "owner",
        "where",
        "worth",
        "cost",
        "state_badge",
        "proposer",
        "proposed",
        "expires",
        "outcome",
    )
    list_filter = (
        ("state", ChoicesFilter), ("kind", ChoicesFilter), ("account", ScopedRelatedFilter),
        ("owner", ScopedRelatedFilter),
    )  # fmt: skip
    search_fields = ("asset", "reason", "outcome", "account__label")
    autocomplete_fields = ("market",)
    change_form_outer_before_template = "admin/risk/rebalancerequest/buttons.html"
    add_fields = (
        (None, {"fields": ("kind", "account", "amount", "reason")}),
        ("To convert", {"fields": ("market", "side")}),
        ("To move", {"fields": ("to_account", "asset")}),
    )
    fieldsets = (
        (None, {"fields": (("what", "state_badge"), ("account", "to_account", "owner"), "reason", "outcome")}),
        (
            "Expected",
            {"fields": (("worth", "quoted"), ("half_spread", "cost"), "shares")},
        ),
        ("Realised", {"fields": (("filled_amount", "realised"), ("gained", "fees_paid"), "trade_link", "sides")}),
        ("History", {"fields": (("proposer", "proposed_at", "expires_moment"), "steps", "decisions")}),
    )
    readonly_fields = (
        "what", "state_badge", "worth", "quoted", "half_spread", "cost", "shares", "filled_amount", "realised",
        "gained", "fees_paid", "trade_link", "sides", "proposer", "proposed_at", "expires_moment", "steps", "decisions",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return rows.select_related("owner", "account__exchange", "to_account__exchange", "market", "proposed_by")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.add_fields if obj is None else super().get_fieldsets(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # what was proposed is approved as it was read, or not at all

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # --- columns ---------------------------------------------------------------------------------------------------

    @display(description="Proposal", ordering="pk")
    def what(self, row: RebalanceRequest) -> SafeString:
        verb = row.get_side_display() if row.side else row.get_kind_display()
        return format_html('<span class="whitespace-nowrap">{} {}</span>', verb, amount(row.amount, row.asset))

    @display(description="Where", ordering="account__label")
    def where(self, row: RebalanceRequest) -> Any:
        if row.to_account is not None:
            return format_html("{}<br><small>to {}</small>", row.account, row.to_account)
        return format_html("{}<br><small>{}</small>", row.account, "" if row.market is None else row.market.symbol)

    @display(description="Worth about")
    def worth(self, row: RebalanceRequest) -> Any:
        return rounded(row.value, row.quote)

    @display(description="Estimated cost")
    def cost(self, row: RebalanceRequest) -> str:
        if row.cost_bps is None:
            return "the network's fee"
        return f"{rounded_text(row.cost_bps)} bps" + ("" if row.half_spread_bps is not None else " and half the spread")

    @display(description="Half the spread")
    def half_spread(self, row: RebalanceRequest) -> str:
        return EMPTY if row.half_spread_bps is None else f"{rounded_text(row.half_spread_bps)} bps"

    @display(description="Price it was made with")
    def quoted(self, row: RebalanceRequest) -> Any:
        return amount(row.price)

    @display(description="State", ordering="state")
    def state_badge(self, row: RebalanceRequest) -> SafeString:
        return state(row, "state", STATES)

    @display(description="Proposed by")
    def proposer(self, row: RebalanceRequest) -> str:
        return str(row.proposed_by or "the platform")

    @display(description="Proposed", ordering="created_at")
    def proposed(self, row: RebalanceRequest) -> Any:
        return age(row.created_at)

    @display(description="Proposed at")
    def proposed_at(self, row: RebalanceRequest) -> Any:
        return moment(row.created_at)

    @display(description="Expires", ordering="expires_at")
    def expires(self, row: RebalanceRequest) -> Any:
        return moment(row.expires_at) if row.state == "PROPOSED" else EMPTY

    @display(description="To be approved until")
    def expires_moment(self, row: RebalanceRequest) -> Any:
        return moment(row.expires_at)

    @display(description="Share of base")
    def shares(self, row: RebalanceRequest) -> SafeString | str:
        rows = [(one["account"], _percent(one["before"]), _percent(one["after"])) for one in row.effects]
        return small_table(("Account", "Before", "After"), rows) if rows else EMPTY

    @display(description="Converted, or arrived")
    def filled_amount(self, row: RebalanceRequest) -> Any:
        return amount(row.filled, row.asset)

    @display(description="Average price")
    def realised(self, row: RebalanceRequest) -> Any:
        return amount(row.realised_price)

    @display(description="Price improvement")
    def gained(self, row: RebalanceRequest) -> Any:
        return rounded(row.improvement, row.quote, sign=True)

    @display(description="Fees")
    def fees_paid(self, row: RebalanceRequest) -> str:
        return ", ".join(f"{paid} {asset}" for asset, paid in row.fees.items()) or EMPTY

    @display(description="Trade")
    def trade_link(self, row: RebalanceRequest) -> Any:
        return link(row.trade)

    @display(description="Adopted")
    def sides(self, row: RebalanceRequest) -> Any:
        return format_html("{} {}", link(row.sent, "withdrawal"), link(row.arrived, "deposit"))

    @display(description="Steps")
    def steps(self, row: RebalanceRequest) -> SafeString:
        rows = [
            (moment(one.at), one.to_state.capitalize(), one.by or "the platform", one.text or EMPTY)
            for one in row.events.select_related("by")
        ]
        return small_table(("At", "State", "By", "Text"), rows)

    @display(description="Decisions")
    def decisions(self, row: RebalanceRequest) -> SafeString | str:
        rows = [
            (moment(one.at), one.get_decision_display(), one.by, one.note or EMPTY)
            for one in row.approvals.select_related("by")
        ]
        return small_table(("At", "Decision", "By", "Note"), rows) if rows else EMPTY

    # --- decisions ---------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_or_404(request, object_id)
        may = rebalance_may(row, request.user)
        context = {
            "may": may,
            "own": row.proposed_by_id == request.user.pk and row.state == "PROPOSED",
            **(extra_context or {}),
        }
        return super().change_view(request, object_id, form_url, context)

    def _decide(
        self, request: HttpRequest, object_id: str, service: Callable[..., RebalanceRequest], word: str = "reason"
    ) -> HttpResponse:
        row = self.get_or_404(request, object_id)
        try:
            done = service(request_id=row.pk, actor=request.user, **{word: request.POST.get("reason", "")})
        except ValidationError as problem:
            self.message_user(request, " ".join(problem.messages), messages.ERROR)
        else:
            self.message_user(request, f"{done} is {done.get_state_display().lower()}.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:risk_rebalancerequest_change", args=[row.pk]))

    @method_decorator(require_POST)
    def approve_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        async_to_sync(quotes_heard)()
        return self._decide(request, object_id, rebalance_approve, "note")

    @method_decorator(require_POST)
    def reject_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, rebalance_reject)

    @method_decorator(require_POST)
    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, rebalance_cancel)

    @method_decorator(require_POST)
    def moved_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, rebalance_moved)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            *(
                path(f"<path:object_id>/{name}/", view(getattr(self, f"{name}_view")), name=f"risk_rebalance_{name}")
                for name in ("approve", "reject", "cancel", "moved")
            ),
            *super().get_urls(),
        ]


def rounded_text(value: Any) -> str:
    return amount(round(value, 2))


def _percent(share: str) -> str:
    return f"{float(share) * 100:.1f} %"
