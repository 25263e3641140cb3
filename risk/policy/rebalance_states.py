"""How a proposal to move or convert inventory goes on: one table of what may follow what."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class RebalanceState(StrEnum):
    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"  # a second person has said yes; of a move, a person is to make it
    RUNNING = "RUNNING"  # the engine was asked for the conversion
    DONE = "DONE"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


S = RebalanceState
TRANSITIONS: Mapping[RebalanceState, frozenset[RebalanceState]] = MappingProxyType(
    {
        S.PROPOSED: frozenset({S.APPROVED, S.REJECTED, S.EXPIRED, S.CANCELLED}),
        S.APPROVED: frozenset({S.RUNNING, S.DONE, S.CANCELLED}),
        S.RUNNING: frozenset({S.DONE, S.FAILED}),
        S.DONE: frozenset(),
        S.FAILED: frozenset(),
        S.REJECTED: frozenset(),
        S.EXPIRED: frozenset(),
        S.CANCELLED: frozenset(),
    }
)
OPEN = frozenset(state for state, after in TRANSITIONS.items() if after)


def may_become(state: RebalanceState, after: RebalanceState) -> bool:
    return after in TRANSITIONS[state]
