"""The request budget: orders never wait, questions do, and what the exchange counts is believed."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tests.engine.worlds import VirtualClock
from trading.exchanges.budget import Budget, Window


def budget(clock: VirtualClock) -> Budget:
    return Budget({"weight": Window(limit=100, seconds=10, kept=20)}, clock)


async def test_an_order_is_refused_at_once_and_takes_nothing() -> None:
    clock = VirtualClock()
    its = budget(clock)
    assert its.try_order({"weight": 60}) == 0
    await clock.advance(4)
    assert its.try_order({"weight": 40}) == 0
    wait = its.try_order({"weight": 10})
    assert 6 < wait < 6.2  # until the first is a window old
    await clock.advance(wait)
    assert its.try_order({"weight": 60}) == 0


async def test_a_reserved_order_goes_though_the_budget_is_gone() -> None:
    its = budget(VirtualClock())
    assert its.reserve("a", {"weight": 60}) == 0
    assert its.reserve("a", {"weight": 60}) == 0
    assert its.reserve("b", {"weight": 60}) > 0
    assert its.use("b", {"weight": 60}) > 0
    assert its.use("a", {"weight": 60}) == 0
    assert its.use("a", {"weight": 60}) > 0


async def test_what_is_released_is_anothers() -> None:
    its = budget(VirtualClock())
    its.reserve("a", {"weight": 60})
    its.release("a")
    its.release("a")
    its.release("never reserved")
    assert its.reserve("b", {"weight": 100}) == 0
    assert its.reserve("c", {"weight": 1}) > 0


async def test_a_pause_holds_what_was_reserved_before_it() -> None:
    clock = VirtualClock()
    its = budget(clock)
    its.reserve("a", {"weight": 100})
    its.pause(2)
    assert its.use("a", {"weight": 100}) > 1.9
    await clock.advance(2)
    assert its.use("a", {"weight": 100}) == 0


async def test_a_reservation_ages() -> None:
    clock = VirtualClock()
    its = budget(clock)
    its.reserve("a", {"weight": 100})
    await clock.advance(4)
    assert its.reserve("b", {"weight": 100}) > 0
    await clock.advance(2)
    assert its.reserve("b", {"weight": 100}) == 0
    its.release("a")
    assert its.use("a", {"weight": 100}) > 0
    assert its.use("b", {"weight": 100}) == 0


async def test_questions_leave_room_for_orders() -> None:
    clock = VirtualClock()
    its = budget(clock)
    asking = [asyncio.ensure_future(its.wait_question({"weight": 50})) for _ in range(2)]
    await clock.settle()
    assert [task.done() for task in asking] == [True, False]
    assert its.try_order({"weight": 20}) == 0
    await clock.run_until(asking[1].done)
    assert clock.monotonic_ns() >= 10 * 10**9


async def test_a_pause_holds_everything() -> None:
    clock = VirtualClock()
    its = budget(clock)
    its.pause(5)
    assert its.try_order({"weight": 1}) > 4.9
    await clock.advance(5)
    assert its.try_order({"weight": 1}) == 0


async def test_the_exchanges_own_count_is_believed_when_it_is_higher() -> None:
    its = budget(VirtualClock())
    its.correct("weight", 99)
    assert its.try_order({"weight": 2}) > 0
    assert its.try_order({"weight": 1}) == 0
    its.correct("weight", 10)
    assert its.try_order({"weight": 1}) > 0
    its.correct("not a window", 10)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), max_size=40))
def test_no_window_is_ever_exceeded(requests: list[tuple[float, int]]) -> None:
    async def run() -> None:
        clock = VirtualClock()
        its = budget(clock)
        taken: list[tuple[float, int]] = []
        for pause, cost in requests:
            await clock.advance(pause)
            if its.try_order({"weight": cost}) == 0:
                taken.append((clock.monotonic_ns() / 1e9, cost))
        for start in range(len(taken)):
            within = [cost for at, cost in taken if taken[start][0] <= at < taken[start][0] + 10]
            assert sum(within) <= 100 + 1e-6

    asyncio.run(run())


@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from(["reserve", "use", "release", "order"]), st.integers(0, 4)),
        max_size=80,
    )
)
def test_reserving_never_lets_a_window_be_exceeded_by_what_is_sent(
    steps: list[tuple[float, str, int]],
) -> None:
    async def run() -> None:
        clock = VirtualClock()
        its = budget(clock)
        sent: list[float] = []
        for pause, step, number in steps:
            await clock.advance(pause)
            name, cost = f"order{number}", {"weight": 25.0}
            if step == "reserve":
                its.reserve(name, cost)
            elif step == "release":
                its.release(name)
            elif (its.use(name, cost) if step == "use" else its.try_order(cost)) == 0:
                sent.append(clock.monotonic_ns() / 1e9)
        for at in sent:
            assert sum(25 for other in sent if at <= other < at + 10) <= 100

    asyncio.run(run())
