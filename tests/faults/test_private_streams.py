"""Private streams that end, are ended, or fall silent: live again only after a sweep, and what happened is told."""

from __future__ import annotations

import pytest

from tests.exchanges.venue_rig import Rig
from tests.faults.wire import (  # noqa: F401
    FILL_EVENTS,
    followed,
    on_event,
    resting,
    rig,
    shared_rig,
    shared_simulator,
)
from trading.execution.states import FILLED, PLACED
from trading.messages import OrderEvent, Outcome, StreamState

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ends_and_comes_back(rig: Rig, action: str) -> None:  # noqa: F811
    """A resting order fills while the stream is gone; that is told before the stream is called live again."""
    order = resting(rig, price="40000", quantity="0.5")
    await order.send()
    await order.heard(PLACED)
    # Whatever the ended stream might still have told is lost: the sweep alone can know.
    on_event(rig, "drop_event", where=FILL_EVENTS[rig.name], count=1)
    began = len(rig.told)
    assert rig.simulator.disturb(rig.name, action, rig.keys.api_key) >= 1
    rig.simulator.set_book(rig.name, "BTC/USDT", bids=[("30000", "1")], asks=[("50000", "1")])
    rig.simulator.trade(rig.name, "BTC/USDT", "SELL", "0.5", "40000")
    await rig.until(lambda: rig.states[-1] == "live" and "down" in states_since(rig, began))
    assert (await order.settle()).state is FILLED
    order.check_books()
    rig.simulator.clear_faults()
    rig.show_book()
    after = followed(rig, quantity="0.1")
    assert (await after.send()).outcome is Outcome.PLACED
    await rig.until(lambda: any(event.source == "stream" and event.fills for event in rig.events(after.intent)))
    assert (await after.settle()).state is FILLED
    after.check_books()


def states_since(rig: Rig, began: int) -> list[str]:  # noqa: F811
    return [message.state for message in rig.told[began:] if isinstance(message, StreamState)]


async def test_fault_41_a_connection_at_its_end_is_replaced(rig: Rig) -> None:  # noqa: F811
    await ends_and_comes_back(rig, "close")


async def test_fault_41_a_connection_that_is_cut_is_replaced(rig: Rig) -> None:  # noqa: F811
    await ends_and_comes_back(rig, "cut")


# Bybit closes connections without one.
@pytest.mark.parametrize("shared_rig", ["binance", "okx", "binance-websocket", "okx-websocket"], indirect=True)
async def test_fault_42_a_notice_of_the_end_is_acted_on(rig: Rig) -> None:  # noqa: F811
    await ends_and_comes_back(rig, "notice")


async def test_fault_43_what_a_mute_stream_keeps_back_is_found_by_asking(rig: Rig) -> None:  # noqa: F811
    order = resting(rig, price="40000", quantity="0.5")
    await order.send()
    on_event(rig, "silent")
    rig.simulator.set_book(rig.name, "BTC/USDT", bids=[("30000", "1")], asks=[("50000", "1")])
    rig.simulator.trade(rig.name, "BTC/USDT", "SELL", "0.5", "40000")
    assert rig.states[-1] == "live", "nothing on the wire says that the stream is mute"
    assert (await order.settle()).state is FILLED
    order.check_books()


async def test_fault_44_a_login_that_expires_is_renewed(rig: Rig) -> None:  # noqa: F811
    await ends_and_comes_back(rig, "expire")


async def test_fault_45_a_fill_lost_before_a_cut_is_told_by_the_sweep(rig: Rig) -> None:  # noqa: F811
    order = resting(rig, price="40000", quantity="0.5")
    await order.send()
    await order.heard(PLACED)
    on_event(rig, "drop_event", where=FILL_EVENTS[rig.name], count=1)
    rig.simulator.set_book(rig.name, "BTC/USDT", bids=[("30000", "1")], asks=[("50000", "1")])
    rig.simulator.trade(rig.name, "BTC/USDT", "SELL", "0.2", "40000")
    began = len(rig.told)
    rig.simulator.disturb(rig.name, "cut", rig.keys.api_key)
    await rig.until(lambda: rig.states[-1] == "live" and "down" in states_since(rig, began))
    live = max(index for index, message in enumerate(rig.told) if isinstance(message, StreamState))
    swept = [
        fill.exchange_trade_id
        for message in rig.told[began:live]
        if isinstance(message, OrderEvent) and message.client_order_id == order.intent.client_order_id
        for fill in message.fills
    ]
    assert sorted(set(swept)) == sorted(row["trade_id"] for row in order.rows())
    await rig.venue.cancel(order.intent)
    await order.settle()
    order.check_books()
