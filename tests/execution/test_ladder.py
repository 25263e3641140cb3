"""The ladder of repairs: caps that only widen, seconds and money that are never overspent."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.execution.exposure import Exposure
from trading.execution.ladder import Ladder, Rung, tighter, worse
from trading.execution.result import Tally
from trading.instruments import Side

D = Decimal

ladders = st.builds(
    lambda completion, more, narrow, wider: Ladder(
        completion_seconds=completion,
        unwind_seconds=completion + more,
        completion_bps=narrow,
        unwind_bps=narrow + wider,
    ),
    st.floats(0, 60),
    st.floats(0, 600),
    st.floats(0, 2000),
    st.floats(0, 2000),
)
sides = st.sampled_from(["buy", "sell"])
prices = st.decimals("0.0001", "100000", places=4)


def test_the_rungs_follow_each_other() -> None:
    ladder = Ladder(completion_seconds=3, unwind_seconds=30)
    assert [ladder.rung(seconds) for seconds in (0, 2.9, 3, 29.9, 30, 1000)] == [
        Rung.COMPLETE, Rung.COMPLETE, Rung.HEDGE, Rung.HEDGE, Rung.ASK, Rung.ASK,
    ]  # fmt: skip


def test_the_cap_widens_from_the_leg_s_limit_to_both_tolerances() -> None:
    ladder = Ladder(completion_seconds=4, unwind_seconds=14, completion_bps=30, unwind_bps=100)
    caps = [ladder.cap("sell", D(10_000), D(10_050), seconds) for seconds in (0.0, 2.0, 4.0, 9.0, 14.0)]
    assert caps == [D(10_050), D(10_010), D(9_970), D(9_935), D(9_900)]
    caps = [ladder.cap("buy", D(10_000), D(9_950), seconds) for seconds in (0.0, 2.0, 4.0, 9.0, 14.0)]
    assert caps == [D(9_950), D(9_990), D(10_030), D(10_065), D(10_100)]


def test_without_a_leg_to_complete_the_cap_starts_at_the_entry() -> None:
    assert Ladder().cap("sell", D(100), None, 0.0) == 100


@given(ladders, sides, prices, st.lists(st.floats(0, 700), min_size=2, max_size=8))
def test_a_cap_never_narrows_and_never_passes_the_widest(
    ladder: Ladder, side: Side, entry: Decimal, moments: list[float]
) -> None:
    caps = [ladder.cap(side, entry, entry, seconds) for seconds in sorted(moments)]
    slack = entry * D("1e-20")
    for before, after in pairwise(caps):
        assert after <= before + slack if side == "sell" else after >= before - slack
    widest = worse(entry, max(ladder.unwind_bps, ladder.completion_bps), side)
    assert all(cap >= widest - slack if side == "sell" else cap <= widest + slack for cap in caps)


def test_what_may_be_lost_is_a_price() -> None:
    # 2 bought at 100 and 4 earned so far: selling them at 93.45… less 1 % of fee loses 4 + 10 more than it earned.
    ladder = Ladder(max_loss=D(10))
    price = ladder.affordable("sell", D(2), D(100), D(4), D("0.01"))
    assert price is not None
    assert D(4) + 2 * (price * D("0.99") - 100) == pytest.approx(D(-10))
    price = ladder.affordable("buy", D(2), D(100), D(4), D("0.01"))
    assert price is not None
    assert D(4) - 2 * (price * D("1.01") - 100) == pytest.approx(D(-10))
    assert Ladder().affordable("sell", D(2), D(100), D(4), D(0)) is None


def test_the_strictest_cap_counts() -> None:
    assert tighter("sell", D(1), None, D(3)) == 3
    assert tighter("buy", D(2), None, D(3)) == 2


def test_exposure_is_notional_times_seconds() -> None:
    second = 10**9
    exposure = Exposure(D(7), 0)
    assert exposure.total(10 * second) == 7
    exposure.tell(Tally(bought=D(2), paid=D(200)), 10 * second)  # 200 unhedged
    assert exposure.notional == 200
    assert exposure.total(13 * second) == 7 + 600
    exposure.tell(Tally(bought=D(2), paid=D(200), sold=D(1), received=D(101)), 15 * second)  # 100 left
    assert exposure.total(16 * second) == 7 + 1000 + 100
    exposure.tell(Tally(bought=D(2), paid=D(200), sold=D(2), received=D(202)), 17 * second)
    assert exposure.total(100 * second) == 7 + 1000 + 200
