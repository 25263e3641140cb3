"""Answers that prove an order was not placed: nothing is at the exchange, nothing more is sent where that is asked."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from tests.exchanges.venue_rig import WAIT_SECONDS, Rig
from tests.exchangesim.simulator import Credentials as Keys
from tests.faults.wire import (  # noqa: F401
    NAMES,
    Followed,
    followed,
    measure_clock,
    on_call,
    on_event,
    on_order,
    place_calls,
    probe_key,
    rest,
    resting,
    rig,
    shared_rig,
    shared_simulator,
)
from trading.exchanges.generic.calls import DEFAULT_PAUSE_SECONDS
from trading.execution.states import CANCELLED, FILLED, PLACED
from trading.messages import AccountBalance, OrderState, Outcome, StreamState

D = Decimal
pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOCK_CODES = {"binance": "-1021", "okx": "50102", "bybit": "10002"}
BALANCE_CODES = {"binance": "-2010", "okx": "51008", "bybit": "170131"}
CLOSED_CODES = {"binance": "-2010", "okx": "51022", "bybit": "170157"}
RESTRICTED_CODES = {"binance": "-2010", "okx": "50007", "bybit": "10027"}
REVOKED_CODES = {"binance": "-2015", "okx": "50111", "bybit": "10003"}
IP_CODES = {"binance": "-2015", "okx": "50110", "bybit": "10010"}
PERMISSION_CODES = {"binance": "-2015", "okx": "50120", "bybit": "10005"}
FILTER_CODES = {
    "tick": {"binance": "-1013", "okx": "51000", "bybit": "170134"},
    "lot": {"binance": "-1013", "okx": "51121", "bybit": "170137"},
    "min_notional": {"binance": "-1013", "okx": "51020", "bybit": "170140"},
    "price_band": {"binance": "-1013", "okx": "51006", "bybit": "170372"},
}


async def refused(order: Followed, code: str) -> None:
    result = await order.send()
    assert (result.outcome, result.code) == (Outcome.REJECTED, code)
    assert order.order.settled
    order.check_books(orders=0)


async def works_again(rig: Rig) -> None:  # noqa: F811
    """Orders are taken again, at the latest after what the exchange told us to wait."""
    async with asyncio.timeout(WAIT_SECONDS):
        order = followed(rig, quantity="0.01")
        while (await order.send()).outcome is not Outcome.PLACED:
            await asyncio.sleep(0.1)
            order = followed(rig, quantity="0.01")
    assert (await order.settle()).state is FILLED
    order.check_books()


def seen(rig: Rig) -> int:  # noqa: F811
    """How many calls the first fault has met."""
    return int(rig.simulator.faults()[0]["seen"])


def paused(rig: Rig) -> float:  # noqa: F811
    """For how many seconds more nothing is sent."""
    return rig.venue._calls.budget._pause.left()


async def test_fault_10_a_rate_limit_pauses_the_account_and_places_nothing(rig: Rig) -> None:  # noqa: F811
    on_call(rig, "throttle", place_calls(rig), retry_after=2)
    order, next_one = followed(rig), followed(rig)
    assert (await order.send()).outcome is Outcome.REJECTED
    result = await next_one.send()
    left = paused(rig)
    assert (result.outcome, result.code, seen(rig)) == (Outcome.REJECTED, "BUDGET", 1)
    order.check_books(orders=0)
    next_one.check_books(orders=0)
    if rig.name == "okx" or (rig.name, rig.path) == ("bybit", "websocket"):  # which does not say how long
        assert 0 < left <= DEFAULT_PAUSE_SECONDS
        return
    assert 0 < left <= 2
    await works_again(rig)
    assert rig.simulator.faults()[0]["hits"] == 2, "one call was refused, the next came after its time"


async def test_fault_11_a_ban_is_kept_to(rig: Rig) -> None:  # noqa: F811
    on_call(rig, "throttle", "*", tolerated=-1, ban=2)
    order = followed(rig)
    assert (await order.send()).outcome is Outcome.REJECTED
    left = paused(rig)
    for _ in range(3):
        assert (await followed(rig).send()).code == "BUDGET"
    assert seen(rig) == 1, "whoever goes on asking is banned for longer"
    order.check_books(orders=0)
    if rig.name == "bybit":
        assert 60 < left <= 600, "ten minutes, as it documents"
    if rig.name == "binance":
        assert 0 < left <= 2
        await works_again(rig)


PAGE = {"status": 403, "body": "<html>Request blocked</html>", "content_type": "text/html"}


async def test_fault_12_a_firewalls_page_proves_nothing(rig: Rig) -> None:  # noqa: F811
    on_order(rig, "error", **PAGE)
    order = followed(rig)
    assert (await order.send()).outcome is Outcome.UNKNOWN
    assert await order.ask() is None
    order.check_books(orders=0)
    await rig.on_its_path()
    on_order(rig, "error", **PAGE, apply=True)
    order = followed(rig)
    assert (await order.send()).outcome is Outcome.UNKNOWN
    assert (await order.settle()).state is FILLED
    order.check_books()


async def stopped(rig: Rig, reason: str) -> None:  # noqa: F811
    """The account is stopped with the reason, sends nothing, answers questions, and is tried again later."""
    await rig.until(lambda: rig.states[-1] == "failed")
    told = [message for message in rig.told if isinstance(message, StreamState)][-1]
    assert reason in told.reason
    before = len(rig.simulator.orders(rig.name, api_key=rig.keys.api_key))
    unsent = await followed(rig).send()
    assert (unsent.outcome, unsent.code) == (Outcome.REJECTED, "LOCAL")
    assert reason in unsent.message
    assert len(rig.simulator.orders(rig.name, api_key=rig.keys.api_key)) == before
    assert await rig.venue.balances()
    rig.simulator.clear_faults()
    await probe_key(rig)
    await works_again(rig)


@pytest.mark.parametrize("shared_rig", NAMES, indirect=True)  # on a connection it is garbage, which says nothing
async def test_fault_12_a_firewalls_page_twice_in_a_row_stops_the_account(rig: Rig) -> None:  # noqa: F811
    on_call(rig, "error", place_calls(rig), **PAGE)
    for _ in range(2):
        order = followed(rig)
        assert (await order.send()).outcome is Outcome.UNKNOWN
        order.check_books(orders=0)
    await stopped(rig, "HTTP 403")


async def off_clock(rig: Rig, seconds: int) -> None:  # noqa: F811
    okx_socket = (rig.name, rig.path) == ("okx", "websocket")
    rig.simulator.fault("clock_shift", exchange=rig.name, parameters={"ms": seconds * 1000})
    try:
        if okx_socket and seconds < 0:  # the deadline in the request is later than it should be
            assert (await followed(rig, quantity="0.01").send()).outcome is Outcome.PLACED
            await measure_clock(rig)
        else:
            await refused(followed(rig), "50036" if okx_socket else CLOCK_CODES[rig.name])
        await works_again(rig)
        assert abs(rig.venue.offset_ms - seconds * 1000) < 1000
    finally:
        rig.simulator.clear_faults()
        await measure_clock(rig)


async def test_fault_13_an_order_outside_the_window_is_not_placed_and_the_clock_measured(rig: Rig) -> None:  # noqa: F811
    await off_clock(rig, 60)


@pytest.mark.parametrize("minutes", [5, -5])
async def test_fault_71_a_clock_that_steps_is_followed(rig: Rig, minutes: int) -> None:  # noqa: F811
    await off_clock(rig, minutes * 60)


async def test_fault_14_money_that_is_gone_refuses_the_order_and_shows_in_the_balances(rig: Rig) -> None:  # noqa: F811
    on_event(rig, "silent")
    held = rig.simulator.balances(rig.keys)["USDT"]["free"]
    rig.simulator.transfer(rig.keys, "USDT", f"-{held}")
    before = len(rig.told)
    try:
        await refused(followed(rig), BALANCE_CODES[rig.name])
        # The stream is mute: only asking at once can tell.
        await rig.until(
            lambda: any(
                isinstance(message, AccountBalance) and (message.asset, message.free) == ("USDT", 0)
                for message in rig.told[before:]
            )
        )
    finally:
        rig.simulator.transfer(rig.keys, "USDT", held)


@pytest.mark.parametrize(
    ("rule", "value"), [("tick", "7"), ("lot", "0.7"), ("min_notional", "900000"), ("price_band", "1.0001")]
)
async def test_fault_31_a_filter_that_changed_refuses_the_order(rig: Rig, rule: str, value: str) -> None:  # noqa: F811
    before = {"tick": str(rig.market.tick), "lot": str(rig.market.lot), "min_notional": "5", "price_band": "5"}
    rig.simulator.set_rules(rig.name, "BTC/USDT", **{rule: value})
    try:
        price = "50000" if rule != "price_band" else "90000"
        await refused(followed(rig, price=price), FILTER_CODES[rule][rig.name])
    finally:
        rig.simulator.set_rules(rig.name, "BTC/USDT", **{rule: before[rule]})
    await works_again(rig)


def halt(rig: Rig, halted: bool) -> None:  # noqa: F811
    rig.simulator.call("POST", "/market", {"exchange": rig.name, "symbol": "BTC/USDT", "halted": halted})


async def test_fault_32_a_halted_market_refuses_orders(rig: Rig) -> None:  # noqa: F811
    halt(rig, True)
    try:
        await refused(followed(rig), CLOSED_CODES[rig.name])
    finally:
        halt(rig, False)
    await works_again(rig)


async def test_fault_33_an_exchange_that_takes_cancellations_only_is_still_asked_and_told(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    on_call(rig, "refuse", place_calls(rig), reason="market_closed")
    await refused(followed(rig), CLOSED_CODES[rig.name])
    await order.ask()
    assert order.order.state is PLACED
    assert (await rig.venue.cancel(order.intent)).outcome is Outcome.PLACED
    assert (await order.settle()).state is CANCELLED
    order.check_books()


async def test_fault_33_maintenance_proves_nothing_about_any_order(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    on_call(rig, "refuse", "*", reason="maintenance")
    new = followed(rig)
    assert (await new.send()).outcome is Outcome.UNKNOWN
    for asked in (new, order):
        event = await asked.ask()
        assert event is not None
        assert event.state is OrderState.UNKNOWN
    assert await rig.venue.open_orders() is None
    rig.simulator.clear_faults()
    rest(rig)
    assert await new.ask() is None
    new.check_books(orders=0)
    await order.ask()
    assert order.order.state is PLACED
    await rig.venue.cancel(order.intent)
    await order.settle()


async def test_fault_33_a_cancellation_in_maintenance_proves_nothing(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    on_call(rig, "refuse", rig.cancel_operation, reason="maintenance")
    assert (await rig.venue.cancel(order.intent)).outcome is Outcome.UNKNOWN
    await order.ask()
    assert order.order.state is PLACED
    rig.simulator.clear_faults()
    assert (await rig.venue.cancel(order.intent)).outcome is Outcome.PLACED
    await order.settle()
    order.check_books()


async def test_fault_34_a_restricted_account_is_stopped_with_the_reason_and_can_be_asked(rig: Rig) -> None:  # noqa: F811
    on_call(rig, "refuse", place_calls(rig), reason="account_restricted")
    for _ in range(2):
        await refused(followed(rig), RESTRICTED_CODES[rig.name])
    await stopped(rig, RESTRICTED_CODES[rig.name])


async def test_fault_35_a_revoked_key_is_not_taken_for_an_answer_about_orders(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    rig.simulator.revoke(rig.keys)
    try:
        if rig.path == "websocket" and rig.name != "binance":  # the connection is ended, the order with it
            gone = followed(rig)
            assert (await gone.send()).outcome is Outcome.UNKNOWN
            gone.check_books(orders=0)
        await refused(followed(rig), REVOKED_CODES[rig.name])
        event = await order.ask()
        assert event is not None
        assert event.state is OrderState.UNKNOWN, "a key that is gone says nothing of the order"
        assert await rig.venue.open_orders() is None
        await rig.until(lambda: rig.states[-1] == "failed")
    finally:
        rig.simulator.revoke(rig.keys, False)
    await probe_key(rig)
    await order.ask()
    assert order.order.state is PLACED
    await rig.venue.cancel(order.intent)
    await order.settle()
    order.check_books()


async def test_fault_35_an_address_that_is_not_allowed_places_nothing(rig: Rig) -> None:  # noqa: F811
    on_call(rig, "refuse", place_calls(rig), reason="ip_not_allowed")
    await refused(followed(rig), IP_CODES[rig.name])


def permit(rig: Rig, *permissions: str) -> None:  # noqa: F811
    keys: Keys = rig.keys
    rig.simulator.account(rig.name, api_key=keys.api_key, secret=keys.secret, permissions=permissions)


async def test_fault_36_a_key_that_may_only_read_still_reads(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    permit(rig, "read")
    try:
        await refused(followed(rig), PERMISSION_CODES[rig.name])
        await order.ask()
        assert order.order.state is PLACED
        assert (await rig.venue.cancel(order.intent)).outcome is not Outcome.PLACED
        assert await rig.venue.balances()
    finally:
        permit(rig, "read", "trade")
    assert rig.states[-1] == "failed", "refused twice, the key is used for no further order"
    await probe_key(rig)
    await rig.venue.cancel(order.intent)
    await order.settle()
    order.check_books()


async def test_fault_37_what_the_owner_does_by_hand_is_told_and_left_alone(rig: Rig) -> None:  # noqa: F811
    ours = resting(rig, price="41000")
    await ours.send()
    placed = rig.simulator.place_by_hand(rig.keys, "BTC/USDT", "BUY", "0.3", "40500")
    known = {event.exchange_order_id: event for event in await rig.venue.open_orders() or ()}
    assert known.keys() == {placed["id"], ours.order.exchange_order_id}
    assert known[placed["id"]].client_order_id != ours.intent.client_order_id
    await rig.until(lambda: any(getattr(message, "exchange_order_id", "") == placed["id"] for message in rig.told))
    before = len(rig.told)
    rig.simulator.transfer(rig.keys, "BTC", "-7")
    truth = D(rig.simulator.balances(rig.keys)["BTC"]["free"])
    await rig.until(
        lambda: any(
            isinstance(message, AccountBalance) and (message.asset, message.free) == ("BTC", truth)
            for message in rig.told[before:]
        )
    )
    await rig.venue.cancel(ours.intent)
    await ours.settle()
    (row,) = [row for row in rig.simulator.orders(rig.name, api_key=rig.keys.api_key) if row["id"] == placed["id"]]
    assert row["status"] == "NEW", "theirs stays"
    rig.simulator.transfer(rig.keys, "BTC", "7")
