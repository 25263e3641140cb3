"""An account's private stream: subscribe, sweep what was missed, report live; on loss start over, with backoff.

ccxt.pro keeps the socket, the login and the subscriptions. Its caches are not used where we read the messages
ourselves: a cache wakes its waiter once for several updates, and forgets what came while nobody waited.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from trading.exchanges.generic.dialect import Acknowledged, Dialect, News, StreamEnded
from trading.exchanges.generic.scrub import Scrubber
from trading.exchanges.retries import Backoff, Jitter
from trading.execution.waiting import first_of
from trading.ports import Clock
from trading.tasks import end_tasks

SUBSCRIBE_SECONDS = 15.0
UNCONFIRMED_SECONDS = 3.0  # where an exchange confirms nothing, subscriptions count as made after so long
FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 30.0


class PrivateStream:
    """Runs until cancelled. ``on_state`` gets ``live``, ``down`` or ``failed`` with the reason."""

    def __init__(
        self,
        client: Any,
        dialect: Dialect,
        clock: Clock,
        *,
        on_items: Callable[[Iterable[News]], None],
        sweep: Callable[[int], Awaitable[None]],
        on_state: Callable[[str, str], None],
        scrub: Scrubber,
        jitter: Jitter,
    ) -> None:
        self._client = client
        self._dialect = dialect
        self._clock = clock
        self._on_items = on_items
        self._sweep = sweep
        self._on_state = on_state
        self._scrub = scrub
        self._jitter = jitter
        self._confirmed: set[str] = set()
        self._all_confirmed = asyncio.Event()
        self._ended = asyncio.Event()
        self._end_reason = ""
        self._good_ms = 0  # the last moment the stream was known to miss nothing
        self._live = False
        self.bad_messages = 0
        self.reconnects = 0
        client.on_stream = self._tap

    def good_until(self, at_ms: int) -> None:
        """Take for granted that nothing was missed up to a moment (Unix milliseconds): the first sweep begins there."""
        self._good_ms = at_ms

    async def run(self) -> None:
        """Keep the stream up until cancelled."""
        backoff = Backoff(FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, self._jitter)
        self._good_ms = self._good_ms or self._now_ms()
        while True:
            was_live = False
            try:
                was_live = await self._session()
                reason, state = self._end_reason or "the connection was lost", "down"
            except Exception as error:
                reason = self._scrub.error(error)
                state = "failed" if type(error).__name__ in {"AuthenticationError", "PermissionDenied"} else "down"
            self._on_state(state, reason)
            await self._close_sockets()
            if was_live:
                backoff.reset()
            await self._clock.sleep(backoff.next())
            self.reconnects += 1

    def renew(self, reason: str) -> None:
        """End the session, to subscribe and sweep anew."""
        self._end_reason = reason
        self._ended.set()

    async def _session(self) -> bool:
        """Subscribe, sweep, report live, and return True when the stream is lost; raise if it never came to life."""
        self._confirmed.clear()
        self._all_confirmed.clear()
        self._ended.clear()
        self._end_reason = ""
        losses: list[asyncio.Task[None]] = [
            asyncio.get_running_loop().create_task(self._hold(watch)) for watch in self._dialect.watches(self._client)
        ]
        losses.append(asyncio.get_running_loop().create_task(self._end()))
        try:
            await self._subscribed(losses)
            subscribed_ms = self._now_ms()
            sweep = asyncio.ensure_future(self._sweep(self._good_ms))
            await asyncio.wait([sweep, *losses], return_when=asyncio.FIRST_COMPLETED)
            if not sweep.done():
                sweep.cancel()
                _raise_first(losses)
            await sweep
            _raise_first(losses)
            self._good_ms = subscribed_ms
            self._live = True
            self._on_state("live", "")
            await asyncio.wait(losses, return_when=asyncio.FIRST_COMPLETED)
            self._end_reason = self._end_reason or self._reason_of(losses)
            return True
        finally:
            self._live = False
            await end_tasks(losses)

    async def _subscribed(self, losses: list[asyncio.Task[None]]) -> None:
        if self._dialect.channels:
            await first_of(
                self._all_confirmed.wait(),
                self._clock.sleep(SUBSCRIBE_SECONDS),
                asyncio.wait(losses, return_when=asyncio.FIRST_COMPLETED),
            )
            _raise_first(losses)
            if not self._all_confirmed.is_set():
                missing = ", ".join(sorted(self._dialect.channels - self._confirmed))
                raise TimeoutError(f"subscriptions not confirmed within {SUBSCRIBE_SECONDS:.0f} s: {missing}")
        else:
            await first_of(
                self._clock.sleep(UNCONFIRMED_SECONDS), asyncio.wait(losses, return_when=asyncio.FIRST_COMPLETED)
            )
            _raise_first(losses)

    async def _hold(self, watch: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Keep one subscription; raises when its socket is lost. What it returns is news for generic exchanges."""
        while True:
            self._unified(await watch())

    async def _end(self) -> None:
        await self._ended.wait()

    def _unified(self, news: Any) -> None:
        """Report ccxt's unified structures: orders and trades come as lists, balances as a mapping."""
        if isinstance(news, list):
            events = []
            for entry in news:
                if "takerOrMaker" in entry and "order" in entry:
                    event = self._dialect.trade_event(entry)
                else:
                    event = self._dialect.unified_event(entry, "stream")
                if event is not None:
                    events.append(event)
            self._report(events)
        elif isinstance(news, dict) and "free" in news:
            self._report(self._dialect.unified_balances(news))

    def _tap(self, message: object) -> bool:
        """Read a raw message before ccxt; return whether it is dealt with."""
        try:
            items = self._dialect.read_stream(message)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            # What it said is lost to us: the only safe reading is that something was missed.
            self.bad_messages += 1
            self.renew(f"a message of the private stream can't be read ({type(error).__name__})")
            return True
        if items is None:
            return False
        passed_on = False
        news: list[News] = []
        for item in items:
            if isinstance(item, Acknowledged):
                passed_on = True
                self._confirmed.add(item.channel)
                if self._confirmed >= self._dialect.channels:
                    self._all_confirmed.set()
            elif isinstance(item, StreamEnded):
                passed_on = True
                self.renew(item.reason)
            else:
                news.append(item)
        if news:
            self._report(news)
        return not passed_on

    def _report(self, news: Iterable[News]) -> None:
        if self._live:  # before that there is a gap to sweep, which news of the present don't close
            self._good_ms = self._now_ms()
        self._on_items(news)

    def _now_ms(self) -> int:
        return self._clock.time_ns() // 1_000_000

    def _reason_of(self, losses: Iterable[asyncio.Task[None]]) -> str:
        for task in losses:
            if task.done() and not task.cancelled() and task.exception() is not None:
                return self._scrub.error(task.exception())
        return ""

    async def _close_sockets(self) -> None:
        """Close what is left, so that the next session logs in and subscribes anew."""
        for url, socket in list(self._client.clients.items()):
            self._client.clients.pop(url, None)
            with contextlib.suppress(Exception):
                await socket.close()


def _raise_first(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled():
            error = task.exception()
            raise error if error is not None else ConnectionError("the private stream ended")
