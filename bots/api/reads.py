"""What there is of an owner's: orders, trades, positions, balances, opportunities. Newest first, in pages."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router

from bots.api.answers import Before, Limit, Owner, page
from bots.api.auth import owner_of
from bots.api.openapi import answers
from bots.live_cache import last_known
from bots.live_desk import MODES, Prices, positions
from bots.live_desk_schema import DeskMode, Order, Position
from bots.live_schema import Balance, Opportunity, Trade
from bots.models import Balance as BalanceRow
from bots.models import Decision
from bots.models import Order as OrderRow
from bots.models import Trade as TradeRow
from bots.selectors.dashboard import held_tickets, holdings, orders_data
from bots.selectors.live import balance_data, opportunity_data, trades_data

router = Router(tags=["lists"])
OneMode = Annotated[DeskMode | None, Query(description="Only paper, or only what is sent to an exchange.")]


class OrderPage(msgspec.Struct):
    items: list[Order]
    next: int | None


class TradePage(msgspec.Struct):
    items: list[Trade]
    next: int | None


class PositionPage(msgspec.Struct):
    items: list[Position]
    next: int | None


class BalancePage(msgspec.Struct):
    items: list[Balance]
    next: int | None


class OpportunityPage(msgspec.Struct):
    items: list[Opportunity]
    next: int | None


@router.get("/orders", **answers(OrderPage))
def order_list(
    request: HttpRequest, limit: Limit = 50, before: Before = None, mode: OneMode = None, owner: Owner = None
) -> HttpResponse:
    """List orders, newest first."""
    rows = OrderRow.objects.filter(owner=owner_of(request, owner), **_of_trades("trade__mode", mode))
    rows = rows.select_related("trade__ticket", "account__exchange", "market")
    return page(rows, limit=limit, before=before, show=orders_data)


@router.get("/trades", **answers(TradePage))
def trade_list(
    request: HttpRequest, limit: Limit = 50, before: Before = None, mode: OneMode = None, owner: Owner = None
) -> HttpResponse:
    """List trades with their legs, newest first."""
    rows = TradeRow.objects.filter(owner=owner_of(request, owner), **_of_trades("mode", mode)).select_related("bot")
    return page(rows, limit=limit, before=before, show=trades_data)


@router.get("/positions", **answers(PositionPage))
def position_list(
    request: HttpRequest, limit: Limit = 50, before: Before = None, mode: OneMode = None, owner: Owner = None
) -> HttpResponse:
    """List what trades made by hand hold now, valued at the newest quotes, else at the exchange's last mark price."""
    rows = held_tickets(owner_id=owner_of(request, owner).pk).filter(**_of_trades("trade__mode", mode))
    rows = rows.select_related("trade", "account__exchange", "market__exchange")
    prices = Prices(last_known.latest("quote"))
    return page(
        rows,
        limit=limit,
        before=before,
        show=lambda found: positions(holdings(found), prices).items,
    )


@router.get("/balances", **answers(BalancePage))
def balance_list(request: HttpRequest, limit: Limit = 50, before: Before = None, owner: Owner = None) -> HttpResponse:
    """List the figures stored of each account and asset."""
    rows = BalanceRow.objects.filter(owner=owner_of(request, owner)).select_related("account__exchange")
    return page(rows, limit=limit, before=before, show=lambda found: [balance_data(row) for row in found])


@router.get("/opportunities", **answers(OpportunityPage))
def opportunity_list(
    request: HttpRequest, limit: Limit = 50, before: Before = None, mode: OneMode = None, owner: Owner = None
) -> HttpResponse:
    """List what was found and what was done about it, as far as it is kept."""
    rows = Decision.objects.filter(owner=owner_of(request, owner), **({} if mode is None else {"bot__mode": mode}))
    rows = rows.select_related("bot")
    return page(rows, limit=limit, before=before, show=lambda found: [opportunity_data(row) for row in found])


def _of_trades(column: str, mode: str | None) -> dict[str, Any]:
    return {} if mode is None else {f"{column}__in": MODES[mode]}
