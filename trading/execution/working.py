"""Works one quantity into one market: a limit order in the spread that follows the book, then the rest at the market.

It decides from orders' fills alone, and waits for news of them: nothing here asks an exchange about an order. Filled
while cancelling is as good as filled before. Nothing is sent while the outcome of an order is not known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from enum import StrEnum

import msgspec

from trading.arbitrage.depth import BaseLevels, LegTerms, fill
from trading.execution.desk import Desk
from trading.execution.order import Order
from trading.execution.pricing import WorkingStyle, fallback_price, has_moved, limit_price_in_spread
from trading.execution.repair import smallest_order
from trading.execution.states import DISPUTED, FAILED, is_terminal
from trading.execution.waiting import Signal
from trading.instruments import Market, Side, base_quantity, lot_quantity
from trading.marketdata.book import Book, BookSide
from trading.messages import TimeInForce
from trading.portfolio import Purse

ZERO = Decimal(0)
NS = 10**9
CHECK_SECONDS = 0.5  # how often it looks whether it may go on, if nothing else wakes it
SEND_SECONDS = 2.0  # for so long it tries to send what may not be sent now: money is given back by a later message
SEND_PAUSE = 0.1

Send = Callable[[Decimal, Decimal, TimeInForce], Awaitable[Order | None]]
Cancel = Callable[[Order], Awaitable[None]]


class Step(StrEnum):
    """What :class:`Working` tells of its progress."""

    PLACED = "placed"
    REPRICED = "re-priced"
    CANCELLING = "cancelling"
    FALLBACK = "fallback"


class Worked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Quantities are in the market's own unit, ``average`` is quote per base, money is quote.

    ``reason`` says why less than everything was filled; empty if nothing is missing. ``reference_price`` is the VWAP
    of taking the whole quantity from the book when it was decided (None: the book held less), ``improvement`` what was
    filled below it (purchase) or above it (sale), before fees; None without a reference. ``questions`` counts how
    often an exchange had to be asked about one of the orders.
    """

    filled: Decimal
    average: Decimal | None
    notional: Decimal
    fees: Mapping[str, Decimal]
    attempts: int
    reprices: int
    fallback_quantity: Decimal
    reason: str
    reference_price: Decimal | None
    improvement: Decimal | None
    questions: int
    seconds: float


class Working:
    """One quantity on its way into one market.

    Parameters
    ----------
    quantity
        In the market's own unit; whole lots.
    cap
        The worst price that may be paid or taken. A function is asked before each order.
    send
        Make an order durable and send it: ``(price, quantity, time in force)`` to the order, whatever became of it;
        None if nothing was sent, and it may be tried again. Its deadline must leave it the style's seconds.
    cancel
        Ask the exchange to cancel an order, and see to it that it ends.
    changed
        Notified, by who books the orders' events, after each of them. Nobody else may wait on it.
    is_over
        Whether nothing more can be found out about an order, settled or not.
    why_stop
        Asked at least twice a second: a sentence ends the work as :meth:`stop` does.
    """

    def __init__(
        self,
        desk: Desk,
        market: Market,
        purse: Purse,
        side: Side,
        quantity: Decimal,
        style: WorkingStyle,
        *,
        cap: Decimal | Callable[[], Decimal],
        send: Send,
        cancel: Cancel,
        changed: Signal,
        is_over: Callable[[Order], bool] = lambda order: order.settled or order.state is DISPUTED,
        why_stop: Callable[[], str] = lambda: "",
        cause_of: Callable[[Order], str] = lambda order: "",
        max_book_age_ms: float = 1000.0,
        on_step: Callable[[Step, Order], None] = lambda step, order: None,
    ) -> None:
        if quantity <= 0:
            raise ValueError(f"quantity: must be above zero (given {quantity})")
        self.market = market
        self.orders: list[Order] = []
        self._desk = desk
        self._purse = purse
        self._side = side
        self._quantity = quantity
        self._style = style
        self._cap = cap if callable(cap) else lambda: cap
        self._send = send
        self._cancel = cancel
        self._changed = changed
        self._is_over = is_over
        self._why_stop = why_stop
        self._cause_of = cause_of
        self._max_book_age_ms = max_book_age_ms
        self._on_step = on_step
        self._reason = ""  # why nothing more is to be sent
        self._stopped = ""
        self._reprices = 0
        self._fallback: Order | None = None
        self._reference: Decimal | None = None
        self._begun_ns = self._now()
        self._deadline_ns = self._begun_ns

    def stop(self, why: str = "stopped") -> None:
        """End it early: whatever rests is cancelled and confirmed, and :meth:`run` returns."""
        self._stopped = self._stopped or why
        self._changed.notify()

    async def run(self) -> Worked:
        """Return once nothing rests and nothing more is to be sent."""
        self._begun_ns = self._now()
        self._deadline_ns = self._begun_ns + int(self._style.seconds(self._side) * NS)
        unwatch = self._desk.watch(self.market, self._changed.notify)
        try:
            await self._work()
        finally:
            unwatch()
        return self._worked()

    # -- steps --------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        book = await self._first_book()
        if book is None:
            return
        self._reference = self._vwap(book)
        if self._style.kind == "adaptive":
            await self._work_limit()
            if self._done():
                return
            if not self._style.fallback:
                self._reason = f"not filled within {self._style.seconds(self._side):g} s"
                return
        await self._fall_back()

    async def _first_book(self) -> Book | None:
        """Wait for a book that may be traded on, for as long as the whole work may take."""
        while not self._done():
            book = self._book()
            if book is not None:
                return book
            if self._now() >= self._deadline_ns:
                self._reason = self._no_book()
                return None
            await self._wait()
        return None

    async def _work_limit(self) -> None:
        """Rest a limit order in the spread, and another when the book has moved, until the time is over."""
        while True:
            order = await self._place(self._price_in_spread, TimeInForce.GTC, self._deadline_ns)
            if order is None:
                return
            self._on_step(Step.REPRICED if self._reprices else Step.PLACED, order)
            moved = await self._rest(order)
            if not moved or self._done():
                return
            self._reprices += 1

    async def _rest(self, order: Order) -> bool:
        """Return once the order has ended; whether because the book has moved away from it."""
        if not self._purse.paper:
            self._desk.resting.begin(order)
        moved = False
        since_ns = self._now()
        while not self._is_over(order) and not self._desk.halted:
            # Of one whose outcome is not known, and of one that has ended, only news is to be waited for.
            if not order.unresolved and not is_terminal(order.state):
                moved = self._has_moved(order, since_ns)
                if moved or self._stops() or self._now() >= self._deadline_ns:
                    self._on_step(Step.CANCELLING, order)
                    await self._cancel(order)
                    await self._end_of(order)
                    break
            await self._wait()
        self._desk.resting.end(order, self._now())
        self._look_at(order)
        return moved

    async def _end_of(self, order: Order) -> None:
        while not self._is_over(order) and not self._desk.halted:
            await self._wait()

    async def _fall_back(self) -> None:
        """Send what is left as one IOC at a capped price, if a fresh book has one."""
        if self._book() is None:
            self._reason = self._no_book()
            return
        until_ns = self._now() + int(SEND_SECONDS * NS)
        order = await self._place(self._price_of_fallback, TimeInForce.IOC, until_ns)
        if order is None:
            self._reason = self._reason or self._stopped or self._why_stop() or self._no_book()
            return
        self._fallback = order
        self._on_step(Step.FALLBACK, order)
        await self._end_of(order)
        self._look_at(order)
        if not self._done():
            self._reason = self._cause_of(order) or "the book held no more within the cap"

    async def _place(
        self, price_of: Callable[[Book], Decimal | None], time_in_force: TimeInForce, until_ns: int
    ) -> Order | None:
        """Send what is left at what the book then says; None if it could not be sent until then, or need not be."""
        refused_ns: int | None = None
        while not self._done() and self._now() < until_ns:
            book = self._book()
            if book is None:
                await self._wait(until_ns)
                continue
            price = price_of(book)
            if price is None:
                if self._reason:
                    return None
                await self._wait(until_ns)
                continue
            left = lot_quantity(self._left, self.market)
            if left < smallest_order(self.market, price):
                self._reason = f"{self._left:f} is left, less than {self.market.key} takes"
                return None
            order = await self._send(price, left, time_in_force)
            if order is not None:
                self.orders.append(order)
                return order
            refused_ns = refused_ns or self._now()
            if self._now() - refused_ns >= SEND_SECONDS * NS:
                self._reason = "the order could not be sent"
                return None
            await self._desk.clock.sleep(SEND_PAUSE)
        return None

    def _look_at(self, order: Order) -> None:
        """Draw the conclusion from an order that is over."""
        client_id = order.intent.client_order_id
        if self._desk.halted:
            self._reason = self._desk.halted
        elif not order.settled:
            self._reason = f"order {client_id} is {order.state.value}"
        elif order.overfilled:
            self._reason = f"order {client_id} filled more than was ordered"
        elif order.state is FAILED and order is self._fallback:
            self._reason = self._cause_of(order) or "the exchange refused the order"

    # -- what is to be done -------------------------------------------------------------------------------------

    @property
    def _left(self) -> Decimal:
        return self._quantity - sum((order.filled for order in self.orders), ZERO)

    def _done(self) -> bool:
        """Return whether nothing more is to be sent."""
        if self._left <= 0:
            return True
        self._reason = self._reason or self._stops()
        return bool(self._reason)

    def _stops(self) -> str:
        return self._desk.halted or self._stopped or self._why_stop()

    def _has_moved(self, order: Order, since_ns: int) -> bool:
        """Return whether the book, as far as it is known, wants the order elsewhere, and it may go there."""
        if self._reprices >= self._style.max_reprices:
            return False
        if self._now() - since_ns < self._style.rest_seconds * NS:
            return False
        book = self._book()
        wanted = None if book is None else self._price_in_spread(book)
        return wanted is not None and has_moved(self.market, self._style, order.intent.price, wanted)

    def _price_in_spread(self, book: Book) -> Decimal | None:
        """Return where a limit order would stand now among the others' orders."""
        bid, ask = book.bids.best, book.asks.best
        if not self._purse.paper:  # paper orders stand on no book
            own, other = (book.bids, ask) if self._side == "buy" else (book.asks, bid)
            best = self._desk.resting.best_of_others(self.market.key, self._side, own.levels(), self._now())
            bid, ask = (best, other) if self._side == "buy" else (other, best)
        if not 0 < bid < ask:
            return None
        try:
            return limit_price_in_spread(
                self.market,
                Decimal(repr(bid)),
                Decimal(repr(ask)),
                self._side,
                self._style.share(self._side),
                self._cap(),
            )
        except ValueError as error:
            self._reason = str(error)
            return None

    def _price_of_fallback(self, book: Book) -> Decimal | None:
        best = self._other_side(book).best
        cap = self._cap()
        reach = self._style.fallback_bps if self._style.kind == "adaptive" else float("inf")
        price = fallback_price(self.market, Decimal(repr(best)), self._side, reach, cap)
        if price is None:
            self._reason = f"the best price {best!r} is beyond the cap of {cap:f}"
        return price

    def _other_side(self, book: Book) -> BookSide:
        return book.asks if self._side == "buy" else book.bids

    def _vwap(self, book: Book) -> Decimal | None:
        side = self._other_side(book)
        base = base_quantity(self.market, self._quantity, Decimal(repr(side.best)))
        walked = fill(BaseLevels(side, LegTerms.of(self.market)), float(base))
        return None if walked is None else Decimal(repr(walked.vwap))

    # -- what it sees -------------------------------------------------------------------------------------------

    def _book(self) -> Book | None:
        return self._desk.fresh_book(self.market, self._max_book_age_ms)

    def _no_book(self) -> str:
        return f"no fresh book of {self.market.key}"

    def _now(self) -> int:
        return self._desk.clock.monotonic_ns()

    async def _wait(self, until_ns: int | None = None) -> None:
        """Wait for news, or for the next moment at which time alone changes something."""
        now = self._now()
        until_ns = until_ns or self._deadline_ns
        left = (until_ns - now) / NS
        await self._changed.wait(self._desk.clock, min(CHECK_SECONDS, left) if left > 0 else CHECK_SECONDS)

    # -- what it came to ----------------------------------------------------------------------------------------

    def _worked(self) -> Worked:
        filled = self._quantity - self._left
        base = notional = ZERO
        fees: dict[str, Decimal] = {}
        for order in self.orders:
            for one in order.fills.values():
                part = base_quantity(self.market, one.quantity, one.price)
                base += part
                notional += part * one.price
            for asset, amount in order.fees.items():
                fees[asset] = fees.get(asset, ZERO) + amount
        average = notional / base if base else None
        return Worked(
            filled=filled,
            average=average,
            notional=notional,
            fees=fees,
            attempts=len(self.orders),
            reprices=self._reprices,
            fallback_quantity=self._fallback.filled if self._fallback is not None else ZERO,
            reason=self._reason if filled < self._quantity else "",
            reference_price=self._reference,
            improvement=self._improvement(base, notional),
            questions=sum(order.questions for order in self.orders),
            seconds=(self._now() - self._begun_ns) / NS,
        )

    def _improvement(self, base: Decimal, notional: Decimal) -> Decimal | None:
        if self._reference is None:
            return None
        gained = self._reference * base - notional
        return gained if self._side == "buy" else -gained
