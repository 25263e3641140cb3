"""The Bybit v5 face: joins REST, public topics, private streams and order sockets to one ``SimExchange``."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from exchangesim.bybit import codec
from exchangesim.bybit.desk import Allowances, OrderDesk
from exchangesim.bybit.rest import ORDER_LIMITS, READ_LIMITS, BybitRest
from exchangesim.bybit.sessions import PrivateSession, PublicSession, Session, TradeSession
from exchangesim.bybit.stops import is_hidden
from exchangesim.bybit.topics import PublicTopics
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import BookChange, Execution, Order, PublicTrade
from exchangesim.core.transit import Transit
from exchangesim.core.worth import usd_price
from exchangesim.face import NoSuchNotion, SessionFace, SocketAction

IDLE_SECONDS = 600.0
_SWEEP_SECONDS = 0.5
_ACTIVE_TIME = re.compile(r"(\d{1,3})([sm])")

_encode = msgspec.json.encode


class BybitFace(SessionFace[Session]):
    """Bybit's protocol. ``idle_seconds`` is after how long without traffic a socket is cut."""

    def __init__(
        self, exchange: SimExchange, transit: Transit, *, limits: bool = True, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        super().__init__(exchange, transit, limits=limits)
        self.idle_seconds = idle_seconds
        self.desk = OrderDesk(exchange)
        self.rest = BybitRest(
            exchange, transit, self.desk, Allowances(exchange, ORDER_LIMITS | READ_LIMITS), limits=limits
        )
        self.topics = PublicTopics(exchange)

    def add_routes(self, app: web.Application) -> None:
        sockets: dict[str, type[Session]] = {
            "/v5/public/spot": PublicSession,
            "/v5/private": PrivateSession,
            "/v5/trade": TradeSession,
        }
        for path, kind in sockets.items():
            app.router.add_get(path, self._socket(kind))
        self.rest.add_routes(app)

    async def close(self) -> None:
        self.topics.close()
        await super().close()

    def _socket(self, kind: type[Session]) -> Any:
        async def open_socket(request: web.Request) -> web.WebSocketResponse:
            idle = _active_time(request.query.get("max_active_time", ""), self.idle_seconds)
            return await self._serve_session(request, lambda connection, number: kind(self, connection, number, idle))

        return open_socket

    async def _sweep(self) -> None:
        """Cut idle sockets, and repeat quiet tops of books."""
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self.idle_seconds / 4))
            self.topics.keep_alive()
            now = self.exchange.clock.monotonic()
            for session in [s for s in self.sessions if now - s.last_traffic > s.idle_seconds]:
                await session.connection.close()

    def disturb(self, action: SocketAction, api_key: str) -> int:
        if action == "notice":
            raise NoSuchNotion("Bybit closes sockets without a notice.")
        sessions = self._disturbed(api_key)
        for session in sessions:
            if action == "cut":
                session.connection.abort()
            else:
                session.connection.start_closing(1000 if action == "expire" else 1001)
        return len(sessions)

    # What happens at the exchange

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        self.topics.on_book(market, change)

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        self.topics.on_trades(market, trades)

    def on_order(self, account: Account, order: Order, execution: Execution) -> None:
        if is_hidden(order):
            return
        market = self.exchange.markets[order.native]
        fill = execution.fill
        row = None
        for session in self._private_sessions(account):
            row = row or codec.order_event(order, market.rules)
            self._push(session, "order", row, execution.id, order.native)
            if fill is not None:
                filled = codec.execution_event(fill, order, market.rules)
                self._push(session, "execution", filled, execution.id, order.native)
                fast = codec.fast_execution_event(fill)
                self._push(session, "execution.fast", fast, execution.id, order.native)

    def on_balances(self, account: Account, assets: tuple[str, ...], time_ms: int) -> None:
        for session in self._private_sessions(account):
            if "wallet" in session.topics:
                self._push(session, "wallet", codec.wallet(account, assets, self._usd_price), time_ms, "")

    def on_transfer(self, account: Account, asset: str, delta: Decimal, time_ms: int) -> None:
        self.on_balances(account, (asset,), time_ms)

    def _private_sessions(self, account: Account) -> list[PrivateSession]:
        return [s for s in self.sessions if isinstance(s, PrivateSession) and s.account is account]

    def _push(self, session: PrivateSession, topic: str, row: dict[str, Any], number: int, native: str) -> None:
        """Send a row to a session that has subscribed to a topic as a whole or to its spot category."""
        for name in (topic, f"{topic}.spot"):
            if name in session.topics:
                assert session.account is not None
                message = {
                    "id": f"{session.account.uid}_{native or 'wallet'}_{number}",
                    "topic": name,
                    "creationTime": self.exchange.clock.time_ms(),
                    "data": [row],
                }
                session.send_event(_encode(message), operation=topic, symbol=native)

    def _usd_price(self, asset: str) -> Decimal | None:
        return usd_price(self.exchange, asset)


def _active_time(text: str, default: float) -> float:
    """Read ``max_active_time``: 30s to 600s, or whole minutes; anything else is the default."""
    found = _ACTIVE_TIME.fullmatch(text)
    if found is None:
        return default
    seconds = int(found[1]) * (60 if found[2] == "m" else 1)
    return float(seconds) if 30 <= seconds <= 600 else default
