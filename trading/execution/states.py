"""The one table of an order's states: which state follows when the exchange (or the engine) says something.

Nothing else in the project decides a state. Two rules are in the table rather than in code:

* No regress. Messages arrive out of order; a NEW after FILLED changes nothing.
* Evidence of life wins. A late fill is legal from every terminal state: an order thought dead is booked, not ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trading.messages import OrderState, TimeInForce

PENDING = OrderState.PENDING
SENDING = OrderState.SENDING
UNKNOWN = OrderState.UNKNOWN
PLACED = OrderState.PLACED
PARTIAL = OrderState.PARTIALLY_FILLED
FILLED = OrderState.FILLED
CANCELLED = OrderState.CANCELLED
FAILED = OrderState.FAILED
DISPUTED = OrderState.DISPUTED

TERMINAL = frozenset({FILLED, CANCELLED, FAILED})
RESTING = frozenset({PLACED, PARTIAL})
MAY_REST = frozenset({TimeInForce.GTC, TimeInForce.POST_ONLY})  # what is asked to: any other ends by itself
# States in which the exchange may still hold, or may yet execute, the order.
LIVE = frozenset({SENDING, UNKNOWN, PLACED, PARTIAL, DISPUTED})

_REPORTED = (SENDING, UNKNOWN, PLACED, PARTIAL, FILLED, CANCELLED, FAILED, DISPUTED)

# One row per present state, one column per reported state, in the order of _REPORTED. None: illegal, nothing changes.
# PENDING is never reported: it is where an intent begins.
_ROWS: Mapping[OrderState, tuple[OrderState | None, ...]] = {
    # reported:   SENDING  UNKNOWN    PLACED     PARTIAL    FILLED   CANCELLED  FAILED     DISPUTED
    PENDING:     (SENDING, None,      PLACED,    PARTIAL,   FILLED,  CANCELLED, FAILED,    None),
    SENDING:     (SENDING, UNKNOWN,   PLACED,    PARTIAL,   FILLED,  CANCELLED, FAILED,    None),
    UNKNOWN:     (None,    UNKNOWN,   PLACED,    PARTIAL,   FILLED,  CANCELLED, FAILED,    DISPUTED),
    PLACED:      (None,    PLACED,    PLACED,    PARTIAL,   FILLED,  CANCELLED, FAILED,    DISPUTED),
    PARTIAL:     (None,    PARTIAL,   PARTIAL,   PARTIAL,   FILLED,  CANCELLED, CANCELLED, DISPUTED),
    FILLED:      (None,    FILLED,    FILLED,    FILLED,    FILLED,  FILLED,    FILLED,    None),
    CANCELLED:   (None,    CANCELLED, CANCELLED, CANCELLED, FILLED,  CANCELLED, CANCELLED, None),
    FAILED:      (None,    FAILED,    PLACED,    PARTIAL,   FILLED,  CANCELLED, FAILED,    None),
    DISPUTED:    (None,    DISPUTED,  PLACED,    PARTIAL,   FILLED,  CANCELLED, FAILED,    DISPUTED),
}  # fmt: skip

TABLE: Mapping[tuple[OrderState, OrderState], OrderState] = MappingProxyType(
    {
        (state, reported): following
        for state, row in _ROWS.items()
        for reported, following in zip(_REPORTED, row, strict=True)
        if following is not None
    }
)


def next_state(state: OrderState, reported: OrderState) -> OrderState | None:
    """Return the state that follows, or None when the report is illegal in this state and changes nothing.

    An exchange that calls an order with fills "rejected" means that it works no more: its fills stand, so the
    result is CANCELLED, never FAILED.
    """
    return TABLE.get((state, reported))


def is_terminal(state: OrderState) -> bool:
    return state in TERMINAL


def revives(state: OrderState, reported: OrderState) -> bool:
    """Return whether a report brings an order back that had been written off (FAILED): an alarm, besides a booking."""
    return state is FAILED and reported in {PLACED, PARTIAL, FILLED, CANCELLED}
