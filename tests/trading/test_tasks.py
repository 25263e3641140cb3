"""Tasks end when they are told to, also through code that loses a cancellation."""

from __future__ import annotations

import asyncio
import gc

import pytest

from trading.tasks import end_tasks


async def started(coroutine) -> asyncio.Task:
    task = asyncio.create_task(coroutine, name="the stubborn one")
    await asyncio.sleep(0)
    return task


async def deaf(times: int) -> None:
    """Lose the first ``times`` cancellations, as ``asyncio.wait_for`` does now and then before Python 3.12."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if times == 0:
                raise
            times -= 1


async def test_running_tasks_are_ended() -> None:
    tasks = [await started(asyncio.sleep(3600)) for _ in range(3)]
    await end_tasks(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_task_that_lost_its_cancellation_is_cancelled_again() -> None:
    task = await started(deaf(2))
    await end_tasks((task,), again=0.01)
    assert task.cancelled()


async def test_what_has_ended_by_itself_stays_as_it_is() -> None:
    task = await started(asyncio.sleep(0, "result"))
    await task
    await end_tasks((task,))
    assert task.result() == "result"


async def test_clean_up_is_given_time() -> None:
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.02)
            cleaned.append(True)

    await end_tasks((await started(work()),))
    assert cleaned == [True]


async def test_what_ended_tasks_raised_is_dropped_without_a_report(caplog) -> None:
    async def fail() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError("while ending")

    await end_tasks((await started(fail()),))
    gc.collect()
    assert caplog.records == []


async def test_a_task_that_will_not_end_is_named_and_left_behind(caplog) -> None:
    task = await started(deaf(1_000))
    await end_tasks((task,), again=0.01, leave=0.05)
    assert not task.done()
    assert "the stubborn one" in caplog.text
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)


async def test_whoever_waits_for_the_end_can_be_cancelled() -> None:
    task = await started(deaf(1))
    ending = await started(end_tasks((task,), again=3600, leave=3600))
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    task.cancel()
