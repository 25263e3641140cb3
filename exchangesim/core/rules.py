"""Trading rules of a market, as data: ticks, lots, smallest orders and fees."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

D = Decimal
ZERO, FIVE, TEN = D(0), D(5), D(10)


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRules:
    """What one exchange demands of orders in one market. Prices are quote per base, quantities base units."""

    exchange: str
    symbol: str
    """Unified name, ``BTC/USDT``."""
    native: str
    """The exchange's own name, ``BTCUSDT`` or ``BTC-USDT``."""
    base: str
    quote: str
    tick: Decimal
    lot: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    min_notional: Decimal
    """Smallest price x quantity, in quote units; zero where the exchange has no such rule."""
    maker_fee: Decimal
    """Fraction of what is received: 0.001 is 10 bps."""
    taker_fee: Decimal
    price_band: Decimal = FIVE
    """A limit price may be at most this many times the last price, and at least its inverse."""
    max_open_orders: int = 200
    liquidation_fee: Decimal = ZERO
    """Contracts only: fraction of a position's value that its liquidation costs, of what is left of its margin."""
    fee_places: int = 8
    """Decimal places to which a fee is rounded, half even."""

    @property
    def price_places(self) -> int:
        return max(0, -int(self.tick.normalize().as_tuple().exponent))

    @property
    def quantity_places(self) -> int:
        return max(0, -int(self.lot.normalize().as_tuple().exponent))


# Tick, lot, smallest quantity and smallest notional by exchange and market, as the exchanges' instrument lists gave
# them (Binance exchangeInfo, OKX public/instruments, Bybit instruments-info). Others are derived from the price.
_KNOWN: dict[str, dict[str, tuple[str, str, str, str]]] = {
    "binance": {
        "BTC/USDT": ("0.01", "0.00001", "0.00001", "5"),
        "BTC/USDC": ("0.01", "0.00001", "0.00001", "5"),
        "ETH/USDT": ("0.01", "0.0001", "0.0001", "5"),
        "ETH/USDC": ("0.01", "0.0001", "0.0001", "5"),
        "SOL/USDT": ("0.01", "0.001", "0.001", "5"),
    },
    "okx": {
        "BTC/USDT": ("0.1", "0.00000001", "0.00001", "0"),
        "BTC/USDC": ("0.1", "0.00000001", "0.00001", "0"),
        "ETH/USDT": ("0.01", "0.000001", "0.001", "0"),
        "ETH/USDC": ("0.01", "0.000001", "0.001", "0"),
        "SOL/USDT": ("0.001", "0.000001", "0.01", "0"),
    },
    "bybit": {
        "BTC/USDT": ("0.1", "0.000001", "0.000001", "5"),
        "BTC/USDC": ("0.1", "0.000001", "0.000001", "5"),
        "ETH/USDT": ("0.01", "0.00001", "0.00001", "5"),
        "ETH/USDC": ("0.01", "0.00001", "0.00001", "5"),
        "SOL/USDT": ("0.01", "0.0001", "0.0001", "5"),
    },
    "binanceusdm": {
        "BTC/USDT:USDT": ("0.1", "0.001", "0.001", "50"),
        "ETH/USDT:USDT": ("0.01", "0.001", "0.001", "20"),
        "SOL/USDT:USDT": ("0.01", "0.01", "0.01", "5"),
    },
}

_MIN_NOTIONAL = {"binance": D(5), "okx": D(0), "bybit": D(5), "binanceusdm": D(5)}
# How far a limit price may be from the reference, where it is less than FIVE times.
_PRICE_BANDS = {"binanceusdm": D("1.05")}
_LIQUIDATION_FEES = {"binanceusdm": D("0.0125")}


def split_symbol(symbol: str) -> tuple[str, str]:
    """Return base and quote of ``BTC/USDT`` or ``BTC/USDT:USDT``."""
    base, _, rest = symbol.partition("/")
    return base, rest.partition(":")[0]


def native_name(exchange: str, symbol: str) -> str:
    """Return the exchange's own name of a unified symbol: ``BTC-USDT`` on OKX, ``BTCUSDT`` elsewhere.

    A linear contract, ``BTC/USDT:USDT``, is named like the pair.
    """
    base, quote = split_symbol(symbol)
    return f"{base}-{quote}" if exchange == "okx" else f"{base}{quote}"


def make_rules(
    exchange: str, symbol: str, *, price: Decimal, taker_bps: Decimal = TEN, maker_bps: Decimal = TEN
) -> SymbolRules:
    """Return the rules of a market: the exchange's own where known, else derived from a typical ``price``.

    Derived: five significant digits of price, a lot worth about a tenth of a quote unit.
    """
    base, quote = split_symbol(symbol)
    known = _KNOWN.get(exchange, {}).get(symbol)
    if known is not None:
        tick, lot, min_quantity, min_notional = (D(text) for text in known)
    else:
        tick = D(10) ** (price.adjusted() - 4)
        lot = D(10) ** min(0, -price.adjusted() - 1)
        min_quantity, min_notional = lot, _MIN_NOTIONAL.get(exchange, D(0))
    return SymbolRules(
        exchange=exchange,
        symbol=symbol,
        native=native_name(exchange, symbol),
        base=base,
        quote=quote,
        tick=tick,
        lot=lot,
        min_quantity=min_quantity,
        max_quantity=D(9000) if price > 1 else D(90_000_000),
        min_notional=min_notional,
        maker_fee=maker_bps / D(10_000),
        taker_fee=taker_bps / D(10_000),
        price_band=_PRICE_BANDS.get(exchange, FIVE),
        liquidation_fee=_LIQUIDATION_FEES.get(exchange, D(0)),
    )
