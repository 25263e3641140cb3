"""What an exchange tells of its coins: on which networks, under which contracts, which wallets are open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from risk.policy.tradability import Network
from trading.clock import SystemClock
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.ccxt_client import make_client, measure_offset
from trading.exchanges.generic.scrub import Scrubber

# Where exchanges name a network's contract, in ccxt's raw rows: Binance and Bybit, OKX, KuCoin and Gate.
CONTRACT_FIELDS = ("contractAddress", "ctAddr", "contract_address", "addr")


async def load_coins(spec: ExchangeSpec, credentials: Credentials | None) -> dict[str, tuple[Network, ...]]:
    """Return the networks of each coin by its unified code; empty if the exchange tells only those who sign in.

    Most exchanges tell this to holders of a key that may read.

    Raises
    ------
    ConnectionError
        If the exchange can't be reached or refuses; the text is one sentence without secrets.
    """
    scrub = Scrubber(credentials)
    client = make_client(spec, credentials)
    client.options["fetchCurrencies"] = True
    try:
        await measure_offset(client, SystemClock())
        found = await client.fetch_currencies()
    except Exception as error:
        raise ConnectionError(f"exchange {spec.code}: its coins can't be loaded: {scrub.error(error)}") from None
    finally:
        await client.close()
    return {str(code): read_networks(raw) for code, raw in (found or {}).items()}


def read_networks(raw: Mapping[str, Any]) -> tuple[Network, ...]:
    """Return ccxt's networks of one coin as ours, by name."""
    networks = (raw.get("networks") or {}).items()
    return tuple(
        Network(
            name=str(name),
            contract=_contract(network.get("info") or {}),
            deposit=_flag(network.get("deposit")),
            withdraw=_flag(network.get("withdraw")),
        )
        for name, network in sorted(networks)
    )


def _contract(info: Any) -> str:
    if not isinstance(info, Mapping):
        return ""
    return next((str(info[name]) for name in CONTRACT_FIELDS if info.get(name)), "")


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
