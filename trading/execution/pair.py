"""What the fills of a spot-against-perpetual trade leave: in its hands, unhedged, and earned. Pure, in Decimal.

Orders of legs below :data:`SPOT_CLOSE_LEG` enter, those from there on leave; even legs are of the spot market. What
others closed of the perpetual position (a liquidation, a person) counts as bought back by an exit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from trading.basis import SPOT_CLOSE_LEG, BasisStanding
from trading.execution.order import Order
from trading.execution.position import position_of
from trading.execution.repair import smallest_order
from trading.execution.result import ZERO, Result, Tally, Valuation, tally
from trading.instruments import Market, base_quantity, lot_quantity

BPS = Decimal(10_000)
FIGURE = Decimal("1e-6")


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What is held: ``spot`` in base units after fees that were taken in base, ``perp`` short contracts (negative: more
    was bought back than there was). Prices are the averages of the entries."""

    spot: Decimal
    perp: Decimal
    spot_price: Decimal | None
    perp_price: Decimal | None

    def perp_base(self, market: Market) -> Decimal:
        """Return the short position in base units."""
        return base_quantity(market, self.perp, Decimal(1))


def pair_of(orders: Iterable[Order], spot: Market, perp: Market, outside: Decimal = ZERO) -> Pair:
    """Return what fills leave; ``outside`` is what others closed of the perpetual, in base units."""
    known = list(orders)
    bought = position_of((order for order in known if order.intent.market == spot.key), spot, "buy")
    shorted = position_of((order for order in known if order.intent.market == perp.key), perp, "sell")
    return Pair(
        spot=bought.held,
        perp=shorted.held - outside / perp.contract_size,
        spot_price=bought.entry_price,
        perp_price=shorted.entry_price,
    )


def is_exit(order: Order) -> bool:
    return order.intent.leg >= SPOT_CLOSE_LEG


def unhedged(
    orders: Sequence[Order], markets: Mapping[str, Market], spot: Market, perp: Market, standing: BasisStanding
) -> Tally:
    """Return the fills that are not hedged, as a tally whose residual is what is to be bought or sold for that.

    While a pair is entered that is what one leg has more than the other; once it is being left, what was closed of one
    leg counts too. The two have not the same to close where fees took some of the spot leg: up to that they are even.
    Where one leg is closed, as far as its market takes orders, all that is left of the other is unhedged: lots that
    differ would leave some of it.
    """
    leaving = [order for order in orders if is_exit(order)]
    if not leaving and not standing.outside:
        return tally(orders, markets)
    entering = [order for order in orders if not is_exit(order)]
    entered, pair, known = tally(entering, markets), pair_of(entering, spot, perp), tally(leaving, markets)
    price = standing.outside_price or pair.perp_price or ZERO
    bought, paid = known.bought + standing.outside, known.paid + standing.outside * price
    sold, received = known.sold, known.received
    over = entered.residual
    if entered.entry_price is not None and over > 0:
        bought, paid = bought + over, paid + over * entered.entry_price
    elif entered.entry_price is not None:
        sold, received = sold - over, received - over * entered.entry_price
    taken = over - (pair.spot - pair.perp_base(perp))  # of the spot leg, by fees
    allowed = min(max(bought - sold, ZERO), taken)
    if allowed > 0:
        paid -= allowed * paid / bought
        bought -= allowed
    now = pair_of(orders, spot, perp, standing.outside)
    spot_left, perp_left = _left(now.spot, spot, pair.spot_price), _left(now.perp, perp, pair.perp_price)
    if spot_left and not perp_left and bought:
        paid, bought = paid / bought * (sold + spot_left), sold + spot_left
    elif perp_left and not spot_left and sold:
        wanted = bought + perp_left * perp.contract_size
        received, sold = received / sold * wanted, wanted
    return msgspec.structs.replace(known, bought=bought, sold=sold, paid=paid, received=received)


def _left(held: Decimal, market: Market, price: Decimal | None) -> Decimal:
    """Return what of a leg can be closed yet: whole lots, none if they are less than the market takes as an order."""
    whole = lot_quantity(max(held, ZERO), market)
    return ZERO if price is None or whole < smallest_order(market, price) else whole


def result_of_pair(
    orders: Sequence[Order],
    markets: Mapping[str, Market],
    spot: Market,
    perp: Market,
    standing: BasisStanding,
    value: Valuation,
) -> Result:
    """Return what a pair has earned: all fills, what others closed, fees and funding; what is held stands at its entry.

    A fee that was taken in base has made the spot leg smaller, which is all it costs.
    """
    total = tally(orders, markets)
    pair = pair_of(orders, spot, perp, standing.outside)
    short = pair.perp_base(perp)
    profit = total.received - total.paid + standing.funding
    if standing.outside:
        profit -= standing.outside * (standing.outside_price or pair.perp_price or ZERO)
    profit += pair.spot * (pair.spot_price or ZERO) - short * (pair.perp_price or ZERO)
    unvalued: dict[str, Decimal] = {}
    for asset, amount in total.fees.items():
        if asset == spot.base:
            continue
        price = Decimal(1) if asset == spot.quote else value(asset, spot.quote)
        if price is None:
            unvalued[asset] = amount
        else:
            profit -= amount * price
    return Result(tally=total, profit=profit, residual=pair.spot - short, unvalued=unvalued)


def entry_bps(pair: Pair, spot: Market, perp: Market) -> Decimal | None:
    """Return what was entered on: the difference of both averages less the fees of four legs, in basis points."""
    if pair.spot_price is None or pair.perp_price is None:
        return None
    gross = pair.perp_price / pair.spot_price - 1
    fees = 2 * spot.taker_fee + perp.taker_fee * (1 + pair.perp_price / pair.spot_price)
    return ((gross - fees) * BPS).quantize(FIGURE)


def fees_in_quote(orders: Iterable[Order], spot: Market, value: Valuation) -> Decimal:
    """Return what fills have cost so far in quote; a fee in base at its fill's price, one of unknown value at 0."""
    total = ZERO
    for order in orders:
        for fill in order.fills.values():
            if fill.fee is None:
                continue
            if fill.fee_asset == spot.quote:
                total += fill.fee
            elif fill.fee_asset == spot.base:
                total += fill.fee * fill.price
            else:
                total += fill.fee * (value(fill.fee_asset, spot.quote) or ZERO)
    return total
