"""In what simulated exchanges differ beyond their numbers, and the policies of those there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangePolicy:
    """In what exchanges differ beyond numbers."""

    client_ids_unique_forever: bool = False
    """False: a client id may be used again once its order has closed (Binance). True: never again (OKX, Bybit)."""
    post_only_refused: bool = True
    """A post-only order that would match is refused (Binance), or accepted and cancelled at once (OKX, Bybit)."""
    late_triggers_fire: bool = False
    """A pending leg whose price has been passed when its time comes is triggered at once (OKX, Bybit), else refused."""
    max_conditional: int = 200
    """Conditional orders an account may have open in a market."""
    max_lists: int = 200
    """Order lists it may."""
    first_order_id: int = 1
    first_list_id: int = 1
    first_trade_id: int = 1
    first_update_id: int = 1
    make_client_id: Callable[[int], str] = str
    """Client id for an order that brought none, from the order id. May return ``""`` (OKX, Bybit leave it empty)."""
    make_list_id: Callable[[int], str] = str
    """The same for order lists."""


POLICIES: dict[str, ExchangePolicy] = {
    "binance": ExchangePolicy(
        max_conditional=5,
        max_lists=20,
        first_order_id=30_000_001,
        first_trade_id=3_700_000_001,
        first_update_id=50_000_000_001,
        make_client_id=lambda order_id: f"sim{order_id:019d}",
        make_list_id=lambda list_id: f"list{list_id:018d}",
    ),
    "okx": ExchangePolicy(
        client_ids_unique_forever=True,
        post_only_refused=False,
        late_triggers_fire=True,
        first_list_id=2_500_000_000_000_000_001,
        first_order_id=2_000_000_000_000_000_001,
        first_trade_id=700_000_001,
        first_update_id=120_000_000_001,
        make_client_id=lambda _: "",
    ),
    "bybit": ExchangePolicy(
        client_ids_unique_forever=True,
        post_only_refused=False,
        late_triggers_fire=True,
        first_list_id=1_950_000_000_000_000_001,
        first_order_id=1_900_000_000_000_000_001,
        first_trade_id=2_290_000_000_000_001,
        first_update_id=70_000_001,
        make_client_id=lambda _: "",
    ),
    "binanceusdm": ExchangePolicy(
        first_order_id=8_000_000_001,
        first_trade_id=5_800_000_001,
        first_update_id=7_000_000_000_001,
        make_client_id=lambda order_id: f"sim{order_id:019d}",
    ),
}
