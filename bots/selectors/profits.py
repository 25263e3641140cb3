"""What trades realised, by mode and quote asset, read from running totals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet
from django.utils import timezone

from bots.fields import MoneySum, exact_sum, plain
from bots.models import ALL_TIME, ProfitTotal, Trade, span_start
from bots.times import unix
from risk.policy.threshold import Day

LINE_HOURS = 24
LINE_POINTS = 500

# By trade mode, then by quote asset. Nothing ever adds up two modes.
Profits = dict[str, dict[str, Decimal]]


class ProfitLines(NamedTuple):
    """The points of the live page's lines, and what was realised since midnight UTC: both of the same instant."""

    points: list[dict[str, Any]]
    today: Profits


def midnight_utc(now: datetime | None = None) -> datetime:
    """Return the beginning of the present UTC day."""
    return (now or timezone.now()).replace(hour=0, minute=0, second=0, microsecond=0)


def profits_ever(totals: QuerySet[ProfitTotal]) -> Profits:
    """Return everything these running totals ever counted."""
    return _sums(totals.filter(start=ALL_TIME))


def profits_since(totals: QuerySet[ProfitTotal], start: datetime) -> Profits:
    """Return what was realised since ``start``, to the span it is in; at most a day ago."""
    return _sums(totals.filter(start__gte=span_start(start)))


def profit_days(*, owner_id: int, now: datetime | None = None) -> dict[str, dict[str, Day]]:
    """Return the present UTC day of all an owner's bots, by mode and quote asset: its result, and how high it was.

    The peak is that of the ends of spans: what was earned and lost again within one span is not in it.
    """
    midnight = midnight_utc(now)
    number = (midnight - ALL_TIME).days
    spans: defaultdict[tuple[str, str, datetime], list[Decimal]] = defaultdict(list)
    rows = ProfitTotal.objects.filter(owner_id=owner_id, start__gte=midnight).order_by("start")
    for mode, quote, start, profit in rows.values_list("mode", "quote", "start", "profit"):
        spans[mode, quote, start].append(profit)
    days: defaultdict[str, dict[str, Day]] = defaultdict(dict)
    for (mode, quote, _), profits in spans.items():
        before = days[mode].get(quote, Day(number=number))
        realised = exact_sum([before.realised, *profits])
        days[mode][quote] = Day(number=number, realised=realised, peak=max(before.peak, realised))
    return dict(days)


def profit_lines(*, owner_id: int, now: datetime | None = None) -> ProfitLines:
    """Return the running profit of the last 24 hours, oldest first, and today's.

    Each point's total counts every trade closed up to then. A line begins with what was earned before, if that is
    anything; then it has a point for each span in which trades closed, and at its end one for each of the newest 500
    trades. Of more than 500 points, the last of each of 500 equal groups stands for its group.
    """
    now = now or timezone.now()
    midnight, begin = midnight_utc(now), span_start(now - timedelta(hours=LINE_HOURS))
    lines = _lines(owner_id, begin)
    newest = _newest(owner_id, begin)
    # Before it there are spans only.
    detailed = newest[0].closed_at if len(newest) == LINE_POINTS else begin
    today: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
    points: list[dict[str, Any]] = []
    for (mode, quote), line in lines.items():
        since_midnight = [span.profit for span in line.spans if span.start >= midnight]
        if since_midnight:
            today[mode][quote] = plain(exact_sum(since_midnight))
        # A trade stored since the totals were read is not in them yet.
        tail = [row for row in newest if (row.mode, row.quote) == (mode, quote) and row.closed_at <= line.last]
        for at, running in thinned(_running(begin, line, detailed, tail), LINE_POINTS):
            points.append({"mode": mode, "quote": quote, "total": f"{plain(running):f}", "at": unix(at)})
    points.sort(key=lambda point: point["at"])
    return ProfitLines(points, dict(today))


class _Span(NamedTuple):
    start: datetime
    profit: Decimal
    last: datetime


class _Line(NamedTuple):
    total: Decimal
    last: datetime
    spans: list[_Span]


class _Closed(NamedTuple):
    mode: str
    quote: str
    profit: Decimal
    closed_at: datetime


def _lines(owner_id: int, begin: datetime) -> dict[tuple[str, str], _Line]:
    """Return each line's total of all time and its spans since ``begin``, those of all bots together."""
    # One statement, so that the total of all time and the spans are of the same instant.
    rows = ProfitTotal.objects.filter(Q(start=ALL_TIME) | Q(start__gte=begin), owner_id=owner_id)
    columns = ("mode", "quote", "start", "profit", "last_closed_at")
    spans: dict[tuple[str, str], dict[datetime, _Span]] = {}
    for mode, quote, start, profit, last in rows.order_by("start", "mode", "quote").values_list(*columns):
        line = spans.setdefault((mode, quote), {})
        known = line.get(start)
        line[start] = (
            _Span(start, profit, last)
            if known is None
            else _Span(start, exact_sum([known.profit, profit]), max(known.last, last))
        )
    lines = {}
    for key, line in spans.items():
        ever = line.pop(ALL_TIME)
        lines[key] = _Line(ever.profit, ever.last, list(line.values()))
    return lines


def _newest(owner_id: int, begin: datetime) -> list[_Closed]:
    """Return the results of the newest trades, oldest first."""
    rows = Trade.objects.filter(owner_id=owner_id, closed_at__gte=begin, realised_profit__isnull=False)
    columns = ("mode", "quote", "realised_profit", "closed_at")
    found = rows.order_by("-closed_at", "-id").values_list(*columns)[:LINE_POINTS]
    return [_Closed(*row) for row in reversed(found)]


def _running(
    begin: datetime, line: _Line, detailed: datetime, tail: Sequence[_Closed]
) -> list[tuple[datetime, Decimal]]:
    """Return when the running profit changed and to what, so that it ends at the line's total."""
    running = exact_sum([line.total, *(span.profit.copy_negate() for span in line.spans)])
    made = [(begin, running)] if running or not line.spans else []
    for span in line.spans:
        running = exact_sum([running, span.profit])
        if span.last < detailed:
            made.append((span.last, running))
    running = exact_sum([line.total, *(row.profit.copy_negate() for row in tail)])
    for row in tail:
        running = exact_sum([running, row.profit])
        made.append((row.closed_at, running))
    return made


def thinned(line: Sequence[Any], limit: int) -> list[Any]:
    """Return at most ``limit`` items, the last of each of as many equal groups; the last item is always among them."""
    if len(line) <= limit:
        return list(line)
    return [line[(index + 1) * len(line) // limit - 1] for index in range(limit)]


def _sums(totals: QuerySet[ProfitTotal]) -> Profits:
    found: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
    rows = totals.order_by().values_list("mode", "quote").annotate(total=MoneySum("profit"))
    for mode, quote, total in rows.order_by("mode", "quote"):
        found[mode][quote] = total
    return dict(found)
