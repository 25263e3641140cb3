"""Spot against a perpetual, end to end: the whole engine against simulated Binance spot and USD-M futures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest
import pytest_asyncio

from tests.engine.worlds import Pages
from tests.exchanges.venue_rig import WAIT_SECONDS, spec_of
from tests.exchangesim.simulator import Simulator, running_simulator
from trading.basis import BASIS, BasisRules, BasisStanding
from trading.clock import SystemClock
from trading.config import AccountConfig, BotConfig, Credentials, OwnerConfig
from trading.engine import Engine
from trading.exchanges.markets import load_markets
from trading.exchanges.registry import feed_factory, venue_for
from trading.execution.memory_store import MemoryStore
from trading.marketdata.hub import MarketHub
from trading.messages import OrderKind, TradeRecord, TradeState
from trading.tickets import ClosingTerms

D = Decimal
SPOT, PERP = ("binance", "BTC/USDT"), ("binanceusdm", "BTC/USDT:USDT")
RULES = BasisRules(min_entry_bps=20.0, exit_bps=15.0, min_funding_bps=-1.0, leverage=2, max_funding_age_seconds=60.0)
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Stage:
    """An engine with a basis bot, an account on each exchange, and prices that a test moves."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.store = MemoryStore()
        self.alarms: list[str] = []
        self.prices = {SPOT: ("49990", "50000"), PERP: ("49990", "50000")}

    async def start(self, margin: str = "100000") -> None:
        clock = SystemClock()
        specs = {name: spec_of(self.simulator, name) for name, _ in (SPOT, PERP)}
        money = {"binance": {"USDT": "100000", "BTC": "0"}, "binanceusdm": {"USDT": margin}}
        self.keys = {name: self.simulator.account(name, balances=money[name]) for name in specs}
        kinds = {"binance": frozenset({"spot"}), "binanceusdm": frozenset({"linear"})}
        markets = {}
        for name, symbol in (SPOT, PERP):
            listed = await load_markets(specs[name], kinds=kinds[name])  # type: ignore[arg-type]
            markets[name] = next(market for market in listed if market.symbol == symbol)
        self.spot, self.perp = markets["binance"], markets["binanceusdm"]
        self.store.markets = {market.key: market for market in markets.values()}
        accounts = tuple(
            AccountConfig(
                account_id=number,
                label=name,
                exchange=specs[name],
                credentials=Credentials(api_key=self.keys[name].api_key, secret=self.keys[name].secret),
            )
            for number, name in enumerate(specs, 1)
        )
        bot = BotConfig(
            bot_id=1,
            name="carry",
            mode="live",
            strategy=BASIS,
            basis=RULES,
            markets=(self.spot, self.perp),
            accounts={account.exchange.code: account.account_id for account in accounts},
            max_trade_notional=D(5_000),
            max_book_age_ms=60_000.0,
            repair_tolerance_bps=30.0,
        )
        self.config = OwnerConfig(
            owner_id=7, id_prefix="test", lease_token=1, accounts=accounts, bots=(bot,), live_allowed=False,
            max_loop_lag_seconds=60.0,
        )  # fmt: skip
        self.simulator.set_mark(*PERP, "50000")
        # Else it follows the difference to the index.
        self.simulator.call("POST", "/funding", {"exchange": PERP[0], "symbol": PERP[1], "rate": "0.0001"})
        self.hub = MarketHub(clock, feed_factory({spec.code: spec for spec in specs.values()}, clock))
        venues = {account.account_id: venue_for(account, [markets[account.label]], clock) for account in accounts}
        self.engine = Engine(self.config, self.hub, venues, self.store, Pages(), clock, on_alarm=self.alarms.append)
        self.moving = asyncio.ensure_future(self._move())
        self.task = asyncio.ensure_future(self.engine.run())
        await self.until(lambda: [bot.observed for bot in self.engine.status().bots] == ["running"])

    async def _move(self) -> None:
        """Keep the books moving behind their best prices: a feed needs changes to know that it follows."""
        size = 0
        while True:
            size = size % 9 + 1
            for (name, symbol), (bid, ask) in self.prices.items():
                bids, asks = [(bid, "5"), ("40000", str(size))], [(ask, "5"), ("80000", str(size))]
                await asyncio.to_thread(self.simulator.set_book, name, symbol, bids=bids, asks=asks)
            await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(2 * WAIT_SECONDS):
                while not condition():
                    if self.task.done():
                        await self.task
                    await asyncio.sleep(0.02)
        except TimeoutError:
            decided = [(one.check, one.verdict.reason) for one in self.store.decisions[-3:]]
            raise AssertionError(f"{self.engine.status()}\n{self.store.trades}\n{self.alarms}\n{decided}") from None

    async def stop(self) -> None:
        self.moving.cancel()
        await self.engine.stop(5)
        await self.task
        await self.hub.close()

    async def hold(self) -> None:
        """Let the perpetual stand 100 bps above spot until a pair is held."""
        self.prices[PERP] = ("50500", "50510")
        await self.until(lambda: self.store.trades and self.record.state is TradeState.HOLDING)

    @property
    def record(self) -> TradeRecord:
        (record,) = self.store.trades.values()
        return record

    @property
    def pair(self) -> BasisStanding:
        assert self.record.pair is not None
        return self.record.pair

    def wallet(self, name: str, asset: str) -> Decimal:
        return D(self.simulator.balances(self.keys[name])[asset]["total"])

    def positions(self) -> list[tuple[str, Decimal]]:
        rows = self.simulator.positions(PERP[0], api_key=self.keys[PERP[0]].api_key)
        return [(row["side"], D(row["quantity"])) for row in rows]


@pytest_asyncio.fixture(loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    with running_simulator("--exchanges", "binance,binanceusdm") as simulator:
        stage = Stage(simulator)
        yield stage
        await stage.stop()


async def test_a_pair_is_entered_funded_and_closed_for_what_the_wallets_show(stage: Stage) -> None:
    await stage.start()
    await stage.hold()
    assert stage.positions() == [("BOTH", -stage.record.quantity)]
    assert stage.pair.spot_price == D(50_000)
    assert stage.pair.perp_price == D(50_500)
    trade = stage.engine.trades.pairs()[0]
    holdings = stage.engine.desk.holdings
    await stage.until(lambda: holdings.of(trade.terms.purses[stage.perp.exchange], stage.perp.key, "short"))
    told = holdings.of(trade.terms.purses[stage.perp.exchange], stage.perp.key, "short")
    assert told is not None
    assert told.leverage == RULES.leverage
    await asyncio.to_thread(stage.simulator.fund, *PERP, "0.0005")
    paid = stage.record.quantity * D(50_000) * D("0.0005")
    await stage.until(lambda: stage.pair.funding == paid)
    stage.prices = {SPOT: ("50000", "50010"), PERP: ("49990", "50000")}
    await stage.until(lambda: stage.record.state is TradeState.CLOSED)
    assert stage.positions() == []
    record = stage.record
    assert record.realised_profit is not None
    gained = stage.wallet("binance", "USDT") + stage.wallet("binanceusdm", "USDT") - 200_000
    left = stage.wallet("binance", "BTC")
    assert record.residual_base == left < stage.spot.lot
    assert abs(record.realised_profit - gained - left * stage.pair.spot_price) < D("1e-8")
    assert all(fill.fee is not None for fill in stage.store.fills.values())


async def test_a_liquidated_short_has_its_spot_leg_sold(stage: Stage) -> None:
    await stage.start(margin="6000")
    await stage.hold()
    await asyncio.to_thread(stage.simulator.set_mark, *PERP, "150000")
    await stage.until(lambda: stage.record.state is TradeState.CLOSED)
    assert stage.positions() == []
    assert stage.pair.outside == 0  # it is no guess: the exchange has told each execution
    closed = [one for one in stage.store.intents.values() if one.kind is OrderKind.LIQUIDATION]
    assert sum(one.quantity for one in closed) == stage.record.quantity
    assert "liquidated by the exchange at price" in stage.record.reason
    assert stage.wallet("binance", "BTC") < stage.spot.lot
    assert any("liquidated" in alarm for alarm in stage.alarms)
    assert not any("closed by others" in alarm for alarm in stage.alarms)


async def test_an_owner_closes_a_pair_by_its_trade(stage: Stage) -> None:
    await stage.start()
    await stage.hold()
    terms = ClosingTerms(cause="its owner closed it", command_id=3)
    assert await stage.engine.close_ticket(stage.record.trade_id, terms) == ""
    await stage.until(lambda: stage.record.state is TradeState.CLOSED)
    assert stage.positions() == []
    assert stage.record.reason.startswith("its owner closed it")
    reducing = [intent for intent in stage.store.intents.values() if intent.reduce_only]
    assert [(intent.market, intent.side) for intent in reducing] == [(stage.perp.key, "buy")]
