"""Cycles of three markets: which there are, and what they pay."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.arbitrage.cycles import Cycle, gross_rate, quote_cycle, three_leg_cycles
from trading.instruments import Market
from trading.messages import BookTop


def market(symbol: str, **more: object) -> Market:
    base, _, quote = symbol.partition(":")[0].partition("/")
    return msgspec.convert(
        {"exchange": "x", "symbol": symbol, "native_id": symbol, "base": base, "quote": quote, **more}, Market
    )


BTC, BCH_BTC, BCH = market("BTC/USDT"), market("BCH/BTC"), market("BCH/USDT")
TRIANGLE = (BTC, BCH_BTC, BCH)


def top(bid: float, ask: float, bid_size: float = 1.0, ask_size: float = 1.0) -> BookTop:
    return BookTop("x", bid, bid_size, ask, ask_size, 0, 0)


def by_path(*markets: Market) -> dict[str, Cycle]:
    return {cycle.path: cycle for cycle in three_leg_cycles(markets)}


def tops_of(cycle: Cycle, tops: dict[str, BookTop]) -> list[BookTop]:
    return [tops[leg.market.symbol] for leg in cycle.legs]


# Which there are


@pytest.mark.parametrize("markets", list(permutations(TRIANGLE)))
def test_three_markets_make_two_cycles_from_the_asset_that_prices_both_others(markets: tuple[Market, ...]) -> None:
    cycles = by_path(*markets)
    assert sorted(cycles) == ["USDT>BCH>BTC>USDT", "USDT>BTC>BCH>USDT"]
    assert [(leg.market, leg.side) for leg in cycles["USDT>BTC>BCH>USDT"].legs] == [
        (BTC, "buy"), (BCH_BTC, "buy"), (BCH, "sell"),
    ]  # fmt: skip
    assert [(leg.market, leg.side) for leg in cycles["USDT>BCH>BTC>USDT"].legs] == [
        (BCH, "buy"), (BCH_BTC, "sell"), (BTC, "sell"),
    ]  # fmt: skip


def test_where_no_asset_prices_both_others_the_first_by_name_starts() -> None:
    cycles = by_path(market("A/B"), market("B/C"), market("C/A"))
    assert sorted(cycles) == ["A>B>C>A", "A>C>B>A"]
    assert [leg.side for leg in cycles["A>B>C>A"].legs] == ["sell", "sell", "sell"]
    assert [leg.side for leg in cycles["A>C>B>A"].legs] == ["buy", "buy", "buy"]


def test_every_triangle_of_a_larger_exchange_is_found_once() -> None:
    assets = ["USDT", "BTC", "ETH", "SOL", "XRP"]
    markets = [market(f"{base}/{quote}") for i, quote in enumerate(assets) for base in assets[i + 1 :]]
    cycles = three_leg_cycles(markets)
    assert len(cycles) == 2 * 10  # 5 over 3 triangles, both ways
    assert len({cycle.path for cycle in cycles}) == 20
    assert len({(frozenset(leg.market.key for leg in cycle.legs), cycle.legs[0].gives) for cycle in cycles}) == 10


@pytest.mark.parametrize(
    "other",
    [
        market("BCH/USDC"),
        market("BCH/USDT", exchange="y"),
        market("BCH/USDT", active=False),
        market("BCH/USDT:USDT", settle="USDT", kind="linear"),
    ],
    ids=["other asset", "other exchange", "not active", "perpetual"],
)
def test_markets_that_exchange_no_asset_here_close_no_cycle(other: Market) -> None:
    assert three_leg_cycles([BTC, BCH_BTC, other]) == ()


def test_a_market_named_twice_is_one_market() -> None:
    assert len(three_leg_cycles([*TRIANGLE, BTC])) == 2


@given(
    st.lists(
        st.tuples(st.sampled_from("ABCDE"), st.sampled_from("ABCDE"), st.sampled_from("xy")).filter(
            lambda pair: pair[0] != pair[1]
        ),
        max_size=14,
    )
)
def test_each_leg_gives_what_the_one_before_took_and_each_cycle_has_its_reverse(
    pairs: list[tuple[str, str, str]],
) -> None:
    cycles = three_leg_cycles([market(f"{base}/{quote}", exchange=exchange) for base, quote, exchange in pairs])
    found = {tuple((leg.market.key, leg.side) for leg in cycle.legs) for cycle in cycles}
    assert len(found) == len(cycles)
    for cycle in cycles:
        assert len({leg.market.key for leg in cycle.legs}) == 3
        assert {leg.market.exchange for leg in cycle.legs} == {cycle.exchange}
        assert len({leg.gives for leg in cycle.legs}) == 3
        for before, after in zip(cycle.legs, cycle.legs[1:] + cycle.legs[:1], strict=True):
            assert before.takes == after.gives
        turned = {"buy": "sell", "sell": "buy"}
        assert tuple((leg.market.key, turned[leg.side]) for leg in cycle.legs[::-1]) in found


# What they pay


def test_a_cycle_by_hand() -> None:
    """100 USDT buy 1 A at 100; 1 A buys 2 B at 0.5; 2 B sell at 51 for 102 USDT: 200 bps.

    A's ask holds 3 A (300 USDT), B/A's ask 4 B (2 A, 200 USDT), B's bid 1.5 B (75 USDT): 75 USDT, 1.5 profit.
    At 10 bps a leg 100 USDT become 102 x 0.999 / 1.001^2 = 101.6945..
    """
    cycle = by_path(market("A/USDT"), market("B/A"), market("B/USDT"))["USDT>A>B>USDT"]
    tops = [top(99.0, 100.0, ask_size=3.0), top(0.49, 0.5, ask_size=4.0), top(51.0, 52.0, bid_size=1.5)]
    found = quote_cycle(cycle, tops, (0.0, 0.0, 0.0))
    assert found is not None
    assert (found.gross_bps, found.net_bps) == (pytest.approx(200.0), pytest.approx(200.0))
    assert (found.amount, found.profit) == (pytest.approx(75.0), pytest.approx(1.5))
    dearer = quote_cycle(cycle, tops, (0.001, 0.001, 0.001))
    assert dearer is not None
    assert dearer.gross_bps == pytest.approx(200.0)
    assert dearer.net_bps == pytest.approx((1.02 * 0.999 / 1.001**2 - 1) * 1e4)
    assert dearer.amount == pytest.approx(75.0 * 1.001**2)  # both buys' fees come on top of what reaches B
    assert dearer.profit == pytest.approx(dearer.amount * dearer.net_bps / 1e4)


def test_fees_are_those_of_the_markets_unless_given() -> None:
    markets = [market(name, taker_fee=fee) for name, fee in (("A/USDT", "0.001"), ("B/A", "0"), ("B/USDT", "0.02"))]
    cycle = by_path(*markets)["USDT>A>B>USDT"]
    found = quote_cycle(cycle, [top(99.0, 100.0), top(0.49, 0.5), top(51.0, 52.0)])
    assert found is not None
    assert found.net_bps == pytest.approx((1.02 / 1.001 * 0.98 - 1) * 1e4)


@pytest.mark.parametrize("empty", range(3))
def test_a_side_that_is_needed_and_empty_gives_no_figure(empty: int) -> None:
    cycle = by_path(*TRIANGLE)["USDT>BTC>BCH>USDT"]
    tops = [top(1.0, 2.0)] * 3
    tops[empty] = top(0.0, 2.0) if empty == 2 else top(1.0, 0.0)
    assert gross_rate(cycle, tops) is None
    assert quote_cycle(cycle, tops) is None
    tops[empty] = top(1.0, 0.0) if empty == 2 else top(0.0, 2.0)
    assert quote_cycle(cycle, tops) is not None


# An uncrossed book: the ask stands at least a ten thousandth of a basis point above the bid.
TOP = st.builds(
    lambda bid, spread, bid_size, ask_size: top(bid, bid * (1 + spread), bid_size, ask_size),
    st.floats(1e-6, 1e6), st.floats(1e-8, 0.1), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6),
)  # fmt: skip
TOPS = st.fixed_dictionaries({one.symbol: TOP for one in TRIANGLE})
FEE = st.floats(0.0, 0.1)
FEES = st.tuples(FEE, FEE, FEE)


@given(TOPS)
def test_a_cycle_and_its_reverse_never_both_pay(tops: dict[str, BookTop]) -> None:
    rates = [gross_rate(cycle, tops_of(cycle, tops)) for cycle in three_leg_cycles(TRIANGLE)]
    assert rates[0] is not None
    assert rates[1] is not None
    assert min(rates[0], rates[1]) < 1.0
    assert rates[0] * rates[1] < 1.0


@given(TOPS, FEES, st.integers(0, 2), FEE)
def test_a_fee_only_lowers_the_edge(
    tops: dict[str, BookTop], fees: tuple[float, float, float], leg: int, more: float
) -> None:
    dearer = list(fees)
    dearer[leg] += more
    for cycle in three_leg_cycles(TRIANGLE):
        cheap, dear = (quote_cycle(cycle, tops_of(cycle, tops), rates) for rates in (fees, dearer))
        assert cheap is not None
        assert dear is not None
        assert cheap.gross_bps == dear.gross_bps
        assert dear.net_bps <= cheap.net_bps + 1e-9 * abs(cheap.net_bps + 1e4)
        assert cheap.net_bps <= cheap.gross_bps + 1e-9 * abs(cheap.gross_bps + 1e4)
        if more > 1e-6 and cheap.net_bps > -9_990:  # below that, floats no longer tell one loss from another
            assert dear.net_bps < cheap.net_bps


@given(TOPS, FEES)
def test_the_amount_exhausts_one_best_price_and_exceeds_none(
    tops: dict[str, BookTop], fees: tuple[float, float, float]
) -> None:
    for cycle in three_leg_cycles(TRIANGLE):
        found = quote_cycle(cycle, tops_of(cycle, tops), fees)
        assert found is not None
        held, shares = found.amount, []
        for leg, best, fee in zip(cycle.legs, tops_of(cycle, tops), fees, strict=True):
            if leg.side == "buy":
                base = held / (best.ask * (1 + fee))
                shares.append(base / best.ask_size)
                held = base
            else:
                shares.append(held / best.bid_size)
                held *= best.bid * (1 - fee)
        assert max(shares) == pytest.approx(1.0)
        assert held - found.amount == pytest.approx(found.profit, abs=1e-9 * max(held, found.amount))
