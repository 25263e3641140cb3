"""KuCoin spot on a classic account: its high-frequency endpoints, which are the current ones; ccxt's private stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from trading.exchanges.budget import Window
from trading.exchanges.generic.dialect import NS_PER_MS, Dialect, Incomplete, Raw, Reading, decimal, parse, required
from trading.exchanges.kucoin import outcomes
from trading.exchanges.outcomes import Table
from trading.exchanges.retries import Trouble
from trading.instruments import Market
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState, TimeInForce

PAGE, MOST_PAGES = 100, 100
WEEK_MS = 7 * 86_400_000  # Get Trade History: what one question may span


class KucoinDialect(Dialect):
    window_seconds: ClassVar[float] = 5.0  # 400002: KC-API-TIMESTAMP differs by more than 5 seconds
    backend_seconds: ClassVar[float] = 20.0  # not documented
    # Known, so that ccxt needn't ask before the first order.
    options: ClassVar[Mapping[str, Any]] = {
        "hf": True,
        "uta": False,
        "fetchMarkets": {"types": ["spot"]},
    }
    table: ClassVar[Table] = outcomes.TABLE
    not_found: ClassVar[frozenset[str]] = outcomes.NOT_FOUND
    clock_codes: ClassVar[frozenset[str]] = outcomes.CLOCK
    troubles: ClassVar[Mapping[str, Trouble]] = outcomes.TROUBLES
    # Request Rate Limit: the lowest level's spot pool is 4000 in 30 s by account; 500 in 10 s by address.
    windows: ClassVar[Mapping[str, Window]] = {
        "spot": Window(limit=4000, seconds=30, kept=400),
        "address": Window(limit=500, seconds=10, kept=100, counts="address"),
    }
    costs: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "place": {"spot": 1, "address": 1},
        "cancel": {"spot": 1, "address": 1},
        "order": {"spot": 4, "address": 2},
        "order_page": {"spot": 2, "address": 1},
        "open_orders": {"spot": 2, "address": 1},
        "open_orders_page": {"spot": 2, "address": 1},
        "fills": {"spot": 2, "address": 1},
        "fills_page": {"spot": 2, "address": 1},
        "balances": {"address": 1},
        "time": {"address": 3},
    }
    cancels_by: ClassVar[str] = "DELETE"

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        params: dict[str, Any] = {"clientOid": intent.client_order_id}
        if intent.time_in_force is TimeInForce.POST_ONLY:
            return {**params, "postOnly": True}
        return {**params, "timeInForce": intent.time_in_force.value}

    def cancel_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {"clientOid": intent.client_order_id}

    def read(self, body: str) -> Reading:
        answer = parse(body)
        code, message = str(answer.get("code", "")), str(answer.get("msg") or "")
        data = answer.get("data") if isinstance(answer.get("data"), dict) else {}
        assert isinstance(data, dict)
        if code == "200000":
            return Reading(
                exchange_order_id=str(data.get("orderId") or ""), client_order_id=str(data.get("clientOid") or "")
            )
        if message.lower() in outcomes.NO_SUCH_ORDER_TEXTS:
            code = outcomes.NO_SUCH_ORDER
        return Reading(code=code, message=message)

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        wanted = {"symbol": market.native_id, "clientOid": intent.client_order_id}
        data = (await client.privateGetHfOrdersClientOrderClientOid(wanted)).get("data")
        if not data:
            return None
        fills: tuple[Fill, ...] = ()
        if required(data["dealSize"], "dealSize") > 0:
            of_order = {"symbol": market.native_id, "orderId": str(data["id"])}
            trades = await self._trades(client, "order", of_order)
            fills = tuple(self._fill(trade, intent.client_order_id) for trade in trades)
        return self._event(data, fills)

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        events = []
        answer = await client.privateGetHfOrdersActiveSymbols({})
        for symbol in (answer.get("data") or {}).get("symbols") or ():
            await self.next_page("open_orders")
            rows = (await client.privateGetHfOrdersActive({"symbol": symbol})).get("data") or ()
            events += [self._event(row, ()) for row in rows]
        return events

    async def fetch_fills(self, client: Any, market: Market, since_ms: int, own: Mapping[str, str]) -> list[Fill]:
        now_ms = int(client.nonce())
        trades: list[Raw] = []
        for start_ms in range(since_ms, max(now_ms, since_ms) + 1, WEEK_MS):
            if start_ms > since_ms:
                await self.next_page("fills")
            span = {"startAt": start_ms, "endAt": start_ms + WEEK_MS - 1}
            trades += await self._trades(client, "fills", {"symbol": market.native_id, **span})
        return [self._fill(trade, own.get(str(trade["orderId"]), "")) for trade in trades]

    async def _trades(self, client: Any, operation: str, wanted: Mapping[str, Any]) -> list[Raw]:
        """Return all pages of executions; they go on after the last row's id."""
        found: list[Raw] = []
        page = dict(wanted)
        for _ in range(MOST_PAGES):
            data = (await client.privateGetHfFills({**page, "limit": PAGE})).get("data") or {}
            rows = data.get("items") or []
            found += rows
            if len(rows) < PAGE:
                return found
            await self.next_page(operation)
            page = {**wanted, "lastId": data["lastId"]}
        raise Incomplete(f"{operation}: more than {MOST_PAGES * PAGE} executions")

    def _event(self, data: Raw, fills: tuple[Fill, ...]) -> OrderEvent:
        filled, size = required(data["dealSize"], "dealSize"), required(data["size"], "size")
        if data["active"] is True:
            state = OrderState.PARTIALLY_FILLED if filled else OrderState.PLACED
        else:
            state = OrderState.FILLED if filled >= size else OrderState.CANCELLED
        return OrderEvent(
            account_id=self.names.account_id,
            market=self.names.native(str(data["symbol"])),
            client_order_id=str(data.get("clientOid") or ""),
            exchange_order_id=str(data["id"]),
            state=state,
            filled=filled,
            fills=fills,
            source="query",
            exchange_ns=int(data.get("lastUpdatedAt") or data.get("createdAt") or 0) * NS_PER_MS,
        )

    def _fill(self, trade: Raw, client_id: str) -> Fill:
        return Fill(
            account_id=self.names.account_id,
            market=self.names.native(str(trade["symbol"])),
            exchange_trade_id=str(trade["tradeId"]),
            exchange_order_id=str(trade["orderId"]),
            client_order_id=client_id,
            side=trade["side"],
            price=required(trade["price"], "price"),
            quantity=required(trade["size"], "size"),
            fee=decimal(trade.get("fee")),
            fee_asset=str(trade.get("feeCurrency") or ""),
            liquidity=str(trade.get("liquidity") or ""),
            exchange_ns=int(trade.get("createdAt") or 0) * NS_PER_MS,
        )
