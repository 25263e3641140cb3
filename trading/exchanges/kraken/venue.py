"""Kraken spot: client order ids as UUIDs, a deadline on every order, questions by POST, ccxt's private stream."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from trading.exchanges.budget import Window
from trading.exchanges.generic.dialect import (
    NS_PER_MS,
    Dialect,
    Incomplete,
    Raw,
    Reading,
    decimal,
    parse,
    required,
)
from trading.exchanges.generic.socket_methods import SocketMethods
from trading.exchanges.kraken import outcomes
from trading.exchanges.kraken.orders import KrakenMethods, deadline
from trading.exchanges.outcomes import Table
from trading.exchanges.retries import Trouble
from trading.exchanges.uuid_ids import as_uuid, from_uuid
from trading.instruments import Market
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState, TimeInForce

# AddOrder: the matching engine refuses an order that reaches it after its deadline, 2 to 60 s from now.
DEADLINE_SECONDS = 10.0
PAGE, MOST_PAGES = 50, 100
TRADES_AT_ONCE = 20  # QueryTrades

# Get Open Orders, Get Closed Orders: status.
STATES: Mapping[str, OrderState] = {
    "pending": OrderState.PLACED,
    "open": OrderState.PLACED,
    "closed": OrderState.FILLED,
    "canceled": OrderState.CANCELLED,
    "expired": OrderState.CANCELLED,
}


class KrakenDialect(Dialect):
    window_seconds: ClassVar[float] = DEADLINE_SECONDS
    backend_seconds: ClassVar[float] = 15.0  # not documented
    table: ClassVar[Table] = outcomes.TABLE
    not_found: ClassVar[frozenset[str]] = outcomes.NOT_FOUND
    clock_codes: ClassVar[frozenset[str]] = outcomes.CLOCK
    troubles: ClassVar[Mapping[str, Trouble]] = outcomes.TROUBLES
    # docs.kraken.com, spot rate limits, for the lowest tier: a counter of 15 that falls by 0.33 a second, to which
    # history adds 2 and other calls 1; and 60 orders in a pair, falling by 1 a second, to which a cancellation soon
    # after its order adds 8. A counter that falls is kept by a window as long as it takes to empty.
    windows: ClassVar[Mapping[str, Window]] = {
        "calls": Window(limit=15, seconds=45),
        "orders": Window(limit=60, seconds=60),
    }
    costs: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "place": {"orders": 1},
        "cancel": {"orders": 8},
        "order": {"calls": 4},  # open orders (1), closed orders (1), their trades (2)
        "order_page": {"calls": 2},
        "open_orders": {"calls": 1},
        "fills": {"calls": 2},
        "fills_page": {"calls": 2},
        "balances": {"calls": 1},
        "time": {},
        "logon": {"calls": 1},  # the token
    }
    asks_by: ClassVar[str] = "POST"

    def wire_id(self, intent: OrderIntent) -> str:
        return as_uuid(intent.client_order_id)

    def local_refusal(self, intent: OrderIntent) -> str:
        try:
            self.wire_id(intent)
        except ValueError as error:
            return str(error)
        return ""

    def takes(self, client: Any, time_in_force: TimeInForce) -> bool:
        return time_in_force is not TimeInForce.FOK  # AddOrder: GTC, IOC, GTD

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        # The fee in the quote asset, whatever the side: what QueryTrades calls "fee" is in quote.
        params: dict[str, Any] = {"clientOrderId": self.wire_id(intent), "oflags": "fciq"}
        if intent.time_in_force is TimeInForce.POST_ONLY:
            return {**params, "postOnly": True}
        return {**params, "timeInForce": intent.time_in_force.value}

    async def create_order(self, client: Any, intent: OrderIntent, market: Market) -> Raw:
        params = {**self.order_params(intent), "deadline": deadline(client.nonce(), DEADLINE_SECONDS)}
        order: Raw = await client.create_order(
            market.symbol, "limit", intent.side, f"{intent.quantity:f}", f"{intent.price:f}", params
        )
        return order

    def socket_methods(self, client: Any) -> SocketMethods | None:
        return KrakenMethods(self)

    def cancel_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {"clientOrderId": self.wire_id(intent)}

    def read(self, body: str) -> Reading:
        data = parse(body)
        errors = [str(error) for error in data.get("error") or () if str(error).startswith("E")]
        result = data.get("result") if isinstance(data.get("result"), dict) else {}
        assert isinstance(result, dict)
        ids = result.get("txid")
        if not errors:
            return Reading(exchange_order_id=str(ids[0]) if isinstance(ids, list) and ids else "")
        # Several at once are no documented answer: no row matches them.
        code = ":".join(errors[0].split(":")[:2]) if len(errors) == 1 else ";".join(errors)
        return Reading(code=code, message="; ".join(errors))

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        wanted = {"cl_ord_id": self.wire_id(intent), "trades": "true"}
        rows = (await client.privatePostOpenOrders(wanted))["result"].get("open") or {}
        if not rows:
            rows = (await client.privatePostClosedOrders(wanted))["result"].get("closed") or {}
        if not rows:
            return None
        order_id, data = next(iter(rows.items()))
        event = self._event(str(order_id), data, intent.market)
        if not event.filled:
            return event
        return msgspec.structs.replace(event, fills=await self._trades_of(client, intent, data.get("trades") or ()))

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        rows = (await client.privatePostOpenOrders({}))["result"].get("open") or {}
        # An order names its pair otherwise than a market does.
        symbols = {str(market["info"].get("altname")): symbol for symbol, market in client.markets.items()}
        return [
            self._event(
                str(order_id), data, self.names.by_symbol(symbols.get(pair := str(data["descr"]["pair"]), pair))
            )
            for order_id, data in rows.items()
        ]

    def _event(self, order_id: str, data: Raw, market: str) -> OrderEvent:
        filled = required(data["vol_exec"], "vol_exec")
        state = STATES.get(str(data["status"]), OrderState.UNKNOWN)
        if state is OrderState.FILLED and filled < required(data["vol"], "vol"):
            state = OrderState.CANCELLED
        if state is OrderState.PLACED and filled > 0:
            state = OrderState.PARTIALLY_FILLED
        return OrderEvent(
            account_id=self.names.account_id,
            market=market,
            client_order_id=from_uuid(str(data.get("cl_ord_id") or "")),
            exchange_order_id=order_id,
            state=state,
            filled=filled,
            source="query",
            cause=str(data.get("reason") or ""),
            exchange_ns=_ns(data.get("closetm") or data.get("opentm")),
        )

    async def _trades_of(self, client: Any, intent: OrderIntent, ids: Any) -> tuple[Fill, ...]:
        fills: list[Fill] = []
        for start in range(0, len(ids), TRADES_AT_ONCE):
            if start:
                await self.next_page("order")
            answer = await client.privatePostQueryTrades({"txid": ",".join(ids[start : start + TRADES_AT_ONCE])})
            fills += [
                self._fill(trade_id, trade, intent.market, intent.client_order_id)
                for trade_id, trade in answer["result"].items()
            ]
        return tuple(fills)

    async def fetch_fills(self, client: Any, market: Market, since_ms: int, own: Mapping[str, str]) -> list[Fill]:
        found: dict[str, Raw] = {}
        asked = 0
        for page in range(MOST_PAGES):
            if page:
                await self.next_page("fills")
            # Newest first; what is executed meanwhile moves rows to later pages, never out of them. "start" excludes.
            answer = await client.privatePostTradesHistory({"start": since_ms // 1000 - 1, "ofs": asked})
            rows = answer["result"].get("trades") or {}
            found.update(rows)
            asked += len(rows)
            if not rows or asked >= int(answer["result"].get("count") or 0):
                break
        else:
            raise Incomplete(f"fills: more than {MOST_PAGES * PAGE} trades")
        return [
            self._fill(trade_id, trade, market.key, own.get(str(trade["ordertxid"]), ""))
            for trade_id, trade in found.items()
            if self._pair_of(client, trade) == market.symbol and _ns(trade["time"]) >= since_ms * NS_PER_MS
        ]

    def unified_event(self, order: Raw, source: str) -> OrderEvent | None:
        return super().unified_event({**order, "clientOrderId": _named(order)}, source)

    def trade_event(self, trade: Raw) -> OrderEvent | None:
        return super().trade_event({**trade, "clientOrderId": _named(trade)})

    @staticmethod
    def _pair_of(client: Any, trade: Raw) -> str:
        return str(client.safe_symbol(str(trade["pair"])))

    def _fill(self, trade_id: str, trade: Raw, market: str, client_id: str) -> Fill:
        known = self.names.market(market)
        return Fill(
            account_id=self.names.account_id,
            market=market,
            exchange_trade_id=trade_id,
            exchange_order_id=str(trade["ordertxid"]),
            client_order_id=client_id,
            side=trade["type"],
            price=required(trade["price"], "price"),
            quantity=required(trade["vol"], "vol"),
            fee=decimal(trade.get("fee")),
            fee_asset="" if known is None else known.quote,
            liquidity="maker" if trade.get("maker") is True else "taker",
            exchange_ns=_ns(trade["time"]),
        )


def _ns(seconds: object) -> int:
    """Return nanoseconds of a time in seconds with decimals."""
    return int(Decimal(str(seconds or 0)) * 1_000_000_000)


def _named(entry: Raw) -> str:
    """Return our id of one of ccxt's orders or trades, where ccxt's streams have Kraken's ``order_userref``."""
    return from_uuid(str((entry.get("info") or {}).get("cl_ord_id") or ""))
