"""Bybit v5 spot on a unified account: native parameters, raw answers, and the order, execution and wallet topics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from trading.config import Credentials
from trading.exchanges.budget import Window
from trading.exchanges.bybit import outcomes
from trading.exchanges.bybit.orders import RECEIVE_WINDOW_MS, TIMES_IN_FORCE, BybitOrders
from trading.exchanges.ccxt_client import HttpAnswer
from trading.exchanges.generic.dialect import (
    NS_PER_MS,
    Acknowledged,
    Dialect,
    FeeRates,
    Figures,
    Incomplete,
    Raw,
    Reading,
    StreamItem,
    decimal,
    executed,
    parse,
    required,
)
from trading.exchanges.order_wire import OrderWire
from trading.exchanges.outcomes import Table
from trading.exchanges.retries import Trouble
from trading.instruments import Market
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState

HELD = ("locked", "totalOrderIM", "totalPositionIM")
PAGE, MOST_PAGES = 100, 100
ORDERS_PAGE = 50
LIMIT_RESET = "x-bapi-limit-reset-timestamp"  # rate limits page: when the window that is used up ends
SHORTEST_WAIT_SECONDS = 1.0  # a window of one second may end the moment it is told
WEEK_MS = 7 * 86_400_000  # v5, trade history: what one question may span
HISTORY_MS = 2 * 365 * 86_400_000 - WEEK_MS  # and how far back it is kept: two years

# Bybit v5: enums, orderStatus.
STATES: Mapping[str, OrderState] = {
    "New": OrderState.PLACED,
    "PartiallyFilled": OrderState.PARTIALLY_FILLED,
    "Untriggered": OrderState.PLACED,
    "Rejected": OrderState.FAILED,
    "PartiallyFilledCanceled": OrderState.CANCELLED,
    "Filled": OrderState.FILLED,
    "Cancelled": OrderState.CANCELLED,
    "Triggered": OrderState.PLACED,
    "Deactivated": OrderState.CANCELLED,
}


class BybitDialect(Dialect):
    window_seconds: ClassVar[float] = RECEIVE_WINDOW_MS / 1000
    backend_seconds: ClassVar[float] = 10.0  # 10000 says there is a timeout, no page says which: taken as Binance's
    options: ClassVar[Mapping[str, Any]] = {
        "defaultType": "spot",
        "fetchMarkets": {"types": ["spot"]},
        "recvWindow": RECEIVE_WINDOW_MS,
        # Known, so that ccxt needn't ask before the first order.
        "enableUnifiedMargin": False,
        "enableUnifiedAccount": True,
        "unifiedMarginStatus": 6,
    }
    table: ClassVar[Table] = outcomes.TABLE
    not_found: ClassVar[frozenset[str]] = outcomes.NOT_FOUND
    gone: ClassVar[frozenset[str]] = outcomes.GONE
    clock_codes: ClassVar[frozenset[str]] = outcomes.CLOCK
    troubles: ClassVar[Mapping[str, Trouble]] = outcomes.TROUBLES
    # Rate limits page. Unified account, spot: create 20 a second, cancel 20, order questions 50, executions 50,
    # wallet 50; and 600 requests of any kind in 5 s from one address, or it is banned for ten minutes.
    windows: ClassVar[Mapping[str, Window]] = {
        "place": Window(limit=20, seconds=1),
        "questions": Window(limit=50, seconds=1),
        "requests": Window(limit=600, seconds=5, kept=100, counts="address"),
    }
    costs: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "place": {"place": 1, "requests": 1},
        "cancel": {"place": 1, "requests": 1},
        "order": {"questions": 3, "requests": 3},
        "open_orders": {"questions": 1, "requests": 1},
        "order_page": {"questions": 1, "requests": 1},
        "open_orders_page": {"questions": 1, "requests": 1},
        "fills": {"questions": 1, "requests": 1},
        "fills_page": {"questions": 1, "requests": 1},
        "balances": {"questions": 1, "requests": 1},
        "time": {"requests": 3},
    }
    channels: ClassVar[frozenset[str]] = frozenset({"1", "2", "3"})

    def __init__(self, names: Any) -> None:
        super().__init__(names)
        self._confirmed = 0

    def told_to_wait(self, answer: HttpAnswer, reading: Reading, now_ns: int) -> float | None:
        if reading.code in outcomes.IP_BANS:
            return outcomes.IP_BAN_SECONDS
        reset_ms = next((text for name, text in answer.headers.items() if name.lower() == LIMIT_RESET), "")
        if not str(reset_ms).isdigit():
            return None
        sent_ms = parse(answer.body).get("time")  # by the exchange's clock, as the header is
        since_ms = sent_ms if isinstance(sent_ms, int) and sent_ms > 0 else now_ns // NS_PER_MS
        return max(SHORTEST_WAIT_SECONDS, (int(reset_ms) - since_ms) / 1000)

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {"orderLinkId": intent.client_order_id, "timeInForce": TIMES_IN_FORCE[intent.time_in_force]}

    def order_wire(self, client: Any, credentials: Credentials, now_ms: Callable[[], int]) -> OrderWire | None:
        url = client.implode_hostname(client.urls["api"]["ws"]["private"]["trade"])
        return BybitOrders(url, credentials, now_ms)

    def cancel_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {"orderLinkId": intent.client_order_id}

    def read(self, body: str) -> Reading:
        data = parse(body)
        code = str(data.get("retCode", ""))
        result = data.get("result") if isinstance(data.get("result"), dict) else {}
        assert isinstance(result, dict)
        if code == "0":
            return Reading(
                exchange_order_id=str(result.get("orderId") or ""),
                client_order_id=str(result.get("orderLinkId") or ""),
            )
        return Reading(code=code, message=str(data.get("retMsg") or ""))

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        wanted = {"category": "spot", "symbol": market.native_id, "orderLinkId": intent.client_order_id}
        rows = _rows(await client.privateGetV5OrderRealtime(wanted))
        if not rows:  # the last 500 closed orders only; older ones are history
            rows = _rows(await client.privateGetV5OrderHistory(wanted))
        if not rows:
            return None
        data = rows[0]
        fills: tuple[Fill, ...] = ()
        if required(data.get("cumExecQty") or "0", "cumExecQty") > 0:
            wanted = {"category": "spot", "orderId": str(data["orderId"])}
            trades = await self._pages("order", client.privateGetV5ExecutionList, wanted, PAGE)
            fills = tuple(self._fill(trade) for trade in trades)
        return self._event(data, fills, "query")

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        wanted = {"category": "spot", "openOnly": "0"}
        rows = await self._pages("open_orders", client.privateGetV5OrderRealtime, wanted, ORDERS_PAGE)
        return [self._event(data, (), "query") for data in rows]

    async def fetch_fills(self, client: Any, market: Market, since_ms: int, own: Mapping[str, str]) -> list[Fill]:
        now_ms = client.nonce()
        if now_ms - since_ms > HISTORY_MS:
            raise Incomplete("fills: the exchange tells executions of the last two years only")
        trades: list[Raw] = []
        for start_ms in range(since_ms, max(now_ms, since_ms) + 1, WEEK_MS):
            if start_ms > since_ms:
                await self.next_page("fills")
            span = {"startTime": str(start_ms), "endTime": str(start_ms + WEEK_MS - 1)}
            wanted = {"category": "spot", "symbol": market.native_id, **span}
            trades += await self._pages("fills", client.privateGetV5ExecutionList, wanted, PAGE)
        return [self._fill(trade) for trade in trades]

    async def fetch_balances(self, client: Any) -> list[Figures]:
        answer = await client.privateGetV5AccountWalletBalance({"accountType": "UNIFIED"})
        return self._figures(_rows(answer))

    async def fetch_fees(self, client: Any) -> dict[str, FeeRates]:
        found = {}
        for row in _rows(await client.privateGetV5AccountFeeRate({"category": "spot"})):
            taker, maker = decimal(row.get("takerFeeRate")), decimal(row.get("makerFeeRate"))
            if taker is not None and maker is not None:
                found[str(row["symbol"])] = FeeRates(taker, maker)
        return found

    def watches(self, client: Any) -> Sequence[Callable[[], Coroutine[Any, Any, Any]]]:
        self._confirmed = 0
        return [client.watch_orders, client.watch_my_trades, client.watch_balance]

    def read_stream(self, message: Any) -> list[StreamItem] | None:
        if not isinstance(message, dict):
            return None
        if message.get("op") == "subscribe" and message.get("success") is True:
            # The confirmation doesn't name its topic: three subscriptions, three confirmations.
            self._confirmed += 1
            return [Acknowledged(str(self._confirmed))]
        topic = message.get("topic")
        if topic == "order":
            return [self._event(data, (), "stream") for data in message["data"] if data.get("category") == "spot"]
        if topic == "execution":
            # Without an id a fill can't be told from itself when it comes again; the order's own news leads to asking.
            return [
                executed(self._fill(data), "stream")
                for data in message["data"]
                if data.get("category") == "spot" and data["execId"]
            ]
        if topic == "wallet":
            return list(self._figures(message["data"]))
        return None

    def _event(self, data: Raw, fills: tuple[Fill, ...], source: str) -> OrderEvent:
        reason = str(data.get("rejectReason") or "")
        return OrderEvent(
            account_id=self.names.account_id,
            market=self.names.native(str(data["symbol"])),
            client_order_id=str(data.get("orderLinkId") or ""),
            exchange_order_id=str(data["orderId"]),
            state=STATES.get(str(data["orderStatus"]), OrderState.UNKNOWN),
            filled=required(data.get("cumExecQty") or "0", "cumExecQty"),
            fills=fills,
            source=source,
            cause="" if reason == "EC_NoError" else reason,
            exchange_ns=int(data.get("updatedTime") or 0) * NS_PER_MS,
        )

    def _fill(self, trade: Raw) -> Fill:
        market = self.names.market(self.names.native(str(trade["symbol"])))
        buys = trade["side"] == "Buy"
        # The fee is in what is received unless it says otherwise.
        received = "" if market is None else (market.base if buys else market.quote)
        return Fill(
            account_id=self.names.account_id,
            market=self.names.native(str(trade["symbol"])),
            exchange_trade_id=str(trade["execId"]),
            exchange_order_id=str(trade["orderId"]),
            client_order_id=str(trade.get("orderLinkId") or ""),
            side="buy" if buys else "sell",
            price=required(trade["execPrice"], "execPrice"),
            quantity=required(trade["execQty"], "execQty"),
            fee=decimal(trade.get("execFee")),
            fee_asset=str(trade.get("feeCurrency") or "") or received,
            liquidity="maker" if trade.get("isMaker") in {True, "true"} else "taker",
            exchange_ns=int(trade.get("execTime") or 0) * NS_PER_MS,
        )

    def _figures(self, accounts: Sequence[Raw]) -> list[Figures]:
        found = []
        for account in accounts:
            for row in account.get("coin") or ():
                total = required(row.get("walletBalance") or "0", "walletBalance")
                # Spot orders lock; derivatives' orders and positions hold initial margin. None of it is free.
                used = sum((required(row.get(name) or "0", name) for name in HELD), Decimal(0))
                found.append(Figures(str(row["coin"]), max(total - used, Decimal(0)), used))
        return found

    async def _pages(
        self,
        operation: str,
        call: Callable[[Mapping[str, str]], Awaitable[Raw]],
        wanted: Mapping[str, str],
        size: int,
    ) -> list[Raw]:
        """Return all pages of a list, by the exchange's own cursor."""
        found: list[Raw] = []
        page: Mapping[str, str] = wanted
        for _ in range(MOST_PAGES):
            answer = await call({**page, "limit": str(size)})
            rows = _rows(answer)
            found += rows
            cursor = (answer.get("result") or {}).get("nextPageCursor")
            if len(rows) < size or not cursor:
                return found
            await self.next_page(operation)
            page = {**wanted, "cursor": str(cursor)}
        raise Incomplete(f"{operation}: more than {MOST_PAGES * size} rows")


def _rows(answer: Raw) -> list[Raw]:
    return list((answer.get("result") or {}).get("list") or ())
