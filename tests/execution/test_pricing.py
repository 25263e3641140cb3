"""Where limit orders stand in the spread: on the tick, towards filling, within the cap, short of the other side."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trading.execution.pricing import (
    WorkingStyle,
    adapted,
    fallback_price,
    has_moved,
    limit_price_in_spread,
    liquidity_of,
)
from trading.instruments import Market, Side

D = Decimal
CENT = D("0.01")
sides = st.sampled_from(["buy", "sell"])
ticks = st.sampled_from([D("0.00000001"), D("0.0001"), D("0.01"), D("0.05"), D("0.5"), D(1), D(25)])
shares = st.floats(0, 1, allow_nan=False)
prices = st.decimals(min_value=D("0.0001"), max_value=D(100_000), places=8)


def market(tick: Decimal = CENT) -> Market:
    return Market(exchange="x", symbol="A/B", native_id="AB", base="A", quote="B", tick=tick)


@pytest.mark.parametrize(
    ("side", "share", "price"),
    [("sell", 0.85, "15.24"), ("buy", 0.75, "15.30"), ("sell", 0.0, "15.32"), ("buy", 0.0, "15.23")],
    ids=["sell 85 %", "buy 75 %", "sell at the ask", "buy at the bid"],
)
def test_worked_examples(side: Side, share: float, price: str) -> None:
    # 15.32 - 0.85 * 0.09 = 15.2435, and 15.23 + 0.75 * 0.09 = 15.2975
    cap = D(20) if side == "buy" else D(10)
    assert limit_price_in_spread(market(), D("15.23"), D("15.32"), side, share, cap) == D(price)


def test_a_spread_of_one_tick_is_joined_not_crossed() -> None:
    assert limit_price_in_spread(market(), D("15.23"), D("15.24"), "buy", 0.75, D(20)) == D("15.23")
    assert limit_price_in_spread(market(), D("15.23"), D("15.24"), "sell", 0.85, D(10)) == D("15.24")


def price_of(tick: Decimal, bid: Decimal, ask: Decimal, side: Side, share: float, cap: Decimal) -> Decimal | None:
    try:
        return limit_price_in_spread(market(tick), bid, ask, side, share, cap)
    except ValueError as error:
        assert "nothing on the tick" in str(error)  # noqa: PT017
        return None


@given(ticks, prices, prices, sides, shares, prices)
def test_a_price_is_on_the_tick_within_the_cap_and_never_crosses(
    tick: Decimal, one: Decimal, other: Decimal, side: Side, share: float, cap: Decimal
) -> None:
    bid, ask = sorted((one, other))
    assume(bid < ask)
    price = price_of(tick, bid, ask, side, share, cap)
    if price is None:
        return
    assert price > 0
    assert price % tick == 0
    assert price <= cap if side == "buy" else price >= cap
    assert price < ask if side == "buy" else price > bid
    # Within a tick of the exact price, unless the cap or the other side held it back.
    given_up = (ask - bid) * D(repr(share))
    exact = bid + given_up if side == "buy" else ask - given_up
    if side == "buy":
        assert price < exact + tick
        assert price >= min(exact, ask - tick, cap - tick)
    else:
        assert price > exact - tick
        assert price <= max(exact, bid + tick, cap + tick)


@given(ticks, prices, prices, sides, shares, shares, prices)
def test_giving_up_more_of_the_spread_is_never_less_likely_to_fill(
    tick: Decimal, one: Decimal, other: Decimal, side: Side, less: float, more: float, cap: Decimal
) -> None:
    bid, ask = sorted((one, other))
    less, more = sorted((less, more))
    assume(bid < ask)
    patient, eager = (price_of(tick, bid, ask, side, share, cap) for share in (less, more))
    if patient is None or eager is None:
        return
    assert eager >= patient if side == "buy" else eager <= patient


@given(ticks, prices, sides, st.floats(0, 500), prices)
def test_a_fallback_stays_within_its_reach_and_the_cap(
    tick: Decimal, best: Decimal, side: Side, bps: float, cap: Decimal
) -> None:
    price = fallback_price(market(tick), best, side, bps, cap)
    if side == "buy":
        if price is None:
            assert cap < best or (best % tick)  # nothing on the tick reaches it
        else:
            assert best <= price <= min(cap, best * (1 + D(repr(bps)) / 10_000))
            assert price % tick == 0
    elif price is None:
        assert cap > best or (best % tick)
    else:
        assert best >= price >= max(cap, best * (1 - D(repr(bps)) / 10_000))
        assert price % tick == 0


def test_a_market_order_goes_to_its_cap() -> None:
    assert fallback_price(market(), D("100.00"), "buy", float("inf"), D("100.557")) == D("100.55")
    assert fallback_price(market(), D("100.00"), "sell", float("inf"), D("99.441")) == D("99.45")


def test_a_price_has_moved_beyond_both_thresholds() -> None:
    style = WorkingStyle(reprice_ticks=2, reprice_bps=1.0)
    assert not has_moved(market(), style, D("15.24"), D("15.26"))  # two ticks, not more
    assert has_moved(market(), style, D("15.24"), D("15.21"))
    assert not has_moved(market(), style, D("50000.00"), D("50005.00"))  # exactly 1 bps
    assert has_moved(market(), style, D("50000.00"), D("50005.01"))


@pytest.mark.parametrize(
    ("bid", "ask", "share", "cap", "words"),
    [
        ("15.32", "15.23", 0.5, "20", "bid: must be above zero and below the ask of 15.23 (given 15.32)"),
        ("0", "15.23", 0.5, "20", "bid: must be above zero"),
        ("15.23", "15.32", 1.1, "20", "share: must be 0 to 1 (given 1.1)"),
        ("15.23", "15.32", 0.5, "0.001", "above zero and within the cap of 0.001"),
    ],
    ids=["crossed", "no bid", "no share", "cap below a tick"],
)
def test_what_is_no_spread_is_refused(bid: str, ask: str, share: float, cap: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"must|above") as caught:
        limit_price_in_spread(market(), D(bid), D(ask), "buy", share, D(cap))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["buy_share", "sell_share", "buy_seconds", "max_reprices", "fallback_bps"])
def test_a_style_names_what_is_wrong_with_it(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: must be 0 .*given -1"):
        WorkingStyle(**{name: -1})


@given(shares, shares, shares)
def test_confident_and_liquid_is_more_eager(confidence: float, liquidity: float, less: float) -> None:
    style = WorkingStyle()
    lower = adapted(style, confidence=min(confidence, less), liquidity=min(liquidity, less))
    higher = adapted(style, confidence=confidence, liquidity=liquidity)
    assert lower.style.buy_share <= higher.style.buy_share < 1
    assert lower.style.sell_share <= higher.style.sell_share < 1
    assert lower.style.buy_seconds >= higher.style.buy_seconds > 0
    assert 0 < lower.size <= higher.size <= 1


def test_the_middle_changes_nothing_and_thin_markets_are_worked_in_smaller_sizes() -> None:
    style = WorkingStyle()
    assert adapted(style, confidence=0.5, liquidity=0.5) == (style, 1)
    assert adapted(style, confidence=1.0, liquidity=1.0).style.buy_share == pytest.approx(0.9)
    thin = adapted(style, confidence=1.0, liquidity=0.0)
    assert thin.size == D("0.25")
    assert thin.style.sell_share == pytest.approx(0.425)
    assert thin.style.sell_seconds == pytest.approx(15.0)
    doubtful = adapted(style, confidence=0.0, liquidity=1.0)
    assert (doubtful.size, doubtful.style.buy_share) == (1, pytest.approx(0.375))


def test_liquidity_is_the_depth_a_quantity_meets() -> None:
    assert [liquidity_of(depth, 1.0) for depth in (0.0, 2.0, 4.0, 100.0)] == [0.0, 0.5, 1.0, 1.0]
