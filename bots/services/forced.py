"""Orders that an exchange made by itself to close a position of ours: rows from their first event on."""

from __future__ import annotations

from collections.abc import Iterable

from bots.models import Fill, Market, Order, Trade
from bots.services.order_columns import order_columns
from bots.times import from_ns
from trading.messages import OrderEvent, OrderState


def orders_made(
    *, owner_id: int, token: int, events: Iterable[OrderEvent], known: dict[str, Order], markets: dict[str, Market]
) -> dict[str, Order]:
    """Insert the orders that the exchange made and no row tells of yet; return them by client order id.

    Runs in the transaction that books their fills. What a fill with an order tells already is left out: another process
    has found its trade.
    """
    wanted = {event.client_order_id: event for event in events if event.made is not None}
    made: dict[str, Order] = {}
    for client_id, event in wanted.items():
        intent = event.made
        if intent is None or client_id in known or intent.market not in markets:
            continue
        market = markets[intent.market]
        ids = [fill.exchange_trade_id for fill in event.fills]
        booked = Fill.objects.filter(account_id=intent.account_id, market=market, exchange_trade_id__in=ids)
        trade = Trade.objects.filter(owner_id=owner_id, trade_id=intent.trade_id).first()
        if trade is None or booked.exclude(order=None).exists():
            continue
        made[client_id] = Order.objects.create(
            **order_columns(intent),
            owner_id=owner_id,
            trade=trade,
            market=market,
            state=OrderState.PENDING.value,
            lease_token=token,
            updated_at=from_ns(intent.created_ns),
        )
    return made
