"""The order state table, every cell of it."""

from __future__ import annotations

from itertools import product

import pytest

from trading.execution.states import TABLE, TERMINAL, is_terminal, next_state, revives
from trading.messages import OrderState as S

EXCHANGE_SAYS = (S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED)
# How far an order is known to have come; no report may move it back, except that life is found where none was thought.
PROGRESS = {S.PENDING: 0, S.SENDING: 1, S.UNKNOWN: 2, S.DISPUTED: 2, S.PLACED: 3, S.PARTIALLY_FILLED: 4}

# The whole table again, written out by hand: state, reported, what follows (None: illegal).
EXPECTED = {
    S.PENDING: [S.SENDING, None, S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED, None],
    S.SENDING: [S.SENDING, S.UNKNOWN, S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED, None],
    S.UNKNOWN: [None, S.UNKNOWN, S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED, S.DISPUTED],
    S.PLACED: [None, S.PLACED, S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED, S.DISPUTED],
    S.PARTIALLY_FILLED: [
        None, S.PARTIALLY_FILLED, S.PARTIALLY_FILLED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.CANCELLED,
        S.DISPUTED,
    ],
    S.FILLED: [None, S.FILLED, S.FILLED, S.FILLED, S.FILLED, S.FILLED, S.FILLED, None],
    S.CANCELLED: [None, S.CANCELLED, S.CANCELLED, S.CANCELLED, S.FILLED, S.CANCELLED, S.CANCELLED, None],
    S.FAILED: [None, S.FAILED, S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED, None],
    S.DISPUTED: [None, S.DISPUTED, S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED, S.DISPUTED],
}  # fmt: skip
REPORTED = (S.SENDING, S.UNKNOWN, S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED, S.DISPUTED)


@pytest.mark.parametrize(("state", "reported"), list(product(S, S)), ids=lambda state: state.value)
def test_every_cell(state: S, reported: S) -> None:
    expected = None if reported is S.PENDING else EXPECTED[state][REPORTED.index(reported)]
    assert next_state(state, reported) is expected


def test_every_state_has_a_row() -> None:
    assert {state for state, _ in TABLE} == set(S)


@pytest.mark.parametrize("terminal", sorted(TERMINAL))
@pytest.mark.parametrize("reported", [S.PARTIALLY_FILLED, S.FILLED])
def test_a_late_fill_is_legal_from_every_terminal_state(terminal: S, reported: S) -> None:
    assert next_state(terminal, reported) is not None


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("reported", EXCHANGE_SAYS)
def test_what_an_exchange_says_is_never_illegal(state: S, reported: S) -> None:
    assert next_state(state, reported) is not None


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("reported", EXCHANGE_SAYS)
def test_no_regress(state: S, reported: S) -> None:
    following = next_state(state, reported)
    assert following is not None
    if state in PROGRESS and following in PROGRESS:
        assert PROGRESS[following] >= PROGRESS[state]
    if state is S.FILLED:
        assert following is S.FILLED
    if state is S.CANCELLED:
        assert following in {S.CANCELLED, S.FILLED}


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("reported", EXCHANGE_SAYS)
def test_a_report_twice_is_a_report_once(state: S, reported: S) -> None:
    once = next_state(state, reported)
    assert once is not None
    assert next_state(once, reported) is once


def test_only_written_off_orders_revive() -> None:
    assert [state for state in S if revives(state, S.PLACED)] == [S.FAILED]
    assert not revives(S.FAILED, S.FAILED)


def test_terminal_states() -> None:
    assert {state for state in S if is_terminal(state)} == {S.FILLED, S.CANCELLED, S.FAILED}
