"""What a private stream asks a sweep for: everything since it last was known to miss nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from tests.engine.worlds import START_NS, VirtualClock
from trading.exchanges.generic.dialect import Acknowledged, Dialect, Figures, Names, StreamEnded, StreamItem
from trading.exchanges.generic.scrub import Scrubber
from trading.exchanges.generic.stream import PrivateStream
from trading.messages import OrderEvent

START_MS = START_NS // 10**6
PUSHED = Figures("USDT", Decimal(1), Decimal(0))


class Hand(Dialect):
    """A stream whose messages are the items themselves."""

    channels = frozenset({"orders"})

    def watches(self, client: Any) -> Sequence[Callable[[], Coroutine[Any, Any, Any]]]:
        async def watch() -> None:
            await asyncio.get_running_loop().create_future()

        return [watch]

    def read_stream(self, message: Any) -> list[StreamItem] | None:
        return [message]


class Stream:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.client = SimpleNamespace(clients={}, on_stream=None)
        self.swept: list[int] = []
        self.sweep_fails = False
        self.states: list[str] = []
        stream = PrivateStream(
            self.client,
            Hand(Names(1)),
            self.clock,
            on_items=self._take,
            sweep=self._sweep,
            on_state=lambda state, reason: self.states.append(state),
            scrub=Scrubber(),
            jitter=lambda: 1.0,
        )
        self.task = asyncio.ensure_future(stream.run())

    def _take(self, items: Iterable[OrderEvent | Figures]) -> None:
        """The stream's own bookkeeping is what is looked at."""

    async def _sweep(self, since_ms: int) -> None:
        self.swept.append(since_ms - START_MS)
        if self.sweep_fails:
            raise ConnectionError("no answer")

    async def say(self, item: StreamItem) -> None:
        self.client.on_stream(item)
        await self.clock.settle()


async def test_what_is_pushed_at_subscribing_does_not_hide_the_gap_before_it() -> None:
    stream = Stream()
    await stream.clock.settle()
    await stream.say(Acknowledged("orders"))
    await stream.clock.advance(100)
    await stream.say(PUSHED)
    await stream.say(StreamEnded("cut"))
    await stream.clock.advance(1)
    # OKX pushes the account as soon as its channel is subscribed to.
    await stream.say(PUSHED)
    await stream.say(Acknowledged("orders"))
    assert stream.states == ["live", "down", "live"]
    assert stream.swept == [0, 100_000]
    stream.task.cancel()


async def test_a_sweep_that_fails_is_made_up_for_by_the_next() -> None:
    stream = Stream()
    await stream.clock.settle()
    await stream.say(Acknowledged("orders"))
    await stream.say(StreamEnded("cut"))
    await stream.clock.advance(1)
    stream.sweep_fails = True
    await stream.say(Acknowledged("orders"))
    await stream.say(PUSHED)
    stream.sweep_fails = False
    await stream.clock.advance(1)
    await stream.say(PUSHED)
    await stream.say(Acknowledged("orders"))
    assert stream.states[-1] == "live"
    assert stream.swept == [0, 0, 0]
    stream.task.cancel()
