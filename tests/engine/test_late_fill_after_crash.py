"""A late fill written by a process that died before it said what became of the trade is settled still."""

from __future__ import annotations

from decimal import Decimal

from tests.engine.test_recovery import die, mortal_world, take_over
from trading.messages import Fill, OrderEvent, OrderState, TradeState

D = Decimal


async def test_a_fill_without_its_trade_is_taken_up_when_it_is_told_again() -> None:
    world = mortal_world(("none",), ("none",))
    await world.start()
    await world.edge()
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    await world.no_edge()
    (record,) = world.store.trades.values()
    assert record.state is TradeState.FAILED
    intent = world.one_venue.sent[0]
    fill = Fill(
        account_id=11, market=intent.market, exchange_trade_id="late", exchange_order_id="o1",
        client_order_id=intent.client_order_id, side="buy", price=intent.price, quantity=D("0.0100"), fee=D(0),
        fee_asset="BTC", liquidity="taker", exchange_ns=0,
    )  # fmt: skip
    event = OrderEvent(
        account_id=11, market=intent.market, client_order_id=intent.client_order_id, exchange_order_id="o1",
        state=OrderState.PARTIALLY_FILLED, fills=(fill,), source="query",
    )  # fmt: skip
    await die(world)
    world.store.record_event(event, OrderState.CANCELLED)

    await take_over(world, token=4)
    world.one_venue._tell(event)
    await world.clock.run_until(lambda: world.store.trades[record.trade_id].state is not TradeState.FAILED)
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    await world.stop()

    after = world.store.trades[record.trade_id]
    sold = sum(intent.quantity for intent in world.one_venue.sent + world.other_venue.sent if intent.attempt > 0)
    assert (after.state, after.residual_base, sold) in {
        (TradeState.CLOSED, D(0), D("0.0100")),
        (TradeState.EXPOSED, D("0.0100"), D(0)),
    }
