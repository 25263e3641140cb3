"""Real ccxt against the simulated exchanges: what is asked again, what is never sent again, and when asking stops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.exchanges.venue_rig import ORDER_OPERATIONS, Rig
from tests.exchangesim.simulator import Simulator, shared_simulator  # noqa: F401
from trading.clock import SystemClock
from trading.exchanges.addresses import Addresses
from trading.exchanges.generic.venue import build_venue
from trading.exchanges.retries import EndpointBreaker
from trading.messages import OrderState as S
from trading.messages import Outcome, StreamState, TimeInForce

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANCEL_OPERATIONS = {
    "binance": "DELETE /api/v3/order",
    "okx": "POST /api/v5/trade/cancel-order",
    "bybit": "POST /v5/order/cancel",
}
KEY_REFUSED = {
    "binance": (401, '{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}'),
    "okx": (401, '{"code":"50110","msg":"Your IP is not included in your API key\'s IP whitelist","data":[]}'),
    "bybit": (200, '{"retCode":10010,"retMsg":"Unmatched IP","result":{},"retExtInfo":{},"time":1}'),
}


@pytest_asyncio.fixture(params=["binance", "okx", "bybit"], loop_scope="module")
async def rig(request: pytest.FixtureRequest, shared_simulator: Simulator) -> AsyncIterator[Rig]:  # noqa: F811
    shared_simulator.clear_faults()
    rig = await Rig.make(shared_simulator, request.param, start=False)
    # Pauses without length: how they grow is tested on virtual time.
    rig.venue = build_venue(rig.account, [rig.market], SystemClock(), jitter=lambda: 0.0)
    await rig.start()
    yield rig
    shared_simulator.clear_faults()
    await rig.close()


@pytest.fixture
def quick_breakers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(EndpointBreaker, "first_open_seconds", 0.2)
    return


def fail_questions(rig: Rig, count: int | None = None, status: int = 503, body: str = "") -> None:
    operations = "GET *"
    rig.simulator.fault(
        "error",
        exchange=rig.name,
        operation=operations,
        api_key=rig.keys.api_key,
        count=count,
        parameters={"status": status, "body": body},
    )


async def test_a_question_that_fails_for_a_moment_is_answered(rig: Rig) -> None:
    intent = rig.intent(quantity="0.1")
    await rig.venue.place(intent)
    before = rig.venue._calls.retried
    fail_questions(rig, count=2)
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert asked.state is S.FILLED
    assert rig.venue._calls.retried - before == 2


async def test_a_question_that_is_answered_is_not_asked_again(rig: Rig) -> None:
    before = rig.venue._calls.retried
    assert await rig.venue.query(rig.intent()) is None
    assert rig.venue._calls.retried == before


async def test_a_cancellation_that_fails_for_a_moment_goes_through(rig: Rig) -> None:
    resting = rig.intent(price="40000", time_in_force=TimeInForce.GTC)
    assert (await rig.venue.place(resting)).outcome is Outcome.PLACED
    rig.simulator.fault(
        "error",
        exchange=rig.name,
        operation=CANCEL_OPERATIONS[rig.name],
        api_key=rig.keys.api_key,
        count=1,
        parameters={"status": 502},
    )
    assert (await rig.venue.cancel(resting)).outcome is Outcome.PLACED
    await rig.until(lambda: any(event.state is S.CANCELLED for event in rig.events(resting)))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_a_placement_is_sent_once_whatever_happens(rig: Rig, status: int) -> None:
    # The fault ends with the first request: a second one would be carried out.
    rig.fault_on_order("error", status=status, body="")
    intent = rig.intent(quantity="0.1")
    await rig.venue.place(intent)
    assert rig.orders_at_exchange(intent) == []


async def test_a_client_that_would_send_again_sends_no_order(rig: Rig) -> None:
    endpoint = ORDER_OPERATIONS[rig.name].rsplit("/", 1)[1]
    tampered: list[tuple[str, object]] = [
        ("maxRetriesOnFailure", 2),
        ("defaultMaxRetriesOnFailure", 2),
        (endpoint, {"maxRetriesOnFailure": 1}),
    ]
    for name, value in tampered:
        kept = dict(rig.venue._client.options)
        rig.venue._client.options[name] = value
        intent = rig.intent(quantity="0.1")
        refused = await rig.venue.place(intent)
        assert (refused.outcome, refused.code) == (Outcome.REJECTED, "LOCAL")
        assert "maxRetriesOnFailure must be 0" in refused.message
        assert rig.orders_at_exchange(intent) == []
        rig.venue._client.options.clear()
        rig.venue._client.options.update(kept)
    assert (await rig.venue.place(rig.intent(quantity="0.1"))).outcome is Outcome.PLACED


async def test_a_client_that_would_not_wait_for_the_answer_sends_no_order(rig: Rig) -> None:
    rig.venue._client.timeout = rig.venue.dialect.backend_seconds * 1000
    refused = await rig.venue.place(rig.intent())
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "LOCAL")
    assert "timeout" in refused.message


async def test_an_endpoint_that_goes_on_failing_is_left_alone_until_it_answers(rig: Rig, quick_breakers: None) -> None:
    intent = rig.intent(quantity="0.1")
    await rig.venue.place(intent)
    fail_questions(rig)
    for _ in range(2):
        event = await rig.venue.query(intent)
        assert event is not None
        assert event.state is S.UNKNOWN
    breaker = rig.venue._calls.breaker("order")
    assert breaker.state in {"open", "half-open"}
    # Even an order the exchange never had is not "not found" while nobody asks.
    breaker._open_until_ns = SystemClock().monotonic_ns() + 60 * 10**9
    unasked = await rig.venue.query(rig.intent())
    assert unasked is not None
    assert unasked.state is S.UNKNOWN
    assert "times in a row" in unasked.cause
    rig.simulator.clear_faults()
    breaker._open_until_ns = SystemClock().monotonic_ns()
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert asked.state is S.FILLED
    assert breaker.state == "closed"


async def test_a_key_refused_twice_stops_the_account_with_the_reason(rig: Rig) -> None:
    status, body = KEY_REFUSED[rig.name]
    fail_questions(rig, status=status, body=body)
    intent = rig.intent()
    for _ in range(2):
        event = await rig.venue.query(intent)
        assert event is not None
        assert event.state is S.UNKNOWN
    await rig.until(lambda: rig.states[-1:] == ["failed"])
    reason = [message for message in rig.told if isinstance(message, StreamState)][-1].reason
    assert "API key" in reason
    refused = await rig.venue.place(intent)
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "LOCAL")
    assert rig.orders_at_exchange(intent) == []
    # What is not asked is not "not found" either.
    unasked = await rig.venue.query(intent)
    assert unasked is not None
    assert unasked.state is S.UNKNOWN
    # The key is taken again: a probe finds out, and the account comes back only after a sweep.
    rig.simulator.clear_faults()
    rig.venue._calls.reading_key._probe_at_ns = 0
    assert len(await rig.venue.balances()) > 0
    await rig.until(lambda: rig.states[-1:] == ["live"])
    assert (await rig.venue.place(rig.intent(quantity="0.1"))).outcome is Outcome.PLACED


async def test_a_key_that_may_read_but_not_trade_stops_orders_and_answers_questions(rig: Rig) -> None:
    status, body = KEY_REFUSED[rig.name]
    known = rig.intent(quantity="0.1")
    await rig.venue.place(known)
    for _ in range(2):
        rig.fault_on_order("error", status=status, body=body)
        assert (await rig.venue.place(rig.intent())).outcome is Outcome.REJECTED
    await rig.until(lambda: rig.states[-1:] == ["failed"])
    assert (await rig.venue.place(rig.intent())).code == "LOCAL"
    asked = await rig.venue.query(known)
    assert asked is not None
    assert asked.state is S.FILLED
    # After a while it is tried again, by itself: the account comes back by a sweep, and its next order finds out.
    rig.venue._calls.trading_key._probe_at_ns = 0
    rig.venue._doubted.notify()
    await rig.until(lambda: rig.states[-1:] == ["live"])
    assert (await rig.venue.place(rig.intent(quantity="0.1"))).outcome is Outcome.PLACED


async def test_one_refusal_of_a_key_stops_nothing(rig: Rig) -> None:
    status, body = KEY_REFUSED[rig.name]
    for _ in range(2):
        fail_questions(rig, count=1, status=status, body=body)
        await rig.venue.query(rig.intent())
        assert await rig.venue.query(rig.intent()) is None
    assert rig.states[-1:] == ["live"]
    assert (await rig.venue.place(rig.intent(quantity="0.1"))).outcome is Outcome.PLACED


async def test_refusals_of_a_key_that_are_not_in_a_row_stop_nothing(rig: Rig) -> None:
    status, body = KEY_REFUSED[rig.name]
    for _ in range(3):
        rig.fault_on_order("error", status=status, body=body)
        assert (await rig.venue.place(rig.intent())).outcome is Outcome.REJECTED
        # Too little money: what the exchange says to a key it takes.
        assert (await rig.venue.place(rig.intent(quantity="900"))).outcome is Outcome.REJECTED
    assert rig.states[-1:] == ["live"]
    assert rig.venue._calls.key_refused == ""


async def test_a_ban_pauses_every_account_on_the_exchange_and_no_other(rig: Rig, shared_simulator: Simulator) -> None:  # noqa: F811
    addresses = Addresses(SystemClock())
    other = "bybit" if rig.name == "binance" else "binance"
    rigs = [await Rig.make(shared_simulator, name, start=False) for name in (rig.name, rig.name, other)]
    try:
        for one in rigs:
            one.venue = build_venue(one.account, [one.market], SystemClock(), addresses=addresses, jitter=lambda: 0.0)
            await one.start()
        banned, neighbour, elsewhere = rigs
        banned.fault_on_order("error", status=418, body="", headers={"Retry-After": "30"})
        await banned.venue.place(banned.intent(quantity="0.1"))
        paused = await neighbour.venue.place(neighbour.intent(quantity="0.1"))
        assert (paused.outcome, paused.code) == (Outcome.REJECTED, "BUDGET")
        assert neighbour.venue.reserve_order("another") > 0
        unasked = await neighbour.venue.query(neighbour.intent())
        assert unasked is not None
        assert unasked.state is S.UNKNOWN
        assert "request budget" in unasked.cause
        assert (await elsewhere.venue.place(elsewhere.intent(quantity="0.1"))).outcome is Outcome.PLACED
    finally:
        for one in rigs:
            await one.close()
