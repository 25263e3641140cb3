"""Gate spot: client order ids in ``text``, and orders found again after the hour for which those name them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, ClassVar

from trading.exchanges.budget import Window
from trading.exchanges.gate import outcomes
from trading.exchanges.generic.dialect import NS_PER_MS, Dialect, Incomplete, Raw, Reading, decimal, parse, required
from trading.exchanges.outcomes import Table
from trading.exchanges.retries import Trouble
from trading.instruments import Market
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState, TimeInForce

PREFIX = "t-"  # apiv4, create an order: ``text`` begins so and has at most 28 characters after it
PAGE, MOST_PAGES = 100, 100
TRADES_PAGE = 1_000
MONTH_MS = 30 * 86_400_000  # apiv4, list personal trading history: what one question may span
EARLIER_SECONDS = 60  # how much earlier than by our clock an order may have been created
# apiv4, order: fees may be paid in points or in GT.
OTHER_FEES = (("gt_fee", "GT"), ("point_fee", "POINT"))


class GateDialect(Dialect):
    window_seconds: ClassVar[float] = 60.0  # apiv4, authentication: Timestamp may be 60 s off
    backend_seconds: ClassVar[float] = 20.0  # not documented
    # Known, so that ccxt needn't ask before the first order; a unified account takes spot orders too.
    options: ClassVar[Mapping[str, Any]] = {
        "defaultType": "spot",
        "unifiedAccount": False,
        "fetchMarkets": {"types": ["spot"]},
    }
    table: ClassVar[Table] = outcomes.TABLE
    not_found: ClassVar[frozenset[str]] = outcomes.NOT_FOUND
    clock_codes: ClassVar[frozenset[str]] = outcomes.CLOCK
    troubles: ClassVar[Mapping[str, Trouble]] = outcomes.TROUBLES
    # apiv4, frequency limit rule, by account: 10 orders a second in a market, 200 in 10 s of anything else, each.
    windows: ClassVar[Mapping[str, Window]] = {
        "place": Window(limit=10, seconds=1),
        "questions": Window(limit=200, seconds=10),
    }
    costs: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "place": {"place": 1},
        "cancel": {"questions": 1},
        "order": {"questions": 1},
        "order_page": {"questions": 1},
        "open_orders": {"questions": 1},
        "open_orders_page": {"questions": 1},
        "fills": {"questions": 1},
        "fills_page": {"questions": 1},
        "balances": {"questions": 1},
        "time": {},
    }
    cancels_by: ClassVar[str] = "DELETE"

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        # Not as ccxt's clientOrderId: it puts the prefix only before ids that don't begin with "t".
        params: dict[str, Any] = {"text": PREFIX + intent.client_order_id}
        if intent.time_in_force is TimeInForce.POST_ONLY:
            return {**params, "postOnly": True}
        return {**params, "timeInForce": intent.time_in_force.value}

    async def cancel_order(self, client: Any, intent: OrderIntent, market: Market) -> None:
        await client.cancel_order(PREFIX + intent.client_order_id, market.symbol)

    def read(self, body: str) -> Reading:
        data = parse(body)
        if "label" in data:
            return Reading(code=str(data["label"]), message=str(data.get("message") or data.get("detail") or ""))
        return Reading(exchange_order_id=str(data.get("id") or ""), client_order_id=_own_id(data))

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        data = await self._find(client, intent, market)
        if data is None:
            return None
        event = self._event(data)
        if not event.filled:
            return event
        wanted = {"currency_pair": market.native_id, "order_id": str(data["id"])}
        trades = await self._pages("order", client.privateSpotGetMyTrades, wanted, TRADES_PAGE)
        return self._event(data, tuple(self._fill(trade, intent.client_order_id) for trade in trades))

    async def _find(self, client: Any, intent: OrderIntent, market: Market) -> Raw | None:
        """Return the order by its client id or, as that is forgotten an hour after its end, from the finished ones."""
        text = PREFIX + intent.client_order_id
        try:
            found: Raw = await client.privateSpotGetOrdersOrderId({"order_id": text, "currency_pair": market.native_id})
            return found
        except Exception as error:
            if type(error).__name__ != "OrderNotFound":
                raise
        created = intent.created_ns // 1_000_000_000 - EARLIER_SECONDS
        wanted = {"currency_pair": market.native_id, "status": "finished", "from": created}
        await self.next_page("order")
        rows = await self._pages("order", client.privateSpotGetOrders, wanted, PAGE)
        return next((row for row in rows if row.get("text") == text), None)

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        found: list[OrderEvent] = []
        for page in range(1, MOST_PAGES + 1):
            if page > 1:
                await self.next_page("open_orders")
            # Pages are of each pair's orders; none has more than the fullest.
            pairs = await client.privateSpotGetOpenOrders({"page": page, "limit": PAGE})
            found += [self._event(row) for pair in pairs for row in pair["orders"]]
            if all(len(pair["orders"]) < PAGE for pair in pairs):
                return found
        raise Incomplete(f"open orders: more than {MOST_PAGES * PAGE} in a pair")

    async def fetch_fills(self, client: Any, market: Market, since_ms: int, own: Mapping[str, str]) -> list[Fill]:
        now_ms = int(client.nonce())
        trades: list[Raw] = []
        for start_ms in range(since_ms, max(now_ms, since_ms) + 1, MONTH_MS):
            if start_ms > since_ms:
                await self.next_page("fills")
            span = {"from": start_ms // 1000, "to": (start_ms + MONTH_MS) // 1000 - 1}
            wanted = {"currency_pair": market.native_id, **span}
            trades += await self._pages("fills", client.privateSpotGetMyTrades, wanted, TRADES_PAGE)
        return [self._fill(trade, _own_id(trade) or own.get(str(trade["order_id"]), "")) for trade in trades]

    async def _pages(
        self, operation: str, call: Callable[[Mapping[str, Any]], Awaitable[Any]], wanted: Mapping[str, Any], size: int
    ) -> list[Raw]:
        found: list[Raw] = []
        for page in range(1, MOST_PAGES + 1):
            if page > 1:
                await self.next_page(operation)
            rows = await call({**wanted, "page": page, "limit": size})
            found += rows
            if len(rows) < size:
                return found
        raise Incomplete(f"{operation}: more than {MOST_PAGES * size} rows")

    def unified_event(self, order: Raw, source: str) -> OrderEvent | None:
        client_id = str(order.get("clientOrderId") or "")
        return super().unified_event({**order, "clientOrderId": client_id.removeprefix(PREFIX)}, source)

    def _event(self, data: Raw, fills: tuple[Fill, ...] = ()) -> OrderEvent:
        filled = required(data["amount"], "amount") - required(data["left"], "left")
        state = {
            "open": OrderState.PARTIALLY_FILLED if filled else OrderState.PLACED,
            "closed": OrderState.FILLED,
            "cancelled": OrderState.CANCELLED,
        }.get(str(data["status"]), OrderState.UNKNOWN)
        return OrderEvent(
            account_id=self.names.account_id,
            market=self.names.native(str(data["currency_pair"])),
            client_order_id=_own_id(data),
            exchange_order_id=str(data["id"]),
            state=state,
            filled=filled,
            fills=fills,
            source="query",
            cause=str(data.get("finish_as") or ""),
            exchange_ns=int(data.get("update_time_ms") or 0) * NS_PER_MS,
        )

    def _fill(self, trade: Raw, client_id: str) -> Fill:
        fee, fee_asset = decimal(trade.get("fee")), str(trade.get("fee_currency") or "")
        for name, asset in OTHER_FEES:
            other = decimal(trade.get(name))
            if not fee and other:
                fee, fee_asset = other, asset
        return Fill(
            account_id=self.names.account_id,
            market=self.names.native(str(trade["currency_pair"])),
            exchange_trade_id=str(trade["id"]),
            exchange_order_id=str(trade["order_id"]),
            client_order_id=client_id,
            side=trade["side"],
            price=required(trade["price"], "price"),
            quantity=required(trade["amount"], "amount"),
            fee=fee,
            fee_asset=fee_asset,
            liquidity=str(trade.get("role") or ""),
            exchange_ns=int(Decimal(str(trade["create_time_ms"])) * NS_PER_MS),
        )


def _own_id(data: Raw) -> str:
    """Return the client order id of an order or execution; empty where somebody else's system wrote the text."""
    text = str(data.get("text") or "")
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else ""
