"""A real account at a simulated exchange, with everything its venue tells written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from itertools import count

from tests.exchangesim.simulator import Credentials as Keys
from tests.exchangesim.simulator import Simulator
from trading.clock import SystemClock
from trading.config import AccountConfig, Credentials, ExchangeSpec
from trading.exchanges.generic.venue import CcxtVenue, build_venue
from trading.exchanges.markets import load_markets
from trading.execution.ids import client_order_id, trade_id
from trading.instruments import Market
from trading.messages import AccountBalance, Fill, OrderEvent, OrderIntent, StreamState, TimeInForce

D = Decimal
WAIT_SECONDS = 30.0
ORDER_OPERATIONS = {
    "binance": "POST /api/v3/order",
    "okx": "POST /api/v5/trade/order",
    "bybit": "POST /v5/order/create",
}
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

    def __init__(self, simulator: Simulator, name: str, keys: Keys, market: Market) -> None:
        self.simulator = simulator
        self.name = name
        self.keys = keys
        self.market = market
        self.told: list[OrderEvent | AccountBalance | StreamState] = []
        self._news = asyncio.Event()
        self.account = AccountConfig(
            account_id=1,
            label="main",
            exchange=spec_of(simulator, name),
            credentials=Credentials(api_key=keys.api_key, secret=keys.secret, passphrase=keys.passphrase),
        )
        self.venue: CcxtVenue = build_venue(self.account, [market], SystemClock())

    @classmethod
    async def make(cls, simulator: Simulator, name: str, *, start: bool = True) -> Rig:
        keys = simulator.account(name, balances={"USDT": "20000000", "BTC": "100"})
        markets = await load_markets(spec_of(simulator, name))
        rig = cls(simulator, name, keys, next(market for market in markets if market.symbol == "BTC/USDT"))
        rig.show_book()
        if start:
            await rig.start()
        return rig

    async def start(self) -> None:
        await asyncio.wait_for(self.venue.start(self._listen), WAIT_SECONDS)
        await self.until(lambda: self.states[-1:] == ["live"])

    def show_book(self) -> None:
        self.simulator.set_book(
            self.name,
            "BTC/USDT",
            bids=[("49990", "1"), ("49980", "3")],
            asks=[("50000", "1"), ("50010", "3")],
        )

    def _listen(self, message: OrderEvent | AccountBalance | StreamState) -> None:
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

    def fault_on_order(self, kind: str, **parameters: object) -> None:
        """Let something go wrong with the next placement of this account."""
        self.simulator.fault(
            kind,
            exchange=self.name,
            operation=ORDER_OPERATIONS[self.name],
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
