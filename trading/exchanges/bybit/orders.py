"""Bybit's trade WebSocket for spot orders: logged on once, lean requests from templates.

Source: Bybit v5 API, WebSocket Trade Guideline.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

import msgspec

from trading.config import Credentials
from trading.exchanges.connection import ConnectionSettings
from trading.exchanges.generic.dialect import plain
from trading.exchanges.order_wire import BLANK, Answered, Form, LoggedOn, News, plain_text, settings
from trading.exchanges.protection import Exits
from trading.instruments import Market
from trading.messages import OrderIntent, TimeInForce

RECEIVE_WINDOW_MS = 5_000
LOGON_MS = 10_000  # for how long a logon is good
TIMES_IN_FORCE = {
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.GTC: "GTC",
    TimeInForce.POST_ONLY: "PostOnly",
}
REPEATED_LOGON = 20001
# "The service is restarting and takes no new requests; those under way are not affected": another connection does.
RESTARTING = 10019
HTTP_OK = 200


class BybitOrders:
    """Order messages of one account. ``now_ms`` is the exchange's time."""

    def __init__(self, url: str, credentials: Credentials, now_ms: Callable[[], int]) -> None:
        self.url = url
        self.settings: ConnectionSettings = settings(b'{"op":"ping"}')
        self.lives_seconds: float | None = None
        self.protects = False
        self._credentials = credentials
        self._now_ms = now_ms
        self._places: dict[tuple[str, str, TimeInForce], Form] = {}
        self._cancels: dict[str, Form] = {}

    def logon(self, identity: str) -> bytes | None:
        expires = str(self._now_ms() + LOGON_MS)
        signature = hmac.digest(self._credentials.secret.encode(), f"GET/realtime{expires}".encode(), "sha256").hex()
        return msgspec.json.encode({"op": "auth", "args": [self._credentials.api_key, expires, signature]})

    def place(self, intent: OrderIntent, market: Market, identity: str) -> bytes:
        key = (market.native_id, intent.side, intent.time_in_force)
        template = self._places.get(key)
        if template is None:
            template = self._places[key] = _request(
                "order.create",
                f'"symbol":"{plain_text(market.native_id, "native_id")}","side":"{intent.side.capitalize()}",'
                f'"orderType":"Limit","timeInForce":"{TIMES_IN_FORCE[intent.time_in_force]}","orderLinkId":"{BLANK}",'
                f'"price":"{BLANK}","category":"spot","qty":"{BLANK}"',
            )
        return template.filled(
            (
                identity,
                plain_text(intent.client_order_id, "client_order_id"),
                plain(intent.price),
                plain(intent.quantity),
                str(self._now_ms()),
            )
        )

    def cancel(self, intent: OrderIntent, market: Market, identity: str) -> bytes:
        template = self._cancels.get(market.native_id)
        if template is None:
            template = self._cancels[market.native_id] = _request(
                "order.cancel",
                f'"symbol":"{plain_text(market.native_id, "native_id")}","category":"spot","orderLinkId":"{BLANK}"',
            )
        name = plain_text(intent.client_order_id, "client_order_id")
        return template.filled((identity, name, str(self._now_ms())))

    def protect(self, exits: Exits, market: Market, identity: str) -> bytes:
        raise ValueError("the exchange takes no protective orders over this connection")

    def read(self, message: bytes) -> News:
        answer = _decode(message)
        if answer.op == "pong":
            return None
        if answer.op == "auth":
            taken = answer.retCode in {0, REPEATED_LOGON}
            return LoggedOn("" if taken else f"{answer.retCode} {answer.retMsg}")
        if not answer.reqId or answer.retCode is None:
            raise ValueError("an answer to nothing")
        text = msgspec.json.encode(answer.retMsg)
        now = answer.header.get("Timenow", "")
        body = b'{"retCode":%d,"retMsg":%b,"result":%b,"time":%b}' % (
            answer.retCode,
            text,
            bytes(answer.data),
            now.encode() if now.isdigit() else b"0",
        )
        ending = f"{answer.retCode} {answer.retMsg}" if answer.retCode == RESTARTING else ""
        return Answered(answer.reqId, HTTP_OK, body.decode(), answer.header, ending)


class _Answer(msgspec.Struct):
    op: str = ""
    reqId: str = ""  # noqa: N815  (the exchange's names)
    retCode: int | None = None  # noqa: N815
    retMsg: str = ""  # noqa: N815
    data: msgspec.Raw = msgspec.Raw(b"{}")
    header: dict[str, str] = {}


_decode = msgspec.json.Decoder(_Answer).decode


def _request(operation: str, arguments: str) -> Form:
    """Return a request with blanks for its id, the arguments' own and, last, the time."""
    header = f'"X-BAPI-TIMESTAMP":"{BLANK}","X-BAPI-RECV-WINDOW":"{RECEIVE_WINDOW_MS}"'
    return Form(f'{{"op":"{operation}","reqId":"{BLANK}","args":[{{{arguments}}}],"header":{{{header}}}}}')
