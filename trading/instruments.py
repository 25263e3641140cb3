"""Markets, and the arithmetic of ticks, lots and contracts. Money is Decimal here."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Context, Decimal, InvalidOperation
from functools import cached_property, lru_cache
from typing import Literal

import msgspec

Side = Literal["buy", "sell"]
MarketKind = Literal["spot", "linear", "inverse"]

# numeric(38, 18) in the database: 20 digits before the point, 18 after it.
MAX_MONEY = Decimal(10) ** 20
MIN_STEP = Decimal(1).scaleb(-18)
# Python's default of 28 digits cannot hold what the database can.
_WIDE = Context(prec=60)


class Tier(msgspec.Struct, frozen=True):
    """What holds for positions worth ``floor`` (included) to ``cap`` in quote: the largest leverage, and the part of
    their value that must be there as margin, less ``deduction``, lest they are liquidated."""

    floor: Decimal
    cap: Decimal
    rate: Decimal
    leverage: int
    deduction: Decimal = Decimal(0)


class Market(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One instrument on one exchange.

    ``exchange`` is the Exchange row's code (``binance``, ``okx-sim``), ``symbol`` ccxt's unified symbol and
    ``native_id`` the exchange's own name for it. ``contract_size`` is base per contract on linear markets and
    quote per contract on inverse ones; spot has 1. Fees are fractions of notional (0.001 is 10 bps). ``tiers`` are
    those of a contract's margin, smallest first; none where they are not known.
    """

    exchange: str
    symbol: str
    native_id: str
    base: str
    quote: str
    settle: str | None = None
    kind: MarketKind = "spot"
    contract_size: Decimal = Decimal(1)
    tick: Decimal = Decimal("0.01")
    lot: Decimal = Decimal("0.00001")
    min_amount: Decimal = Decimal(0)
    min_notional: Decimal = Decimal(0)
    taker_fee: Decimal = Decimal("0.001")
    maker_fee: Decimal = Decimal("0.001")
    active: bool = True
    tiers: tuple[Tier, ...] = ()

    # What every judgement of an opportunity asks for is worked out once.

    @cached_property
    def key(self) -> str:
        """``exchange:symbol``, the name of this market everywhere in the engine."""
        return f"{self.exchange}:{self.symbol}"

    @cached_property
    def most_with_fee(self) -> Decimal:
        """What one unit of notional takes at the most, the dearer fee included; 1 where fees are rebates."""
        return 1 + max(self.taker_fee, self.maker_fee, Decimal(0))


def money(value: str | int | Decimal, *, field: str = "value") -> Decimal:
    """Return ``value`` as a finite Decimal the database can hold.

    Raises
    ------
    ValueError
        If it is not a number, not finite, or outside numeric(38, 18).
    """
    if isinstance(value, float):
        raise TypeError(f"{field}: money is never made from a float (given {value!r})")
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        # Decimal reads "1_000" and digits of other scripts; what people and exchanges write has neither.
        raise ValueError(f"{field}: not a number (given {value[:40]!r})")
    try:
        number = Decimal(value)
    except (InvalidOperation, ValueError, TypeError):
        raise ValueError(f"{field}: not a number (given {str(value)[:40]!r})") from None
    if not number.is_finite() or abs(number) >= MAX_MONEY:
        raise ValueError(f"{field}: must be finite and below 1e20 (given {str(value)[:40]!r})")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -18:
        if number != 0 and abs(number) < MIN_STEP:
            raise ValueError(f"{field}: smaller than 1e-18 (given {str(value)[:40]!r})")
        number = number.quantize(MIN_STEP, rounding=ROUND_DOWN, context=_WIDE)
    return number


def positive(value: str | int | Decimal, *, field: str = "value") -> Decimal:
    """Return :func:`money` of ``value``; raise ValueError unless it is above zero."""
    number = money(value, field=field)
    if number <= 0:
        raise ValueError(f"{field}: must be above zero (given {str(value)[:40]!r})")
    return number


def _to_step(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    return (value / step).to_integral_value(rounding) * step


def limit_price(market: Market, price: Decimal, side: Side) -> Decimal:
    """Round a cap to the tick towards safety: a buy never pays more, a sell never takes less."""
    return _to_step(price, market.tick, ROUND_FLOOR if side == "buy" else ROUND_CEILING)


def lot_quantity(quantity: Decimal, *markets: Market) -> Decimal:
    """Round a quantity (in the markets' own unit) down so that it is a whole number of lots of every market.

    Lots are decimal fractions (0.001, 0.5, 10); the common step is their least common multiple.
    """
    step = common_step(*(market.lot for market in markets))
    return _to_step(quantity, step, ROUND_DOWN)


@lru_cache(4096)
def common_step(*steps: Decimal) -> Decimal:
    """Return the least common multiple of decimal steps (0.5 and 0.2 -> 1.0)."""
    scale = Decimal(1).scaleb(min(int(step.normalize().as_tuple().exponent) for step in steps))
    result = 1
    for step in steps:
        whole = int(step / scale)
        result = _lcm(result, whole)
    return result * scale


def _lcm(a: int, b: int) -> int:
    x, y = a, b
    while y:
        x, y = y, x % y
    return a // x * b


def base_quantity(market: Market, quantity: Decimal, price: Decimal) -> Decimal:
    """Convert an order quantity (contracts on derivatives, base on spot) into base units."""
    if market.kind == "inverse":
        return quantity * market.contract_size / price
    return quantity * market.contract_size


def order_quantity(market: Market, base: Decimal, price: Decimal) -> Decimal:
    """Convert base units into the market's order quantity; the inverse of :func:`base_quantity`."""
    if market.kind == "inverse":
        return base * price / market.contract_size
    return base / market.contract_size


POSITION_SIDES = ("long", "short")


def holding_of(contract: str, side: str) -> str:
    """Return the name of what is held in a contract, given by its symbol or key: with its ``side``, long or short,
    where the account holds both apart (hedge mode); any other side is the account's one position."""
    return f"{contract} {side}" if side in POSITION_SIDES else contract


def contract_of(holding: str) -> str:
    """Return the contract, as it was given, of a holding's name."""
    contract, _, side = holding.rpartition(" ")
    return contract if side in POSITION_SIDES else holding
