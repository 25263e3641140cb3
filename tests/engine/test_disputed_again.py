"""A disputed order that shows life is asked about again, also when its trade has ended and what it shows is known."""

from __future__ import annotations

from decimal import Decimal

from tests.engine.worlds import World
from trading.messages import Fill, OrderEvent, OrderState, TradeState

D = Decimal


async def test_a_known_fill_told_again_does_not_end_a_dispute() -> None:
    world = World(faulty=True)
    world.one_venue.script = ["lose_request"]
    await world.start()
    await world.edge()
    await world.clock.run_until(lambda: world.one_venue.sent)
    intent = world.one_venue.sent[0]
    fill = Fill(
        account_id=11, market=intent.market, exchange_trade_id="t1", exchange_order_id="o1",
        client_order_id=intent.client_order_id, side="buy", price=intent.price, quantity=D("0.0100"), fee=D(0),
        fee_asset="BTC", liquidity="taker", exchange_ns=0,
    )  # fmt: skip
    event = OrderEvent(
        account_id=11, market=intent.market, client_order_id=intent.client_order_id, exchange_order_id="o1",
        state=OrderState.PARTIALLY_FILLED, fills=(fill,), source="query",
    )  # fmt: skip
    world.one_venue._tell(event)
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    assert world.store.states[intent.client_order_id] is OrderState.DISPUTED

    world.one_venue._tell(event)
    assert world.engine.status().open_trades  # it is asked about
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    await world.stop()

    (record,) = world.store.trades.values()
    assert world.store.states[intent.client_order_id] is OrderState.DISPUTED
    assert world.engine.status().unresolved_orders == [intent.client_order_id]
    assert record.state is TradeState.EXPOSED
