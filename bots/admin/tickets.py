"""Trades made by hand: read only, but for the button that closes one."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display

from bots.admin.base import ChoicesFilter, ReadOnlyAdmin, ScopedRelatedFilter
from bots.admin.display import EMPTY, GOOD, SIDES, amount, badge, link, moment, small_table, state
from bots.models import Ticket, Trade
from bots.services.tickets import manual_close_request
from trading.messages import TradeState

_BUTTON = "border border-base-200 cursor-pointer font-medium px-2 py-1 rounded-default text-xs dark:border-base-700"
_PROTECTED = {"exchange": GOOD, "engine": "info"}
CLOSABLE = frozenset({TradeState.OPEN, TradeState.HOLDING, TradeState.REPAIRING})


def close_ask(request: HttpRequest, trade: Trade, *, order: str, what: str) -> None:
    """Ask the engine to close a trade that holds something, and tell the user; ``what`` names it."""
    data = {"trade_id": trade.trade_id, "order": order}
    key = request.POST.get("key") or secrets.token_hex(16)
    try:
        manual_close_request(owner=trade.owner, actor=request.user, data=data, idempotency_key=key)  # type: ignore[arg-type]
        messages.info(request, f"Closing {what} was asked for.")
    except ValidationError as problem:
        messages.error(request, " ".join(problem.messages))


def close_button(address: str) -> SafeString:
    """Return the button that closes one row: the list stands in a form of its own, which it sends to this address."""
    button = '<button type="submit" formmethod="post" formaction="{}" class="{}">Close</button>'
    return format_html(button, address, _BUTTON)


@admin.register(Ticket)
class TicketAdmin(ReadOnlyAdmin):
    list_display = (
        "number", "owner", "symbol", "side_badge", "trade_state", "held_amount", "entry", "take_profit_price",
        "stop_loss_price", "protected", "improvement_amount", "status_questions", "created", "close_button",
    )  # fmt: skip
    list_filter = (
        ("side", ChoicesFilter), ("account", ScopedRelatedFilter), ("market__exchange", ScopedRelatedFilter),
        "created_at", ("owner", ScopedRelatedFilter),
    )  # fmt: skip
    search_fields = ("trade__trade_id", "market__symbol")
    date_hierarchy = "created_at"
    fieldsets = (
        (None, {"fields": (("trade_link", "owner"), ("symbol", "account"), ("side_badge", "trade_state"))}),
        (
            "Asked for",
            {"fields": (("quantity", "limit_cap"), ("take_profit", "stop_loss"), ("leverage", "wanted_path"), "style")},
        ),
        (
            "Stands",
            {
                "fields": (
                    ("held_amount", "entry"),
                    ("protected", "protection_note"),
                    ("improvement_amount", "fallback_quantity", "status_questions"),
                    "path",
                    "steps",
                )
            },
        ),
    )
    readonly_fields = (
        "trade_link", "symbol", "side_badge", "trade_state", "held_amount", "entry", "protected",
        "improvement_amount", "steps",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("trade", "owner", "account__exchange", "market__exchange")

    def get_urls(self) -> list[Any]:
        close = path("<path:object_id>/close/", self.admin_site.admin_view(self.close), name="bots_ticket_close")
        return [close, *super().get_urls()]

    @method_decorator(require_POST)
    def close(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask the engine to close what a ticket holds, adaptively."""
        ticket = self.get_object(request, object_id)
        if not isinstance(ticket, Ticket) or not self.has_view_permission(request, ticket):
            raise PermissionDenied
        close_ask(request, ticket.trade, order="adaptive", what=ticket.market.symbol)
        return HttpResponseRedirect(reverse("admin:bots_ticket_changelist"))

    @display(description="No.", ordering="pk")
    def number(self, ticket: Ticket) -> str:
        return f"#{ticket.pk}"

    @display(description="Trade")
    def trade_link(self, ticket: Ticket) -> Any:
        return link(ticket.trade)

    @display(description="Market", ordering="market__symbol")
    def symbol(self, ticket: Ticket) -> SafeString:
        return format_html("{}<br><small>{}</small>", ticket.market.symbol, ticket.market.exchange.code)

    @display(description="Side", ordering="side")
    def side_badge(self, ticket: Ticket) -> Any:
        return state(ticket, "side", SIDES)

    @display(description="State", ordering="trade__state")
    def trade_state(self, ticket: Ticket) -> Any:
        return badge(ticket.trade.get_state_display(), GOOD if ticket.trade.state == TradeState.HOLDING else "")

    @display(description="Held", ordering="held")
    def held_amount(self, ticket: Ticket) -> Any:
        return amount(ticket.held)

    @display(description="Entry", ordering="entry_price")
    def entry(self, ticket: Ticket) -> Any:
        return amount(ticket.entry_price)

    @display(description="TP", ordering="take_profit")
    def take_profit_price(self, ticket: Ticket) -> Any:
        return amount(ticket.take_profit)

    @display(description="SL", ordering="stop_loss")
    def stop_loss_price(self, ticket: Ticket) -> Any:
        return amount(ticket.stop_loss)

    @display(description="Protected by", ordering="protected_by")
    def protected(self, ticket: Ticket) -> Any:
        return badge(ticket.protected_by, _PROTECTED.get(ticket.protected_by, "")) if ticket.protected_by else EMPTY

    @display(description="Improvement", ordering="improvement")
    def improvement_amount(self, ticket: Ticket) -> Any:
        return amount(ticket.improvement)

    @display(description="Created", ordering="created_at")
    def created(self, ticket: Ticket) -> Any:
        return moment(ticket.created_at)

    @display(description="Steps")
    def steps(self, ticket: Ticket) -> SafeString:
        rows = [
            (_step_name(step), step["state"], f"{step['ms']:g} ms", step["text"] or EMPTY) for step in ticket.progress
        ]
        return small_table(("Step", "State", "Took", "Text"), rows)

    @display(description="")
    def close_button(self, ticket: Ticket) -> SafeString | str:
        if ticket.trade.state not in CLOSABLE:
            return ""
        return close_button(reverse("admin:bots_ticket_close", args=[ticket.pk]))


def _step_name(step: dict[str, Any]) -> str:
    return f"close: {step['step']}" if step.get("command_id") else str(step["step"])
