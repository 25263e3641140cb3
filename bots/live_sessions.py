"""Whether the sessions of open pages still stand, asked for many pages at once.

A question of its own for each page would open a database connection each time: with hundreds of pages that costs more
than everything they are sent.
"""

from __future__ import annotations

import asyncio

from channels.db import database_sync_to_async

from bots import live_snapshot
from bots.live_snapshot import Asked

# Pages that ask within this time are answered together.
GATHER_SECONDS = 0.25


class SessionWatch:
    """One event loop's questions."""

    def __init__(self) -> None:
        self._waiting: dict[Asked, asyncio.Future[bool]] = {}
        self._task: asyncio.Task[None] | None = None

    async def is_valid(self, session_key: str | None, user_id: int) -> bool:
        """Return whether the stored session still signs this user in. Raises what the database raised."""
        asked = (session_key, user_id)
        future = self._waiting.get(asked)
        if future is None:
            future = self._waiting[asked] = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer(), name="live-sessions")
        # One page that leaves takes the answer from no other.
        return await asyncio.shield(future)

    async def _answer(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_SECONDS)
            taken, self._waiting = self._waiting, {}
            try:
                valid = await database_sync_to_async(live_snapshot.sessions_valid)(list(taken))
            except Exception as problem:
                for future in taken.values():
                    future.set_exception(problem)
                    future.exception()  # known, also where the page has left
            else:
                for asked, future in taken.items():
                    future.set_result(asked in valid)


_watches: dict[asyncio.AbstractEventLoop, SessionWatch] = {}


def session_watch() -> SessionWatch:
    """Return the running loop's."""
    loop = asyncio.get_running_loop()
    for known in [known for known in _watches if known.is_closed()]:
        del _watches[known]
    return _watches.setdefault(loop, SessionWatch())
