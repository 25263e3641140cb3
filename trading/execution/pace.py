"""Keeps accounts whose exchange answers slowly from new trades, until it is seen to be quick again.

A leg that is under way for seconds fills at the prices of another moment, while the other leg stands alone.
"""

from __future__ import annotations

from collections.abc import Callable

from trading.execution.desk import Desk
from trading.portfolio import Purse

# As long as a decision may wait before it is sent: what the book showed is not expected to hold for longer.
SLOW_SECONDS = 2.0
PROBE_SECONDS = 5.0
IDLE_SECONDS = 3600.0  # while none is slow, there is nothing to do between answers


class Pace:
    """Watches how long placements take (``Desk.answer_seconds``); ``on_change`` is called when an account's fault may
    have changed."""

    def __init__(self, desk: Desk, on_change: Callable[[], None]) -> None:
        self._desk = desk
        self._on_change = on_change
        self._slow: frozenset[Purse] = frozenset()

    def fault(self, purse: Purse) -> str:
        """Return why an account takes no new trades as far as its pace goes, or an empty string."""
        seconds = self._desk.answer_seconds.get(purse, 0.0)
        if purse.paper or seconds <= SLOW_SECONDS:
            return ""
        return (
            f"account {purse.account_id}: its exchange takes {seconds:.1f} s to answer orders "
            f"(at most {SLOW_SECONDS:.0f} s); it trades again once a question is answered in less"
        )

    async def run(self) -> None:
        """Follow the answers until cancelled; while an account is slow, ask it a question now and then."""
        while True:
            if await self._desk.answered.wait(self._desk.clock, PROBE_SECONDS if self._slow else IDLE_SECONDS):
                self._look()
                continue
            for purse in sorted(self._slow, key=lambda purse: purse.account_id):
                await self._probe(purse)
            self._look()

    async def _probe(self, purse: Purse) -> None:
        clock = self._desk.clock
        asked_ns = clock.monotonic_ns()
        try:
            answered = bool(await self._desk.venues[purse].balances())
        except Exception as error:  # a venue that raises has a bug, and is none the quicker for it
            self._desk.alarm(f"account {purse.account_id}: venue raised {type(error).__name__} when asked for balances")
            return
        seconds = (clock.monotonic_ns() - asked_ns) / 1e9
        if answered and seconds <= SLOW_SECONDS:
            self._desk.answer_seconds[purse] = seconds

    def _look(self) -> None:
        slow = frozenset(purse for purse in self._desk.answer_seconds if self.fault(purse))
        if slow != self._slow:
            self._slow = slow
            self._on_change()
