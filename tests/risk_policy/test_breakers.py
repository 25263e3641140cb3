"""Circuit breakers against their table, event by event, and against a model of their own written another way."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from risk.policy.breakers import (
    DAY_SECONDS,
    MAX_COOLDOWN_SECONDS,
    OFF_THE_RAMP,
    SECOND_NS,
    TRANSITIONS,
    Breaker,
    BreakerEvent,
    BreakerRules,
    BreakerState,
    Scope,
    after,
    cooldown,
    describe,
    refusal,
    settled,
    utc,
)

S, E = BreakerState, BreakerEvent
NOW = 1_796_000_000 * SECOND_NS
RULES = BreakerRules(cooldown_seconds=100, cooldown_growth=2, max_cooldown_seconds=1000, clean_per_step=2)

# What each event leads to, in the order of BreakerEvent; "." changes nothing. Ramping stands on its first step.
ORDER = "trip operator_trip cooled probe_claimed probe_lapsed clean loss reset extend"
TABLE = """
closed     open open .         .       .         .       .    .      .
open       open open half_open .       .         .       .    closed open
half_open  open open .         probing .         .       open closed open
probing    open open .         .       half_open ramping open closed open
ramping    open open .         .       .         ramping open closed .
"""
CELLS = [
    (state, event, to)
    for state, *cells in (line.split() for line in TABLE.strip().splitlines())
    for event, to in zip(ORDER.split(), cells, strict=True)
]


def at(state: str, **changes: Any) -> Breaker:
    """A breaker in a state, with what belongs to it; an open or probing one is just due."""
    belongs: dict[str, Any] = {
        "closed": {},
        "open": {"until_ns": NOW, "trips": 1, "reason": "Three losses.", "trigger": "consecutive_losses"},
        "half_open": {"trips": 1, "reason": "Three losses.", "trigger": "consecutive_losses"},
        "probing": {"until_ns": NOW, "trips": 1, "holder": "me", "reason": "Three losses.", "trigger": "losses"},
        "ramping": {"trips": 1, "reason": "Three losses.", "trigger": "consecutive_losses"},
    }[state]
    since = {"since_ns": NOW - 50 * SECOND_NS, "version": 7}
    return Breaker(scope=Scope.EXCHANGE, key="binance", state=S(state), **(belongs | since | changes))


def test_the_table_here_names_every_state_and_event() -> None:
    assert ORDER.split() == [event.value for event in BreakerEvent]
    assert len(CELLS) == len(BreakerState) * len(BreakerEvent) == 45


@pytest.mark.parametrize(("state", "event", "to"), CELLS, ids=[f"{s}-{e}" for s, e, _ in CELLS])
def test_every_event_in_every_state(state: str, event: str, to: str) -> None:
    # Before its time is over an open breaker is open; cooled and lapsed come when it is.
    now = NOW if event in {"cooled", "probe_lapsed"} else NOW - 1
    breaker = at(state)
    said = refusal(breaker, E(event), now, holder="me")
    moved = after(breaker, E(event), RULES, now, reason="Because.", trigger="why", seconds=30, holder="me")
    if to == ".":
        assert said.endswith(".")
        assert moved is breaker
        assert (S(state), E(event)) not in TRANSITIONS
        return
    assert said == ""
    assert moved.state is S(to)
    on_the_table = TRANSITIONS[S(state), E(event)]
    assert moved.state in {on_the_table, OFF_THE_RAMP.get(E(event))}
    # An open breaker that has less time by the new trip than it had keeps all it had.
    assert moved.version == 8 or moved is breaker
    assert (moved.holder != "") == (to == "probing")
    assert (moved.until_ns is not None) == (to in {"open", "probing"})
    assert (moved.reason == "") == (to == "closed")


@pytest.mark.parametrize("event", list(BreakerEvent))
def test_time_moves_a_breaker_before_any_other_event_does(event: BreakerEvent) -> None:
    """An open or probing breaker whose time is over takes events as a half-open one does."""
    if event in {E.COOLED, E.PROBE_LAPSED}:
        return
    half_open = at("half_open", since_ns=NOW)
    for state in ("open", "probing"):
        due = at(state)
        assert settled(due, NOW).state is S.HALF_OPEN
        moved = after(due, event, RULES, NOW, seconds=30, holder="other")
        wanted = after(half_open, event, RULES, NOW, seconds=30, holder="other")
        if wanted is half_open:
            assert moved is due
            continue
        assert (moved.state, moved.until_ns, moved.trips) == (wanted.state, wanted.until_ns, wanted.trips)
        assert (moved.holder, moved.since_ns) == (wanted.holder, NOW)


def test_the_way_back_is_a_probe_and_three_steps() -> None:
    breaker = after(Breaker(scope=Scope.GLOBAL), E.TRIP, RULES, NOW, reason="Lost.", trigger="window_loss")
    assert (breaker.until_ns, breaker.trips) == (NOW + 100 * SECOND_NS, 1)
    now = NOW + 100 * SECOND_NS
    breaker = after(breaker, E.PROBE_CLAIMED, RULES, now, holder="t1")
    assert (breaker.state, breaker.holder, breaker.until_ns) == (S.PROBING, "t1", now + 60 * SECOND_NS)
    breaker = after(breaker, E.CLEAN, RULES, now, holder="t1")
    seen = [(breaker.state, breaker.step, breaker.clean)]
    for _ in range(6):
        breaker = after(breaker, E.CLEAN, RULES, now)
        seen.append((breaker.state, breaker.step, breaker.clean))
    assert seen == [
        (S.RAMPING, 0, 0), (S.RAMPING, 0, 1), (S.RAMPING, 1, 0), (S.RAMPING, 1, 1), (S.RAMPING, 2, 0),
        (S.RAMPING, 2, 1), (S.CLOSED, 0, 0),
    ]  # fmt: skip


def test_a_loss_on_the_ramp_drops_a_step_and_from_the_first_opens() -> None:
    breaker = at("ramping", step=2, clean=1)
    breaker = after(breaker, E.LOSS, RULES, NOW)
    assert (breaker.state, breaker.step, breaker.clean, breaker.trips) == (S.RAMPING, 1, 0, 1)
    breaker = after(after(breaker, E.LOSS, RULES, NOW), E.LOSS, RULES, NOW, reason="Lost again.", trigger="probe")
    assert (breaker.state, breaker.trips, breaker.reason) == (S.OPEN, 2, "Lost again.")
    assert breaker.until_ns == NOW + 200 * SECOND_NS


def test_a_ramp_that_was_shortened_meanwhile_goes_on_from_its_last_step() -> None:
    short = msgspec.structs.replace(RULES, steps=(0.5, 1.0))
    beyond = at("ramping", step=4)
    assert (after(beyond, E.LOSS, short, NOW).state, after(beyond, E.LOSS, short, NOW).step) == (S.RAMPING, 0)
    assert after(after(beyond, E.CLEAN, short, NOW), E.CLEAN, short, NOW).state is S.CLOSED
    assert after(beyond, E.CLEAN, short, NOW).step == 1


def test_only_the_probes_own_clean_result_counts() -> None:
    probing = at("probing", until_ns=NOW + SECOND_NS)
    assert after(probing, E.CLEAN, RULES, NOW, holder="other") is probing
    assert "me's" in refusal(probing, E.CLEAN, NOW, holder="other")
    assert after(probing, E.LOSS, RULES, NOW, holder="other").state is S.OPEN, "any loss opens"


def test_a_holder_may_give_its_probe_back_and_nobody_else_may() -> None:
    probing = at("probing", until_ns=NOW + SECOND_NS)
    assert after(probing, E.PROBE_LAPSED, RULES, NOW, holder="other") is probing
    assert after(probing, E.PROBE_LAPSED, RULES, NOW, holder="me").state is S.HALF_OPEN


def test_a_breaker_is_half_open_since_its_time_was_over_whenever_that_is_written_down() -> None:
    late = NOW + 9 * SECOND_NS
    for state, event in (("open", E.COOLED), ("probing", E.PROBE_LAPSED)):
        written = after(at(state), event, RULES, late)
        assert (written.state, written.since_ns) == (S.HALF_OPEN, NOW)
        assert written == msgspec.structs.replace(settled(at(state), late), version=8)


def test_a_late_loss_of_a_lapsed_probe_opens_again() -> None:
    assert after(at("probing"), E.LOSS, RULES, NOW, holder="me").trips == 2


def test_a_breaker_that_cools_down_is_not_shortened_nor_grown_by_more_trips() -> None:
    opened = at("open", until_ns=NOW + 500 * SECOND_NS)
    assert after(opened, E.TRIP, RULES, NOW, reason="Another.", trigger="rejects") is opened
    longer = after(opened, E.OPERATOR_TRIP, RULES, NOW, reason="By hand.", trigger="operator", seconds=900)
    assert (longer.until_ns, longer.trips, longer.reason) == (NOW + 900 * SECOND_NS, 1, "By hand.")
    assert longer.since_ns == opened.since_ns


def test_closed_long_enough_a_breaker_forgets_its_trips() -> None:
    day = int(DAY_SECONDS) * SECOND_NS
    soon = at("closed", trips=5, since_ns=NOW - day + 1)
    late = at("closed", trips=5, since_ns=NOW - day)
    assert after(soon, E.TRIP, RULES, NOW).trips == 6
    assert after(late, E.TRIP, RULES, NOW).trips == 1
    assert after(late, E.OPERATOR_TRIP, RULES, NOW).trips == 0


def test_extending_counts_from_the_end_of_the_cool_down_or_from_now() -> None:
    running = at("open", until_ns=NOW + 100 * SECOND_NS)
    assert after(running, E.EXTEND, RULES, NOW, seconds=50).until_ns == NOW + 150 * SECOND_NS
    assert after(at("open"), E.EXTEND, RULES, NOW, seconds=50).until_ns == NOW + 50 * SECOND_NS
    assert after(running, E.EXTEND, RULES, NOW, seconds=50, reason="Wait.").reason == "Wait."


def test_a_cool_down_ends_within_seven_days() -> None:
    running = at("open", until_ns=NOW + 100 * SECOND_NS)
    with pytest.raises(ValueError, match=r"end in 604900 s, at most 604800 s are allowed \(given 604800\)"):
        after(running, E.EXTEND, RULES, NOW, seconds=MAX_COOLDOWN_SECONDS)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0, 0.99, 315_360_000.0, 10**400])
@pytest.mark.parametrize("event", [E.TRIP, E.OPERATOR_TRIP, E.EXTEND])
def test_seconds_that_are_no_cool_down_are_refused(event: BreakerEvent, seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds: must be between 1 and 604800"):
        after(at("open"), event, RULES, NOW, seconds=seconds)


@pytest.mark.parametrize(
    "bad",
    [
        {"cooldown_seconds": 0.5}, {"cooldown_seconds": float("nan")}, {"cooldown_growth": 0.9},
        {"cooldown_growth": float("inf")}, {"cooldown_seconds": 500.0, "max_cooldown_seconds": 499.0},
        {"max_cooldown_seconds": 315_360_000.0}, {"forget_seconds": -1.0}, {"clean_per_step": 0},
        {"clean_per_step": 10**400}, {"probe_edge_factor": 0.99}, {"probe_seconds": 0.0}, {"steps": ()},
        {"steps": (0.5,)}, {"steps": (0.5, 0.25, 1.0)}, {"steps": (0.0, 1.0)}, {"steps": (0.5, float("nan"), 1.0)},
        {"steps": (0.5, 1.0, 1.5)}, {"steps": (*(n / 20 for n in range(1, 11)), 1.0)},
    ],
    ids=str,
)  # fmt: skip
def test_rules_that_cannot_be_are_refused_by_field(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{list(bad)[-1]}: must be .*given"):
        BreakerRules(**bad)


@given(
    base=st.floats(1, 1000),
    growth=st.floats(1, 10),
    most=st.floats(1000, MAX_COOLDOWN_SECONDS),
    trips=st.integers(0, 10_000),
)
def test_cool_downs_never_shrink_and_are_bounded(base: float, growth: float, most: float, trips: int) -> None:
    rules = BreakerRules(cooldown_seconds=base, cooldown_growth=growth, max_cooldown_seconds=most)
    assert base <= cooldown(rules, trips) <= cooldown(rules, trips + 1) <= most


def test_the_sentence_names_the_breaker_until_when_and_why() -> None:
    assert describe(at("open", until_ns=NOW + SECOND_NS), NOW) == (
        f"The circuit breaker of exchange binance is open until {utc(NOW + SECOND_NS)}: Three losses."
    )
    assert describe(Breaker(scope=Scope.GLOBAL), NOW) == "The circuit breaker of everything is closed."
    assert utc(0) == "1970-01-01 00:00:00 UTC"


# --- against a model --------------------------------------------------------------------------------------------

HOLDERS = ("anna", "ben")


class AgainstAModel(RuleBasedStateMachine):
    """The same events to the policy and to a model that knows words and seconds, and neither table nor steps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0  # seconds since NOW
        self.breaker = Breaker(scope=Scope.BOT, key="4", since_ns=NOW)
        self.mode = "closed"  # closed, open, half_open, probing, or a share
        self.end: int | None = None
        self.closed_at = 0
        self.trips = self.streak = 0
        self.who = ""

    @property
    def now_ns(self) -> int:
        return NOW + self.now * SECOND_NS

    def send(self, event: BreakerEvent, **more: Any) -> None:
        before = self.breaker
        self.breaker = after(before, event, RULES, self.now_ns, **more)
        # What comes back from a restart is what was there.
        self.breaker = msgspec.json.decode(msgspec.json.encode(self.breaker), type=Breaker)
        assert self.breaker.version - before.version in {0, 1}
        assert (self.breaker == before) == (self.breaker.version == before.version)
        if event not in {E.COOLED, E.PROBE_LAPSED}:
            assert bool(refusal(before, event, self.now_ns, holder=more.get("holder", ""))) <= (self.breaker == before)

    def opens(self, seconds: int) -> None:
        self.mode, self.end, self.who, self.streak = "open", self.now + seconds, "", 0

    def fails(self) -> None:
        self.trips += 1
        self.opens(min(100 * 2 ** (self.trips - 1), 1000))

    @rule(seconds=st.sampled_from([0, 1, 30, 59, 60, 100, 400, 1000, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        if self.mode in {"open", "probing"} and self.end is not None and self.now >= self.end:
            self.mode, self.end, self.who = "half_open", None, ""

    @rule()
    def something_trips(self) -> None:
        self.send(E.TRIP, reason="It tripped.", trigger="rejects")
        if self.mode == "open":
            assert self.end is not None
            self.end = max(self.end, self.now + min(100 * 2 ** (max(self.trips, 1) - 1), 1000))
            return
        if self.mode == "closed" and self.now - self.closed_at >= 86_400:
            self.trips = 0
        self.fails()

    @rule(seconds=st.sampled_from([1, 77, 3000]))
    def an_operator_trips(self, seconds: int) -> None:
        self.send(E.OPERATOR_TRIP, reason="By hand.", trigger="operator", seconds=seconds)
        if self.mode == "open":
            assert self.end is not None
            self.end = max(self.end, self.now + seconds)
            return
        if self.mode == "closed" and self.now - self.closed_at >= 86_400:
            self.trips = 0
        self.opens(seconds)

    @rule(holder=st.sampled_from(HOLDERS))
    def somebody_claims_the_probe(self, holder: str) -> None:
        self.send(E.PROBE_CLAIMED, holder=holder)
        if self.mode == "half_open":
            self.mode, self.who, self.end = "probing", holder, self.now + 60

    @rule(holder=st.sampled_from(HOLDERS))
    def a_probe_is_given_back(self, holder: str) -> None:
        self.send(E.PROBE_LAPSED, holder=holder)
        if self.mode == "probing" and self.who == holder:
            self.mode, self.who, self.end = "half_open", "", None

    @rule()
    def a_clock_tick_is_written_down(self) -> None:
        self.send(E.COOLED)

    @rule(holder=st.sampled_from(HOLDERS))
    def a_trade_is_clean(self, holder: str) -> None:
        self.send(E.CLEAN, holder=holder)
        if self.mode == "probing" and holder == self.who:
            self.mode, self.who, self.end, self.streak = "25", "", None, 0
        elif self.mode in {"25", "50", "100"}:
            self.streak += 1
            if self.streak == 2:
                self.mode, self.streak = {"25": "50", "50": "100", "100": "closed"}[self.mode], 0
                self.closed_at = self.now

    @rule(holder=st.sampled_from(HOLDERS))
    def a_trade_loses(self, holder: str) -> None:
        self.send(E.LOSS, holder=holder)
        if self.mode in {"half_open", "probing", "25"}:
            self.fails()
        elif self.mode in {"50", "100"}:
            self.mode, self.streak = {"50": "25", "100": "50"}[self.mode], 0

    @precondition(lambda self: self.mode != "closed")
    @rule()
    def an_operator_resets(self) -> None:
        self.send(E.RESET, reason="Looked at it.")
        self.mode, self.end, self.who, self.streak, self.closed_at = "closed", None, "", 0, self.now

    @rule(seconds=st.sampled_from([1, 600]))
    def an_operator_extends(self, seconds: int) -> None:
        if self.mode == "open" and self.end is not None and self.end + seconds - self.now > MAX_COOLDOWN_SECONDS:
            return
        self.send(E.EXTEND, reason="Not yet.", seconds=seconds)
        if self.mode == "open":
            assert self.end is not None
            self.end += seconds
        elif self.mode in {"half_open", "probing"}:
            self.opens(seconds)

    @invariant()
    def they_agree(self) -> None:
        seen = settled(self.breaker, self.now_ns)
        mode = ("25", "50", "100")[seen.step] if seen.state is S.RAMPING else seen.state.value
        assert mode == self.mode
        assert seen.until_ns == (None if self.end is None else NOW + self.end * SECOND_NS)
        assert (seen.trips, seen.holder, seen.clean) == (self.trips, self.who, self.streak)
        assert (seen.reason != "") == (self.mode != "closed")


TestAgainstAModel = AgainstAModel.TestCase
