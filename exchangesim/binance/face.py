"""Binance spot over a simulated exchange: REST, market streams and the WebSocket API on one port."""

from __future__ import annotations

from decimal import Decimal

from aiohttp import web

from exchangesim.binance import codec
from exchangesim.binance.calls import Calls
from exchangesim.binance.limits import BinanceLimits
from exchangesim.binance.market_sockets import MarketSockets
from exchangesim.binance.rest import Rest
from exchangesim.binance.streams import Streams
from exchangesim.binance.ws_api import UserStreams, WebSocketApi
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import OrderList
from exchangesim.core.orders import BookChange, Execution, Order, PublicTrade
from exchangesim.core.transit import Transit
from exchangesim.face import Face, SocketAction


class BinanceFace(Face):
    """Serves ``/api/v3``, ``/sapi/v1``, ``/ws``, ``/stream`` and ``/ws-api/v3``."""

    def __init__(self, exchange: SimExchange, transit: Transit, *, limits: bool = True) -> None:
        super().__init__(exchange, transit, limits=limits)
        self._limits = BinanceLimits(exchange.clock, enforce=limits)
        calls = Calls(exchange, self._limits)
        self._streams = Streams(exchange)
        self._users = UserStreams()
        self._rest = Rest(calls, transit)
        self._sockets = MarketSockets(self._streams, transit, limits=limits)
        self._ws_api = WebSocketApi(calls, transit, self._users)

    def add_routes(self, app: web.Application) -> None:
        self._rest.add_routes(app)
        self._sockets.add_routes(app)
        self._ws_api.add_routes(app)

    async def close(self) -> None:
        self._streams.close()
        await self._sockets.close()
        await self._ws_api.close()

    def disturb(self, action: SocketAction, api_key: str) -> int:
        public = self._sockets.disturb(action) if api_key == "*" else 0
        return public + self._ws_api.disturb(action, api_key)

    def addresses(self, host: str) -> dict[str, str]:
        return {**super().addresses(host), "ws_api": f"ws://{host}/ws-api/v3"}

    # What the exchange tells

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        self._streams.on_book(market, change)

    def on_top(self, market: SimMarket) -> None:
        self._streams.on_top(market)

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        self._streams.on_trades(market, trades)

    def on_order(self, account: Account, order: Order, execution: Execution) -> None:
        fill = execution.fill
        if fill is not None and order.filled == fill.quantity:
            self._limits.count_order(account.api_key, -1)  # an order that trades no longer counts as unfilled
        event = codec.execution_report(order, execution, self.exchange.clock.time_ms())
        self._users.publish(account.api_key, event, order.native)

    def on_list(self, account: Account, order_list: OrderList) -> None:
        orders = self.exchange.lists.orders(order_list)
        event = codec.list_status(order_list, orders, self.exchange.clock.time_ms())
        self._users.publish(account.api_key, event, order_list.native)

    def on_balances(self, account: Account, assets: tuple[str, ...], time_ms: int) -> None:
        event = codec.account_position(account, assets, time_ms, self.exchange.clock.time_ms())
        self._users.publish(account.api_key, event)

    def on_transfer(self, account: Account, asset: str, delta: Decimal, time_ms: int) -> None:
        now = self.exchange.clock.time_ms()
        self._users.publish(account.api_key, codec.account_position(account, (asset,), time_ms, now))
        self._users.publish(account.api_key, codec.balance_update(asset, delta, time_ms, now))
