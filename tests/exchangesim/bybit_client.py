"""Clients of the simulated Bybit: unmodified ccxt, signed raw requests, raw sockets that are authenticated."""

from __future__ import annotations

import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from tests.exchangesim.raw_socket import RawSocket, raw_socket
from tests.exchangesim.simulator import Credentials, Simulator, running_simulator

SYMBOLS = "BTC/USDT,ETH/USDT,AAA/USDT=100"


@pytest.fixture(scope="module")
def bybit_simulator() -> Iterator[Simulator]:
    """A simulated Bybit with moving markets and one, AAA/USDT, that tests hold still."""
    with running_simulator("--exchanges", "bybit", "--no-limits", "--symbols", SYMBOLS, "--taker-bps", "10") as running:
        yield running


def still_book(simulator: Simulator) -> None:
    """Give AAA/USDT a still book around 100: 1 and 2 and 5 units a side."""
    simulator.set_book(
        "bybit",
        "AAA/USDT",
        bids=[("99.9", "1"), ("99.8", "2"), ("99.5", "5")],
        asks=[("100.1", "1"), ("100.2", "2"), ("100.5", "5")],
    )


@contextlib.asynccontextmanager
async def bybit_client(
    simulator: Simulator, credentials: Credentials | None = None, **config: Any
) -> AsyncIterator[Any]:
    """Open an unmodified ccxt.pro client with only its URLs changed."""
    keys = {"apiKey": credentials.api_key, "secret": credentials.secret} if credentials else {}
    client = ccxt.pro.bybit({**keys, "enableRateLimit": False, "options": {"defaultType": "spot"}, **config})
    rest, socket = simulator.rest["bybit"], simulator.ws["bybit"]
    api = client.urls["api"]
    api |= dict.fromkeys(("spot", "futures", "v2", "public", "private"), rest)
    api["ws"]["public"]["spot"] = f"{socket}/v5/public/spot"
    api["ws"]["private"] |= {"contract": f"{socket}/v5/private", "trade": f"{socket}/v5/trade"}
    try:
        await client.load_markets()
        yield client
    finally:
        await client.close()


def sign(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), sha256).hexdigest()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def bybit_call(
    simulator: Simulator,
    credentials: Credentials | None,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: dict[str, str] | None = None,
    late_ms: int = 0,
    window_ms: int | None = 5000,
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Send one request, signed unless ``credentials`` is None; returns status, JSON and headers."""
    text = "" if body is None else body if isinstance(body, str) else json.dumps(body)
    sent: dict[str, str] = {"Content-Type": "application/json"}
    if credentials is not None:
        stamp, window = str(now_ms() - late_ms), "" if window_ms is None else str(window_ms)
        payload = text if method == "POST" else path.partition("?")[2]
        sent |= {
            "X-BAPI-API-KEY": credentials.api_key,
            "X-BAPI-TIMESTAMP": stamp,
            "X-BAPI-SIGN": sign(credentials.secret, f"{stamp}{credentials.api_key}{window}{payload}"),
        }
        if window:
            sent["X-BAPI-RECV-WINDOW"] = window
    for name, value in (headers or {}).items():
        if value:
            sent[name] = value
        else:
            sent.pop(name, None)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, simulator.rest["bybit"] + path, data=text.encode() or None, headers=sent) as answer,
    ):
        return answer.status, json.loads(await answer.read()), dict(answer.headers)


def order(**fields: str) -> dict[str, str]:
    """Return the body of a small limit order in AAAUSDT, with some fields changed ("" takes one away)."""
    body = {
        "category": "spot",
        "symbol": "AAAUSDT",
        "side": "Buy",
        "orderType": "Limit",
        "qty": "0.5",
        "price": "90",
    } | fields
    return {name: value for name, value in body.items() if value}


def authentication(credentials: Credentials, *, expires_in_ms: int = 10_000) -> dict[str, Any]:
    expires = now_ms() + expires_in_ms
    return {
        "op": "auth",
        "args": [credentials.api_key, expires, sign(credentials.secret, f"GET/realtime{expires}")],
    }


def command(operation: str, request_id: str, arguments: dict[str, str], *, late_ms: int = 0) -> dict[str, Any]:
    """Return an order operation for the trade socket."""
    header = {"X-BAPI-TIMESTAMP": str(now_ms() - late_ms), "X-BAPI-RECV-WINDOW": "5000"}
    return {"reqId": request_id, "header": header, "op": operation, "args": [arguments]}


@contextlib.asynccontextmanager
async def bybit_socket(
    simulator: Simulator, path: str = "public/spot", credentials: Credentials | None = None
) -> AsyncIterator[RawSocket]:
    """Open a raw socket, authenticated when credentials are given."""
    async with raw_socket(f"{simulator.ws['bybit']}/v5/{path}") as socket:
        if credentials is not None:
            await socket.send(authentication(credentials))
            answer = await socket.next()
            assert answer.get("success") or answer.get("retCode") == 0, answer
        yield socket
