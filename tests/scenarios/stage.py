"""An engine on three simulated exchanges whose books are set by hand: real feeds, real venues, real orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import ROUND_CEILING, Decimal
from itertools import count

from risk.policy.breakers import Breaker, BreakerEvent, BreakerNews, BreakerRules, BreakerState, Scope
from risk.policy.gate import Key
from risk.policy.rulebook import ScopeRules
from risk.policy.triggers import TriggerRules
from tests.engine.worlds import Pages
from tests.exchanges.venue_rig import spec_of
from tests.exchangesim.simulator import Credentials as Keys
from tests.exchangesim.simulator import Simulator
from trading.clock import SystemClock
from trading.config import AccountConfig, BotConfig, Credentials, ExchangeSpec, OwnerConfig, RiskPicture
from trading.engine import Engine
from trading.exchanges.connection import ConnectionSettings
from trading.exchanges.markets import load_markets
from trading.exchanges.okx import feed as okx_feed
from trading.exchanges.okx.feed import PING
from trading.exchanges.registry import feed_factory, venue_for
from trading.execution.memory_store import MemoryStore
from trading.instruments import Market
from trading.marketdata.hub import LIVE, FeedFactory, MarketHub
from trading.messages import Decision, TradeRecord, TradeState
from trading.ports import Clock, Feed, FeedSink

D = Decimal
NAMES = ("binance", "okx", "bybit")
ACCOUNTS = {"binance": 1, "okx": 2, "bybit": 3}
BTC, ETH = "BTC/USDT", "ETH/USDT"
OWNER = 7
FAIR = {BTC: D(50_000), ETH: D(2_500)}
DEPTH = {BTC: D(10), ETH: D(200)}
EDGE = D("0.004")  # before fees; the simulated exchanges take 4 bps a leg
SPREAD = D("0.0002")
WIDE = D("0.0045")
BREATH_SECONDS = 0.1
SILENCE_SECONDS = 1.5
WAIT_SECONDS = 30.0


def quiet(**rules: ScopeRules) -> dict[Scope, ScopeRules]:
    """Return rules under which nothing trips but what is given, by scope."""
    silent = {scope: ScopeRules(triggers=TriggerRules()) for scope in Scope}
    return silent | {Scope(scope): given for scope, given in rules.items()}


def pair_rules(breaker: BreakerRules, **triggers: object) -> RiskPicture:
    """Return a picture in which only breakers of a pair on an exchange trip."""
    scope = ScopeRules(breaker=breaker, triggers=TriggerRules(**triggers))  # type: ignore[arg-type]
    return RiskPicture(rules=quiet(pair_on_exchange=scope))


class Books:
    """The books of the simulated exchanges, by exchange and symbol.

    They keep moving: a feed needs changes to know that it follows, and an opportunity that was refused is judged again
    only once its books have changed. Best sizes change by a ten-thousandth of them, prices do not.
    """

    def __init__(self, simulator: Simulator, names: Sequence[str], symbols: Sequence[str]) -> None:
        self.simulator = simulator
        self.names = names
        self.prices: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        self.sizes = {(name, symbol): DEPTH[symbol] for name in names for symbol in symbols}
        self.fair = {symbol: FAIR[symbol] for symbol in symbols}
        self._breaths = count(1)
        self._showing = asyncio.Lock()  # books that were set earlier do not arrive later
        for symbol in symbols:
            self.calm(symbol)

    def calm(self, symbol: str) -> None:
        """Let all exchanges quote so widely that nobody's bid is near anybody's ask.

        From here to an edge and back no other edge shows, in whatever order the exchanges' books arrive.
        """
        fair = self.fair[symbol]
        for name in self.names:
            self.prices[name, symbol] = (_tick(fair * (1 - SPREAD)), _tick(fair * (1 + WIDE)))

    def edge(self, symbol: str, buy: str, sell: str, edge: Decimal = EDGE) -> None:
        """Let one exchange bid more than another asks; the books are calm before."""
        fair = self.fair[symbol]
        high = _tick(fair * (1 + edge))
        assert high < _tick(fair * (1 + WIDE))
        self.prices[buy, symbol] = (_tick(fair * (1 - SPREAD)), fair)
        self.prices[sell, symbol] = (high, _tick(high * (1 + SPREAD)))

    async def show(self) -> None:
        """Set every book."""
        async with self._showing:
            step = D(next(self._breaths) % 9) / 10_000
            sets = []
            for (name, symbol), (bid, ask) in self.prices.items():
                size = self.sizes[name, symbol]
                size += (size * step).quantize(D("0.00001"))
                bids = [(f"{bid:f}", f"{size:f}")]
                asks = [(f"{ask:f}", f"{size:f}")]
                sets.append(asyncio.to_thread(self.simulator.set_book, name, symbol, bids=bids, asks=asks))
            await asyncio.gather(*sets)

    async def breathe(self) -> None:
        while True:
            await self.show()
            await SystemClock().sleep(BREATH_SECONDS)


class Journal(MemoryStore):
    """A store that also keeps every step of every breaker, as the table of their events does."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[BreakerEvent, Breaker]] = []
        self.figures: dict[Key, list[Mapping[str, float | int | str]]] = {}  # of trips

    def breaker_moved(self, news: BreakerNews) -> Breaker:
        before = self.breakers.get((news.scope, news.key))
        if news.event is BreakerEvent.TRIP:
            self.figures.setdefault((news.scope, news.key), []).append(news.figures)
        breaker = super().breaker_moved(news)
        if breaker != before:
            self.steps.append((news.event, breaker))
        return breaker


class Stage:
    """An engine with one bot on simulated exchanges."""

    def __init__(
        self, simulator: Simulator, *, risk: RiskPicture, symbols: Sequence[str] = (BTC,), **bot: object
    ) -> None:
        self.simulator = simulator
        self.books = Books(simulator, NAMES, symbols)
        self.symbols = symbols
        self.risk = risk
        self.store = Journal()
        self.store.breaker_rules = risk.rules
        self.pages = Pages()
        self.alarms: list[str] = []
        self.keys: dict[str, Keys] = {}
        self._bot = bot

    async def start(self) -> None:
        clock = SystemClock()
        specs = {f"{name}-sim": spec_of(self.simulator, name) for name in NAMES}
        await self.books.show()
        self.hub = MarketHub(clock, self._feeds(specs, clock))
        self.markets: dict[str, list[Market]] = {}
        accounts = []
        for name in NAMES:
            balances = {"USDT": "1000000", "BTC": "20", "ETH": "400"}
            keys = self.keys[name] = self.simulator.account(name, balances=balances)
            secrets = Credentials(api_key=keys.api_key, secret=keys.secret, passphrase=keys.passphrase)
            listed = await load_markets(specs[f"{name}-sim"], credentials=secrets)
            self.markets[name] = [market for market in listed if market.symbol in self.symbols]
            accounts.append(
                AccountConfig(account_id=ACCOUNTS[name], label=name, exchange=specs[f"{name}-sim"], credentials=secrets)
            )
        bot: dict[str, object] = {
            "bot_id": 1,
            "name": "first",
            "mode": "live",
            "markets": tuple(market for name in NAMES for market in self.markets[name]),
            "accounts": {f"{name}-sim": ACCOUNTS[name] for name in NAMES},
            "max_trade_notional": D(10_000),
            "max_book_age_ms": 10_000.0,
            "max_open_trades": 1,
            "cooldown_ms": 700.0,
            **self._bot,
        }
        config = OwnerConfig(
            owner_id=OWNER,
            id_prefix="test",
            lease_token=1,
            accounts=tuple(accounts),
            bots=(BotConfig(**bot),),  # type: ignore[arg-type]
            max_loop_lag_seconds=5.0,
            risk=self.risk,
        )
        venues = {account.account_id: venue_for(account, self.markets[account.label], clock) for account in accounts}
        self.engine = Engine(config, self.hub, venues, self.store, self.pages, clock, on_alarm=self.alarms.append)
        self.breathing = asyncio.ensure_future(self.books.breathe())
        self.task = asyncio.ensure_future(self.engine.run())
        await self.until(lambda: [bot.observed for bot in self.engine.status().bots] == ["running"], "the bot runs")
        await self.until(self._hears_all, "all books are heard")

    def _feeds(self, specs: Mapping[str, ExchangeSpec], clock: Clock) -> FeedFactory:
        """Return feeds as they are in life, but for OKX's patience with silence: a test waits for its end."""
        usual = feed_factory(specs, clock)

        def make(exchange: str, sink: FeedSink) -> Feed:
            if exchange == "okx-sim":
                patience = ConnectionSettings(ping=PING, silence_timeout=SILENCE_SECONDS)
                return okx_feed.create_feed(specs[exchange], sink, clock, connection=patience)
            return usual(exchange, sink)

        return make

    def _hears_all(self) -> bool:
        states = list(self.hub.states())
        return len(states) == len(NAMES) * len(self.symbols) and all(
            self.hub.tradable(state, 60_000.0) for state in states
        )

    async def stop(self) -> None:
        self.breathing.cancel()
        await self.engine.stop(5)
        await self.task
        await self.hub.close()

    async def until(self, condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    for task in (self.task, self.breathing):
                        if task.done():
                            await task
                    await SystemClock().sleep(0.01)
        except TimeoutError:
            markets = [(state.key, state.status, state.reason, state.bid, state.ask) for state in self.hub.states()]
            decisions = [(decision.check, decision.verdict.reason) for decision in self.store.decisions[-3:]]
            raise AssertionError(
                f"{what}: not within {seconds:g} s\n{self.engine.status()}\n{markets}\n{decisions}\n{self.alarms}"
            ) from None

    # -- what happens -------------------------------------------------------------------------------------------

    async def calm(self, symbol: str) -> None:
        """Take the edges away, and wait until the engine has heard where it hears."""
        self.books.calm(symbol)
        await self.books.show()
        await self.until(lambda: self._hears(symbol), "the calm books are heard")

    def _hears(self, symbol: str) -> bool:
        return all(
            state.status != LIVE or (float(bid), float(ask)) == (state.bid, state.ask)
            for name in NAMES
            for bid, ask in [self.books.prices[name, symbol]]
            for state in [self.hub.state(f"{name}-sim:{symbol}")]
        )

    async def trade(self, buy: str, sell: str, symbol: str = BTC, *, edge: Decimal = EDGE) -> TradeRecord:
        """Show an edge until it has been traded once; return the trade, finished."""
        before = set(self.store.trades)
        self.books.edge(symbol, buy, sell, edge)
        await self.until(lambda: self.store.trades.keys() - before, f"{buy}>{sell} {symbol} is traded")
        await self.until(lambda: not self.engine.status().open_trades, "the trade is finished")
        await self.calm(symbol)
        (trade,) = self.store.trades.keys() - before
        record = self.store.trades[trade]
        assert record.state is TradeState.CLOSED
        assert record.route == route_of(buy, sell, symbol), record.route
        return record

    async def win(self, buy: str, sell: str, symbol: str = BTC, *, edge: Decimal = EDGE) -> TradeRecord:
        record = await self.trade(buy, sell, symbol, edge=edge)
        assert profit_of(record) > 0
        return record

    async def lose(self, buy: str, sell: str, symbol: str = BTC) -> TradeRecord:
        record = await self.trade(buy, sell, symbol)
        assert profit_of(record) < 0
        return record

    async def refused(self, buy: str, sell: str, symbol: str = BTC, *, check: str, edge: Decimal = EDGE) -> Decision:
        """Show an edge until ``check`` refuses it; return the decision. Nothing is traded meanwhile."""
        trades, decisions = len(self.store.trades), len(self.store.decisions)
        route = route_of(buy, sell, symbol)

        def found() -> list[Decision]:
            return [
                decision
                for decision in self.store.decisions[decisions:]
                if (decision.check, decision.opportunity.route) == (check, route)
            ]

        self.books.edge(symbol, buy, sell, edge)
        await self.until(found, f"{buy}>{sell} {symbol} is refused by {check}")
        decision = found()[0]
        await self.calm(symbol)
        assert len(self.store.trades) == trades
        return decision

    def dear(self, name: str, symbol: str = BTC, *, times: int = 30) -> None:
        """Let an exchange take many times the fees it says: every trade there ends at a loss."""
        self.simulator.fault("fee", exchange=name, symbol=f"{symbol.partition('/')[0]}*", parameters={"times": times})

    # -- what is seen -------------------------------------------------------------------------------------------

    def steps_of(self, key: Key) -> list[tuple[BreakerEvent, Breaker]]:
        return [(event, breaker) for event, breaker in self.store.steps if (breaker.scope, breaker.key) == key]

    def tripped(self) -> list[Key]:
        return [key for key, breaker in self.store.breakers.items() if breaker.state is not BreakerState.CLOSED]

    def orders(self, name: str) -> int:
        """Return how many orders of ours the exchange itself has seen."""
        return len(self.simulator.orders(name, api_key=self.keys[name].api_key))


def profit_of(record: TradeRecord) -> Decimal:
    assert record.realised_profit is not None
    return record.realised_profit


def _tick(price: Decimal) -> Decimal:
    return price.quantize(D("0.1"))  # the coarsest tick of the three


@asynccontextmanager
async def staged(
    simulator: Simulator, *, risk: RiskPicture, symbols: Sequence[str] = (BTC,), **bot: object
) -> AsyncIterator[Stage]:
    simulator.clear_faults()
    stage = Stage(simulator, risk=risk, symbols=symbols, **bot)
    try:
        await stage.start()
        yield stage
    finally:
        simulator.clear_faults()
        await stage.stop()


def least_of(stage: Stage, buy: str, sell: str) -> Decimal:
    """Return the smallest quantity of BTC that both markets take: whole lots worth their least notional."""
    smallest = D(0)
    for name, price in ((buy, stage.books.fair[BTC]), (sell, stage.books.fair[BTC] * (1 + EDGE))):
        market = next(market for market in stage.markets[name] if market.symbol == BTC)
        whole = (market.min_notional / price / market.lot).to_integral_value(rounding=ROUND_CEILING) * market.lot
        smallest = max(smallest, market.min_amount, whole)
    return smallest


def route_of(buy: str, sell: str, symbol: str) -> str:
    return f"1:{buy}-sim:{symbol}>{sell}-sim:{symbol}"
