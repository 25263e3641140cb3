"""What ccxt.pro's WebSocket methods for orders need on each exchange, and what it answers there.

ccxt builds, signs and sends. What differs lies in a row: the address that is kept warm, native parameters where ccxt
would send unified ones as they are, what it leaves out, and how an answer is read as REST would give it.

An exchange that has such methods and no row is in WITHOUT, with the reason; its orders go by REST.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from trading.instruments import Market
from trading.messages import OrderIntent, TimeInForce

if TYPE_CHECKING:
    from trading.exchanges.generic.dialect import Dialect, Raw

HTTP_OK, HTTP_REFUSED = 200, 400
OKX_WINDOW_MS = 5_000

# ccxt ids whose orders don't go by ccxt's WebSocket methods though it has them (ccxt 4.5.90).
_OURS = "our own connection is kept there"
_NAMELESS = "ccxt's order has no place for our client order id"
_KEY = "orders are signed with a wallet's key, which no account here holds"
WITHOUT: Mapping[str, str] = {
    "binance": _OURS,
    "binanceusdm": _OURS,
    "okx": _OURS,
    "bybit": _OURS,
    "binancecoinm": "there are no spot markets",
    "binanceus": "ccxt would send its orders to binance.com",
    "bitvavo": "each order wants an operator's number, which no account here has",
    "cex": _NAMELESS,
    "coinbaseinternational": "ccxt takes another address than the configured one for some kinds of keys",
    "hyperliquid": _KEY,
    "lighter": _KEY,
    "nado": _KEY,
    "pacifica": _KEY,
}


class SocketMethods:
    """One account's. ``identity`` is the field of an answer that says which request it answers; ``cancels`` whether
    ccxt can name an order by our id when it cancels: where it can't, cancellations go by REST."""

    identity: ClassVar[str] = "id"
    cancels: ClassVar[bool] = True
    # Texts that are no JSON and say nothing of orders.
    words: ClassVar[frozenset[str]] = frozenset({"pong"})

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def address(self, client: Any) -> str:
        """Return the address ccxt sends orders to."""
        return str(client.urls["api"]["ws"]["private"])

    async def log_on(self, client: Any) -> None:
        """Log a new connection on; asked each second, it is to see to it that a logon that ends is renewed."""
        await client.authenticate()

    async def place(self, client: Any, intent: OrderIntent, market: Market) -> Raw:
        order: Raw = await client.create_order_ws(
            market.symbol,
            self.order_type(intent),
            intent.side,
            f"{intent.quantity:f}",
            f"{intent.price:f}",
            self.order_params(intent),
        )
        return order

    async def cancel(self, client: Any, intent: OrderIntent, market: Market) -> Raw | None:
        answer: Raw | None = await client.cancel_order_ws(None, market.symbol, self.dialect.cancel_params(intent))
        return answer

    def order_type(self, intent: OrderIntent) -> str:
        return self.dialect.order_type(intent)

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        return self.dialect.order_params(intent)

    def complete(self, client: Any, message: dict[str, Any], market: Market) -> None:
        """Add what ccxt leaves out of a request, before it is written."""

    def is_news(self, message: Mapping[str, Any]) -> bool:
        """Return whether a message without ``identity`` is no answer to an order: a logon's, a channel's, a pong."""
        return any(name in message for name in ("event", "channel", "method", "ch"))

    def read(self, message: Mapping[str, Any], text: str) -> tuple[int, str] | None:
        """Return an answer's HTTP status and body as the REST endpoint would give them; None for a mere receipt.

        Raises ValueError, KeyError or TypeError for what can't be read.
        """
        return (HTTP_REFUSED, text) if message.get("error") is not None else (HTTP_OK, text)


class OkxMethods(SocketMethods):
    """OKX's other houses. The connection is logged on, so a request gets a deadline: a late one would be executed."""

    def address(self, client: Any) -> str:
        return str(client.get_url("private", "private"))

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {**super().order_params(intent), "op": "order"}

    def complete(self, client: Any, message: dict[str, Any], market: Market) -> None:
        message["expTime"] = str(client.milliseconds() + OKX_WINDOW_MS)
        for row in message["args"]:
            if row.get("instIdCode") is None and "instId" not in row:  # ccxt cancels by a code some markets lack
                row.pop("instIdCode", None)
                row["instId"] = market.native_id

    def is_news(self, message: Mapping[str, Any]) -> bool:
        # An error that doesn't say of which request may be of any.
        return message.get("event", "error") != "error" or "arg" in message

    def read(self, message: Mapping[str, Any], text: str) -> tuple[int, str] | None:
        return HTTP_OK, text


class BybitMethods(SocketMethods):
    """Bybit's other houses."""

    identity: ClassVar[str] = "reqId"

    def address(self, client: Any) -> str:
        return str(client.implode_hostname(client.urls["api"]["ws"]["private"]["trade"]))

    async def log_on(self, client: Any) -> None:
        await client.authenticate(self.address(client))

    async def cancel(self, client: Any, intent: OrderIntent, market: Market) -> Raw | None:
        named = {"orderLinkId": self.dialect.wire_id(intent)}
        answer: Raw | None = await client.cancel_order_ws(None, market.symbol, named)
        return answer

    def is_news(self, message: Mapping[str, Any]) -> bool:
        return message.get("op") in {"auth", "ping", "pong"}

    def read(self, message: Mapping[str, Any], text: str) -> tuple[int, str] | None:
        body = {"retCode": message["retCode"], "retMsg": message.get("retMsg"), "result": message.get("data")}
        return HTTP_OK, msgspec.json.encode(body).decode()


class GateMethods(SocketMethods):
    """Gate and its other houses: an answer's header has the status, its data what REST would say."""

    identity: ClassVar[str] = "request_id"

    def address(self, client: Any) -> str:
        return str(client.urls["api"]["spot"])

    async def log_on(self, client: Any) -> None:
        # Not awaited inside ccxt where it is under way already.
        logon = await client.authenticate(self.address(client), "spot")
        if hasattr(logon, "__await__"):
            await logon

    async def cancel(self, client: Any, intent: OrderIntent, market: Market) -> Raw | None:
        # Its order_id may be our text (websocket v4, order cancel), which has a prefix.
        answer: Raw | None = await client.cancel_order_ws(f"t-{self.dialect.wire_id(intent)}", market.symbol)
        return answer

    def is_news(self, message: Mapping[str, Any]) -> bool:
        return "channel" in message

    def read(self, message: Mapping[str, Any], text: str) -> tuple[int, str] | None:
        if message.get("ack") is True:
            return None
        data = message["data"]
        body = data["errs"] if data.get("errs") else data["result"]
        return int(message["header"]["status"]), msgspec.json.encode(body).decode()


class HitbtcMethods(SocketMethods):
    """HitBTC and Bequant: ``client_order_id`` under its own name."""

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        params = super().order_params(intent)
        return {"client_order_id": params.pop("clientOrderId"), **params}

    async def cancel(self, client: Any, intent: OrderIntent, market: Market) -> Raw | None:
        answer: Raw | None = await client.cancel_order_ws(self.dialect.wire_id(intent), market.symbol)
        return answer

    def is_news(self, message: Mapping[str, Any]) -> bool:
        return "result" in message or super().is_news(message)


class CryptocomMethods(SocketMethods):
    """Crypto.com: ``client_oid`` under its own name; ccxt cancels by the exchange's id only."""

    cancels: ClassVar[bool] = False

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        params = super().order_params(intent)
        return {"client_oid": params.pop("clientOrderId"), **params}

    def read(self, message: Mapping[str, Any], text: str) -> tuple[int, str] | None:
        return (HTTP_OK if str(message["code"]) == "0" else HTTP_REFUSED), text


class PoloniexMethods(SocketMethods):
    """Poloniex: ccxt would send a post-only order as one that takes; it cancels by the exchange's id only."""

    cancels: ClassVar[bool] = False

    def order_type(self, intent: OrderIntent) -> str:
        return "LIMIT_MAKER" if intent.time_in_force is TimeInForce.POST_ONLY else super().order_type(intent)

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        params = super().order_params(intent)
        params.pop("postOnly", None)
        return params

    def read(self, message: Mapping[str, Any], text: str) -> tuple[int, str] | None:
        (row,) = message["data"]
        taken = message.get("event") != "error" and str(row.get("orderId") or "0") != "0"
        return (HTTP_OK if taken else HTTP_REFUSED), text


# ccxt id -> its row; Kraken's is its dialect's own.
METHODS: Mapping[str, type[SocketMethods]] = {
    "gate": GateMethods,
    "okxus": OkxMethods,
    "myokx": OkxMethods,
    "bybiteu": BybitMethods,
    "bybitid": BybitMethods,
    "gateeu": GateMethods,
    "hitbtc": HitbtcMethods,
    "bequant": HitbtcMethods,
    "cryptocom": CryptocomMethods,
    "poloniex": PoloniexMethods,
}
