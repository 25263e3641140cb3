"""Examples of intents, fills and events."""

from __future__ import annotations

from decimal import Decimal

from trading.messages import Fill, OrderEvent, OrderIntent, OrderState

D = Decimal


def intent(quantity: str = "1", price: str = "100", side: str = "buy", **changes: object) -> OrderIntent:
    settings: dict[str, object] = {
        "client_order_id": "order-1",
        "trade_id": "trade-1",
        "account_id": 1,
        "market": "alpha:BTC/USDT",
        "leg": 0,
        "attempt": 0,
        "side": side,
        "price": D(price),
        "quantity": D(quantity),
        "deadline_ns": 10**18,
        "created_ns": 0,
        **changes,
    }
    return OrderIntent(**settings)  # type: ignore[arg-type]


def fill(trade_id: str, quantity: str, price: str = "100", **changes: object) -> Fill:
    settings: dict[str, object] = {
        "account_id": 1,
        "market": "alpha:BTC/USDT",
        "exchange_trade_id": trade_id,
        "exchange_order_id": "x-1",
        "client_order_id": "order-1",
        "side": "buy",
        "price": D(price),
        "quantity": D(quantity),
        "fee": D("0.01"),
        "fee_asset": "USDT",
        "liquidity": "taker",
        "exchange_ns": 1,
        **changes,
    }
    return Fill(**settings)  # type: ignore[arg-type]


def event(state: OrderState, *fills: Fill, filled: str | None = None, **changes: object) -> OrderEvent:
    settings: dict[str, object] = {
        "account_id": 1,
        "market": "alpha:BTC/USDT",
        "client_order_id": "order-1",
        "state": state,
        "filled": None if filled is None else D(filled),
        "fills": fills,
        "source": "stream",
        **changes,
    }
    return OrderEvent(**settings)  # type: ignore[arg-type]
