"""What pages are told of the market data of this process: quotes and the state of each exchange's feed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from trading.marketdata.hub import MarketHub, MarketState
from trading.ports import Clock, Publisher

# Unchanged values are repeated, so that a page's server that has just begun to listen knows them all.
REPEAT_SECONDS = 1.0
# The worst state of an exchange's markets is the exchange's.
WORST_FIRST = ("down", "stale", "connecting", "live")


class MarketReporter:
    """Publishes quotes that changed, and every second all of them and the feeds' figures."""

    interval_seconds = 0.1

    def __init__(self, hub: MarketHub, publisher: Publisher, clock: Clock) -> None:
        self._hub, self._publisher, self._clock = hub, publisher, clock
        self._shown: dict[str, tuple[object, ...]] = {}
        self._repeated_ns = 0
        self._messages: dict[str, tuple[float, int]] = {}  # by exchange: messages counted, when

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            self.report()
            await self._clock.sleep(self.interval_seconds)

    def report(self) -> None:
        now = self._clock.monotonic_ns()
        everything = now - self._repeated_ns >= REPEAT_SECONDS * 1e9
        by_exchange: defaultdict[str, list[MarketState]] = defaultdict(list)
        for state in self._hub.states():
            by_exchange[state.market.exchange].append(state)
            shown = (state.bid, state.bid_size, state.ask, state.ask_size, state.status, state.reason)
            if everything or self._shown.get(state.key) != shown:
                self._shown[state.key] = shown
                self._publisher.publish(None, "quote", state.key, quote(state))
        if not everything:
            return
        self._repeated_ns = now
        for exchange, states in by_exchange.items():
            self._publisher.publish(None, "feed", exchange, self._feed(exchange, states, now))
        for key in self._shown.keys() - {state.key for states in by_exchange.values() for state in states}:
            del self._shown[key]

    def _feed(self, exchange: str, states: list[MarketState], now: int) -> Mapping[str, object]:
        counters = self._hub.feed_counters(exchange)
        messages = float(counters.get("messages", 0))
        before, at = self._messages.get(exchange, (messages, now))
        self._messages[exchange] = (messages, now)
        # A feed that was started anew counts from zero.
        rate = max(messages - before, 0.0) * 1e9 / (now - at) if now > at else 0.0
        worst = min(states, key=lambda state: WORST_FIRST.index(state.status))
        age_ms = min(self._hub.age_ms(state) for state in states)
        return {
            "exchange": exchange,
            "status": worst.status,
            "reason": worst.reason,
            "messages_per_second": round(rate, 1),
            "gaps": int(counters.get("sequence_gaps", 0)),
            "reconnects": int(counters.get("reconnects", 0)),
            "bad_messages": int(counters.get("bad_messages", 0)),
            "age_ms": None if age_ms == float("inf") else round(age_ms, 1),
            "at": self._clock.time_ns() / 1e9,
        }


def quote(state: MarketState) -> Mapping[str, object]:
    """Return a market's best prices as docs/live-messages.md has them; a side that is not known is null."""
    return {
        "market": state.key,
        "exchange": state.market.exchange,
        "symbol": state.market.symbol,
        "bid": state.bid or None,
        "bid_size": state.bid_size if state.bid else None,
        "ask": state.ask or None,
        "ask_size": state.ask_size if state.ask else None,
        "status": state.status,
        "reason": state.reason,
        "received_at": state.received_ns / 1e9 if state.received_ns else None,
    }
