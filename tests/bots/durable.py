"""Intents made durable and unfolded at once, as a store does one after the other: for tests of what comes then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bots.services import trades
from bots.services.unfolding import intents_unfold


def _unfolded(commit: Callable[..., None]) -> Callable[..., None]:
    def both(*, owner_id: int, **named: Any) -> None:
        try:
            commit(owner_id=owner_id, **named)
        finally:  # what was refused, and is in the journal all the same, shows
            intents_unfold(owner_id=owner_id)

    return both


trade_commit = _unfolded(trades.trade_commit)
repair_commit = _unfolded(trades.repair_commit)
protection_commit = _unfolded(trades.protection_commit)
