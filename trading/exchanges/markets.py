"""Markets of an exchange, and whether it can be reached: what the seeding, the admin and the doctor ask."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trading.clock import SystemClock
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.ccxt_client import make_client, measure_offset
from trading.exchanges.generic.dialect import FeeRates, Names, decimal
from trading.exchanges.generic.dialects import dialect_class
from trading.exchanges.generic.scrub import Scrubber
from trading.instruments import Market, MarketKind, money, positive

PROBE_SECONDS = 10.0
# Of exchanges that don't say: bad enough that an edge computed with it is an edge in earnest.
UNKNOWN_FEE = Decimal("0.002")


async def load_markets(
    spec: ExchangeSpec, *, kinds: frozenset[MarketKind] = frozenset({"spot"}), credentials: Credentials | None = None
) -> list[Market]:
    """Return an exchange's markets with their exact ticks, lots and fees; those it describes incompletely are left out.

    ``kinds`` beyond spot are loaded where the exchange has them. With ``credentials`` the account's own fees are used
    where ccxt can ask for them.

    Raises
    ------
    ConnectionError
        If the exchange can't be reached or answers nonsense; the text is one sentence without secrets.
    """
    options: dict[str, Any] = {**dialect_class(spec.ccxt_id).options}
    if kinds != {"spot"}:
        options["fetchMarkets"] = {"types": sorted(_ccxt_types(spec.ccxt_id, kinds))}
    scrub = Scrubber(credentials)
    client = make_client(spec, credentials, options=options)
    try:
        found = await client.load_markets()
        fees: Mapping[str, FeeRates] = {}
        if credentials is not None:
            fees = await dialect_class(spec.ccxt_id)(Names(0)).fetch_fees(client)
    except Exception as error:
        raise ConnectionError(f"exchange {spec.code}: its markets can't be loaded: {scrub.error(error)}") from None
    finally:
        await client.close()
    markets = [read_market(spec.code, raw, fees.get(str(raw.get("id"))) or fees.get("*")) for raw in found.values()]
    return sorted((market for market in markets if market is not None and market.kind in kinds), key=lambda m: m.symbol)


async def probe(spec: ExchangeSpec) -> tuple[bool, int, str]:
    """Return whether an exchange answers, its clock minus ours in milliseconds, and why it doesn't."""
    scrub = Scrubber()
    try:
        client = make_client(spec)
    except ValueError as error:
        return False, 0, str(error)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return True, await measure_offset(client, SystemClock()), ""
    except TimeoutError:
        return False, 0, f"no answer within {PROBE_SECONDS:.0f} s"
    except Exception as error:
        return False, 0, scrub.error(error)
    finally:
        await client.close()


def read_market(exchange: str, raw: Mapping[str, Any], fees: FeeRates | None = None) -> Market | None:
    """Return ccxt's market structure as ours, or None when it isn't one we can trade by exact rules."""
    kind = _kind(raw)
    precision = raw.get("precision") or {}
    limits = raw.get("limits") or {}
    if kind is None or not raw.get("id"):
        return None
    try:
        tick = positive(str(precision["price"]), field="tick")
        lot = positive(str(precision["amount"]), field="lot")
        size = positive(str(raw["contractSize"]), field="contract size") if kind != "spot" else Decimal(1)
        return Market(
            exchange=exchange,
            symbol=str(raw["symbol"]),
            native_id=str(raw["id"]),
            base=str(raw["base"]),
            quote=str(raw["quote"]),
            settle=raw.get("settle") or None,
            kind=kind,
            contract_size=size,
            tick=tick,
            lot=lot,
            min_amount=_limit(limits, "amount"),
            min_notional=_limit(limits, "cost"),
            taker_fee=fees.taker if fees is not None else _fee(raw.get("taker")),
            maker_fee=fees.maker if fees is not None else _fee(raw.get("maker")),
            active=raw.get("active") is not False,
        )
    except (KeyError, ValueError, TypeError):
        return None


def _kind(raw: Mapping[str, Any]) -> MarketKind | None:
    if raw.get("spot"):
        return "spot"
    if raw.get("swap"):
        return "linear" if raw.get("linear") else "inverse" if raw.get("inverse") else None
    return None  # dated futures and options are another trade


def _limit(limits: Mapping[str, Any], name: str) -> Decimal:
    least = decimal((limits.get(name) or {}).get("min"))
    return money(least, field=name) if least is not None and least > 0 else Decimal(0)


def _fee(figure: object) -> Decimal:
    fee = decimal(figure if not isinstance(figure, float) else repr(figure))
    return UNKNOWN_FEE if fee is None or abs(fee) >= 1 else fee


def _ccxt_types(ccxt_id: str, kinds: frozenset[MarketKind]) -> set[str]:
    """Return what ccxt calls these kinds in ``options.fetchMarkets.types``: names differ between exchanges."""
    return {"swap" if ccxt_id == "okx" and kind != "spot" else kind for kind in kinds}
