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


@contextlib.asynccontextmanager
async def usdm_client(
    simulator: Simulator, credentials: Credentials | None = None, **options: Any
) -> AsyncIterator[ccxt.pro.binanceusdm]:
    """Yield a ccxt.pro Binance USD-M client (REST and WebSocket) of the simulated Binance USD-M."""
    client = ccxt.pro.binanceusdm(
        {
            "apiKey": credentials.api_key if credentials else None,
            "secret": credentials.secret if credentials else None,
            "enableRateLimit": False,
            "options": options,
        }
    )
    rest, ws = simulator.rest["binanceusdm"], simulator.ws["binanceusdm"]
    api = client.urls["api"]
    for version in ("", "V2", "V3"):
        number = version[1:] or "1"
        api[f"fapiPublic{version}"] = api[f"fapiPrivate{version}"] = f"{rest}/fapi/v{number}"
    api["sapi"] = f"{rest}/sapi/v1"
    api["ws"]["linear"] = f"{ws}/ws"
    api["ws"]["ws-api"]["linear"] = f"{ws}/ws-fapi/v1"
    try:
        yield client
    finally:
        await client.close()
