"""OKX's REST endpoints: a table of method and path, who may call, how often, and what answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.limits import Window
from exchangesim.core.market import SimMarket
from exchangesim.core.text import read_json
from exchangesim.core.transit import Answer, Call, Transit
from exchangesim.core.worth import usd_price
from exchangesim.okx import account_codec, auth, codec, queries
from exchangesim.okx.algos import MAX_CANCELS, AlgoDesk
from exchangesim.okx.desk import MAX_BATCH, OrderDesk
from exchangesim.okx.errors import OF_ORDERS, OkxError, asked_for, missing, too_frequent, unknown_instrument, wrong

PREFIX = "/api/v5/"
SERIES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One request as endpoints see it. ``account`` is set for private endpoints."""

    parameters: Mapping[str, str]
    body: Any
    account: Account | None

    @property
    def owner(self) -> Account:
        assert self.account is not None
        return self.account


@dataclass(frozen=True, slots=True)
class Rows:
    """Data of an answer whose rows carry their own ``sCode``, from which the answer's code follows."""

    rows: list[dict[str, Any]]
    single: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What one method and path does, who may call it and how often."""

    handle: Callable[[Incoming], list[Any] | Rows]
    window: Window
    """Counted per user for private endpoints, per address (and instrument type) for public ones."""
    private: bool = True
    needs: str = "read"


class OkxRest:
    """Serves everything under ``/api/v5/``."""

    def __init__(
        self, exchange: SimExchange, transit: Transit, desk: OrderDesk, algos: AlgoDesk, *, limits: bool
    ) -> None:
        self._algos = algos
        self._exchange, self._transit, self._desk, self._refuse = exchange, transit, desk, limits
        # Path, what answers, and how many requests in two seconds are allowed.
        public = {
            "public/time": (self._time, 10),
            "public/instruments": (self._instruments, 20),
            "system/status": (lambda _: [], 10),
            "market/books": (self._books, 40),
            "market/ticker": (self._ticker, 20),
            "market/tickers": (self._tickers, 20),
            "market/trades": (self._trades, 100),
            "market/history-trades": (self._trades, 20),
        }
        reading = {
            "account/instruments": (self._instruments, 20),
            "account/balance": (self._balance, 10),
            "account/config": (lambda given: [account_codec.account_config(given.owner)], 5),
            "account/positions": (lambda _: [], 10),
            "account/trade-fee": (self._trade_fee, 5),
            "asset/balances": (lambda _: [], 12),
            "asset/currencies": (self._currencies, 12),
            "trade/order": (self._order, 60),
            "trade/orders-pending": (lambda given: queries.pending(exchange, given.owner, given.parameters), 60),
            "trade/orders-history": (self._history, 40),
            "trade/orders-history-archive": (self._history, 20),
            "trade/order-algo": (lambda given: algos.query(given.owner, given.parameters), 20),
            "trade/orders-algo-pending": (lambda given: algos.pending(given.owner, given.parameters), 20),
            "trade/orders-algo-history": (lambda given: algos.history(given.owner, given.parameters), 20),
            "trade/fills": (lambda given: queries.fills(exchange, given.owner, given.parameters), 60),
            "trade/fills-history": (lambda given: queries.fills(exchange, given.owner, given.parameters), 10),
        }
        # Order operations are limited per instrument, by the desk.
        trading = {
            "trade/order": self._place,
            "trade/batch-orders": self._batch_place,
            "trade/cancel-order": self._cancel,
            "trade/cancel-batch-orders": self._batch_cancel,
            "trade/amend-order": self._amend,
            "trade/order-algo": self._place_algo,
            "trade/cancel-algos": self._cancel_algos,
        }

        def window(limit: int) -> Window:
            return Window(exchange.clock, limit=limit, seconds=2, aligned=False)

        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        for path, (handle, limit) in public.items():
            self._endpoints["GET", path] = Endpoint(handle=handle, window=window(limit), private=False)
        for path, (handle, limit) in reading.items():
            self._endpoints["GET", path] = Endpoint(handle=handle, window=window(limit))
        for path, trade in trading.items():
            self._endpoints["POST", path] = Endpoint(handle=trade, window=window(1000), needs="trade")

    def add_routes(self, app: web.Application) -> None:
        app.router.add_route("*", PREFIX + "{path:.*}", self.serve)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode("utf-8", "replace")
        path = request.match_info["path"].rstrip("/")
        decoded, parameters = read_json(body), dict(request.query)
        first = decoded[0] if isinstance(decoded, list) and decoded else decoded
        call = Call(
            operation=f"{request.method} {PREFIX}{path}",
            symbol=str(first.get("instId") or "") if isinstance(first, dict) else parameters.get("instId", ""),
            api_key=request.headers.get("OK-ACCESS-KEY", ""),
            refuse=lambda reason, _seconds: self._refused(reason, first),
        )
        return await self._transit.serve_http(
            request, call, lambda: self._answer(request, path, parameters, body, decoded)
        )

    def _answer(
        self, request: web.Request, path: str, parameters: dict[str, str], body: str, decoded: object
    ) -> Answer:
        now_us = self._exchange.clock.time_us()
        try:
            data = self._handle(request, path, parameters, body, decoded)
        except OkxError as error:
            return _encode({"code": error.code, "msg": error.message, "data": []}, error.status)
        return self._report(data, now_us)

    def _refused(self, reason: str, first: object) -> Answer:
        error = asked_for(reason)
        if reason not in OF_ORDERS:
            return _encode({"code": error.code, "msg": error.message, "data": []}, error.status)
        told = first if isinstance(first, dict) else {}
        now = self._exchange.clock.time_ms()
        row = {
            "clOrdId": str(told.get("clOrdId") or ""),
            "ordId": "",
            "sCode": error.code,
            "sMsg": error.message,
            "tag": "",
            "ts": str(now),
        }
        return self._report(Rows([row], single=True), now * 1000)

    def _report(self, data: list[Any] | Rows, now_us: int) -> Answer:
        if not isinstance(data, Rows):
            return _encode({"code": "0", "msg": "", "data": data})
        failed = sum(row["sCode"] != "0" for row in data.rows)
        if data.single and failed and data.rows[0]["sCode"] == "50011":
            return _encode({"code": "50011", "msg": too_frequent().message, "data": []}, 429)
        code, message = ("0", "") if not failed else ("1", "All operations failed")
        if 0 < failed < len(data.rows):
            code, message = "2", "Bulk operation partially succeeded."
        times = {"inTime": str(now_us), "outTime": str(self._exchange.clock.time_us())}
        return _encode({"code": code, "msg": message, "data": data.rows, **times})

    def _handle(
        self, request: web.Request, path: str, parameters: dict[str, str], body: str, decoded: object
    ) -> list[Any] | Rows:
        endpoint = self._endpoints.get((request.method, path))
        if endpoint is None:
            if any(known == path for _, known in self._endpoints):
                raise OkxError("50115", "Invalid request method.", status=405)
            raise OkxError("404", "Not Found", status=404)
        account = None
        if endpoint.private:
            account = auth.authenticate(
                self._exchange.accounts,
                request.headers,
                method=request.method,
                path=request.raw_path,
                body=body,
                now_ms=self._exchange.clock.time_ms(),
            )
            if endpoint.needs not in account.permissions:
                raise OkxError("50120", "This API key doesn't have permission to use this function", status=401)
            self._check_deadline(request.headers.get("expTime", ""))
        key = str(account.uid) if account else f"{request.remote}:{parameters.get('instType', '')}"
        if not endpoint.window.spend(key).allowed and self._refuse:
            raise too_frequent()
        if request.method == "POST":
            if not body:
                raise OkxError("50000", "Body for POST request cannot be empty.", status=400)
            if decoded is None:
                raise OkxError("50002", "JSON syntax error", status=400)
        return endpoint.handle(Incoming(parameters=parameters, body=decoded, account=account))

    def _check_deadline(self, text: str) -> None:
        """Refuse a request whose ``expTime`` (Unix milliseconds) has passed. Raises OkxError."""
        if not text:
            return
        if not (text.isascii() and text.isdigit() and len(text) <= 16):
            raise OkxError("50037", "Parameter expTime must be a Unix timestamp in milliseconds.", status=400)
        if int(text) < self._exchange.clock.time_ms():
            raise OkxError("50036", "The expTime can't be earlier than the current system time. Please adjust it.")

    # Public data

    def _time(self, _: Incoming) -> list[Any]:
        return [{"ts": str(self._exchange.clock.time_ms())}]

    def _instruments(self, given: Incoming) -> list[Any]:
        series, native = given.parameters.get("instType", ""), given.parameters.get("instId", "")
        if not series:
            raise missing("instType")
        if series not in SERIES:
            raise wrong("instType")
        if series != "SPOT":
            return []
        if native and native not in self._exchange.markets:
            raise unknown_instrument()
        return [
            codec.instrument(market.rules, code, live=not market.halted)
            for code, market in self._desk.codes.items()
            if not native or market.native == native
        ]

    def _books(self, given: Incoming) -> list[Any]:
        market = self._market(given)
        depth = _whole(given, "sz", default=1, highest=400)
        book = market.book
        body = codec.book_body(
            market, (book.bids.top(depth), book.asks.top(depth)), market.changed_ms or self._exchange.clock.time_ms()
        )
        return [body | {"seqId": market.update_id}]

    def _ticker(self, given: Incoming) -> list[Any]:
        return [self._ticker_row(self._market(given))]

    def _tickers(self, given: Incoming) -> list[Any]:
        series = given.parameters.get("instType", "")
        if not series:
            raise missing("instType")
        if series not in SERIES:
            raise wrong("instType")
        return [self._ticker_row(market) for market in self._exchange.markets.values()] if series == "SPOT" else []

    def _ticker_row(self, market: SimMarket) -> dict[str, Any]:
        now = self._exchange.clock.time_ms()
        return codec.ticker(market, market.day(now), now)

    def _trades(self, given: Incoming) -> list[Any]:
        market = self._market(given)
        limit = _whole(given, "limit", default=100, highest=500)
        newest = list(market.trades)[-limit:]
        return [codec.trade(market.native, public) for public in reversed(newest)]

    # Accounts

    def _balance(self, given: Incoming) -> list[Any]:
        wanted = given.parameters.get("ccy", "")
        now = self._exchange.clock.time_ms()
        return [account_codec.account(given.owner, wanted.split(",") if wanted else None, now, self.usd_price)]

    def _trade_fee(self, given: Incoming) -> list[Any]:
        if given.parameters.get("instType", "SPOT") != "SPOT":
            return []
        native = given.parameters.get("instId", "")
        market = self._market(given) if native else next(iter(self._exchange.markets.values()))
        return [account_codec.trade_fee(market.rules, self._exchange.clock.time_ms())]

    def _currencies(self, given: Incoming) -> list[Any]:
        wanted = given.parameters.get("ccy", "")
        coins = self._exchange.coins.listed()
        return [account_codec.currency(coin) for coin in coins if not wanted or coin.code in wanted.split(",")]

    def usd_price(self, asset: str) -> Any:
        return usd_price(self._exchange, asset)

    # Orders

    def _order(self, given: Incoming) -> list[Any]:
        if not given.parameters.get("ordId") and not given.parameters.get("clOrdId"):
            raise OkxError("51003", "Either client order ID or order ID is required")
        order = self._desk.find(given.owner, given.parameters)
        if order is None:
            raise OkxError("51603", "Order does not exist")
        return [codec.order(order, self._exchange.markets[order.native].rules, order.last_fill)]

    def _history(self, given: Incoming) -> list[Any]:
        if not given.parameters.get("instType"):
            raise missing("instType")
        return queries.history(self._exchange, given.owner, given.parameters)

    def _place(self, given: Incoming) -> Rows:
        return Rows(self._desk.place(given.owner, [_object(given.body)], batch=False), single=True)

    def _batch_place(self, given: Incoming) -> Rows:
        return Rows(self._desk.place(given.owner, _objects(given.body), batch=True), single=False)

    def _cancel(self, given: Incoming) -> Rows:
        return Rows(self._desk.cancel(given.owner, [_object(given.body)], batch=False), single=True)

    def _batch_cancel(self, given: Incoming) -> Rows:
        return Rows(self._desk.cancel(given.owner, _objects(given.body), batch=True), single=False)

    def _amend(self, given: Incoming) -> Rows:
        return Rows(self._desk.amend(given.owner, [_object(given.body)]), single=True)

    def _place_algo(self, given: Incoming) -> Rows:
        return Rows([self._algos.place(given.owner, _object(given.body))], single=True)

    def _cancel_algos(self, given: Incoming) -> Rows:
        return Rows(self._algos.cancel(given.owner, _objects(given.body, most=MAX_CANCELS)), single=False)

    def _market(self, given: Incoming) -> SimMarket:
        return self._desk.market(given.parameters)


def _encode(content: dict[str, Any], status: int = 200) -> Answer:
    return Answer(body=msgspec.json.encode(content), status=status)


def _object(body: object) -> Mapping[str, object]:
    if not isinstance(body, dict):
        raise OkxError("50002", "JSON syntax error", status=400)
    return body


def _objects(body: object, *, most: int = MAX_BATCH) -> Sequence[Mapping[str, object]]:
    if not isinstance(body, list) or not body or not all(isinstance(one, dict) for one in body):
        raise OkxError("50002", "JSON syntax error", status=400)
    if len(body) > most:
        raise OkxError("51111", f"Maximum {most} orders can be placed in bulk")
    return body


def _whole(given: Incoming, name: str, *, default: int, highest: int) -> int:
    text = given.parameters.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1):
        raise wrong(name)
    return min(int(text), highest)
