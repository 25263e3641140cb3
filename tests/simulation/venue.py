"""The Venue port over a modelled network: what is sent may be late, lost or unanswered, and the stream may lie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.exchange import Exchange, Execution, Refused, Report, Request, SimOrder, Turn
from tests.simulation.loop import Process
from tests.simulation.redis import ORDER_COSTS
from trading.exchanges.budget import Budget
from trading.exchanges.protection import NOTHING, not_native
from trading.messages import (
    AccountBalance,
    AccountIncome,
    AccountPosition,
    Fill,
    KnownOrder,
    OrderEvent,
    OrderIntent,
    OrderState,
    Outcome,
    PlaceResult,
    StreamState,
    TimeInForce,
)
from trading.ports import VenueListener
from trading.tasks import end_tasks

if TYPE_CHECKING:
    from tests.simulation.world import World

CLIENT_TIMEOUT = 15.0
WINDOW = 10.0  # for so long after it was sent the exchange takes a request
ABSENCE = 25.0  # window, the backend's ten seconds, margin: what the real venue of Binance says
SWEEP_BACK_NS = 60 * 10**9

STATES = {
    "NEW": OrderState.PLACED,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELLED,
    "EXPIRED": OrderState.CANCELLED,
}


@dataclass(slots=True)
class Unanswered:
    """No answer that proves anything."""

    code: str = "NO_ANSWER"
    message: str = "timed out"


@dataclass(slots=True)
class Plan:
    """What happens to one request on its way; ``turn`` is what the exchange does with a placement."""

    request_lost: bool = False
    request_delay: float = 0.0
    backend: float = 0.0  # of this delay, what passes inside the exchange, after it looked at the request's window
    answer_lost: bool = False
    answer_delay: float = 0.0
    reset_after: float = 0.0  # the connection breaks so soon after sending; what was sent goes on
    answer: object = None  # what arrives instead of the exchange's answer
    refuse: Refused | None = None  # the exchange's answer, before it looks at the order
    turn: Turn | None = None
    bare: bool = False  # the answer is an acknowledgement without the order's fills
    skewed: float = 0.0  # seconds our clock is behind when it signs
    raises: bool = False  # the venue's own code breaks after sending
    before_send: bool = False  # the connection is refused: not one byte leaves
    after: Callable[[], None] | None = None  # what begins once the exchange has dealt with it


class Link:
    """The way between the processes and one exchange."""

    def __init__(self, world: World, exchange: Exchange) -> None:
        self.world = world
        self.exchange = exchange
        self.latency = world.random.uniform(0.002, 0.04)
        self.loss = 0.0
        self.slow = 0.0  # further seconds, up to so many
        self.blocked = False
        self.down: Unanswered | Refused | None = None  # what every question gets instead of an answer
        self.budget_from = 0.0  # until then our own budget of requests is used up
        self.no_streams = False  # private streams can't be opened
        self.streams: list[SimVenue] = []

    def delay(self) -> float:
        random = self.world.random.random
        return self.latency * (0.5 + random()) + (self.slow * random() if self.slow else 0.0)

    def lost(self) -> bool:
        return self.blocked or (self.loss > 0 and self.world.random.random() < self.loss)

    async def ask(self, process: Process, kind: str, work: Callable[[], object], plan: Plan | None = None) -> object:
        """Carry a request to the exchange, do ``work`` there, and return what comes back, or Unanswered."""
        loop, world = self.world.loop, self.world
        answer: asyncio.Future[object] = loop.create_future()
        plan = plan or Plan()

        def deliver(value: object) -> None:
            if not answer.done() and process.alive:
                answer.set_result(value)

        def arrive() -> None:
            world.in_flight -= 1
            if self.down is not None and kind != "place":
                value: object = self.down
            elif plan.refuse is not None:
                value = plan.refuse
            else:
                try:
                    value = work()
                except Refused as no:
                    value = no
            if plan.answer is not None:
                value = plan.answer
            if plan.after is not None:
                plan.after()
            if not (plan.answer_lost or self.lost()):
                loop.outside(self.delay() + plan.answer_delay, deliver, value)

        if plan.before_send or (self.blocked and kind == "place" and world.random.random() < 0.5):
            loop.outside(self.delay(), deliver, Refused("NOT_SENT", "connection refused"))
        else:
            if not (plan.request_lost or self.lost()):
                world.in_flight += 1
                loop.outside(self.delay() + plan.request_delay, arrive)
            loop.outside(plan.reset_after or CLIENT_TIMEOUT, deliver, Unanswered())
        return await answer

    def publish(self, report: Report) -> None:
        for venue in self.streams:
            venue.hear(report)


class SimVenue:
    """Our account on a modelled exchange, for one process."""

    absence_seconds = ABSENCE
    protects = NOTHING

    def __init__(self, world: World, process: Process, link: Link, account_id: int, market: str) -> None:
        self.world = world
        self.process = process
        self.link = link
        self.account_id = account_id
        self.exchange = link.exchange.code
        self.market = market
        self.budget: Budget | None = None  # of a process that shares its limits with others
        self.connected = False
        self.live_until = 0.0  # when the stream was lost; endless while it is live
        self._listener: VenueListener | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = asyncio.Event()
        self._session = 0
        self._last_delivery = 0.0
        self._good_ns = self._recalled_ns = 0
        self._own: dict[str, str] = {}

    # -- life

    def recall(self, orders: Sequence[KnownOrder]) -> None:
        self._own.update({order.exchange_order_id: order.client_order_id for order in orders})
        if orders:
            self._recalled_ns = min(order.since_ns for order in orders)

    async def start(self, listener: VenueListener) -> None:
        self._listener = listener
        while not await self._tell_balances():
            await self.world.clock_of(self.process).sleep(1.0)
        self._good_ns = self._recalled_ns or self.world.exchange_ns()
        self._tasks.append(asyncio.get_running_loop().create_task(self._run()))

    async def close(self) -> None:
        self._listener = None
        self._disconnect()
        await end_tasks(self._tasks)

    async def _run(self) -> None:
        while True:
            try:
                await self._keep_stream()
            except Exception as error:
                self.world.broken(self.process, error)
            self._disconnect()
            await self.world.clock_of(self.process).sleep(5.0)

    async def _keep_stream(self) -> None:
        """Connect, sweep, go live; and again after every loss."""
        clock = self.world.clock_of(self.process)
        while True:
            since = self._good_ns
            opened = await self.link.ask(self.process, "stream", lambda: not self.link.no_streams)
            if opened is not True:
                await clock.sleep(1.0)
                continue
            self._ended.clear()
            self._connect()
            if not await self._sweep(since) or not self.connected:
                self._disconnect()
                await clock.sleep(1.0)
                continue
            self.live_until = float("inf")
            self._tell(StreamState(account_id=self.account_id, state="live", received_ns=self.world.wall(self)))
            await self._ended.wait()
            self._tell(
                StreamState(
                    account_id=self.account_id,
                    state="down",
                    reason="connection reset",
                    received_ns=self.world.wall(self),
                )
            )
            await clock.sleep(self.world.random.uniform(0.1, 1.0))

    async def _sweep(self, since_ns: int) -> bool:
        """Report what the stream may have missed; False when the exchange does not answer."""
        orders = await self.open_orders()
        fills = await self.trades(self.market, max(0, since_ns - SWEEP_BACK_NS))
        if orders is None or fills is None:
            return False
        for order in orders:
            self._tell(order)
        for fill in fills:
            if fill.client_order_id:
                self._tell(self._execution(fill))
        return await self._tell_balances()

    def _connect(self) -> None:
        self.connected = True
        self._session += 1
        self.link.streams.append(self)

    def _disconnect(self) -> None:
        self.connected = False
        self.live_until = min(self.live_until, self.world.loop.time())
        if self in self.link.streams:
            self.link.streams.remove(self)

    def lose_stream(self) -> None:
        """The socket is gone, and the process hears of it."""
        self._disconnect()
        self.world.loop.inside(self.process, self.link.delay(), self._ended.set)

    # -- the private stream

    def hear(self, report: Report) -> None:
        """Put a report on its way to the process: in order, unless the stream misbehaves."""
        world = self.world
        delay = self.link.delay()
        at = world.loop.time() + delay
        for number, kept in enumerate(world.stream_turns(self, report)):
            late = kept.late
            if not kept.out_of_order:
                at = self._last_delivery = max(at, self._last_delivery + 1e-6)
                late += at - world.loop.time()
            else:
                late += delay * (1 + number)
            world.in_flight += 1
            world.loop.inside(self.process, late, self._on_report, self._session, kept.report)
            world.loop.outside(late, world.landed)

    def _on_report(self, session: int, report: Report) -> None:
        if not self.connected or session != self._session or self._listener is None:
            return  # lost with its socket
        if not self.world.passes(self.process, "event:before"):
            return
        event = self._event(report, "stream")
        self._good_ns = self.world.exchange_ns()
        self.world.log("event", self.process.name, event.client_order_id, report.status, len(report.executions))
        self._tell(event)
        self._push_balances()
        self.world.passes(self.process, "event:after")

    def _push_balances(self) -> None:
        """The exchange pushes figures with every change, stamped when they are received."""
        if not self.world.balances_held_back(self):
            for balance in self._figures():
                self._tell(balance)

    # -- the Venue port

    def prepare(self, intent: OrderIntent) -> None:
        pass

    def write(self, intent: OrderIntent) -> None:
        return None

    def reserve_order(self, client_order_id: str) -> float:
        wait = max(0.0, self.link.budget_from - self.world.loop.time())
        return wait or (self.budget.reserve(client_order_id, ORDER_COSTS) if self.budget is not None else 0.0)

    def release_order(self, client_order_id: str) -> None:
        if self.budget is not None:
            self.budget.release(client_order_id)

    async def place(self, intent: OrderIntent) -> PlaceResult:
        world = self.world
        plan = world.plan_place(self, intent)
        world.note_sent(self, intent)
        signed_at = world.loop.time() - plan.skewed  # no await comes between the engine's last check and the signature
        await world.point(self.process, "place:before")
        answer = await self._send(intent, plan, signed_at)
        if plan.raises:
            raise RuntimeError("a bug in the venue")
        await world.point(self.process, "place:answered")
        return self._result(intent, answer, plan)

    async def _send(self, intent: OrderIntent, plan: Plan, signed_at: float) -> object:
        request = Request(
            intent.client_order_id,
            intent.market.partition(":")[2],
            intent.side,
            intent.price,
            intent.quantity,
            signed_at + plan.backend,
            plan.turn,
            rests=intent.time_in_force is TimeInForce.GTC,
        )

        def work() -> object:
            order = self.link.exchange.place(request, WINDOW)
            self.world.note_accepted(self.link.exchange, order)
            self.world.passes(self.process, "place:at_exchange")
            return self.link.exchange.report(order)

        return await self.link.ask(self.process, "place", work, plan)

    def _result(self, intent: OrderIntent, answer: object, plan: Plan) -> PlaceResult:
        if isinstance(answer, Refused):
            return PlaceResult(outcome=Outcome.REJECTED, code=answer.args[0], message=answer.args[1])
        if not isinstance(answer, Report):
            assert isinstance(answer, Unanswered)
            return PlaceResult(outcome=Outcome.UNKNOWN, code=answer.code, message=answer.message)
        self._own[answer.order_id] = intent.client_order_id
        events = () if plan.bare else (self._event(answer, "answer"),)
        return PlaceResult(outcome=Outcome.PLACED, exchange_order_id=answer.order_id, events=events)

    async def protect(self, take_profit: OrderIntent | None, stop_loss: OrderIntent | None) -> tuple[PlaceResult, ...]:
        return not_native(self.exchange, take_profit, stop_loss)

    def has_leverage(self, market: str, leverage: int) -> bool:
        return leverage == 1

    async def set_leverage(self, market: str, leverage: int) -> str:
        return "" if leverage == 1 else f"{market}: a spot market has no leverage"

    async def cancel(self, intent: OrderIntent) -> PlaceResult:
        world = self.world
        await world.point(self.process, "cancel:before")
        world.note_cancel(self, intent)
        plan = world.plan_cancel(self, intent)

        def work() -> object:
            self.link.exchange.cancel(intent.client_order_id)
            return True

        answer = await self.link.ask(self.process, "cancel", work, plan)
        await world.point(self.process, "cancel:answered")
        if isinstance(answer, Refused):
            return PlaceResult(outcome=Outcome.REJECTED, code=answer.args[0], message=answer.args[1])
        if isinstance(answer, Unanswered):
            return PlaceResult(outcome=Outcome.UNKNOWN, code=answer.code, message=answer.message)
        return PlaceResult(outcome=Outcome.PLACED)

    async def query(self, intent: OrderIntent) -> OrderEvent | None:
        await self.world.point(self.process, "query:before")
        exchange = self.link.exchange

        def work() -> object:
            order = exchange.find(intent.client_order_id)
            return None if order is None else exchange.report(order)

        plan = self.world.plan_query(self, intent)
        answer = await self.link.ask(self.process, "query", work, plan)
        await self.world.point(self.process, "query:answered")
        self.world.log("query", self.process.name, intent.client_order_id, _word(answer))
        if answer is None:
            return None
        if isinstance(answer, Report):
            return self._event(answer, "query")
        return OrderEvent(
            account_id=self.account_id,
            market=intent.market,
            client_order_id=intent.client_order_id,
            state=OrderState.UNKNOWN,
            source="query",
            cause="no answer",
            received_ns=self.world.wall(self),
        )

    async def open_orders(self) -> Sequence[OrderEvent] | None:
        exchange = self.link.exchange
        answer = await self.link.ask(
            self.process,
            "open_orders",
            lambda: (
                []
                if exchange.is_blind
                else [exchange.report(order) for order in exchange.open() if self._is_shown(order)]
            ),
        )
        return [self._event(report, "query") for report in answer] if isinstance(answer, list) else None

    async def trades(self, market: str, since_ns: int) -> Sequence[Fill] | None:
        exchange = self.link.exchange
        since = self.world.seconds_of(since_ns)
        answer = await self.link.ask(
            self.process,
            "trades",
            lambda: (
                []
                if exchange.is_blind
                else [fill for fill in exchange.executions if fill.at >= since and exchange.visible(fill)]
            ),
        )
        if not isinstance(answer, list):
            return None
        fills = [self._fill(fill) for fill in answer]
        if not exchange.nameless:
            return fills
        return [
            msgspec.structs.replace(fill, client_order_id=self._own.get(fill.exchange_order_id, "")) for fill in fills
        ]

    async def balances(self) -> Sequence[AccountBalance]:
        asked_ns = self.world.wall(self)
        answer = await self.link.ask(self.process, "balances", self._figures)
        if not isinstance(answer, list):
            return ()
        return [msgspec.structs.replace(figures, received_ns=asked_ns) for figures in answer]

    async def positions(self) -> Sequence[AccountPosition]:
        return ()

    async def incomes(self, since_ns: int) -> Sequence[AccountIncome]:
        return ()

    # -- words

    def _is_shown(self, order: SimOrder) -> bool:
        return self.world.loop.time() - order.accepted_at >= self.link.exchange.hide_seconds

    async def _tell_balances(self) -> bool:
        found = await self.balances()
        for balance in found:
            self._tell(balance)
        return bool(found)

    def _figures(self) -> list[AccountBalance]:
        exchange = self.link.exchange
        now = self.world.wall(self)
        return [
            AccountBalance(
                account_id=self.account_id, asset=asset, free=free, used=exchange.used[asset], received_ns=now
            )
            for asset, free in exchange.free.items()
        ]

    def _fill(self, fill: Execution) -> Fill:
        known = self.world.loop.time() >= fill.fee_known_at
        return Fill(
            account_id=self.account_id,
            market=f"{self.exchange}:{fill.symbol}",
            exchange_trade_id=fill.trade_id,
            exchange_order_id=fill.order_id,
            client_order_id=fill.client_id,
            side=fill.side,  # type: ignore[arg-type]
            price=fill.price,
            quantity=fill.quantity,
            fee=fill.fee if known else None,
            fee_asset=fill.fee_asset if known else "",
            liquidity="taker",
            exchange_ns=self.world.exchange_ns(fill.at),
        )

    def _event(self, report: Report, source: str) -> OrderEvent:
        return OrderEvent(
            account_id=self.account_id,
            market=f"{self.exchange}:{report.symbol}",
            client_order_id=report.client_id,
            exchange_order_id=report.order_id,
            state=STATES[report.status],
            filled=report.filled,
            fills=tuple(self._fill(fill) for fill in report.executions),
            source=source,
            exchange_ns=self.world.exchange_ns(report.at),
            received_ns=self.world.wall(self),
        )

    def _execution(self, fill: Fill) -> OrderEvent:
        """Return a fill alone as news of its order."""
        return OrderEvent(
            account_id=self.account_id,
            market=fill.market,
            client_order_id=fill.client_order_id,
            exchange_order_id=fill.exchange_order_id,
            state=OrderState.PARTIALLY_FILLED,
            fills=(fill,),
            source="query",
            exchange_ns=fill.exchange_ns,
            received_ns=self.world.wall(self),
        )

    def _tell(self, message: OrderEvent | AccountBalance | StreamState) -> None:
        if self._listener is not None and self.process.alive:
            self._listener(message)


def _word(answer: object) -> str:
    if answer is None:
        return "not found"
    return f"{answer.status} {answer.filled}" if isinstance(answer, Report) else type(answer).__name__


@dataclass(slots=True)
class Kept:
    """A report as the stream carries it on."""

    report: Report
    late: float = 0.0
    out_of_order: bool = False
