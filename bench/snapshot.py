"""What a live page costs when it opens, with many trades behind it: running totals against summing the trades.

Runs on the configured kind of database, SQLite or PostgreSQL, in a database of its own that is deleted afterwards. The
trades of one owner are spread evenly over the last 24 hours, on a bot on paper and one on simulated exchanges; they
have no legs, which cost the same either way. ``summing`` is what the page would have to do without running totals:
the same lines, made from the trades. Both are compared with each other in every run. Times are medians of the runs.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from bots import selectors
from bots.fields import MoneySum, exact_sum, plain
from bots.models import Bot, Trade
from bots.services.profits import profits_move, result_of

TRADES = (500, 5_000, 50_000)
RUNS = 5
BATCH = 5_000
HOURS = 24
MODES = (Trade.Mode.PAPER, Trade.Mode.SIMULATED)


@contextmanager
def own_database() -> Iterator[None]:
    """Work on an empty database beside the configured one."""
    with tempfile.TemporaryDirectory(prefix="arb-bench-") as folder:
        if connection.vendor == "sqlite":  # a file: in memory it would be faster than life
            connection.settings_dict["TEST"]["NAME"] = str(Path(folder) / "bench.sqlite3")
        configured = connection.settings_dict["NAME"]
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        try:
            yield
        finally:
            connection.creation.destroy_test_db(configured, verbosity=0)


class Desk:
    """An owner whose bots have closed trades."""

    def __init__(self) -> None:
        self.owner = get_user_model().objects.create_user("bench")
        self.bots = {mode: Bot.objects.create(owner=self.owner, name=mode) for mode in MODES}

    def trade(self, count: int) -> None:
        """Close ``count`` more trades, spread over the last 24 hours."""
        now = timezone.now()
        first = Trade.objects.count()
        for start in range(0, count, BATCH):
            rows = Trade.objects.bulk_create(
                [
                    self._trade(first + number, now - timedelta(hours=HOURS) * (1 - (number + 1) / count))
                    for number in range(start, min(start + BATCH, count))
                ],
                batch_size=500,
            )
            profits_move(owner_id=self.owner.pk, moves=[(None, result_of(row)) for row in rows])

    def _trade(self, number: int, closed_at: Any) -> Trade:
        mode = MODES[number % len(MODES)]
        return Trade(
            owner=self.owner,
            trade_id=f"bench-{number}",
            bot=self.bots[mode],
            route="one:BTC/USDT>two:BTC/USDT",
            base="BTC",
            quote="USDT",
            state=Trade.State.CLOSED,
            mode=mode,
            quantity=Decimal("0.01"),
            expected_net_bps=Decimal("3.5"),
            expected_profit=Decimal("0.35"),
            realised_profit=Decimal(number % 1000 - 400) / 1000,
            lease_token=1,
            opened_at=closed_at - timedelta(milliseconds=300),
            closed_at=closed_at,
        )


def totals_by_summing(owner_id: int) -> dict[tuple[str, str], Decimal]:
    """Return where each line ends, from a walk over the trades that notes a point for every one."""
    trades = Trade.objects.filter(owner_id=owner_id, realised_profit__isnull=False)
    begin = timezone.now() - timedelta(hours=HOURS)
    before = trades.filter(closed_at__lt=begin).order_by().values_list("mode", "quote")
    sums: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for mode, quote, total in before.annotate(total=MoneySum("realised_profit")):
        sums[mode, quote] = total
    points: defaultdict[tuple[str, str], list[tuple[Decimal, Any]]] = defaultdict(list)
    rows = (
        trades.filter(closed_at__gte=begin)
        .order_by("closed_at", "id")
        .values_list("mode", "quote", "realised_profit", "closed_at")
    )
    for mode, quote, profit, at in rows.iterator():
        sums[mode, quote] = exact_sum([sums[mode, quote], profit])
        points[mode, quote].append((sums[mode, quote], at))
    return {key: plain(total) for key, total in sums.items()}


def _milliseconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return (perf_counter() - began) * 1000


def measure(*, trades: Sequence[int] = TRADES, runs: int = RUNS) -> dict[str, Any]:
    """Measure on the present database, which must be empty; durations are milliseconds.

    ``profit_ms`` is the page's profit lines from running totals, ``summing_ms`` the same from the trades,
    ``snapshot_ms`` the whole snapshot, and ``before_ms`` what the snapshot takes with summing in it.

    Raises
    ------
    RuntimeError
        If running totals and trades do not agree to the last digit.
    """
    desk = Desk()
    owner_id = desk.owner.pk
    results = []
    for count in trades:
        desk.trade(count - Trade.objects.count())
        figures: dict[str, list[float]] = {"profit_ms": [], "summing_ms": [], "snapshot_ms": []}
        for _ in range(runs):
            figures["profit_ms"].append(_milliseconds(lambda: selectors.profit_lines(owner_id=owner_id)))
            figures["summing_ms"].append(_milliseconds(lambda: totals_by_summing(owner_id)))
            figures["snapshot_ms"].append(_milliseconds(lambda: selectors.live_snapshot(owner_id=owner_id)))
        points = selectors.profit_lines(owner_id=owner_id).points
        shown = {(point["mode"], point["quote"]): Decimal(point["total"]) for point in points}
        if shown != totals_by_summing(owner_id):
            raise RuntimeError(f"running totals say {shown}, the trades {totals_by_summing(owner_id)}")
        row = {name: median(values) for name, values in figures.items()}
        row["before_ms"] = row["snapshot_ms"] - row["profit_ms"] + row["summing_ms"]
        results.append(
            {
                "trades": count,
                **{name: round(value, 1) for name, value in row.items()},
                "profit_ratio": round(row["summing_ms"] / row["profit_ms"], 1),
                "snapshot_ratio": round(row["before_ms"] / row["snapshot_ms"], 1),
            }
        )
    return {"database": connection.vendor, "hours": HOURS, "runs": runs, "results": results}


def run() -> dict[str, Any]:
    """Measure in a database of its own."""
    with own_database():
        return measure()


def table(result: Mapping[str, Any]) -> str:
    """Return the result as text lines."""
    columns = ("trades", "profit_ms", "summing_ms", "profit_ratio", "snapshot_ms", "before_ms", "snapshot_ratio")
    return "\n".join(
        [
            f"A live page opens on {result['database']}, trades of {result['hours']} h, "
            f"medians of {result['runs']} runs, milliseconds",
            "  ".join(f"{name:>14}" for name in columns),
            *("  ".join(f"{row[name]:>14}" for name in columns) for row in result["results"]),
        ]
    )
