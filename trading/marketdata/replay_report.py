"""A replay's result as one JSON object or as a table to read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from trading.marketdata.replay import CycleRow, ReplayReport, RouteRow

__all__ = ["replay_json", "replay_table"]

HEAD = ("buy", "sell", "overlap s", "episodes", "in profit s", "share", "best bps", "trades", "net")
CYCLE_HEAD = ("exchange", "cycle", "overlap s", "episodes", "in profit s", "share", "best bps", "median bps")


def replay_json(report: ReplayReport) -> str:
    """Return the report as one line of JSON; ``best_bps`` is null where markets never quoted together.

    ``cycles`` is there only when three of the markets make one.
    """
    cycles = {"cycles": [_cycle_object(row) for row in report.cycles]} if report.cycles else {}
    return json.dumps(
        {
            "messages": report.messages,
            "bad_messages": report.bad_messages,
            "sequence_gaps": report.sequence_gaps,
            "messages_per_second": report.messages_per_second,
            "routes": [
                {
                    "buy": row.buy,
                    "sell": row.sell,
                    "overlap_seconds": round(row.overlap_seconds, 6),
                    "episodes": row.episodes,
                    "seconds_in_profit": round(row.seconds_in_profit, 6),
                    "share": round(row.share, 8),
                    "best_bps": None if row.best_bps is None else round(row.best_bps, 6),
                    "trades": row.trades,
                    "net": round(row.net, 8),
                    "quote": row.quote,
                }
                for row in report.routes
            ],
            **cycles,
            "notes": list(report.notes),
        }
    )


def replay_table(report: ReplayReport, fee_bps: float) -> str:
    """Return the report as text lines."""
    lines = list(_aligned([HEAD, *(_cells(row) for row in report.routes)])) if report.routes else []
    if not report.routes:
        lines.append("No two of these markets share base and quote asset, so there is no route.")
    if report.cycles:
        lines += ["", *_aligned([CYCLE_HEAD, *map(_cycle_cells, report.cycles)])]
    lines += [
        "",
        f"{report.messages} messages ({report.bad_messages} bad, {report.sequence_gaps} sequence gaps), "
        f"{report.messages_per_second:,.0f} a second. "
        f"Edges are before fees; trades and net are after {fee_bps:g} bps a leg.",
        *report.notes,
    ]
    return "\n".join(lines)


def _cells(row: RouteRow) -> tuple[str, ...]:
    return (
        row.buy,
        row.sell,
        f"{row.overlap_seconds:.1f}",
        str(row.episodes),
        f"{row.seconds_in_profit:.3f}",
        f"{row.share:.2%}",
        "-" if row.best_bps is None else f"{row.best_bps:+.2f}",
        str(row.trades),
        f"{row.net:.2f} {row.quote}",
    )


def _cycle_object(row: CycleRow) -> dict[str, object]:
    return {
        "exchange": row.exchange,
        "assets": row.assets,
        "overlap_seconds": round(row.overlap_seconds, 6),
        "episodes": row.episodes,
        "seconds_in_profit": round(row.seconds_in_profit, 6),
        "share": round(row.share, 8),
        "best_bps": None if row.best_bps is None else round(row.best_bps, 6),
        "median_bps": None if row.median_bps is None else round(row.median_bps, 6),
    }


def _cycle_cells(row: CycleRow) -> tuple[str, ...]:
    return (
        row.exchange,
        row.assets,
        f"{row.overlap_seconds:.1f}",
        str(row.episodes),
        f"{row.seconds_in_profit:.3f}",
        f"{row.share:.2%}",
        "-" if row.best_bps is None else f"{row.best_bps:+.2f}",
        "-" if row.median_bps is None else f"{row.median_bps:+.2f}",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Yield rows as lines, the two names to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
