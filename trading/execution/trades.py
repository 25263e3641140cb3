"""An engine's trades: every saga under way or lately finished, found by order and by trade."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from trading.execution.basis_trade import BasisTrade
from trading.execution.desk import Desk, TradeTerms
from trading.execution.exposures import Exposures, exposures
from trading.execution.order import Order
from trading.execution.realised import Measure
from trading.execution.resolver import Patience
from trading.execution.saga import Saga
from trading.execution.ticket import Ticket
from trading.execution.trade import Trade
from trading.messages import OrderEvent, OrderIntent, OrderState, TradeRecord, TradeState, WorstCase
from trading.portfolio import Purse
from trading.ports import LeaseLost
from trading.tasks import end_tasks

FINISHED_KEPT = 1000  # finished trades that still listen for late fills
ENDED = frozenset({TradeState.CLOSED, TradeState.FAILED})
OPEN_OUTCOME = frozenset({OrderState.UNKNOWN, OrderState.DISPUTED})


class Trades:
    """Owns the sagas and their tasks.

    ``on_change`` is called when a trade finished or an order's outcome became (or ceased to be) unknown, ``on_lost``
    when the store says that the lease is gone, ``on_failure`` when a trade's own code raised. ``follow`` is told of
    each market that a trade needs the book of once more.
    """

    def __init__(
        self,
        desk: Desk,
        patience: Patience | None,
        *,
        on_change: Callable[[Trade], None],
        on_lost: Callable[[str], None],
        on_failure: Callable[[int, str, Exception], None],
        on_done: Callable[[int, str, str], None],
        follow: Callable[[str], object],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.unresolved: dict[str, Purse] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.opening: dict[str, WorstCase] = {}  # trades whose orders are being made durable
        self.left_exposed: Sequence[WorstCase] = ()  # by this process or one before, as the store knows them
        self._looked_at: set[str] = set()  # exposed ones whose bot was started again since
        self._desk = desk
        self._patience = patience
        self._on_change = on_change
        self._on_lost = on_lost
        self._on_failure = on_failure
        self._on_done = on_done
        self._follow = follow
        self._by_order: dict[str, Trade] = {}
        self._pairs: dict[str, BasisTrade] = {}  # that have not ended
        self._by_trade: dict[str, Trade] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._ending = False

    def build(
        self,
        terms: TradeTerms,
        record: TradeRecord,
        orders: Iterable[Order],
        held: Iterable[OrderIntent] = (),
        measures: Mapping[str, Measure] | None = None,
    ) -> Saga:
        """Make a trade's saga, also while its orders are being made durable: it is to be kept then, or given up.

        ``held`` legs wait for the others' fills.
        """
        kind = Saga if record.basis is None else BasisTrade
        return kind(
            self._desk,
            terms,
            record,
            orders,
            on_change=self._note,
            on_late_news=self._late_news,
            register=self._register,
            patience=self._patience,
            held=held,
            measures=measures,
        )

    def keep(self, saga: Saga) -> None:
        """Follow a trade that is durable: whatever is asked about trades is asked about it too."""
        name = saga.record.trade_id
        self._by_trade[name] = saga
        self.opening.pop(name, None)
        if isinstance(saga, BasisTrade) and not saga.finished:
            self._pairs[name] = saga

    def give_up(self, saga: Saga) -> None:
        """Forget a trade whose orders will never be sent."""
        now_ns = self._desk.clock.time_ns()
        for client_id, order in saga.orders.items():
            self._by_order.pop(client_id, None)
            self._desk.explained.end(client_id, saga.purse_of(order), now_ns)

    def ticket(self, terms: TradeTerms, record: TradeRecord, orders: Iterable[Order] = ()) -> Ticket:
        """Make the trade of a ticket; events of its orders, and of its market's best prices, reach it from now on."""
        ticket = Ticket(
            self._desk,
            terms,
            record,
            orders,
            on_change=self._note,
            on_late_news=self._late_news,
            register=self._register,
            patience=self._patience,
        )
        self._by_trade[record.trade_id] = ticket
        return ticket

    def has_any(self, market: str, purse: Purse) -> bool:
        """Return whether a trade that has not ended holds something of a purse in a market, or may come to."""
        return any(
            trade.record.state not in ENDED and market in trade.market_keys() and purse in trade.terms.purses.values()
            for trade in self._by_trade.values()
        )

    def take(self, terms: TradeTerms, record: TradeRecord, orders: Iterable[Order]) -> Trade:
        """Make what a trade of before is, by its record."""
        if record.ticket is not None:
            return self.ticket(terms, record, orders)
        saga = self.build(terms, record, orders)
        self.keep(saga)
        return saga

    def followed(self) -> list[Trade]:
        """Return every trade whose orders' events are listened to."""
        return list(self._by_trade.values())

    def tickets(self) -> list[Ticket]:
        """Return the tickets that are followed."""
        return [trade for trade in self._by_trade.values() if isinstance(trade, Ticket)]

    def ticket_of(self, trade_id: str) -> Ticket | None:
        """Return a ticket by its trade's id, if it is followed."""
        trade = self._by_trade.get(trade_id)
        return trade if isinstance(trade, Ticket) else None

    def pairs(self) -> list[BasisTrade]:
        """Return the spot-against-perpetual trades that have not ended."""
        return list(self._pairs.values())

    def trade_of(self, trade_id: str) -> Trade | None:
        """Return a trade by its id, if it is followed."""
        return self._by_trade.get(trade_id)

    def holding(self) -> list[Trade]:
        """Return the trades that hold a position on purpose and have nothing else to do."""
        return [trade for name, trade in self._by_trade.items() if trade.holds and name not in self.tasks]

    def held_by(self, bot_id: int) -> set[str]:
        """Return the trades with which a bot holds a position."""
        return {trade.record.trade_id for trade in self.holding() if trade.record.bot_id == bot_id}

    def listen(self, saga: Trade) -> None:
        """Keep a finished trade of before: a late fill of it is alarmed and hedged."""
        self._retire(saga.record.trade_id)

    def on_event(self, event: OrderEvent) -> bool:
        """Hand an event to its trade; return False when none of them has that order."""
        saga = self._by_order.get(event.client_order_id)
        if saga is None:
            return False
        saga.on_event(event)
        return True

    def of_order(self, client_order_id: str) -> Trade | None:
        """Return the trade that has an order, if it is still followed."""
        return self._by_order.get(client_order_id)

    def is_harmless(self, trade_id: str) -> bool:
        """Return whether nothing of a trade has filled and what became of each order is known: none holds up others.

        What it may still fill is reserved, as it was before.
        """
        saga = self._by_trade.get(trade_id)
        return saga is not None and not any(order.claimed or order.unresolved for order in saga.orders.values())

    def unsettled(self, bot_id: int) -> tuple[int, bool]:
        """Return how many orders of a bot's trades may still do something, and whether one of them has a task."""
        sagas = [saga for saga in self._by_trade.values() if saga.record.bot_id == bot_id]
        count = sum(saga.unsettled for saga in sagas)
        return count, any(saga.record.trade_id in self.tasks for saga in sagas)

    def settle_again(self, saga: Trade) -> None:
        """See a trade through once more, unless something does already."""
        record = saga.record
        if record.trade_id not in self.tasks and not self._desk.halted and not self._ending:
            if isinstance(saga, BasisTrade):
                self._pairs[record.trade_id] = saga
            for market in saga.market_keys():  # its bot may have gone, and with it whoever followed them
                self._follow(market)
            self.run(record.bot_id, record.trade_id, record.route, saga.settle())

    def wake(self, purse: Purse) -> None:
        """Ask about every unsettled order of an account whose stream has come back."""
        for saga in self.under_way():
            saga.wake(purse)
        for trade in self.holding():
            if purse in trade.terms.purses.values():
                if isinstance(trade, Ticket):
                    trade.doubt()  # what protects it may have gone meanwhile
                self.settle_again(trade)

    def look_again(self) -> None:
        """Have everything at work see now whether it may go on."""
        for saga in self.under_way():
            saga.workings.notify()

    def under_way(self) -> list[Trade]:
        """Return the trades that have a task."""
        return [self._by_trade[trade] for trade in self.tasks if trade in self._by_trade]

    def unhedged(self) -> list[Trade]:
        """Return the trades that may hold something unhedged: those under way, those that hold it on purpose, and those
        left exposed that nobody has looked at."""
        exposed = [
            saga
            for trade in self._finished
            if trade not in self.tasks
            and trade not in self._looked_at
            and (saga := self._by_trade[trade]).record.state is TradeState.EXPOSED
        ]
        return [*self.under_way(), *self.holding(), *exposed]

    def look_at(self, bot_id: int, blocking: Collection[str]) -> None:
        """Count a bot's exposed trades no more, but those that still block it: somebody has started it again."""
        for trade in self._finished:
            record = self._by_trade[trade].record
            if record.bot_id == bot_id and record.state is TradeState.EXPOSED and trade not in blocking:
                self._looked_at.add(trade)

    def open_together(self, *, paper: bool) -> int:
        """Return how many trades of one kind of money are open, of all the owner's bots."""
        followed = {saga.record.trade_id for saga in (*self.under_way(), *self.holding()) if saga.terms.paper is paper}
        return len(followed) + sum(one.paper is paper for one in self.opening.values())

    def exposures(self, quote: str, *, paper: bool) -> Exposures | None:
        """Return what the owner may hold unhedged in all its trades, in ``quote``; None if nothing is under way."""
        followed = self.unhedged()
        unfollowed = [*self.opening.values(), *(one for one in self.left_exposed if one.trade_id not in self._by_trade)]
        if not (followed or unfollowed):
            return None
        return exposures(self._desk, followed, quote, paper=paper, unfollowed=unfollowed)

    def run(self, bot_id: int, trade_id: str, route: str, work: Awaitable[None]) -> None:
        """Run a trade's work as a task; whatever it raises stops nothing else."""

        async def guarded() -> None:
            try:
                await work
            except LeaseLost as error:
                self._on_lost(str(error))
            except Exception as error:
                self._on_failure(bot_id, trade_id, error)
            finally:
                self.tasks.pop(trade_id, None)
                self.opening.pop(trade_id, None)
                self._retire(trade_id)
                self._on_done(bot_id, trade_id, route)

        self.tasks[trade_id] = asyncio.get_running_loop().create_task(guarded())

    async def cancel(self) -> None:
        """Stop watching for good; orders stay as the store knows them."""
        self._ending = True
        await end_tasks(self.tasks.values())

    def _register(self, order: Order, saga: Trade) -> None:
        self._by_order[order.intent.client_order_id] = saga

    def _retire(self, trade_id: str) -> None:
        saga = self._by_trade.get(trade_id)
        if saga is None or not saga.finished:
            return
        self._pairs.pop(trade_id, None)
        self._finished[trade_id] = None
        self._finished.move_to_end(trade_id)
        while len(self._finished) > FINISHED_KEPT:
            oldest, _ = self._finished.popitem(last=False)
            self._looked_at.discard(oldest)
            for client_id in self._by_trade.pop(oldest).orders:
                self._by_order.pop(client_id, None)

    def _note(self, saga: Trade) -> None:
        changed = saga.finished
        for client_id, order in saga.orders.items():
            open_outcome = order.state in OPEN_OUTCOME
            if open_outcome and client_id not in self.unresolved:
                self.unresolved[client_id] = saga.purse_of(order)
                changed = True
            elif not open_outcome and self.unresolved.pop(client_id, None) is not None:
                changed = True
        if changed:
            self._on_change(saga)

    def _late_news(self, saga: Trade) -> None:
        """A trade that nobody works on is not what it was: settle it again, which hedges or closes what is open."""
        if saga.finished:  # alarmed already
            self.counters["late_news"] += 1
        self.settle_again(saga)
