"""Ending asyncio tasks, also those that a library keeps from noticing that they were cancelled; failing later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, NoReturn

logger = logging.getLogger(__name__)

# How long a cancelled task may clean up before it is cancelled once more, and before it is left behind.
AGAIN_SECONDS = 2.0
LEAVE_SECONDS = 10.0


async def end_tasks(
    tasks: Iterable[asyncio.Future[Any]], *, again: float = AGAIN_SECONDS, leave: float = LEAVE_SECONDS
) -> None:
    """Cancel ``tasks`` and return when they have ended; what they returned or raised is dropped.

    One cancellation is not enough: until Python 3.12 ``asyncio.wait_for`` loses one that arrives just as its awaitable
    is done (redis-py writes to its socket that way), and the task goes on as if nothing had been said. So it is
    cancelled again every ``again`` seconds. One that is still there after ``leave`` seconds is left behind with a
    warning: whoever ends has more to do than to wait for it.
    """
    ending = set(tasks)
    waiting = {task for task in ending if not task.done()}
    loop = asyncio.get_running_loop()
    leave_at = loop.time() + leave
    while waiting:
        for task in waiting:
            task.cancel()
        left = leave_at - loop.time()
        if left <= 0:
            logger.warning("left behind, not ended %.0f s after being cancelled: %s", leave, _names(waiting))
            break
        _, waiting = await asyncio.wait(waiting, timeout=min(again, left))
    for task in ending - waiting:
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not report it as forgotten


async def failing(error: BaseException) -> NoReturn:
    """Raise what a call that only begins something has met, where its end is awaited."""
    raise error


def _names(tasks: Iterable[asyncio.Future[Any]]) -> str:
    return ", ".join(sorted(task.get_name() if isinstance(task, asyncio.Task) else repr(task) for task in tasks))
