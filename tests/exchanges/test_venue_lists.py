"""Real ccxt against the simulated exchanges: open orders and executions of a busy account, page after page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from tests.exchanges.venue_rig import Rig
from tests.exchangesim.simulator import Simulator, shared_simulator  # noqa: F401
from trading.clock import SystemClock
from trading.exchanges.generic import dialect
from trading.messages import OrderIntent, Outcome, TimeInForce

D = Decimal
DAY_NS = 86_400 * 10**9
LEVELS = 1_250  # more than a page of any of them, Binance's thousand included

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(params=["binance", "okx", "bybit"], scope="module", loop_scope="module")
async def rig(request: pytest.FixtureRequest, shared_simulator: Simulator) -> AsyncIterator[Rig]:  # noqa: F811
    shared_simulator.clear_faults()
    rig = await Rig.make(shared_simulator, request.param)
    yield rig
    await rig.close()


async def eat(rig: Rig, levels: int) -> OrderIntent:
    """Fill one order with as many executions."""
    size = max(rig.market.lot, D("0.001"))
    asks = [(str(D(50_000) + number * rig.market.tick), str(size)) for number in range(levels)]
    rig.simulator.set_book(rig.name, "BTC/USDT", bids=[("49000", "1")], asks=asks)
    intent = rig.intent(quantity=str(size * levels), price=asks[-1][0])
    result = await rig.venue.place(intent)
    assert result.outcome is Outcome.PLACED
    return intent


async def test_all_executions_of_a_busy_account_are_told_once_each(rig: Rig) -> None:
    since = SystemClock().time_ns() - 10**9
    intent = await eat(rig, LEVELS)
    truth = {
        row["trade_id"]
        for row in rig.simulator.fills(rig.name, api_key=rig.keys.api_key, limit="10000")
        if row["client_id"] == intent.client_order_id
    }
    assert len(truth) == LEVELS
    for beginning in (since, since - 10 * DAY_NS):
        told = await rig.venue.trades(rig.market.key, beginning)
        assert told is not None
        ids = [fill.exchange_trade_id for fill in told]
        assert len(ids) == len(set(ids))
        assert set(ids) == truth
        assert {fill.client_order_id for fill in told} == {intent.client_order_id}
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert {fill.exchange_trade_id for fill in asked.fills} == truth
    assert sum(fill.quantity for fill in asked.fills) == asked.filled == intent.quantity


async def test_no_executions_are_an_answer(rig: Rig) -> None:
    assert await rig.venue.trades(rig.market.key, SystemClock().time_ns() + DAY_NS) == []
    assert await rig.venue.trades("nowhere:BTC/USDT", 0) is None


async def test_executions_that_cannot_be_told_whole_are_not_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    since = SystemClock().time_ns() - 10**9
    await eat(rig, 250)
    module = __import__(type(rig.venue.dialect).__module__, fromlist=["MOST_PAGES"])
    monkeypatch.setattr(module, "MOST_PAGES", 1)
    monkeypatch.setattr(module, "PAGE", 100)
    before = rig.venue._calls.retried
    assert await rig.venue.trades(rig.market.key, since) is None
    assert rig.venue._calls.retried == before
    assert issubclass(dialect.Incomplete, Exception)


async def test_executions_are_not_told_while_the_exchange_does_not_answer(rig: Rig) -> None:
    rig.simulator.fault(
        "error", exchange=rig.name, operation="GET *", api_key=rig.keys.api_key, parameters={"status": 503}
    )
    assert await rig.venue.trades(rig.market.key, 0) is None
    assert await rig.venue.open_orders() is None
    rig.simulator.clear_faults()
    for name in ("fills", "open_orders"):
        rig.venue._calls.breaker(name).succeeded()


async def test_all_open_orders_are_told_ours_or_not(rig: Rig) -> None:
    assert await rig.venue.open_orders() == []
    rig.show_book()
    count = {"binance": 20, "okx": 105, "bybit": 55}[rig.name]
    intents = [
        rig.intent(price=str(40_000 + number), quantity="0.01", time_in_force=TimeInForce.GTC)
        for number in range(count)
    ]
    for intent in intents:
        # Paced by the budget alone, which the exchange never has to refuse.
        await asyncio.sleep(rig.venue.reserve_order(intent.client_order_id))
        assert (await rig.venue.place(intent)).outcome is Outcome.PLACED
    told = await rig.venue.open_orders()
    assert told is not None
    assert {event.client_order_id for event in told} == {intent.client_order_id for intent in intents}
    assert len(told) == count
    assert {event.market for event in told} == {rig.market.key}
