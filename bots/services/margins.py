"""Ask exchanges of contracts for margin tiers and accounts' margin modes, and keep what they answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from django.db import transaction

from bots import vault
from bots.models import Exchange, ExchangeAccount, Market
from bots.services.workers import worker_call
from trading.exchanges.margins import load_margins
from trading.margin import Tier

logger = logging.getLogger("arb.exchanges")

TASK = "bots.tasks.margins_refresh"


def margins_request(*, exchange_id: int) -> None:
    """Have a worker ask an exchange for its margin tiers, once the present transaction has committed."""
    transaction.on_commit(lambda: worker_call(TASK, exchange_id), robust=True)


def margins_refresh(*, exchange: Exchange) -> str:
    """Ask an exchange, with the key of each of its accounts; return one sentence about how it went.

    Exchanges tell margin tiers to holders of a key only, and each account its own margin modes. What is not answered
    stays as it was last told.
    """
    if not Market.objects.filter(exchange=exchange, kind=Market.Kind.LINEAR, listed=True).exists():
        return f"{exchange}: it lists no linear contracts."
    changed, asked, trouble = 0, 0, ""
    for account in ExchangeAccount.objects.filter(exchange=exchange, enabled=True, credentials__isnull=False):
        try:
            credentials = vault.unseal(account.pk, account.credentials)
            found = asyncio.run(load_margins(exchange.to_engine(), credentials))
        except (ConnectionError, ValueError, vault.CredentialsUnreadable) as problem:
            logger.warning("%s", problem)
            trouble = str(problem)
            continue
        asked += 1
        changed += tiers_store(exchange=exchange, found=found.tiers)
        isolated = sorted(found.isolated)
        if account.isolated_markets != isolated:
            ExchangeAccount.objects.filter(pk=account.pk).update(isolated_markets=isolated)
    if not asked:
        return trouble or f"{exchange}: it tells its margin tiers to holders of a key only, and no account has one."
    return f"{exchange}: margin tiers of {changed} markets changed."


def tiers_store(*, exchange: Exchange, found: Mapping[str, tuple[Tier, ...]]) -> int:
    """Write the margin tiers an exchange told of its linear contracts; return how many markets' changed."""
    with transaction.atomic():
        # The exchange's row is the lock: two answers of one exchange take turns.
        Exchange.objects.select_for_update(no_key=True).get(pk=exchange.pk)
        changed = []
        for row in Market.objects.filter(exchange=exchange, kind=Market.Kind.LINEAR, symbol__in=found.keys()):
            told = [[f"{t.floor:f}", f"{t.cap:f}", f"{t.rate:f}", t.leverage] for t in found[row.symbol]]
            if row.margin_tiers != told:
                row.margin_tiers = told
                changed.append(row)
        Market.objects.bulk_update(changed, ["margin_tiers"], batch_size=100)
    return len(changed)
