"""Trades of before: what an earlier process left open is settled; late news of finished ones is booked and hedged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from trading.config import OwnerConfig
from trading.execution.accounts import Accounts
from trading.execution.desk import Desk
from trading.execution.reconciler import Reconciler
from trading.execution.takeup import StoredOrder, take_up
from trading.execution.trades import Trades
from trading.instruments import Market
from trading.messages import OrderEvent, TradeRecord
from trading.portfolio import Purse
from trading.tasks import end_tasks

READERS = 2  # at once: a sweep may tell of thousands, and what is to be written would wait behind all of them
StoredTrade = tuple[TradeRecord, Sequence[StoredOrder]]


class Past:
    """One engine's trades that began before it.

    ``follow`` is told of each market their orders stand on. ``read_trade`` asks the store for the trade of an order
    until it answers (None if there is none, or the engine ends); ``is_over`` says that the engine has ended.
    ``on_change`` is called when an account may have become free or blocked.
    """

    def __init__(
        self,
        desk: Desk,
        trades: Trades,
        accounts: Accounts,
        reconciler: Reconciler,
        *,
        config: Callable[[], OwnerConfig],
        follow: Callable[[Market], object],
        read_trade: Callable[[str], Coroutine[Any, Any, StoredTrade | None]],
        is_over: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        # Not taken up, by trade, and why. What its orders have done, or may do yet, is not known here.
        self.left: dict[str, tuple[TradeRecord, Sequence[StoredOrder], str]] = {}
        self._desk = desk
        self._trades = trades
        self._accounts = accounts
        self._reconciler = reconciler
        self._config = config
        self._follow = follow
        self._read_trade = read_trade
        self._is_over = is_over
        self._on_change = on_change
        self._taking_up: dict[str, set[Purse]] = {}
        self._reopening: dict[str, list[OrderEvent]] = {}  # events of trades that are being read from the store
        self._readers: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(READERS)

    def take_up(self, found: Iterable[StoredTrade]) -> None:
        """Settle unfinished trades; their accounts take no new trades until that is done.

        Those that can't be taken up are tried again with the next configuration (:meth:`retry`).
        """
        for record, rows in found:
            for intent, _, _ in rows:
                self._desk.ids.met(intent.client_order_id)
            taken = take_up(self._config(), record, rows, self._desk.markets)
            if isinstance(taken, str):
                self._leave(record, rows, taken)
                continue
            terms, orders, events = taken
            purses = _purses_of(record, rows)
            try:
                for exchange, purse in terms.purses.items():
                    if purse in purses:
                        self._accounts.open(purse, exchange)
            except ValueError as error:
                self._leave(record, rows, f"trade {record.trade_id} can't be taken up: {error}")
                continue
            for order in orders:
                self._follow(self._desk.markets[order.intent.market])
            saga = self._trades.take(terms, record, orders)
            self._taking_up[record.trade_id] = purses
            for event in events:
                saga.on_event(event)
            self._trades.settle_again(saga)  # unless one of the events has set it going

    def retry(self) -> None:
        """Try again to take up what could not be."""
        left, self.left = self.left, {}
        self.take_up((record, rows) for record, rows, _ in left.values())

    def done(self, trade_id: str) -> bool:
        """Say that a trade's work has ended; return whether it was one of these."""
        return self._taking_up.pop(trade_id, None) is not None

    def fault(self, purse: Purse) -> str:
        """Say which trade of before keeps an account from new ones; empty if none does."""
        for trade, purses in self._taking_up.items():
            if purse in purses and not self._trades.is_harmless(trade):
                return f"account {purse.account_id}: trade {trade} of before is being settled"
        for record, rows, why in self.left.values():
            if purse in _purses_of(record, rows):
                return f"account {purse.account_id}: {why}"
        return ""

    @property
    def is_reading(self) -> bool:
        """Whether some finished trade is being read back."""
        return bool(self._readers)

    def left_orders(self, purse: Purse) -> list[str]:
        """Return the markets of an account's orders in trades that were not taken up."""
        return [
            intent.market
            for record, rows, _ in self.left.values()
            if purse in _purses_of(record, rows)
            for intent, _, _ in rows
            if intent.account_id == purse.account_id
        ]

    def reopen(self, purse: Purse, event: OrderEvent) -> None:
        """Take up the finished trade an event belongs to: what it says may be news, and news is hedged."""
        client_id = event.client_order_id
        if self._reconciler.knows_stranger(client_id):
            self._record([event])
            return
        waiting = self._reopening.get(client_id)
        if waiting is not None:
            waiting.append(event)
            return
        self._reopening[client_id] = [event]
        task = asyncio.get_running_loop().create_task(self._read(purse, client_id))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    async def close(self) -> None:
        await end_tasks(self._readers)

    async def _read(self, purse: Purse, client_id: str) -> None:
        async with self._turns:
            # Another order of its trade may have brought it back meanwhile.
            is_known = self._trades.of_order(client_id) is not None
            found = None if is_known else await self._read_trade(client_id)
        events = self._reopening.pop(client_id)
        if self._is_over():
            return
        if found is None and not is_known:
            self._reconciler.meet_stranger(purse, client_id, events[0].market)
            self._desk.alarm(f"order {client_id} carries an id of this installation, but the store does not know it")
            self._on_change()
            self._record(events)
            return
        if found is not None and self._trades.of_order(client_id) is None:
            refusal = self._reopened(*found)
            if refusal:
                self._desk.alarm(refusal)
                self._record(events)  # what it filled is booked all the same
                return
        for event in events:
            self._trades.on_event(event)

    def _reopened(self, record: TradeRecord, rows: Sequence[StoredOrder]) -> str:
        """Follow a finished trade again; return why that can't be, or an empty string."""
        taken = take_up(self._config(), record, rows, self._desk.markets)
        if isinstance(taken, str):
            return taken
        terms, orders, _ = taken
        for order in orders:
            self._follow(self._desk.markets[order.intent.market])
        saga = self._trades.take(terms, record, orders)
        # A process may have died between writing a late fill and what it made of the trade. Of one that holds nothing
        # whatever fills the residual doesn't tell.
        tells = record.ticket is None or not record.ticket.is_close_only
        if saga.finished and tells and saga.result().residual == record.residual_base:
            self._trades.listen(saga)
        else:
            self._trades.settle_again(saga)
        return ""

    def _record(self, events: Iterable[OrderEvent]) -> None:
        for event in events:
            self._desk.store.record_event(event, event.state.value)

    def _leave(self, record: TradeRecord, rows: Sequence[StoredOrder], why: str) -> None:
        self.left[record.trade_id] = record, rows, why
        self._desk.alarm(why)


def _purses_of(record: TradeRecord, rows: Sequence[StoredOrder]) -> set[Purse]:
    return {Purse(intent.account_id, record.mode == "paper") for intent, _, _ in rows}
