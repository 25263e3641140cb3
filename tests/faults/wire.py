"""A real venue at a simulated exchange that misbehaves, and one order followed through it as the engine books it.

The simulator's own books are the judge: what it executed is what the order must have booked, each fill once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from tests.exchanges.venue_rig import CCXT_WAYS, WAIT_SECONDS, Rig
from tests.exchangesim.simulator import Simulator, running_simulator
from trading.clock import SystemClock
from trading.exchanges.addresses import Addresses
from trading.exchanges.retries import KeyWatch
from trading.execution.order import Order
from trading.messages import OrderEvent, OrderIntent, OrderState, Outcome, PlaceResult, TimeInForce

D = Decimal
NAMES = ("binance", "okx", "bybit")
# Every fault of an order is gone through on each of the ways orders leave.
WAYS = (*NAMES, *(f"{name}-websocket" for name in NAMES), *CCXT_WAYS)
# Which private events tell of a new order, and which of an execution: operation and a text they hold.
NEW_EVENTS = {
    "binance": {"operation": "executionReport", "contains": '"x":"NEW"'},
    "okx": {"operation": "orders", "contains": '"state":"live"'},
    "bybit": {"operation": "order", "contains": '"orderStatus":"New"'},
}
FILL_EVENTS = {
    "binance": {"operation": "executionReport", "contains": '"x":"TRADE"'},
    "okx": {"operation": "orders", "contains": '"tradeId":"7'},
    "bybit": {"operation": "execution"},
}
ASK_SECONDS = 0.2
_STATES = {
    Outcome.PLACED: OrderState.PLACED,
    Outcome.REJECTED: OrderState.FAILED,
    Outcome.UNKNOWN: OrderState.UNKNOWN,
}


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[Simulator]:
    """A simulator for a whole module; its rate limits are off, for tests are quicker than people."""
    with running_simulator("--no-limits") as running:
        yield running


@pytest_asyncio.fixture(params=WAYS, scope="module", loop_scope="module")
async def shared_rig(request: pytest.FixtureRequest, shared_simulator: Simulator) -> AsyncIterator[Rig]:
    """One started venue a way, for a whole module: making one costs a second."""
    made = await Rig.of(shared_simulator, request.param)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def rig(shared_rig: Rig) -> AsyncIterator[Rig]:
    """The venue with its stream live, no fault about, and a budget that knows of no earlier test."""
    shared_rig.simulator.clear_faults()
    shared_rig.show_book()
    rest(shared_rig)
    await come_back(shared_rig)
    await shared_rig.on_its_path()
    yield shared_rig
    shared_rig.simulator.clear_faults()


def rest(rig: Rig) -> None:
    """Let the venue forget limits, pauses, refusals of its key and endpoints that failed, as time would."""
    calls, clock = rig.venue._calls, SystemClock()
    calls.budget = Addresses(clock).budget(rig.venue.exchange, rig.venue.dialect.windows)
    calls.reading_key, calls.trading_key = KeyWatch(clock), KeyWatch(clock)
    calls._breakers.clear()
    calls._jitter = lambda: 0.0  # pauses before asking again without length: how they grow is tested on virtual time


async def come_back(rig: Rig) -> None:
    """Wait until the account is live, after a new sweep if it was not."""
    if rig.states[-1:] != ["live"]:
        rig.venue._stream.renew("the next test begins")
    await rig.until(lambda: rig.states[-1:] == ["live"])


async def probe_key(rig: Rig) -> None:
    """Let the time come at which a key that was refused is tried again; return once the account is live."""
    for watch in (rig.venue._calls.reading_key, rig.venue._calls.trading_key):
        watch._probe_at_ns = 0
    rig.venue._doubted.notify()
    await rig.until(lambda: rig.states[-1:] == ["live"])


async def measure_clock(rig: Rig) -> None:
    """Measure the exchange's clock now."""
    offset = (await rig.venue._time.ask()).value
    assert offset is not None
    rig.venue._time.learn(offset)


class Followed:
    """One order: sent once through the real venue, its evidence joined as the engine joins it."""

    def __init__(self, rig: Rig, intent: OrderIntent) -> None:
        self.rig, self.intent = rig, intent
        self.order = Order(intent, OrderState.SENDING)
        self.alarms: list[str] = []
        self.result: PlaceResult | None = None
        self._heard = 0

    def take(self, event: OrderEvent) -> None:
        change = self.order.apply(event)
        if change.alarm:
            self.alarms.append(change.alarm)

    def hear(self) -> Order:
        """Take what the venue has told so far."""
        events = self.rig.events(self.intent)
        for event in events[self._heard :]:
            self.take(event)
        self._heard = len(events)
        return self.order

    async def send(self) -> PlaceResult:
        return self.answered(await self.rig.venue.place(self.intent))

    def answered(self, result: PlaceResult) -> PlaceResult:
        """Take what the exchange has answered to it."""
        self.result = result
        self.take(
            OrderEvent(
                account_id=self.intent.account_id,
                market=self.intent.market,
                client_order_id=self.intent.client_order_id,
                exchange_order_id=result.exchange_order_id,
                state=_STATES[result.outcome],
                filled=D(0) if result.outcome is Outcome.REJECTED else None,
                source="answer",
            )
        )
        for event in result.events:
            self.take(event)
        return result

    async def ask(self) -> OrderEvent | None:
        event = await self.rig.venue.query(self.intent)
        if event is not None:
            self.take(event)
        return event

    async def settle(self) -> Order:
        """Listen and ask until nothing more is to come; fails when the order never settles."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not self.hear().settled:
                await self.ask()
                if not self.order.settled:
                    await asyncio.sleep(ASK_SECONDS)
        return self.order

    async def heard(self, state: OrderState) -> Order:
        """Wait until events alone have led to a state."""
        await self.rig.until(lambda: self.hear().state is state)
        return self.order

    def rows(self) -> list[dict[str, Any]]:
        """The exchange's own fills of this client order id."""
        rows = self.rig.simulator.fills(self.rig.name, api_key=self.rig.keys.api_key)
        return [row for row in rows if row["client_id"] == self.intent.client_order_id]

    def check_books(self, orders: int = 1) -> None:
        """The exchange has so many orders of this id, and every execution of them is booked once, to the last digit."""
        assert len(self.rig.orders_at_exchange(self.intent)) == orders
        booked = {
            trade_id: (fill.price, fill.quantity, fill.fee, fill.fee_asset)
            for trade_id, fill in self.order.fills.items()
        }
        executed = {
            row["trade_id"]: (D(row["price"]), D(row["quantity"]), D(row["fee"]), row["fee_asset"])
            for row in self.rows()
        }
        assert booked == executed


def followed(rig: Rig, **intent: Any) -> Followed:
    return Followed(rig, rig.intent(**intent))


def resting(rig: Rig, price: str = "40000", **intent: Any) -> Followed:
    """An order that waits on the book."""
    return followed(rig, price=price, time_in_force=TimeInForce.GTC, **intent)


def on_order(rig: Rig, kind: str, **parameters: Any) -> None:
    """Let something happen to the next placement."""
    rig.fault_on_order(kind, **parameters)


def on_call(rig: Rig, kind: str, operation: str, *, count: int | None = None, **parameters: Any) -> None:
    """Let something happen to this account's calls of an operation."""
    rig.simulator.fault(
        kind,
        exchange=rig.name,
        operation=operation,
        api_key=rig.keys.api_key,
        parameters=parameters,
        **({} if count is None else {"count": count}),
    )


def on_event(rig: Rig, kind: str, *, count: int | None = None, where: Any = None, **parameters: Any) -> None:
    """Let something happen to this account's private events."""
    rig.simulator.fault(
        kind,
        stage="event",
        exchange=rig.name,
        api_key=rig.keys.api_key,
        parameters=parameters,
        **(where or {}),
        **({} if count is None else {"count": count}),
    )


def in_engine(rig: Rig, kind: str, **parameters: Any) -> None:
    """Let the exchange's engine do something wrong with this account's next order."""
    rig.simulator.fault(
        kind, stage="engine", exchange=rig.name, api_key=rig.keys.api_key, count=1, parameters=parameters
    )


def place_calls(rig: Rig) -> str:
    return rig.place_operation
