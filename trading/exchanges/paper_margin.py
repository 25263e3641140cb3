"""Which position of a paper account its exchange would liquidate now, and at what price. Pure, in Decimal.

As under cross margin: behind each position stands all that the account has of its settle asset, with what its other
positions have gained or lost, less what they have to keep. Contracts whose margin tiers are not known, and inverse
ones, are never liquidated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from trading.exchanges.paper_money import PaperMoney, PaperPosition, settle_of
from trading.instruments import Market
from trading.margin import Held, liquidation_price, maintenance

ZERO = Decimal(0)


def due(
    money: PaperMoney, markets: Mapping[str, Market], mark_of: Callable[[Market], Decimal | None]
) -> tuple[Market, Decimal] | None:
    """Return the first position that has passed its liquidation price, and that price, on the tick nearer to its entry;
    None while there is none. A position without a mark price counts at its entry."""
    for key, position in money.positions.items():
        market = markets.get(key)
        mark = None if market is None or not position.quantity else mark_of(market)
        if market is None or mark is None or not market.tiers or market.kind != "linear":
            continue
        size = position.quantity * market.contract_size
        behind = _behind(money, markets, mark_of, market)
        price = liquidation_price(Held(size, size * position.entry), behind, market.tiers)
        if price is None or (mark > price if size > 0 else mark < price):
            continue
        steps = (price / market.tick).to_integral_value(ROUND_CEILING if size > 0 else ROUND_FLOOR)
        return market, max(steps, Decimal(1)) * market.tick
    return None


def _behind(
    money: PaperMoney,
    markets: Mapping[str, Market],
    mark_of: Callable[[Market], Decimal | None],
    own: Market,
) -> Decimal:
    """Return what stands behind a position: the wallet, and what other positions of the same asset add or keep."""
    settle = settle_of(own)
    total = money.free.get(settle, ZERO) + money.used.get(settle, ZERO)
    for key, position in money.positions.items():
        market = markets.get(key)
        if key == own.key or market is None or market.kind != "linear" or settle_of(market) != settle:
            continue
        total += _adds(market, position, mark_of(market) or position.entry)
    return total


def _adds(market: Market, position: PaperPosition, mark: Decimal) -> Decimal:
    size = position.quantity * market.contract_size
    kept = maintenance(market.tiers, abs(size) * mark) if market.tiers and size else ZERO
    return size * (mark - position.entry) - kept
