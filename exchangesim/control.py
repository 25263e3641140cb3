"""The control port: accounts, the judge's view of orders and fills, faults, markets and latency. 127.0.0.1 only.

Every request but ``GET /health`` carries ``Authorization: Bearer <token>``, so that other users of the machine cannot
give themselves money. Errors are ``{"error": "one sentence"}`` with status 400, 401, 404 or 409.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from decimal import Decimal

import msgspec
from aiohttp import web

from exchangesim.control_futures import FuturesControl
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.faults import FaultError, FaultRegistry
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import Fill, NewOrder, Order, OrderType, Rejected, Side
from exchangesim.core.synthetic import Quoter
from exchangesim.face import NoSuchNotion, SocketAction
from exchangesim.venues import ControlError, Venue, amount, position_side, reply

RULES = frozenset({"tick", "lot", "min_quantity", "max_quantity", "min_notional", "price_band"})
PERMISSIONS = frozenset({"read", "trade", "withdraw"})
Levels = list[tuple[Decimal, Decimal]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AccountRequest(msgspec.Struct, forbid_unknown_fields=True):
    exchange: str
    api_key: str
    secret: str
    passphrase: str = ""
    balances: dict[str, str | int | float] = {}
    permissions: tuple[str, ...] = ("read", "trade")


class TransferRequest(msgspec.Struct, forbid_unknown_fields=True):
    exchange: str
    api_key: str
    asset: str
    amount: str | int | float


class MarketRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What to do with one market. Levels are ``[[price, quantity], ...]`` as strings or numbers."""

    exchange: str
    symbol: str
    frozen: bool | None = None
    bids: list[tuple[str | int | float, str | int | float]] | None = None
    asks: list[tuple[str | int | float, str | int | float]] | None = None
    trade: TradeRequest | None = None
    halted: bool | None = None
    rules: dict[str, str | int | float] = {}
    """New ``tick``, ``lot``, ``min_quantity``, ``max_quantity``, ``min_notional`` or ``price_band``."""


class TradeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Let an anonymous participant take from the book."""

    side: str
    quantity: str | int | float
    price: str | int | float | None = None


class OrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    """An order that an account's owner places by hand; without a price a market order."""

    exchange: str
    api_key: str
    symbol: str
    side: str
    quantity: str | int | float
    price: str | int | float | None = None
    client_id: str = ""
    position_side: str = "BOTH"


class ExecutionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Execute a quantity of an order whatever its state: a late fill, or more than was ordered."""

    exchange: str
    order_id: str
    quantity: str | int | float
    price: str | int | float | None = None


class BustRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Take back one execution of an order."""

    exchange: str
    order_id: str
    trade_id: str


class RollBackRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Lose an order with all it executed, as after an outage."""

    exchange: str
    order_id: str


class CoinRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What an exchange tells of a coin: its contract, and whether deposits and withdrawals are open."""

    exchange: str
    code: str
    contract: str | None = None
    deposit: bool | None = None
    withdraw: bool | None = None


class RevokeRequest(msgspec.Struct, forbid_unknown_fields=True):
    exchange: str
    api_key: str
    revoked: bool = True


class SocketRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What happens to clients' sockets: see ``Face.disturb``."""

    exchange: str
    action: SocketAction
    api_key: str = "*"


class Control:
    """The control port's application."""

    def __init__(self, token: str, venues: Mapping[str, Venue], faults: FaultRegistry, describe: object) -> None:
        """``describe`` is what ``GET /health`` tells beside ``ok``: the addresses of the ready line."""
        self._token, self._venues, self._faults, self._describe = token, venues, faults, describe

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/health", self._health),
                web.post("/accounts", self._put_account),
                web.get("/accounts/{exchange}/{api_key}", self._get_account),
                web.post("/transfers", self._transfer),
                web.post("/keys", self._revoke),
                web.post("/coins", self._set_coin),
                web.get("/orders", self._orders),
                web.post("/orders", self._place),
                web.post("/executions", self._execute),
                web.post("/executions/bust", self._bust),
                web.post("/orders/roll_back", self._roll_back),
                web.post("/sockets", self._disturb),
                web.get("/fills", self._fills),
                web.get("/faults", self._get_faults),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.delete("/faults/{id}", self._remove_fault),
                web.get("/market", self._get_market),
                web.post("/market", self._set_market),
                web.get("/latency", self._get_latency),
                web.post("/latency", self._set_latency),
                *FuturesControl(self._venues).routes(),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path != "/health":
                given = request.headers.get("Authorization", "")
                if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                    raise ControlError("The Authorization header must be 'Bearer <control token>'.", 401)
            return await handler(request)
        except ControlError as error:
            return reply({"error": str(error)}, error.status)
        except (FaultError, ValueError, msgspec.MsgspecError) as error:
            return reply({"error": str(error)}, 400)
        except web.HTTPException as error:
            return reply({"error": f"{request.method} {request.path}: {error.reason}."}, error.status)

    async def _health(self, request: web.Request) -> web.Response:
        return reply({"ok": True, **(self._describe if isinstance(self._describe, dict) else {})})

    # Accounts

    async def _put_account(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=AccountRequest)
        exchange = self._venue(wanted.exchange).exchange
        if not 1 <= len(wanted.api_key) <= 200 or not wanted.secret:
            raise ControlError("An account needs an api_key of 1 to 200 characters and a secret.")
        unknown = set(wanted.permissions) - PERMISSIONS
        if unknown:
            raise ControlError(f"There is no permission {sorted(unknown)[0]!r}; there are {sorted(PERMISSIONS)}.")
        balances = {asset: amount(f"balances.{asset}", value) for asset, value in wanted.balances.items()}
        account, made = exchange.put_account(
            wanted.api_key,
            wanted.secret,
            passphrase=wanted.passphrase,
            balances=balances,
            permissions=wanted.permissions,
        )
        return reply({"created": made, **_account(account)})

    async def _get_account(self, request: web.Request) -> web.Response:
        return reply(_account(self._account(request.match_info["exchange"], request.match_info["api_key"])))

    async def _transfer(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=TransferRequest)
        account = self._account(wanted.exchange, wanted.api_key)
        text = str(wanted.amount)
        sign = -1 if text.startswith("-") else 1
        try:
            delta = sign * amount("amount", text.lstrip("-"))
            self._venue(wanted.exchange).exchange.transfer(account, wanted.asset, delta)
        except Rejected as rejected:
            raise ControlError(rejected.detail, 409) from None
        return reply(_account(account))

    async def _orders(self, request: web.Request) -> web.Response:
        exchange, limit, from_id = self._listing(request)
        native = self._native(exchange, request.query.get("symbol"))
        orders = exchange.store.orders(
            exchange.name,
            api_key=request.query.get("api_key"),
            native=native,
            from_id=from_id,
            newest=from_id is None,
            limit=limit,
        )
        return reply({"orders": [_order(exchange, order) for order in orders]})

    async def _fills(self, request: web.Request) -> web.Response:
        exchange, limit, from_id = self._listing(request)
        native = self._native(exchange, request.query.get("symbol"))
        fills = exchange.store.fills(
            exchange.name,
            api_key=request.query.get("api_key"),
            native=native,
            from_id=from_id,
            newest=from_id is None,
            limit=limit,
        )
        return reply({"fills": [_fill(exchange, fill) for fill in fills]})

    async def _revoke(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RevokeRequest)
        venue, account = self._venue(wanted.exchange), self._account(wanted.exchange, wanted.api_key)
        venue.exchange.revoke(account, wanted.revoked)
        if wanted.revoked:
            venue.face.disturb("expire", wanted.api_key)
        return reply({"revoked": wanted.revoked})

    # What an account's owner, or the exchange, does by itself

    async def _place(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=OrderRequest)
        exchange = self._venue(wanted.exchange).exchange
        account = self._account(wanted.exchange, wanted.api_key)
        if wanted.side not in (Side.BUY, Side.SELL):
            raise ControlError(f"side must be BUY or SELL, not {wanted.side!r}.")
        new = NewOrder(
            native=self._market(exchange, wanted.symbol).native,
            side=Side(wanted.side),
            type=OrderType.MARKET if wanted.price is None else OrderType.LIMIT,
            price=None if wanted.price is None else amount("price", wanted.price),
            quantity=amount("quantity", wanted.quantity),
            client_id=wanted.client_id,
            position_side=position_side(wanted.position_side),
        )
        try:
            return reply(_order(exchange, exchange.place(account, new)), 201)
        except Rejected as rejected:
            raise ControlError(rejected.detail, 409) from None

    async def _execute(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=ExecutionRequest)
        exchange, order = self._any_order(wanted.exchange, wanted.order_id)
        price = None if wanted.price is None else amount("price", wanted.price)
        try:
            fill = exchange.execute(order, amount("quantity", wanted.quantity), price)
        except Rejected as rejected:
            raise ControlError(rejected.detail, 409) from None
        return reply(_fill(exchange, fill), 201)

    async def _bust(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=BustRequest)
        exchange, order = self._any_order(wanted.exchange, wanted.order_id)
        try:
            exchange.bust(order, int(wanted.trade_id))
        except Rejected as rejected:
            raise ControlError(rejected.detail, 409) from None
        return reply(_order(exchange, order))

    async def _roll_back(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RollBackRequest)
        exchange, order = self._any_order(wanted.exchange, wanted.order_id)
        try:
            exchange.roll_back(order)
        except Rejected as rejected:
            raise ControlError(rejected.detail, 409) from None
        return reply({})

    async def _disturb(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=SocketRequest)
        try:
            return reply({"sockets": self._venue(wanted.exchange).face.disturb(wanted.action, wanted.api_key)})
        except NoSuchNotion as error:
            raise ControlError(str(error), 409) from None

    # Faults

    async def _get_faults(self, request: web.Request) -> web.Response:
        return reply({"faults": self._faults.describe()})

    async def _add_fault(self, request: web.Request) -> web.Response:
        description = msgspec.json.decode(await request.read(), type=dict[str, object])
        fault = self._faults.add(description)
        self._apply_clocks()
        return reply(fault.describe(), 201)

    async def _remove_fault(self, request: web.Request) -> web.Response:
        text = request.match_info["id"]
        if not text.isdigit() or not self._faults.remove(int(text)):
            raise ControlError(f"There is no fault {text}.", 404)
        self._apply_clocks()
        return reply({})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._faults.clear()
        self._apply_clocks()
        return reply({})

    def _apply_clocks(self) -> None:
        for name, venue in self._venues.items():
            venue.exchange.clock.offset_ms = self._faults.clock_shift_ms(name)

    # Markets and latency

    async def _get_market(self, request: web.Request) -> web.Response:
        exchange = self._venue(request.query.get("exchange", "")).exchange
        market = self._market(exchange, request.query.get("symbol", ""))
        return reply(_market(market, self._quoter(exchange, market)))

    async def _set_market(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=MarketRequest)
        exchange = self._venue(wanted.exchange).exchange
        market = self._market(exchange, wanted.symbol)
        quoter = self._quoter(exchange, market)
        by_hand = wanted.bids is not None or wanted.asks is not None
        if wanted.frozen is False and by_hand:
            raise ControlError("Levels set by hand need the market frozen; leave frozen out or true.")
        bids, asks = _levels("bids", wanted.bids, market), _levels("asks", wanted.asks, market)
        if bids and asks and max(p for p, _ in bids) >= min(p for p, _ in asks):
            raise ControlError("The best bid must be below the best ask.")
        if quoter is not None and (by_hand or wanted.frozen):
            quoter.frozen = True
        if by_hand:
            exchange.apply_levels(market.native, bids, asks, replace=True)
        if wanted.rules:
            unknown = set(wanted.rules) - RULES
            if unknown:
                raise ControlError(f"rules has no {sorted(unknown)[0]!r}; it has {', '.join(sorted(RULES))}.")
            rules = {name: amount(name, value) for name, value in wanted.rules.items()}
            if not all(rules.get(name, 1) for name in ("tick", "lot", "price_band")):
                raise ControlError("rules: tick, lot and price_band must be above 0.")
            exchange.set_rules(market.native, **rules)
        if wanted.halted is not None:
            exchange.set_halted(market.native, wanted.halted)
        if wanted.trade is not None:
            self._trade(exchange, market, wanted.trade)
        if quoter is not None and wanted.frozen is False and quoter.frozen:
            quoter.thaw()
        return reply(_market(market, quoter))

    def _trade(self, exchange: SimExchange, market: SimMarket, wanted: TradeRequest) -> None:
        if wanted.side not in (Side.BUY, Side.SELL):
            raise ControlError(f"trade.side must be BUY or SELL, not {wanted.side!r}.")
        limit = None if wanted.price is None else amount("trade.price", wanted.price)
        exchange.market_trade(market.native, Side(wanted.side), amount("trade.quantity", wanted.quantity), limit)

    async def _set_coin(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=CoinRequest)
        coins = {coin.code: coin for coin in self._venue(wanted.exchange).exchange.coins.listed()}
        coin = coins.get(wanted.code)
        if coin is None:
            raise ControlError(f"{wanted.exchange} has no coin {wanted.code!r}; it has {', '.join(coins)}.", 404)
        for name in ("contract", "deposit", "withdraw"):
            value = getattr(wanted, name)
            if value is not None:
                setattr(coin, name, value)
        return reply(asdict(coin))

    async def _get_latency(self, request: web.Request) -> web.Response:
        return reply({name: venue.latency.figures() for name, venue in self._venues.items()})

    async def _set_latency(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=dict[str, str | float])
        name = wanted.pop("exchange", None)
        venues = list(self._venues.values()) if name is None else [self._venue(str(name))]
        for venue in venues:
            venue.latency.update(**wanted)  # type: ignore[arg-type]
        return await self._get_latency(request)

    # Look-ups

    def _venue(self, name: str) -> Venue:
        venue = self._venues.get(name)
        if venue is None:
            raise ControlError(f"There is no exchange {name!r}; there are {', '.join(self._venues)}.", 404)
        return venue

    def _account(self, exchange: str, api_key: str) -> Account:
        account = self._venue(exchange).exchange.accounts.get(api_key)
        if account is None:
            raise ControlError(f"{exchange} has no account with this api_key.", 404)
        return account

    def _any_order(self, name: str, order_id: str) -> tuple[SimExchange, Order]:
        exchange = self._venue(name).exchange
        order = exchange.shelf.any(int(order_id)) if order_id.isdigit() else None
        if order is None:
            raise ControlError(f"{exchange.name} has no order {order_id!r}.", 404)
        return exchange, order

    def _market(self, exchange: SimExchange, symbol: str) -> SimMarket:
        market = exchange.by_symbol.get(symbol)
        if market is None:
            raise ControlError(
                f"{exchange.name} has no market {symbol!r}; it has {', '.join(exchange.by_symbol)}.", 404
            )
        return market

    def _native(self, exchange: SimExchange, symbol: str | None) -> str | None:
        return None if symbol is None else self._market(exchange, symbol).native

    def _quoter(self, exchange: SimExchange, market: SimMarket) -> Quoter | None:
        return self._venues[exchange.name].quoters.get(market.native)

    def _listing(self, request: web.Request) -> tuple[SimExchange, int, int | None]:
        exchange = self._venue(request.query.get("exchange", "")).exchange
        limit = request.query.get("limit", "1000")
        from_id = request.query.get("from_id")
        if not limit.isdigit() or not 1 <= int(limit) <= 100_000:
            raise ControlError(f"limit must be a whole number from 1 to 100000, not {limit!r}.")
        if from_id is not None and not from_id.isdigit():
            raise ControlError(f"from_id must be a whole number, not {from_id!r}.")
        return exchange, int(limit), None if from_id is None else int(from_id)


def _levels(name: str, wanted: list[tuple[str | int | float, str | int | float]] | None, market: SimMarket) -> Levels:
    levels: Levels = []
    for price_text, size_text in wanted or ():
        price, size = amount(name, price_text), amount(name, size_text)
        if price <= 0 or size <= 0 or price % market.rules.tick != 0:
            raise ControlError(
                f"{name} [{price_text}, {size_text}]: both must be above 0, the price in steps of {market.rules.tick}."
            )
        levels.append((price, size))
    return levels


def _account(account: Account) -> dict[str, object]:
    return {
        "api_key": account.api_key,
        "permissions": sorted(account.permissions),
        "balances": {
            asset: {"free": _plain(b.free), "locked": _plain(b.locked), "total": _plain(b.total)}
            for asset, b in account.balances.items()
        },
    }


def _order(exchange: SimExchange, order: Order) -> dict[str, object]:
    return {
        "id": str(order.id),
        "client_id": order.client_id,
        "api_key": order.api_key,
        "symbol": exchange.markets[order.native].rules.symbol if order.native in exchange.markets else order.native,
        "side": order.side,
        "type": order.type,
        "time_in_force": order.time_in_force,
        "post_only": order.post_only,
        "status": order.status,
        "close_reason": order.close_reason,
        "trigger_price": None if order.trigger is None else str(order.trigger.price),
        "waits": order.is_open and order.idle,
        "list_id": order.list_id or None,
        "list_client_id": _list_name(exchange, order),
        "price": _plain(order.price),
        "quantity": _plain(order.quantity),
        "filled": _plain(order.filled),
        "filled_quote": _plain(order.filled_quote),
        "fees": {asset: _plain(fee) for asset, fee in order.fees.items()},
        "created_ms": order.created_ms,
        "updated_ms": order.updated_ms,
    }


def _list_name(exchange: SimExchange, order: Order) -> str | None:
    """Return the client id of the order's list; OKX's orders of an algo order have no other name."""
    order_list = exchange.store.order_list(exchange.name, order.list_id) if order.list_id else None
    return None if order_list is None else order_list.client_id


def _fill(exchange: SimExchange, fill: Fill) -> dict[str, object]:
    return {
        "trade_id": str(fill.trade_id),
        "order_id": str(fill.order_id),
        "client_id": fill.client_id,
        "api_key": fill.api_key,
        "symbol": exchange.markets[fill.native].rules.symbol if fill.native in exchange.markets else fill.native,
        "side": fill.side,
        "price": _plain(fill.price),
        "quantity": _plain(fill.quantity),
        "fee": _plain(fill.fee),
        "fee_asset": fill.fee_asset,
        "maker": fill.maker,
        "time_ms": fill.time_ms,
    }


def _market(market: SimMarket, quoter: Quoter | None) -> dict[str, object]:
    rules = market.rules
    return {
        "symbol": rules.symbol,
        "native": rules.native,
        "tick": _plain(rules.tick),
        "lot": _plain(rules.lot),
        "taker_fee": _plain(rules.taker_fee),
        "maker_fee": _plain(rules.maker_fee),
        "last": _plain(market.last_price),
        "update_id": market.update_id,
        "halted": market.halted,
        "frozen": quoter is None or quoter.frozen,
        "bids": [[_plain(p), _plain(q)] for p, q in market.book.bids.top(50)],
        "asks": [[_plain(p), _plain(q)] for p, q in market.book.asks.top(50)],
    }


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
