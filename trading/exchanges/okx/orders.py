"""OKX's private WebSocket for orders: logged on once, lean requests from templates.

Source: OKX API v5 guide, WebSocket / Trade. The parameters are those ccxt sends, but for its broker tag, and with
``expTime``: a request on a connection that is logged on carries no time of its own, and one that is late would live.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Any

import msgspec

from trading.config import Credentials
from trading.exchanges.connection import ConnectionSettings
from trading.exchanges.generic.dialect import plain
from trading.exchanges.order_wire import BLANK, Answered, Ending, Form, LoggedOn, News, plain_text, settings
from trading.exchanges.protection import Exits
from trading.instruments import Market
from trading.messages import OrderIntent, TimeInForce

WINDOW_MS = 5_000
LOGIN_PATH = "GET/users/self/verify"
ORDER_TYPES = {
    TimeInForce.IOC: "ioc",
    TimeInForce.FOK: "fok",
    TimeInForce.GTC: "limit",
    TimeInForce.POST_ONLY: "post_only",
}
HTTP_OK = 200


class OkxOrders:
    """Order messages of one account. ``now_ms`` is the exchange's time; ``code_of`` gives a market's ``instIdCode``,
    which takes the place of its name where the exchange has one."""

    def __init__(
        self, url: str, credentials: Credentials, now_ms: Callable[[], int], code_of: Callable[[Market], int | None]
    ) -> None:
        self.url = url
        self.settings: ConnectionSettings = settings(b"ping")
        self.lives_seconds: float | None = None
        self.protects = False
        self._credentials = credentials
        self._now_ms = now_ms
        self._code_of = code_of
        self._logged_on = False
        self._places: dict[tuple[str, str, TimeInForce], Form] = {}
        self._cancels: dict[str, Form] = {}

    def logon(self, identity: str) -> bytes | None:
        self._logged_on = False
        stamp = str(self._now_ms() // 1000)
        signature = hmac.digest(self._credentials.secret.encode(), f"{stamp}{LOGIN_PATH}".encode(), "sha256")
        arguments = {
            "apiKey": self._credentials.api_key,
            "passphrase": self._credentials.passphrase,
            "timestamp": stamp,
            "sign": base64.b64encode(signature).decode(),
        }
        return msgspec.json.encode({"op": "login", "args": [arguments]})

    def place(self, intent: OrderIntent, market: Market, identity: str) -> bytes:
        key = (market.native_id, intent.side, intent.time_in_force)
        template = self._places.get(key)
        if template is None:
            template = self._places[key] = self._place_template(intent, market)
        return template.filled(
            (
                identity,
                plain(intent.quantity),
                plain(intent.price),
                plain_text(intent.client_order_id, "client_order_id"),
                str(self._now_ms() + WINDOW_MS),
            )
        )

    def cancel(self, intent: OrderIntent, market: Market, identity: str) -> bytes:
        template = self._cancels.get(market.native_id)
        if template is None:
            order = f'{self._named(market)},"clOrdId":"{BLANK}"'
            template = self._cancels[market.native_id] = _request("cancel-order", order)
        name = plain_text(intent.client_order_id, "client_order_id")
        return template.filled((identity, name, str(self._now_ms() + WINDOW_MS)))

    def protect(self, exits: Exits, market: Market, identity: str) -> bytes:
        raise ValueError("the exchange takes no protective orders over this connection")

    def read(self, message: bytes) -> News:
        if message == b"pong":
            return None
        answer: Any = msgspec.json.decode(message)
        if not isinstance(answer, dict):
            raise ValueError("not an object")
        event = answer.get("event")
        if event == "login" or (event == "error" and not self._logged_on):
            code = str(answer["code"])
            self._logged_on = code == "0"
            return LoggedOn("" if self._logged_on else f"{code} {answer.get('msg')}")
        if event == "notice":
            return Ending(f"{answer.get('code')} {answer.get('msg')}")
        if event == "error":
            raise ValueError("an error that doesn't say of which request")
        if event is not None:
            return None
        identity = answer["id"]
        if not identity or not isinstance(identity, str):
            raise ValueError("an answer to nothing")
        return Answered(identity, HTTP_OK, message.decode())

    def _place_template(self, intent: OrderIntent, market: Market) -> Form:
        order = (
            f'"side":"{intent.side}","ordType":"{ORDER_TYPES[intent.time_in_force]}","sz":"{BLANK}","tdMode":"cash",'
            f'"tgtCcy":"base_ccy","px":"{BLANK}","clOrdId":"{BLANK}"'
        )
        named = self._named(market)
        return _request("order", f"{named},{order}" if self._code_of(market) is None else f"{order},{named}")

    def _named(self, market: Market) -> str:
        code = self._code_of(market)
        if code is not None:
            return f'"instIdCode":{code:d}'
        return f'"instId":"{plain_text(market.native_id, "native_id")}"'


def _request(operation: str, order: str) -> Form:
    """Return a request with blanks for its id, the order's own and, last, the time it is good until."""
    return Form(f'{{"id":"{BLANK}","op":"{operation}","args":[{{{order}}}],"expTime":"{BLANK}"}}')
