"""ccxt.pro clients for exchanges without a folder of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import ccxt.pro

from trading.config import ExchangeSpec


class UnusableExchange(ValueError):
    """The exchange cannot be reached this way; the message says why in one sentence."""


def make_client(spec: ExchangeSpec, options: Mapping[str, object] | None = None) -> Any:
    """Return an unauthenticated ccxt.pro client for public market data.

    ``spec.urls`` replaces scheme and host of every REST (``rest``) and WebSocket (``ws``) address the client knows;
    paths stay, because ccxt tells spot from derivatives by them. Returns Any: ccxt's classes carry no useful types.

    Raises
    ------
    UnusableExchange
        If ccxt.pro has no such exchange, or no testnet for it.
    """
    if spec.ccxt_id not in ccxt.pro.exchanges:
        raise UnusableExchange(f"{spec.code}: ccxt.pro has no exchange {spec.ccxt_id!r} with WebSocket support")
    client = getattr(ccxt.pro, spec.ccxt_id)(
        {"enableRateLimit": True, "newUpdates": True, "options": dict(options or {})}
    )
    if spec.environment == "testnet":
        try:
            client.set_sandbox_mode(True)
        except ccxt.pro.NotSupported:
            raise UnusableExchange(f"{spec.code}: {spec.ccxt_id} has no testnet; use live or simulated") from None
    if spec.urls:
        client.urls["api"] = _rehosted(client.urls["api"], spec.urls, getattr(client, "hostname", None) or "")
    return client


def _rehosted(value: Any, urls: Mapping[str, str], hostname: str) -> Any:
    if isinstance(value, dict):
        return {name: _rehosted(inner, urls, hostname) for name, inner in value.items()}
    if not isinstance(value, str):
        return value
    parts = urlsplit(value.replace("{hostname}", hostname))
    base = urls.get("ws" if parts.scheme in ("ws", "wss") else "rest")
    if not base:
        return value
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    given = urlsplit(base)
    # Some name their host with the path the exchange's own addresses start with; it is not wanted twice.
    prefix = "" if path.startswith(given.path) else given.path.rstrip("/")
    return f"{given.scheme}://{given.netloc}{prefix}{path}"
