"""Take-profit and stop-loss held by an exchange, sent as a pair, when requests, answers and events go wrong.

The pair leaves once. Whatever the answer does not tell is UNKNOWN for both and found by asking for each; the
exchange's own books say that it has the pair once or not at all. A pair that stands does what it is for: its
take-profit fills, and that ends its stop-loss.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.exchanges.exit_rig import EXIT_OPERATIONS, PROFIT, calm, go_to, open_ids, pair, unlimited_simulator
from tests.exchanges.venue_rig import CANCEL_OPERATIONS, WAIT_SECONDS, Rig
from tests.exchangesim.simulator import Simulator
from tests.faults.test_lost_orders import WINDOWS
from tests.faults.test_order_events import GONE_CODES
from tests.faults.test_refused_orders import CLOCK_CODES, PAGE, PERMISSION_CODES, RESTRICTED_CODES, REVOKED_CODES
from tests.faults.wire import (
    FILL_EVENTS,
    Followed,
    measure_clock,
    on_call,
    on_event,
    probe_key,
    rest,
)
from trading.execution.states import CANCELLED, FILLED, PARTIAL, PLACED
from trading.messages import OrderKind, OrderState, Outcome

BINANCE = ("binance", "binance-websocket")
OKX = ("okx", "okx-websocket")  # whose pairs leave by REST all the same
pytestmark = pytest.mark.asyncio(loop_scope="module")
CANCELS = {"binance": CANCEL_OPERATIONS["binance"], "okx": "POST /api/v5/trade/cancel-algos"}


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[Simulator]:
    """A simulator for the whole module; its rate limits are off, for tests are quicker than people."""
    with unlimited_simulator() as running:
        yield running


@pytest_asyncio.fixture(params=(*BINANCE, *OKX), scope="module", loop_scope="module")
async def shared_rig(request: pytest.FixtureRequest, shared_simulator: Simulator) -> AsyncIterator[Rig]:
    """One started venue a way, for the whole module: making one costs a second."""
    made = await Rig.of(shared_simulator, request.param)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def rig(shared_rig: Rig) -> AsyncIterator[Rig]:
    """The venue with nothing open at the exchange, no fault about, and a market at 50000."""
    async with calm(shared_rig) as rig:
        yield rig


class Pair:
    """A take-profit and a stop-loss of half a bitcoin, sent together once, each followed as the engine books it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.take_profit, self.stop_loss = self.both = [Followed(rig, intent) for intent in pair(rig)]

    async def send(self) -> list[tuple[Outcome, str]]:
        """Return outcome and code of each."""
        results = await self.rig.venue.protect(self.take_profit.intent, self.stop_loss.intent)
        for order, result in zip(self.both, results, strict=True):
            order.answered(result)
        return [(result.outcome, result.code) for result in results]

    async def ask(self) -> list[OrderState | None]:
        """Return what the exchange says of each; None where it knows no such order."""
        events = [await order.ask() for order in self.both]
        return [None if event is None else event.state for event in events]

    async def asked_until(self, states: list[OrderState]) -> None:
        """Ask until the exchange says this of both."""
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.ask() != states:  # noqa: ASYNC110  (it is another process that is waited for)
                await asyncio.sleep(0.1)

    def at_exchange(self) -> list[dict[str, Any]]:
        """Return its orders in the exchange's own books: by their ids, or that of their algo order, which has one."""
        names = {order.intent.client_order_id for order in self.both}
        rows = self.rig.simulator.orders(self.rig.name, api_key=self.rig.keys.api_key)
        return [row for row in rows if names & {row["client_id"], row["list_client_id"]}]

    def check_books(self, *, pairs: int = 1) -> None:
        """The exchange has it so many times, and each execution is booked once on the order it belongs to."""
        rows = self.at_exchange()
        assert len(rows) == 2 * pairs
        assert len({row["list_id"] for row in rows}) == pairs
        sides = {row["id"]: order for row in rows for order in self.both if _is_of(row, order)}
        executed = [
            (sides[fill["order_id"]].intent.client_order_id, fill["trade_id"], fill["quantity"])
            for fill in self.rig.simulator.fills(self.rig.name, api_key=self.rig.keys.api_key)
            if fill["order_id"] in sides
        ]
        booked = [
            (order.intent.client_order_id, trade_id, f"{fill.quantity.normalize():f}")
            for order in self.both
            for trade_id, fill in order.order.fills.items()
        ]
        assert sorted(booked) == sorted(executed)

    async def stand(self) -> None:
        """Send it, on an exchange that takes it."""
        assert [outcome for outcome, _ in await self.send()] == [Outcome.PLACED] * 2
        assert await open_ids(self.rig) == {order.intent.client_order_id for order in self.both}

    async def take(self) -> None:
        """Let the price reach the take-profit: it fills whole, which ends the stop-loss, and both are known to."""
        go_to(self.rig, "51100")
        assert (await self.take_profit.settle()).state is FILLED
        assert (await self.stop_loss.settle()).state is CANCELLED
        self.check_books()

    async def withdraw(self) -> None:
        """Cancel it, which ends both."""
        assert (await self.rig.venue.cancel(self.take_profit.intent)).outcome is Outcome.PLACED
        for order in self.both:
            assert (await order.settle()).state is CANCELLED
        self.check_books()


def _is_of(row: dict[str, Any], order: Followed) -> bool:
    """A stop-loss has a trigger below the market; OKX's take-profits have one above it, Binance's none."""
    is_stop = row["trigger_price"] is not None and row["trigger_price"].startswith("49000")
    return is_stop == (order.intent.kind is OrderKind.STOP_LOSS)


def on_pair(rig: Rig, kind: str, **parameters: Any) -> None:
    """Let something happen to the next pair."""
    on_call(rig, kind, EXIT_OPERATIONS[rig.name, rig.path], count=1, **parameters)


async def adopted(order: Pair) -> None:
    """The answer proves nothing; asking finds both, once, and they do what they are for."""
    assert [outcome for outcome, _ in await order.send()] == [Outcome.UNKNOWN] * 2
    assert await order.ask() == [PLACED, PLACED]
    order.check_books()
    await order.take()


async def absent(order: Pair) -> None:
    """The answer proves nothing, and the exchange has neither."""
    assert [outcome for outcome, _ in await order.send()] == [Outcome.UNKNOWN] * 2
    assert await order.ask() == [None, None]
    assert [one.order.state for one in order.both] == [OrderState.UNKNOWN] * 2, "one 'not found' is no proof"
    order.check_books(pairs=0)


async def refused(order: Pair, code: str = "") -> None:
    """The answer proves that neither was placed, by the exchange's own code."""
    results = await order.send()
    assert [outcome for outcome, _ in results] == [Outcome.REJECTED] * 2, results
    assert {given for _, given in results} & {"", "LOCAL"} == set()
    assert not code or {given for _, given in results} == {code}
    assert all(one.order.settled for one in order.both)
    order.check_books(pairs=0)


# -- fates the answer does not tell -------------------------------------------------------------------------------


async def test_fault_01_a_pair_whose_answer_is_lost_is_adopted(rig: Rig) -> None:
    on_pair(rig, "drop_response", how="reset")
    await adopted(Pair(rig))


async def test_fault_02_a_pair_that_never_arrived_is_not_found(rig: Rig) -> None:
    on_pair(rig, "drop_request", how="reset")
    await absent(Pair(rig))


async def test_fault_03_a_pair_that_arrives_late_is_waited_for(rig: Rig) -> None:
    on_pair(rig, "late_request", ms=700)
    order = Pair(rig)
    assert [outcome for outcome, _ in await order.send()] == [Outcome.UNKNOWN] * 2
    early = await order.ask()
    assert early == [None, None] or rig.simulator.faults()[0]["unheard"], "found before it arrived"
    await order.asked_until([PLACED, PLACED])
    await order.take()


async def test_fault_04_a_pair_beyond_its_window_is_never_placed(rig: Rig) -> None:
    window, code = WINDOWS[rig.name]
    on_pair(rig, "late_request", ms=500)
    order = Pair(rig)
    assert [outcome for outcome, _ in await order.send()] == [Outcome.UNKNOWN] * 2
    # The exchange's time goes on while the request is under way.
    rig.simulator.fault("clock_shift", exchange=rig.name, parameters={"ms": window * 1000 + 500})
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not rig.simulator.faults()[0]["unheard"]:  # noqa: ASYNC110  (another process is waited for)
                await asyncio.sleep(0.05)
        (answer,) = rig.simulator.faults()[0]["unheard"]
        assert code in answer
    finally:
        rig.simulator.clear_faults()
        await measure_clock(rig)
    assert await order.ask() == [None, None]
    order.check_books(pairs=0)


@pytest.mark.parametrize("reason", ["backend_timeout", "unexpected"])
async def test_fault_05_an_exchange_that_gave_up_waiting_has_the_pair(rig: Rig, reason: str) -> None:
    on_pair(rig, "refuse", reason=reason, apply=True)
    await adopted(Pair(rig))


@pytest.mark.parametrize("reason", ["backend_timeout", "busy"])
async def test_fault_06_an_exchange_that_gave_up_waiting_has_no_pair(rig: Rig, reason: str) -> None:
    on_pair(rig, "refuse", reason=reason)
    await absent(Pair(rig))


@pytest.mark.parametrize("apply", [True, False])
@pytest.mark.parametrize("status", [502, 503, 504])
async def test_fault_07_a_gateways_page_proves_nothing_of_a_pair(rig: Rig, status: int, apply: bool) -> None:
    on_pair(rig, "error", status=status, body="<html>Bad Gateway</html>", content_type="text/html", apply=apply)
    await (adopted if apply else absent)(Pair(rig))


async def test_fault_08_a_pairs_answer_cut_short_proves_nothing(rig: Rig) -> None:
    on_pair(rig, "truncate_body", bytes=-25)
    await adopted(Pair(rig))


async def test_fault_09_a_pairs_answer_that_is_empty_proves_nothing(rig: Rig) -> None:
    on_pair(rig, "replace_body", body="", status=200)
    await adopted(Pair(rig))


async def test_fault_15_a_pair_that_arrives_twice_is_there_once_and_adopted(rig: Rig) -> None:
    on_pair(rig, "duplicate_request")
    await adopted(Pair(rig))


async def test_fault_54_a_connection_reset_in_the_middle_of_a_pairs_answer_proves_nothing(rig: Rig) -> None:
    on_pair(rig, "reset_body", bytes=12)
    await adopted(Pair(rig))


@pytest.mark.parametrize("apply", [True, False])
async def test_fault_12_a_firewalls_page_proves_nothing_of_a_pair(rig: Rig, apply: bool) -> None:
    on_pair(rig, "error", **PAGE, apply=apply)
    await (adopted if apply else absent)(Pair(rig))


# -- refusals -----------------------------------------------------------------------------------------------------


async def test_fault_10_a_rate_limit_places_no_pair_and_holds_the_next_one_back(rig: Rig) -> None:
    on_call(rig, "throttle", EXIT_OPERATIONS[rig.name, rig.path], retry_after=2)
    await refused(Pair(rig))
    next_one = Pair(rig)
    assert await next_one.send() == [(Outcome.REJECTED, "BUDGET")] * 2
    assert rig.simulator.faults()[0]["seen"] == 1
    next_one.check_books(pairs=0)


async def test_fault_13_a_pair_outside_the_window_is_not_placed_and_the_clock_measured(rig: Rig) -> None:
    rig.simulator.fault("clock_shift", exchange=rig.name, parameters={"ms": 60_000})
    try:
        await refused(Pair(rig), CLOCK_CODES[rig.name])
        await rig.until(lambda: abs(rig.venue.offset_ms - 60_000) < 1000)
        again = Pair(rig)
        await again.stand()
        await again.withdraw()
    finally:
        rig.simulator.clear_faults()
        await measure_clock(rig)


@pytest.mark.parametrize("shared_rig", BINANCE, indirect=True)  # OKX freezes nothing while an algo order waits
async def test_fault_14_coins_that_are_gone_refuse_the_pair(rig: Rig) -> None:
    held = rig.simulator.balances(rig.keys)["BTC"]["free"]
    rig.simulator.transfer(rig.keys, "BTC", f"-{held}")
    try:
        await refused(Pair(rig), "-2010")
    finally:
        rig.simulator.transfer(rig.keys, "BTC", held)


@pytest.mark.parametrize(("rule", "value"), [("tick", "7"), ("lot", "0.7"), ("min_notional", "900000")])
async def test_fault_31_a_filter_that_changed_refuses_the_pair(rig: Rig, rule: str, value: str) -> None:
    before = {"tick": str(rig.market.tick), "lot": str(rig.market.lot), "min_notional": "5"}
    rig.simulator.set_rules(rig.name, "BTC/USDT", **{rule: value})
    try:
        await refused(Pair(rig))
    finally:
        rig.simulator.set_rules(rig.name, "BTC/USDT", **{rule: before[rule]})


async def test_fault_32_a_halted_market_refuses_the_pair(rig: Rig) -> None:
    def halt(halted: bool) -> None:
        rig.simulator.call("POST", "/market", {"exchange": rig.name, "symbol": "BTC/USDT", "halted": halted})

    halt(True)
    try:
        await refused(Pair(rig))
    finally:
        halt(False)


async def test_fault_33_maintenance_proves_nothing_about_a_pair_that_stands_or_is_sent(rig: Rig) -> None:
    standing, sent = Pair(rig), Pair(rig)
    await standing.stand()
    on_call(rig, "refuse", "*", reason="maintenance")
    assert [outcome for outcome, _ in await sent.send()] == [Outcome.UNKNOWN] * 2
    for order in (standing, sent):
        assert await order.ask() == [OrderState.UNKNOWN] * 2
    rig.simulator.clear_faults()
    rest(rig)
    assert await sent.ask() == [None, None]
    sent.check_books(pairs=0)
    assert await standing.ask() == [PLACED, PLACED]
    await standing.take()


async def test_fault_34_a_restricted_account_places_no_pair(rig: Rig) -> None:
    on_pair(rig, "refuse", reason="account_restricted")
    await refused(Pair(rig), RESTRICTED_CODES[rig.name])


async def test_fault_35_a_revoked_key_is_no_answer_about_a_pair(rig: Rig) -> None:
    standing = Pair(rig)
    await standing.stand()
    rig.simulator.revoke(rig.keys)
    try:
        sent = Pair(rig)
        if rig.path == "rest" or rig.name == "binance":
            await refused(sent, REVOKED_CODES[rig.name])
        assert await standing.ask() == [OrderState.UNKNOWN] * 2, "a key that is gone says nothing of the orders"
        await rig.until(lambda: rig.states[-1] == "failed")
    finally:
        rig.simulator.revoke(rig.keys, False)
    await probe_key(rig)
    await rig.on_its_path()
    assert await standing.ask() == [PLACED, PLACED]
    await standing.take()


async def test_fault_36_a_key_that_may_only_read_still_tells_of_the_pair(rig: Rig) -> None:
    standing = Pair(rig)
    await standing.stand()

    def permit(*permissions: str) -> None:
        keys = rig.keys
        rig.simulator.account(rig.name, api_key=keys.api_key, secret=keys.secret, permissions=permissions)

    permit("read")
    try:
        await refused(Pair(rig), PERMISSION_CODES[rig.name])
        assert await standing.ask() == [PLACED, PLACED]
        assert (await rig.venue.cancel(standing.stop_loss.intent)).outcome is not Outcome.PLACED
    finally:
        permit("read", "trade")
    await probe_key(rig)
    await standing.take()


# -- cancellations and events -------------------------------------------------------------------------------------


async def test_fault_18_a_pair_that_filled_is_not_concluded_from_its_cancellation(rig: Rig) -> None:
    order = Pair(rig)
    await order.stand()
    on_event(rig, "silent")
    go_to(rig, "51100")
    answer = await rig.venue.cancel(order.stop_loss.intent)
    assert answer.outcome is Outcome.REJECTED
    assert order.stop_loss.hear().state is PLACED, "nothing is concluded from it"
    assert (await order.take_profit.settle()).state is FILLED
    assert (await order.stop_loss.settle()).state is CANCELLED
    order.check_books()


@pytest.mark.parametrize("kind", ["drop_request", "drop_response"])
async def test_fault_19_a_pairs_cancellation_without_an_answer_is_asked_for_again(rig: Rig, kind: str) -> None:
    order = Pair(rig)
    await order.stand()
    operation = rig.cancel_operation if rig.name == "binance" else CANCELS[rig.name]
    on_call(rig, kind, operation, count=1, how="reset")
    answer = await rig.venue.cancel(order.take_profit.intent)
    if kind == "drop_request":
        assert answer.outcome is Outcome.PLACED
    else:  # the first one was carried out: the second finds nothing to cancel
        assert answer.outcome is Outcome.REJECTED
        assert rig.name != "binance" or answer.code == GONE_CODES["binance"]
    for one in order.both:
        assert (await one.settle()).state is CANCELLED
    order.check_books()


@pytest.mark.parametrize("shared_rig", BINANCE, indirect=True)  # a leg of OKX's that was not triggered is no order
async def test_fault_20_a_fill_of_a_pair_that_was_cancelled_is_booked_with_an_alarm(rig: Rig) -> None:
    order = Pair(rig)
    await order.stand()
    await order.withdraw()
    (row,) = [row for row in order.at_exchange() if _is_of(row, order.stop_loss)]
    rig.simulator.execute(rig.name, row["id"], "0.25", "49000")
    async with asyncio.timeout(WAIT_SECONDS):
        while not order.stop_loss.hear().fills:
            await order.ask()
            await asyncio.sleep(0.1)
    order.check_books()
    assert any("late fill" in alarm for alarm in order.stop_loss.alarms)


async def test_fault_22_what_is_told_twice_of_a_pair_is_booked_once(rig: Rig) -> None:
    order = Pair(rig)
    await order.stand()
    on_event(rig, "duplicate_event")
    await order.take()


async def test_fault_25_a_part_of_a_take_profit_that_is_not_told_is_found_by_asking(rig: Rig) -> None:
    order = Pair(rig)
    await order.stand()
    on_event(rig, "silent")
    waits = rig.name == "okx"  # until there has been a trade at its level
    rig.simulator.set_book(rig.name, "BTC/USDT", bids=[(PROFIT, "0.201" if waits else "0.2")], asks=[("51500", "5")])
    if waits:
        rig.simulator.trade(rig.name, "BTC/USDT", "SELL", "0.001")
    await order.asked_until([PARTIAL, CANCELLED])
    order.check_books()
    assert (await rig.venue.cancel(order.take_profit.intent)).outcome is Outcome.PLACED
    assert (await order.take_profit.settle()).state is CANCELLED
    order.check_books()


async def test_fault_45_a_fill_that_the_stream_leaves_out_is_found_by_the_sweep(rig: Rig) -> None:
    order = Pair(rig)
    await order.stand()
    on_event(rig, "drop_event", where={"operation": FILL_EVENTS[rig.name]["operation"]})
    go_to(rig, "51100")
    async with asyncio.timeout(WAIT_SECONDS):
        while not any(row["filled"] == "0.5" for row in order.at_exchange()):  # noqa: ASYNC110  (another process)
            await asyncio.sleep(0.05)
    rig.simulator.clear_faults()
    rig.venue._stream.renew("the test left something out")
    await rig.until(lambda: order.take_profit.hear().filled)
    assert (await order.take_profit.settle()).state is FILLED
    assert (await order.stop_loss.settle()).state is CANCELLED
    order.check_books()
