"""Binance spot: native parameters, raw answers and the user data stream of the WebSocket API."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, ClassVar

from trading.config import Credentials
from trading.exchanges.binance import outcomes, protection
from trading.exchanges.binance.orders import RECEIVE_WINDOW_MS, SPOT, BinanceOrders
from trading.exchanges.budget import Window
from trading.exchanges.ccxt_client import HttpAnswer
from trading.exchanges.generic.dialect import (
    NS_PER_MS,
    Acknowledged,
    Dialect,
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
from trading.exchanges.order_wire import OrderWire
from trading.exchanges.outcomes import Table
from trading.exchanges.protection import OCO, Exits
from trading.exchanges.retries import Trouble
from trading.instruments import Market
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState, TimeInForce

PAGE, MOST_PAGES = 1_000, 100
# rest-api.md, limits: what the exchange counted, by the header that says it.
COUNTED = {"x-mbx-used-weight-1m": "weight", "x-mbx-order-count-10s": "orders"}
DAY_MS = 86_400_000
BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")  # errors.md, -1003: milliseconds of the exchange's clock
SHORTEST_WAIT_SECONDS = 1.0  # its clock and ours differ

# binance-spot-api-docs: enums.md, order status.
STATES: Mapping[str, OrderState] = {
    "PENDING_NEW": OrderState.PLACED,
    "NEW": OrderState.PLACED,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELLED,
    "PENDING_CANCEL": OrderState.PLACED,
    "REJECTED": OrderState.FAILED,
    "EXPIRED": OrderState.CANCELLED,
    "EXPIRED_IN_MATCH": OrderState.CANCELLED,
}


class BinanceDialect(Dialect):
    window_seconds: ClassVar[float] = RECEIVE_WINDOW_MS / 1000
    backend_seconds: ClassVar[float] = 10.0  # rest-api.md, general information: then -1007
    options: ClassVar[Mapping[str, Any]] = {
        "defaultType": "spot",
        "fetchMarkets": {"types": ["spot"]},
        "fetchMargins": False,
        "recvWindow": RECEIVE_WINDOW_MS,
        "warnOnFetchOpenOrdersWithoutSymbol": False,
        "newOrderRespType": {"limit": "FULL", "LIMIT_MAKER": "FULL"},
    }
    table: ClassVar[Table] = outcomes.TABLE
    not_found: ClassVar[frozenset[str]] = outcomes.NOT_FOUND
    gone: ClassVar[frozenset[str]] = outcomes.GONE
    clock_codes: ClassVar[frozenset[str]] = outcomes.CLOCK
    troubles: ClassVar[Mapping[str, Trouble]] = outcomes.TROUBLES
    restricted: ClassVar[Sequence[str]] = outcomes.RESTRICTED
    # rest-api.md and the exchange's own rateLimits; part of the weight stays free for what orders need.
    windows: ClassVar[Mapping[str, Window]] = {
        "weight": Window(limit=6000, seconds=60, kept=600, counts="address"),
        "orders": Window(limit=100, seconds=10),
    }
    costs: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "place": {"weight": 1, "orders": 1},
        "cancel": {"weight": 1},
        "order": {"weight": 24},  # the order (4) and its trades (20)
        "open_orders": {"weight": 80},
        "fills": {"weight": 20},
        "fills_page": {"weight": 20},
        "order_page": {"weight": 20},
        "balances": {"weight": 20},
        "logon": {"weight": 4},  # a connection (2) and session.logon (2)
        "time": {"weight": 3},
    }
    channels: ClassVar[frozenset[str]] = frozenset({"user"})
    protects: ClassVar[frozenset[str]] = OCO
    cancels_by: ClassVar[str] = "DELETE"
    # Names that futures have others for.
    private: ClassVar[str] = "private"  # what ccxt's names of private calls begin with
    trades_call: ClassVar[str] = "GetMyTrades"
    buyer_field: ClassVar[str] = "isBuyer"
    maker_field: ClassVar[str] = "isMaker"

    def used(self, headers: Mapping[str, str]) -> Mapping[str, float]:
        found = {name.lower(): value for name, value in headers.items()}
        return {window: float(found[name]) for name, window in COUNTED.items() if found.get(name, "").isdigit()}

    def told_to_wait(self, answer: HttpAnswer, reading: Reading, now_ns: int) -> float | None:
        told = BANNED_UNTIL.search(reading.message)
        return None if told is None else max(SHORTEST_WAIT_SECONDS, int(told[1]) / 1000 - now_ns / 1e9)

    def order_type(self, intent: OrderIntent) -> str:
        return "LIMIT_MAKER" if intent.time_in_force is TimeInForce.POST_ONLY else "limit"

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        params: dict[str, Any] = {"newClientOrderId": intent.client_order_id}
        if intent.time_in_force is not TimeInForce.POST_ONLY:
            params["timeInForce"] = intent.time_in_force.value
        return params

    def order_wire(self, client: Any, credentials: Credentials, now_ms: Callable[[], int]) -> OrderWire | None:
        return BinanceOrders(client.urls["api"]["ws"]["ws-api"][SPOT.address], credentials, now_ms, product=SPOT)

    def cancel_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {"origClientOrderId": intent.client_order_id}  # of an order list: it goes as a whole

    async def create_exits(self, client: Any, exits: Exits, market: Market) -> None:
        call = client.privatePostOrderListOco if exits.is_pair else client.privatePostOrder
        await call({"symbol": market.native_id, **protection.parameters(exits)})

    def read_exits(self, body: str, exits: Exits) -> tuple[Reading, ...]:
        whole = self.read(body)
        return protection.read_legs(parse(body), exits, whole) if exits.is_pair else (whole,)

    def read(self, body: str) -> Reading:
        data = parse(body)
        if "code" in data:
            return Reading(code=str(data["code"]), message=str(data.get("msg", "")))
        order_id = data.get("orderId")
        return Reading(
            exchange_order_id="" if order_id is None else str(order_id),
            client_order_id=str(data.get("clientOrderId") or ""),
        )

    def answer_events(self, intent: OrderIntent, body: str, order: Raw | None) -> tuple[OrderEvent, ...]:
        data = parse(body)
        if "status" not in data:
            return ()
        fills = tuple(
            Fill(
                account_id=self.names.account_id,
                market=intent.market,
                exchange_trade_id=str(fill["tradeId"]),
                exchange_order_id=str(data["orderId"]),
                client_order_id=intent.client_order_id,
                side=intent.side,
                price=required(fill["price"], "price"),
                quantity=required(fill["qty"], "qty"),
                fee=decimal(fill.get("commission")),
                fee_asset=str(fill.get("commissionAsset") or ""),
                liquidity="taker",
                exchange_ns=int(data.get("transactTime") or 0) * NS_PER_MS,
            )
            for fill in data.get("fills") or ()
        )
        return (self._event(data, intent.market, intent.client_order_id, fills, "answer", "transactTime"),)

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        return await self.order_of(client, intent, market, {"origClientOrderId": intent.client_order_id})

    async def order_of(
        self, client: Any, intent: OrderIntent, market: Market, named: Mapping[str, str]
    ) -> OrderEvent | None:
        """Return an order of ours by one of the exchange's names for it, with its fills."""
        wanted: dict[str, Any] = {"symbol": market.native_id, **named}
        data = await self._asked(client, "GetOrder", wanted)
        fills: tuple[Fill, ...] = ()
        if required(data["executedQty"], "executedQty") > 0:
            wanted = {"symbol": market.native_id, "orderId": data["orderId"]}
            first = await self._trades(client, {**wanted, "fromId": 0})  # without, the newest would come
            trades = await self._trades_after(client, "order", wanted, first)
            fills = tuple(self._fill(trade, intent.client_order_id) for trade in trades)
        return self._event(data, intent.market, intent.client_order_id, fills, "query", "updateTime")

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        return [
            self._event(
                data, self.names.native(str(data["symbol"])), str(data["clientOrderId"]), (), "query", "updateTime"
            )
            for data in await self._asked(client, "GetOpenOrders", {})
        ]

    async def fetch_fills(self, client: Any, market: Market, since_ms: int, own: Mapping[str, str]) -> list[Fill]:
        trades: list[Raw] = []
        now_ms = client.nonce()
        start_ms = since_ms
        while not trades and start_ms <= now_ms:  # by time the exchange answers for a day at most
            if start_ms > since_ms:
                await self.next_page("fills")
            trades = await self._trades_between(client, market, start_ms, start_ms + DAY_MS - 1)
            start_ms += DAY_MS
        if trades:
            wanted = {"symbol": market.native_id}
            await self.next_page("fills")
            page = await self._trades(client, {**wanted, "fromId": int(trades[-1]["id"]) + 1})
            trades += await self._trades_after(client, "fills", wanted, page)
        nameless = {str(trade["orderId"]) for trade in trades} - own.keys()
        names = await self._client_ids(client, market, nameless) if nameless else {}
        return [
            self._fill(trade, own.get(str(trade["orderId"])) or names.get(str(trade["orderId"]), ""))
            for trade in trades
        ]

    async def _client_ids(self, client: Any, market: Market, order_ids: Collection[str]) -> Mapping[str, str]:
        """Return client ids by order id: this exchange's trades name none, and an order of ours that no memory knows
        (an older backup was restored) must not pass for somebody else's."""
        names: dict[str, str] = {}
        following, last = min(int(order_id) for order_id in order_ids), max(int(order_id) for order_id in order_ids)
        for _ in range(MOST_PAGES):
            await self.next_page("fills")
            wanted = {"symbol": market.native_id, "orderId": following, "limit": PAGE}
            page = await self._asked(client, "GetAllOrders", wanted)
            names |= {str(order["orderId"]): str(order["clientOrderId"]) for order in page}
            following = max((int(order["orderId"]) for order in page), default=last) + 1
            if len(page) < PAGE or following > last:
                return names
        raise Incomplete(f"fills: more than {MOST_PAGES * PAGE} orders between those asked about")

    async def _trades_between(self, client: Any, market: Market, start_ms: int, end_ms: int) -> list[Raw]:
        """Return the trades of a span from its first one on; not all of them, if they fill more than a page."""
        wanted = {"symbol": market.native_id, "startTime": start_ms}
        trades = page = await self._trades(client, {**wanted, "endTime": end_ms})
        # The exchange doesn't say which end of a full page is cut off: look for what is older than the page.
        while len(page) == PAGE:
            await self.next_page("fills")
            page = await self._trades(client, {**wanted, "endTime": int(trades[0]["time"])})
            oldest = int(trades[0]["id"])
            older = [trade for trade in page if int(trade["id"]) < oldest]
            if not older:
                break
            trades = older + trades
        return trades

    async def _trades_after(self, client: Any, operation: str, wanted: Mapping[str, Any], page: list[Raw]) -> list[Raw]:
        """Return a page of trades and all that follow it."""
        found = list(page)
        pages = 1
        while len(page) == PAGE:
            pages += 1
            if pages > MOST_PAGES:
                raise Incomplete(f"{operation}: more than {MOST_PAGES * PAGE} trades")
            await self.next_page(operation)
            page = await self._trades(client, {**wanted, "fromId": int(found[-1]["id"]) + 1})
            found += page
        return found

    async def _trades(self, client: Any, wanted: Mapping[str, Any]) -> list[Raw]:
        """Return up to a page of trades, oldest first."""
        trades = await self._asked(client, self.trades_call, {**wanted, "limit": PAGE})
        return sorted(trades, key=lambda trade: int(trade["id"]))

    async def _asked(self, client: Any, call: str, wanted: Mapping[str, Any]) -> Any:
        """Return the raw answer of a private call by ccxt's name for it."""
        return await getattr(client, f"{self.private}{call}")(wanted)

    async def fetch_balances(self, client: Any) -> list[Figures]:
        data = await client.privateGetAccount({"omitZeroBalances": "true"})
        return [
            Figures(str(row["asset"]), required(row["free"], "free"), required(row["locked"], "locked"))
            for row in data["balances"]
        ]

    def watches(self, client: Any) -> Sequence[Callable[[], Coroutine[Any, Any, Any]]]:
        # One subscription carries orders, fills and balances.
        return [client.watch_orders]

    def read_stream(self, message: Any) -> list[StreamItem] | None:
        if not isinstance(message, dict):
            return None
        result = message.get("result")
        if isinstance(result, dict) and "subscriptionId" in result and message.get("status") == 200:
            return [Acknowledged("user")]
        event = message.get("event")
        if not isinstance(event, dict):
            return None
        kind = event.get("e")
        if kind == "executionReport":
            return [self._execution(event)]
        if kind == "outboundAccountPosition":
            return [
                Figures(str(row["a"]), required(row["f"], "f"), required(row["l"], "l")) for row in event.get("B") or ()
            ]
        if kind in {"eventStreamTerminated", "serverShutdown"}:
            return [StreamEnded(str(kind))]
        return []

    def _execution(self, event: Raw) -> OrderEvent:
        execution = event.get("x")
        # A cancellation's report carries its own id as "c" and the order's as "C".
        original = str(event.get("C") or "")
        client_id = original if execution == "CANCELED" and original else str(event.get("c") or "")
        market = self.names.native(str(event["s"]))
        fills: tuple[Fill, ...] = ()
        # Without an id of the exchange's a fill can't be told from itself when it is told again: it is asked for.
        if execution == "TRADE" and event["t"] not in {None, "", -1}:
            fills = (
                Fill(
                    account_id=self.names.account_id,
                    market=market,
                    exchange_trade_id=str(event["t"]),
                    exchange_order_id=str(event["i"]),
                    client_order_id=client_id,
                    side="buy" if event["S"] == "BUY" else "sell",
                    price=required(event["L"], "L"),
                    quantity=required(event["l"], "l"),
                    fee=decimal(event.get("n")),
                    fee_asset=str(event.get("N") or ""),
                    liquidity="maker" if event.get("m") else "taker",
                    exchange_ns=int(event["T"]) * NS_PER_MS,
                ),
            )
        reason = str(event.get("r") or "")
        return OrderEvent(
            account_id=self.names.account_id,
            market=market,
            client_order_id=client_id,
            exchange_order_id=str(event["i"]),
            state=STATES.get(str(event["X"]), OrderState.UNKNOWN),
            filled=required(event["z"], "z"),
            fills=fills,
            source="stream",
            cause="" if reason == "NONE" else reason,
            exchange_ns=int(event["T"]) * NS_PER_MS,
        )

    def _event(
        self, data: Raw, market: str, client_id: str, fills: tuple[Fill, ...], source: str, time_field: str
    ) -> OrderEvent:
        return OrderEvent(
            account_id=self.names.account_id,
            market=market,
            client_order_id=client_id,
            exchange_order_id=str(data["orderId"]),
            state=STATES.get(str(data["status"]), OrderState.UNKNOWN),
            filled=required(data["executedQty"], "executedQty"),
            fills=fills,
            source=source,
            exchange_ns=int(data.get(time_field) or 0) * NS_PER_MS,
        )

    def _fill(self, trade: Raw, client_id: str) -> Fill:
        return Fill(
            account_id=self.names.account_id,
            market=self.names.native(str(trade["symbol"])),
            exchange_trade_id=str(trade["id"]),
            exchange_order_id=str(trade["orderId"]),
            client_order_id=client_id,
            side="buy" if trade[self.buyer_field] in {True, "true"} else "sell",
            price=required(trade["price"], "price"),
            quantity=required(trade["qty"], "qty"),
            fee=decimal(trade.get("commission")),
            fee_asset=str(trade.get("commissionAsset") or ""),
            liquidity="maker" if trade[self.maker_field] in {True, "true"} else "taker",
            exchange_ns=int(trade["time"]) * NS_PER_MS,
        )
