"""Binance's WebSocket API for orders, spot and USD-M futures: lean requests from templates, signed or logged on.

Sources: binance-spot-api-docs, web-socket-api.md; derivatives docs, USDS-M futures, WebSocket API.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from trading.config import Credentials
from trading.exchanges.binance import protection
from trading.exchanges.connection import ConnectionSettings
from trading.exchanges.generic.dialect import plain
from trading.exchanges.hmac_key import HmacKey
from trading.exchanges.order_wire import BLANK, Answered, Ending, Form, LoggedOn, News, plain_text, settings
from trading.exchanges.protection import Exits
from trading.instruments import Market
from trading.messages import OrderIntent, TimeInForce

RECEIVE_WINDOW_MS = 5_000
LOGON = "session.logon"
LIMITED = frozenset({418, 429})
# The headers that say the same of a REST answer: what dialects read.
COUNTED = {("REQUEST_WEIGHT", "MINUTE", 1): "x-mbx-used-weight-1m", ("ORDERS", "SECOND", 10): "x-mbx-order-count-10s"}
ENDINGS = frozenset({"serverShutdown"})
Value = str | int | bool


class Product(msgspec.Struct, frozen=True):
    """What differs between spot and futures: the address' name in ccxt, and parameters of orders."""

    address: str
    answer: str  # newOrderRespType
    post_only: Mapping[str, str]
    is_future: bool


SPOT = Product("spot", "FULL", {"type": "LIMIT_MAKER"}, is_future=False)
USD_M = Product("linear", "RESULT", {"type": "LIMIT", "timeInForce": "GTX"}, is_future=True)


class Template:
    """A request of which a few values, the ``holes``, differ from one to the next.

    Parameters stand in the order they are signed in, by name, the signature last; ``payload`` is what is signed. On a
    connection that is logged on neither key nor signature is written.
    """

    __slots__ = ("message", "payload")

    def __init__(self, method: str, fixed: Mapping[str, Value], holes: Mapping[str, bool], *, signed: bool) -> None:
        names = sorted({*fixed, *holes})
        self.payload = Form("&".join(f"{name}={BLANK if name in holes else _text(fixed[name])}" for name in names))
        blanks = {name: f'"{BLANK}"' if is_text else BLANK for name, is_text in holes.items()}
        parts = [f"{_json(name)}:{blanks.get(name) or _json(fixed[name])}" for name in names]
        if signed:
            parts.append(f'"signature":"{BLANK}"')
        self.message = Form(f'{{"id":"{BLANK}","method":{_json(method)},"params":{{{",".join(parts)}}}}}')


# Name of a parameter that is filled in, in the order of their names, and whether it is a text.
PLACE_HOLES = {"newClientOrderId": True, "price": True, "quantity": True, "timestamp": False}
CANCEL_HOLES = {"origClientOrderId": True, "timestamp": False}


class BinanceOrders:
    """Order messages of one account. ``now_ms`` is the exchange's time; ``position_side`` says which position an order
    of a futures account in hedge mode is for, empty in one-way mode; None where there are no positions.

    Raises ValueError for a key that is neither an HMAC secret nor an Ed25519 private key.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        now_ms: Callable[[], int],
        *,
        product: Product = SPOT,
        position_side: Callable[[OrderIntent], str] | None = None,
    ) -> None:
        self.url = url
        self.settings: ConnectionSettings = settings()
        self.lives_seconds: float | None = 86_400.0  # web-socket-api.md, general information
        self.protects = not product.is_future
        self._api_key = credentials.api_key
        self._now_ms = now_ms
        self._product = product
        self._position_side = position_side
        self._secret = HmacKey(credentials.secret.encode())
        self._private_key = _private_key(credentials.secret)
        self._logs_on = self._private_key is not None  # HMAC keys can't: each of their requests is signed
        self._logon = ""
        self._places: dict[tuple[str, str, TimeInForce, bool, str], Template] = {}
        self._cancels: dict[str, Template] = {}
        self._exits: dict[tuple[str, ...], Template] = {}

    def logon(self, identity: str) -> bytes | None:
        if not self._logs_on:
            return None
        self._logon = identity
        fixed: dict[str, Value] = {"apiKey": self._api_key, "recvWindow": RECEIVE_WINDOW_MS}
        template = Template(LOGON, fixed, {"timestamp": False}, signed=True)
        return self._filled(template, identity, (str(self._now_ms()),), signed=True)

    def place(self, intent: OrderIntent, market: Market, identity: str) -> bytes:
        side = "" if self._position_side is None else self._position_side(intent)
        key = (market.native_id, intent.side, intent.time_in_force, intent.reduce_only, side)
        template = self._places.get(key)
        if template is None:
            template = self._places[key] = self._place_template(intent, market, side)
        values = (
            plain_text(intent.client_order_id, "client_order_id"),
            plain(intent.price),
            plain(intent.quantity),
            str(self._now_ms()),
        )
        return self._filled(template, identity, values, signed=not self._logs_on)

    def cancel(self, intent: OrderIntent, market: Market, identity: str) -> bytes:
        template = self._cancels.get(market.native_id)
        if template is None:
            fixed = self._common(market)
            template = Template("order.cancel", fixed, CANCEL_HOLES, signed=not self._logs_on)
            self._cancels[market.native_id] = template
        values = (plain_text(intent.client_order_id, "client_order_id"), str(self._now_ms()))
        return self._filled(template, identity, values, signed=not self._logs_on)

    def protect(self, exits: Exits, market: Market, identity: str) -> bytes:
        if not self.protects:
            raise ValueError("protective orders of futures are not placed from here")
        method, given = protection.method_of(exits), protection.parameters(exits)
        holes = {name: value for name, value in given.items() if not protection.is_fixed(name)}
        key = (method, market.native_id, given["side"], *sorted(holes))
        template = self._exits.get(key)
        if template is None:
            fixed = {name: value for name, value in given.items() if name not in holes}
            names = {**dict.fromkeys(holes, True), "timestamp": False}
            template = Template(method, {**self._common(market), **fixed}, names, signed=not self._logs_on)
            self._exits[key] = template
        texts = {name: _plain(value, name) for name, value in holes.items()}
        texts["timestamp"] = str(self._now_ms())
        values = tuple(texts[name] for name in sorted(texts))
        return self._filled(template, identity, values, signed=not self._logs_on)

    def read(self, message: bytes) -> News:
        answer = _decode(message)
        if answer.event is not None:
            return Ending(answer.event.e) if answer.event.e in ENDINGS else None
        if not answer.status or answer.id is None:
            raise ValueError("neither an answer nor an event")
        identity = str(answer.id)
        body = bytes(answer.error if answer.status >= 400 else answer.result).decode()
        if identity == self._logon:
            return LoggedOn("" if answer.status == 200 else body)
        return Answered(identity, answer.status, body, _headers(answer, body))

    def _place_template(self, intent: OrderIntent, market: Market, position_side: str) -> Template:
        fixed = {**self._common(market), "newOrderRespType": self._product.answer, "side": intent.side.upper()}
        if intent.time_in_force is TimeInForce.POST_ONLY:
            fixed |= self._product.post_only
        else:
            fixed |= {"type": "LIMIT", "timeInForce": intent.time_in_force.value}
        if position_side:
            fixed["positionSide"] = position_side
        elif intent.reduce_only and self._product.is_future:  # in hedge mode the side says it
            fixed["reduceOnly"] = True
        return Template("order.place", fixed, PLACE_HOLES, signed=not self._logs_on)

    def _common(self, market: Market) -> dict[str, Value]:
        fixed: dict[str, Value] = {
            "symbol": market.native_id,
            "recvWindow": RECEIVE_WINDOW_MS,
            "returnRateLimits": True,
        }
        return fixed if self._logs_on else fixed | {"apiKey": self._api_key}

    def _filled(self, template: Template, identity: str, values: tuple[str, ...], *, signed: bool) -> bytes:
        if not signed:
            return template.message.filled((identity, *values))
        payload = template.payload.filled(values)
        if self._private_key is None:
            signature = self._secret.hexdigest(payload)
        else:
            signature = base64.b64encode(self._private_key.sign(payload)).decode()
        return template.message.filled((identity, *values, signature))


class _Event(msgspec.Struct):
    e: str = ""


class _RateLimit(msgspec.Struct):
    rateLimitType: str = ""  # noqa: N815  (the exchange's names)
    interval: str = ""
    intervalNum: int = 0  # noqa: N815
    count: int = 0


class _Message(msgspec.Struct):
    id: str | int | None = None
    status: int = 0
    result: msgspec.Raw = msgspec.Raw(b"{}")
    error: msgspec.Raw = msgspec.Raw(b"{}")
    rateLimits: list[_RateLimit] = []  # noqa: N815
    event: _Event | None = None


_decode = msgspec.json.Decoder(_Message).decode


def _headers(answer: _Message, body: str) -> dict[str, str]:
    """Return the headers a REST answer would have had: what was used of the limits, and for how long to wait."""
    found = {}
    for row in answer.rateLimits:
        name = COUNTED.get((row.rateLimitType, row.interval, row.intervalNum))
        if name is not None:
            found[name] = str(row.count)
    if answer.status in LIMITED:
        data: Any = (msgspec.json.decode(body) or {}).get("data") or {}
        until, now = data.get("retryAfter"), data.get("serverTime")
        if isinstance(until, int) and isinstance(now, int):
            found["Retry-After"] = str(max(1, math.ceil((until - now) / 1000)))
    return found


def _private_key(secret: str) -> Ed25519PrivateKey | None:
    if "PRIVATE KEY" not in secret:
        return None
    try:
        key = load_pem_private_key(secret.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the private key is no Ed25519 key without a password: orders go by REST")
    return key


def _plain(value: str, name: str) -> str:
    return plain_text(value, name) if name.endswith("ClientOrderId") else value


def _text(value: Value) -> str:
    return _json(value) if isinstance(value, bool) else str(value)


def _json(value: Value) -> str:
    return msgspec.json.encode(value).decode()
