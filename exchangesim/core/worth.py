"""What an asset is worth in US dollars at one exchange, for the figures that account answers carry."""

from __future__ import annotations

from decimal import Decimal

from exchangesim.core.exchange import SimExchange

DOLLARS = ("USDT", "USDC", "USD")


def usd_price(exchange: SimExchange, asset: str) -> Decimal | None:
    """Return an asset's last price against a dollar coin listed here, which counts as one dollar; None if unlisted."""
    if asset in DOLLARS:
        return Decimal(1)
    for dollar in DOLLARS:
        market = exchange.by_symbol.get(f"{asset}/{dollar}")
        if market is not None:
            return market.last_price
    return None
