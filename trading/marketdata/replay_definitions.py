"""Markets from the instrument definitions in a recording itself, as the exchanges answered them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from trading.instruments import Market, MarketKind, money, positive

__all__ = ["market_kind", "recorded_markets"]


def market_kind(base: str, settle: str | None) -> MarketKind:
    """Tell the kind of a market from what it settles in."""
    if settle is None:
        return "spot"
    return "inverse" if settle == base else "linear"


def recorded_markets(exchange: str, bodies: Iterable[tuple[str, bytes]]) -> dict[str, Market]:
    """Read the markets of ``exchange`` (ccxt id) from recorded (URL, answer) pairs, by ccxt symbol.

    What cannot be read is left out: a recording of some markets holds the definitions of thousands.
    """
    markets: dict[str, Market] = {}
    seen: set[str] = set()
    for url, body in bodies:
        reader = next((reader for part, reader in _READERS if part in url), None)
        if reader is None or url in seen:
            continue
        seen.add(url)
        try:
            answer = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        for market in reader(exchange, answer, url):
            markets[market.symbol] = market
    return markets


def _each(answer: Any, *path: str) -> Iterator[Mapping[str, Any]]:
    for name in path:
        answer = answer.get(name) if isinstance(answer, dict) else None
    for entry in answer if isinstance(answer, list) else ():
        if isinstance(entry, dict):
            yield entry


Reader = Callable[[str, Any, str], Iterator[Market]]
_UNREADABLE = (KeyError, ValueError, TypeError, AttributeError)


def _binance(exchange: str, answer: Any, url: str) -> Iterator[Market]:
    for entry in _each(answer, "symbols"):
        try:
            filters = {one["filterType"]: one for one in entry["filters"]}
            base, quote = entry["baseAsset"], entry["quoteAsset"]
            settle = entry.get("marginAsset")
            _, _, expiry = entry["symbol"].partition("_")
            notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {}
            yield Market(
                exchange=exchange,
                symbol=_symbol(base, quote, settle, expiry if expiry.isdigit() else ""),
                native_id=entry["symbol"],
                base=base,
                quote=quote,
                settle=settle,
                kind=market_kind(base, settle),
                contract_size=positive(entry.get("contractSize", 1)),
                tick=positive(filters["PRICE_FILTER"]["tickSize"]),
                lot=positive(filters["LOT_SIZE"]["stepSize"]),
                min_amount=money(filters["LOT_SIZE"]["minQty"]),
                min_notional=money(notional.get("minNotional") or notional.get("notional") or 0),
                active=entry.get("status", entry.get("contractStatus")) == "TRADING",
            )
        except _UNREADABLE:
            continue


def _bybit(exchange: str, answer: Any, url: str) -> Iterator[Market]:
    for entry in _each(answer, "result", "list"):
        try:
            base, quote, lots = entry["baseCoin"], entry["quoteCoin"], entry["lotSizeFilter"]
            settle = entry.get("settleCoin")
            delivery = int(entry.get("deliveryTime") or 0)
            expiry = datetime.fromtimestamp(delivery / 1000, UTC).strftime("%y%m%d") if delivery else ""
            yield Market(
                exchange=exchange,
                symbol=_symbol(base, quote, settle, expiry),
                native_id=entry["symbol"],
                base=base,
                quote=quote,
                settle=settle,
                kind=market_kind(base, settle),
                tick=positive(entry["priceFilter"]["tickSize"]),
                lot=positive(lots.get("qtyStep") or lots["basePrecision"]),
                min_amount=money(lots["minOrderQty"]),
                min_notional=money(lots.get("minNotionalValue") or lots.get("minOrderAmt") or 0),
                active=entry["status"] == "Trading",
            )
        except _UNREADABLE:
            continue


def _okx(exchange: str, answer: Any, url: str) -> Iterator[Market]:
    for entry in _each(answer, "data"):
        try:
            if entry["instType"] not in ("SPOT", "SWAP", "FUTURES"):
                continue
            spot = entry["instType"] == "SPOT"
            base, quote = (entry["baseCcy"], entry["quoteCcy"]) if spot else entry["uly"].split("-")
            settle = None if spot else entry["settleCcy"]
            yield Market(
                exchange=exchange,
                symbol=_symbol(
                    base, quote, settle, entry["instId"].split("-")[2] if entry["instType"] == "FUTURES" else ""
                ),
                native_id=entry["instId"],
                base=base,
                quote=quote,
                settle=settle,
                kind=market_kind(base, settle),
                contract_size=Decimal(1) if spot else positive(entry["ctVal"]) * positive(entry.get("ctMult") or 1),
                tick=positive(entry["tickSz"]),
                lot=positive(entry["lotSz"]),
                min_amount=money(entry["minSz"]),
                active=entry["state"] == "live",
            )
        except _UNREADABLE:
            continue


def _poloniex(exchange: str, answer: Any, url: str) -> Iterator[Market]:
    for entry in answer if isinstance(answer, list) else ():
        try:
            base, quote, limits = entry["baseCurrencyName"], entry["quoteCurrencyName"], entry["symbolTradeLimit"]
            yield Market(
                exchange=exchange,
                symbol=_symbol(base, quote, None, ""),
                native_id=entry["symbol"],
                base=base,
                quote=quote,
                tick=_decimals(limits["priceScale"]),
                lot=_decimals(limits["quantityScale"]),
                min_amount=money(limits["minQuantity"]),
                min_notional=money(limits["minAmount"]),
                active=entry["state"] == "NORMAL",
            )
        except _UNREADABLE:
            continue


def _bitget_spot(exchange: str, answer: Any, url: str) -> Iterator[Market]:
    for entry in _each(answer, "data"):
        try:
            yield Market(
                exchange=exchange,
                symbol=_symbol(entry["baseCoin"], entry["quoteCoin"], None, ""),
                # Its WebSocket says ALPHAUSDT, its REST of that time ALPHAUSDT_SPBL.
                native_id=entry["symbolName"],
                base=entry["baseCoin"],
                quote=entry["quoteCoin"],
                tick=_decimals(entry["priceScale"]),
                lot=_decimals(entry["quantityScale"]),
                min_amount=money(entry["minTradeAmount"]),
                active=entry["status"] == "online",
            )
        except _UNREADABLE:
            continue


def _bitget_linear(exchange: str, answer: Any, url: str) -> Iterator[Market]:
    for entry in _each(answer, "data"):
        try:
            base, quote = entry["baseCoin"], entry["quoteCoin"]
            yield Market(
                exchange=exchange,
                symbol=_symbol(base, quote, quote, ""),
                native_id=entry["symbol"].partition("_")[0],
                base=base,
                quote=quote,
                settle=quote,
                kind="linear",
                tick=positive(entry["priceEndStep"]) * _decimals(entry["pricePlace"]),
                lot=_decimals(entry["volumePlace"]),
                min_amount=money(entry["minTradeNum"]),
            )
        except _UNREADABLE:
            continue


def _kucoin(exchange: str, answer: Any, url: str) -> Iterator[Market]:
    for entry in _each(answer, "data"):
        try:
            yield Market(
                exchange=exchange,
                symbol=_symbol(entry["baseCurrency"], entry["quoteCurrency"], None, ""),
                native_id=entry["symbol"],
                base=entry["baseCurrency"],
                quote=entry["quoteCurrency"],
                tick=positive(entry["priceIncrement"]),
                lot=positive(entry["baseIncrement"]),
                min_amount=money(entry["baseMinSize"]),
                min_notional=money(entry["quoteMinSize"]),
                active=entry["enableTrading"] is True,
            )
        except _UNREADABLE:
            continue


def _decimals(count: Any) -> Decimal:
    """Return the step of a number with this many decimals."""
    places = int(count)
    if not 0 <= places <= 18:
        raise ValueError(f"decimals: must be 0 to 18 (given {places})")
    return Decimal(1).scaleb(-places)


def _symbol(base: str, quote: str, settle: str | None, expiry: str) -> str:
    pair = f"{base}/{quote}"
    if settle is None:
        return pair
    return f"{pair}:{settle}-{expiry}" if expiry else f"{pair}:{settle}"


_READERS: tuple[tuple[str, Reader], ...] = (
    ("/exchangeInfo", _binance),
    ("/instruments-info", _bybit),
    ("/public/instruments", _okx),
    ("api.poloniex.com/markets", _poloniex),
    ("/spot/v1/public/products", _bitget_spot),
    ("/mix/v1/market/contracts?productType=umcbl", _bitget_linear),
    ("api.kucoin.com/api/v1/symbols", _kucoin),
)
