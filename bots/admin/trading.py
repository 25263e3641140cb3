"""Decisions, trades and the ledger: what happened, to be read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from bots.admin.base import ChoicesFilter, ReadOnlyAdmin, ReadOnlyInline, ScopedRelatedFilter
from bots.admin.display import (
    EMPTY,
    GOOD,
    MODES,
    TRADE_STATES,
    age,
    amount,
    badge,
    link,
    moment,
    named_values,
    rounded,
    route,
    small_table,
    state,
    took,
)
from bots.decision_words import words_of
from bots.models import Decision, LedgerEntry, LedgerLine, LegSlippage, Order, Trade

_OWNER = ("owner", ScopedRelatedFilter)
_BOT = ("bot", ScopedRelatedFilter)


class OrderInline(ReadOnlyInline):
    model = Order
    fields = (
        "client_order_id",
        "leg",
        "attempt",
        "market",
        "side",
        "price",
        "quantity",
        "filled",
        "average_price",
        "state",
    )
    readonly_fields = fields
    ordering = ("leg", "attempt")
    verbose_name_plural = "Legs"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("market__exchange")


class SlippageInline(ReadOnlyInline):
    """What each leg cost against its decision, in basis points: before and after, and where it lost it."""

    model = LegSlippage
    fields = (
        "leg_link", "market_text", "size", "prices", "expected", "realised", "before_send", "in_flight", "depth", "fee",
    )  # fmt: skip
    readonly_fields = fields
    ordering = ("order__leg", "order__attempt")
    hide_title = False
    verbose_name_plural = "Slippage by leg, basis points; positive is worse"

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).for_user(request.user)
        return rows.select_related("order__market__exchange")

    @display(description="Leg")
    def leg_link(self, row: LegSlippage) -> Any:
        return link(row.order, f"{row.order.leg} {row.order.get_side_display().lower()}, attempt {row.order.attempt}")

    @display(description="Market")
    def market_text(self, row: LegSlippage) -> str:
        return str(row.order.market)

    @display(description="Quantity")
    def size(self, row: LegSlippage) -> Any:
        return rounded(row.quantity)

    @display(description="Decided, sent, filled at")
    def prices(self, row: LegSlippage) -> Any:
        shown = (rounded(price) for price in (row.decided_price, row.sent_price, row.filled_price))
        return format_html("{} → {} → {}", *shown)

    @display(description="Before (expected)")
    def expected(self, row: LegSlippage) -> str:
        return f"{row.charged_bps:.2f}"

    @display(description="After (realised)")
    def realised(self, row: LegSlippage) -> str:
        return f"{row.total_bps:.2f}"

    @display(description="Before sending")
    def before_send(self, row: LegSlippage) -> str:
        return f"{row.before_send_bps:.2f}"

    @display(description="In flight")
    def in_flight(self, row: LegSlippage) -> str:
        return f"{row.in_flight_bps:.2f}"

    @display(description="Depth")
    def depth(self, row: LegSlippage) -> str:
        return f"{row.depth_bps:.2f}"

    @display(description="Fee")
    def fee(self, row: LegSlippage) -> str:
        return f"{row.fee_bps:.2f}" + (f", {row.fees_unvalued} unknown" if row.fees_unvalued else "")


@admin.register(Trade)
class TradeAdmin(ReadOnlyAdmin):
    list_display = (
        "trade_id", "owner", "bot_link", "route_text", "state_badge", "mode_badge", "size", "expected", "result",
        "opened", "took",
    )  # fmt: skip
    list_filter = (("state", ChoicesFilter), ("mode", ChoicesFilter), _BOT, "quote", "opened_at", _OWNER)
    search_fields = ("trade_id", "route", "bot__name", "orders__client_order_id", "orders__exchange_order_id")
    date_hierarchy = "opened_at"
    inlines = (OrderInline, SlippageInline)
    fieldsets = (
        (None, {"fields": (("trade_id", "bot"), ("route_text", "owner"), ("state_badge", "mode_badge"))}),
        (
            "Result",
            {
                "fields": (
                    ("quantity", "residual_base"),
                    ("expected", "result"),
                    ("exposure_seconds", "ladder_seconds"),
                    "fees",
                    "reason",
                )
            },
        ),
        ("When", {"fields": (("opened_moment", "closed_moment"), ("took", "lease_token"))}),
    )
    readonly_fields = (
        "route_text",
        "state_badge",
        "mode_badge",
        "expected",
        "result",
        "exposure_seconds",
        "ladder_seconds",
        "opened_moment",
        "closed_moment",
        "took",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner", "bot")

    @display(description="Bot", ordering="bot__name")
    def bot_link(self, trade: Trade) -> Any:
        return link(trade.bot)

    @display(description="Route", ordering="route")
    def route_text(self, trade: Trade) -> Any:
        return route(trade.route)

    @display(description="State", ordering="state")
    def state_badge(self, trade: Trade) -> SafeString:
        return state(trade, "state", TRADE_STATES)

    @display(description="Mode", ordering="mode")
    def mode_badge(self, trade: Trade) -> SafeString:
        return state(trade, "mode", MODES)

    @display(description="Quantity", ordering="quantity")
    def size(self, trade: Trade) -> Any:
        return rounded(trade.quantity, trade.base)

    @display(description="Expected", ordering="expected_profit")
    def expected(self, trade: Trade) -> Any:
        return format_html(
            "{}<br><small>{}</small>",
            rounded(trade.expected_profit, trade.quote),
            f"{trade.expected_net_bps:.1f} bps",
        )

    @display(description="Profit", ordering="realised_profit")
    def result(self, trade: Trade) -> Any:
        profit = rounded(trade.realised_profit, trade.quote, sign=True)
        if not trade.residual_base:
            return profit
        return format_html("{}<br><small>holds {}</small>", profit, amount(trade.residual_base, trade.base))

    @display(description="Exposure")
    def exposure_seconds(self, trade: Trade) -> Any:
        return rounded(trade.exposure, f"{trade.quote} × s") if trade.exposure else "always hedged"

    @display(description="On the repair ladder")
    def ladder_seconds(self, trade: Trade) -> str:
        return f"{trade.repair_ms / 1000:.1f} s" if trade.repair_ms else "never"

    @display(description="Opened", ordering="opened_at")
    def opened(self, trade: Trade) -> Any:
        return age(trade.opened_at)

    @display(description="Opened")
    def opened_moment(self, trade: Trade) -> Any:
        return moment(trade.opened_at)

    @display(description="Closed")
    def closed_moment(self, trade: Trade) -> Any:
        return moment(trade.closed_at)

    @display(description="Took")
    def took(self, trade: Trade) -> str:
        return took(trade.opened_at, trade.closed_at)


@admin.register(Decision)
class DecisionAdmin(ReadOnlyAdmin):
    list_display = (
        "when",
        "owner",
        "bot_link",
        "route_text",
        "verdict",
        "why",
        "size",
        "gross",
        "net",
        "score_text",
        "worth",
        "worth_later",
        "books",
    )
    list_filter = ("taken", "check_name", _BOT, "base", "quote", _OWNER)
    search_fields = ("route", "trade_id", "reason")
    list_display_links = ("when",)
    fieldsets = (
        (None, {"fields": (("verdict", "moment"), ("bot", "owner"), "route_text", ("check_title", "trade_link"))}),
        ("Why", {"fields": ("reason", "cure", "figures_table")}),
        (
            "What it was",
            {
                "fields": (
                    ("quantity_text", "notional_text"),
                    ("gross", "net"),
                    ("worth", "worth_later"),
                    "legs_table",
                )
            },
        ),
        ("How it was rated", {"fields": ("score_text", ("factors_table", "components_table"), "costs_table")}),
    )
    readonly_fields = (
        "verdict", "moment", "route_text", "check_title", "trade_link", "cure", "figures_table", "quantity_text",
        "notional_text", "gross", "net", "worth", "worth_later", "legs_table", "score_text", "factors_table",
        "components_table", "costs_table",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner", "bot")

    @display(description="Age", ordering="at")
    def when(self, decision: Decision) -> Any:
        return age(decision.at)

    @display(description="Bot", ordering="bot__name")
    def bot_link(self, decision: Decision) -> Any:
        return link(decision.bot)

    @display(description="Route", ordering="route")
    def route_text(self, decision: Decision) -> Any:
        return route(decision.route)

    @display(description="Decision", ordering="taken")
    def verdict(self, decision: Decision) -> SafeString:
        return badge("Taken", GOOD) if decision.taken else badge("Refused")

    @display(description="Check")
    def why(self, decision: Decision) -> Any:
        if decision.taken:
            return decision.trade_id
        return format_html('<span title="{}">{}</span>', decision.reason, decision.check_name)

    @display(description="Check")
    def check_title(self, decision: Decision) -> str:
        return EMPTY if decision.taken else f"{words_of(decision.check_name).title} ({decision.check_name})"

    @display(description="What to do")
    def cure(self, decision: Decision) -> str:
        return EMPTY if decision.taken else words_of(decision.check_name).cure

    @display(description="Trade")
    def trade_link(self, decision: Decision) -> Any:
        if not decision.trade_id:
            return EMPTY
        return link(Trade.objects.filter(owner_id=decision.owner_id, trade_id=decision.trade_id).first())

    @display(description="At")
    def moment(self, decision: Decision) -> Any:
        return moment(decision.at)

    @display(description="Size", ordering="notional")
    def size(self, decision: Decision) -> Any:
        quantity = rounded(decision.quantity, decision.base)
        if decision.notional is None:
            return quantity
        return format_html("{}<br><small>{}</small>", quantity, rounded(decision.notional, decision.quote))

    @display(description="Quantity in the books")
    def quantity_text(self, decision: Decision) -> Any:
        return rounded(decision.quantity, decision.base)

    @display(description="Size after all factors")
    def notional_text(self, decision: Decision) -> Any:
        return rounded(decision.notional, decision.quote) if decision.notional is not None else "not sized"

    @display(description="Score", ordering="score")
    def score_text(self, decision: Decision) -> str:
        return EMPTY if decision.score is None else f"{decision.score:.2f}"

    @display(description="Figures")
    def figures_table(self, decision: Decision) -> Any:
        return named_values(decision.figures)

    @display(description="Size factors")
    def factors_table(self, decision: Decision) -> Any:
        return named_values(decision.factors)

    @display(description="Score components")
    def components_table(self, decision: Decision) -> Any:
        return named_values(decision.components)

    @display(description="Costs beyond fees, bps")
    def costs_table(self, decision: Decision) -> Any:
        return named_values(decision.costs)

    @display(description="Legs")
    def legs_table(self, decision: Decision) -> Any:
        legs = (
            ("Buy", decision.buy_market, decision.buy_vwap, decision.buy_fee_rate, decision.buy_age_ms),
            ("Sell", decision.sell_market, decision.sell_vwap, decision.sell_fee_rate, decision.sell_age_ms),
        )
        rows = [
            [side, market, rounded(vwap, decision.quote), f"{fee * 1e4:.2f} bps", f"{age_ms:.0f} ms"]
            for side, market, vwap, fee, age_ms in legs
        ]
        return small_table(["Side", "Market", "VWAP", "Fee", "Book's age"], rows)

    @display(description="Gross", ordering="gross_bps")
    def gross(self, decision: Decision) -> str:
        return f"{decision.gross_bps:.2f} bps"

    @display(description="Net", ordering="net_bps")
    def net(self, decision: Decision) -> str:
        return f"{decision.net_bps:.2f} bps"

    @display(description="Worth", ordering="profit")
    def worth(self, decision: Decision) -> Any:
        return rounded(decision.profit, decision.quote)

    @display(description="A second later", ordering="later_profit")
    def worth_later(self, decision: Decision) -> Any:
        return rounded(decision.later_profit, decision.quote, sign=True)

    @display(description="Books", ordering="book_age_ms")
    def books(self, decision: Decision) -> str:
        return f"{decision.book_age_ms:.0f} ms"


class LedgerLineInline(ReadOnlyInline):
    model = LedgerLine
    fields = ("book", "asset", "amount")
    readonly_fields = fields
    show_change_link = False


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "owner", "account_link", "of", "lines_text", "when")
    list_filter = (("cause", ChoicesFilter), ("account", ScopedRelatedFilter), "at", _OWNER)
    search_fields = ("fill__exchange_trade_id", "income__transaction_id", "lines__asset")
    inlines = (LedgerLineInline,)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("owner", "account__exchange", "fill", "income")
        return rows.prefetch_related("lines")

    @display(description="Account", ordering="account__label")
    def account_link(self, entry: LedgerEntry) -> Any:
        return link(entry.account)

    @display(description="Of")
    def of(self, entry: LedgerEntry) -> Any:
        return link(entry.income or entry.fill)

    @display(description="Account gains")
    def lines_text(self, entry: LedgerEntry) -> str:
        gains = (line for line in entry.lines.all() if line.book == LedgerLine.Book.ACCOUNT)
        return ", ".join(amount(line.amount, line.asset) for line in gains)

    @display(description="Age", ordering="at")
    def when(self, entry: LedgerEntry) -> Any:
        return age(entry.at)
