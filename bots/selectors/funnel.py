"""Why no trades: how many prices became opportunities, and opportunities trades, and what ended the others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Q, Sum
from django.utils import timezone

from bots.decision_words import figure_words, words_of
from bots.models import Bot, Decision, DecisionCount, Trade
from bots.selectors.profits import midnight_utc
from trading.messages import AT_DEPTH, COMPARED, PAID

HOUR = timedelta(hours=1)
TOP_REASONS = 3  # of each bot and pair
PAIRS = 100
TAKEN = ""
# These come after every check, when what passed is made durable.
AFTER_THE_CHECKS = ("store", "lease")

PERIODS = {"today": "Today (UTC)", "hour": "Last hour", "day": "Last 24 hours"}


def percent(share: float) -> str:
    """Return a share in [0, 1] for reading: "12.3 %", and never 0 or 100 for what is not quite."""
    if 0.0 < share < 0.001:
        return "<0.1\u00a0%"
    if 0.999 < share < 1.0:
        return ">99.9\u00a0%"
    return f"{share * 100:.1f}\u00a0%"


def period_start(period: str, now: datetime | None = None) -> datetime:
    """Return when a period begins. Counts are kept by the hour, so the last hour or day begins with a whole one."""
    now = now or timezone.now()
    if period == "today":
        return midnight_utc(now)
    hour = now.replace(minute=0, second=0, microsecond=0)
    return hour - (HOUR if period == "hour" else 24 * HOUR)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the funnel: how many came so far; of the step before, the part that did, and how many did not."""

    name: str
    label: str
    count: int
    lost: int
    share: float | None  # of the step before, in [0, 1]; None where nothing came before

    @property
    def percent(self) -> str:
        """The share for reading."""
        return "" if self.share is None else percent(self.share)

    @property
    def lost_percent(self) -> str:
        """The share that was lost, for reading."""
        return "" if self.share is None else percent(1.0 - self.share)


@dataclass(frozen=True, slots=True)
class Reason:
    """A check with how many opportunities it ended, and their part of all that ended."""

    check: str
    title: str
    cure: str
    count: int
    share: float
    judged: bool  # the decisions of the ledger can be looked up by it

    @property
    def percent(self) -> str:
        """The share for reading."""
        return percent(self.share)


@dataclass(frozen=True, slots=True)
class Funnel:
    """The steps from what was seen to what earned something, and why the rest fell out, the most frequent first."""

    stages: tuple[Stage, ...]
    reasons: tuple[Reason, ...]

    @property
    def is_empty(self) -> bool:
        return not any(stage.count for stage in self.stages)

    @property
    def ended(self) -> int:
        """How many ended at any of the reasons."""
        return sum(reason.count for reason in self.reasons)

    @property
    def top(self) -> tuple[Reason, ...]:
        """The reasons that a table has room for."""
        return self.reasons[:TOP_REASONS]

    def count(self, name: str) -> int:
        """Return how many came as far as a step."""
        return next(stage.count for stage in self.stages if stage.name == name)


class Traded(NamedTuple):
    """Trades opened, and of these closed with profit."""

    opened: int = 0
    profitable: int = 0


NO_TRADES = Traded()


class BotFunnel(NamedTuple):
    bot: Bot
    funnel: Funnel


class PairFunnel(NamedTuple):
    base: str
    quote: str
    funnel: Funnel

    @property
    def pair(self) -> str:
        return f"{self.base}/{self.quote}"


class Missed(NamedTuple):
    """What sampled refusals of one quote asset were worth when seen, and what those still there were a second later."""

    quote: str
    refusals: int
    profit: float
    still_there: int
    later_profit: float


class Report(NamedTuple):
    """Everything the page shows of one owner, or of one bot, since ``start``."""

    start: datetime
    funnel: Funnel
    bots: tuple[BotFunnel, ...]
    pairs: tuple[PairFunnel, ...]
    pairs_left_out: int
    missed: tuple[Missed, ...]
    latest: Decision | None

    @property
    def latest_figures(self) -> list[tuple[str, str]]:
        """The figures of the latest refusal, for reading."""
        return [] if self.latest is None else [figure_words(*figure) for figure in self.latest.figures.items()]

    @property
    def traded(self) -> int:
        return self.funnel.count("traded")

    @property
    def paid(self) -> int:
        return self.funnel.count("paid")


def funnel_of(counts: Mapping[str, int], trades: Traded = NO_TRADES) -> Funnel:
    """Return the funnel of what was counted by check.

    What paid and did not end in the depth is an opportunity. Judged are those that a check refused or that passed all;
    traded those whose orders were made durable. What is judged when an hour ends may be counted in the next one.
    """
    depth = {check: count for check, count in counts.items() if check.startswith(AT_DEPTH)}
    judged = {check: count for check, count in counts.items() if check not in {COMPARED, PAID} and check not in depth}
    paid, taken = counts.get(PAID, 0), counts.get(TAKEN, 0)
    passed = taken + sum(judged.get(check, 0) for check in AFTER_THE_CHECKS)
    steps = (
        ("compared", "Route comparisons", counts.get(COMPARED, 0)),
        ("paid", "Best prices paid after fees", paid),
        ("found", "Opportunities in the books' depth", paid - sum(depth.values())),
        ("judged", "Judged", sum(judged.values())),
        ("passed", "Passed every check", passed),
        ("traded", "Traded", taken),
        ("profitable", "Closed with profit", trades.profitable),
    )
    stages = []
    before: int | None = None
    for name, label, count in steps:
        share = min(count / before, 1.0) if before else None
        stages.append(Stage(name, label, count, max(before - count, 0) if before is not None else 0, share))
        before = count
    return Funnel(tuple(stages), _reasons({**depth, **judged}))


def _reasons(ended: Mapping[str, int]) -> tuple[Reason, ...]:
    refused = {check: count for check, count in ended.items() if check != TAKEN and count}
    total = sum(refused.values())
    ordered = sorted(refused.items(), key=lambda one: (-one[1], one[0]))
    return tuple(
        Reason(check, *words_of(check), count, count / total, not check.startswith(AT_DEPTH) and _is_recorded(check))
        for check, count in ordered
    )


def _is_recorded(check: str) -> bool:
    # These are counted only: the route's trade says more than a row each would.
    return check not in {"route_busy", "cooldown", "lease"}


def why_report(*, owner_id: int, start: datetime, bot: Bot | None = None) -> Report:
    """Return why an owner, or one bot of theirs, traded as little as they did since ``start``; five queries."""
    bots = {row.pk: row for row in Bot.objects.filter(owner_id=owner_id).order_by("name")}
    chosen: dict[str, Any] = {"owner_id": owner_id}
    if bot is not None:
        chosen["bot_id"] = bot.pk
    counts = _counts(start, chosen)
    trades = _trades(start, chosen)
    for key, traded in trades.items():  # a trade is there some seconds before it is counted
        some = counts.setdefault(key, Counter())
        some[TAKEN] = max(some[TAKEN], traded.opened)
    shown = [row for row in bots.values() if bot is None or row.pk == bot.pk]
    pairs = _by(counts, lambda key: key[1:])
    pair_trades = _trades_by(trades, lambda key: key[1:])
    named = [
        PairFunnel(base, quote, funnel_of(some, pair_trades.get((base, quote), NO_TRADES)))
        for (base, quote), some in pairs.items()
    ]
    named.sort(key=lambda one: (-one.funnel.count("judged"), -one.funnel.count("paid"), one.pair))
    bot_counts, bot_trades = _by(counts, lambda key: key[0]), _trades_by(trades, lambda key: key[0])
    return Report(
        start=start,
        funnel=funnel_of(
            sum(counts.values(), Counter()),
            Traded(sum(one.opened for one in trades.values()), sum(one.profitable for one in trades.values())),
        ),
        bots=tuple(
            BotFunnel(row, funnel_of(bot_counts.get(row.pk, {}), bot_trades.get(row.pk, NO_TRADES))) for row in shown
        ),
        pairs=tuple(named[:PAIRS]),
        pairs_left_out=max(len(named) - PAIRS, 0),
        missed=_missed(start, chosen),
        latest=_latest(start, chosen),
    )


Key = tuple[int, str, str]  # bot, base, quote


def _counts(start: datetime, chosen: Mapping[str, Any]) -> dict[Key, Counter[str]]:
    found: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    rows = DecisionCount.objects.filter(hour__gte=start, **chosen).order_by()
    for bot_id, base, quote, check, count in rows.values_list("bot_id", "base", "quote", "check_name").annotate(
        total=Sum("count")
    ):
        found[bot_id, base, quote][check] += count
    return dict(found)


def _trades(start: datetime, chosen: Mapping[str, Any]) -> dict[Key, Traded]:
    rows = Trade.objects.filter(opened_at__gte=start, **chosen).order_by().values_list("bot_id", "base", "quote")
    rows = rows.exclude(bot__strategy=Bot.Strategy.MANUAL)  # no opportunity led to those
    profitable = Count("pk", filter=Q(realised_profit__gt=0, closed_at__isnull=False))
    return {
        (bot_id, base, quote): Traded(opened, won)
        for bot_id, base, quote, opened, won in rows.annotate(opened=Count("pk"), won=profitable)
    }


def _by(counts: Mapping[Key, Counter[str]], part: Any) -> dict[Any, Counter[str]]:
    found: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    for key, some in counts.items():
        found[part(key)].update(some)
    return dict(found)


def _trades_by(trades: Mapping[Key, Traded], part: Any) -> dict[Any, Traded]:
    found: defaultdict[Any, Traded] = defaultdict(Traded)
    for key, one in trades.items():
        known = found[part(key)]
        found[part(key)] = Traded(known.opened + one.opened, known.profitable + one.profitable)
    return dict(found)


def _refusals(start: datetime, chosen: Mapping[str, Any]) -> Any:
    return Decision.objects.filter(taken=False, at__gte=start, **chosen)


def _missed(start: datetime, chosen: Mapping[str, Any]) -> tuple[Missed, ...]:
    rows = _refusals(start, chosen).order_by("quote").values_list("quote")
    sums = rows.annotate(
        refusals=Count("pk"), profit=Sum("profit"), still=Count("later_profit"), later=Sum("later_profit")
    )
    return tuple(
        Missed(quote, count, profit or 0.0, still, later or 0.0) for quote, count, profit, still, later in sums
    )


def _latest(start: datetime, chosen: Mapping[str, Any]) -> Decision | None:
    found: Decision | None = _refusals(start, chosen).select_related("bot").order_by("-id").first()
    return found
