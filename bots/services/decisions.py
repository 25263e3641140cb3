"""Decisions: sampled on the way in, bounded in number and age. The table cannot grow without limit.

What is sampled away is counted all the same (``services.decision_counts``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from bots.models import Bot
from bots.models import Decision as DecisionRow
from bots.services.guard import guarded
from bots.times import from_ns
from trading.messages import Decision

KEEP_PER_BOT = 2_000
KEEP_FOR = timedelta(days=2)
SAMPLE_SECONDS = 1.0
# An edge below this share of the wanted one was no near miss: it is kept more thinly.
FAR_SHARE = 0.5
FAR_SECONDS = 10.0
REASON_LENGTH = 500
# Rows added to a bot between two prunings: the table holds at most KEEP_PER_BOT + PRUNE_EVERY of each bot.
PRUNE_EVERY = 200


class DecisionSampler:
    """Decides which decisions are kept: every taken one, of refusals one a second for each bot, route and check.

    Of refusals whose edge was below FAR_SHARE of the wanted one it keeps one in FAR_SECONDS. Belongs to one store
    adapter; not shared between threads.
    """

    max_keys = 20_000

    def __init__(self, *, sample_seconds: float = SAMPLE_SECONDS, far_seconds: float = FAR_SECONDS) -> None:
        self._interval_ns = int(sample_seconds * 1e9)
        self._far_interval_ns = int(far_seconds * 1e9)
        self._last: dict[tuple[int, str, str], int] = {}
        self.added: Counter[int] = Counter()
        self.seen = 0
        self.kept = 0

    def keeps(self, decision: Decision) -> bool:
        """Tell whether to store a decision, and remember it."""
        self.seen += 1
        kept = bool(decision.trade_id) or decision.verdict.allowed or self._is_due(decision)
        self.kept += kept
        return kept

    def _is_due(self, decision: Decision) -> bool:
        opportunity = decision.opportunity
        key = (opportunity.bot_id, opportunity.route, decision.check)
        at = opportunity.detected_ns
        last = self._last.get(key)
        interval = self._far_interval_ns if _is_far(decision) else self._interval_ns
        # A clock that was set back must not silence a route.
        if last is not None and 0 <= at - last < interval:
            return False
        self._last.pop(key, None)
        self._last[key] = at
        if len(self._last) > self.max_keys:
            del self._last[next(iter(self._last))]
        return True


def _is_far(decision: Decision) -> bool:
    # Not within, so that an edge that is no number is far.
    return not decision.opportunity.net_bps >= FAR_SHARE * decision.wanted_bps


def decisions_store(
    *, owner_id: int, decisions: Sequence[Decision], sampler: DecisionSampler, keep_per_bot: int = KEEP_PER_BOT
) -> int:
    """Store the decisions the sampler keeps and prune what is beyond the bound; returns how many were stored."""
    rows = [decision_row(owner_id=owner_id, decision=decision) for decision in decisions if sampler.keeps(decision)]

    def write() -> int:
        # A bot deleted meanwhile takes its decisions with it.
        bots = set(
            Bot.objects.filter(owner_id=owner_id, pk__in={row.bot_id for row in rows}).values_list("pk", flat=True)
        )
        kept = [row for row in rows if row.bot_id in bots]
        DecisionRow.objects.bulk_create(kept)
        for bot_id, count in Counter(row.bot_id for row in kept).items():
            # The first batch of a process prunes what the last one left.
            due = bot_id not in sampler.added or sampler.added[bot_id] + count >= PRUNE_EVERY
            sampler.added[bot_id] = 0 if due else sampler.added[bot_id] + count
            if due:
                decisions_prune(bot_id=bot_id, keep=keep_per_bot)
        return len(kept)

    return guarded(write) if rows else 0


def decisions_prune(*, bot_id: int, keep: int = KEEP_PER_BOT) -> int:
    """Delete a bot's decisions beyond the newest ``keep`` and those older than KEEP_FOR; two index range scans."""
    rows = DecisionRow.objects.filter(bot_id=bot_id)
    deleted = _delete(rows.filter(at__lt=timezone.now() - KEEP_FOR))
    boundary = rows.order_by("-id").values_list("id", flat=True)[keep : keep + 1].first()
    return deleted + (_delete(rows.filter(id__lte=boundary)) if boundary is not None else 0)


def later_profits_store(*, owner_id: int, later: Sequence[tuple[str, float]]) -> int:
    """Store what the opportunities of trades (by trade id) would have earned later; returns how many were found.

    Figures that are not finite numbers are left out.
    """

    def write() -> int:
        rows = DecisionRow.objects.filter(owner_id=owner_id)
        return sum(
            rows.filter(trade_id=trade_id).update(later_profit=profit)
            for trade_id, profit in later
            if math.isfinite(profit)
        )

    return guarded(write)


def _delete(rows: QuerySet[DecisionRow]) -> int:
    # Nothing refers to a decision, so no rows are loaded to follow relations.
    return rows._raw_delete(rows.db)


def decision_row(*, owner_id: int, decision: Decision) -> DecisionRow:
    """Return the unsaved row of a decision. Figures that are not finite numbers are stored as zero or left out."""
    opportunity = decision.opportunity
    taken = bool(decision.trade_id)
    assessment = decision.assessment
    later = decision.later_profit
    return DecisionRow(
        owner_id=owner_id,
        bot_id=opportunity.bot_id,
        route=opportunity.route[:160],
        buy_market=opportunity.buy.market[:100],
        sell_market=opportunity.sell.market[:100],
        base=opportunity.base,
        quote=opportunity.quote,
        quantity=_finite(opportunity.quantity),
        buy_vwap=_finite(opportunity.buy.vwap),
        sell_vwap=_finite(opportunity.sell.vwap),
        gross_bps=_finite(opportunity.gross_bps),
        net_bps=_finite(opportunity.net_bps),
        profit=_finite(opportunity.net_profit),
        buy_fee_rate=_finite(opportunity.buy.fee_rate),
        sell_fee_rate=_finite(opportunity.sell.fee_rate),
        buy_age_ms=_finite(opportunity.buy.book_age_ms),
        sell_age_ms=_finite(opportunity.sell.book_age_ms),
        book_age_ms=_finite(max(opportunity.buy.book_age_ms, opportunity.sell.book_age_ms)),
        notional=None if assessment is None else _finite(assessment.notional),
        factors={} if assessment is None else _figures(assessment.factors),
        score=None if assessment is None else _finite(assessment.score),
        components={} if assessment is None else _figures(assessment.components),
        costs={} if assessment is None else _figures(assessment.costs_bps),
        taken=taken,
        check_name="" if taken else decision.check[:64],
        reason=decision.verdict.reason[:REASON_LENGTH],
        figures=_figures(decision.verdict.figures),
        trade_id=decision.trade_id,
        later_profit=later if later is not None and math.isfinite(later) else None,
        at=from_ns(opportunity.detected_ns),
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _figures(figures: Mapping[str, float | int | str]) -> dict[str, str]:
    # JSON has no NaN, and PostgreSQL refuses it.
    return {name: str(value) for name, value in figures.items()}
