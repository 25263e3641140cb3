"""Coinbase Advanced Trade: client order ids as UUIDs, by which orders are found in lists only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from trading.exchanges.budget import Window
from trading.exchanges.coinbase import outcomes
from trading.exchanges.generic.dialect import Dialect, Incomplete, Raw, Reading, decimal, parse, required
from trading.exchanges.outcomes import Table
from trading.exchanges.retries import Trouble
from trading.exchanges.uuid_ids import as_uuid, from_uuid
from trading.instruments import Market
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState, TimeInForce

PAGE, MOST_PAGES = 250, 100
EARLIER_SECONDS = 60  # how much earlier than by our clock an order may have been created
NS = 1_000_000_000

# List Orders: status.
STATES: Mapping[str, OrderState] = {
    "PENDING": OrderState.PLACED,
    "QUEUED": OrderState.PLACED,
    "OPEN": OrderState.PLACED,
    "CANCEL_QUEUED": OrderState.PLACED,
    "FILLED": OrderState.FILLED,
    "CANCELLED": OrderState.CANCELLED,
    "EXPIRED": OrderState.CANCELLED,
    "FAILED": OrderState.FAILED,
}


class CoinbaseDialect(Dialect):
    window_seconds: ClassVar[float] = 120.0  # API key authentication: a token lives for two minutes
    backend_seconds: ClassVar[float] = 20.0  # not documented
    table: ClassVar[Table] = outcomes.TABLE
    troubles: ClassVar[Mapping[str, Trouble]] = outcomes.TROUBLES
    # Advanced Trade REST rate limits: 30 private requests a second by user, 10 public ones by address.
    windows: ClassVar[Mapping[str, Window]] = {
        "private": Window(limit=30, seconds=1, kept=10),
        "public": Window(limit=10, seconds=1, counts="address"),
    }
    costs: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "place": {"private": 1},
        "cancel": {"private": 2},
        "order": {"private": 2},
        "order_page": {"private": 1},
        "open_orders": {"private": 1},
        "open_orders_page": {"private": 1},
        "fills": {"private": 1},
        "fills_page": {"private": 1},
        "balances": {"private": 1},
        "time": {"public": 3},
    }

    def __init__(self, names: Any) -> None:
        super().__init__(names)
        self._ids: dict[str, str] = {}  # the exchange's order ids by ours, of this process's orders

    def wire_id(self, intent: OrderIntent) -> str:
        return as_uuid(intent.client_order_id)

    def local_refusal(self, intent: OrderIntent) -> str:
        try:
            self.wire_id(intent)
        except ValueError as error:
            return str(error)
        return ""

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        # Not as ccxt's clientOrderId: it leaves that out and makes up one of its own.
        return {"client_order_id": self.wire_id(intent), "timeInForce": intent.time_in_force.value}

    def takes(self, client: Any, time_in_force: TimeInForce) -> bool:
        return True  # Create Order: sor_limit_ioc, limit_limit_fok, limit_limit_gtc with post_only

    async def create_order(self, client: Any, intent: OrderIntent, market: Market) -> Raw:
        order = await super().create_order(client, intent, market)
        if order.get("id"):
            self._ids[intent.client_order_id] = str(order["id"])
        return order

    async def cancel_order(self, client: Any, intent: OrderIntent, market: Market) -> None:
        order_id = self._ids.get(intent.client_order_id, "")
        if not order_id:
            data = await self._find(client, intent, market)
            if data is None:
                raise LookupError("the order is not in the exchange's list")
            order_id = str(data["order_id"])
        await client.cancel_order(order_id, market.symbol)

    def read(self, body: str) -> Reading:
        data = parse(body)
        success, failure = _section(data, "success_response"), _section(data, "error_response")
        if success and data.get("success") is True:
            return Reading(
                exchange_order_id=str(success.get("order_id") or ""),
                client_order_id=from_uuid(str(success.get("client_order_id") or "")),
            )
        if failure:
            named = [str(failure.get(name) or "") for name in ("new_order_failure_reason", "error")]
            named.append(str(failure.get("preview_failure_reason") or ""))
            code = next((name for name in named if name and not name.startswith("UNKNOWN")), named[0] or named[1])
            message = str(failure.get("message") or failure.get("error_details") or "")
            return Reading(code=code or "UNKNOWN_FAILURE_REASON", message=message)
        errors = data.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            return Reading(code=str(errors[0].get("id") or ""), message=str(errors[0].get("message") or ""))
        message = str(data.get("message") or data.get("error_details") or "")
        return Reading(code=str(data.get("error") or ""), message=message)

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        data = await self._find(client, intent, market)
        if data is None:
            return None
        event = self._event(data)
        if not event.filled:
            return event
        trades = await self._pages(client, "order", "fills", {"order_ids": [str(data["order_id"])]})
        fills = tuple(self._fill(trade, intent.client_order_id) for trade in trades)
        return msgspec.structs.replace(event, fills=fills)

    async def _find(self, client: Any, intent: OrderIntent, market: Market) -> Raw | None:
        """Return the order from the list of those made since: the exchange has no question by client order id."""
        earliest = intent.created_ns // NS - EARLIER_SECONDS
        wanted = {"product_ids": [market.native_id], "start_date": _text(earliest)}
        named = self.wire_id(intent)
        rows = await self._pages(client, "order", "orders", wanted)
        return next((row for row in rows if row.get("client_order_id") == named), None)

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        rows = await self._pages(client, "open_orders", "orders", {"order_status": ["OPEN"], "product_type": "SPOT"})
        return [self._event(row) for row in rows]

    async def fetch_fills(self, client: Any, market: Market, since_ms: int, own: Mapping[str, str]) -> list[Fill]:
        wanted = {"product_ids": [market.native_id], "start_sequence_timestamp": _text(since_ms / 1000)}
        trades = await self._pages(client, "fills", "fills", wanted)
        return [self._fill(trade, own.get(str(trade["order_id"]), "")) for trade in trades]

    async def _pages(self, client: Any, operation: str, kind: str, wanted: Mapping[str, Any]) -> list[Raw]:
        """Return all pages of ``orders`` or ``fills``, by the exchange's cursor."""
        call = {
            "orders": client.v3PrivateGetBrokerageOrdersHistoricalBatch,
            "fills": client.v3PrivateGetBrokerageOrdersHistoricalFills,
        }[kind]
        found: list[Raw] = []
        page = {**wanted, "limit": PAGE}
        for number in range(MOST_PAGES):
            if number:
                await self.next_page(operation)
            answer = await call(page)
            found += answer.get(kind) or ()
            cursor = answer.get("cursor")
            if not cursor or answer.get("has_next") is False or not answer.get(kind):
                return found
            page = {**wanted, "limit": PAGE, "cursor": str(cursor)}
        raise Incomplete(f"{operation}: more than {MOST_PAGES * PAGE} {kind}")

    def unified_event(self, order: Raw, source: str) -> OrderEvent | None:
        return super().unified_event(
            {**order, "clientOrderId": from_uuid(str(order.get("clientOrderId") or ""))}, source
        )

    def _event(self, data: Raw) -> OrderEvent:
        filled = required(data.get("filled_size") or "0", "filled_size")
        state = STATES.get(str(data["status"]), OrderState.UNKNOWN)
        if state is OrderState.PLACED and filled:
            state = OrderState.PARTIALLY_FILLED
        return OrderEvent(
            account_id=self.names.account_id,
            market=self.names.native(str(data["product_id"])),
            client_order_id=from_uuid(str(data.get("client_order_id") or "")),
            exchange_order_id=str(data["order_id"]),
            state=state,
            filled=filled,
            source="query",
            cause=str(data.get("reject_message") or data.get("cancel_message") or ""),
            exchange_ns=_ns(data.get("last_fill_time") or data.get("created_time")),
        )

    def _fill(self, trade: Raw, client_id: str) -> Fill:
        if trade.get("size_in_quote") in {True, "true"}:
            raise ValueError("size_in_quote: our orders are sized in base, this execution is not")
        market = self.names.market(self.names.native(str(trade["product_id"])))
        return Fill(
            account_id=self.names.account_id,
            market=self.names.native(str(trade["product_id"])),
            exchange_trade_id=str(trade["trade_id"]),
            exchange_order_id=str(trade["order_id"]),
            client_order_id=client_id,
            side="buy" if trade["side"] == "BUY" else "sell",
            price=required(trade["price"], "price"),
            quantity=required(trade["size"], "size"),
            fee=decimal(trade.get("commission")),
            fee_asset="" if market is None else market.quote,
            liquidity={"MAKER": "maker", "TAKER": "taker"}.get(str(trade.get("liquidity_indicator")), ""),
            exchange_ns=_ns(trade.get("trade_time")),
        )


def _section(data: Raw, name: str) -> Raw:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ns(text: object) -> int:
    """Return nanoseconds since the epoch of an RFC 3339 time, 0 without one."""
    if not text:
        return 0
    try:
        return int(datetime.fromisoformat(str(text)).timestamp() * 1_000_000) * 1_000
    except ValueError:
        return 0
