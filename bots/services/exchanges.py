"""Exchanges and what they list."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from bots.models import Asset, Bot, Exchange, Market, TradingPair
from bots.services.audit import ADDITION, audit_record, permission_check
from bots.services.hints import engine_hint
from bots.services.validation import assign, save_checked
from trading import instruments

logger = logging.getLogger("arb.exchanges")

_SETTABLE = frozenset({"name", "ccxt_id", "environment", "urls", "enabled"})
_LISTED = (
    "native_id", "base_id", "quote_id", "settle_id", "kind", "contract_size", "tick", "lot", "min_amount",
    "min_notional", "taker_fee", "maker_fee", "active", "listed",
)  # fmt: skip


class SyncResult(NamedTuple):
    """What a market sync changed."""

    added: int
    changed: int
    deactivated: int
    refused: int


def exchange_create(
    *,
    actor: User | None,
    code: str,
    name: str,
    ccxt_id: str,
    environment: str,
    urls: dict[str, str] | None = None,
    enabled: bool = True,
) -> Exchange:
    """Create an exchange; raises ValidationError with a sentence for each bad field."""
    permission_check(actor=actor, permission="bots.add_exchange")
    exchange = Exchange(
        code=code, name=name, ccxt_id=ccxt_id, environment=environment, urls=urls or {}, enabled=enabled
    )
    save_checked(exchange)
    audit_record(actor=actor, subject=exchange, message=f"Created ({environment}).", flag=ADDITION)
    return exchange


def exchange_update(*, exchange: Exchange, actor: User | None, **values: object) -> Exchange:
    """Change an exchange (name, ccxt_id, environment, urls, enabled) and wake the engines that use it."""
    permission_check(actor=actor, permission="bots.change_exchange")
    with transaction.atomic():
        changed = assign(exchange, values, _SETTABLE)
        if not changed:
            return exchange
        save_checked(exchange)
        audit_record(actor=actor, subject=exchange, message=f"Changed {', '.join(changed)}.")
        owners = Bot.objects.filter(accounts__exchange=exchange, desired_state=Bot.Desired.RUNNING)
        for owner_id in owners.order_by().values_list("owner_id", flat=True).distinct():
            engine_hint(owner_id)
    return exchange


def markets_sync(*, exchange: Exchange, markets: Sequence[instruments.Market]) -> SyncResult:
    """Write what an exchange lists; idempotent.

    Markets that vanished are deactivated, never deleted (orders refer to them). A market with an absurd figure is
    left out and logged, the others are written. An empty list changes nothing: an exchange that lists nothing is
    one that did not answer.
    """
    if not markets:
        return SyncResult(0, 0, 0, 0)
    with transaction.atomic():
        _assets_ensure(code for market in markets for code in (market.base, market.quote, market.settle) if code)
        # The exchange's row is the lock: two syncs of one exchange take turns.
        Exchange.objects.select_for_update(no_key=True).get(pk=exchange.pk)
        stored = {row.symbol: row for row in Market.objects.filter(exchange=exchange)}
        now = timezone.now()
        added, changed, refused, listed = [], [], 0, set()
        for market in markets:
            row = stored.get(market.symbol)
            wanted = _market_row(exchange, market)
            wanted.synced_at = now
            listed.add(market.symbol)
            try:
                wanted.clean_fields(exclude=["exchange", "base", "quote", "settle"])
            except ValidationError as problem:
                refused += 1
                logger.warning("%s: market %s is left out: %s", exchange.code, market.symbol[:64], problem.messages[0])
                listed.discard(market.symbol)
                continue
            if row is None:
                added.append(wanted)
            elif any(getattr(row, column) != getattr(wanted, column) for column in _LISTED):
                wanted.pk = row.pk
                changed.append(wanted)
        Market.objects.bulk_create(added, batch_size=200)
        Market.objects.bulk_update(changed, [*_LISTED, "synced_at"], batch_size=100)
        vanished = [row.pk for symbol, row in stored.items() if row.listed and symbol not in listed]
        Market.objects.filter(pk__in=vanished).update(active=False, listed=False, synced_at=now)
        _pairs_ensure({(market.base, market.quote) for market in markets if market.symbol in listed})
    return SyncResult(len(added), len(changed), len(vanished), refused)


def _market_row(exchange: Exchange, market: instruments.Market) -> Market:
    return Market(
        exchange=exchange,
        symbol=market.symbol,
        native_id=market.native_id,
        base_id=market.base,
        quote_id=market.quote,
        settle_id=market.settle,
        kind=market.kind,
        contract_size=market.contract_size,
        tick=market.tick,
        lot=market.lot,
        min_amount=market.min_amount,
        min_notional=market.min_notional,
        taker_fee=market.taker_fee,
        maker_fee=market.maker_fee,
        active=market.active,
    )


def _assets_ensure(codes: Iterable[str]) -> None:
    Asset.objects.bulk_create([Asset(code=code) for code in sorted(set(codes))], ignore_conflicts=True)


def _pairs_ensure(pairs: Iterable[tuple[str, str]]) -> None:
    TradingPair.objects.bulk_create(
        [TradingPair(base_id=base, quote_id=quote) for base, quote in sorted(pairs) if base != quote],
        ignore_conflicts=True,
    )
