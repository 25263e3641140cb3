"""A bare Binance client for what ccxt hides: raw bodies, headers, wrong signatures, socket frames."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.exchangesim.simulator import Credentials, Simulator

WAIT = 15.0


def sign(payload: str, secret: str) -> str:
    """Sign as the owner of ``secret``: HMAC, or Ed25519 for a private key in PEM."""
    if "PRIVATE KEY" in secret:
        key = load_pem_private_key(secret.encode(), None)
        assert isinstance(key, Ed25519PrivateKey)
        return base64.b64encode(key.sign(payload.encode())).decode()
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawBinance:
    """One account's (or nobody's) requests to a simulated Binance."""

    def __init__(
        self, simulator: Simulator, session: aiohttp.ClientSession, credentials: Credentials | None = None
    ) -> None:
        exchange = credentials.exchange if credentials is not None else "binance"
        self.rest, self.ws = simulator.rest[exchange], simulator.ws[exchange]
        self.session, self.credentials = session, credentials

    async def get(self, path: str, **parameters: Any) -> Reply:
        """Send a public request."""
        return await self._send("GET", f"{path}?{urlencode(parameters)}", {})

    async def signed(self, method: str, path: str, **parameters: Any) -> Reply:
        """Send a signed request; ``timestamp`` and ``signature`` may be given wrong on purpose."""
        assert self.credentials is not None
        signature = parameters.pop("signature", None)
        parameters.setdefault("timestamp", int(time.time() * 1000))
        query = urlencode({name: value for name, value in parameters.items() if value is not None})
        signature = signature or sign(query, self.credentials.secret)
        return await self._send(
            method, f"{path}?{query}&{urlencode({'signature': signature})}", {"X-MBX-APIKEY": self.credentials.api_key}
        )

    async def order(self, **parameters: Any) -> Reply:
        """Place a limit order unless told otherwise."""
        defaults = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
        return await self.signed("POST", "/api/v3/order", **{**defaults, **parameters})

    async def _send(self, method: str, path: str, headers: dict[str, str]) -> Reply:
        async with self.session.request(method, self.rest + path, headers=headers) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    @contextlib.asynccontextmanager
    async def socket(self, path: str) -> AsyncIterator[RawSocket]:
        async with self.session.ws_connect(self.ws + path) as socket:
            yield RawSocket(socket, self.credentials)


class RawSocket:
    """A stream or WebSocket API connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, credentials: Credentials | None) -> None:
        self.socket, self.credentials = socket, credentials
        self._ids = itertools.count(1)
        self._kept: list[Any] = []

    async def receive(self) -> Any:
        """Return the next message, kept ones first."""
        if self._kept:
            return self._kept.pop(0)
        return await self._read()

    async def _read(self) -> Any:
        message = await asyncio.wait_for(self.socket.receive(), WAIT)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(f"the socket closed ({message.type.name})")
        return json.loads(message.data)

    async def call(self, method: str, **params: Any) -> Any:
        """Send a request and return its answer; other messages are kept for ``receive``."""
        identity = next(self._ids)
        await self.socket.send_str(json.dumps({"id": identity, "method": method, "params": params}))
        while True:
            message = await self._read()
            if message.get("id") == identity and "event" not in message:
                return message
            self._kept.append(message)

    async def subscribe(self, *names: str) -> Any:
        identity = next(self._ids)
        await self.socket.send_str(json.dumps({"id": identity, "method": "SUBSCRIBE", "params": list(names)}))
        while True:
            message = await self._read()
            if message.get("id") == identity:
                return message
            self._kept.append(message)

    def sign(self, **params: Any) -> dict[str, Any]:
        """Return parameters with key, timestamp and signature."""
        assert self.credentials is not None
        params = {"apiKey": self.credentials.api_key, "timestamp": int(time.time() * 1000), **params}
        payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
        return {**params, "signature": sign(payload, self.credentials.secret)}

    async def event(self, name: str, **fields: Any) -> Any:
        """Return the next user data event of this name with these fields, as wrapped; others are dropped."""
        while True:
            message = await self.receive()
            event = message.get("event", {})
            if event.get("e") == name and all(event.get(field) == value for field, value in fields.items()):
                return message


@contextlib.asynccontextmanager
async def raw_binance(simulator: Simulator, credentials: Credentials | None = None) -> AsyncIterator[RawBinance]:
    async with aiohttp.ClientSession() as session:
        yield RawBinance(simulator, session, credentials)
