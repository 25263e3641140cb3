"""Clients of the simulated OKX: unmodified ccxt, signed raw requests, raw sockets that are logged in."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from tests.exchangesim.raw_socket import RawSocket, raw_socket
from tests.exchangesim.simulator import Credentials, Simulator, running_simulator

BOOK = {
    "bids": [("99.9", "1"), ("99.8", "2"), ("99.5", "5")],
    "asks": [("100.1", "1"), ("100.2", "2"), ("100.5", "5")],
}
"""A still book of AAA/USDT around 100, for tests that need to know what will match."""


@pytest.fixture(scope="module")
def okx_simulator() -> Iterator[Simulator]:
    """A simulated OKX with moving markets and one, AAA/USDT, that tests hold still."""
    with running_simulator(
        "--exchanges", "okx", "--no-limits", "--symbols", "BTC/USDT,ETH/USDT,AAA/USDT=100", "--taker-bps", "10"
    ) as running:
        yield running


def still_book(simulator: Simulator, exchange: str = "okx") -> None:
    """Give AAA/USDT the levels of ``BOOK`` and freeze it."""
    simulator.set_book(exchange, "AAA/USDT", bids=list(BOOK["bids"]), asks=list(BOOK["asks"]))


@contextlib.asynccontextmanager
async def okx_client(simulator: Simulator, credentials: Credentials | None = None, **config: Any) -> AsyncIterator[Any]:
    """Open an unmodified ccxt.pro client with only its URLs changed."""
    keys = (
        {"apiKey": credentials.api_key, "secret": credentials.secret, "password": credentials.passphrase}
        if credentials
        else {}
    )
    client = ccxt.pro.okx({**keys, "enableRateLimit": False, **config})
    client.urls["api"]["rest"] = simulator.rest["okx"]
    client.urls["api"]["ws"] = simulator.ws["okx"]
    try:
        await client.load_markets()
        yield client
    finally:
        await client.close()


def sign(secret: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), sha256).digest()).decode()


async def okx_call(
    simulator: Simulator,
    credentials: Credentials | None,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: dict[str, str] | None = None,
    late_ms: int = 0,
) -> tuple[int, dict[str, Any]]:
    """Send one request, signed unless ``credentials`` is None; ``late_ms`` dates it back. Returns status and JSON."""
    text = "" if body is None else body if isinstance(body, str) else json.dumps(body)
    sent: dict[str, str] = {"Content-Type": "application/json"}
    if credentials is not None:
        moment = datetime.fromtimestamp((time.time_ns() // 1_000_000 - late_ms) / 1000, UTC)
        stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        sent |= {
            "OK-ACCESS-KEY": credentials.api_key,
            "OK-ACCESS-SIGN": sign(credentials.secret, f"{stamp}{method}{path}{text}"),
            "OK-ACCESS-TIMESTAMP": stamp,
            "OK-ACCESS-PASSPHRASE": credentials.passphrase,
        }
    for name, value in (headers or {}).items():
        if value:
            sent[name] = value
        else:
            sent.pop(name, None)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, simulator.rest["okx"] + path, data=text.encode() or None, headers=sent) as answer,
    ):
        return answer.status, json.loads(await answer.read())


def order(**fields: str) -> dict[str, str]:
    """Return the body of a small limit order in AAA-USDT, with some fields changed ("" takes one away)."""
    body = {"instId": "AAA-USDT", "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "90", "sz": "0.5"} | fields
    return {name: value for name, value in body.items() if value}


def login(credentials: Credentials, *, late_seconds: float = 0, **changed: str) -> dict[str, Any]:
    stamp = f"{time.time() - late_seconds:.3f}"
    return {
        "op": "login",
        "args": [
            {
                "apiKey": credentials.api_key,
                "passphrase": credentials.passphrase,
                "timestamp": stamp,
                "sign": sign(credentials.secret, f"{stamp}GET/users/self/verify"),
            }
            | changed
        ],
    }


@contextlib.asynccontextmanager
async def okx_socket(
    simulator: Simulator, url: str = "public", credentials: Credentials | None = None
) -> AsyncIterator[RawSocket]:
    """Open a raw socket on one of the three URLs, logged in when credentials are given."""
    async with raw_socket(f"{simulator.ws['okx']}/{url}") as socket:
        if credentials is not None:
            await socket.send(login(credentials))
            answer = await socket.next()
            assert answer["event"] == "login", answer
        yield socket
