"""The synthetic market: repeatable, and with differences that really open and close, both ways."""

from __future__ import annotations

import hashlib
import random
from decimal import Decimal
from itertools import permutations

import pytest

from exchangesim.core.clock import ManualClock
from exchangesim.core.exchange import SimExchange
from exchangesim.core.listener import ExchangeListener
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import BookChange, NewOrder, OrderType, PublicTrade, Side, TimeInForce
from exchangesim.core.rules import make_rules
from exchangesim.core.synthetic import Dislocations, SyntheticSettings, SyntheticWorld

D = Decimal
SYMBOLS = ("BTC/USDT", "SOL/USDT", "BTC/USDC")
NAMES = ("binance", "okx", "bybit")


class Tape(ExchangeListener):
    """A fingerprint of everything a market published."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        self.digest.update(repr((market.native, change)).encode())

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        self.digest.update(repr((market.native, trades)).encode())


class World:
    """A synthetic world of three exchanges on a clock of its own."""

    def __init__(self, seed: int, settings: SyntheticSettings | None = None) -> None:
        self.clock = ManualClock()
        self.world = SyntheticWorld(seed, settings=settings)
        self.tape = Tape()
        self.exchanges: dict[str, SimExchange] = {}
        prices = {symbol: self.world.price(symbol) for symbol in SYMBOLS}
        for name in NAMES:
            rules = [make_rules(name, symbol, price=prices[symbol]) for symbol in SYMBOLS]
            exchange = SimExchange(name, rules, prices, clock=self.clock)
            exchange.listeners.append(self.tape)
            self.exchanges[name] = exchange
            for market in exchange.markets.values():
                self.world.add(exchange, market)

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.world.step()
            self.clock.advance(self.world.settings.interval)

    def market(self, name: str, symbol: str = "BTC/USDT") -> SimMarket:
        return self.exchanges[name].by_symbol[symbol]

    def edge_bps(self, buy: str, sell: str) -> float:
        """Edge of buying on one exchange and selling on another at the tops, before fees."""
        bought, sold = self.market(buy).top, self.market(sell).top
        assert bought is not None
        assert sold is not None
        return (float(sold[0]) / float(bought[2]) - 1) * 10_000


def test_the_same_seed_gives_the_same_tape_and_another_seed_another() -> None:
    digests = []
    for seed in (1, 1, 2):
        world = World(seed)
        world.step(200)
        digests.append(world.tape.digest.hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_an_exchanges_tape_does_not_depend_on_who_else_is_simulated() -> None:
    whole, alone = World(1), World(1)
    alone.world.quoters = [quoter for quoter in alone.world.quoters if quoter.exchange.name == "okx"]
    whole.step(100)
    alone.step(100)
    assert whole.market("okx").book.bids.top(25) == alone.market("okx").book.bids.top(25)


def test_differences_beyond_fees_open_and_close_both_ways_several_times_a_minute() -> None:
    world = World(3)
    minutes, episodes = 6, dict.fromkeys(permutations(NAMES, 2), 0)
    profitable = dict.fromkeys(episodes, False)
    for _ in range(minutes * 600):
        world.step()
        for pair in episodes:
            now = world.edge_bps(*pair) > 20  # two taker fees of 10 bps
            episodes[pair] += now and not profitable[pair]
            profitable[pair] = now
    assert sum(episodes.values()) / minutes > 6
    assert all(count >= minutes for count in episodes.values()), episodes
    for one, other in (("binance", "okx"), ("okx", "bybit"), ("bybit", "binance")):
        there, back = episodes[one, other], episodes[other, one]
        assert 0.5 < there / back < 2, "inventories must not drift to one side"
    assert not any(profitable[pair] and profitable[pair[::-1]] for pair in episodes)


def test_an_exchange_leaves_the_others_as_often_upwards_as_downwards() -> None:
    settings = SyntheticSettings(dislocation_every=5.0)
    for seed in range(20):
        dislocations = Dislocations(random.Random(seed), settings)
        directions: list[bool] = []
        target = 0.0
        for _ in range(5000):
            dislocations.advance(settings.interval)
            if dislocations.target and not target:
                directions.append(dislocations.target > 0)
            target = dislocations.target
        assert len(directions) > 20
        assert abs(directions.count(True) - directions.count(False)) <= 1


def test_differences_are_small_against_the_price() -> None:
    world = World(4)
    for _ in range(1200):
        world.step()
        assert max(abs(world.edge_bps(*pair)) for pair in permutations(NAMES, 2)) < 150


def test_books_are_sound_at_every_step() -> None:
    world = World(5)
    for _ in range(300):
        world.step()
        for exchange in world.exchanges.values():
            for market in exchange.markets.values():
                bids, asks = market.book.bids.top(100), market.book.asks.top(100)
                assert len(bids) >= 20
                assert len(asks) >= 20
                assert bids[0][0] < asks[0][0]
                assert all(
                    price % market.rules.tick == 0 and size % market.rules.lot == 0 for price, size in bids + asks
                )


def test_another_quote_asset_has_another_price() -> None:
    world = World(6)
    world.step(50)
    ratio = world.market("binance").mid / world.market("binance", "BTC/USDC").mid
    assert D("1.0001") < ratio < D("1.01")


def test_taking_liquidity_moves_the_quote_the_way_it_should() -> None:
    settings = SyntheticSettings(noise_bps=0.0, volatility_bps=0.0, dislocation_every=1e9, trades_per_second=0.0)
    world = World(7, settings)
    world.step(5)
    market, exchange = world.market("binance"), world.exchanges["binance"]
    account, _ = exchange.put_account("buyer", "secret", balances={"USDT": D(10_000_000)})
    before = market.mid
    price, quantity = market.book.asks.top(5)[-1][0], sum(size for _, size in market.book.asks.top(5))
    exchange.place(
        account,
        NewOrder(
            native=market.native,
            side=Side.BUY,
            type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC,
            price=price,
            quantity=quantity,
        ),
    )
    world.step()
    assert market.mid > before
    world.step(1200)
    assert market.mid == pytest.approx(before, rel=D("0.0001"))


def test_a_frozen_market_stands_still_and_thaws_without_a_trace() -> None:
    world = World(8)
    world.step(5)
    exchange, market = world.exchanges["bybit"], world.market("bybit")
    quoter = next(q for q in world.world.quoters if q.market is market)
    quoter.frozen = True
    exchange.apply_levels(market.native, [(D(50_000), D(1))], [(D(50_001), D(1))], replace=True)
    world.step(20)
    assert market.book.bids.top(2) == [(D(50_000), D(1))]
    quoter.thaw()
    world.step()
    assert D(50_000) not in market.book.bids.levels
    assert len(market.book.bids) >= 20


def test_prices_go_on_from_where_they_were_left() -> None:
    world = World(9)
    world.step(100)
    kept = world.world.snapshot()
    again = SyntheticWorld(9, prices=kept)
    assert again.price("BTC/USDT") == world.world.price("BTC/USDT")
    assert SyntheticWorld(9, prices={"BTC": 1.0}).walk("BTC").price > 1000, "an absurd price is not gone on from"
