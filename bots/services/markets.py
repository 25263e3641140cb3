"""Ask an exchange what it lists, and keep what it answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import msgspec
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from bots.models import Exchange, Market
from bots.services.audit import audit_record, permission_check
from bots.services.exchanges import markets_sync
from bots.services.workers import worker_call
from trading import instruments
from trading.exchanges.markets import load_markets
from trading.instruments import MarketKind

logger = logging.getLogger("arb.exchanges")

TASK = "bots.tasks.markets_refresh"
# What is asked for, by protocol; of all others their spot markets.
KINDS: Mapping[str, frozenset[MarketKind]] = {
    "binanceusdm": frozenset({"linear"}),
    "binancecoinm": frozenset({"inverse"}),
}
SPOT: frozenset[MarketKind] = frozenset({"spot"})


def markets_request(*, exchange: Exchange, actor: User | None) -> None:
    """Have a worker load an exchange's markets, once the present transaction has committed; audited."""
    permission_check(actor=actor, permission="bots.change_exchange")
    audit_record(actor=actor, subject=exchange, message="Markets asked for.")
    transaction.on_commit(lambda: _enqueue(exchange.pk), robust=True)


def _enqueue(exchange_id: int) -> None:
    worker_call(TASK, exchange_id)


def markets_refresh(*, exchange: Exchange) -> str:
    """Load an exchange's markets and write them; return, and keep on the exchange, one sentence about how it went.

    Asks without credentials, so fees are the exchange's list fees: they are taken for markets seen for the first
    time, and never written over fees already known here.
    """
    try:
        found = asyncio.run(load_markets(exchange.to_engine(), kinds=KINDS.get(exchange.ccxt_id, SPOT)))
    except (ConnectionError, ValueError) as problem:
        note = str(problem)
        logger.warning("%s", note)
    else:
        result = markets_sync(exchange=exchange, markets=_with_known_fees(exchange, found))
        note = (
            f"{len(found)} markets: {result.added} added, {result.changed} changed, {result.deactivated} gone, "
            f"{result.refused} left out."
        )
    Exchange.objects.filter(pk=exchange.pk).update(markets_note=note[:300], markets_asked_at=timezone.now())
    return note


def _with_known_fees(exchange: Exchange, found: Sequence[instruments.Market]) -> list[instruments.Market]:
    known = {
        symbol: {"taker_fee": taker, "maker_fee": maker}
        for symbol, taker, maker in Market.objects.filter(exchange=exchange).values_list(
            "symbol", "taker_fee", "maker_fee"
        )
    }
    return [msgspec.structs.replace(market, **known.get(market.symbol, {})) for market in found]
