"""The platform with one rule of durability taken away: each such platform must be caught by the judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from unittest.mock import patch

from django.db import connection

from bots.engine_host.store import DjangoStore
from bots.models import Fill, Market
from bots.services import engine, events, journal, locks, reconciliation, stored, tickets
from tests.crash_points.points import Kind
from tests.crash_points.world import RealWorld
from trading.execution import takeup
from trading.execution.past import Past
from trading.messages import Decision, OrderEvent, OrderIntent, OrderState, TradeRecord


@dataclass(frozen=True, slots=True)
class Broken:
    """``kind`` and ``call`` name the points at which it shows, and ``anomaly`` what the judge calls it."""

    name: str
    apply: Callable[[], AbstractContextManager[object]]
    kind: Kind
    call: str
    anomaly: str
    world: type[RealWorld] = RealWorld


class HastyStore(DjangoStore):
    """Says that a trade is durable before it is."""

    async def commit_trade(self, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision) -> None:
        self.committing = asyncio.create_task(super().commit_trade(trade, intents, decision))


class HastyWorld(RealWorld):
    make_store = HastyStore


@contextmanager
def unfenced() -> Iterator[None]:
    """Commit orders whatever the lease's token says."""
    held = {vendor: dialect._replace(fence="{token} = {token}") for vendor, dialect in journal.DIALECTS.items()}
    with patch.object(locks, "lease_lock", lambda **_: None), patch.object(journal, "DIALECTS", held):
        yield


def in_pieces() -> AbstractContextManager[object]:
    """Commit fills before what they come to in the ledger."""
    original = events.fills_book

    def book(fills: Sequence[tuple[Fill, Market]]) -> None:
        connection._commit()
        original(fills)

    return patch.object(events, "fills_book", book)


def forgetful() -> AbstractContextManager[object]:
    """Take up orders that were being sent as if they never had been."""
    original = takeup._event

    def event(intent: OrderIntent, state: OrderState, cause: str) -> OrderEvent:
        return original(intent, OrderState.FAILED if state is OrderState.UNKNOWN else state, cause)

    return patch.object(takeup, "_event", event)


def unready_take_up() -> AbstractContextManager[object]:
    """Begin anew without the trades of before."""
    return patch.object(Past, "take_up", lambda self, found: None)


@contextmanager
def journal_left() -> Iterator[None]:
    """Begin anew without what the journal has."""
    with ExitStack() as patches:
        for reader in (engine, stored, reconciliation, tickets):
            patches.enter_context(patch.object(reader, "intents_unfold", lambda **_: 0))
        yield


BROKEN = (
    Broken("says_durable_before_it_is", nullcontext, Kind.ASKED, "DjangoStore._commit", "sent_without_intent",
           HastyWorld),
    Broken("commits_without_fence", unfenced, Kind.LATE, "DjangoStore._commit", "unresolved"),
    Broken("books_in_pieces", in_pieces, Kind.DURABLE, "DjangoStore._write", "ledger"),
    Broken("sent_is_never_sent", forgetful, Kind.DURABLE, "DjangoStore._write", "written_off"),
    Broken("leaves_the_journal", journal_left, Kind.DURABLE, "DjangoStore._commit", "journal"),
    Broken("leaves_what_was_open", unready_take_up, Kind.DURABLE, "DjangoStore._commit", "trade_left"),
)  # fmt: skip
