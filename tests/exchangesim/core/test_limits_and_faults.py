"""Windows, bans, latency figures and the fault registry."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchangesim.core.clock import ManualClock
from exchangesim.core.faults import KINDS, FaultError, FaultRegistry, Stage
from exchangesim.core.latency import Latency
from exchangesim.core.limits import Bans, Window


def test_an_aligned_window_starts_anew_at_its_multiple() -> None:
    clock = ManualClock(start_ms=1_700_000_055_000)  # 15 s into a minute
    window = Window(clock, limit=3, seconds=60)
    assert [window.spend("a").allowed for _ in range(4)] == [True, True, True, False]
    spent = window.spend("a", 0)
    assert (spent.used, spent.limit, spent.retry_after) == (4, 3, 45)
    assert window.spend("b").allowed
    clock.advance(44.9)
    assert not window.spend("a").allowed
    clock.advance(0.2)
    assert window.spend("a").allowed


def test_a_sliding_start_window_begins_with_the_first_request() -> None:
    clock = ManualClock(start_ms=1_700_000_001_500)
    window = Window(clock, limit=1, seconds=2, aligned=False)
    assert window.spend("a").allowed
    clock.advance(1.9)
    assert not window.spend("a").allowed
    clock.advance(0.1)
    assert window.spend("a").allowed


def test_bans_come_after_the_tolerated_refusals_and_grow() -> None:
    clock = ManualClock()
    bans = Bans(clock, tolerated=2, first=120, longest=300)
    lengths = []
    for _ in range(3):
        for _ in range(2):
            bans.refuse("a")
            assert bans.until("a") is None
        bans.refuse("a")
        until = bans.until("a")
        assert until is not None
        lengths.append(until - clock.time_us() / 1e6)
        clock.advance(400)
        assert bans.until("a") is None
    assert lengths == [120, 240, 300]
    bans.refuse("a")
    bans.allow("a")
    bans.refuse("a")
    bans.refuse("a")
    assert bans.until("a") is None, "an allowed request starts the count anew"


def test_latency_refuses_unknown_and_absurd_figures() -> None:
    latency = Latency()
    latency.update(request_ms=20, jitter=0.5)
    assert all(0.010 <= latency.seconds("request") <= 0.030 for _ in range(50))
    assert latency.seconds("market") == 0
    for wrong in ({"reqest_ms": 1.0}, {"request_ms": -1.0}, {"request_ms": float("nan")}, {"request_ms": True}):
        with pytest.raises(ValueError, match=r"\.$"):
            latency.update(**wrong)
    assert latency.figures()["request_ms"] == 20


def strikes(registry: FaultRegistry, count: int, **message: str) -> int:
    defaults = {"exchange": "binance", "operation": "POST /api/v3/order", "symbol": "BTCUSDT", "api_key": "k"}
    return sum(
        registry.strike(Stage.REQUEST, **{**defaults, **message}) is not None
        for _ in range(count)  # type: ignore[arg-type]
    )


def test_a_fault_strikes_only_what_it_names() -> None:
    registry = FaultRegistry()
    registry.add({"kind": "drop_request", "exchange": "binance", "operation": "POST *", "symbol": "BTC*"})
    assert strikes(registry, 2) == 2
    assert strikes(registry, 1, exchange="okx") == 0
    assert strikes(registry, 1, operation="GET /api/v3/order") == 0
    assert strikes(registry, 1, symbol="ETHUSDT") == 0
    assert registry.strike(Stage.RESPONSE, exchange="binance", operation="POST /x", symbol="BTCUSDT") is None


def test_a_fault_skips_and_is_spent() -> None:
    registry = FaultRegistry()
    fault = registry.add({"kind": "drop_request", "skip": 2, "count": 3})
    assert [strikes(registry, 1) for _ in range(7)] == [0, 0, 1, 1, 1, 0, 0]
    assert (fault.hits, fault.describe()["count"]) == (3, 3)


def test_a_probable_fault_repeats_with_its_seed() -> None:
    def draws(seed: int) -> list[int]:
        registry = FaultRegistry(seed)
        registry.add({"kind": "drop_request", "probability": 0.3})
        return [strikes(registry, 1) for _ in range(300)]

    assert draws(1) == draws(1) != draws(2)
    assert 50 < sum(draws(1)) < 130


def test_faults_are_removed_one_by_one_and_all_at_once() -> None:
    registry = FaultRegistry()
    first, _second = (registry.add({"kind": "clock_shift", "parameters": {"ms": ms}}) for ms in (1000, 500))
    assert registry.clock_shift_ms("okx") == 1500
    assert registry.remove(first.id)
    assert not registry.remove(first.id)
    assert registry.clock_shift_ms("okx") == 500
    registry.clear()
    assert len(registry) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"kind": "explode"},
        {"kind": "gap", "stage": "request"},
        {"kind": "gap", "stage": 3},
        {"kind": "gap", "colour": "red"},
        {"kind": "gap", "count": -1},
        {"kind": "gap", "count": True},
        {"kind": "gap", "skip": 1.5},
        {"kind": "gap", "probability": 2},
        {"kind": "gap", "probability": float("nan")},
        {"kind": "gap", "exchange": ""},
        {"kind": "delay_request", "parameters": {"ms": "soon"}},
        {"kind": "delay_request", "parameters": {"hours": 1}},
        {"kind": "delay_request", "parameters": []},
        {"kind": "error", "parameters": {"apply": 1}},
        {"kind": "refuse", "parameters": {"reason": "mood"}},
        {"kind": "overfill", "parameters": {"quantity": "-1"}},
        {"kind": "fee", "parameters": {"price": "cheap"}},
        {"kind": "edit", "parameters": {"set": []}},
        {"kind": "drop_event", "contains": 1},
    ],
)
def test_a_wrong_fault_is_refused_in_one_sentence(wrong: dict[str, object]) -> None:
    registry = FaultRegistry()
    with pytest.raises(FaultError, match=r"\.$"):
        registry.add(wrong)
    assert len(registry) == 0


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(
    st.dictionaries(
        st.sampled_from(["kind", "stage", "count", "skip", "probability", "parameters", "exchange"]),
        json_values | st.sampled_from(list(KINDS)) | st.dictionaries(st.just("ms"), json_values),
    )
)
@settings(deadline=None)
def test_any_description_is_accepted_or_refused_never_half_registered(description: dict[str, object]) -> None:
    registry = FaultRegistry()
    try:
        registry.add(description)
    except FaultError:
        assert len(registry) == 0
    else:
        assert len(registry.describe()) == 1


def test_every_kind_can_be_registered_at_each_of_its_stages() -> None:
    registry = FaultRegistry()
    stages = itertools.chain.from_iterable([(kind, stage) for stage in row[0]] for kind, row in KINDS.items())
    for kind, stage in stages:
        assert registry.add({"kind": kind, "stage": str(stage)}).stage is stage
