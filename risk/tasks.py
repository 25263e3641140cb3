"""Celery tasks of the risk app; each may run twice, late or never without harm."""

from __future__ import annotations

from celery import shared_task

from risk.services.breakers import breaker_events_prune
from risk.services.slippage_stats import stats_prune


@shared_task(name="risk.tasks.prune_breaker_events", ignore_result=True)
def prune_breaker_events() -> int:
    """Delete circuit breakers' history that is beyond its time; returns how many events."""
    return breaker_events_prune()


@shared_task(name="risk.tasks.prune_slippage_stats", ignore_result=True)
def prune_slippage_stats() -> int:
    """Delete the hours of realised slippage that nothing is learned from any more; returns how many."""
    return stats_prune()
