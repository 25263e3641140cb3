"""Many histories: run on every core, counted, and reported."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from typing import Any

from tests.simulation.faults import BY_NAME
from tests.simulation.world import Outcome, quiet_garbage, run_history

COLLECT_EVERY = 50  # histories between two collections of garbage
CHUNK = 200  # histories handed to a core at once
SHOWN = 20  # failing histories named in a report


@dataclass
class Totals:
    """What many histories came to. ``failing`` has (seed, anomaly) pairs."""

    histories: int = 0
    failing: list[tuple[int, str]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    crash_points: Counter[str] = field(default_factory=Counter)
    trades: Counter[str] = field(default_factory=Counter)
    anomalies_with: Counter[str] = field(default_factory=Counter)  # histories with an anomaly, by fault injected
    virtual_seconds: float = 0.0
    elapsed: float = 0.0

    def add(self, outcome: Outcome) -> None:
        self.histories += 1
        self.failing += [(outcome.seed, anomaly) for anomaly in outcome.anomalies]
        self.faults += outcome.faults
        self.crash_points += outcome.crash_points
        self.trades += outcome.trades
        if outcome.anomalies:
            self.anomalies_with.update(outcome.faults.keys())
        self.virtual_seconds += outcome.seconds

    def join(self, other: Totals) -> None:
        self.histories += other.histories
        self.failing += other.failing
        self.faults += other.faults
        self.crash_points += other.crash_points
        self.trades += other.trades
        self.anomalies_with += other.anomalies_with
        self.virtual_seconds += other.virtual_seconds

    @property
    def rate(self) -> float:
        """Histories a second of the clock on the wall."""
        return self.histories / self.elapsed if self.elapsed else 0.0

    def figures(self) -> dict[str, Any]:
        return {
            "histories": self.histories,
            "anomalies": len({seed for seed, _ in self.failing}),
            "histories_per_second": round(self.rate, 1),
            "virtual_hours": round(self.virtual_seconds / 3600, 1),
            "trades": dict(sorted(self.trades.items())),
            "faults": {name: self.faults[name] for name in sorted(BY_NAME)},
            "crash_points": dict(sorted(self.crash_points.items())),
            "failing": [{"seed": seed, "anomaly": text} for seed, text in self.failing[:SHOWN]],
        }


def outcomes(
    first: int, histories: int, fault: str | None, run: Callable[[int, str | None], Outcome] = run_history
) -> Iterator[Outcome]:
    """Run histories one after the other in this process; what the engine would log stays silent."""
    seeds = iter(range(first, first + histories))
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        while batch := list(islice(seeds, COLLECT_EVERY)):
            with quiet_garbage():
                for seed in batch:
                    yield run(seed, fault)
    finally:
        logging.disable(disabled)


def run_here(first: int, histories: int, fault: str | None) -> Totals:
    totals = Totals()
    for outcome in outcomes(first, histories, fault):
        totals.add(outcome)
    return totals


def run_many(first: int, histories: int, fault: str | None = None, jobs: int | None = None) -> Totals:
    """Run ``histories`` from the seed ``first`` on, on ``jobs`` cores (all of them when None)."""
    jobs = min(jobs or os.cpu_count() or 1, -(-histories // CHUNK))
    started = time.perf_counter()
    if jobs <= 1:
        totals = run_here(first, histories, fault)
    else:
        totals = Totals()
        chunks = [(start, min(CHUNK, first + histories - start)) for start in range(first, first + histories, CHUNK)]
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for part in pool.map(run_here, *zip(*chunks, strict=True), [fault] * len(chunks)):
                totals.join(part)
    totals.elapsed = time.perf_counter() - started
    return totals


def table(totals: Totals) -> str:
    """Return a report for people."""
    figures = totals.figures()
    lines = [
        f"{totals.histories} histories, {figures['virtual_hours']} h of virtual time, "
        f"{totals.rate:.0f} histories a second",
        f"trades: {', '.join(f'{count} {state}' for state, count in figures['trades'].items()) or 'none'}",
        "",
        "faults injected:",
        *(f"  {name:28} {count:8}" for name, count in figures["faults"].items()),
        "",
        "crashes by point:",
        *(f"  {name:28} {count:8}" for name, count in figures["crash_points"].items()),
        "",
        f"histories with an anomaly: {figures['anomalies']}",
        *(f"  seed {seed}: {text}" for seed, text in totals.failing[:SHOWN]),
    ]
    return "\n".join(lines)
