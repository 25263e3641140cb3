"""The gate: what several breakers together leave of a trade, and the register of those that are not closed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.breakers import SECOND_NS, Breaker, BreakerRules, BreakerState, Scope
from risk.policy.gate import FREE, Breakers, Leg, keys_of, verdict

S = BreakerState
NOW = 1_796_000_000 * SECOND_NS
RULES = {scope: BreakerRules() for scope in Scope}
LEGS = (Leg(11, "binance", "BTC/USDT"), Leg(12, "okx", "BTC/USDT:USDT"))
KEYS = keys_of(owner_id=1, bot_id=4, legs=LEGS)


def tripped(state: S, key: str = "binance", **more: object) -> Breaker:
    return Breaker(scope=Scope.EXCHANGE, key=key, state=state, reason="Three losses.", **more)  # type: ignore[arg-type]


OPEN = tripped(S.OPEN, until_ns=NOW + SECOND_NS)
RAMPING = tripped(S.RAMPING, "okx", step=1)
PROBING = tripped(S.PROBING, holder="me", until_ns=NOW + SECOND_NS)


def test_a_route_stands_under_each_of_its_breakers_once() -> None:
    assert [f"{scope.value} {key}".strip() for scope, key in KEYS] == [
        "global", "owner 1", "bot 4", "account 11", "exchange binance", "pair BTC/USDT",
        "pair_on_exchange binance:BTC/USDT", "account 12", "exchange okx", "pair_on_exchange okx:BTC/USDT",
    ]  # fmt: skip


def test_nothing_tripped_lets_everything_through() -> None:
    assert Breakers().gate(KEYS, RULES, "me", NOW) is FREE
    assert verdict([tripped(S.CLOSED)], RULES, "me", NOW) is FREE


def test_an_open_breaker_refuses_and_says_until_when() -> None:
    gate = verdict([RAMPING, OPEN], RULES, "me", NOW)
    assert (gate.allowed, gate.factor, gate.until, gate.breaker) == (False, 0.0, NOW + SECOND_NS, OPEN)
    assert gate.reason.startswith("The circuit breaker of exchange binance is open until 2026-11-")


def test_a_cooled_breaker_asks_for_a_claim_although_nobody_has_written_that_down() -> None:
    gate = verdict([OPEN, RAMPING], RULES, "me", NOW + SECOND_NS)
    assert not gate.allowed
    assert [(free.key, free.state) for free in gate.claims] == [("binance", S.HALF_OPEN)]
    assert gate.reason.endswith("Three losses. One trade may claim its probe.")


def test_of_two_free_probes_both_have_to_be_claimed_and_none_while_another_breaker_is_open() -> None:
    free = [tripped(S.HALF_OPEN, "a"), tripped(S.HALF_OPEN, "b")]
    assert [one.key for one in verdict(free, RULES, "me", NOW).claims] == ["a", "b"]
    assert verdict([*free, OPEN], RULES, "me", NOW).claims == ()


def test_a_probe_goes_through_at_the_smallest_size_and_a_stricter_edge_for_its_holder_only() -> None:
    mine = verdict([PROBING], RULES, "me", NOW)
    assert (mine.allowed, mine.probe, mine.factor, mine.edge_factor) == (True, True, 0.25, 1.5)
    other = verdict([PROBING], RULES, "you", NOW)
    assert (other.allowed, other.probe) == (False, False)
    assert other.reason.endswith("The probe is me's.")
    nobody = tripped(S.PROBING, holder="", until_ns=NOW + SECOND_NS)
    assert not verdict([nobody], RULES, "", NOW).allowed


def test_the_smallest_share_of_all_ramps_binds() -> None:
    gate = verdict([RAMPING, tripped(S.RAMPING, step=0), tripped(S.RAMPING, "kraken", step=2)], RULES, "me", NOW)
    assert (gate.allowed, gate.factor, gate.breaker and gate.breaker.key) == (True, 0.25, "binance")
    assert gate.edge_factor == 1.0
    assert not gate.probe


def test_the_last_step_is_the_full_size_and_still_named() -> None:
    gate = verdict([tripped(S.RAMPING, step=2)], RULES, "me", NOW)
    assert gate.allowed
    assert gate.factor == 1.0
    assert "ramping" in gate.reason


def test_a_step_beyond_shortened_rules_is_the_last_one() -> None:
    short = RULES | {Scope.EXCHANGE: BreakerRules(steps=(0.5, 1.0))}
    assert verdict([tripped(S.RAMPING, step=2)], short, "me", NOW).factor == 1.0


@given(
    st.lists(
        st.builds(
            Breaker,
            scope=st.sampled_from(list(Scope)),
            key=st.sampled_from(["a", "b"]),
            state=st.sampled_from(list(S)),
            step=st.integers(0, 5),
            until_ns=st.none() | st.integers(NOW - 5, NOW + 5),
            holder=st.sampled_from(["", "me", "you"]),
        ),
        max_size=6,
    )
)
def test_a_share_is_between_none_and_all_and_nothing_passes_an_open_breaker(breakers: list[Breaker]) -> None:
    gate = verdict(breakers, RULES, "me", NOW)
    assert 0.0 <= gate.factor <= 1.0
    assert gate.edge_factor >= 1.0
    assert gate.allowed == (gate.factor > 0)
    assert gate.allowed or (gate.reason.endswith(".") and gate.breaker is not None)
    for breaker in breakers:
        time_left = breaker.until_ns is None or breaker.until_ns > NOW
        if (breaker.state is S.OPEN and time_left) or breaker.state is S.HALF_OPEN:
            assert not gate.allowed
        if breaker.state is S.PROBING and time_left and breaker.holder != "me":
            assert not gate.allowed
    # The order in which breakers are looked at changes which one is named, never what is allowed.
    backwards = verdict(reversed(breakers), RULES, "me", NOW)
    assert (backwards.allowed, backwards.factor, backwards.probe) == (gate.allowed, gate.factor, gate.probe)
    assert {one.key for one in backwards.claims} == {one.key for one in gate.claims}


# --- the register -------------------------------------------------------------------------------------------------


def test_a_register_holds_what_is_not_closed_and_forgets_the_rest() -> None:
    known = Breakers()
    assert known.put(tripped(S.OPEN, until_ns=NOW + 1, version=1))
    assert not known.gate(KEYS, RULES, "me", NOW).allowed
    assert known.gate(keys_of(owner_id=1, bot_id=4, legs=LEGS[1:]), RULES, "me", NOW) is FREE
    assert known.put(tripped(S.CLOSED, version=2))
    assert (len(known), known.get(Scope.EXCHANGE, "binance")) == (0, None)


def test_old_news_are_not_taken_for_new_ones() -> None:
    known = Breakers()
    known.put(tripped(S.CLOSED, version=2))
    assert not known.put(tripped(S.OPEN, version=1))
    assert not known.put(tripped(S.OPEN, version=2))
    assert len(known) == 0


@pytest.mark.parametrize("opened", ["before", "while"])
def test_a_reading_of_all_does_not_undo_what_came_while_it_was_read(opened: str) -> None:
    known = Breakers()
    if opened == "before":
        known.put(tripped(S.OPEN, version=1))
    mark = known.mark()
    if opened == "while":
        known.put(tripped(S.OPEN, version=1))
    known.sync([tripped(S.OPEN, "okx", version=3)], mark)
    assert (known.get(Scope.EXCHANGE, "binance") is not None) == (opened == "while")
    assert known.get(Scope.EXCHANGE, "okx") is not None
    known.sync([], known.mark())
    assert len(known) == 0
