"""OKX v5 spot: native parameters, raw answers, and the orders and account channels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar

import ccxt

from trading.config import Credentials
from trading.exchanges.budget import Window
from trading.exchanges.ccxt_client import CURRENT_ANSWER
from trading.exchanges.generic.dialect import (
    NS_PER_MS,
    Acknowledged,
    Dialect,
    FeeRates,
    Figures,
    Incomplete,
    Names,
    Raw,
    Reading,
    StreamEnded,
    StreamItem,
    ToldInPart,
    decimal,
    parse,
    required,
)
from trading.exchanges.okx import outcomes
from trading.exchanges.okx.algos import (
    ENDED,
    SHORT,
    TYPES,
    WAITING,
    Algos,
    Triggered,
    algo_name,
    order_of,
    read_leg,
    request,
    side_of,
)
from trading.exchanges.okx.orders import ORDER_TYPES, OkxOrders
from trading.exchanges.order_wire import OrderWire
from trading.exchanges.outcomes import Table
from trading.exchanges.protection import OCO, Exits
from trading.exchanges.retries import Trouble
from trading.execution.states import is_terminal
from trading.instruments import Market
from trading.messages import PROTECTIVE, Fill, OrderEvent, OrderIntent, OrderState

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
        "owed": {"order": 1},
        "open_orders": {"order": 2},  # orders, and algo orders, whose endpoint takes 20 in 2 s
        "exit_page": {"order": 1, "fills": 1},
        "order_page": {"fills": 1},
        "open_orders_page": {"order": 1},
        "fills": {"fills": 1},
        "fills_page": {"fills": 1},
        "history_page": {"history": 1},
        "balances": {"account": 1},
        "time": {},
    }
    channels: ClassVar[frozenset[str]] = frozenset({"orders", "orders-algo", "account"})
    protects: ClassVar[frozenset[str]] = OCO

    def __init__(self, names: Names) -> None:
        super().__init__(names)
        self._algos = Algos()
        self._triggered = Triggered()

    def order_type(self, intent: OrderIntent) -> str:
        return ORDER_TYPES[intent.time_in_force]

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {"clOrdId": intent.client_order_id, "tdMode": "cash"}

    def order_wire(self, client: Any, credentials: Credentials, now_ms: Callable[[], int]) -> OrderWire | None:
        def code_of(market: Market) -> int | None:
            code = str(client.market(market.symbol).get("instIdCode") or "")
            return int(code) if code.isdigit() else None

        return OkxOrders(client.get_url("private", "private"), credentials, now_ms, code_of)

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

    async def create_exits(self, client: Any, exits: Exits, market: Market) -> None:
        for intent in exits.intents:
            self._algos.learn(intent)
        await client.privatePostTradeOrderAlgo(request(exits, market))

    def read_exits(self, body: str, exits: Exits) -> tuple[Reading, ...]:
        whole = self.read(body)
        row: Raw = next(iter(parse(body).get("data") or ()), {})
        named = str(row.get("algoClOrdId") or "")
        ours = named in {"", algo_name(exits.intents[0])}
        algo_id = "" if whole.code else str(row.get("algoId") or "")
        return tuple(
            Reading(whole.code, whole.message, algo_id, intent.client_order_id if ours else named)
            for intent in exits.intents
        )

    async def cancel_order(self, client: Any, intent: OrderIntent, market: Market) -> None:
        if intent.kind not in PROTECTIVE:
            await super().cancel_order(client, intent, market)
            return
        name = algo_name(intent)
        try:
            await client.privatePostTradeCancelAlgos([{"instId": market.native_id, "algoClOrdId": name}])
        except ccxt.BaseError:
            answer = CURRENT_ANSWER.get()
            if answer is None or self.read(answer.body).code not in self.gone:
                raise
            # It waits no more; what it has become may rest in the book.
            await self.next_page("exit")
            row = await self._algo(client, name)
            if row is None or side_of(row) != SHORT[intent.kind] or not order_of(row):
                raise
            await client.privatePostTradeCancelOrder({"instId": market.native_id, "ordId": order_of(row)})

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        if intent.kind in PROTECTIVE:
            return await self._fetch_exit(client, intent, market)
        wanted = {"instId": market.native_id, "clOrdId": intent.client_order_id}
        return await self._fetch_order(client, wanted, intent.client_order_id)

    async def _fetch_exit(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        """Return what an algo order, or the order it has become, says of one of ours."""
        self._algos.learn(intent)
        row = await self._algo(client, algo_name(intent))
        if row is None:
            return None
        short = SHORT[intent.kind]
        if side_of(row) == short and order_of(row):
            await self.next_page("exit")
            wanted = {"instId": market.native_id, "ordId": order_of(row)}
            return await self._fetch_order(client, wanted, intent.client_order_id)
        return self._leg_event(row, short, intent.client_order_id, "query")

    def owes_news(self) -> bool:
        return bool(self._triggered.owed)

    async def fetch_owed(self, client: Any) -> list[OrderEvent]:
        found: list[OrderEvent] = []
        known = []
        for name in self._triggered.owed:
            await self.next_page("exit")
            try:
                events = await self._fetch_owed(client, name)
            except ccxt.OrderNotFound:
                continue  # the answer lags behind the stream
            if events is not None:
                found += events
                known.append(name)
        for name in known:  # only now: whatever fails before that has them all asked for again
            self._triggered.settle(name)
        return found

    async def _fetch_owed(self, client: Any, name: str) -> list[OrderEvent] | None:
        """Return what an algo order and the order it has become say; None while that lags behind the stream."""
        row = await self._algo(client, name)
        if row is None:
            return None
        order_id = order_of(row)
        if not order_id and str(row["state"]) not in ENDED:
            return None
        events = self._algo_events(row, "query")
        native_id = str(row["instId"])
        if order_id and (owner := await self._owner(client, native_id, order_id)):
            await self.next_page("exit")
            event = await self._fetch_order(client, {"instId": native_id, "ordId": order_id}, owner)
            # The stream may have told of its end while the answer was on its way.
            if event is not None and not self._triggered.is_over(name):
                events.append(event)
        return events

    async def _algo(self, client: Any, name: str) -> Raw | None:
        rows = (await client.privateGetTradeOrderAlgo({"algoClOrdId": name})).get("data") or []
        if not rows:
            return None
        self._algos.learn_row(rows[0])
        row: Raw = rows[0]
        return row

    async def _owner(self, client: Any, native_id: str, order_id: str) -> str:
        """Return whose an order without a client id is, asking for it once; empty when it is none of ours."""
        known = self._algos.known(order_id)
        if known is not None:
            return known
        await self.next_page("exit")
        try:
            rows = (await client.privateGetTradeOrder({"instId": native_id, "ordId": order_id})).get("data") or []
            if rows and (name := str(rows[0].get("algoClOrdId") or "")):
                if self._algos.owner(rows[0]) is None:
                    await self._algo(client, name)
                # The other order of a pair is known once it was asked for: until then this is asked again.
                return self._algos.owner(rows[0]) or ""
        except ccxt.OrderNotFound:
            pass
        self._algos.own(order_id, "")
        return ""

    async def _fetch_order(self, client: Any, wanted: Mapping[str, str], client_id: str) -> OrderEvent | None:
        rows = (await client.privateGetTradeOrder(wanted)).get("data") or []
        if not rows:
            return None
        data = rows[0]
        fills: tuple[Fill, ...] = ()
        if required(data["accFillSz"], "accFillSz") > 0:
            wanted = {"instType": "SPOT", "instId": wanted["instId"], "ordId": data["ordId"]}
            trades = await self._pages("order", client.privateGetTradeFills, wanted, "billId")
            fills = tuple(self._fill(trade, client_id) for trade in trades)
        return self._event({**data, "clOrdId": client_id}, fills, "query")

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        wanted = {"instType": "SPOT"}
        waiting = {"instType": "SPOT", "ordType": TYPES}
        algos = await self._pages("open_orders", client.privateGetTradeOrdersAlgoPending, waiting, "algoId")
        events = [event for row in algos for event in self._algo_events(row, "query")]
        for row in await self._pages("open_orders", client.privateGetTradeOrdersPending, wanted, "ordId"):
            data = dict(row)
            if not data.get("clOrdId") and data.get("algoClOrdId"):
                owner = self._algos.owner(data) or await self._owner(client, str(data["instId"]), str(data["ordId"]))
                data["clOrdId"] = owner
            events.append(self._event(data, (), "query"))
        return events

    async def fetch_fills(self, client: Any, market: Market, since_ms: int, own: Mapping[str, str]) -> list[Fill]:
        wanted = {"instType": "SPOT", "instId": market.native_id, "begin": str(since_ms)}
        age_ms = client.nonce() - since_ms
        if age_ms > HISTORY_MS:
            raise Incomplete("fills: the exchange tells executions of the last three months only")
        recent = age_ms < RECENT_MS
        if not recent:
            await self.next_page("history")
        call = client.privateGetTradeFills if recent else client.privateGetTradeFillsHistory
        found = []
        for trade in await self._pages("fills" if recent else "history", call, wanted, "billId"):
            name = str(trade.get("clOrdId") or "") or own.get(str(trade["ordId"]), "")
            name = name or await self._owner(client, market.native_id, str(trade["ordId"]))
            found.append(self._fill(trade, name))
        return found

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

        async def algos() -> Any:
            return await client.watch_orders(params={"type": "SPOT", "trigger": True})

        return [orders, algos, client.watch_balance]

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
            rows = message["data"]
            begun = [self._triggered.by_order(row, is_end=is_terminal(_state(row))) for row in rows]
            named = [self._with_owner(data) for data in rows]
            return [*(self._pushed(data) for data in named if data is not None), *_owed(begun)]
        if channel == "orders-algo":
            begun = [self._triggered.by_algo(row) for row in message["data"]]
            return [*(event for row in message["data"] for event in self._algo_events(row, "stream")), *_owed(begun)]
        if channel == "account":
            return list(self._figures(message["data"]))
        return None

    def _with_owner(self, data: Raw) -> Raw | None:
        """Put our client id to an order that was an algo order; None when it isn't known whose: asking will tell."""
        if data.get("clOrdId") or not data.get("algoClOrdId"):
            return data
        owner = self._algos.owner(data)
        return None if owner is None else {**data, "clOrdId": owner}

    def _algo_events(self, row: Raw, source: str) -> list[OrderEvent]:
        """Return what an algo order says of our orders behind it; of one it has become, that order tells itself."""
        legs = self._algos.learn_row(row)
        if str(row.get("state")) in WAITING and str(row.get("algoClOrdId") or "") in self._triggered:
            return []  # from before it was triggered, and overtaken by the news of that
        became = side_of(row)
        return [
            self._leg_event(row, short, leg.client_order_id, source)
            for short, leg in legs.items()
            if leg.client_order_id and short != became
        ]

    def _leg_event(self, row: Raw, short: str, client_id: str, source: str) -> OrderEvent:
        market = self.names.native(str(row["instId"]))
        account_id = self.names.account_id
        return read_leg(row, short, account_id=account_id, market=market, client_id=client_id, source=source)

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
            state=_state(data),
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


def _owed(begun: Sequence[bool]) -> list[StreamItem]:
    return [ToldInPart()] if any(begun) else []


def _state(data: Raw) -> OrderState:
    return STATES.get(str(data["state"]), OrderState.UNKNOWN)
