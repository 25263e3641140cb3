"""OKX v5 spot: native parameters, raw answers, and the orders and account channels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar

from trading.exchanges.budget import Window
from trading.exchanges.generic.dialect import (
    NS_PER_MS,
    Acknowledged,
    Dialect,
    FeeRates,
    Figures,
    Incomplete,
    Raw,
    Reading,
    StreamEnded,
    StreamItem,
    decimal,
    parse,
    required,
)
from trading.exchanges.okx import outcomes
from trading.exchanges.outcomes import Table
from trading.exchanges.retries import Trouble
from trading.instruments import Market
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState, TimeInForce

PAGE, MOST_PAGES = 100, 100
# OKX API v5 guide: transaction details of the last 3 days, and, more slowly, of the last 3 months. Less a margin.
RECENT_MS, HISTORY_MS = 3 * 86_400_000 - 3_600_000, 89 * 86_400_000

# OKX API v5 guide: order state.
STATES: Mapping[str, OrderState] = {
    "live": OrderState.PLACED,
    "partially_filled": OrderState.PARTIALLY_FILLED,
    "filled": OrderState.FILLED,
    "canceled": OrderState.CANCELLED,
    "mmp_canceled": OrderState.CANCELLED,
}
ORDER_TYPES: Mapping[TimeInForce, str] = {
    TimeInForce.IOC: "ioc",
    TimeInForce.FOK: "fok",
    TimeInForce.GTC: "limit",
    TimeInForce.POST_ONLY: "post_only",
}


class OkxDialect(Dialect):
    window_seconds: ClassVar[float] = 30.0  # OKX API v5 guide, REST authentication: older timestamps are 50102
    backend_seconds: ClassVar[float] = 10.0  # 50004 says there is a timeout, no page says which: taken as Binance's
    options: ClassVar[Mapping[str, Any]] = {
        "defaultType": "spot",
        "fetchMarkets": {"types": ["spot"]},
        "createOrder": "privatePostTradeOrder",
    }
    table: ClassVar[Table] = outcomes.TABLE
    not_found: ClassVar[frozenset[str]] = outcomes.NOT_FOUND
    gone: ClassVar[frozenset[str]] = outcomes.GONE
    clock_codes: ClassVar[frozenset[str]] = outcomes.CLOCK
    troubles: ClassVar[Mapping[str, Trouble]] = outcomes.TROUBLES
    # Per endpoint: place 60 in 2 s, order 60 in 2 s, fills 60 in 2 s, account 10 in 2 s, open orders 60 in 2 s.
    windows: ClassVar[Mapping[str, Window]] = {
        "place": Window(limit=60, seconds=2),
        "order": Window(limit=60, seconds=2),
        "fills": Window(limit=60, seconds=2),
        "history": Window(limit=10, seconds=2),
        "account": Window(limit=10, seconds=2),
    }
    costs: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "place": {"place": 1},
        "cancel": {"place": 1},
        "order": {"order": 1, "fills": 1},
        "open_orders": {"order": 1},
        "order_page": {"fills": 1},
        "open_orders_page": {"order": 1},
        "fills": {"fills": 1},
        "fills_page": {"fills": 1},
        "history_page": {"history": 1},
        "balances": {"account": 1},
        "time": {},
    }
    channels: ClassVar[frozenset[str]] = frozenset({"orders", "account"})

    def order_type(self, intent: OrderIntent) -> str:
        return ORDER_TYPES[intent.time_in_force]

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {"clOrdId": intent.client_order_id, "tdMode": "cash"}

    def cancel_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {"clOrdId": intent.client_order_id}

    def read(self, body: str) -> Reading:
        data = parse(body)
        rows = data.get("data")
        row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
        code = str(row.get("sCode") or data.get("code") or "")
        if code == "0":
            code = ""
        return Reading(
            code=code,
            message=str(row.get("sMsg") or data.get("msg") or ""),
            exchange_order_id="" if code else str(row.get("ordId") or ""),
            client_order_id=str(row.get("clOrdId") or ""),
        )

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        answer = await client.privateGetTradeOrder({"instId": market.native_id, "clOrdId": intent.client_order_id})
        rows = answer.get("data") or []
        if not rows:
            return None
        data = rows[0]
        fills: tuple[Fill, ...] = ()
        if required(data["accFillSz"], "accFillSz") > 0:
            wanted = {"instType": "SPOT", "instId": market.native_id, "ordId": data["ordId"]}
            trades = await self._pages("order", client.privateGetTradeFills, wanted, "billId")
            fills = tuple(self._fill(trade, intent.client_order_id) for trade in trades)
        return self._event(data, fills, "query")

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        wanted = {"instType": "SPOT"}
        rows = await self._pages("open_orders", client.privateGetTradeOrdersPending, wanted, "ordId")
        return [self._event(data, (), "query") for data in rows]

    async def fetch_fills(self, client: Any, market: Market, since_ms: int, own: Mapping[str, str]) -> list[Fill]:
        wanted = {"instType": "SPOT", "instId": market.native_id, "begin": str(since_ms)}
        age_ms = client.nonce() - since_ms
        if age_ms > HISTORY_MS:
            raise Incomplete("fills: the exchange tells executions of the last three months only")
        recent = age_ms < RECENT_MS
        if not recent:
            await self.next_page("history")
        call = client.privateGetTradeFills if recent else client.privateGetTradeFillsHistory
        return [
            self._fill(trade, str(trade.get("clOrdId") or "") or own.get(str(trade["ordId"]), ""))
            for trade in await self._pages("fills" if recent else "history", call, wanted, "billId")
        ]

    async def fetch_balances(self, client: Any) -> list[Figures]:
        answer = await client.privateGetAccountBalance({})
        return self._figures(answer.get("data") or ())

    async def fetch_fees(self, client: Any) -> dict[str, FeeRates]:
        answer = await client.privateGetAccountTradeFee({"instType": "SPOT"})
        row = (answer.get("data") or [{}])[0]
        taker, maker = decimal(row.get("taker")), decimal(row.get("maker"))
        # What the user pays is negative.
        return {} if taker is None or maker is None else {"*": FeeRates(-taker, -maker)}

    def watches(self, client: Any) -> Sequence[Callable[[], Coroutine[Any, Any, Any]]]:
        async def orders() -> Any:
            return await client.watch_orders(params={"type": "SPOT"})

        return [orders, client.watch_balance]

    def read_stream(self, message: Any) -> list[StreamItem] | None:
        if not isinstance(message, dict):
            return None
        channel = (message.get("arg") or {}).get("channel")
        if message.get("event") == "subscribe" and channel in self.channels:
            return [Acknowledged(str(channel))]
        if message.get("event") == "notice":  # 64008: this connection will be closed; another one is open to us now
            return [StreamEnded(f"{message.get('code')} {message.get('msg')}")]
        if "event" in message or "data" not in message:
            return None
        if channel == "orders":
            return [self._pushed(data) for data in message["data"]]
        if channel == "account":
            return list(self._figures(message["data"]))
        return None

    def _pushed(self, data: Raw) -> OrderEvent:
        fills: tuple[Fill, ...] = ()
        if data.get("tradeId"):
            fee = decimal(data.get("fillFee"))
            fills = (
                Fill(
                    account_id=self.names.account_id,
                    market=self.names.native(str(data["instId"])),
                    exchange_trade_id=str(data["tradeId"]),
                    exchange_order_id=str(data["ordId"]),
                    client_order_id=str(data.get("clOrdId") or ""),
                    side=data["side"],
                    price=required(data["fillPx"], "fillPx"),
                    quantity=required(data["fillSz"], "fillSz"),
                    fee=None if fee is None else -fee,  # OKX writes fees as negative, rebates as positive
                    fee_asset=str(data.get("fillFeeCcy") or ""),
                    liquidity="maker" if data.get("execType") == "M" else "taker",
                    exchange_ns=int(data.get("fillTime") or 0) * NS_PER_MS,
                ),
            )
        return self._event(data, fills, "stream")

    def _event(self, data: Raw, fills: tuple[Fill, ...], source: str) -> OrderEvent:
        return OrderEvent(
            account_id=self.names.account_id,
            market=self.names.native(str(data["instId"])),
            client_order_id=str(data.get("clOrdId") or ""),
            exchange_order_id=str(data["ordId"]),
            state=STATES.get(str(data["state"]), OrderState.UNKNOWN),
            filled=required(data.get("accFillSz") or "0", "accFillSz"),
            fills=fills,
            source=source,
            cause=str(data.get("cancelSourceReason") or ""),
            exchange_ns=int(data.get("uTime") or 0) * NS_PER_MS,
        )

    def _fill(self, trade: Raw, client_id: str) -> Fill:
        fee = decimal(trade.get("fee"))
        return Fill(
            account_id=self.names.account_id,
            market=self.names.native(str(trade["instId"])),
            exchange_trade_id=str(trade["tradeId"]),
            exchange_order_id=str(trade["ordId"]),
            client_order_id=client_id,
            side=trade["side"],
            price=required(trade["fillPx"], "fillPx"),
            quantity=required(trade["fillSz"], "fillSz"),
            fee=None if fee is None else -fee,
            fee_asset=str(trade.get("feeCcy") or ""),
            liquidity="maker" if trade.get("execType") == "M" else "taker",
            exchange_ns=int(trade.get("fillTime") or trade.get("ts") or 0) * NS_PER_MS,
        )

    def _figures(self, accounts: Sequence[Raw]) -> list[Figures]:
        return [
            Figures(
                str(row["ccy"]),
                required(row.get("availBal") or "0", "availBal"),
                required(row.get("frozenBal") or "0", "frozenBal"),
            )
            for account in accounts
            for row in account.get("details") or ()
        ]

    async def _pages(
        self,
        operation: str,
        call: Callable[[Mapping[str, str]], Awaitable[Raw]],
        wanted: Mapping[str, str],
        key: str,
    ) -> list[Raw]:
        """Return all pages of a list whose rows come newest first and go on after the last one's ``key``."""
        found: list[Raw] = []
        page: Mapping[str, str] = wanted
        for _ in range(MOST_PAGES):
            rows = (await call({**page, "limit": str(PAGE)})).get("data") or []
            found += rows
            if len(rows) < PAGE:
                return found
            await self.next_page(operation)
            page = {**wanted, "after": str(rows[-1][key])}
        raise Incomplete(f"{operation}: more than {MOST_PAGES * PAGE} rows")
