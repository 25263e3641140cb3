"""The OKX v5 face: joins REST, public channels and private sessions to one ``SimExchange``."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import OrderList
from exchangesim.core.orders import BookChange, Execution, ExecutionType, Order, PublicTrade
from exchangesim.core.transit import Transit
from exchangesim.core.worth import usd_price
from exchangesim.face import SessionFace, SocketAction
from exchangesim.okx import account_codec, codec
from exchangesim.okx.algos import AlgoDesk, read_attached
from exchangesim.okx.channels import PublicChannels
from exchangesim.okx.desk import OrderDesk
from exchangesim.okx.rest import OkxRest
from exchangesim.okx.sessions import Arg, Session

SILENCE_SECONDS = 30.0
SILENCE_CLOSE_CODE = 4004
_SWEEP_SECONDS = 0.5

_encode = msgspec.json.encode


class OkxFace(SessionFace[Session]):
    """OKX's protocol. ``silence_seconds`` is after how long without traffic a socket is cut."""

    def __init__(
        self,
        exchange: SimExchange,
        transit: Transit,
        *,
        limits: bool = True,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        super().__init__(exchange, transit, limits=limits)
        self.silence_seconds = silence_seconds
        self.desk = OrderDesk(exchange, read_attached, limits=limits)
        self.algos = AlgoDesk(exchange, self.desk, limits=limits)
        self.rest = OkxRest(exchange, transit, self.desk, self.algos, limits=limits)
        self.channels = PublicChannels(exchange)

    def add_routes(self, app: web.Application) -> None:
        self.rest.add_routes(app)
        for url in ("public", "private", "business"):
            app.router.add_get(f"/ws/v5/{url}", self._socket(url))

    def addresses(self, host: str) -> dict[str, str]:
        return {"rest": f"http://{host}", "ws": f"ws://{host}/ws/v5"}

    async def close(self) -> None:
        self.channels.close()
        await super().close()

    def _socket(self, url: str) -> Any:
        async def open_socket(request: web.Request) -> web.WebSocketResponse:
            return await self._serve_session(request, lambda connection, number: Session(self, connection, url, number))

        return open_socket

    async def _sweep(self) -> None:
        """Cut silent sockets, and let quiet books say that they live."""
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self.silence_seconds / 4))
            self.channels.keep_alive()
            oldest = self.exchange.clock.monotonic() - self.silence_seconds
            for session in [s for s in self.sessions if s.last_traffic < oldest]:
                await session.connection.close(SILENCE_CLOSE_CODE, "No data received in 30s.")

    def disturb(self, action: SocketAction, api_key: str) -> int:
        sessions = self._disturbed(api_key)
        for session in sessions:
            if action == "cut":
                session.connection.abort()
            elif action == "notice":
                text = "The connection will soon be closed for a service upgrade. Please reconnect."
                session.reply({"event": "notice", "code": "64008", "msg": text, "connId": session.id})
            elif action == "expire":
                session.connection.start_closing(4007, "API key has been updated or deleted. Please reconnect.")
            else:
                session.connection.start_closing(1001)
        return len(sessions)

    def sessions_of(self, account: Account) -> list[Session]:
        return [session for session in self.sessions if session.account is account]

    # What happens at the exchange

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        self.channels.on_book(market, change)

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        self.channels.on_trades(market, trades)

    def on_order(self, account: Account, order: Order, execution: Execution) -> None:
        sessions = self.sessions_of(account)
        if not sessions or order.idle:  # the leg of an algo order is no order before it is triggered
            return
        market = self.exchange.markets[order.native]
        row = codec.order_event(
            order,
            market.rules,
            execution.fill,
            last_price=execution.fill.price if execution.fill else market.last_price,
            usd_price=self._usd_price,
            amend_result="0" if execution.type is ExecutionType.AMENDED else "",
        )
        for session in sessions:
            for arg in _matching(session, "orders", order.native):
                session.send_event(_push(account, arg, [row]), operation="orders", symbol=order.native)
            if execution.fill is not None:
                for arg in _matching(session, "fills", order.native):
                    body = _push(account, arg, [codec.fill_event(execution.fill)])
                    session.send_event(body, operation="fills", symbol=order.native)

    def on_list(self, account: Account, order_list: OrderList) -> None:
        if self.algos.state(order_list) == "pending":
            return
        row = self.algos.row(order_list)
        for session in self.sessions_of(account):
            for arg in _matching(session, "orders-algo", order_list.native):
                session.send_event(_push(account, arg, [row]), operation="orders-algo", symbol=order_list.native)

    def on_balances(self, account: Account, assets: tuple[str, ...], time_ms: int) -> None:
        for session in self.sessions_of(account):
            for arg in _matching(session, "account", ""):
                self.send_account(session, arg, assets, time_ms)

    def on_transfer(self, account: Account, asset: str, delta: Decimal, time_ms: int) -> None:
        self.on_balances(account, (asset,), time_ms)

    def send_account(
        self, session: Session, arg: Arg, assets: tuple[str, ...] | None = None, time_ms: int | None = None
    ) -> None:
        """Send the ``account`` channel's message: all assets for a new subscription, else those that changed."""
        only = arg.get("ccy")
        if only and assets is not None and only not in assets:
            return
        wanted = (only,) if only else assets
        row = account_codec.account(session.owner, wanted, time_ms or self.exchange.clock.time_ms(), self._usd_price)
        event = {"eventType": "snapshot" if assets is None else "event_update", "curPage": 1, "lastPage": True}
        session.send_event(_push(session.owner, arg, [row], event), operation="account")

    def _usd_price(self, asset: str) -> Decimal | None:
        return usd_price(self.exchange, asset)


def _matching(session: Session, channel: str, native: str) -> list[Arg]:
    """Return the session's subscriptions to a private channel that a spot event of this market belongs to."""
    return [
        arg
        for (name, series, wanted, _), arg in session.private.items()
        if name == channel and series in ("", "SPOT", "ANY") and (not wanted or wanted == native)
    ]


def _push(account: Account, arg: Arg, rows: list[Any], more: dict[str, Any] | None = None) -> bytes:
    return _encode({"arg": arg | {"uid": str(account.uid)}, **(more or {}), "data": rows})
