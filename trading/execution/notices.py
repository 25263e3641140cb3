"""What was decided about opportunities: counted always, recorded and shown, but not each time the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from risk.policy.verdict import Verdict
from trading.execution.bots import RunningBot
from trading.execution.desk import Desk
from trading.execution.gate import Refusal
from trading.execution.hindsight import Hindsight
from trading.execution.views import opportunity_view
from trading.messages import Assessment, Decision, DecisionKey, Opportunity

NOTE_EVERY_NS = 250_000_000  # a route's same refusal is recorded and shown at most this often; all are counted
COUNT_SECONDS = 5.0  # how often the store is told what was counted
THRESHOLD = "demanded_bps"  # the name, among an assessment's costs, of the edge that was asked for


class Notices:
    """Tells store and pages of one engine's decisions.

    ``seen`` gives what the detector counted since it was last asked, before anything was judged.
    """

    def __init__(self, desk: Desk, seen: Callable[[], Mapping[DecisionKey, int]]) -> None:
        self._desk = desk
        self._seen = seen
        self._hindsight = Hindsight(desk, self._record)
        self._noted: dict[tuple[str, str], int] = {}  # by route and check, when (monotonic) it was last told

    async def run(self) -> None:
        """Hand over counts until cancelled."""
        while True:
            await self._desk.clock.sleep(COUNT_SECONDS)
            self._hand_over()

    async def look_back(self) -> None:
        """Look at decisions again until cancelled."""
        await self._hindsight.run()

    def close(self) -> None:
        """Hand over everything that waits."""
        self._hindsight.close()
        self._hand_over()

    def refused(self, bot: RunningBot, found: Opportunity, refusal: Refusal) -> None:
        """Say what refused an opportunity."""
        check, why = refusal.check, refusal.why
        bot.counters[f"refused_{check}"] += 1
        self._desk.tally.add(found, check)
        last = self._noted.get((found.route, check))
        if last is not None and found.detected_monotonic_ns - last < NOTE_EVERY_NS:
            return
        self._noted[found.route, check] = found.detected_monotonic_ns
        verdict = Verdict(allowed=False, reason=why) if isinstance(why, str) else why
        decision = Decision(
            opportunity=found,
            verdict=verdict,
            check=check,
            assessment=refusal.assessment,
            wanted_bps=_wanted_bps(bot, refusal.assessment),
        )
        self._hindsight.add(decision)
        self._show(bot, decision)

    def taken(self, bot: RunningBot, decision: Decision) -> None:
        """Show an opportunity that became a trade; it is stored with the trade."""
        self._desk.tally.add(decision.opportunity, "")
        self._hindsight.add(decision)
        self._show(bot, decision)

    def _record(self, decision: Decision, later_profit: float | None) -> None:
        if not decision.trade_id:
            self._desk.store.record_decision(msgspec.structs.replace(decision, later_profit=later_profit))
        elif later_profit is not None:
            self._desk.store.record_later_profit(decision.trade_id, later_profit)

    def _hand_over(self) -> None:
        # Each counts what the other doesn't, so no key is in both.
        counts = {**self._seen(), **self._desk.tally.take()}
        if counts:
            self._desk.store.record_counts(counts)

    def _show(self, bot: RunningBot, decision: Decision) -> None:
        view = opportunity_view(decision, bot.config.name)
        self._desk.publisher.publish(self._desk.owner_id, "opportunity", decision.opportunity.route, view)


def _wanted_bps(bot: RunningBot, assessment: Assessment | None) -> float:
    asked = 0.0 if assessment is None else assessment.costs_bps.get(THRESHOLD, 0.0)
    return max(bot.config.min_net_edge_bps, asked)
