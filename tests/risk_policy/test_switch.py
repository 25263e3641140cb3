"""The trading switch: the strictest holds; reduce only lets repairs through, kill only cancels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.switch import NORMAL, PERMITTED, Action, SwitchState, TradingState, is_stricter, strictest, verdict

STATES = st.builds(SwitchState, state=st.sampled_from(TradingState), source=st.sampled_from(("everybody", "owner a")))


@pytest.mark.parametrize(
    ("state", "permitted"),
    [
        (TradingState.NORMAL, {Action.OPEN, Action.REDUCE, Action.CANCEL}),
        (TradingState.REDUCE_ONLY, {Action.REDUCE, Action.CANCEL}),
        (TradingState.KILL, {Action.CANCEL}),
    ],
)
def test_what_each_state_lets_through(state, permitted):
    switch = SwitchState(state=state)
    assert {action for action in Action if verdict(switch, action).allowed} == permitted


def test_a_refusal_names_the_switch_and_the_reason():
    switch = SwitchState(state=TradingState.KILL, source="owner anna", reason="Keys leaked.")
    refused = verdict(switch, Action.REDUCE)
    assert refused.reason == "Trading is switched to killed for owner anna: Keys leaked."
    assert refused.figures == {"switch": "kill", "action": "reduce"}


def test_no_switch_is_normal():
    assert strictest([]) == NORMAL
    assert verdict(NORMAL).allowed


@given(states=st.lists(STATES), more=STATES)
def test_another_switch_never_permits_more(states, more):
    assert PERMITTED[strictest([*states, more]).state] <= PERMITTED[strictest(states).state]


@given(one=STATES, other=STATES)
def test_stricter_permits_less(one, other):
    assert is_stricter(one.state, other.state) == (PERMITTED[one.state] < PERMITTED[other.state])
