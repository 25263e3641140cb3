"""Binance USD-M futures: native parameters, raw answers and the user data stream by listen key.

Source: https://developers.binance.com/docs/derivatives/usds-margined-futures (trade, account, user data streams).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from trading.config import Credentials
from trading.exchanges.binance.orders import RECEIVE_WINDOW_MS, USD_M, BinanceOrders
from trading.exchanges.binance.venue import MOST_PAGES, PAGE, STATES, BinanceDialect
from trading.exchanges.binance_usdm import outcomes
from trading.exchanges.budget import Window
from trading.exchanges.generic.dialect import (
    NS_PER_MS,
    Acknowledged,
    Figures,
    FiguresChanged,
    Incomplete,
    Names,
    Raw,
    Reading,
    StreamEnded,
    StreamItem,
    decimal,
    parse,
    plain,
    required,
)
from trading.exchanges.order_wire import OrderWire
from trading.exchanges.outcomes import Table
from trading.exchanges.protection import AHEAD, STOPS, Exits
from trading.exchanges.retries import Trouble
from trading.instruments import Market, MarketKind
from trading.messages import (
    PROTECTIVE,
    AccountIncome,
    AccountPosition,
    Fill,
    Forced,
    IncomeKind,
    OrderEvent,
    OrderIntent,
    OrderKind,
    OrderState,
    TimeInForce,
)

# Conditional orders until they are triggered; what became of the order they then made is told by that order.
ALGO_STATES: Mapping[str, OrderState] = {
    "NEW": OrderState.PLACED,
    "TRIGGERING": OrderState.PLACED,
    "CANCELED": OrderState.CANCELLED,
    "EXPIRED": OrderState.CANCELLED,
    "REJECTED": OrderState.CANCELLED,
}
ALGO_TYPES = {OrderKind.TAKE_PROFIT: "TAKE_PROFIT_MARKET", OrderKind.STOP_LOSS: "STOP_MARKET"}
LISTEN_KEY_MS = 30 * 60_000  # a key lives for 60 minutes after it was last kept alive
# Client ids of orders that the exchange makes by itself (user data streams, order update).
FORCED = (
    ("adl_autoclose", Forced.DELEVERAGING),
    ("settlement_autoclose-", Forced.SETTLEMENT),
    ("autoclose-", Forced.LIQUIDATION),
)
# Lines of the statement that no execution tells (account, income history), by the exchange's name.
INCOMES = {"FUNDING_FEE": IncomeKind.FUNDING, "INSURANCE_CLEAR": IncomeKind.INSURANCE}
KEPT_MS = 89 * 86_400_000  # it keeps three months of them
# What we tell the stream ourselves once its socket stands: the exchange confirms nothing on it.
CONNECTED = {"e": "connected"}


def forced_of(client_id: str) -> str:
    """Return why the exchange made an order by itself; empty for one that it did not."""
    return next((why.value for start, why in FORCED if client_id.startswith(start)), "")


def side_told(position: object) -> str:
    """Return which of an account's two positions the exchange speaks of; empty for the one of one-way mode."""
    return {"LONG": "long", "SHORT": "short"}.get(str(position), "")


def position_side(intent: OrderIntent) -> str:
    """Return which of an account's two positions an order is for, in hedge mode."""
    return "LONG" if (intent.side == "buy") is not intent.reduce_only else "SHORT"


class BinanceUsdmDialect(BinanceDialect):
    kind: ClassVar[MarketKind] = "linear"
    options: ClassVar[Mapping[str, Any]] = {
        "fetchMarkets": {"types": ["linear"]},
        "fetchMargins": False,
        "recvWindow": RECEIVE_WINDOW_MS,
        "disableFuturesSandboxWarning": True,
    }
    table: ClassVar[Table] = outcomes.TABLE
    not_found: ClassVar[frozenset[str]] = outcomes.NOT_FOUND
    gone: ClassVar[frozenset[str]] = outcomes.GONE
    clock_codes: ClassVar[frozenset[str]] = outcomes.CLOCK
    settings_codes: ClassVar[frozenset[str]] = outcomes.SETTINGS
    troubles: ClassVar[Mapping[str, Trouble]] = outcomes.TROUBLES
    restricted: ClassVar[Sequence[str]] = ()
    # The exchange's own rateLimits; part of the weight stays free for what orders need.
    windows: ClassVar[Mapping[str, Window]] = {
        "weight": Window(limit=2400, seconds=60, kept=240, counts="address"),
        "orders": Window(limit=300, seconds=10),
    }
    costs: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "place": {"orders": 1},
        "cancel": {"weight": 1},
        "order": {"weight": 6},  # the order (1) and its trades (5)
        "open_orders": {"weight": 80},  # orders (40) and conditional ones (40)
        "fills": {"weight": 5},
        "fills_page": {"weight": 5},
        "order_page": {"weight": 5},
        "balances": {"weight": 5},
        "positions": {"weight": 5},
        "incomes": {"weight": 30},
        "incomes_page": {"weight": 30},
        "leverage": {"weight": 1},
        "settings": {"weight": 30},
        "logon": {"weight": 7},  # a connection (5) and session.logon (2)
        "time": {"weight": 3},
    }
    private: ClassVar[str] = "fapiPrivate"
    trades_call: ClassVar[str] = "GetUserTrades"
    buyer_field: ClassVar[str] = "buyer"
    maker_field: ClassVar[str] = "maker"

    # Whether there is something to reduce is looked at when an order is triggered (reason "Reduce Only reject").
    protects: ClassVar[frozenset[str]] = STOPS | AHEAD

    hedged = False
    """Whether the account holds a long and a short position of each market apart."""

    def __init__(self, names: Names) -> None:
        super().__init__(names)
        self._leverages: dict[str, int] = {}  # by symbol, as we set them and nobody has changed them since

    async def fetch_settings(self, client: Any) -> None:
        data = await client.fapiPrivateGetPositionSideDual({})
        self.hedged = data["dualSidePosition"] in {True, "true"}

    def takes(self, client: Any, time_in_force: TimeInForce) -> bool:
        return True

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        """Return what an order says beside symbol, side, price and quantity."""
        params: dict[str, Any] = {"newClientOrderId": intent.client_order_id, "newOrderRespType": USD_M.answer}
        if intent.time_in_force is TimeInForce.POST_ONLY:
            params |= USD_M.post_only
        else:
            params |= {"type": "LIMIT", "timeInForce": intent.time_in_force.value}
        if self.hedged:
            params["positionSide"] = position_side(intent)
        elif intent.reduce_only:
            params["reduceOnly"] = "true"
        return params

    async def create_order(self, client: Any, intent: OrderIntent, market: Market) -> Raw:
        sent = {
            "symbol": market.native_id,
            "side": intent.side.upper(),
            "price": plain(intent.price),
            "quantity": plain(intent.quantity),
            **self.order_params(intent),
        }
        answer = await client.fapiPrivatePostOrder(sent)
        return {"id": str(answer.get("orderId") or "")} if isinstance(answer, dict) else {}

    def order_wire(self, client: Any, credentials: Credentials, now_ms: Callable[[], int]) -> OrderWire | None:
        return BinanceOrders(
            client.urls["api"]["ws"]["ws-api"][USD_M.address],
            credentials,
            now_ms,
            product=USD_M,
            position_side=lambda intent: position_side(intent) if self.hedged else "",
        )

    async def create_exits(self, client: Any, exits: Exits, market: Market) -> None:
        (intent,) = exits.intents
        # By the mark price: what one trade far off does to the last price closes nothing.
        sent = {
            "algoType": "CONDITIONAL",
            "symbol": market.native_id,
            "side": intent.side.upper(),
            "type": ALGO_TYPES[intent.kind],
            "triggerPrice": plain(required(intent.trigger, "trigger")),
            "quantity": plain(intent.quantity),
            "workingType": "MARK_PRICE",
            "clientAlgoId": intent.client_order_id,
            "newOrderRespType": "RESULT",
        }
        sent |= {"positionSide": position_side(intent)} if self.hedged else {"reduceOnly": "true"}
        await client.fapiPrivatePostAlgoOrder(sent)

    async def cancel_order(self, client: Any, intent: OrderIntent, market: Market) -> None:
        if intent.kind in PROTECTIVE:
            await client.fapiPrivateDeleteAlgoOrder({"clientAlgoId": intent.client_order_id})
            return
        await client.fapiPrivateDeleteOrder({"symbol": market.native_id, **self.cancel_params(intent)})

    def read(self, body: str) -> Reading:
        data = parse(body)
        if str(data.get("code", "")) == "200":  # a conditional order was cancelled
            return Reading(exchange_order_id=str(data.get("algoId") or ""))
        if "code" not in data and "algoId" in data:
            return Reading(
                exchange_order_id=str(data["algoId"] or ""), client_order_id=str(data.get("clientAlgoId") or "")
            )
        return super().read(body)

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        if intent.kind not in PROTECTIVE:
            return await super().fetch_order(client, intent, market)
        data = await client.fapiPrivateGetAlgoOrder({"clientAlgoId": intent.client_order_id})
        made = str(data.get("actualOrderId") or "")
        if not made or made == "0":
            return self._algo_event(data, "query")
        await self.next_page("order")
        return await self.order_of(client, intent, market, {"orderId": made})

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        waiting = await client.fapiPrivateGetOpenAlgoOrders({})
        return await super().fetch_open_orders(client) + [self._algo_event(data, "query") for data in waiting]

    def _algo_event(self, data: Raw, source: str) -> OrderEvent:
        state = ALGO_STATES.get(str(data["algoStatus"]), OrderState.UNKNOWN)
        return OrderEvent(
            account_id=self.names.account_id,
            market=self.names.native(str(data["symbol"])),
            client_order_id=str(data["clientAlgoId"]),
            exchange_order_id=str(data["algoId"]),
            state=state,
            filled=Decimal(0) if state is not OrderState.UNKNOWN else None,
            source=source,
            exchange_ns=int(data.get("updateTime") or 0) * NS_PER_MS,
        )

    def answer_events(self, intent: OrderIntent, body: str, order: Raw | None) -> tuple[OrderEvent, ...]:
        # An answer tells how much was filled, not by which executions: those come by the stream.
        data = parse(body)
        if "status" not in data:
            return ()
        return (self._event(data, intent.market, intent.client_order_id, (), "answer", "updateTime"),)

    def _fill(self, trade: Raw, client_id: str) -> Fill:
        fill = super()._fill(trade, client_id)
        return msgspec.structs.replace(
            fill,
            realized_pnl=decimal(trade.get("realizedPnl")),
            forced=forced_of(client_id),
            position_side=side_told(trade.get("positionSide")),
        )

    async def fetch_balances(self, client: Any) -> list[Figures]:
        """Return what may stand behind orders as free, and what of the wallet may not as used."""
        found = []
        for row in await client.fapiPrivateV3GetBalance({}):
            wallet = decimal(row["balance"])
            if wallet is None:
                raise ValueError(f"balance: not a quantity (given {str(row['balance'])[:40]!r})")
            free = required(row["availableBalance"], "availableBalance")
            found.append(Figures(str(row["asset"]), free, max(Decimal(0), wallet - free), wallet))
        return found

    def has_leverage(self, market: Market, leverage: int) -> bool:
        return self._leverages.get(market.native_id) == leverage

    async def set_leverage(self, client: Any, market: Market, leverage: int) -> None:
        self._leverages.pop(market.native_id, None)
        answer = await client.fapiPrivatePostLeverage({"symbol": market.native_id, "leverage": leverage})
        if str(answer["leverage"]) != str(leverage):
            raise ValueError(f"leverage: the exchange set {answer['leverage']} (asked for {leverage})")
        self._leverages[market.native_id] = leverage

    def _doubt_leverage(self, symbol: str, told: int) -> None:
        """Set it anew next time, unless it is what we set: what is told may be older than that, so it isn't kept."""
        if self._leverages.get(symbol) != told:
            self._leverages.pop(symbol, None)

    async def fetch_positions(self, client: Any) -> list[AccountPosition]:
        found = []
        known = dict(self._leverages)
        # Version 3 leaves out leverage and margin mode.
        for row in await client.fapiPrivateV2GetPositionRisk({}):
            quantity = decimal(row["positionAmt"])
            if quantity is None:
                raise ValueError(f"positionAmt: not a quantity (given {str(row['positionAmt'])[:40]!r})")
            symbol = str(row["symbol"])
            if known.get(symbol) == self._leverages.get(symbol):  # else it was set while this was being read
                self._doubt_leverage(symbol, int(row["leverage"]))
            if not quantity:
                continue
            found.append(
                AccountPosition(
                    market=self.names.native(symbol),
                    side=str(row["positionSide"]).lower(),
                    quantity=quantity,
                    entry_price=decimal(row["entryPrice"]),
                    mark_price=decimal(row["markPrice"]),
                    # 0: what stands behind it can't be used up by this position
                    liquidation_price=decimal(row["liquidationPrice"]) or None,
                    unrealized_pnl=decimal(row["unRealizedProfit"]),
                    leverage=int(row["leverage"]),
                    margin=str(row["marginType"]),
                )
            )
        return found

    async def fetch_incomes(self, client: Any, since_ms: int) -> list[AccountIncome]:
        # The stream names no market where a position is in cross margin; the statement does.
        found: dict[tuple[str, str], AccountIncome] = {}
        for number, name in enumerate(INCOMES):
            if number:
                await self.next_page("incomes")
            for row in await self._income_rows(client, name, max(since_ms, client.nonce() - KEPT_MS)):
                one = self._income(row)
                found[one.kind.value, one.transaction_id] = one
        return list(found.values())

    async def _income_rows(self, client: Any, name: str, start_ms: int) -> list[Raw]:
        """Return a kind's lines from a moment on, oldest first; pages overlap in the moment they meet at."""
        rows: list[Raw] = []
        for _ in range(MOST_PAGES):
            wanted = {"incomeType": name, "startTime": start_ms, "limit": PAGE}
            page = sorted(await client.fapiPrivateGetIncome(wanted), key=lambda row: int(row["time"]))
            rows += page
            if len(page) < PAGE:
                return rows
            if int(page[-1]["time"]) == start_ms:
                break
            start_ms = int(page[-1]["time"])
            await self.next_page("incomes")
        raise Incomplete(f"incomes: more than {PAGE} lines of {name} at one moment, or {MOST_PAGES} pages")

    def _income(self, row: Raw) -> AccountIncome:
        amount = decimal(row["income"])
        if amount is None or not str(row["tranId"] or ""):
            raise ValueError(f"income: no amount or no id (given {str(row)[:200]!r})")
        symbol = str(row.get("symbol") or "")
        return AccountIncome(
            account_id=self.names.account_id,
            kind=INCOMES[str(row["incomeType"])],
            transaction_id=str(row["tranId"]),
            asset=str(row["asset"]),
            amount=amount,
            market=self.names.native(symbol) if symbol else "",
            exchange_ns=int(row["time"]) * NS_PER_MS,
        )

    # -- private stream -----------------------------------------------------------------------------------------

    def watches(self, client: Any) -> Sequence[Callable[[], Coroutine[Any, Any, Any]]]:
        # ccxt's own watching asks for balances and positions first, and never says when the socket stands.
        return [lambda: self._user_data(client)]

    async def _user_data(self, client: Any) -> None:
        """Hold a socket for the account's events and its key alive; raises when either is lost."""
        key = str((await client.fapiPrivatePostListenKey({}))["listenKey"])
        url = client.get_private_ws_url("linear", key)
        lost = client.watch(url, "user", None, "user")
        keeping = asyncio.get_running_loop().create_task(self._keep_alive(client))
        try:
            opened = client.clients[url].connected
            await asyncio.wait((opened, lost), return_when=asyncio.FIRST_COMPLETED)
            if not lost.done():
                client.on_stream(CONNECTED)
            await asyncio.wait((lost, keeping), return_when=asyncio.FIRST_COMPLETED)
            for ended in (lost, keeping):
                if ended.done():
                    ended.result()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep_alive(self, client: Any) -> None:
        while True:
            await client.sleep(LISTEN_KEY_MS)
            await client.fapiPrivatePutListenKey({})

    def read_stream(self, message: Any) -> list[StreamItem] | None:
        if not isinstance(message, dict):
            return None
        match message.get("e"):
            case "connected":
                self._leverages.clear()  # what was changed meanwhile was not told
                return [Acknowledged("user")]
            case "ACCOUNT_CONFIG_UPDATE":
                if "ac" in message:  # else it tells of multi-assets mode
                    self._doubt_leverage(str(message["ac"]["s"]), int(message["ac"]["l"]))
                return []
            case "ORDER_TRADE_UPDATE":
                return [self._execution(message["o"])]
            case "ACCOUNT_UPDATE":
                # It tells wallets and sizes; what is free, and where a position is liquidated, it doesn't tell.
                return [FiguresChanged()]
            case "ALGO_UPDATE":
                told = message["o"]
                if told["X"] not in ALGO_STATES:  # its order tells what comes of it
                    return []
                row = {
                    "algoStatus": told["X"],
                    "symbol": told["s"],
                    "clientAlgoId": told["caid"],
                    "algoId": told["aid"],
                }
                event = self._algo_event({**row, "updateTime": message["T"]}, "stream")
                return [msgspec.structs.replace(event, cause=str(told.get("rm") or ""))]
            case "listenKeyExpired":
                return [StreamEnded("listenKeyExpired")]
        return []

    def _execution(self, event: Raw) -> OrderEvent:
        market, client_id = self.names.native(str(event["s"])), str(event["c"])
        at_ns = int(event["T"]) * NS_PER_MS
        fills: tuple[Fill, ...] = ()
        # Also what the exchange liquidates is an execution; 0 and -1 are the ids of none.
        if event["x"] in {"TRADE", "CALCULATED"} and event["t"] not in {None, "", 0, -1}:
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
                    exchange_ns=at_ns,
                    realized_pnl=decimal(event.get("rp")),
                    forced=forced_of(client_id),
                    position_side=side_told(event.get("ps")),
                ),
            )
        return OrderEvent(
            account_id=self.names.account_id,
            market=market,
            client_order_id=client_id,
            exchange_order_id=str(event["i"]),
            state=STATES.get(str(event["X"]), OrderState.UNKNOWN),
            filled=required(event["z"], "z"),
            fills=fills,
            source="stream",
            exchange_ns=at_ns,
        )
