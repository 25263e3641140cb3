"""Take-profit and stop-loss of real accounts, held by the simulated exchanges as pairs that cancel themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import pytest_asyncio

from tests.exchanges.exit_rig import (
    EXIT_OPERATIONS,
    PROFIT,
    asked,
    calm,
    filled,
    go_to,
    open_ids,
    pair,
    protect,
    standing,
    state,
    unlimited_simulator,
)
from tests.exchanges.venue_rig import D, Rig
from tests.exchangesim.simulator import Simulator
from trading.messages import OrderIntent, OrderState, Outcome

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANCELLED, FILLED, PLACED = OrderState.CANCELLED, OrderState.FILLED, OrderState.PLACED
BINANCE_WAYS = ("binance", "binance-websocket", "binance-ed25519")
OKX_WAYS = ("okx", "okx-websocket")
WAYS = (*BINANCE_WAYS, *OKX_WAYS)


def by(*ways: str) -> pytest.MarkDecorator:
    """Run a test on these ways only."""
    return pytest.mark.parametrize("shared_rig", ways, indirect=True, scope="module")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A simulator for the whole module; its rate limits are off, for tests are quicker than people."""
    with unlimited_simulator() as running:
        yield running


@pytest_asyncio.fixture(params=WAYS, scope="module", loop_scope="module")
async def shared_rig(request: pytest.FixtureRequest, simulator: Simulator) -> AsyncIterator[Rig]:
    """One started venue a way, for the whole module: making one costs a second."""
    made = await Rig.of(simulator, request.param)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def rig(shared_rig: Rig) -> AsyncIterator[Rig]:
    """The venue with nothing open at the exchange, and a market at 50000."""
    async with calm(shared_rig) as rig:
        yield rig


def fault(rig: Rig, kind: str, **parameters: object) -> None:
    """Let something go wrong with the next protective orders of this account."""
    operation = EXIT_OPERATIONS[rig.name, rig.path]
    simulator, key = rig.simulator, rig.keys.api_key
    simulator.fault(kind, exchange=rig.name, operation=operation, api_key=key, count=1, parameters=parameters)


async def test_a_pair_stands_and_is_found_by_each_of_its_names(rig: Rig) -> None:
    assert rig.venue.protects == {"oco"}
    take_profit, stop_loss = pair(rig)
    first, second = await protect(rig, take_profit, stop_loss)
    assert (first.outcome, second.outcome) == (Outcome.PLACED, Outcome.PLACED)
    assert first.exchange_order_id
    assert second.exchange_order_id
    assert first.path == second.path == ("websocket" if EXIT_OPERATIONS[rig.name, rig.path][0] == "o" else "rest")
    assert await open_ids(rig) == {take_profit.client_order_id, stop_loss.client_order_id}
    for intent in (take_profit, stop_loss):
        event = await rig.venue.query(intent)
        assert event is not None
        assert (event.state, event.filled, event.client_order_id) == (PLACED, 0, intent.client_order_id)


async def test_a_take_profit_that_fills_ends_the_stop_loss(rig: Rig) -> None:
    take_profit, stop_loss = await standing(rig)
    go_to(rig, "51100")
    await rig.until(lambda: state(rig, take_profit) is FILLED and state(rig, stop_loss) is CANCELLED)
    assert (filled(rig, take_profit), filled(rig, stop_loss)) == (D("0.5"), 0)
    assert all(fill.price >= D(PROFIT) for fill in rig.fills(take_profit).values())
    assert (await asked(rig, take_profit), await asked(rig, stop_loss)) == (FILLED, CANCELLED)
    assert await open_ids(rig) == set()


async def test_a_stop_loss_that_triggers_sells_and_ends_the_take_profit(rig: Rig) -> None:
    take_profit, stop_loss = await standing(rig)
    go_to(rig, "48900")
    await rig.until(lambda: state(rig, stop_loss) is FILLED and state(rig, take_profit) is CANCELLED)
    assert (filled(rig, take_profit), filled(rig, stop_loss)) == (0, D("0.5"))
    assert {fill.price for fill in rig.fills(stop_loss).values()} == {D("48890")}
    told = await rig.venue.query(stop_loss)
    assert told is not None
    assert (told.state, {fill.client_order_id for fill in told.fills}) == (FILLED, {stop_loss.client_order_id})
    assert await asked(rig, take_profit) is CANCELLED


async def test_a_stop_loss_never_sells_below_its_cap_and_rests_there(rig: Rig) -> None:
    _, stop_loss = await standing(rig)
    rig.simulator.set_book(rig.name, "BTC/USDT", bids=[("48600", "0.2"), ("48000", "5")], asks=[("49500", "5")])
    rig.simulator.trade(rig.name, "BTC/USDT", "SELL", "0.001")
    await rig.until(lambda: state(rig, stop_loss) is OrderState.PARTIALLY_FILLED)
    assert {fill.price for fill in rig.fills(stop_loss).values()} == {D("48600")}
    assert await asked(rig, stop_loss) is OrderState.PARTIALLY_FILLED
    assert await open_ids(rig) == {stop_loss.client_order_id}
    assert (await rig.venue.cancel(stop_loss)).outcome is Outcome.PLACED
    await rig.until(lambda: state(rig, stop_loss) is CANCELLED)
    assert 0 < filled(rig, stop_loss) < D("0.5")


async def test_what_a_take_profit_begins_to_fill_is_told(rig: Rig) -> None:
    take_profit, stop_loss = await standing(rig)
    waits = rig.name == "okx"  # until there has been a trade at its level
    bid = ("51000", "0.201" if waits else "0.2")
    rig.simulator.set_book(rig.name, "BTC/USDT", bids=[bid], asks=[("51500", "5")])
    if waits:
        rig.simulator.trade(rig.name, "BTC/USDT", "SELL", "0.001")
    await rig.until(lambda: filled(rig, take_profit) == D("0.2"))
    # On both exchanges the other order is gone as soon as one begins to fill.
    await rig.until(lambda: state(rig, stop_loss) is CANCELLED)
    assert await asked(rig, take_profit) is OrderState.PARTIALLY_FILLED
    assert await asked(rig, stop_loss) is CANCELLED


@pytest.mark.parametrize("which", [0, 1], ids=["take profit", "stop loss"])
async def test_cancelling_one_cancels_both(rig: Rig, which: int) -> None:
    intents = await standing(rig)
    assert (await rig.venue.cancel(intents[which])).outcome is Outcome.PLACED
    await rig.until(lambda: all(state(rig, intent) is CANCELLED for intent in intents))
    assert [await asked(rig, intent) for intent in intents] == [CANCELLED] * 2
    assert (await rig.venue.cancel(intents[1 - which])).outcome is Outcome.REJECTED
    assert await open_ids(rig) == set()


@pytest.mark.parametrize("which", [0, 1], ids=["take profit", "stop loss"])
async def test_one_level_alone_is_held_and_filled(rig: Rig, which: int) -> None:
    intent = msgspec.structs.replace(pair(rig)[which], linked="")
    (result,) = await protect(rig, intent)
    assert result.outcome is Outcome.PLACED
    assert await open_ids(rig) == {intent.client_order_id}
    assert await asked(rig, intent) is PLACED
    go_to(rig, ("51100", "48900")[which])
    await rig.until(lambda: state(rig, intent) is FILLED)
    assert filled(rig, intent) == D("0.5")


async def test_levels_that_are_reached_already_are_refused(rig: Rig) -> None:
    for levels in ({"profit": "49500"}, {"loss": "50500"}):
        intents = pair(rig, **levels)
        results = await protect(rig, *intents)
        assert [result.outcome for result in results] == [Outcome.REJECTED] * 2, results
        assert all(result.code not in {"LOCAL", ""} for result in results)
        assert [await asked(rig, intent) for intent in intents] == [None, None]


@by(*OKX_WAYS)  # the other exchange tells all of it on one connection, in order
@pytest.mark.parametrize("which", [0, 1], ids=["take profit", "stop loss"])
async def test_an_algo_order_that_tells_late_of_its_waiting_is_not_told_as_waiting_again(rig: Rig, which: int) -> None:
    rig.simulator.fault(
        "delay_event", exchange=rig.name, operation="orders-algo", api_key=rig.keys.api_key, parameters={"ms": 300}
    )
    intents = await standing(rig)
    begun, other = intents[which], intents[1 - which]
    go_to(rig, ("51100", "48900")[which])
    # That the other one is gone, is told after what is late.
    await rig.until(lambda: state(rig, begun) is FILLED and state(rig, other) is CANCELLED)
    assert [event.state for event in rig.events(begun) if event.source == "stream"] == [PLACED, FILLED]
    assert {event.state for event in rig.events(other)} == {CANCELLED}
    assert (filled(rig, begun), filled(rig, other)) == (D("0.5"), 0)


LOST = {
    "which it became": {"operation": "orders-algo", "contains": '"effective"'},
    "the order": {"operation": "orders"},
    "its end": {"operation": "orders", "contains": '"state":"filled"'},
}


@by(*OKX_WAYS)
@pytest.mark.parametrize("lost", LOST)
async def test_what_a_channel_loses_of_a_triggered_pair_is_asked_for_unbidden(rig: Rig, lost: str) -> None:
    take_profit, stop_loss = await standing(rig)
    rig.simulator.fault("drop_event", exchange=rig.name, api_key=rig.keys.api_key, **LOST[lost])
    go_to(rig, "51100")
    await rig.until(lambda: state(rig, take_profit) is FILLED and state(rig, stop_loss) is CANCELLED)
    assert (filled(rig, take_profit), filled(rig, stop_loss)) == (D("0.5"), 0)
    assert "query" in {event.source for intent in (take_profit, stop_loss) for event in rig.events(intent)}


@by(*OKX_WAYS)
@pytest.mark.parametrize("which", [0, 1], ids=["take profit", "stop loss"])
async def test_what_the_orders_channel_loses_of_one_level_alone_is_asked_for_unbidden(rig: Rig, which: int) -> None:
    intent = msgspec.structs.replace(pair(rig)[which], linked="")
    await protect(rig, intent)
    rig.simulator.fault("drop_event", exchange=rig.name, api_key=rig.keys.api_key, operation="orders")
    go_to(rig, ("51100", "48900")[which])
    await rig.until(lambda: state(rig, intent) is FILLED)
    assert filled(rig, intent) == D("0.5")


@by(*BINANCE_WAYS)  # OKX freezes nothing until the trigger
async def test_what_the_balance_does_not_hold_is_refused(rig: Rig) -> None:
    results = await protect(rig, *pair(rig, "500"))
    assert [(result.outcome, "insufficient" in result.message.lower()) for result in results] == [
        (Outcome.REJECTED, True)
    ] * 2


@by(*BINANCE_WAYS)  # OKX's limit is hundreds
async def test_more_conditional_orders_than_a_symbol_may_have_are_refused(rig: Rig) -> None:
    for _ in range(5):
        await standing(rig, "0.01")
    results = await protect(rig, *pair(rig, "0.01"))
    assert {(result.outcome, "MAX_NUM_ALGO_ORDERS" in result.message) for result in results} == {
        (Outcome.REJECTED, True)
    }


def unlinked(take_profit: OrderIntent, stop_loss: OrderIntent) -> tuple[OrderIntent, OrderIntent]:
    return msgspec.structs.replace(take_profit, linked=""), stop_loss


def larger(take_profit: OrderIntent, stop_loss: OrderIntent) -> tuple[OrderIntent, OrderIntent]:
    return take_profit, msgspec.structs.replace(stop_loss, quantity=D("0.6"))


def off_the_grid(take_profit: OrderIntent, stop_loss: OrderIntent) -> tuple[OrderIntent, OrderIntent]:
    return take_profit, msgspec.structs.replace(stop_loss, trigger=D("49000.0000001"))


def crossed(take_profit: OrderIntent, stop_loss: OrderIntent) -> tuple[OrderIntent, OrderIntent]:
    low = D("48800")
    return msgspec.structs.replace(take_profit, trigger=low, price=low), stop_loss


@pytest.mark.parametrize(
    ("spoil", "field"),
    [(unlinked, "linked"), (larger, "quantity"), (off_the_grid, "trigger"), (crossed, "trigger")],
    ids=["unlinked", "sizes", "grid", "crossed"],
)
async def test_a_pair_that_is_none_is_not_sent(rig: Rig, spoil: object, field: str) -> None:
    assert callable(spoil)
    before = rig.venue.counters()
    results = await protect(rig, *spoil(*pair(rig)))
    assert [(result.outcome, result.code) for result in results] == [(Outcome.REJECTED, "LOCAL")] * 2
    assert all(field in result.message for result in results)
    assert rig.venue.counters() == before


async def test_a_lost_answer_is_unknown_and_asking_finds_both(rig: Rig) -> None:
    fault(rig, "drop_response", how="reset")
    intents = pair(rig)
    results = await protect(rig, *intents)
    assert [result.outcome for result in results] == [Outcome.UNKNOWN] * 2
    assert [await asked(rig, intent) for intent in intents] == [PLACED, PLACED]
    assert await open_ids(rig) == {intent.client_order_id for intent in intents}


async def test_a_request_that_never_arrived_is_unknown_and_asking_finds_none(rig: Rig) -> None:
    fault(rig, "drop_request", how="reset")
    intents = pair(rig)
    results = await protect(rig, *intents)
    assert [result.outcome for result in results] == [Outcome.UNKNOWN] * 2
    assert [await asked(rig, intent) for intent in intents] == [None, None]


@pytest.mark.parametrize("reason", ["backend_timeout", "unexpected"])
async def test_an_exchange_that_gave_up_waiting_proves_nothing(rig: Rig, reason: str) -> None:
    fault(rig, "refuse", reason=reason, apply=True)
    intents = pair(rig)
    assert [result.outcome for result in await protect(rig, *intents)] == [Outcome.UNKNOWN] * 2
    told = [await rig.venue.query(intent) for intent in intents]
    assert [event and (event.state, event.cause) for event in told] == [(PLACED, ""), (PLACED, "")]


@by("binance-websocket", "binance-ed25519")  # the others leave by REST
async def test_a_connection_that_is_cut_under_way_is_unknown_and_nothing_is_sent_again(rig: Rig) -> None:
    fault(rig, "delay_request", ms=2000)
    before = rig.venue.counters()["orders_by_rest"]
    intents = pair(rig)
    protecting = asyncio.ensure_future(protect(rig, *intents))
    await asyncio.sleep(0.2)
    rig.simulator.disturb(rig.name, "cut", rig.keys.api_key)
    results = await protecting
    assert [(result.outcome, result.code) for result in results] == [(Outcome.UNKNOWN, "NO_ANSWER")] * 2
    assert rig.venue.counters()["orders_by_rest"] == before


async def test_what_happened_while_the_stream_was_down_is_told_by_the_sweep(rig: Rig) -> None:
    take_profit, stop_loss = await standing(rig)
    operation = {"binance": "executionReport", "okx": "orders*"}[rig.name]
    rig.simulator.fault("drop_event", exchange=rig.name, operation=operation, api_key=rig.keys.api_key)
    go_to(rig, "51100")
    assert await asked(rig, take_profit) is FILLED
    assert filled(rig, take_profit) == 0
    rig.simulator.clear_faults()
    rig.venue._stream.renew("the test cut it")
    await rig.until(lambda: filled(rig, take_profit) == D("0.5"))
    assert await asked(rig, stop_loss) is CANCELLED


async def test_a_venue_that_remembers_nothing_finds_what_was_triggered_before_and_after_it(rig: Rig) -> None:
    """As after a restart: it knows no pair until each order is asked for."""
    before, after = await standing(rig, "0.1"), await standing(rig, "0.2")
    go_to(rig, "51100")
    await rig.until(lambda: {state(rig, before[0]), state(rig, after[0])} == {FILLED})
    last = await standing_below(rig)
    fresh = Rig(rig.simulator, rig.name, rig.keys, rig.market, rig.path)
    try:
        await fresh.start()
        assert {intent.client_order_id for intent in last} & await open_ids(fresh)
        go_to(rig, "48900")
        await rig.until(lambda: state(rig, last[1]) is FILLED)
        assert [await asked(fresh, intent) for intent in before] == [FILLED, CANCELLED]
        told = await fresh.venue.query(last[1])
        assert told is not None
        assert (told.state, told.filled) == (FILLED, D("0.3"))
        assert {fill.client_order_id for fill in told.fills} == {last[1].client_order_id}
        assert await asked(fresh, last[0]) is CANCELLED
        fills = await fresh.venue.trades(rig.market.key, before[0].created_ns)
        assert fills is not None
        sold = {intent.client_order_id: D(0) for intent in (before[0], after[0], last[1])}
        for fill in fills:
            if fill.client_order_id in sold:
                sold[fill.client_order_id] += fill.quantity
        assert list(sold.values()) == [D("0.1"), D("0.2"), D("0.3")]
    finally:
        await fresh.close()


async def standing_below(rig: Rig) -> tuple[OrderIntent, OrderIntent]:
    """Return a pair of 0.3 that stands around 50000."""
    go_to(rig, "50000")
    return await standing(rig, "0.3")


async def test_bybit_holds_no_pairs_and_nothing_is_sent(simulator: Simulator) -> None:
    rig = await Rig.of(simulator, "bybit")
    try:
        assert rig.venue.protects == frozenset()
        intents = pair(rig)
        results = await protect(rig, *intents)
        assert [(result.outcome, result.code) for result in results] == [(Outcome.REJECTED, "LOCAL")] * 2
        assert all("the engine holds the levels" in result.message for result in results)
        assert simulator.orders("bybit", api_key=rig.keys.api_key) == []
    finally:
        await rig.close()
