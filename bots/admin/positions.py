"""What exchanges tell of contracts: positions, and the lines of their statements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from bots.admin.base import ChoicesFilter, ReadOnlyAdmin, ScopedRelatedFilter
from bots.admin.display import EMPTY, age, amount, link, moment, rounded
from bots.models import Income, Position


class HeldFilter(admin.SimpleListFilter):
    """Open positions unless all are asked for: what is gone stays as a row of 0."""

    title = "what is shown"
    parameter_name = "shown"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("all", "Gone ones too")]

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
            "display": "Open ones",
        }
        yield from list(super().choices(changelist))[1:]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Position]) -> QuerySet[Position]:
        return queryset if self.value() == "all" else queryset.exclude(quantity=0)


@admin.register(Position)
class PositionAdmin(ReadOnlyAdmin):
    list_display = (
        "market_link", "owner", "account_link", "side", "held", "entry", "mark", "gain", "leverage_text", "margin_mode",
        "liquidation", "seen",
    )  # fmt: skip
    list_filter = (
        HeldFilter,
        ("side", ChoicesFilter),
        ("account__exchange", ScopedRelatedFilter),
        ("account", ScopedRelatedFilter),
        ("owner", ScopedRelatedFilter),
    )
    search_fields = ("market__symbol", "account__label")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("market_link", "side"),
                    ("account_link", "owner"),
                    ("held", "entry", "mark", "gain"),
                    ("leverage_text", "margin_mode", "liquidation"),
                    ("told",),
                )
            },
        ),
    )
    readonly_fields = (
        "market_link", "account_link", "held", "entry", "mark", "gain", "leverage_text", "liquidation", "told",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner", "account__exchange", "market__exchange")

    @display(description="Market", ordering="market__symbol")
    def market_link(self, row: Position) -> Any:
        return link(row.market)

    @display(description="Account", ordering="account__label")
    def account_link(self, row: Position) -> Any:
        return link(row.account)

    @display(description="Quantity", ordering="quantity")
    def held(self, row: Position) -> Any:
        return rounded(row.quantity, sign=True)

    @display(description="Entry price")
    def entry(self, row: Position) -> str:
        return amount(row.entry_price)

    @display(description="Mark price")
    def mark(self, row: Position) -> str:
        return amount(row.mark_price)

    @display(description="Unrealised PnL", ordering="unrealized_pnl")
    def gain(self, row: Position) -> Any:
        return rounded(row.unrealized_pnl, row.market.settle_id or "", sign=True)

    @display(description="Leverage", ordering="leverage")
    def leverage_text(self, row: Position) -> str:
        return EMPTY if row.leverage is None else f"{row.leverage}×"

    @display(description="Liquidation price")
    def liquidation(self, row: Position) -> str:
        return amount(row.liquidation_price)

    @display(description="Age", ordering="at")
    def seen(self, row: Position) -> Any:
        return age(row.at)

    @display(description="The exchange was asked")
    def told(self, row: Position) -> Any:
        return moment(row.at)


@admin.register(Income)
class IncomeAdmin(ReadOnlyAdmin):
    list_display = ("kind", "owner", "account_link", "market", "gain", "transaction_id", "entry", "when")
    list_filter = (
        ("kind", ChoicesFilter), ("account", ScopedRelatedFilter), "at", ("owner", ScopedRelatedFilter),
    )  # fmt: skip
    search_fields = ("transaction_id", "market", "asset", "account__label")
    readonly_fields = ("entry",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner", "account__exchange", "ledger_entry")

    @display(description="Account", ordering="account__label")
    def account_link(self, row: Income) -> Any:
        return link(row.account)

    @display(description="Amount", ordering="amount")
    def gain(self, row: Income) -> Any:
        return rounded(row.amount, row.asset, sign=True)

    @display(description="Ledger entry")
    def entry(self, row: Income) -> Any:
        entry = getattr(row, "ledger_entry", None)  # no row: it is in what the ledger was opened with
        return "in the opening balance" if entry is None else link(entry)

    @display(description="Age", ordering="at")
    def when(self, row: Income) -> Any:
        return age(row.at)
