"""The trading switch: what may still be sent. Of several switches over a bot the strictest holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from risk.policy.verdict import ALLOWED, Verdict


class TradingState(StrEnum):
    """From the loosest to the strictest."""

    NORMAL = "normal"
    REDUCE_ONLY = "reduce_only"
    KILL = "kill"


class Action(StrEnum):
    OPEN = "open"  # a new trade
    REDUCE = "reduce"  # an order of an open trade that leaves less unhedged
    CANCEL = "cancel"


STRICTNESS = {state: position for position, state in enumerate(TradingState)}
WORDS = {
    TradingState.NORMAL: "normal",
    TradingState.REDUCE_ONLY: "reduce only",
    TradingState.KILL: "killed",
}  # fmt: skip

PERMITTED: Mapping[TradingState, frozenset[Action]] = MappingProxyType(
    {
        TradingState.NORMAL: frozenset(Action),
        TradingState.REDUCE_ONLY: frozenset({Action.REDUCE, Action.CANCEL}),
        TradingState.KILL: frozenset({Action.CANCEL}),
    }
)


class SwitchState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a switch stands. ``source`` names whose it is (``everybody``, ``bot Wide net``), ``reason`` says why."""

    state: TradingState = TradingState.NORMAL
    source: str = ""
    reason: str = ""


NORMAL = SwitchState()


def is_stricter(state: TradingState, other: TradingState) -> bool:
    return STRICTNESS[state] > STRICTNESS[other]


def strictest(states: Iterable[SwitchState]) -> SwitchState:
    """Return the state that permits least, the first of equal ones; NORMAL of none."""
    return max(states, key=lambda switch: STRICTNESS[switch.state], default=NORMAL)


def verdict(switch: SwitchState, action: Action = Action.OPEN) -> Verdict:
    """Refuse what the switch does not permit.

    Reduce only: no new trades, repairs that leave less unhedged go on. Kill: nothing is sent but cancels.
    """
    if action in PERMITTED[switch.state]:
        return ALLOWED
    whose = f" for {switch.source}" if switch.source else ""
    why = f": {switch.reason.rstrip('.')}" if switch.reason else ""
    return Verdict(
        allowed=False,
        reason=f"Trading is switched to {WORDS[switch.state]}{whose}{why}.",
        figures={"switch": switch.state.value, "action": action.value},
    )
