"""Publishes circuit breakers and trading switches as they change, and as time changes them."""

from __future__ import annotations

from bots.engine_host.database import DatabaseThreads
from bots.selectors.risk import Named, RiskItem, breaker_item, risk_items
from risk.policy.breakers import BreakerRules, BreakerState, Scope
from trading.ports import Clock, Publisher


class RiskReporter:
    """Says what differs from what it said last; a breaker that was closed is said once more."""

    def __init__(self, publisher: Publisher, clock: Clock, threads: DatabaseThreads) -> None:
        self._publisher = publisher
        self._clock = clock
        self._threads = threads
        self._breakers: list[Named] = []
        self._rules: dict[Scope, BreakerRules] = {}
        self._switches: list[RiskItem] = []
        self._said: dict[tuple[str, str], RiskItem] = {}

    async def read(self) -> None:
        """Take what the database says; raises StoreUnavailable."""
        known = {item.row_id for item in self._said.values() if item.kind == "breaker"}
        self._breakers, self._rules, self._switches = await self._threads.run(lambda: risk_items(known))

    def tell(self) -> None:
        """Publish what has changed since it was told last, also by time alone: a cool-down that is over."""
        now_ns = self._clock.time_ns()
        breakers = [breaker_item(named, self._rules, now_ns) for named in self._breakers]
        for item in (*breakers, *self._switches):
            at = (item.kind, item.key)
            if self._said.get(at) == item:
                continue
            closed = item.kind == "breaker" and item.data["state"] == BreakerState.CLOSED.value
            if closed and at not in self._said:
                continue
            self._publisher.publish(item.owner_id, item.kind, item.key, item.data)
            if closed:
                del self._said[at]
            else:
                self._said[at] = item
