"""Paper money: what is free, what is set aside, the positions, and what each execution does to them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal

import msgspec

from trading.instruments import Market, Side, base_quantity
from trading.messages import OrderIntent

ZERO = Decimal(0)
FEE_DIGITS = Decimal("1e-12")


class PaperPosition(msgspec.Struct):
    """A derivative position: signed quantity in contracts, its average entry price, and the leverage of its margin."""

    quantity: Decimal = ZERO
    entry: Decimal = ZERO
    leverage: int = 1


class PaperMoney:
    """One account's balances, by asset, and positions, by market."""

    def __init__(self, balances: Mapping[str, Decimal]) -> None:
        self.free = dict(balances)
        self.used: dict[str, Decimal] = {}
        self.positions: dict[str, PaperPosition] = {}

    def hold(self, asset: str, amount: Decimal) -> None:
        """Set money aside; a negative amount gives it back."""
        self._add(asset, -amount)
        self.used[asset] = self.used.get(asset, ZERO) + amount

    def held(self, market: str) -> Decimal:
        """Return the position in a contract, negative when short; ``market`` is its key."""
        return self.positions.get(market, PaperPosition()).quantity

    def leverage(self, market: str) -> int:
        """Return by what a contract's value is divided to be its margin; ``market`` is its key."""
        return self.positions.get(market, PaperPosition()).leverage

    def set_leverage(self, market: Market, leverage: int) -> str:
        """Let a contract's margin be its value by this leverage; return why not, or an empty string once it is so."""
        position, settle = self.positions.setdefault(market.key, PaperPosition()), settle_of(market)
        bound = _margin_of(market, position)
        more = bound * position.leverage / leverage - bound
        if more > self.free.get(settle, ZERO):
            return f"{self.free.get(settle, ZERO):f} {settle} is free, {more:f} more margin is needed"
        position.leverage = leverage
        self.hold(settle, more)
        return ""

    def cover(self, market: Market, intent: OrderIntent) -> tuple[str, Decimal]:
        """Return what must be free for the order: what it pays at its limit, or its initial margin."""
        base = base_quantity(market, intent.quantity, intent.price)
        if market.kind == "spot":
            return (market.quote, base * intent.price) if intent.side == "buy" else (market.base, base)
        position = self.positions.get(market.key, PaperPosition())
        held, signed = position.quantity, intent.quantity if intent.side == "buy" else -intent.quantity
        opening = abs(held + signed) - abs(held)
        if opening <= 0:
            return settle_of(market), ZERO
        return settle_of(market), _value(market, opening, intent.price) / position.leverage

    def book(
        self, market: Market, side: Side, quantity: Decimal, price: Decimal, fee_rate: Decimal
    ) -> tuple[Decimal, str]:
        """Move the money of one execution; return its fee and the fee's asset (what is received, on spot)."""
        base = base_quantity(market, quantity, price)
        if market.kind != "spot":
            return self._book_derivative(market, side, quantity, price, fee_rate)
        value = base * price
        if side == "buy":
            fee, asset = _fee(base * fee_rate), market.base
            self._add(market.quote, -value)
            self._add(market.base, base - fee)
        else:
            fee, asset = _fee(value * fee_rate), market.quote
            self._add(market.base, -base)
            self._add(market.quote, value - fee)
        return fee, asset

    def _book_derivative(
        self, market: Market, side: Side, quantity: Decimal, price: Decimal, fee_rate: Decimal
    ) -> tuple[Decimal, str]:
        """Open, extend, reduce or turn a position; margin is its notional at entry by its leverage."""
        settle = settle_of(market)
        position = self.positions.setdefault(market.key, PaperPosition())
        signed = quantity if side == "buy" else -quantity
        before_margin = _margin_of(market, position)
        realised = ZERO
        closing = min(abs(position.quantity), quantity) if position.quantity * signed < 0 else ZERO
        if closing:
            direction = 1 if position.quantity > 0 else -1
            realised = direction * _profit(market, closing, position.entry, price)
        after = position.quantity + signed
        if closing == ZERO:
            position.entry = _mean_entry(market, abs(position.quantity), position.entry, quantity, price)
        elif after * position.quantity < 0:
            position.entry = price
        position.quantity = after
        after_margin = _margin_of(market, position)
        fee = _fee(_value(market, quantity, price) * fee_rate)
        self.used[settle] = self.used.get(settle, ZERO) + after_margin - before_margin
        self._add(settle, before_margin - after_margin + realised - fee)
        return fee, settle

    def _add(self, asset: str, amount: Decimal) -> None:
        self.free[asset] = self.free.get(asset, ZERO) + amount


def _fee(amount: Decimal) -> Decimal:
    return amount.quantize(FEE_DIGITS, rounding=ROUND_DOWN)


def settle_of(market: Market) -> str:
    return market.settle or (market.base if market.kind == "inverse" else market.quote)


def value_of(market: Market, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the quote value of an order quantity."""
    return quantity * market.contract_size if market.kind == "inverse" else quantity * market.contract_size * price


def _margin_of(market: Market, position: PaperPosition) -> Decimal:
    """Return what a position binds of the settlement asset."""
    if not position.quantity:
        return ZERO
    return _value(market, abs(position.quantity), position.entry) / position.leverage


def _value(market: Market, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the whole notional in the settlement asset."""
    base = base_quantity(market, quantity, price)
    return base if market.kind == "inverse" else base * price


def _mean_entry(market: Market, held: Decimal, entry: Decimal, added: Decimal, price: Decimal) -> Decimal:
    """Return the entry price of a position that was added to; inverse contracts are of quote, so theirs is harmonic."""
    if not held:
        return price
    if market.kind == "inverse":
        return (held + added) / (held / entry + added / price)
    return (held * entry + added * price) / (held + added)


def _profit(market: Market, quantity: Decimal, entry: Decimal, price: Decimal) -> Decimal:
    """Return what ``quantity`` contracts bought at ``entry`` and sold at ``price`` earn in the settlement asset."""
    if market.kind == "inverse":
        return quantity * market.contract_size * (1 / entry - 1 / price)
    return quantity * market.contract_size * (price - entry)
