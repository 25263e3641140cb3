"""Binance USD-M futures over a simulated exchange: REST, streams and the WebSocket API on one port."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from aiohttp import web

from exchangesim.binance.limits import BinanceLimits
from exchangesim.binance.rest import Rest
from exchangesim.binance.ws_api import UserStreams, WebSocketApi
from exchangesim.binance_usdm import events
from exchangesim.binance_usdm.calls import UsdmCalls
from exchangesim.binance_usdm.market_codec import RATE_LIMITS
from exchangesim.binance_usdm.streams import UsdmSockets, UsdmStreams
from exchangesim.binance_usdm.users import ListenKeys
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.futures.algo_orders import AlgoOrder
from exchangesim.core.futures.exchange import FuturesExchange, FuturesListener
from exchangesim.core.futures.margin import AccountMargin
from exchangesim.core.futures.positions import Position
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import BookChange, Execution, ExecutionType, Order, PublicTrade
from exchangesim.core.transit import Transit
from exchangesim.face import Face, NoSuchNotion, SocketAction

TICK_SECONDS = 1.0


class UsdmWebSocketApi(WebSocketApi):
    """``/ws-fapi/v1``: user data comes by listen key, not on these sockets."""

    path = "/ws-fapi/v1"

    def __init__(self, calls: UsdmCalls, transit: Transit) -> None:
        super().__init__(calls, transit, UserStreams())
        self.session_calls = {
            name: call for name, call in self.session_calls.items() if name in ("session.logon", "session.logout")
        } | {"session.status": self.session_calls["session.status"]}


class BinanceUsdmFace(Face, FuturesListener):
    """Serves ``/fapi``, what a client asks of ``/sapi/v1``, ``/ws-fapi/v1`` and the stream addresses."""

    exchange_class: type[SimExchange] = FuturesExchange
    exchange: FuturesExchange

    def __init__(self, exchange: FuturesExchange, transit: Transit, *, limits: bool = True) -> None:
        super().__init__(exchange, transit, limits=limits)
        self._users = ListenKeys(exchange.clock)
        calls = UsdmCalls(exchange, BinanceLimits(exchange.clock, enforce=limits, rate_limits=RATE_LIMITS), self._users)
        self._streams = UsdmStreams(exchange, self._users)
        self._rest = Rest(calls, transit)
        self._sockets = UsdmSockets(self._streams, transit, limits=limits)
        self._ws_api = UsdmWebSocketApi(calls, transit)
        self._ticker: asyncio.Task[None] | None = None

    def add_routes(self, app: web.Application) -> None:
        self._rest.add_routes(app)
        self._sockets.add_routes(app)
        self._ws_api.add_routes(app)

    async def start(self) -> None:
        self.exchange.tick()
        self._ticker = asyncio.create_task(self._tick())

    async def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        self._streams.close()
        await self._sockets.close()
        await self._ws_api.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.exchange.tick()
            self._users.expire()

    def disturb(self, action: SocketAction, api_key: str) -> int:
        if action == "notice":
            raise NoSuchNotion("Binance USD-M gives no notice before it closes a socket.")
        calls = self._ws_api.disturb(action, api_key)
        if action == "expire":
            return calls + self._users.expire(api_key)
        if api_key == "*":
            return calls + self._sockets.disturb(action)
        listeners = self._users.sockets(api_key)
        for listener in listeners:
            if action == "cut":
                listener.connection.abort()
            else:
                listener.connection.start_closing(1001)
        return calls + len(listeners)

    def addresses(self, host: str) -> dict[str, str]:
        return {**super().addresses(host), "ws_api": f"ws://{host}{UsdmWebSocketApi.path}"}

    # What the exchange tells

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        self._streams.on_book(market, change)

    def on_top(self, market: SimMarket) -> None:
        self._streams.on_top(market)

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        self._streams.on_trades(market, trades)

    def on_mark(self, market: SimMarket) -> None:
        self._streams.on_mark(market)

    def on_order(self, account: Account, order: Order, execution: Execution) -> None:
        market, now = self.exchange.markets[order.native], self.exchange.clock.time_ms()
        algo = self.exchange.algos.of_order(order)
        event = events.order_update(order, execution, market.rules, now, algo)
        self._users.publish(account.api_key, event, order.native)
        if execution.type is ExecutionType.LIQUIDATED and not order.is_open:
            self._streams.on_liquidated(market, order, execution.time_ms)

    def on_algo(self, account: Account, algo: AlgoOrder) -> None:
        rules = self.exchange.markets[algo.native].rules
        event = events.algo_update(algo, rules, self.exchange.clock.time_ms())
        self._users.publish(account.api_key, event, algo.native)

    def on_margin(
        self, account: Account, reason: str, positions: tuple[Position, ...], change: Decimal, time_ms: int
    ) -> None:
        markets = self.exchange.markets
        assets = dict.fromkeys(markets[position.native].rules.quote for position in positions)
        if not assets:
            assets = dict.fromkeys(account.balances)
        # Funding of a position under cross margin says nothing of the position.
        isolated = self.exchange.settings(account).isolated
        told = [p for p in positions if reason != "FUNDING_FEE" or p.native in isolated]
        event = events.account_update(self.exchange, account, reason, assets, told, change, time_ms)
        self._users.publish(account.api_key, event, positions[0].native if positions else "")

    def on_leverage(self, account: Account, native: str, leverage: int, time_ms: int) -> None:
        event = events.leverage_update(native, leverage, time_ms, self.exchange.clock.time_ms())
        self._users.publish(account.api_key, event, native)

    def on_margin_call(self, account: Account, margin: AccountMargin, time_ms: int) -> None:
        self._users.publish(account.api_key, events.margin_call(margin, time_ms))
