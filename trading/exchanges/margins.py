"""What an exchange tells the holder of a key of its contracts' margin: tiers, and which an account holds isolated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from trading.clock import SystemClock
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.ccxt_client import make_client, measure_offset
from trading.exchanges.generic.dialect import decimal
from trading.exchanges.generic.dialects import dialect_class
from trading.exchanges.generic.scrub import Scrubber
from trading.margin import Tier, tiers_of


class Margins(msgspec.Struct, frozen=True):
    """Tiers by symbol, and the symbols whose positions the account holds under isolated margin."""

    tiers: Mapping[str, tuple[Tier, ...]]
    isolated: frozenset[str]


async def load_margins(spec: ExchangeSpec, credentials: Credentials) -> Margins:
    """Return the margin tiers of an exchange's contracts and an account's margin modes.

    Raises
    ------
    ConnectionError
        If the exchange can't be reached, refuses, or tells none; the text is one sentence without secrets.
    """
    scrub = Scrubber(credentials)
    client = make_client(spec, credentials, options={**dialect_class(spec.ccxt_id).options})
    try:
        await measure_offset(client, SystemClock())
        await client.load_markets()
        tiers = await client.fetch_leverage_tiers()
        modes = await client.fetch_margin_modes()
    except Exception as error:
        raise ConnectionError(f"exchange {spec.code}: its margin tiers can't be loaded: {scrub.error(error)}") from None
    finally:
        await client.close()
    read = {str(symbol): read_tiers(rows) for symbol, rows in tiers.items()}
    return Margins(
        tiers={symbol: found for symbol, found in read.items() if found},
        isolated=frozenset(str(symbol) for symbol, mode in modes.items() if mode.get("marginMode") == "isolated"),
    )


def read_tiers(rows: Iterable[Mapping[str, Any]]) -> tuple[Tier, ...]:
    """Return ccxt's leverage tiers of one market as ours; empty if they are none we can reckon with."""
    try:
        return tiers_of(
            (_figure(row["minNotional"]), _figure(row["maxNotional"]), _figure(row["maintenanceMarginRate"]),
             int(_figure(row["maxLeverage"])))
            for row in rows
        )  # fmt: skip
    except (KeyError, ValueError):
        return ()


def _figure(given: object) -> Decimal:
    number = decimal(repr(given) if isinstance(given, float) else given)
    if number is None:
        raise ValueError(f"tiers: not a number (given {str(given)[:40]!r})")
    return number
