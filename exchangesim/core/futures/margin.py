"""An account's margin: what its positions and open orders bind, what is free, and where liquidation begins.

Sources: https://www.binance.com/en/support/faq/b3c689c1f50a44cabb3a84e663b81d93 (liquidation price),
https://www.binance.com/en/support/faq/87fa7ee33b574f7084d42bd2ce2e463b (initial margin and the cost of an order).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from exchangesim.core.futures.brackets import bracket_of, maintenance
from exchangesim.core.futures.positions import Position, Settings
from exchangesim.core.orders import ZERO, Order, PositionSide, Side
from exchangesim.core.rules import SymbolRules


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionMargin:
    """One position at the mark price. Amounts in quote units."""

    position: Position
    rules: SymbolRules
    leverage: int
    isolated: bool
    mark: Decimal
    notional: Decimal
    """With the position's sign."""
    unrealized: Decimal
    initial: Decimal
    maintenance: Decimal
    orders_initial: Decimal
    """What open orders would add to the initial margin."""
    bid_notional: Decimal
    ask_notional: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountMargin:
    """An account's margin in one asset."""

    wallet: Decimal
    cross_wallet: Decimal
    """The wallet without what isolated positions have to themselves."""
    unrealized: Decimal
    cross_unrealized: Decimal
    positions_initial: Decimal
    orders_initial: Decimal
    maintenance: Decimal
    cross_maintenance: Decimal
    available: Decimal
    """What new orders may bind; not below zero."""
    positions: tuple[PositionMargin, ...]
    """Every position that is open or that open orders concern."""

    @property
    def balance(self) -> Decimal:
        """The margin balance: wallet and unrealised profit."""
        return self.wallet + self.unrealized

    @property
    def cross_balance(self) -> Decimal:
        return self.cross_wallet + self.cross_unrealized


@dataclass(frozen=True, slots=True)
class Resting:
    """The part of an order that may still open a position."""

    native: str
    side: Side
    position_side: PositionSide
    notional: Decimal

    @classmethod
    def of(cls, order: Order) -> Resting:
        return cls(order.native, order.side, order.position_side, order.remaining * order.price)


def account_margin(
    wallet: Decimal,
    positions: Iterable[Position],
    resting: Iterable[Resting],
    settings: Settings,
    rules: Mapping[str, SymbolRules],
    mark: Callable[[str], Decimal],
) -> AccountMargin:
    """Return an account's margin; ``resting`` are its open orders that are not reduce-only."""
    held = {(position.native, position.side): position for position in positions}
    bids: dict[tuple[str, PositionSide], Decimal] = {}
    asks: dict[tuple[str, PositionSide], Decimal] = {}
    for order in resting:
        key = (order.native, order.position_side)
        side = bids if order.side is Side.BUY else asks
        side[key] = side.get(key, ZERO) + order.notional
        if key not in held:
            held[key] = Position(api_key="", native=order.native, side=order.position_side)
    figures = [
        _position(position, settings, rules[native], mark(native), bids.get(key, ZERO), asks.get(key, ZERO))
        for key, position in held.items()
        for native in (position.native,)
        if position.quantity or key in bids or key in asks
    ]
    cross = [figure for figure in figures if not figure.isolated]
    cross_wallet = wallet - sum((figure.position.isolated_wallet for figure in figures), ZERO)
    cross_unrealized = _total(figure.unrealized for figure in cross)
    orders_initial = _total(figure.orders_initial for figure in figures)
    free = cross_wallet + cross_unrealized - _total(figure.initial for figure in cross) - orders_initial
    return AccountMargin(
        wallet=wallet,
        cross_wallet=cross_wallet,
        unrealized=_total(figure.unrealized for figure in figures),
        cross_unrealized=cross_unrealized,
        positions_initial=_total(figure.initial for figure in figures),
        orders_initial=orders_initial,
        maintenance=_total(figure.maintenance for figure in figures),
        cross_maintenance=_total(figure.maintenance for figure in cross),
        available=max(ZERO, free),
        positions=tuple(figures),
    )


def liquidation_price(account: AccountMargin, wanted: PositionMargin) -> Decimal:
    """Return the mark price at which a position is liquidated while all others stay; zero when there is none.

    Both sides of a hedged contract move together.
    """
    if not wanted.position.quantity:
        return ZERO
    if wanted.isolated:
        together, margin = [wanted], wanted.position.isolated_wallet
    else:
        cross = [figure for figure in account.positions if not figure.isolated]
        together = [figure for figure in cross if figure.position.native == wanted.position.native]
        others = [figure for figure in cross if figure not in together]
        margin = account.cross_wallet + _total(other.unrealized - other.maintenance for other in others)
    cost, slope = -margin, ZERO
    for figure in together:
        bracket = bracket_of(figure.rules.base, figure.notional)
        cost += figure.position.cost - bracket.cum
        slope += figure.position.quantity - abs(figure.position.quantity) * bracket.rate
    price = cost / slope if slope else ZERO
    return max(ZERO, price)


def _position(
    position: Position, settings: Settings, rules: SymbolRules, mark: Decimal, bids: Decimal, asks: Decimal
) -> PositionMargin:
    leverage = settings.leverage(position.native)
    notional = position.quantity * mark
    initial = abs(notional) / leverage
    # Whatever fills first, only the larger side's outcome must be affordable.
    outcome = max(abs(notional), abs(notional + bids), abs(notional - asks))
    return PositionMargin(
        position=position,
        rules=rules,
        leverage=leverage,
        isolated=position.native in settings.isolated,
        mark=mark,
        notional=notional,
        unrealized=position.unrealized(mark),
        initial=initial,
        maintenance=maintenance(rules.base, notional) if notional else ZERO,
        orders_initial=outcome / leverage - initial,
        bid_notional=bids,
        ask_notional=asks,
    )


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)
