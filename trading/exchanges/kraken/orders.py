"""Kraken's WebSocket for orders, as ccxt.pro speaks it: what ccxt leaves out, and answers as REST gives them.

Source: docs.kraken.com, spot websocket v2: add_order, cancel_order.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from trading.exchanges.generic.socket_methods import HTTP_OK, HTTP_REFUSED, SocketMethods
from trading.instruments import Market
from trading.messages import OrderIntent

if TYPE_CHECKING:
    from trading.exchanges.generic.dialect import Raw


def deadline(now_ms: int, seconds: float) -> str:
    """Return a moment in so many seconds from the exchange's time, as Kraken reads it."""
    moment = datetime.fromtimestamp(now_ms / 1000 + seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class KrakenMethods(SocketMethods):
    """There is no logon: a token, had by REST for a quarter of an hour, stands in each request."""

    identity: ClassVar[str] = "req_id"

    def address(self, client: Any) -> str:
        return str(client.urls["api"]["ws"]["privateV2"])

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        params = super().order_params(intent)
        del params["oflags"]  # REST's; what it says goes in by itself below
        return params

    async def cancel(self, client: Any, intent: OrderIntent, market: Market) -> Raw | None:
        # Not by market, which ccxt refuses, and by our id, for which it has no place of its own.
        named = {"cl_ord_id": [self.dialect.wire_id(intent)], "token": await client.authenticate()}
        answer: Raw | None = await client.cancel_order_ws(None, None, {"params": named})
        return answer

    def complete(self, client: Any, message: dict[str, Any], market: Market) -> None:
        if message["method"] == "add_order":
            until = deadline(client.milliseconds(), self.dialect.window_seconds)
            message["params"] |= {"deadline": until, "fee_preference": "quote"}

    def is_news(self, message: Mapping[str, Any]) -> bool:
        return "channel" in message or message.get("method") == "pong"

    def read(self, message: Mapping[str, Any], text: str) -> tuple[int, str] | None:
        if message["success"] is True:
            ids = [named] if (named := message["result"].get("order_id")) else []
            return HTTP_OK, msgspec.json.encode({"error": [], "result": {"txid": ids}}).decode()
        said = str(message["error"])
        # REST's errors all begin so; what doesn't is nothing the table knows.
        status = HTTP_OK if said.startswith("E") else HTTP_REFUSED
        return status, msgspec.json.encode({"error": [said]}).decode()
