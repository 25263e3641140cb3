"""The whole engine against simulated exchanges: real sockets, real feeds, real ccxt, orders that lose their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import ClassVar

import pytest

from tests.engine.worlds import Pages
from tests.exchanges.venue_rig import ORDER_OPERATIONS, SOCKET_OPERATIONS, WAIT_SECONDS, spec_of
from tests.exchangesim.simulator import Credentials as Keys
from tests.exchangesim.simulator import Simulator, shared_simulator  # noqa: F401
from trading.clock import SystemClock
from trading.config import AccountConfig, BotConfig, Credentials, OwnerConfig
from trading.engine import Engine
from trading.exchanges.markets import load_markets
from trading.exchanges.registry import feed_factory, venue_for
from trading.execution.memory_store import MemoryStore
from trading.marketdata.hub import MarketHub
from trading.messages import OrderState, TradeState

D = Decimal
NAMES = ("binance", "okx", "bybit")
ACCOUNTS = {"binance": 1, "okx": 2, "bybit": 3}


class Stage:
    """An engine with one bot on two simulated exchanges, with credentials that read their account's own fees."""

    path: ClassVar[str] = "rest"  # how orders leave, or "websocket"

    def __init__(self, simulator: Simulator, pair: tuple[str, str]) -> None:
        self.simulator = simulator
        self.pair = pair
        self.store = MemoryStore()
        self.pages = Pages()
        self.alarms: list[str] = []
        self.keys: dict[str, Keys] = {}

    async def start(self) -> None:
        clock = SystemClock()
        specs = {f"{name}-sim": spec_of(self.simulator, name) for name in self.pair}
        self.hub = MarketHub(clock, feed_factory(specs, clock))
        accounts, markets = [], []
        for name in self.pair:
            keys = self.keys[name] = self.simulator.account(name, balances={"USDT": "100000", "BTC": "2"})
            secrets = Credentials(api_key=keys.api_key, secret=keys.secret, passphrase=keys.passphrase)
            listed = await load_markets(specs[f"{name}-sim"], credentials=secrets)
            markets.append(next(market for market in listed if market.symbol == "BTC/USDT"))
            accounts.append(
                AccountConfig(
                    account_id=ACCOUNTS[name],
                    label=name,
                    exchange=specs[f"{name}-sim"],
                    credentials=secrets,
                    websocket_orders=self.path == "websocket",
                )
            )
        assert {market.taker_fee for market in markets} == {D("0.0004")}
        bot = BotConfig(
            bot_id=1,
            name="first",
            mode="live",
            markets=tuple(markets),
            accounts={f"{name}-sim": ACCOUNTS[name] for name in self.pair},
            max_trade_notional=D(10_000),
            max_book_age_ms=60_000.0,
            max_open_trades=1,
            cooldown_ms=60_000.0,
        )
        config = OwnerConfig(
            owner_id=7, id_prefix="test", lease_token=1, accounts=tuple(accounts), bots=(bot,), live_allowed=False
        )
        venues = {
            account.account_id: venue_for(account, [market], clock)
            for account, market in zip(accounts, markets, strict=True)
        }
        self.engine = Engine(config, self.hub, venues, self.store, self.pages, clock, on_alarm=self.alarms.append)
        self.quotes = dict.fromkeys(self.pair, ("49990", "50000"))
        self.breathing = asyncio.ensure_future(self._breathe())
        self.task = asyncio.ensure_future(self.engine.run())
        await self.until(lambda: [bot.observed for bot in self.engine.status().bots] == ["running"])
        if self.path == "websocket":
            await self.until(
                lambda: {view.reason for view in self.engine.account_views().values()} == {"orders by WebSocket"}
            )

    def place_operation(self, name: str) -> str:
        """What an exchange calls a placement on the path of this stage's orders."""
        return (ORDER_OPERATIONS if self.path == "rest" else SOCKET_OPERATIONS)[name]

    async def _breathe(self) -> None:
        """Keep the books moving behind their best prices: a feed needs changes to know that it follows."""
        size = 0
        while True:
            size = size % 9 + 1
            for name, (bid, ask) in self.quotes.items():
                bids = [(bid, "1"), ("40000", str(size))]
                asks = [(ask, "1"), ("60000", str(size))]
                await asyncio.to_thread(self.simulator.set_book, name, "BTC/USDT", bids=bids, asks=asks)
            await SystemClock().sleep(0.05)

    async def until(self, condition: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not condition():
                    for task in (self.task, self.breathing):
                        if task.done():
                            await task
                    await SystemClock().sleep(0.01)
        except TimeoutError:
            markets = [(state.key, state.status, state.reason, state.bid, state.ask) for state in self.hub.states()]
            raise AssertionError(
                f"{self.engine.status()}\n{markets}\n{self.store.history}\n{self.alarms}\n{self.store.decisions[-2:]}"
            ) from None

    def open_edge(self) -> None:
        """40 bps before fees between the first exchange's ask and the second's bid."""
        self.quotes[self.pair[1]] = ("50200", "50210")

    async def stop(self) -> None:
        self.breathing.cancel()
        await self.engine.stop(5)
        await self.task
        await self.hub.close()

    def check_books_and_balances(self) -> None:
        """What the store booked is what the exchanges executed; their balances moved by exactly that."""
        booked = {(fill.market.partition("-")[0], fill.exchange_trade_id) for fill in self.store.fills.values()}
        executed = {
            (name, row["trade_id"])
            for name in self.pair
            for row in self.simulator.fills(name, api_key=self.keys[name].api_key)
        }
        assert booked == executed
        for name in self.pair:
            expected = {"USDT": D(100_000), "BTC": D(2)}
            for fill in self.store.fills.values():
                if fill.account_id == ACCOUNTS[name]:
                    sign = 1 if fill.side == "buy" else -1
                    expected["BTC"] += sign * fill.quantity
                    expected["USDT"] -= sign * fill.quantity * fill.price
                    assert fill.fee is not None
                    expected[fill.fee_asset] -= fill.fee
            held = self.simulator.balances(self.keys[name])
            assert {asset: D(held[asset]["total"]) for asset in expected} == expected


@asynccontextmanager
async def staged(simulator: Simulator, pair: tuple[str, str]) -> AsyncIterator[Stage]:
    simulator.clear_faults()
    stage = Stage(simulator, pair)
    try:
        await stage.start()
        yield stage
    finally:
        simulator.clear_faults()
        await stage.stop()


@pytest.mark.parametrize(("path", "word"), [("rest", "by REST"), ("websocket", "by WebSocket")])
@pytest.mark.parametrize("pair", [("binance", "okx"), ("okx", "bybit"), ("bybit", "binance")], ids="-".join)
async def test_an_edge_is_traded_to_the_last_digit(
    shared_simulator: Simulator,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    pair: tuple[str, str],
    path: str,
    word: str,
) -> None:
    monkeypatch.setattr(Stage, "path", path)
    async with staged(shared_simulator, pair) as stage:
        stage.open_edge()
        await stage.until(lambda: stage.store.trades and not stage.engine.status().open_trades)
        (record,) = stage.store.trades.values()
        assert record.state is TradeState.CLOSED
        assert record.residual_base == 0
        assert record.realised_profit is not None
        assert record.realised_profit > 0
        assert set(stage.store.states.values()) == {OrderState.FILLED}
        stage.check_books_and_balances()
        answers = [event for events in stage.store.events.values() for event in events if event.source == "answer"]
        assert {event.cause for event in answers if event.state is OrderState.PLACED} == {word}
        # Also of those whose stream was faster than their answer.
        assert [{one.path for one in told} - {""} for told in stage.store.events.values()] == [{path}, {path}]
        counters = stage.engine.status().counters
        assert (counters[f"orders_by_{path}"], counters["order_fallbacks"]) == (2, 0)
        if path == "websocket":
            assert counters["order_queries"] == 0, "the streams told all"
    assert stage.engine.desk.portfolio.reservations == {}
    assert stage.alarms == []


@pytest.mark.parametrize("path", ["rest", "websocket"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_lost_answer_does_not_lose_the_trade(
    shared_simulator: Simulator,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    path: str,
) -> None:
    monkeypatch.setattr(Stage, "path", path)
    pair = (name, "okx" if name != "okx" else "bybit")
    async with staged(shared_simulator, pair) as stage:
        shared_simulator.fault(
            "drop_response", exchange=name, operation=stage.place_operation(name), count=1, parameters={"how": "reset"}
        )
        # Nor does the stream help: it is mute.
        shared_simulator.fault("silent", stage="event", exchange=name)
        stage.open_edge()
        await stage.until(lambda: stage.store.trades and not stage.engine.status().open_trades)
        (record,) = stage.store.trades.values()
        assert record.state is TradeState.CLOSED
        assert any(OrderState.UNKNOWN in states for states in stage.store.history.values())
        assert set(stage.store.states.values()) == {OrderState.FILLED}
        stage.check_books_and_balances()
    orders = [row for one in pair for row in shared_simulator.orders(one, api_key=stage.keys[one].api_key)]
    assert len(orders) == 2
