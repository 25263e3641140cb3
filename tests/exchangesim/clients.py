"""Unmodified ccxt clients pointed at a simulator by their URLs alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import ccxt.pro

from tests.exchangesim.simulator import Credentials, Simulator


@contextlib.asynccontextmanager
async def binance_client(
    simulator: Simulator, credentials: Credentials | None = None, **options: Any
) -> AsyncIterator[ccxt.pro.binance]:
    """Yield a ccxt.pro Binance client (REST and WebSocket) of the simulated Binance."""
    client = ccxt.pro.binance(
        {
            "apiKey": credentials.api_key if credentials else None,
            "secret": credentials.secret if credentials else None,
            "enableRateLimit": False,
            "options": {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot", **options},
        }
    )
    rest, ws = simulator.rest["binance"], simulator.ws["binance"]
    api = client.urls["api"]
    api.update(public=f"{rest}/api/v3", private=f"{rest}/api/v3", v1=f"{rest}/api/v1", sapi=f"{rest}/sapi/v1")
    # ccxt takes a socket for spot only when its address contains "/stream".
    api["ws"]["spot"] = f"{ws}/stream/ws"
    api["ws"]["ws-api"]["spot"] = f"{ws}/ws-api/v3"
    try:
        yield client
    finally:
        await client.close()
