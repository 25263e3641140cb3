"""Celery tasks. Each may run twice, late or never without harm: what is to be true stands in the database."""

from __future__ import annotations

import asyncio
import logging

from asgiref.sync import async_to_sync
from celery import shared_task

from bots import live_cache, selectors
from bots.models import Bot, Exchange
from bots.services import margins, markets, wallets
from bots.services.answers import answers_prune
from bots.services.decision_counts import counts_prune, writers_prune
from bots.services.decisions import decisions_prune
from bots.services.fees import fees_roll_up
from bots.services.profits import profits_prune
from bots.services.rebalancing import rebalances_follow, rebalances_propose
from bots.services.slippage import slippage_prune, slippage_roll_up
from risk.services.rebalancing import requests_expire

logger = logging.getLogger("arb.tasks")

OFFER_EXPIRES_SECONDS = 4.0
# All quotes are told at least once a second.
QUOTES_SECONDS = 1.5


@shared_task(name="bots.tasks.host_engines", acks_late=False, ignore_result=True)
def host_engines() -> None:
    """Host engines in this worker until it stops. A second message finds the host running, wakes it and returns."""
    from bots.engine_host.process import run_host  # noqa: PLC0415 (engine and exchanges; only hosts need them)

    run_host()


@shared_task(name="bots.tasks.offer_engines", ignore_result=True)
def offer_engines() -> int:
    """Call for a host if an owner needs an engine and nobody holds the lease; returns how many such owners."""
    owners = selectors.engine_owners()
    if owners:
        host_engines.apply_async(expires=OFFER_EXPIRES_SECONDS)
    return len(owners)


@shared_task(name=markets.TASK, ignore_result=True)
def markets_refresh(exchange_id: int | None = None) -> list[str]:
    """Load the markets of one exchange, or of all enabled ones; returns a sentence for each."""
    rows = Exchange.objects.filter(enabled=True) if exchange_id is None else Exchange.objects.filter(pk=exchange_id)
    return [markets.markets_refresh(exchange=exchange) for exchange in rows]


@shared_task(name=wallets.TASK, ignore_result=True)
def wallets_refresh(exchange_id: int | None = None) -> list[str]:
    """Ask one exchange, or every one with an account, what its coins are and which wallets are open."""
    rows = Exchange.objects.filter(enabled=True, accounts__enabled=True).distinct()
    chosen = rows if exchange_id is None else rows.filter(pk=exchange_id)
    return [wallets.wallets_refresh(exchange=exchange) for exchange in chosen]


@shared_task(name=margins.TASK, ignore_result=True)
def margins_refresh(exchange_id: int | None = None) -> list[str]:
    """Ask one exchange, or every one with an account, for margin tiers and the accounts' margin modes."""
    rows = Exchange.objects.filter(enabled=True, accounts__enabled=True).distinct()
    chosen = rows if exchange_id is None else rows.filter(pk=exchange_id)
    return [margins.margins_refresh(exchange=exchange) for exchange in chosen]


@shared_task(name="bots.tasks.prune_decisions", ignore_result=True)
def prune_decisions() -> int:
    """Delete decisions and their counts beyond each bot's bounds and ages; returns how many decisions."""
    bots = list(Bot.objects.values_list("pk", flat=True))
    deleted = sum(decisions_prune(bot_id=bot_id) for bot_id in bots)
    counts = sum(counts_prune(bot_id=bot_id) for bot_id in bots)
    writers_prune()
    if deleted or counts:
        logger.info("%s old decisions and %s counts deleted", deleted, counts)
    return deleted


@shared_task(name="bots.tasks.prune_profits", ignore_result=True)
def prune_profits() -> int:
    """Delete spans of running totals that no page shows any more; returns how many."""
    return profits_prune()


@shared_task(name="bots.tasks.roll_up_slippage", ignore_result=True)
def roll_up_slippage() -> int:
    """Bring the legs that are due into the sums by pair, exchange and hour; returns how many."""
    return slippage_roll_up()


@shared_task(name="bots.tasks.prune_slippage", ignore_result=True)
def prune_slippage() -> int:
    """Delete legs' slippage beyond its time; the sums are the risk app's to prune. Returns how many."""
    return slippage_prune()


@shared_task(name="bots.tasks.roll_up_fees", ignore_result=True)
def roll_up_fees() -> int:
    """Move the sums of fees on; returns of how many owners."""
    return fees_roll_up()


@shared_task(name="bots.tasks.prune_answers", ignore_result=True)
def prune_answers() -> int:
    """Delete the API's answers that nobody asks for again; returns how many."""
    return answers_prune()


@shared_task(name="bots.tasks.propose_rebalances", ignore_result=True)
def propose_rebalances() -> int:
    """Propose what owners' balances call for, once the newest quotes were heard; returns how many proposals."""
    owners = sorted(set(Bot.objects.filter(desired_state=Bot.Desired.RUNNING).values_list("owner_id", flat=True)))
    if not owners:
        return 0
    async_to_sync(_hear_quotes)()
    return sum(len(rebalances_propose(owner_id=owner_id)) for owner_id in owners)


@shared_task(name="bots.tasks.follow_rebalances", ignore_result=True)
def follow_rebalances() -> int:
    """Bring requests to rebalance to where they stand, and end those nobody decided on; returns how many ended."""
    return rebalances_follow() + requests_expire()


async def _hear_quotes() -> None:
    live_cache.ensure_listening()
    await asyncio.sleep(QUOTES_SECONDS)
