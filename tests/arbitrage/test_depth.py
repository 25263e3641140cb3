"""The joint walk against hand-checked examples, a brute-force reference, and what must hold for any books."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.arbitrage.builders import D, asks, bids, market
from trading.arbitrage.depth import (
    BPS,
    BaseLevels,
    JointQuote,
    LegTerms,
    Limits,
    PairTerms,
    Refusal,
    best_overlap,
    fill,
    impact_bps,
    joint_walk,
    quantity_within,
    vwap,
)
from trading.instruments import Market, lot_quantity, order_quantity

Levels = list[tuple[float, float]]


def book_side(first: float, direction: int) -> st.SearchStrategy[Levels]:
    """Levels from the best outwards: steps of 1..40 ticks of 0.1, sizes of 1..3000 thousandths."""
    steps = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3000)), min_size=1, max_size=8)

    def levels(raw: list[tuple[int, int]]) -> Levels:
        price, made = first, []
        for ticks, thousandths in raw:
            price = round(price + direction * ticks * 0.1, 1)
            made.append((price, thousandths / 1000))
        return made

    return steps.map(levels)


ASKS = book_side(1000.0, +1)
BIDS = book_side(1012.0, -1)
FEES = st.sampled_from([0.0, 0.0001, 0.0005, 0.001, 0.002])


def quote(
    ask_levels: Levels, bid_levels: Levels, buy: Market | None = None, sell: Market | None = None, **limits: float
) -> JointQuote | Refusal:
    buy_terms, sell_terms = LegTerms.of(buy or market("a")), LegTerms.of(sell or market("b"))
    return joint_walk(
        BaseLevels(asks(ask_levels), buy_terms),
        BaseLevels(bids(bid_levels), sell_terms),
        PairTerms.of(buy_terms, sell_terms),
        Limits(**limits),
    )


def net(ask_levels: Levels, bid_levels: Levels, quantity: float, fee: float) -> tuple[float, float]:
    """Return (net profit, buy notional) of a quantity, level by level."""
    result = []
    for levels in (ask_levels, bid_levels):
        left, notional = quantity, 0.0
        for price, size in levels:
            taken = min(left, size)
            notional += taken * price
            left -= taken
        assert left < 1e-9
        result.append(notional)
    cost, proceeds = result
    return proceeds * (1 - fee) - cost * (1 + fee), cost


# Hand-checked.


def test_takes_the_levels_that_still_pay_and_prices_both_legs() -> None:
    # Buying 1.5: 1 at 100 and 0.5 at 101 = 150.5; selling 1.5 at 102 = 153. The next half sells at 100.5 below 101.
    result = quote([(100.0, 1.0), (101.0, 1.0)], [(102.0, 1.5), (100.5, 9.0)])
    assert isinstance(result, JointQuote)
    assert result.quantity == 1.5
    assert result.buy.notional == pytest.approx(150.5)
    assert result.sell.notional == pytest.approx(153.0)
    assert (result.buy.worst_price, result.sell.worst_price) == (101.0, 102.0)
    assert result.net_profit == pytest.approx(2.5)
    assert result.gross_bps == pytest.approx((153 / 150.5 - 1) * BPS)
    assert result.buy.impact_bps == pytest.approx((150.5 / 1.5 / 100 - 1) * BPS)
    assert result.sell.impact_bps == 0.0


def test_fees_of_both_legs_are_charged_on_their_own_notional() -> None:
    # 1 unit: pays 100 x 1.001 = 100.1, receives 101 x 0.998 = 100.798.
    result = quote([(100.0, 1.0)], [(101.0, 1.0)], market("a", taker_fee=D("0.001")), market("b", taker_fee=D("0.002")))
    assert isinstance(result, JointQuote)
    assert result.net_profit == pytest.approx(0.698)
    assert result.net_bps == pytest.approx(69.8)
    assert result.gross_bps == pytest.approx(100.0)


def test_edge_that_only_covers_the_fees_is_no_trade() -> None:
    assert quote([(100.0, 1.0)], [(100.0, 1.0)]) is Refusal.NO_EDGE
    fee = D("0.001")
    assert quote([(100.0, 1.0)], [(100.2, 1.0)], market("a", taker_fee=fee), market("b", taker_fee=fee)) is (
        Refusal.NO_EDGE
    )


def test_an_empty_side_is_no_trade() -> None:
    assert quote([], [(101.0, 1.0)]) is Refusal.EMPTY
    assert quote([(100.0, 1.0)], []) is Refusal.EMPTY


def test_the_walk_ends_where_the_average_edge_would_fall_below_the_demanded_one() -> None:
    # 1 unit nets 100 bps; each further unit nets 10 bps. The average is 50 bps where 1 + 0.1 x = 0.5 (1 + x): x = 1.25.
    result = quote([(100.0, 10.0)], [(101.0, 1.0), (100.1, 9.0)], min_net_bps=50.0)
    assert isinstance(result, JointQuote)
    assert result.quantity == pytest.approx(2.25, abs=0.001)
    assert result.net_bps >= 50.0


def test_the_last_unit_can_be_asked_to_pay_more_than_nothing() -> None:
    result = quote([(100.0, 10.0)], [(101.0, 1.0), (100.1, 9.0)], min_marginal_bps=20.0)
    assert isinstance(result, JointQuote)
    assert result.quantity == 1.0


def test_caps_of_quantity_and_of_notional_hold() -> None:
    books: tuple[Levels, Levels] = ([(100.0, 10.0)], [(101.0, 10.0)])
    by_quantity, by_notional = quote(*books, max_quantity=2.5), quote(*books, max_notional=300.0)
    assert isinstance(by_quantity, JointQuote)
    assert isinstance(by_notional, JointQuote)
    assert (by_quantity.quantity, by_notional.quantity) == (2.5, 3.0)


def test_the_notional_cap_is_on_what_the_buy_leg_pays_level_by_level() -> None:
    # 1 at 100 leaves 220, which buys 2 at 110.
    result = quote([(100.0, 1.0), (110.0, 5.0)], [(120.0, 9.0)], max_notional=320.0)
    assert isinstance(result, JointQuote)
    assert (result.quantity, result.buy.notional) == (3.0, 320.0)


def test_a_cap_a_hair_below_a_lot_is_not_rounded_up_to_it() -> None:
    result = quote([(100.0, 10.0)], [(101.0, 10.0)], max_quantity=0.3 - 1e-14)
    assert isinstance(result, JointQuote)
    assert result.quantity == 0.299


def test_quantity_is_whole_lots_of_both_markets() -> None:
    result = quote([(100.0, 1.234)], [(101.0, 9.0)], market("a", lot=D("0.02")), market("b", lot=D("0.05")))
    assert isinstance(result, JointQuote)
    assert repr(result.quantity) == "1.2"


def test_sums_of_floats_do_not_lose_a_lot() -> None:
    # 0.1 eight times sums to 0.7999999999999999.
    result = quote([(100.0 + i / 100, 0.1) for i in range(8)], [(110.0, 5.0)], market("a", lot=D("0.1")))
    assert isinstance(result, JointQuote)
    assert result.quantity == 0.8
    assert result.buy.worst_price == 100.07


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"lot": D(5)}, Refusal.BELOW_LOT),
        ({"min_amount": D("1.5")}, Refusal.BELOW_MIN_AMOUNT),
        ({"min_notional": D(200)}, Refusal.BELOW_MIN_NOTIONAL),
    ],
)
@pytest.mark.parametrize("leg", ["buy", "sell"])
def test_quantities_an_exchange_would_refuse_are_refused_here(
    changes: dict[str, Decimal], refusal: Refusal, leg: str
) -> None:
    strict, plain = market("a", **changes), market("b")
    buy, sell = (strict, plain) if leg == "buy" else (plain, strict)
    assert quote([(100.0, 1.0)], [(101.0, 1.0)], buy, sell) is refusal


def test_linear_contracts_are_sized_in_base() -> None:
    # OKX BTC-USDT-SWAP: 0.01 BTC a contract. 250 contracts are 2.5 BTC.
    swap = market("okx", "BTC/USDT:USDT", contract_size=D("0.01"))
    result = quote([(60000.0, 250.0)], [(60100.0, 9.0)], swap, market("b"))
    assert isinstance(result, JointQuote)
    assert result.quantity == 2.5
    assert (result.buy_order, result.sell_order) == (250.0, 2.5)


def test_inverse_contracts_are_sized_at_each_level_s_own_price() -> None:
    # COIN-M: 100 USD a contract. 600 at 60,000 are exactly 1 BTC, 605 at 60,500 are exactly 1 BTC more.
    perpetual = market("coinm", "BTC/USD:BTC", contract_size=D(100))
    spot = market("b", "BTC/USD", lot=D("0.001"))
    result = quote([(60000.0, 600.0), (60500.0, 605.0)], [(61000.0, 9.0)], perpetual, spot)
    assert isinstance(result, JointQuote)
    assert result.quantity == pytest.approx(2.0)
    assert result.buy.notional == pytest.approx(120_500.0)
    assert (result.buy_order, result.sell_order) == (1205.0, 2.0)


def test_an_inverse_leg_takes_whole_contracts_and_the_other_leg_fits_into_them() -> None:
    # 0.0042 BTC at 60,000 are 252 USD: 2 contracts, 0.00333.. BTC; spot takes 0.003 of them.
    perpetual = market("coinm", "BTC/USD:BTC", contract_size=D(100))
    result = quote([(60000.0, 999.0)], [(60100.0, 0.0042)], perpetual, market("b", "BTC/USD"))
    assert isinstance(result, JointQuote)
    assert (result.buy_order, result.sell_order) == (2.0, 0.003)
    assert result.quantity == 0.003
    assert result.net_profit == pytest.approx(0.3)


def test_two_inverse_legs_take_the_same_number_of_equal_contracts() -> None:
    buy = market("a", "BTC/USD:BTC", contract_size=D(100))
    sell = market("b", "BTC/USD:BTC", contract_size=D(100))
    result = quote([(60000.0, 50.0)], [(60300.0, 40.0)], buy, sell)
    assert isinstance(result, JointQuote)
    assert result.buy_order == result.sell_order


def test_levels_the_newer_best_price_says_are_gone_are_not_taken() -> None:
    buy_terms, sell_terms = LegTerms.of(market("a")), LegTerms.of(market("b"))
    stale = asks([(100.0, 5.0), (101.0, 5.0)])
    bid_side = BaseLevels(bids([(102.0, 9.0)]), sell_terms)
    terms = PairTerms.of(buy_terms, sell_terms)
    result = joint_walk(BaseLevels(stale, buy_terms, 101.0, 2.0), bid_side, terms)
    assert isinstance(result, JointQuote)
    assert result.quantity == 2.0
    assert result.buy.vwap == 101.0
    assert joint_walk(BaseLevels(stale, buy_terms, 103.0, 2.0), bid_side, terms) is Refusal.EMPTY


def test_vwap_impact_and_band_by_hand() -> None:
    levels = [(100.0, 1.0), (101.0, 4.0)]
    assert vwap(levels, 2.0) == 100.5
    assert impact_bps(levels, 2.0) == pytest.approx(50.0)
    assert impact_bps(levels, 0.5) == 0.0
    assert vwap(levels, 5.1) is None
    assert quantity_within(levels, 99.0) == 1.0
    assert quantity_within(levels, 100.0) == 5.0
    assert quantity_within([], 10.0) == 0.0


# Properties.


@given(ASKS, BIDS, FEES, st.sampled_from([0.0, 1.0, 5.0, 30.0]))
def test_no_quantity_of_a_brute_force_search_earns_more(
    ask_levels: Levels, bid_levels: Levels, fee: float, min_net_bps: float
) -> None:
    found = best_overlap(ask_levels, bid_levels, buy_fee=fee, sell_fee=fee, limits=Limits(min_net_bps=min_net_bps))
    assert found is not None
    depth = min(sum(size for _, size in levels) for levels in (ask_levels, bid_levels))
    edges = {0.0, depth}
    for levels in (ask_levels, bid_levels):
        total = 0.0
        for _, size in levels:
            total += size
            edges.add(min(total, depth))
    ordered = sorted(edges)
    candidates = [a + (b - a) * k / 16 for a, b in itertools.pairwise(ordered) for k in range(17)]
    best = 0.0
    for candidate in candidates:
        profit, cost = net(ask_levels, bid_levels, candidate, fee)
        if cost and profit >= min_net_bps / BPS * cost:
            best = max(best, profit)
    profit, cost = net(ask_levels, bid_levels, found, fee)
    assert profit >= best - 1e-6
    assert profit >= min_net_bps / BPS * cost - 1e-6


@given(ASKS, BIDS, FEES, FEES)
def test_higher_fees_never_mean_more_quantity_or_profit(
    ask_levels: Levels, bid_levels: Levels, fee: float, other: float
) -> None:
    low, high = sorted((fee, other))
    cheap = best_overlap(ask_levels, bid_levels, buy_fee=low, sell_fee=low) or 0.0
    dear = best_overlap(ask_levels, bid_levels, buy_fee=high, sell_fee=high) or 0.0
    assert dear <= cheap + 1e-12
    assert net(ask_levels, bid_levels, dear, high)[0] <= net(ask_levels, bid_levels, cheap, low)[0] + 1e-9


@given(ASKS, BIDS, FEES, st.data())
def test_a_thinner_book_never_gives_more(
    ask_levels: Levels, bid_levels: Levels, fee: float, data: st.DataObject
) -> None:
    shares = data.draw(st.lists(st.sampled_from([0.0, 0.3, 0.999, 1.0]), min_size=16, max_size=16))
    thin_asks = [(price, size * share) for (price, size), share in zip(ask_levels, shares, strict=False) if share]
    thin_bids = [(price, size * share) for (price, size), share in zip(bid_levels, shares[8:], strict=False) if share]
    assume(thin_asks and thin_bids)
    charged = D(repr(fee))
    buy, sell = market("a", taker_fee=charged), market("b", taker_fee=charged)
    thick, thin = quote(ask_levels, bid_levels, buy, sell), quote(thin_asks, thin_bids, buy, sell)
    if isinstance(thin, JointQuote):
        assert isinstance(thick, JointQuote)
        assert thin.quantity <= thick.quantity
        assert thin.net_profit <= thick.net_profit + 1e-9


@given(ASKS, BIDS, st.sampled_from(["0.001", "0.02", "0.5"]), st.sampled_from(["0.01", "0.005", "0.3"]))
def test_quotes_are_what_two_exchanges_would_fill(
    ask_levels: Levels, bid_levels: Levels, buy_lot: str, sell_lot: str
) -> None:
    buy, sell = market("a", lot=D(buy_lot), taker_fee=D("0.0002")), market("b", lot=D(sell_lot), taker_fee=D("0.0002"))
    result = quote(ask_levels, bid_levels, buy, sell)
    assume(isinstance(result, JointQuote))
    assert isinstance(result, JointQuote)
    quantity = Decimal(repr(result.quantity))
    assert lot_quantity(quantity, buy, sell) == quantity
    for filled, levels in ((result.buy, ask_levels), (result.sell, bid_levels)):
        prices = [price for price, _ in levels]
        low, high = sorted((prices[0], filled.worst_price))
        assert low - 1e-9 <= filled.vwap <= high + 1e-9
        assert filled.worst_price in prices
        assert filled == fill(levels, result.quantity)
    assert result.net_profit > -1e-9
    assert result.net_profit == pytest.approx(net(ask_levels, bid_levels, result.quantity, 0.0002)[0], abs=1e-6)


@given(ASKS, BIDS, st.floats(0.0005, 5.0), st.floats(0.5, 5000.0))
def test_caps_are_never_exceeded(ask_levels: Levels, bid_levels: Levels, quantity: float, notional: float) -> None:
    result = quote(ask_levels, bid_levels, max_quantity=quantity, max_notional=notional)
    if isinstance(result, JointQuote):
        assert result.quantity <= quantity
        assert result.buy.notional <= notional * (1 + 1e-9)


KINDS = st.sampled_from(
    [
        ("BTC/USD", {"lot": D("0.001")}),
        ("BTC/USD:USD", {"contract_size": D("0.01"), "lot": D("0.1")}),
        ("BTC/USD:BTC", {"contract_size": D(100)}),
        ("BTC/USD:BTC", {"contract_size": D(1)}),
    ]
)


@given(ASKS, BIDS, KINDS, KINDS, st.integers(1, 5000))
def test_orders_are_whole_lots_and_legs_match_within_one_lot(
    ask_levels: Levels, bid_levels: Levels, buy_kind: tuple[str, dict], sell_kind: tuple[str, dict], scale: int
) -> None:
    buy, sell = market("a", buy_kind[0], **buy_kind[1]), market("b", sell_kind[0], **sell_kind[1])
    result = quote(
        [(price, size * scale) for price, size in ask_levels],
        [(price, size * scale) for price, size in bid_levels],
        buy,
        sell,
    )
    assume(isinstance(result, JointQuote))
    assert isinstance(result, JointQuote)
    for one, order, filled in ((buy, result.buy_order, result.buy), (sell, result.sell_order, result.sell)):
        amount = Decimal(repr(order))
        assert amount > 0
        assert amount % one.lot == 0
        own = order_quantity(one, Decimal(filled.quantity), Decimal(filled.vwap))
        assert float(own) == pytest.approx(order, rel=1e-9)
    finer = min(
        float(one.lot * one.contract_size) / (filled.worst_price if one.kind == "inverse" else 1.0)
        for one, filled in ((buy, result.buy), (sell, result.sell))
    )
    assert abs(result.buy.quantity - result.sell.quantity) <= finer * 1.02
    assert result.quantity == min(result.buy.quantity, result.sell.quantity)
    assert math.isfinite(result.net_bps)
