"""The control port's part about contracts: positions, mark prices and funding."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec
from aiohttp import web

from exchangesim.core.accounts import Account
from exchangesim.core.futures.exchange import FuturesExchange
from exchangesim.core.futures.liquidation import deleverage
from exchangesim.core.futures.margin import AccountMargin, PositionMargin, liquidation_price
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import Rejected
from exchangesim.core.text import plain
from exchangesim.venues import ControlError, Venue, amount, position_side, reply


class MarkRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Hold a contract's mark and index price where they are set; without a price they follow the market again."""

    exchange: str
    symbol: str
    price: str | int | float | None = None


class FundingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Hold a contract's funding rate (without a rate it follows the premium again), and fund ``now``."""

    exchange: str
    symbol: str
    rate: str | int | float | None = None
    now: bool = False


class DeleverageRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Let the exchange close a quantity of an account's position by itself, to cover another's loss (ADL)."""

    exchange: str
    symbol: str
    api_key: str
    quantity: str | int | float
    side: str = "BOTH"


class HedgeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Let an account hold both sides of each contract apart, or (not ``hedged``) one position."""

    exchange: str
    api_key: str
    hedged: bool


class FuturesControl:
    """Routes for exchanges of contracts."""

    def __init__(self, venues: Mapping[str, Venue]) -> None:
        self._venues = venues

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/positions", self._positions),
            web.post("/mark", self._mark),
            web.post("/funding", self._fund),
            web.post("/deleverage", self._deleverage),
            web.post("/hedge", self._hedge),
        ]

    async def _positions(self, request: web.Request) -> web.Response:
        exchange = self._exchange(request.query.get("exchange", ""))
        api_key, symbol = request.query.get("api_key"), request.query.get("symbol")
        native = None if symbol is None else self._market(exchange, symbol).native
        rows = []
        for account in exchange.accounts.values():
            if api_key not in (None, account.api_key):
                continue
            for asset in dict.fromkeys(market.rules.quote for market in exchange.markets.values()):
                margin = exchange.margin(account, asset)
                rows += [
                    _position(account.api_key, margin, figure)
                    for figure in margin.positions
                    if figure.position.quantity and native in (None, figure.position.native)
                ]
        return reply({"positions": rows})

    async def _mark(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=MarkRequest)
        exchange = self._exchange(wanted.exchange)
        market = self._market(exchange, wanted.symbol)
        price = None if wanted.price is None else amount("price", wanted.price)
        if price is not None and price <= 0:
            raise ControlError(f"price must be above 0, not {wanted.price!r}.")
        exchange.set_mark(market.native, price)
        return reply(self._prices(exchange, market))

    async def _fund(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=FundingRequest)
        exchange = self._exchange(wanted.exchange)
        market = self._market(exchange, wanted.symbol)
        rate = None
        if wanted.rate is not None:
            try:
                rate = Decimal(str(wanted.rate))
            except InvalidOperation:
                rate = Decimal("NaN")
            if not rate.is_finite() or abs(rate) > 1:
                raise ControlError(f"rate must be a fraction from -1 to 1, not {wanted.rate!r}.")
        exchange.set_rate(market.native, rate)
        if wanted.now:
            exchange.fund(market.native)
        return reply(self._prices(exchange, market))

    async def _deleverage(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=DeleverageRequest)
        exchange = self._exchange(wanted.exchange)
        market = self._market(exchange, wanted.symbol)
        account = self._account(exchange, wanted.api_key)
        position = exchange.position(account, market.native, position_side(wanted.side))
        quantity = amount("quantity", wanted.quantity)
        if not 0 < quantity <= abs(position.quantity):
            raise ControlError(f"quantity must be above 0 and at most {plain(abs(position.quantity))}.")
        order = deleverage(exchange, account, position, quantity)
        return reply({"order_id": str(order.id), "client_id": order.client_id, "filled": plain(order.filled)})

    async def _hedge(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=HedgeRequest)
        exchange = self._exchange(wanted.exchange)
        try:
            exchange.set_hedged(self._account(exchange, wanted.api_key), wanted.hedged)
        except Rejected as rejected:
            raise ControlError(rejected.detail, 409) from None
        return reply({"hedged": wanted.hedged})

    def _account(self, exchange: FuturesExchange, api_key: str) -> Account:
        account = exchange.accounts.get(api_key)
        if account is None:
            raise ControlError(f"{exchange.name} has no account with the key {api_key!r}.", 404)
        return account

    def _prices(self, exchange: FuturesExchange, market: SimMarket) -> dict[str, object]:
        prices = exchange.prices[market.native]
        return {
            "symbol": market.rules.symbol,
            "mark": plain(prices.mark),
            "index": plain(prices.index),
            "funding_rate": plain(prices.rate),
            "next_funding_ms": exchange.next_funding_ms,
        }

    def _exchange(self, name: str) -> FuturesExchange:
        venue = self._venues.get(name)
        if venue is None or not isinstance(venue.exchange, FuturesExchange):
            there = [name for name, each in self._venues.items() if isinstance(each.exchange, FuturesExchange)]
            raise ControlError(
                f"There is no exchange of contracts {name!r}; there are {', '.join(there) or 'none'}.", 404
            )
        return venue.exchange

    def _market(self, exchange: FuturesExchange, symbol: str) -> SimMarket:
        market = exchange.by_symbol.get(symbol)
        if market is None:
            raise ControlError(
                f"{exchange.name} has no market {symbol!r}; it has {', '.join(exchange.by_symbol)}.", 404
            )
        return market


def _position(api_key: str, margin: AccountMargin, figure: PositionMargin) -> dict[str, object]:
    position = figure.position
    return {
        "api_key": api_key,
        "symbol": figure.rules.symbol,
        "side": position.side,
        "quantity": plain(position.quantity),
        "entry_price": plain(position.entry_price),
        "mark_price": plain(figure.mark),
        "unrealized": plain(figure.unrealized),
        "realized": plain(position.realized),
        "leverage": figure.leverage,
        "isolated": figure.isolated,
        "isolated_wallet": plain(position.isolated_wallet),
        "initial_margin": plain(figure.initial),
        "maintenance_margin": plain(figure.maintenance),
        "liquidation_price": plain(liquidation_price(margin, figure)),
    }
