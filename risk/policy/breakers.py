"""Circuit breakers: what trips them, how long they stay open, and the steps back to the full size.

Closed -> open, cooling down -> half-open, where one trade at the smallest size may probe -> ramping through shares of
the size -> closed. Everything here is a value and takes the time as an argument: wall time in nanoseconds since the
epoch, because a breaker outlives the process that tripped it. What a breaker means for a trade is ``risk.policy.gate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType

import msgspec

SECOND_NS = 1_000_000_000
DAY_SECONDS = 86_400.0
# Longer than a week is no cool-down: whoever wants that stops the bot or disables the exchange.
MIN_COOLDOWN_SECONDS, MAX_COOLDOWN_SECONDS = 1.0, 7 * DAY_SECONDS
MAX_STEPS = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Scope(StrEnum):
    """What a breaker stands over. The key beside it names which: empty for global, else an id, a code or a pair."""

    GLOBAL = "global"
    OWNER = "owner"
    BOT = "bot"
    ACCOUNT = "account"
    EXCHANGE = "exchange"
    PAIR = "pair"  # BTC/USDT
    PAIR_ON_EXCHANGE = "pair_on_exchange"  # binance:BTC/USDT


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    PROBING = "probing"
    RAMPING = "ramping"


class BreakerEvent(StrEnum):
    TRIP = "trip"
    OPERATOR_TRIP = "operator_trip"
    COOLED = "cooled"
    PROBE_CLAIMED = "probe_claimed"
    PROBE_LAPSED = "probe_lapsed"
    CLEAN = "clean"  # a trade ended without a loss
    LOSS = "loss"
    RESET = "reset"
    EXTEND = "extend"


_S, _E = BreakerState, BreakerEvent

# Every pair that is not here is illegal and changes nothing.
TRANSITIONS: Mapping[tuple[BreakerState, BreakerEvent], BreakerState] = MappingProxyType(
    {
        (_S.CLOSED, _E.TRIP): _S.OPEN,
        (_S.CLOSED, _E.OPERATOR_TRIP): _S.OPEN,
        (_S.OPEN, _E.TRIP): _S.OPEN,
        (_S.OPEN, _E.OPERATOR_TRIP): _S.OPEN,
        (_S.OPEN, _E.COOLED): _S.HALF_OPEN,
        (_S.OPEN, _E.RESET): _S.CLOSED,
        (_S.OPEN, _E.EXTEND): _S.OPEN,
        (_S.HALF_OPEN, _E.TRIP): _S.OPEN,
        (_S.HALF_OPEN, _E.OPERATOR_TRIP): _S.OPEN,
        (_S.HALF_OPEN, _E.PROBE_CLAIMED): _S.PROBING,
        (_S.HALF_OPEN, _E.LOSS): _S.OPEN,  # a probe that lapsed has lost after all
        (_S.HALF_OPEN, _E.RESET): _S.CLOSED,
        (_S.HALF_OPEN, _E.EXTEND): _S.OPEN,
        (_S.PROBING, _E.TRIP): _S.OPEN,
        (_S.PROBING, _E.OPERATOR_TRIP): _S.OPEN,
        (_S.PROBING, _E.PROBE_LAPSED): _S.HALF_OPEN,
        (_S.PROBING, _E.CLEAN): _S.RAMPING,
        (_S.PROBING, _E.LOSS): _S.OPEN,
        (_S.PROBING, _E.RESET): _S.CLOSED,
        (_S.PROBING, _E.EXTEND): _S.OPEN,
        (_S.RAMPING, _E.TRIP): _S.OPEN,
        (_S.RAMPING, _E.OPERATOR_TRIP): _S.OPEN,
        (_S.RAMPING, _E.CLEAN): _S.RAMPING,
        (_S.RAMPING, _E.LOSS): _S.RAMPING,
        (_S.RAMPING, _E.RESET): _S.CLOSED,
    }
)
# Where these two lead from the last and from the first step of the ramp.
OFF_THE_RAMP: Mapping[BreakerEvent, BreakerState] = MappingProxyType({_E.CLEAN: _S.CLOSED, _E.LOSS: _S.OPEN})


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """One breaker as it stands.

    Attributes
    ----------
    step
        Index into the rules' steps while ramping, else 0.
    until_ns
        End of the cool-down while open, of the time a probe has while probing, else None.
    reason, trigger
        Why it tripped last, in one sentence and in one word; empty when closed.
    trips
        How often it tripped without staying closed for the rules' ``forget_seconds`` in between; a reset keeps them.
    clean
        Trades without a loss at this step of the ramp.
    holder
        Who has the probe.
    since_ns
        When it came to this state, or to this step.
    version
        Counts changes; of two values of one breaker the higher is the later.
    """

    scope: Scope
    key: str = ""
    state: BreakerState = BreakerState.CLOSED
    step: int = 0
    until_ns: int | None = None
    reason: str = ""
    trigger: str = ""
    trips: int = 0
    clean: int = 0
    holder: str = ""
    since_ns: int = 0
    version: int = 0

    @property
    def name(self) -> str:
        """Return what it stands over, as in "exchange binance"."""
        if self.scope is Scope.GLOBAL:
            return "everything"
        return f"{self.scope.value.replace('_', ' ')} {self.key}"


class BreakerNews(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a breaker, to be made durable; see :func:`after` for what its parts mean.

    ``event_id`` names what happened: what is told again under it changes nothing.
    """

    scope: Scope
    key: str = ""
    event: BreakerEvent
    at_ns: int
    reason: str = ""
    trigger: str = ""
    seconds: float | None = None
    holder: str = ""
    figures: Mapping[str, float | int | str] = {}
    event_id: str = ""


class BreakerRules(msgspec.Struct, frozen=True, kw_only=True):
    """How breakers of a scope open and come back. Times in seconds; raises ValueError for what can't be.

    Attributes
    ----------
    cooldown_seconds, cooldown_growth, max_cooldown_seconds
        The first cool-down, the factor of each repeated one, and its bound.
    forget_seconds
        Closed for so long, a breaker's next trip counts as its first.
    steps, clean_per_step
        Shares of the size on the way back, ascending to 1.0, and the clean trades that earn the next one.
    probe_edge_factor
        What a probe's least net edge is multiplied by.
    probe_seconds
        How long a claimed probe may take until somebody else may claim it.
    """

    cooldown_seconds: float = 300.0
    cooldown_growth: float = 2.0
    max_cooldown_seconds: float = 14_400.0
    forget_seconds: float = DAY_SECONDS
    clean_per_step: int = 3
    steps: tuple[float, ...] = (0.25, 0.5, 1.0)
    probe_edge_factor: float = 1.5
    probe_seconds: float = 60.0

    def __post_init__(self) -> None:
        within("cooldown_seconds", self.cooldown_seconds, MIN_COOLDOWN_SECONDS, MAX_COOLDOWN_SECONDS)
        within("cooldown_growth", self.cooldown_growth, 1, 10)
        within("max_cooldown_seconds", self.max_cooldown_seconds, self.cooldown_seconds, MAX_COOLDOWN_SECONDS)
        within("forget_seconds", self.forget_seconds, 0, 30 * DAY_SECONDS)
        within("clean_per_step", self.clean_per_step, 1, 1000)
        within("probe_edge_factor", self.probe_edge_factor, 1, 10)
        within("probe_seconds", self.probe_seconds, 1, 3600)
        ascending = all(low < high for low, high in pairwise((0.0, *self.steps)))
        if not (1 <= len(self.steps) <= MAX_STEPS and ascending and self.steps[-1] == 1.0):
            given = ", ".join(f"{step:g}" for step in self.steps[: MAX_STEPS + 1])
            raise ValueError(
                f"steps: must be 1 to {MAX_STEPS} shares that rise from above 0 and end at 1 (given {given or 'none'})"
            )


def within(field: str, value: float, low: float, high: float) -> float:
    """Return ``value``; raise ValueError with the field, its limits and what was given unless low <= value <= high."""
    if not low <= value <= high:
        given = f"{value:.15g}" if isinstance(value, float) else str(value)[:40]
        raise ValueError(f"{field}: must be between {low:.15g} and {high:.15g} (given {given})")
    return value


def cooldown(rules: BreakerRules, trips: int) -> float:
    """Return the seconds of the cool-down of the ``trips``-th trip in a row: c, c g, c g^2, ... up to the bound."""
    try:
        grown = rules.cooldown_seconds * rules.cooldown_growth ** (max(trips, 1) - 1)
    except OverflowError:
        return rules.max_cooldown_seconds
    return min(grown, rules.max_cooldown_seconds)


def settled(breaker: Breaker, now_ns: int) -> Breaker:
    """Return the breaker as time has moved it: cooled down, or with a probe nobody reported on.

    Nothing is written when a cool-down ends: whoever looks sees it, and the next event makes it durable. The version
    stays, since every process comes to the same.
    """
    timed = breaker.state is _S.OPEN or breaker.state is _S.PROBING
    if not timed or breaker.until_ns is None or now_ns < breaker.until_ns:
        return breaker
    return msgspec.structs.replace(
        breaker, state=_S.HALF_OPEN, until_ns=None, holder="", step=0, clean=0, since_ns=breaker.until_ns
    )


def refusal(breaker: Breaker, event: BreakerEvent, now_ns: int, *, holder: str = "") -> str:
    """Return why ``event`` would change nothing, in one sentence; empty when it is legal."""
    by_time = event in {_E.COOLED, _E.PROBE_LAPSED}
    present = breaker if by_time else settled(breaker, now_ns)
    if (present.state, event) not in TRANSITIONS:
        if event is _E.PROBE_CLAIMED and present.state is _S.PROBING:
            return f"{describe(breaker, now_ns)} The probe is {present.holder}'s."
        return f"{describe(breaker, now_ns)} Then {event.value.replace('_', ' ')} changes nothing."
    due = breaker.until_ns is None or now_ns >= breaker.until_ns
    if event is _E.COOLED and not due:
        return f"{describe(breaker, now_ns)} It has not cooled down yet."
    if event is _E.PROBE_LAPSED and not due and holder != breaker.holder:
        return f"{describe(breaker, now_ns)} Only its holder gives a probe back before its time is over."
    if event is _E.PROBE_CLAIMED and not holder.strip():
        return "A probe is claimed by somebody: the holder is empty."
    if event is _E.CLEAN and present.state is _S.PROBING and holder != present.holder:
        return f"{describe(breaker, now_ns)} Only the probe's own result counts, which is {present.holder}'s."
    return ""


def after(
    breaker: Breaker,
    event: BreakerEvent,
    rules: BreakerRules,
    now_ns: int,
    *,
    reason: str = "",
    trigger: str = "",
    seconds: float | None = None,
    holder: str = "",
) -> Breaker:
    """Return the breaker after an event, its version one higher; the very same value if nothing changes.

    Parameters
    ----------
    seconds
        For trips: the cool-down instead of the rules'. For extend: what is added, at the end of the cool-down or, if
        it is over, from now on.
    holder
        Who claims, gives back or reports on a probe.

    Raises
    ------
    ValueError
        If ``seconds`` is not between 1 s and 7 days, or extending would come to more than 7 days from now.
    """
    if seconds is not None:
        within("seconds", seconds, MIN_COOLDOWN_SECONDS, MAX_COOLDOWN_SECONDS)
    if refusal(breaker, event, now_ns, holder=holder):
        return breaker
    present = settled(breaker, now_ns)
    to = TRANSITIONS[breaker.state if event in {_E.COOLED, _E.PROBE_LAPSED} else present.state, event]
    # Operators may have shortened the ramp meanwhile.
    step, clean = min(present.step, len(rules.steps) - 1), present.clean
    if present.state is _S.RAMPING and event is _E.CLEAN:
        clean += 1
        if clean >= rules.clean_per_step:
            step, clean = step + 1, 0
    elif present.state is _S.RAMPING and event is _E.LOSS:
        step, clean = step - 1, 0
    if to is _S.RAMPING and not 0 <= step < len(rules.steps):
        to = OFF_THE_RAMP[event]
    if to is not _S.RAMPING or present.state is not _S.RAMPING:
        step = clean = 0
    moved = (to, step) != (present.state, present.step)
    trips = _trips(present, event, to, rules, now_ns)
    until_ns = _until(present, event, to, rules, now_ns, trips=trips, seconds=seconds)
    why, what = present.reason, present.trigger
    if to is _S.CLOSED:
        why = what = ""
    elif event is _E.EXTEND:
        why = reason or why
    elif to is _S.OPEN and (present.state is not _S.OPEN or until_ns != present.until_ns):
        why, what = reason or event.value.replace("_", " "), trigger or event.value
    changed = msgspec.structs.replace(
        breaker,
        state=to,
        step=step,
        until_ns=until_ns,
        reason=why,
        trigger=what,
        trips=trips,
        clean=clean,
        holder=holder if to is _S.PROBING else "",
        since_ns=now_ns if moved else present.since_ns,
    )
    # A shorter trip of an open breaker is legal and still changes nothing.
    return breaker if changed == breaker else msgspec.structs.replace(changed, version=breaker.version + 1)


def _trips(present: Breaker, event: BreakerEvent, to: BreakerState, rules: BreakerRules, now_ns: int) -> int:
    """Return the trips in a row. An operator's trip is none: it says nothing of how the market repeats itself."""
    before = present.trips
    if present.state is _S.CLOSED and now_ns - present.since_ns >= rules.forget_seconds * SECOND_NS:
        before = 0
    # What trips an open breaker again comes of trades it found open, not of having been tried and failed.
    again = to is _S.OPEN and present.state is not _S.OPEN and event in {_E.TRIP, _E.LOSS}
    return before + again


def _until(
    present: Breaker,
    event: BreakerEvent,
    to: BreakerState,
    rules: BreakerRules,
    now_ns: int,
    *,
    trips: int,
    seconds: float | None,
) -> int | None:
    if to is _S.PROBING:
        return now_ns + _ns(rules.probe_seconds)
    if to is not _S.OPEN:
        return None
    wanted = _ns(cooldown(rules, trips) if seconds is None else seconds)
    if event is _E.EXTEND:
        until_ns = max(present.until_ns or 0, now_ns) + wanted if present.state is _S.OPEN else now_ns + wanted
        if until_ns - now_ns > _ns(MAX_COOLDOWN_SECONDS):
            raise ValueError(
                f"seconds: the cool-down would end in {(until_ns - now_ns) / SECOND_NS:.0f} s, "
                f"at most {MAX_COOLDOWN_SECONDS:.0f} s are allowed (given {wanted / SECOND_NS:g})"
            )
        return until_ns
    # A cool-down that runs is never shortened by another trip.
    return max(now_ns + wanted, (present.until_ns or 0) if present.state is _S.OPEN else 0)


def _ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)


def utc(at_ns: int) -> str:
    """Return an instant as 2026-11-30 04:05:06 UTC."""
    return f"{_EPOCH + timedelta(microseconds=at_ns // 1000):%Y-%m-%d %H:%M:%S} UTC"


def describe(breaker: Breaker, now_ns: int) -> str:
    """Return one sentence that names the breaker, its state, until when and why."""
    present = settled(breaker, now_ns)
    subject = f"The circuit breaker of {present.name} is {present.state.value.replace('_', '-')}"
    if present.until_ns is not None:
        subject += f" until {utc(present.until_ns)}"
    return f"{subject}: {present.reason.rstrip('.')}." if present.reason else f"{subject}."
