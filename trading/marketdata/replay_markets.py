"""Which market a recording speaks of, by the names of ccxt, of the exchange and of the recorder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from trading.exchanges.registry import FOLDERS
from trading.instruments import Market, MarketKind
from trading.marketdata.replay_definitions import market_kind

__all__ = ["READABLE", "MarketNameError", "cryptofeed_exchange", "market_from_name", "no_reader", "recorder_name"]


class MarketNameError(ValueError):
    """A market name that names nothing we can read; the message says why in one sentence."""


# cryptofeed's name of an exchange -> ccxt's.
CRYPTOFEED_EXCHANGES: Mapping[str, str] = {
    "BINANCE": "binance",
    "BINANCE_FUTURES": "binanceusdm",
    "BINANCE_DELIVERY": "binancecoinm",
    "BITGET": "bitget",
    "BYBIT": "bybit",
    "KRAKEN": "kraken",
    "KUCOIN": "kucoin",
    "OKX": "okx",
    "POLONIEX": "poloniex",
}

# Exchanges without a folder of their own whose recordings ccxt.pro's handlers read (generic/protocol.py).
THROUGH_CCXT = ("bitget", "kucoin", "poloniex")
# Exchanges (ccxt id) whose recordings can be replayed.
READABLE = tuple(sorted((*FOLDERS, *THROUGH_CCXT)))
# Why recordings of others cannot.
UNREADABLE: Mapping[str, str] = {
    "kraken": "in the array format of its WebSocket v1, which ccxt reads no more (it speaks v2 only)",
}

SYMBOL = re.compile(
    r"(?P<base>[A-Z0-9]{1,20})/(?P<quote>[A-Z0-9]{1,20})(:(?P<settle>[A-Z0-9]{1,20})(-(?P<expiry>\d{6}))?)?"
)

# Contract sizes the exchanges publish in their instrument lists, for recordings that hold none. Base per contract on
# linear markets, USD per contract on inverse ones. binance COIN-M: 100 USD for BTC, 10 USD for all others;
# bybit counts in base (linear) and in USD (inverse); okx sets each one.
OKX_LINEAR: Mapping[str, str] = {"BTC": "0.01", "ETH": "0.1", "SOL": "1", "XRP": "100", "DOGE": "1000", "LTC": "1"}
OKX_INVERSE: Mapping[str, str] = {"BTC": "100"}
OKX_INVERSE_OTHERS = "10"
BINANCE_INVERSE: Mapping[str, str] = {"BTC": "100"}
BINANCE_INVERSE_OTHERS = "10"


def cryptofeed_exchange(name: str) -> str:
    """Return ccxt's name of the exchange that cryptofeed calls ``name``."""
    try:
        return CRYPTOFEED_EXCHANGES[name]
    except KeyError:
        raise MarketNameError(
            f"exchange: recordings of {name[:40]!r} cannot be read; known are {', '.join(sorted(CRYPTOFEED_EXCHANGES))}"
        ) from None


def no_reader(exchange: str) -> str:
    """Say of an exchange, as the end of a sentence, why its recordings cannot be read and whose can."""
    return f"{exchange}, {UNREADABLE.get(exchange, 'which has no reader')}; there are readers of {', '.join(READABLE)}"


def market_from_name(name: str) -> Market:
    """Make a market from ``<exchange>:<ccxt symbol>``, by the exchange's naming rules.

    Lots are as fine as the exchange allows anywhere; minimums are unknown and left out.

    >>> market_from_name("binancecoinm:BTC/USD:BTC").native_id
    'BTCUSD_PERP'

    Raises
    ------
    MarketNameError
        If the name is none, the exchange has no reader, or the contract size isn't known.
    """
    exchange, _, symbol = name.partition(":")
    match = SYMBOL.fullmatch(symbol)
    if match is None:
        raise MarketNameError(f"market: must look like binance:BTC/USDT or okx:BTC/USDT:USDT (given {name[:60]!r})")
    if exchange not in READABLE:
        raise MarketNameError(f"market: exchange {exchange[:40]!r} has no reader; there are {', '.join(READABLE)}")
    folder = FOLDERS.get(exchange, exchange)
    base, quote, settle, expiry = match["base"], match["quote"], match["settle"], match["expiry"]
    kind = market_kind(base, settle)
    allowed = _KINDS_OF.get(exchange)
    if allowed is not None and kind not in allowed:
        raise MarketNameError(
            f"market: of {exchange} only {' and '.join(allowed)} markets can be read (given {name[:60]!r})"
        )
    return Market(
        exchange=exchange,
        symbol=symbol,
        native_id=_NATIVE_IDS[folder](base, quote, kind, expiry, name),
        base=base,
        quote=quote,
        settle=settle,
        kind=kind,
        contract_size=_contract_size(folder, base, kind, name),
        lot=Decimal("1e-8")
        if kind == "spot"
        else Decimal("0.001")
        if kind == "linear" and folder != "okx"
        else Decimal(1),
    )


_KINDS_OF: Mapping[str, tuple[MarketKind, ...]] = {
    "binanceusdm": ("linear",),
    "binancecoinm": ("inverse",),
    "bitget": ("spot", "linear"),
    "kucoin": ("spot",),
    "poloniex": ("spot",),
}


def _binance_id(base: str, quote: str, kind: MarketKind, expiry: str | None, name: str) -> str:
    if expiry:
        return f"{base}{quote}_{expiry}"
    return f"{base}{quote}_PERP" if kind == "inverse" else f"{base}{quote}"


def _okx_id(base: str, quote: str, kind: MarketKind, expiry: str | None, name: str) -> str:
    if kind == "spot":
        return f"{base}-{quote}"
    return f"{base}-{quote}-{expiry or 'SWAP'}"


def _bybit_id(base: str, quote: str, kind: MarketKind, expiry: str | None, name: str) -> str:
    if expiry:
        raise MarketNameError(
            f"market: bybit's dated contracts are known from instrument definitions only (given {name[:60]!r})"
        )
    if kind == "linear" and quote == "USDC":
        return f"{base}PERP"
    return f"{base}{quote}"


_NATIVE_IDS: Mapping[str, Callable[[str, str, MarketKind, str | None, str], str]] = {
    "binance": _binance_id,
    "okx": _okx_id,
    "bybit": _bybit_id,
    "bitget": lambda base, quote, *_: f"{base}{quote}",
    "kucoin": lambda base, quote, *_: f"{base}-{quote}",
    "poloniex": lambda base, quote, *_: f"{base}_{quote}",
}


def _contract_size(folder: str, base: str, kind: MarketKind, name: str) -> Decimal:
    if kind == "spot" or folder in ("bybit", "bitget"):
        return Decimal(1)
    if folder == "binance":
        return Decimal(BINANCE_INVERSE.get(base, BINANCE_INVERSE_OTHERS)) if kind == "inverse" else Decimal(1)
    if kind == "inverse":
        return Decimal(OKX_INVERSE.get(base, OKX_INVERSE_OTHERS))
    if base not in OKX_LINEAR:
        raise MarketNameError(
            f"market: contract size of {name[:60]!r} is not known; replay a recording that holds instrument definitions"
        )
    return Decimal(OKX_LINEAR[base])


def recorder_name(market: Market) -> str:
    """Return cryptofeed's name of a market: BTC-USDT, BTC-USDT-PERP, BTC-USD-22K27 (year, month letter, day)."""
    expiry = market.symbol.partition("-")[2]
    pair = f"{market.base}-{market.quote}"
    if market.kind == "spot":
        return pair
    if not expiry:
        return f"{pair}-PERP"
    return f"{pair}-{expiry[:2]}{'FGHJKMNQUVXZ'[int(expiry[2:4]) - 1]}{expiry[4:]}"
