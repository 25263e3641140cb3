"""What a change of one market makes the detector report, and what it costs."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arbitrage.builders import D, Levels, State, market, state
from tests.recordings import recording
from trading.arbitrage.detector import Detector
from trading.arbitrage.routes import NO_EQUIVALENCE, AssetEquivalence
from trading.config import BotConfig
from trading.instruments import Market
from trading.messages import AT_DEPTH, COMPARED, PAID, DecisionKey


class StoppedClock:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.now_ns

    async def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


class Desk:
    """A detector over states that tests show prices to."""

    def __init__(self, *markets: Market, equal: AssetEquivalence = NO_EQUIVALENCE, **bot: Any) -> None:
        self.states: dict[str, State] = {one.key: state(one) for one in markets}
        self.clock = StoppedClock()
        self.detector = Detector(lambda one: self.states[one.key], self.clock)
        self.equal = equal
        self.markets = markets
        self.add_bot(1, **bot)

    def add_bot(self, bot_id: int, markets: tuple[Market, ...] | None = None, **changes: Any) -> None:
        values = {"min_net_edge_bps": 0.0, "max_trade_notional": Decimal(10**9), **changes}
        markets = self.markets if markets is None else markets
        self.detector.add_bot(
            BotConfig(bot_id=bot_id, name=f"bot {bot_id}", mode="paper", markets=markets, accounts={}, **values),
            self.equal,
        )

    def show(self, key: str, bid: float, ask: float, size: float = 1.0) -> list[str]:
        self.states[key].show([(bid, size)], [(ask, size)])
        return [found.route for found in self.detector.on_change(key)]


A, B, C = market("a"), market("b"), market("c")


def test_a_price_difference_is_reported_once_in_its_direction() -> None:
    desk = Desk(A, B)
    assert desk.show(A.key, 99.0, 100.0) == []
    assert desk.show(B.key, 101.0, 102.0) == ["1:a:BTC/USDT>b:BTC/USDT"]
    assert desk.show(B.key, 99.5, 100.5) == []


def test_an_opportunity_carries_both_legs_figures_and_their_age() -> None:
    fee = D("0.001")
    buy, sell = market("a", taker_fee=fee), market("b", taker_fee=fee, lot=D("0.5"))
    desk = Desk(buy, sell)
    desk.states[buy.key].show([(99.0, 1.0)], [(100.0, 1.0), (101.0, 1.0)])
    desk.states[buy.key].received_monotonic_ns = desk.clock.now_ns - 30_000_000
    desk.states[sell.key].show([(103.0, 1.6)], [(104.0, 1.0)])
    desk.states[sell.key].received_monotonic_ns = desk.clock.now_ns - 2_000_000
    (found,) = desk.detector.on_change(sell.key)
    # 1.5 bought for 150.5 and 0.1505 fee, sold for 154.5 less 0.1545.
    assert (found.bot_id, found.base, found.quote, found.quantity) == (1, "BTC", "USDT", 1.5)
    assert found.net_profit == pytest.approx(3.695)
    assert found.net_bps == pytest.approx(3.695 / 150.5 * 1e4)
    assert found.gross_bps == pytest.approx(4 / 150.5 * 1e4)
    assert (found.buy.side, found.buy.worst_price, found.buy.fee_rate) == ("buy", 101.0, 0.001)
    assert (found.sell.side, found.sell.worst_price, found.sell.impact_bps) == ("sell", 103.0, 0.0)
    assert (found.buy.book_age_ms, found.sell.book_age_ms) == (30.0, 2.0)
    assert Decimal(repr(found.sell.order_quantity)) == D("1.5")
    assert found.detected_monotonic_ns == desk.clock.now_ns


@pytest.mark.parametrize(("bid", "pays"), [(100.25, False), (100.35, True)])
def test_the_first_test_is_after_both_fees_and_the_demanded_edge(bid: float, pays: bool) -> None:
    # 10 bps a leg and 10 demanded: 100 x (1.001 + 0.001) / 0.999 = 100.3003.
    fee = D("0.001")
    desk = Desk(market("a", taker_fee=fee), market("b", taker_fee=fee), min_net_edge_bps=10.0)
    desk.show(A.key, 99.0, 100.0)
    assert bool(desk.show(B.key, bid, 101.0)) is pays
    assert desk.detector.counters() == {"evaluated": 4, "top_profitable": int(pays), "opportunities": int(pays)}


def test_a_change_looks_only_at_routes_through_its_market() -> None:
    markets = [market(exchange, f"C{n}/USDT") for n in range(50) for exchange in ("a", "b", "c")]
    desk = Desk(*markets)
    desk.show("a:C7/USDT", 99.0, 100.0)
    assert desk.detector.evaluated == 4  # two other exchanges, both directions


def test_bots_share_a_route_s_first_test_and_each_has_its_own_demands() -> None:
    desk = Desk(A, B, min_net_edge_bps=150.0)
    desk.add_bot(2, min_net_edge_bps=50.0)
    desk.add_bot(3, max_trade_notional=Decimal(30))
    desk.states[A.key].show([(99.0, 1.0)], [(100.0, 1.0)])
    desk.states[B.key].show([(101.0, 1.0)], [(102.0, 1.0)])
    found = {one.bot_id: one.quantity for one in desk.detector.on_change(A.key)}
    assert found == {2: 1.0, 3: 0.3}
    assert desk.detector.evaluated == 2
    desk.detector.remove_bot(3)
    desk.detector.remove_bot(2)
    assert desk.detector.on_change(A.key) == ()
    desk.detector.remove_bot(1)
    desk.detector.on_change(A.key)
    assert desk.detector.evaluated == 4


def test_adding_a_bot_again_replaces_it() -> None:
    desk = Desk(A, B)
    desk.add_bot(1, min_net_edge_bps=500.0)
    desk.show(A.key, 99.0, 100.0)
    assert desk.show(B.key, 101.0, 102.0) == []


@pytest.mark.parametrize("trouble", ["status", "ready", "crossed"])
@pytest.mark.parametrize("leg", [A.key, B.key])
def test_a_market_that_is_not_in_order_trades_nothing(trouble: str, leg: str) -> None:
    desk = Desk(A, B)
    desk.show(A.key, 99.0, 100.0)
    bad = desk.states[leg]
    desk.states[B.key].show([(101.0, 1.0)], [(102.0, 1.0)])
    if trouble == "status":
        bad.status = "stale"
    elif trouble == "ready":
        bad.book.ready = False
    else:
        bad.book.bids.apply([(150.0, 1.0)])
    assert desk.detector.on_change(B.key) == ()
    assert desk.detector.refused == {"not_live": 1}


def test_a_book_that_lags_its_ticker_invents_no_edge() -> None:
    desk = Desk(A, B)
    desk.show(A.key, 99.0, 100.0)
    late = desk.states[B.key]
    late.show([(101.0, 1.0)], [(102.0, 1.0)])
    late.bid = 99.5  # the ticker is ahead: the bid at 101 is gone
    assert desk.detector.on_change(B.key) == ()
    late.show([(99.5, 1.0)], [(102.0, 1.0)])
    late.bid, late.bid_size = 101.0, 1.0  # the ticker shows an edge the book doesn't hold yet
    assert desk.detector.on_change(B.key) == ()
    assert desk.detector.refused == {"no_edge": 1}


def test_an_empty_side_is_no_price() -> None:
    desk = Desk(A, B)
    desk.states[A.key].show([(99.0, 1.0)], [])
    desk.states[B.key].show([(101.0, 1.0)], [(102.0, 1.0)])
    assert desk.detector.on_change(A.key) == ()
    assert desk.detector.on_change("unknown:BTC/USDT") == ()


def test_dollars_of_different_issuers_are_compared_only_when_declared_equal() -> None:
    dollars, tether = market("coinbase", "BTC/USD"), market("binance")
    prices = ((tether.key, 43924.0, 43924.01), (dollars.key, 43956.95, 43956.96))
    apart, together = Desk(dollars, tether), Desk(dollars, tether, equal=AssetEquivalence.parse(["USD=USDT"]))
    assert [route for key, bid, ask in prices for route in apart.show(key, bid, ask)] == []
    assert [route for key, bid, ask in prices for route in together.show(key, bid, ask)] == [
        "1:binance:BTC/USDT>coinbase:BTC/USD"
    ]


PRICE = st.integers(9900, 10100).map(lambda cents: cents / 100)


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), PRICE, st.integers(1, 50)), min_size=1, max_size=20))
def test_reported_routes_are_exactly_those_whose_best_prices_pay(changes: list[tuple[Market, float, int]]) -> None:
    desk = Desk(A, B, C, min_net_edge_bps=3.0)
    tops: dict[str, tuple[float, float]] = {}
    for one, bid, spread in changes:
        tops[one.key] = (bid, bid + spread / 100)
        found = desk.show(one.key, *tops[one.key])
        expected = {
            f"1:{buy}>{sell}"
            for buy, (_, ask) in tops.items()
            for sell, (sold, _) in tops.items()
            if buy != sell and one.key in (buy, sell) and sold / ask - 1 > 3e-4
        }
        assert set(found) == expected
        assert len(found) == len(expected)


@pytest.mark.recordings
def test_recorded_books_of_four_exchanges_hold_no_trade_unless_dollars_are_declared_equal() -> None:
    def load(name: str, exchange: str, **changes: object) -> tuple[Market, Levels, Levels]:
        book = json.loads(recording(f"unified_books/{name}_ob_ccxt.json").read_text())
        sides = ([(row[0], row[1]) for row in book[side]] for side in ("bids", "asks"))
        return market(exchange, book["symbol"], **{"lot": D("0.00001"), **changes}), *sides

    books = [
        load("binance", "binance"),
        load("bybit", "bybit"),
        load("okx", "okx", contract_size=D("0.01"), lot=D(1)),
        load("coinbase", "coinbase"),
    ]

    def routes(equal: AssetEquivalence) -> dict[str, Any]:
        desk = Desk(*(one for one, _, _ in books), equal=equal)
        for one, bid_levels, ask_levels in books:
            desk.states[one.key].show(bid_levels, ask_levels)
        return {found.route: found for one, *_ in books for found in desk.detector.on_change(one.key)}

    apart = routes(NO_EQUIVALENCE)
    assert not [route for route in apart if "coinbase" in route]
    together = routes(AssetEquivalence.parse(["USD=USDT"]))
    invented = together["1:binance:BTC/USDT>coinbase:BTC/USD"]
    assert (invented.sell.worst_price / invented.buy.worst_price - 1) * 1e4 <= 7.5
    # The swap's sizes are contracts of 0.01 BTC: only 414 of them, 4.14 BTC, stand at its best bid.
    swap = apart["1:binance:BTC/USDT>okx:BTC/USDT:USDT"]
    assert swap.sell.order_quantity == round(swap.quantity * 100)
    assert swap.quantity > 4.14
    assert swap.sell.worst_price < 43930.0


def test_each_bot_s_counts_are_its_own_and_add_up() -> None:
    desk = Desk(A, B, C, min_net_edge_bps=50.0)
    desk.add_bot(2, (A, B), min_net_edge_bps=150.0)
    desk.show(A.key, 99.0, 100.0)
    desk.show(B.key, 101.0, 102.0)  # pays the first bot only
    desk.show(C.key, 100.2, 100.6)
    first = {key.check: count for key, count in desk.detector.take_counts().items() if key.bot_id == 1}
    # Six routes between three markets: a change looks at four of them.
    assert first == {COMPARED: 12, PAID: 1}
    desk.show(B.key, 103.0, 104.0)
    counts = desk.detector.take_counts()
    assert counts[DecisionKey(1, "BTC", "USDT", COMPARED)] == 4
    assert counts[DecisionKey(1, "BTC", "USDT", PAID)] == 2
    assert (counts[DecisionKey(2, "BTC", "USDT", COMPARED)], counts[DecisionKey(2, "BTC", "USDT", PAID)]) == (2, 1)
    assert desk.detector.take_counts() == {}


def test_counts_survive_that_bots_come_and_go() -> None:
    desk = Desk(A, B)
    desk.show(A.key, 99.0, 100.0)
    desk.add_bot(2)
    desk.show(A.key, 99.0, 100.0)
    desk.detector.remove_bot(1)
    desk.show(A.key, 99.0, 100.0)
    desk.detector.remove_bot(2)
    counts = {key.bot_id: count for key, count in desk.detector.take_counts().items()}
    assert counts == {1: 4, 2: 4}
    assert desk.detector.evaluated == 6


def test_what_depth_refused_is_counted_for_the_bots_whose_wish_the_top_met() -> None:
    desk = Desk(market("a", min_notional=D(10**6)), B)
    desk.add_bot(2, min_net_edge_bps=5000.0)
    desk.show(A.key, 99.0, 100.0)
    desk.show(B.key, 101.0, 102.0)
    desk.states[A.key].status = "stale"
    desk.show(B.key, 101.0, 102.0)
    counts = desk.detector.take_counts()
    assert {key.check: count for key, count in counts.items() if key.bot_id == 1} == {
        COMPARED: 6, PAID: 2, f"{AT_DEPTH}below_min_notional": 1, f"{AT_DEPTH}not_live": 1,
    }  # fmt: skip
    assert {key.check for key in counts if key.bot_id == 2} == {COMPARED}
