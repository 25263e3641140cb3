"""Orders with their timelines, and fills."""

from __future__ import annotations

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

from bots.admin.base import ChoicesFilter, ReadOnlyAdmin, ReadOnlyInline, ScopedRelatedFilter
from bots.admin.display import EMPTY, ORDER_STATES, SIDES, age, amount, link, moment, rounded, state
from bots.admin.disputes import DisputePanel
from bots.models import Fill, Order, OrderEvent
from bots.services.disputes import DECIDE
from trading.instruments import holding_of

_OWNER = ("owner", ScopedRelatedFilter)


class OrderEventInline(ReadOnlyInline):
    """The order's timeline."""

    model = OrderEvent
    fields = ("moment", "step", "reported_state", "filled", "source", "why", "raw")
    readonly_fields = fields
    verbose_name_plural = "Timeline"
    show_change_link = False

    @display(description="At")
    def moment(self, event: OrderEvent) -> Any:
        return moment(event.at)

    @display(description="Step")
    def step(self, event: OrderEvent) -> SafeString:
        text = after = event.get_to_state_display()
        if event.from_state:
            before = event.get_from_state_display()
            text = f"still {after}" if before == after else f"{before} → {after}"
        return format_html('<span class="whitespace-nowrap">{}</span>', text)

    @display(description="Cause")
    def why(self, event: OrderEvent) -> SafeString:
        return format_html('<span class="block min-w-48">{}</span>', event.cause or EMPTY)


class FillInline(ReadOnlyInline):
    model = Fill
    fields = ("moment", "price", "quantity", "fee", "fee_asset", "liquidity", "exchange_trade_id")
    readonly_fields = fields

    @display(description="At")
    def moment(self, fill: Fill) -> Any:
        return moment(fill.at)


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    list_display = (
        "client_order_id", "owner", "trade_link", "exchange", "symbol", "side_badge", "limit", "size", "filled_amount",
        "average", "state_badge", "created",
    )  # fmt: skip
    list_filter = (
        ("state", ChoicesFilter), ("side", ChoicesFilter), ("market__exchange", ScopedRelatedFilter),
        ("account", ScopedRelatedFilter), "created_at", _OWNER,
    )  # fmt: skip
    search_fields = ("client_order_id", "exchange_order_id", "trade__trade_id", "market__symbol")
    date_hierarchy = "created_at"
    inlines = (OrderEventInline, FillInline)
    change_form_outer_before_template = "admin/bots/order/dispute.html"
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("client_order_id", "exchange_order_id"),
                    ("trade", "owner"),
                    ("account", "market"),
                    ("side_badge", "limit"),
                    ("state_badge", "filled_of"),
                    ("average", "reserve"),
                    ("created_moment", "deadline_moment"),
                    ("which", "lease_token"),
                )
            },
        ),
    )
    readonly_fields = (
        "side_badge", "limit", "state_badge", "filled_of", "average", "reserve", "created_moment", "deadline_moment",
        "which",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner", "trade", "market__exchange", "account__exchange")

    # --- a disputed order -----------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context = dict(extra_context or {})
        if "dispute" not in context:
            context["dispute"] = DisputePanel(self.get_or_404(request, object_id), request.user)
        return super().change_view(request, object_id, form_url, context)

    @method_decorator(require_POST)
    def decide_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = self.get_or_404(request, object_id)
        if not request.user.has_perm(DECIDE):
            raise PermissionDenied
        panel = DisputePanel(order, request.user, request.POST)
        page = reverse("admin:bots_order_change", args=[order.pk])
        try:
            command = panel.ask(request.user)
        except ValidationError as problem:
            if getattr(problem, "code", "") == "already" or not panel.may_decide:
                self.message_user(request, " ".join(problem.messages), messages.WARNING)
                return HttpResponseRedirect(page)
            # The page once more, with everything typed still in it.
            request.method = "GET"
            self.message_user(request, "Nothing was asked for: " + " ".join(problem.messages), messages.ERROR)
            return self.change_view(request, object_id, extra_context={"dispute": panel})
        self.message_user(request, f"Decision #{command.pk} is asked for; the owner's engine carries it out.")
        return HttpResponseRedirect(page)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/decide/", view(self.decide_view), name="bots_order_decide"),
            *super().get_urls(),
        ]

    # --- columns -------------------------------------------------------------------------------------------------

    @display(description="Trade", ordering="trade__trade_id")
    def trade_link(self, order: Order) -> Any:
        return link(order.trade)

    @display(description="Exchange", ordering="market__exchange__code")
    def exchange(self, order: Order) -> Any:
        return link(order.market.exchange)

    @display(description="Market", ordering="market__symbol")
    def symbol(self, order: Order) -> Any:
        return link(order.market, order.market.symbol)

    @display(description="Side", ordering="side")
    def side_badge(self, order: Order) -> SafeString:
        return state(order, "side", SIDES)

    @display(description="Limit", ordering="price")
    def limit(self, order: Order) -> str:
        return f"{amount(order.price)} {order.time_in_force}"

    @display(description="Quantity", ordering="quantity")
    def size(self, order: Order) -> str:
        return amount(order.quantity)

    @display(description="Filled", ordering="filled")
    def filled_amount(self, order: Order) -> str:
        return amount(order.filled)

    @display(description="Filled")
    def filled_of(self, order: Order) -> str:
        return f"{amount(order.filled)} of {amount(order.quantity)}"

    @display(description="Reserves")
    def reserve(self, order: Order) -> str:
        return amount(order.reserve_amount, order.reserve_asset)

    @display(description="Created")
    def created_moment(self, order: Order) -> Any:
        return moment(order.created_at)

    @display(description="Deadline")
    def deadline_moment(self, order: Order) -> Any:
        return moment(order.deadline)

    @display(description="Leg, attempt")
    def which(self, order: Order) -> str:
        return f"{order.leg}, {order.attempt}{', reduce only' if order.reduce_only else ''}"

    @display(description="Average", ordering="average_price")
    def average(self, order: Order) -> Any:
        return rounded(order.average_price)

    @display(description="State", ordering="state")
    def state_badge(self, order: Order) -> SafeString:
        return state(order, "state", ORDER_STATES)

    @display(description="Age", ordering="created_at")
    def created(self, order: Order) -> Any:
        return age(order.created_at)


@admin.register(Fill)
class FillAdmin(ReadOnlyAdmin):
    list_display = (
        "exchange_trade_id", "owner", "order_link", "account_link", "symbol", "side_badge", "size", "rate",
        "fee_amount", "gain", "liquidity", "when",
    )  # fmt: skip
    list_filter = (("account", ScopedRelatedFilter), ("side", ChoicesFilter), "liquidity", "at", _OWNER)
    search_fields = ("exchange_trade_id", "exchange_order_id", "order__client_order_id", "market__symbol")
    date_hierarchy = "at"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner", "order", "market__exchange", "account__exchange")

    @display(description="Order", ordering="order__client_order_id")
    def order_link(self, fill: Fill) -> Any:
        return link(fill.order) if fill.order else "not ours"

    @display(description="Account", ordering="account__label")
    def account_link(self, fill: Fill) -> Any:
        return link(fill.account)

    @display(description="Market", ordering="market__symbol")
    def symbol(self, fill: Fill) -> str:
        return holding_of(fill.market.symbol, fill.position_side)

    @display(description="Side", ordering="side")
    def side_badge(self, fill: Fill) -> SafeString:
        return state(fill, "side", SIDES)

    @display(description="Quantity", ordering="quantity")
    def size(self, fill: Fill) -> str:
        return amount(fill.quantity)

    @display(description="Price", ordering="price")
    def rate(self, fill: Fill) -> str:
        return amount(fill.price)

    @display(description="Fee", ordering="fee")
    def fee_amount(self, fill: Fill) -> str:
        return "not known yet" if fill.fee is None else amount(fill.fee, fill.fee_asset)

    @display(description="Realised PnL", ordering="realized_pnl")
    def gain(self, fill: Fill) -> Any:
        return rounded(fill.realized_pnl, fill.market.settle_id or "", sign=True)

    @display(description="Age", ordering="at")
    def when(self, fill: Fill) -> Any:
        return age(fill.at)
