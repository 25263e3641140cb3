"""The private stream of a real account: lost, mute, cut in the middle; nothing it missed stays missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.exchanges.venue_rig import WAIT_SECONDS, Rig, spec_of
from tests.exchangesim.simulator import Credentials as Keys
from tests.exchangesim.simulator import Simulator, shared_simulator  # noqa: F401
from trading.exchanges.generic import venue as venue_module
from trading.exchanges.markets import load_markets
from trading.messages import AccountBalance, Outcome, StreamState
from trading.messages import OrderState as S

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(params=["binance", "okx", "bybit"], scope="module", loop_scope="module")
async def shared_rig(request: pytest.FixtureRequest, shared_simulator: Simulator) -> AsyncIterator[Rig]:  # noqa: F811
    rig = await Rig.make(shared_simulator, request.param)
    yield rig
    await rig.close()


@pytest_asyncio.fixture(loop_scope="module")
async def rig(shared_rig: Rig) -> AsyncIterator[Rig]:
    """The venue with its stream live and no fault about."""
    shared_rig.simulator.clear_faults()
    shared_rig.show_book()
    await shared_rig.until(lambda: shared_rig.states[-1:] == ["live"])
    yield shared_rig
    shared_rig.simulator.clear_faults()


async def test_a_cut_stream_comes_back_live_only_after_a_sweep(rig: Rig) -> None:
    known = rig.intent(quantity="0.1")
    await rig.venue.place(known)
    await rig.until(lambda: rig.fills(known))
    rig.simulator.fault("disconnect", stage="event", exchange=rig.name, api_key=rig.keys.api_key, count=1)
    missed = rig.intent(quantity="0.2")
    result = await rig.venue.place(missed)
    assert result.outcome is Outcome.PLACED
    await rig.until(lambda: rig.states[-2:] == ["down", "live"])
    live_at = len(rig.told) - next(
        index for index, message in enumerate(reversed(rig.told)) if isinstance(message, StreamState)
    )
    before_live = rig.told[:live_at]
    told = {
        fill.exchange_trade_id
        for message in before_live
        for fill in getattr(message, "fills", ())
        if fill.client_order_id == missed.client_order_id
    }
    truth = {
        row["trade_id"]
        for row in rig.simulator.fills(rig.name, api_key=rig.keys.api_key)
        if row["client_id"] == missed.client_order_id
    }
    assert told == truth
    # And it is a stream again.
    after = rig.intent(quantity="0.1")
    await rig.venue.place(after)
    await rig.until(lambda: any(event.state is S.FILLED for event in rig.events(after)))


async def test_a_mute_stream_is_made_up_for_by_asking(rig: Rig) -> None:
    rig.simulator.fault("silent", stage="event", exchange=rig.name, api_key=rig.keys.api_key)
    intent = rig.intent(quantity="0.1")
    assert (await rig.venue.place(intent)).outcome is Outcome.PLACED
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert asked.state is S.FILLED
    assert asked.fills


async def test_fills_told_twice_have_one_id(rig: Rig) -> None:
    rig.simulator.fault("duplicate_event", stage="event", exchange=rig.name, api_key=rig.keys.api_key)
    intent = rig.intent(quantity="1.5", price="50010")
    await rig.venue.place(intent)
    await rig.until(lambda: sum(fill.quantity for fill in rig.fills(intent).values()) == intent.quantity)
    await rig.until(lambda: sum(event.state is S.FILLED for event in rig.events(intent)) >= 2)
    assert sum(fill.quantity for fill in rig.fills(intent).values()) == intent.quantity


async def test_a_message_that_cannot_be_read_counts_as_a_loss(rig: Rig) -> None:
    rig.venue._stream._tap(
        {
            "binance": {"subscriptionId": 0, "event": {"e": "executionReport", "x": "TRADE"}},
            "okx": {"arg": {"channel": "orders"}, "data": [{"ordId": "1"}]},
            "bybit": {"topic": "execution", "data": [{"category": "spot", "execQty": "NaN"}]},
        }[rig.name]
    )
    await rig.until(lambda: rig.states[-2:] == ["down", "live"])


async def test_wrong_keys_fail_with_a_reason_and_no_order(shared_simulator: Simulator) -> None:  # noqa: F811
    for name in ("binance", "okx", "bybit"):
        keys = shared_simulator.account(name, balances={"USDT": "1"})
        markets = await load_markets(spec_of(shared_simulator, name))
        wrong = Keys(exchange=name, api_key=keys.api_key, secret="0" * 64, passphrase=keys.passphrase)
        rig = Rig(shared_simulator, name, wrong, next(market for market in markets if market.symbol == "BTC/USDT"))
        starting = asyncio.ensure_future(rig.venue.start(rig._listen))
        await rig.until(lambda rig=rig: "failed" in rig.states)  # type: ignore[misc]
        assert "live" not in rig.states
        result = await rig.venue.place(rig.intent())
        assert (result.outcome, result.code) == (Outcome.REJECTED, "LOCAL")
        starting.cancel()
        await rig.close()


async def test_an_exchange_that_is_down_at_the_start_is_waited_for(shared_simulator: Simulator) -> None:  # noqa: F811
    shared_simulator.clear_faults()
    fault = shared_simulator.fault("error", exchange="okx", operation="GET *", parameters={"status": 503})
    keys = shared_simulator.account("okx", balances={"USDT": "1000"})
    market = (await Rig.make(shared_simulator, "bybit", start=False)).market
    rig = Rig(shared_simulator, "okx", keys, market)
    starting = asyncio.ensure_future(rig.venue.start(rig._listen))
    await rig.until(lambda: rig.states)
    assert rig.states[0] in {"failed", "down"}
    assert not starting.done()
    shared_simulator.call("DELETE", f"/faults/{fault}")
    await asyncio.wait_for(starting, WAIT_SECONDS)
    await rig.until(lambda: rig.states[-1] == "live")
    await rig.close()


async def test_closing_ends_every_task(shared_simulator: Simulator) -> None:  # noqa: F811
    shared_simulator.clear_faults()
    rig = await Rig.make(shared_simulator, "okx")
    await rig.close()
    told = len(rig.told)
    result = await rig.venue.place(rig.intent())
    assert result.outcome is Outcome.REJECTED
    assert len(rig.told) == told


async def test_an_account_whose_own_code_breaks_is_not_live_until_it_runs_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venue_module, "RESTART_SECONDS", 0.1)
    tell, broken = rig.venue._tell, []

    def breaks_once(message: object) -> None:
        if isinstance(message, AccountBalance) and not broken:
            broken.append(message)
            raise RuntimeError("a bug in whoever listens")
        tell(message)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.venue, "_tell", breaks_once)
    rig.venue._doubted.notify()  # which asks for the balances, too
    await rig.until(lambda: rig.states[-1] == "failed")
    await rig.until(lambda: rig.states[-1] == "live")
    after = rig.intent(quantity="0.1")
    await rig.venue.place(after)
    await rig.until(lambda: any(event.state is S.FILLED for event in rig.events(after)))
