"""The generic dialect, which knows nothing of an exchange: ccxt's unified API alone, against a simulated exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from tests.exchanges.venue_rig import Rig
from tests.exchangesim.simulator import Simulator, shared_simulator  # noqa: F401
from trading.exchanges.generic import venue
from trading.exchanges.generic.dialect import Dialect
from trading.messages import OrderState as S
from trading.messages import Outcome

D = Decimal


class PlainOkx(Dialect):
    """Nothing but which market type ccxt is to use."""

    options = {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}  # noqa: RUF012


@pytest.fixture
async def rig(shared_simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:  # noqa: F811
    shared_simulator.clear_faults()
    monkeypatch.setattr(venue, "dialect_class", lambda ccxt_id: PlainOkx)
    rig = await Rig.make(shared_simulator, "okx")
    yield rig
    await rig.close()
    shared_simulator.clear_faults()


async def test_orders_fills_questions_and_balances(rig: Rig) -> None:
    intent = rig.intent(quantity="0.12345678", price="50000.1")
    result = await rig.venue.place(intent)
    assert result.outcome is Outcome.PLACED
    assert result.exchange_order_id
    await rig.until(lambda: any(event.state is S.FILLED for event in rig.events(intent)))
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert (asked.state, asked.filled) == (S.FILLED, intent.quantity)
    (fill,) = asked.fills
    (truth,) = [
        row
        for row in rig.simulator.fills("okx", api_key=rig.keys.api_key)
        if row["client_id"] == intent.client_order_id
    ]
    assert (fill.exchange_trade_id, fill.price, fill.quantity) == (truth["trade_id"], D("50000"), intent.quantity)
    assert (fill.fee, fill.fee_asset) == (D(truth["fee"]), truth["fee_asset"])
    # The stream's word on fees is not taken.
    assert all(told.fee is None or told.fee == fill.fee for told in rig.fills(intent).values())
    balances = {balance.asset: balance.free for balance in await rig.venue.balances()}
    assert balances["BTC"] == D(rig.simulator.balances(rig.keys)["BTC"]["free"])


async def test_a_refusal_it_cannot_read_is_unknown(rig: Rig) -> None:
    intent = rig.intent(quantity="900")
    result = await rig.venue.place(intent)
    assert result.outcome is Outcome.UNKNOWN
    assert rig.orders_at_exchange(intent) == []


async def test_a_lost_answer_is_unknown_and_adopted(rig: Rig) -> None:
    rig.simulator.fault(
        "drop_response",
        exchange="okx",
        operation="POST *",
        api_key=rig.keys.api_key,
        count=1,
        parameters={"how": "reset"},
    )
    intent = rig.intent()
    assert (await rig.venue.place(intent)).outcome is Outcome.UNKNOWN
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert asked.state is S.FILLED
    assert sum(fill.quantity for fill in asked.fills) == intent.quantity


async def test_a_cut_stream_is_swept(rig: Rig) -> None:
    rig.simulator.fault("disconnect", stage="event", exchange="okx", api_key=rig.keys.api_key, count=1)
    intent = rig.intent(quantity="0.5")
    await rig.venue.place(intent)
    await rig.until(lambda: rig.states[-2:] == ["down", "live"])
    await rig.until(lambda: sum(fill.quantity for fill in rig.fills(intent).values()) == D("0.5"))
