"""Settings out of range are refused in one sentence; broken figures are never more than nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from risk.policy.numbers import require, share, unit
from tests.risk_policy.strategies import ANY


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, -math.inf])
def test_a_setting_out_of_range_is_refused_with_its_name_limits_and_value(value: float) -> None:
    with pytest.raises(ValueError, match=rf"^depth_share is {value}; it must lie between 0 and 1\.$"):
        require("depth_share", value, 0.0, 1.0)


def test_a_setting_at_its_limits_is_taken() -> None:
    require("depth_share", 0.0, 0.0, 1.0)
    require("depth_share", 1.0, 0.0, 1.0)


def test_shares_by_hand() -> None:
    assert share(30.0, 40.0) == 0.75
    assert share(80.0, 40.0) == 1.0
    assert [share(value, 40.0) for value in (0.0, -1.0, math.nan, math.inf)] == [0.0] * 4
    assert [share(40.0, full) for full in (0.0, -1.0, math.nan, math.inf)] == [0.0] * 4


@given(ANY, ANY)
def test_shares_are_shares_of_anything(value: float, full: float) -> None:
    assert 0.0 <= share(value, full) <= 1.0
    assert 0.0 <= unit(value) <= 1.0
