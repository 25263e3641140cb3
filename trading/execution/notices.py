"""What was decided about opportunities: counted on the bot, recorded, and shown, but not each time the same."""

from __future__ import annotations

from risk.policy.verdict import Verdict
from trading.execution.bots import RunningBot
from trading.execution.desk import Desk
from trading.execution.gate import Refusal
from trading.execution.views import opportunity_view
from trading.messages import Decision, Opportunity

NOTE_EVERY_NS = 250_000_000  # a route's same refusal is recorded and shown at most this often; all are counted


class Notices:
    """Tells store and pages of one engine's decisions."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._noted: dict[tuple[str, str], int] = {}  # by route and check, when (monotonic) it was last told

    def refused(self, bot: RunningBot, found: Opportunity, refusal: Refusal) -> None:
        """Say what refused an opportunity."""
        check, why = refusal.check, refusal.why
        bot.counters[f"refused_{check}"] += 1
        last = self._noted.get((found.route, check))
        if last is not None and found.detected_monotonic_ns - last < NOTE_EVERY_NS:
            return
        self._noted[found.route, check] = found.detected_monotonic_ns
        verdict = Verdict(allowed=False, reason=why) if isinstance(why, str) else why
        decision = Decision(opportunity=found, verdict=verdict, check=check, assessment=refusal.assessment)
        self._desk.store.record_decision(decision)
        self._show(bot, decision)

    def taken(self, bot: RunningBot, decision: Decision) -> None:
        """Show an opportunity that became a trade; it is stored with the trade."""
        self._show(bot, decision)

    def _show(self, bot: RunningBot, decision: Decision) -> None:
        view = opportunity_view(decision, bot.config.name)
        self._desk.publisher.publish(self._desk.owner_id, "opportunity", decision.opportunity.route, view)
