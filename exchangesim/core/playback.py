"""Playing a recording as an exchange's market, with users' orders matched against it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from exchangesim.core.exchange import SimExchange
from exchangesim.core.orders import ZERO, Side
from exchangesim.core.recordings import (
    Levels,
    Played,
    PlayedBook,
    PlayedTrade,
    Reader,
    RecordingError,
    unified_symbol,
)
from exchangesim.core.rules import SymbolRules, native_name

__all__ = ["Player", "Recording", "RecordingError", "open_recording"]

MAX_WAIT_FOR_SNAPSHOT = 100_000  # changes kept per market until its snapshot comes


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that can be played, and what was seen in it."""

    path: Path
    exchange: str
    prices: dict[str, Decimal]
    """First price of each market, by unified symbol."""
    steps: dict[str, tuple[Decimal, Decimal]]
    """Smallest price and quantity steps seen, by unified symbol."""

    def adapt(self, rules: SymbolRules) -> SymbolRules:
        """Return the market's rules with tick and lot fine enough for what was recorded."""
        if rules.symbol not in self.steps:
            return rules
        tick, lot = self.steps[rules.symbol]
        least = min(rules.min_quantity, lot) if lot < rules.lot else rules.min_quantity
        return replace(rules, tick=min(rules.tick, tick), lot=min(rules.lot, lot), min_quantity=least)

    def events(self) -> Iterator[Played]:
        """Yield the books and trades, books chained: changes older than their snapshot are left out."""
        return chain(iter(Reader(self.path, self.exchange)))


def open_recording(path: Path, exchange: str) -> Recording:
    """Read a recording through once. Raises RecordingError when there is no spot book of ``exchange`` in it."""
    prices: dict[str, Decimal] = {}
    places: dict[str, tuple[int, int]] = {}
    reader = Reader(path, exchange)
    for event in reader:
        symbol = unified_symbol(event.native)
        if symbol is None or native_name(exchange, symbol) != event.native or not isinstance(event, PlayedBook):
            continue
        tick, lot = places.get(symbol, (0, 0))
        for price, size in (*event.bids[:20], *event.asks[:20]):
            tick, lot = min(tick, _exponent(price)), min(lot, _exponent(size))
        places[symbol] = (tick, lot)
        if symbol not in prices and event.whole and event.bids and event.asks:
            prices[symbol] = (event.bids[0][0] + event.asks[0][0]) / 2
    if not prices:
        raise RecordingError(
            f"{path} holds no whole spot book of {exchange} ({reader.bad} messages could not be read), "
            "so it cannot be played."
        )
    one = Decimal(1)
    steps = {symbol: (one.scaleb(tick), one.scaleb(lot)) for symbol, (tick, lot) in places.items() if symbol in prices}
    return Recording(path, exchange, prices, steps)


def chain(events: Iterator[Played]) -> Iterator[Played]:
    """Leave out book changes that a snapshot already holds, and hold back those that come before their snapshot."""
    waiting: dict[str, list[PlayedBook]] = {}
    last_ids: dict[str, int | None] = {}
    for event in events:
        if isinstance(event, PlayedTrade):
            if event.native in last_ids:
                yield event
        elif event.whole:
            yield event
            last_ids[event.native] = event.last_id
            for held in waiting.pop(event.native, ()):
                if _newer(held.last_id, event.last_id):
                    last_ids[event.native] = held.last_id
                    yield held
        elif event.native not in last_ids:
            held_back = waiting.setdefault(event.native, [])
            if len(held_back) < MAX_WAIT_FOR_SNAPSHOT:
                held_back.append(event)
        elif _newer(event.last_id, last_ids[event.native]):
            last_ids[event.native] = event.last_id
            yield event


class Player:
    """Plays one recording into one exchange.

    What users take stays taken: a later, larger figure for the same level is reduced by it, until the recording's level
    goes away.
    """

    def __init__(self, exchange: SimExchange, recording: Recording, *, speed: float = 1.0, loop: bool = True) -> None:
        self.exchange, self.recording = exchange, recording
        self.speed, self.loop = speed, loop
        self.played = 0
        self.rounds = 0
        self._shown: dict[tuple[str, Side], dict[Decimal, Decimal]] = {}
        self._events: Iterator[Played] = iter(())
        self._next: Played | None = None

    def prepare(self) -> None:
        """Apply the recording up to every market's first whole book, so that a client finds books at once."""
        self._events = self.recording.events()
        wanted = {native_name(self.exchange.name, symbol) for symbol in self.recording.prices}
        while wanted:
            event = next(self._events, None)
            if event is None:
                return
            self.apply(event)
            if isinstance(event, PlayedBook) and event.whole:
                wanted.discard(event.native)

    async def run(self) -> None:
        """Play on in (accelerated) real time; at the end start over, or leave the last book standing."""
        while True:
            await self._play_through()
            self.rounds += 1
            if not self.loop:
                return
            await asyncio.sleep(0)
            self.prepare()

    async def _play_through(self) -> None:
        loop = asyncio.get_running_loop()
        start, first = loop.time(), None
        for event in self._events:
            if first is None:
                first = event.time_ns
            due = start + (event.time_ns - first) / 1e9 / self.speed
            wait = due - loop.time()
            # Events of one instant go together; a player that is behind still lets others run.
            if wait > 0.0005 or self.played % 200 == 199:
                await asyncio.sleep(max(0.0, wait))
            self.apply(event)

    def play_all(self) -> None:
        """Apply the rest of the recording at once, without waiting."""
        for event in self._events:
            self.apply(event)

    def apply(self, event: Played) -> None:
        """Let one recorded event happen."""
        if event.native not in self.exchange.markets:
            return
        self.played += 1
        if isinstance(event, PlayedTrade):
            self.exchange.played_trade(event.native, event.price, event.quantity, event.taker_side)
            return
        bids = self._left(event, Side.BUY, event.bids)
        asks = self._left(event, Side.SELL, event.asks)
        self.exchange.apply_levels(event.native, bids, asks, replace=event.whole)

    def _left(self, event: PlayedBook, side: Side, levels: Levels) -> Levels:
        """Return the recorded levels less what users took of them."""
        shown = self._shown.setdefault((event.native, side), {})
        book = self.exchange.markets[event.native].book.side(side)
        if event.whole:
            shown.clear()
        left: Levels = []
        for price, size in levels:
            taken = ZERO
            before = shown.get(price)
            if before is not None:
                level = book.levels.get(price)
                taken = before - (ZERO if level is None else level.market)
            if size:
                # Remember the recording's figure and what is missing from it, as one number: what stands is
                # ``size - taken``, and next time ``before - standing`` is ``taken`` again.
                shown[price] = size
            else:
                shown.pop(price, None)
            left.append((price, max(ZERO, size - max(ZERO, taken)) if size else ZERO))
        return left


def _newer(new: int | None, old: int | None) -> bool:
    return new is None or old is None or new > old


def _exponent(value: Decimal) -> int:
    return min(0, int(value.normalize().as_tuple().exponent)) if value else 0
