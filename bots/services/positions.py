"""The exchange's positions in contracts, newest reading wins."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from bots.models import ExchangeAccount, Market, Position
from bots.services import locks
from bots.services.guard import retried_once
from bots.times import from_ns
from bots.venue_keys import markets_by_key
from trading.instruments import money
from trading.messages import AccountPosition, AccountPositions

logger = logging.getLogger("arb.store")

_FIGURES = ("quantity", "entry_price", "mark_price", "unrealized_pnl", "leverage", "margin_mode", "liquidation_price")
_GONE: Mapping[str, Any] = {**dict.fromkeys(_FIGURES), "quantity": Decimal(0), "margin_mode": ""}
RowKey = tuple[int, int, str]


def positions_apply(*, owner_id: int, token: int, told: Sequence[AccountPositions]) -> int:
    """Store each account's newest reading, which has all of its positions; returns how many rows changed.

    A reading older than one stored changes nothing, nor does one of an engine whose lease has passed on: the next
    holder reads for itself. What can't be stored (an unknown market, an absurd figure) is logged and left out.
    """
    newest: dict[int, AccountPositions] = {}
    for reading in told:
        known = newest.get(reading.account_id)
        if known is None or reading.received_ns >= known.received_ns:
            newest[reading.account_id] = reading

    def write() -> int:
        with transaction.atomic():
            if locks.lease_passed_on(owner_id=owner_id, token=token):
                return 0
            return _apply(owner_id, newest)

    return retried_once(write)


def _apply(owner_id: int, newest: Mapping[int, AccountPositions]) -> int:
    accounts = ExchangeAccount.objects.filter(owner_id=owner_id, pk__in=newest).order_by()
    exchanges = dict(accounts.values_list("pk", "exchange"))
    rows = Position.objects.select_for_update(no_key=True).filter(account__in=exchanges).order_by("pk")
    stored: dict[RowKey, Position] = {(row.account_id, row.market_id, row.side): row for row in rows}
    last: dict[int, datetime] = {}
    for row in stored.values():
        last[row.account_id] = max(row.at, last.get(row.account_id, row.at))
    markets = markets_by_key({one.market for reading in newest.values() for one in reading.positions})
    inserts: list[Position] = []
    updates: list[Position] = []
    for account_id, reading in newest.items():
        if account_id not in exchanges:
            logger.error("positions of account %s are not stored: not of owner %s", account_id, owner_id)
            continue
        at = from_ns(reading.received_ns)
        if account_id in last and last[account_id] > at:
            continue
        named = set()
        for one in reading.positions:
            key = _key(account_id, exchanges[account_id], one, markets)
            if key is None:
                continue
            named.add(key)
            figures = _figures(account_id, one)
            if figures is None:
                continue  # what it was is nearer to the truth than that it is gone
            row = stored.get(key) or Position(owner_id=owner_id, account_id=account_id, market_id=key[1], side=key[2])
            (updates if key in stored else inserts).append(row)
            _set(row, figures, at)
        for key, row in stored.items():
            if key[0] == account_id and key not in named and row.quantity:
                _set(row, _GONE, at)
                updates.append(row)
    Position.objects.bulk_create(inserts)
    Position.objects.bulk_update(updates, [*_FIGURES, "at"])
    return len(inserts) + len(updates)


def _key(account_id: int, exchange_id: int, one: AccountPosition, markets: Mapping[str, Market]) -> RowKey | None:
    market = markets.get(one.market)
    if market is None or market.exchange_id != exchange_id or one.side not in Position.Side.values:
        logger.error(
            "a position of account %s is not stored: market %r, side %r", account_id, one.market[:100], one.side[:10]
        )
        return None
    return account_id, market.pk, one.side


def _figures(account_id: int, one: AccountPosition) -> dict[str, Any] | None:
    try:
        return {
            "quantity": money(one.quantity, field="quantity"),
            "entry_price": _amount(one.entry_price, "entry_price"),
            "mark_price": _amount(one.mark_price, "mark_price"),
            "unrealized_pnl": _amount(one.unrealized_pnl, "unrealized_pnl"),
            "leverage": one.leverage,
            "margin_mode": one.margin if one.margin in Position.Margin.values else "",
            "liquidation_price": _amount(one.liquidation_price, "liquidation_price"),
        }
    except ValueError as problem:
        logger.error("position in %s of account %s is not stored: %s", one.market, account_id, problem)
        return None


def _amount(value: Decimal | None, field: str) -> Decimal | None:
    return None if value is None else money(value, field=field)


def _set(row: Position, figures: Mapping[str, Any], at: datetime) -> None:
    for name, value in figures.items():
        setattr(row, name, value)
    row.at = at
