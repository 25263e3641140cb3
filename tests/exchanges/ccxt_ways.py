"""Binance, OKX and Bybit with nothing of ours but their tables: their orders leave by ccxt.pro's WebSocket methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from trading.config import Credentials
from trading.exchanges.binance.venue import BinanceDialect
from trading.exchanges.bybit.venue import BybitDialect
from trading.exchanges.ccxt_client import HttpAnswer
from trading.exchanges.generic.dialect import Dialect, Reading, parse
from trading.exchanges.generic.socket_methods import BybitMethods, OkxMethods, SocketMethods
from trading.exchanges.okx.venue import OkxDialect
from trading.exchanges.order_wire import OrderWire


class BinanceMethods(SocketMethods):
    """Each request is signed, so there is no logon; ccxt's would subscribe to the account's events."""

    def address(self, client: Any) -> str:
        return str(client.urls["api"]["ws"]["ws-api"]["spot"])

    async def log_on(self, client: Any) -> None:
        """Nothing to be done."""

    def is_news(self, message: Mapping[str, Any]) -> bool:
        return "event" in message

    def read(self, message: Mapping[str, Any], text: str) -> tuple[int, str] | None:
        body = message["error"] if message["status"] >= 400 else message["result"]
        return message["status"], msgspec.json.encode(body).decode()


class _ThroughCcxt(Dialect):
    methods: ClassVar[type[SocketMethods]]

    def order_wire(self, client: Any, credentials: Credentials, now_ms: Callable[[], int]) -> OrderWire | None:
        return None

    def socket_methods(self, client: Any) -> SocketMethods | None:
        return self.methods(self)


class BinanceThroughCcxt(_ThroughCcxt, BinanceDialect):
    methods = BinanceMethods

    def told_to_wait(self, answer: HttpAnswer, reading: Reading, now_ns: int) -> float | None:
        # By WebSocket a limit's end stands in the answer, by REST in a header.
        data = parse(answer.body).get("data") or {}
        if "retryAfter" in data:
            return (float(data["retryAfter"]) - float(data["serverTime"])) / 1000
        return super().told_to_wait(answer, reading, now_ns)


class OkxThroughCcxt(_ThroughCcxt, OkxDialect):
    methods = OkxMethods


class BybitThroughCcxt(_ThroughCcxt, BybitDialect):
    methods = BybitMethods


THROUGH_CCXT: Mapping[str, type[Dialect]] = {
    "binance": BinanceThroughCcxt,
    "okx": OkxThroughCcxt,
    "bybit": BybitThroughCcxt,
}
