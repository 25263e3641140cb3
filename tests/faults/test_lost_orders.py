"""Orders whose fate the answer does not tell: sent once, never concluded early, adopted where they live."""

from __future__ import annotations

import asyncio

import pytest

from tests.exchanges.venue_rig import WAIT_SECONDS, Rig
from tests.exchangesim.simulator import running_simulator
from tests.faults.wire import (  # noqa: F401
    Followed,
    followed,
    in_engine,
    measure_clock,
    on_order,
    resting,
    rig,
    shared_rig,
    shared_simulator,
)
from trading.execution.states import FILLED, PLACED
from trading.messages import OrderState, Outcome

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The most a request may be old when it arrives, in seconds, and the code of one that is older.
WINDOWS = {"binance": (5, "-1021"), "okx": (30, "50102"), "bybit": (5, "10002")}

SOCKET_WINDOW = (5, "50036")  # OKX's connection is logged on: our own deadline stands in each request


async def adopted(order: Followed) -> None:
    """The answer proves nothing; asking finds the order, executed once."""
    assert (await order.send()).outcome is Outcome.UNKNOWN
    assert (await order.settle()).state is FILLED
    order.check_books()


async def absent(order: Followed) -> None:
    """The answer proves nothing, and the exchange has no such order."""
    assert (await order.send()).outcome is Outcome.UNKNOWN
    assert await order.ask() is None
    assert order.order.state is OrderState.UNKNOWN, "one 'not found' is no proof"
    order.check_books(orders=0)


async def test_fault_01_an_answer_that_is_lost_leaves_an_order_to_adopt(rig: Rig) -> None:  # noqa: F811
    on_order(rig, "drop_response", how="reset")
    await adopted(followed(rig))


async def test_fault_02_an_order_that_never_arrived_is_not_found(rig: Rig) -> None:  # noqa: F811
    on_order(rig, "drop_request", how="reset")
    await absent(followed(rig))


async def test_fault_03_a_request_that_arrives_late_is_waited_for(rig: Rig) -> None:  # noqa: F811
    on_order(rig, "late_request", ms=700)
    order = followed(rig)
    assert (await order.send()).outcome is Outcome.UNKNOWN
    early = await order.ask()
    assert early is None or rig.simulator.faults()[0]["unheard"], "found before it arrived"
    assert (await order.settle()).state is FILLED
    order.check_books()


async def test_fault_04_a_request_beyond_its_window_is_never_executed(rig: Rig) -> None:  # noqa: F811
    window, code = WINDOWS[rig.name]
    if (rig.name, rig.path) == ("okx", "websocket"):
        window, code = SOCKET_WINDOW
    assert rig.venue.absence_seconds >= window + 10, "the window and the exchange's own timeout"
    on_order(rig, "late_request", ms=500)
    order = followed(rig)
    assert (await order.send()).outcome is Outcome.UNKNOWN
    # The exchange's time goes on while the request is under way.
    rig.simulator.fault("clock_shift", exchange=rig.name, parameters={"ms": window * 1000 + 500})
    async with asyncio.timeout(WAIT_SECONDS):
        while not rig.simulator.faults()[0]["unheard"]:  # noqa: ASYNC110  (it is another process that is waited for)
            await asyncio.sleep(0.05)
    (answer,) = rig.simulator.faults()[0]["unheard"]
    assert code in answer
    rig.simulator.clear_faults()
    await measure_clock(rig)
    assert await order.ask() is None
    order.check_books(orders=0)


@pytest.mark.parametrize("reason", ["backend_timeout", "unexpected"])
async def test_fault_05_an_exchange_that_gave_up_waiting_has_the_order(rig: Rig, reason: str) -> None:  # noqa: F811
    on_order(rig, "refuse", reason=reason, apply=True)
    await adopted(followed(rig))


@pytest.mark.parametrize("reason", ["backend_timeout", "busy"])
async def test_fault_06_an_exchange_that_gave_up_waiting_has_no_order(rig: Rig, reason: str) -> None:  # noqa: F811
    on_order(rig, "refuse", reason=reason)
    order = followed(rig)
    if (rig.name, rig.path, reason) == ("bybit", "rest", "busy"):  # HTTP 429: it was not taken, that much is certain
        assert (await order.send()).outcome is Outcome.REJECTED
        order.check_books(orders=0)
    else:
        await absent(order)


@pytest.mark.parametrize("apply", [True, False])
@pytest.mark.parametrize("status", [502, 503, 504])
async def test_fault_07_a_gateways_page_proves_nothing(rig: Rig, status: int, apply: bool) -> None:  # noqa: F811
    on_order(rig, "error", status=status, body="<html>Bad Gateway</html>", content_type="text/html", apply=apply)
    await (adopted if apply else absent)(followed(rig))


async def test_fault_08_an_answer_cut_short_proves_nothing(rig: Rig) -> None:  # noqa: F811
    on_order(rig, "truncate_body", bytes=-25)
    await adopted(followed(rig))


@pytest.mark.parametrize("what", ["empty", "null ids", "blank ids"])
async def test_fault_09_an_answer_without_an_id_is_looked_up(rig: Rig, what: str) -> None:  # noqa: F811
    if what == "empty":
        on_order(rig, "replace_body", body="", status=200)
    else:
        blank = None if what == "null ids" else ""
        names = ("orderId", "ordId", "orderLinkId", "clOrdId", "clientOrderId")
        on_order(rig, "edit", set=dict.fromkeys(names, blank))
    await adopted(followed(rig))


async def test_fault_15_a_doubled_request_names_an_order_that_lives(rig: Rig) -> None:  # noqa: F811
    on_order(rig, "duplicate_request")
    order = resting(rig)
    assert (await order.send()).outcome is Outcome.UNKNOWN
    await order.ask()
    assert order.order.state is PLACED
    order.check_books()
    assert (await rig.venue.cancel(order.intent)).outcome is Outcome.PLACED
    await order.settle()
    order.check_books()


async def test_fault_16_an_id_accepted_twice_is_noticed_and_both_are_booked(rig: Rig) -> None:  # noqa: F811
    if rig.name != "binance":  # which takes a closed id again by its own rules
        in_engine(rig, "reuse_client_id")
    on_order(rig, "duplicate_request")
    order = followed(rig, quantity="0.4")
    await order.send()
    await rig.until(lambda: order.hear().filled == 2 * order.intent.quantity)
    assert order.order.overfilled
    assert any("overfill" in alarm for alarm in order.alarms)
    order.check_books(orders=2)


async def test_fault_53_a_connection_that_is_refused_proves_that_nothing_was_sent() -> None:
    with running_simulator("--exchanges", "okx") as simulator:
        alone = await Rig.make(simulator, "okx")
        try:
            simulator.kill()
            order = followed(alone)
            result = await order.send()
            # A connection that was kept open dies with the exchange: then it is not known what left.
            while result.outcome is Outcome.UNKNOWN:
                order = followed(alone)
                result = await order.send()
            assert (result.outcome, result.code) == (Outcome.REJECTED, "NOT_SENT")
            asked = await alone.venue.query(order.intent)
            assert asked is not None
            assert asked.state is OrderState.UNKNOWN, "silence is not absence"
        finally:
            await alone.close()


async def test_fault_53_a_connection_that_is_reset_proves_nothing(rig: Rig) -> None:  # noqa: F811
    on_order(rig, "drop_request", how="reset")
    await absent(followed(rig))


async def test_fault_54_a_connection_reset_in_the_middle_of_the_answer_proves_nothing(rig: Rig) -> None:  # noqa: F811
    on_order(rig, "reset_body", bytes=12)
    await adopted(followed(rig))


async def test_fault_56_on_a_slow_and_lossy_line_each_order_is_executed_once(rig: Rig) -> None:  # noqa: F811
    rig.simulator.latency(rig.name, request_ms=60, response_ms=60, event_ms=60, jitter=0.9)
    try:
        rig.simulator.fault(
            "drop_response",
            exchange=rig.name,
            operation="*order*",
            api_key=rig.keys.api_key,
            probability=0.3,
            parameters={"how": "reset"},
        )
        orders = [followed(rig, quantity="0.05") for _ in range(8)]
        await asyncio.gather(*(order.send() for order in orders))
        for order in orders:
            assert (await order.settle()).state is FILLED
            order.check_books()
    finally:
        rig.simulator.latency(rig.name, request_ms=0, response_ms=0, event_ms=0, jitter=0)


async def test_the_windows_above_are_the_clients_own(shared_rig: Rig) -> None:  # noqa: F811
    window, _ = WINDOWS[shared_rig.name]
    configured = shared_rig.venue.dialect.options.get("recvWindow")
    assert configured in (None, window * 1000)
