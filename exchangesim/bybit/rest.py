"""Bybit's v5 REST endpoints: a table of method and path, who may call, how often, and what answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from exchangesim.bybit import auth, codec, queries
from exchangesim.bybit.desk import MAX_BATCH, Allowance, Allowances, OrderDesk, check_category
from exchangesim.bybit.errors import (
    BybitError,
    asked_for,
    bad_request,
    empty,
    limit_headers,
    not_allowed,
    too_frequent,
)
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.limits import Window
from exchangesim.core.text import read_json
from exchangesim.core.transit import Answer, Call, Transit
from exchangesim.core.worth import usd_price

PREFIX = "/v5/"
Json = dict[str, Any]
# Requests per second and user of the spot category.
ORDER_LIMITS = {
    "order/create": 20,
    "order/amend": 10,
    "order/cancel": 20,
    "order/cancel-all": 20,
    "order/create-batch": 20,
    "order/cancel-batch": 20,
}
READ_LIMITS = {
    "order/realtime": 50,
    "order/history": 50,
    "execution/list": 50,
    "account/wallet-balance": 50,
    "account/info": 50,
    "account/fee-rate": 5,
    "user/query-api": 10,
    "asset/coin/query-info": 5,
}
IP_LIMIT, IP_SECONDS = 600, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One request as endpoints see it. ``account`` is set for private endpoints."""

    parameters: Mapping[str, str]
    body: Mapping[str, object]
    account: Account | None

    @property
    def owner(self) -> Account:
        assert self.account is not None
        return self.account


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result with something for ``retExtInfo``."""

    result: Json
    extra: Json


Handler = Callable[[Incoming], "Json | Outcome"]


class BybitRest:
    """Serves everything under ``/v5/``."""

    def __init__(
        self,
        exchange: SimExchange,
        transit: Transit,
        desk: OrderDesk,
        allowances: Allowances,
        *,
        limits: bool,
    ) -> None:
        self._exchange, self._transit, self._desk = exchange, transit, desk
        self._allowances, self._refuse = allowances, limits
        self._addresses = Window(exchange.clock, limit=IP_LIMIT, seconds=IP_SECONDS, aligned=False)
        self._public: dict[str, Handler] = {
            "market/time": self._time,
            "market/instruments-info": self._instruments,
            "market/orderbook": self._order_book,
            "market/tickers": self._tickers,
            "market/recent-trade": self._recent_trades,
        }
        self._reading: dict[str, Handler] = {
            "order/realtime": self._listing(queries.realtime),
            "order/history": self._listing(queries.history),
            "execution/list": self._listing(queries.executions),
            "account/wallet-balance": self._wallet,
            "account/info": lambda _: codec.account_info(exchange.clock.time_ms()),
            "account/fee-rate": self._fee_rate,
            "user/query-api": lambda given: codec.key_info(given.owner),
            "asset/coin/query-info": self._coins,
        }
        self._trading: dict[str, Handler] = {
            "order/create": lambda given: desk.create(given.owner, given.body),
            "order/amend": lambda given: desk.amend(given.owner, given.body),
            "order/cancel": lambda given: desk.cancel(given.owner, given.body),
            "order/cancel-all": lambda given: desk.cancel_all(given.owner, given.body),
            "order/create-batch": self._batch(desk.create),
            "order/cancel-batch": self._batch(desk.cancel),
        }

    def add_routes(self, app: web.Application) -> None:
        app.router.add_route("*", PREFIX + "{path:(?!public|private|trade).*}", self.serve)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode("utf-8", "replace")
        path = request.match_info["path"].rstrip("/")
        content = read_json(body)
        decoded = content if isinstance(content, dict) else None
        parameters = dict(request.query)
        call = Call(
            operation=f"{request.method} {PREFIX}{path}",
            symbol=str((decoded or {}).get("symbol") or parameters.get("symbol", "")),
            api_key=request.headers.get("X-BAPI-API-KEY", ""),
            refuse=self._refused,
        )
        return await self._transit.serve_http(
            request, call, lambda: self._answer(request, path, parameters, body, decoded)
        )

    def _answer(
        self, request: web.Request, path: str, parameters: dict[str, str], body: str, decoded: dict[str, object] | None
    ) -> Answer:
        headers: dict[str, str] = {}
        try:
            outcome = self._handle(request, path, parameters, body, decoded, headers)
        except BybitError as error:
            if isinstance(error, TooFrequent):
                headers |= error.allowance.headers()
            return self._encode(error.code, error.message, Outcome({}, {}), headers, error.status)
        if not isinstance(outcome, Outcome):
            outcome = Outcome(outcome, {})
        return self._encode(0, "OK", outcome, headers)

    def _refused(self, reason: str, seconds: float) -> Answer:
        error = asked_for(reason)
        headers = limit_headers(seconds, self._exchange.clock.time_ms()) if reason == "rate_limited" else {}
        return self._encode(error.code, error.message, Outcome({}, {}), headers, error.status)

    def _handle(
        self,
        request: web.Request,
        path: str,
        parameters: dict[str, str],
        body: str,
        decoded: dict[str, object] | None,
        headers: dict[str, str],
    ) -> Json | Outcome:
        if not self._addresses.spend(request.remote or "").allowed and self._refuse:
            raise BybitError(10018, "Exceeded the IP Rate Limit.", status=403)
        writing = request.method == "POST"
        table = self._trading if writing else self._reading
        handle = table.get(path) if request.method in ("GET", "POST") else None
        if handle is None:
            public = self._public.get(path) if request.method == "GET" else None
            if public is None:
                raise BybitError(10017, "Route not found.", status=404)
            return public(Incoming(parameters=parameters, body={}, account=None))
        account = auth.authenticate(
            self._exchange.accounts,
            request.headers,
            payload=body if writing else request.raw_path.partition("?")[2],
            now_ms=self._exchange.clock.time_ms(),
        )
        if ("trade" if writing else "read") not in account.permissions:
            raise not_allowed()
        headers |= self.allow(path, account).headers()
        if writing and decoded is None:
            raise bad_request("the body is not a JSON object.")
        return handle(Incoming(parameters=parameters, body=decoded or {}, account=account))

    def allow(self, path: str, account: Account) -> Allowance:
        """Count a request against its limit. Raises BybitError when it is spent."""
        allowance = self._allowances.spend(path, account)
        if not allowance.allowed and self._refuse:
            raise TooFrequent(allowance)
        return allowance

    def _encode(self, code: int, message: str, outcome: Outcome, headers: dict[str, str], status: int = 200) -> Answer:
        now = self._exchange.clock.time_ms()
        content = {
            "retCode": code,
            "retMsg": message,
            "result": outcome.result,
            "retExtInfo": outcome.extra,
            "time": now,
        }
        return Answer(body=msgspec.json.encode(content), status=status, headers=headers | {"Timenow": str(now)})

    # Market data

    def _time(self, _: Incoming) -> Json:
        now_us = self._exchange.clock.time_us()
        return {"timeSecond": str(now_us // 1_000_000), "timeNano": str(now_us * 1000)}

    def _instruments(self, given: Incoming) -> Json:
        category = check_category(given.parameters.get("category"))
        wanted = given.parameters.get("symbol")
        rows = [
            codec.instrument(market.rules, number, trading=not market.halted)
            for number, market in enumerate(self._exchange.markets.values(), start=1)
            if category == "spot" and (not wanted or market.native == wanted)
        ]
        return {"category": category, "nextPageCursor": "", "list": rows}

    def _order_book(self, given: Incoming) -> Json:
        market = self._desk.market(given.parameters)
        depth = _whole(given, "limit", default=1, highest=1000)
        book = market.book
        shown = (book.bids.top(depth), book.asks.top(depth))
        now = self._exchange.clock.time_ms()
        data = codec.book_data(market.native, shown, market.update_id, market.update_id)
        return data | {"ts": now, "cts": market.changed_ms or now}

    def _tickers(self, given: Incoming) -> Json:
        category = check_category(given.parameters.get("category"))
        markets = list(self._exchange.markets.values()) if category == "spot" else []
        if category == "spot" and given.parameters.get("symbol"):
            markets = [self._desk.market(given.parameters)]
        now = self._exchange.clock.time_ms()
        rows = [codec.rest_ticker(market, market.day(now), self.usd_price) for market in markets]
        return {"category": category, "list": rows}

    def _recent_trades(self, given: Incoming) -> Json:
        market = self._desk.market(given.parameters)
        limit = _whole(given, "limit", default=60, highest=60)
        newest = list(market.trades)[-limit:]
        rows = [codec.rest_trade(market.native, trade) for trade in reversed(newest)]
        return {"category": "spot", "list": rows}

    # Accounts

    def _wallet(self, given: Incoming) -> Json:
        if given.parameters.get("accountType") != "UNIFIED":
            raise BybitError(10001, "accountType only support UNIFIED.")
        wanted = given.parameters.get("coin")
        return {"list": [codec.wallet(given.owner, wanted.split(",") if wanted else None, self.usd_price)]}

    def _fee_rate(self, given: Incoming) -> Json:
        category = check_category(given.parameters.get("category"))
        markets = list(self._exchange.markets.values()) if category == "spot" else []
        if category == "spot" and given.parameters.get("symbol"):
            markets = [self._desk.market(given.parameters)]
        return {"list": [codec.fee_rate(market.rules) for market in markets]}

    def _coins(self, given: Incoming) -> Json:
        wanted = given.parameters.get("coin")
        coins = self._exchange.coins.listed()
        return {"rows": [codec.coin_info(coin) for coin in coins if not wanted or coin.code == wanted]}

    def usd_price(self, asset: str) -> Decimal | None:
        return usd_price(self._exchange, asset)

    # Orders

    def _listing(self, query: Callable[[SimExchange, Account, Mapping[str, str]], Json]) -> Handler:
        def handle(given: Incoming) -> Json:
            category = check_category(given.parameters.get("category"))
            if category != "spot":
                return {"nextPageCursor": "", "category": category, "list": []}
            if given.parameters.get("symbol"):
                self._desk.market(given.parameters)
            return query(self._exchange, given.owner, given.parameters)

        return handle

    def _batch(self, operate: Callable[[Account, Mapping[str, object]], Json]) -> Handler:
        def handle(given: Incoming) -> Outcome:
            category, requests = check_category(given.body.get("category")), given.body.get("request")
            if not isinstance(requests, Sequence) or not requests or isinstance(requests, str):
                raise empty("request")
            if len(requests) > MAX_BATCH:
                raise bad_request(f"at most {MAX_BATCH} orders a request.")
            rows, extra = [], []
            for one in requests:
                arguments = {**one, "category": category} if isinstance(one, dict) else {}
                row = {"category": category, "symbol": str(arguments.get("symbol") or ""), "createAt": ""}
                try:
                    row |= operate(given.owner, arguments)
                    row["createAt"] = str(self._exchange.clock.time_ms())
                    extra.append({"code": 0, "msg": "OK"})
                except BybitError as error:
                    row |= {"orderId": "", "orderLinkId": str(arguments.get("orderLinkId") or "")}
                    extra.append({"code": error.code, "msg": error.message})
                rows.append(row)
            return Outcome({"list": rows}, {"list": extra})

        return handle


class TooFrequent(BybitError):
    """The limit of an operation is spent; ``allowance`` tells when it starts anew."""

    def __init__(self, allowance: Allowance) -> None:
        error = too_frequent()
        super().__init__(error.code, error.message)
        self.allowance = allowance


def _whole(given: Incoming, name: str, *, default: int, highest: int) -> int:
    text = given.parameters.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1):
        raise bad_request(f"{name} must be a whole number of at least 1.")
    return min(int(text), highest)
