"""A real account at a simulated exchange, with everything its venue tells written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from itertools import count
from unittest import mock

from tests.exchanges.ccxt_ways import THROUGH_CCXT
from tests.exchangesim.simulator import Credentials as Keys
from tests.exchangesim.simulator import Simulator
from trading.clock import SystemClock
from trading.config import AccountConfig, Credentials, ExchangeSpec
from trading.exchanges.generic import venue as venue_module
from trading.exchanges.generic.ccxt_socket import CcxtSocket
from trading.exchanges.generic.venue import CcxtVenue, build_venue
from trading.exchanges.markets import load_markets
from trading.exchanges.order_socket import OrderSocket
from trading.execution.ids import client_order_id, trade_id
from trading.instruments import Market, MarketKind
from trading.messages import (
    AccountBalance,
    AccountPositions,
    Fill,
    OrderEvent,
    OrderIntent,
    OrderPath,
    OrdersBy,
    StreamState,
    TimeInForce,
)

D = Decimal
WAIT_SECONDS = 30.0
ORDER_OPERATIONS = {
    "binance": "POST /api/v3/order",
    "okx": "POST /api/v5/trade/order",
    "bybit": "POST /v5/order/create",
    "binanceusdm": "POST /fapi/v1/order",
}
CANCEL_OPERATIONS = {
    "binance": "DELETE /api/v3/order",
    "okx": "POST /api/v5/trade/cancel-order",
    "bybit": "POST /v5/order/cancel",
    "binanceusdm": "DELETE /fapi/v1/order",
}
SOCKET_OPERATIONS = {"binance": "order.place", "okx": "order", "bybit": "order.create", "binanceusdm": "order.place"}
SOCKET_CANCELS = {
    "binance": "order.cancel",
    "okx": "cancel-order",
    "bybit": "order.cancel",
    "binanceusdm": "order.cancel",
}
# What is traded there, where it isn't a spot market.
SYMBOLS = {"binanceusdm": "BTC/USDT:USDT"}
# An exchange, and behind a dash how orders leave: by REST if it says nothing, by WebSocket with either kind of key.
WAYS = ("binance", "okx", "bybit", "binance-websocket", "binance-ed25519", "okx-websocket", "bybit-websocket")
# By ccxt.pro's WebSocket methods, as on exchanges whose messages we don't speak.
CCXT_WAYS = ("binance-ccxt", "okx-ccxt", "bybit-ccxt")
USDM_WAYS = ("binanceusdm", "binanceusdm-websocket", "binanceusdm-ed25519")
# A key of nobody's, made for these tests.
ED25519_KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""
_sequence = count(1)


def spec_of(simulator: Simulator, name: str) -> ExchangeSpec:
    return ExchangeSpec(
        code=f"{name}-sim",
        ccxt_id=name,
        environment="simulated",
        urls={"rest": simulator.rest[name], "ws": simulator.ws[name]},
    )


class Rig:
    """One started venue."""

    def __init__(
        self,
        simulator: Simulator,
        name: str,
        keys: Keys,
        market: Market,
        path: str = "rest",
        *,
        through_ccxt: bool = False,
    ) -> None:
        self.simulator = simulator
        self.name = name
        self.keys = keys
        self.market = market
        self.path = path
        self.told: list[OrderEvent | AccountBalance | AccountPositions | StreamState | OrderPath] = []
        self._news = asyncio.Event()
        self.account = AccountConfig(
            account_id=1,
            label="main",
            exchange=spec_of(simulator, name),
            credentials=Credentials(api_key=keys.api_key, secret=keys.secret, passphrase=keys.passphrase),
            websocket_orders=path == "websocket",
        )
        if through_ccxt:
            with mock.patch.object(venue_module, "dialect_class", THROUGH_CCXT.__getitem__):
                self.venue: CcxtVenue = build_venue(self.account, [market], SystemClock())
        else:
            self.venue = build_venue(self.account, [market], SystemClock())

    @classmethod
    async def make(
        cls,
        simulator: Simulator,
        name: str,
        *,
        start: bool = True,
        path: str = "rest",
        secret: str = "",
        through_ccxt: bool = False,
    ) -> Rig:
        """``path`` is how orders leave, ``rest`` or ``websocket``; ``secret`` a key of the account's own choice."""
        # A contract's margin is a part of what is traded.
        balances = {"USDT": "400000"} if name in SYMBOLS else {"USDT": "20000000", "BTC": "100"}
        keys = simulator.account(name, balances=balances, secret=secret)
        symbol = SYMBOLS.get(name, "BTC/USDT")
        kinds: frozenset[MarketKind] = frozenset({"linear" if name in SYMBOLS else "spot"})
        markets = await load_markets(spec_of(simulator, name), kinds=kinds)
        market = next(market for market in markets if market.symbol == symbol)
        rig = cls(simulator, name, keys, market, path, through_ccxt=through_ccxt)
        rig.show_book()
        if start:
            await rig.start()
        return rig

    @classmethod
    async def of(cls, simulator: Simulator, way: str) -> Rig:
        """Return a started venue for one of WAYS."""
        name, _, how = way.partition("-")
        secret = ED25519_KEY if how == "ed25519" else ""
        path = "websocket" if how else "rest"
        return await cls.make(simulator, name, path=path, secret=secret, through_ccxt=how == "ccxt")

    async def start(self) -> None:
        await asyncio.wait_for(self.venue.start(self._listen), WAIT_SECONDS)
        await self.until(lambda: self.states[-1:] == ["live"])
        await self.on_its_path()

    async def on_its_path(self) -> None:
        """Wait until orders leave the way they are to."""
        socket = self.venue._orders._socket
        if socket is not None:
            await self.until(lambda: self.paths[-1:] == [OrdersBy.WEBSOCKET])
            # As if it had stood for long: pauses before the next connection begin anew.
            if isinstance(socket, CcxtSocket):
                socket._backoff.reset()
            if isinstance(socket, OrderSocket):
                for line in socket._lines:
                    line.connection._failures = 0

    def show_book(self) -> None:
        self.simulator.set_book(
            self.name,
            self.market.symbol,
            bids=[("49990", "1"), ("49980", "3")],
            asks=[("50000", "1"), ("50010", "3")],
        )
        if self.name in SYMBOLS:
            self.simulator.set_mark(self.name, self.market.symbol, "50000")

    def _listen(self, message: OrderEvent | AccountBalance | AccountPositions | StreamState | OrderPath) -> None:
        self.told.append(message)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until what was told makes ``condition`` true."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 1)

    @property
    def states(self) -> list[str]:
        return [message.state for message in self.told if isinstance(message, StreamState)]

    @property
    def paths(self) -> list[OrdersBy]:
        return [message.by for message in self.told if isinstance(message, OrderPath)]

    def events(self, intent: OrderIntent) -> list[OrderEvent]:
        return [
            message
            for message in self.told
            if isinstance(message, OrderEvent) and message.client_order_id == intent.client_order_id
        ]

    def fills(self, intent: OrderIntent) -> dict[str, Fill]:
        """Every fill told of an order, by the exchange's trade id."""
        return {fill.exchange_trade_id: fill for event in self.events(intent) for fill in event.fills}

    def intent(self, side: str = "buy", quantity: str = "1", price: str = "50000", **changes: object) -> OrderIntent:
        now = SystemClock().time_ns()
        trade = trade_id("test", 1, 1, next(_sequence))
        settings: dict[str, object] = {
            "client_order_id": client_order_id(trade, 0, 0),
            "trade_id": trade,
            "account_id": 1,
            "market": self.market.key,
            "leg": 0,
            "attempt": 0,
            "side": side,
            "time_in_force": TimeInForce.IOC,
            "price": D(price),
            "quantity": D(quantity),
            "deadline_ns": now + 15 * 10**9,
            "created_ns": now,
            **changes,
        }
        return OrderIntent(**settings)  # type: ignore[arg-type]

    @property
    def place_operation(self) -> str:
        """What the exchange calls a placement on this venue's path."""
        return (ORDER_OPERATIONS if self.path == "rest" else SOCKET_OPERATIONS)[self.name]

    @property
    def cancel_operation(self) -> str:
        return (CANCEL_OPERATIONS if self.path == "rest" else SOCKET_CANCELS)[self.name]

    def fault_on_order(self, kind: str, **parameters: object) -> None:
        """Let something go wrong with the next placement of this account."""
        self.simulator.fault(
            kind,
            exchange=self.name,
            operation=self.place_operation,
            api_key=self.keys.api_key,
            count=1,
            parameters=parameters,
        )

    def orders_at_exchange(self, intent: OrderIntent) -> list[dict[str, object]]:
        """The orders the exchange has by this client id: the judge's view."""
        rows = self.simulator.orders(self.name, api_key=self.keys.api_key)
        return [row for row in rows if row["client_id"] == intent.client_order_id]

    async def close(self) -> None:
        await self.venue.close()
