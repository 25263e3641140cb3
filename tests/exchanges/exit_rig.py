"""Protective orders on a simulated exchange: pairs, and a market that goes where the test wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal

import pytest

from tests.exchanges.venue_rig import Rig
from tests.exchangesim.simulator import Simulator, running_simulator
from tests.faults.wire import come_back, rest
from trading.clock import SystemClock
from trading.exchanges.binance.venue import BinanceDialect
from trading.execution.ids import client_order_id
from trading.messages import OrderIntent, OrderKind, OrderState, Outcome, PlaceResult, TimeInForce
from trading.tickets import STOP_LOSS_LEG, TAKE_PROFIT_LEG

D = Decimal
SYMBOL = "BTC/USDT"
PROFIT, LOSS, CAP = "51000", "49000", "48500"
EXIT_OPERATIONS = {
    ("binance", "rest"): "POST /api/v3/orderList/oco",
    ("binance", "websocket"): "orderList.place.oco",
    ("okx", "rest"): "POST /api/v5/trade/order-algo",
    ("okx", "websocket"): "POST /api/v5/trade/order-algo",
}


def pair(rig: Rig, quantity: str = "0.5", *, profit: str = PROFIT, loss: str = LOSS) -> tuple[OrderIntent, OrderIntent]:
    """Return a take-profit and a stop-loss of one position, each naming the other."""
    trade = rig.intent().trade_id
    ids = [client_order_id(trade, leg, 0) for leg in (TAKE_PROFIT_LEG, STOP_LOSS_LEG)]
    common = {"side": "sell", "quantity": quantity, "trade_id": trade, "time_in_force": TimeInForce.GTC}
    take_profit = rig.intent(
        **common, client_order_id=ids[0], linked=ids[1], kind=OrderKind.TAKE_PROFIT, price=profit, trigger=D(profit)
    )
    stop_loss = rig.intent(
        **common, client_order_id=ids[1], linked=ids[0], kind=OrderKind.STOP_LOSS, price=CAP, trigger=D(loss)
    )
    return take_profit, stop_loss


async def protect(rig: Rig, *intents: OrderIntent) -> list[PlaceResult]:
    """Send them, one or a pair."""
    kinds = {intent.kind: intent for intent in intents}
    return list(await rig.venue.protect(kinds.get(OrderKind.TAKE_PROFIT), kinds.get(OrderKind.STOP_LOSS)))


async def standing(rig: Rig, quantity: str = "0.5") -> tuple[OrderIntent, OrderIntent]:
    """Return a pair that the exchange has taken."""
    take_profit, stop_loss = pair(rig, quantity)
    results = await protect(rig, take_profit, stop_loss)
    assert [result.outcome for result in results] == [Outcome.PLACED] * 2, results
    return take_profit, stop_loss


def go_to(rig: Rig, price: str, quantity: str = "5") -> None:
    """Let the market stand and trade at a price."""
    bid = str(D(price) - 10)
    rig.simulator.set_book(rig.name, SYMBOL, bids=[(bid, quantity)], asks=[(price, quantity)])
    rig.simulator.trade(rig.name, SYMBOL, "BUY", "0.001")


def state(rig: Rig, intent: OrderIntent) -> OrderState | None:
    """The last state that was told of an order."""
    events = rig.events(intent)
    return events[-1].state if events else None


def filled(rig: Rig, intent: OrderIntent) -> Decimal:
    return sum((fill.quantity for fill in rig.fills(intent).values()), D(0))


async def asked(rig: Rig, intent: OrderIntent) -> OrderState | None:
    event = await rig.venue.query(intent)
    return None if event is None else event.state


async def open_ids(rig: Rig) -> set[str]:
    found = await rig.venue.open_orders()
    assert found is not None
    return {event.client_order_id for event in found}


def now_ns() -> int:
    return SystemClock().time_ns()


@contextmanager
def unlimited_simulator() -> Iterator[Simulator]:
    """Run a simulator without rate limits: tests are quicker than people."""
    with pytest.MonkeyPatch.context() as patch, running_simulator("--no-limits") as running:
        # It goes on counting, all venues of a module as one address: they would wait for minutes to end.
        patch.setattr(BinanceDialect, "used", lambda self, headers: {})
        yield running


@asynccontextmanager
async def calm(rig: Rig) -> AsyncIterator[Rig]:
    """Have nothing open at the exchange, before and after, no fault about, and a market at 50000."""
    rig.simulator.clear_faults()
    rest(rig)
    await come_back(rig)
    await rig.on_its_path()
    go_to(rig, "50000")
    yield rig
    rig.simulator.clear_faults()
    rest(rig)
    for event in await rig.venue.open_orders() or ():
        name = event.client_order_id
        intent = rig.intent("sell", client_order_id=name, kind=OrderKind.TAKE_PROFIT, trigger=D(PROFIT))
        await rig.venue.cancel(intent)
