"""A synthetic market: one fair price per asset, and exchanges whose quotes wander around it.

Each asset's fair price in dollars is a slow random walk. An exchange's quote of a market follows the fair price with a
lag of its own, plus mean-reverting noise, plus now and then a dislocation that holds for a second or two: a difference
to the other exchanges of tens of basis points that really is there to be taken. Dislocations come in pairs of opposite
sign, so that what arbitrage buys on an exchange it sells there again. Taking liquidity moves the quote the way it
would: buying lifts it.

Everything is drawn from the seed, one stream of draws per asset and per market, in fixed steps: the same seed and the
same orders give the same tape, whatever the wall clock does.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import ZERO, Side
from exchangesim.core.rules import split_symbol

BPS = 1e-4

# Where the walks begin, in dollars. Others are given with the symbol: ``--symbols FOO/USDT=1.25``.
START_PRICES: dict[str, float] = {
    "BTC": 61_800.0,
    "ETH": 2_680.0,
    "SOL": 156.0,
    "XRP": 0.61,
    "DOGE": 0.105,
    "BNB": 520.0,
    "ADA": 0.34,
    "LTC": 62.0,
    "USDT": 1.0,
    "USDC": 1.0004,
    "USD": 1.0,
}
STABLE = frozenset({"USDT", "USDC", "USD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSettings:
    """Shape of the synthetic market. Times are seconds, sizes quote units."""

    interval: float = 0.1
    """Time between two quotes of a market."""
    levels: int = 25
    volatility_bps: float = 0.8
    """Standard deviation of the fair price over one second."""
    lag: tuple[float, float] = (0.05, 0.4)
    """Each market's lag behind the fair price is drawn from here."""
    noise_bps: float = 2.5
    noise_time: float = 4.0
    """Standard deviation and correlation time of a market's own noise."""
    dislocation_every: float = 18.0
    """Mean time between two dislocations of a market."""
    dislocation_bps: tuple[float, float] = (14.0, 40.0)
    dislocation_hold: tuple[float, float] = (0.8, 2.5)
    half_spread_bps: tuple[float, float] = (0.2, 0.7)
    gap_bps: float = 1.0
    """Distance between two levels."""
    top_size: tuple[float, float] = (2_000.0, 12_000.0)
    level_size: tuple[float, float] = (4_000.0, 40_000.0)
    trades_per_second: float = 1.5
    impact_bps: float = 6.0
    """How far taking all of the best five levels moves the quote."""
    impact_time: float = 5.0


class Walk:
    """The fair price of one asset in dollars."""

    def __init__(self, asset: str, start: float, seed: str, settings: SyntheticSettings) -> None:
        self.asset = asset
        self.start = self.price = start
        self._random = random.Random(seed)
        stable = asset in STABLE
        # A stablecoin hardly moves, and both are drawn home: a demo that runs for days must stay plausible.
        self._step = settings.volatility_bps * BPS * math.sqrt(settings.interval) * (0.02 if stable else 1.0)
        self._home = settings.interval / (600.0 if stable else 6 * 3600.0)

    def advance(self) -> None:
        home = math.log(self.start / self.price) * self._home
        self.price *= math.exp(home + self._step * self._random.gauss(0.0, 1.0))


class Dislocations:
    """The times and sizes at which a market's quote leaves the others."""

    def __init__(self, draws: random.Random, settings: SyntheticSettings) -> None:
        self._random, self._settings = draws, settings
        self._wait = draws.expovariate(1 / settings.dislocation_every)
        self._hold = 0.0
        self.target = 0.0
        """Where it is heading, basis points; zero between two dislocations."""
        self._signs: list[int] = []
        self.value = 0.0
        """Basis points, now."""

    def advance(self, seconds: float) -> None:
        if self._hold > 0:
            self._hold -= seconds
            if self._hold <= 0:
                self.target = 0.0
        else:
            self._wait -= seconds
            if self._wait <= 0:
                draws, settings = self._random, self._settings
                if not self._signs:
                    self._signs = draws.choice(([1, -1], [-1, 1]))
                self.target = self._signs.pop() * draws.uniform(*settings.dislocation_bps)
                self._hold = draws.uniform(*settings.dislocation_hold)
                self._wait = draws.expovariate(1 / settings.dislocation_every)
        # Opens within a few steps and closes in about a second.
        pace = 0.15 if self.target else 0.5
        self.value += (self.target - self.value) * (1 - math.exp(-seconds / pace))


class Quoter:
    """Quotes one market of one exchange, and trades in it now and then."""

    def __init__(self, exchange: SimExchange, market: SimMarket, base: Walk, quote: Walk, seed: str) -> None:
        self.exchange, self.market = exchange, market
        self.frozen = False
        """True leaves the book as it is (set by hand through the control port)."""
        self._base, self._quote = base, quote
        self._random = random.Random(seed)
        self._settings = SyntheticSettings()
        self._tick, self._lot = market.rules.tick, market.rules.lot

    def configure(self, settings: SyntheticSettings) -> Quoter:
        """Draw this market's own character from the settings."""
        draws, self._settings = self._random, settings
        self._lag = draws.uniform(*settings.lag)
        self._half_spread = draws.uniform(*settings.half_spread_bps) * BPS
        self._dislocations = Dislocations(draws, settings)
        self._noise = draws.gauss(0.0, settings.noise_bps)
        self._pressure = 0.0
        self._followed = self._fair
        self._float_tick, self._float_lot = float(self._tick), float(self._lot)
        self._gap = max(1, round(self._fair * settings.gap_bps * BPS / self._float_tick))
        self._sizes: dict[Side, dict[int, Decimal]] = {Side.BUY: {}, Side.SELL: {}}
        self._shown: dict[Side, dict[Decimal, Decimal]] = {Side.BUY: {}, Side.SELL: {}}
        return self

    @property
    def _fair(self) -> float:
        return self._base.price / self._quote.price

    @property
    def deviation_bps(self) -> float:
        """How far this market's quote is from the fair price by its own doing."""
        return self._noise + self._dislocations.value + self._pressure

    def thaw(self) -> None:
        """Go on quoting after the book was set by hand: all that is there is taken away first."""
        self.frozen = False
        self._shown = {Side.BUY: {}, Side.SELL: {}}
        self.exchange.apply_levels(self.market.native, (), (), replace=True)

    def step(self) -> None:
        """Advance by one interval: new quotes, and perhaps a trade. Draws the same whether frozen or not."""
        settings, draws = self._settings, self._random
        seconds = settings.interval
        self._followed += (self._fair - self._followed) * (1 - math.exp(-seconds / self._lag))
        decay = math.exp(-seconds / settings.noise_time)
        self._noise = self._noise * decay + settings.noise_bps * math.sqrt(1 - decay * decay) * draws.gauss(0.0, 1.0)
        self._dislocations.advance(seconds)
        self._pressure = (self._pressure + self._taken()) * math.exp(-seconds / settings.impact_time)
        wanted = self._ladder(self._followed * (1 + self.deviation_bps * BPS))
        trade = draws.random() < settings.trades_per_second * seconds
        side = Side.BUY if draws.random() < 0.5 else Side.SELL
        part = draws.uniform(0.02, 0.4)
        if self.frozen:
            return
        changes = {}
        for which, shown in self._shown.items():
            levels = wanted[which]
            changes[which] = [(price, ZERO) for price in shown if price not in levels]
            changes[which] += [(price, size) for price, size in levels.items() if shown.get(price) != size]
        self._shown = wanted
        self.exchange.apply_levels(self.market.native, changes[Side.BUY], changes[Side.SELL])
        if trade:
            self._trade(side, part)

    def _trade(self, side: Side, part: float) -> None:
        best = self.market.book.side(side.opposite).top(1)
        if best:
            price, size = best[0]
            lots = max(1, int(float(size) * part / self._float_lot))
            self.exchange.market_trade(self.market.native, side, self._lot * lots, price)

    def _ladder(self, mid: float) -> dict[Side, dict[Decimal, Decimal]]:
        """Return the levels to show: the best exactly where the price is, the deeper ones on a fixed grid."""
        tick, gap, count = self._float_tick, self._gap, self._settings.levels
        bid = math.floor(mid * (1 - self._half_spread) / tick)
        ask = max(bid + 1, math.ceil(mid * (1 + self._half_spread) / tick))
        first_bid = (bid - 1) // gap
        first_ask = ask // gap + 1
        return {
            Side.BUY: self._side(Side.BUY, bid, range(first_bid, first_bid - count + 1, -1), mid),
            Side.SELL: self._side(Side.SELL, ask, range(first_ask, first_ask + count - 1), mid),
        }

    def _side(self, side: Side, best: int, grid: range, mid: float) -> dict[Decimal, Decimal]:
        draws, settings, sizes = self._random, self._settings, self._sizes[side]
        kept: dict[int, Decimal] = {}
        for index in grid:
            size = sizes.get(index)
            kept[index] = self._size(settings.level_size, mid) if size is None else size
        for _ in range(2):
            kept[grid[draws.randrange(len(grid))]] = self._size(settings.level_size, mid)
        self._sizes[side] = kept
        levels = {self._tick * best: self._size(settings.top_size, mid)}
        for index, size in kept.items():
            levels[self._tick * (index * self._gap)] = size
        return levels

    def _size(self, bounds: tuple[float, float], price: float) -> Decimal:
        low, high = bounds
        value = low * math.pow(high / low, self._random.random())
        return self._lot * max(1, round(value / price / self._float_lot))

    def _taken(self) -> float:
        """Return by how many basis points what users took since the last step moves the quote."""
        bought, sold = self._taken_of(Side.SELL), self._taken_of(Side.BUY)
        return self._settings.impact_bps * (bought - sold)

    def _taken_of(self, side: Side) -> float:
        book = self.market.book.side(side)
        shown = there = 0.0
        for price, size in list(self._shown[side].items())[:5]:
            level = book.levels.get(price)
            shown += float(size)
            there += 0.0 if level is None else min(float(level.market), float(size))
        return (shown - there) / shown if shown else 0.0


class SyntheticWorld:
    """The fair prices and all markets quoted around them."""

    def __init__(
        self,
        seed: int = 0,
        *,
        settings: SyntheticSettings | None = None,
        starts: Mapping[str, float] | None = None,
        prices: Mapping[str, float] | None = None,
    ) -> None:
        """``starts`` adds to START_PRICES; ``prices`` are where walks go on from (see ``snapshot``)."""
        self.seed = seed
        self.settings = settings or SyntheticSettings()
        self._starts = {**START_PRICES, **(starts or {})}
        self._prices = dict(prices or {})
        self.walks: dict[str, Walk] = {}
        self.quoters: list[Quoter] = []

    def walk(self, asset: str) -> Walk:
        """Return the asset's walk. Raises KeyError where no price is known to start from."""
        if asset not in self.walks:
            walk = Walk(asset, self._starts[asset], f"{self.seed}:fair:{asset}", self.settings)
            price = self._prices.get(asset)
            if price is not None and walk.start / 10 < price < walk.start * 10:
                walk.price = price
            self.walks[asset] = walk
        return self.walks[asset]

    def price(self, symbol: str) -> Decimal:
        """Return the fair price of a unified symbol, to six significant digits."""
        base, quote = split_symbol(symbol)
        price = Decimal(repr(self.walk(base).price / self.walk(quote).price))
        return price.quantize(Decimal(1).scaleb(price.adjusted() - 5), ROUND_HALF_UP)

    def add(self, exchange: SimExchange, market: SimMarket, kind: type[Quoter] | None = None) -> Quoter:
        """Quote a market from now on; ``kind`` is how, as a spot market unless given."""
        rules = market.rules
        seed = f"{self.seed}:{exchange.name}:{rules.symbol}"
        quoter = (kind or Quoter)(exchange, market, self.walk(rules.base), self.walk(rules.quote), seed)
        quoter.configure(self.settings)
        self.quoters.append(quoter)
        return quoter

    def advance(self) -> None:
        """Move the fair prices by one interval."""
        for walk in self.walks.values():
            walk.advance()

    def step(self) -> None:
        """Move everything by one interval."""
        self.advance()
        for quoter in self.quoters:
            quoter.step()

    def snapshot(self) -> dict[str, float]:
        return {asset: walk.price for asset, walk in self.walks.items()}

    async def run(self) -> None:
        """Step for ever in real time, the markets spread evenly over the interval so that load comes evenly."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self.advance()
            pause = self.settings.interval / max(1, len(self.quoters))
            for quoter in list(self.quoters):
                quoter.step()
                due += pause
                await asyncio.sleep(max(0.0, due - loop.time()))
            if not self.quoters:
                due += pause
                await asyncio.sleep(pause)
            due = max(due, loop.time() - self.settings.interval)  # after a stall, do not run to catch up
