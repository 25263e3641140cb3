"""docs/reliability.md: what is proved and how, with the figures of the run that wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from django.utils import timezone

from tests.faults.catalogue import ROWS
from tests.simulation.faults import BY_NAME, FAULTS
from tests.simulation.incidents import POINTS
from tests.simulation.mutants import Verdict
from tests.simulation.runs import Totals

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"

INTRODUCTION = """# Reliability

What may be relied on when connections break, exchanges misbehave, databases go away and processes die: and how that is
known. Written by `./arb simulate --document`; do not edit.

## How it is tested

The real engine (`trading.engine.Engine` and everything below it: planner, saga, resolver, repairs, portfolio, hub)
runs under virtual time between three models that were written without its code: exchanges with books, orders, fills
and balances (`tests/simulation/exchange.py`), the network and private streams to them (`venue.py`), and a database
with leases, of which a crash takes whatever was not written yet (`database.py`). One seed is one history: delays,
losses, repetitions, faults, crashes and pauses follow from it, so a history that went wrong is run again with
`./arb simulate --histories 1 --seed SEED --trace`.

- The exchanges accept a client order id again once its order has closed, as Binance and Kraken do: whatever is sent
  twice executes twice.
- A killed process runs nothing more, not even its `finally` blocks; what it had sent goes on. The next one starts
  under a higher lease token. A paused one wakes with what it was about to do.
- Requests arrive up to 20 s late; questions lag, go unanswered, or are answered by a replica that has fallen behind.

Then the exchanges' and the database's records are compared, never the engine's own books:

| what must hold | how it is judged |
|---|---|
| each attempt at a leg is executed at most once | orders on the exchanges by client id; what was sent |
| every fill is booked exactly once | the exchanges' executions against the database's fills, to the last digit |
| funds are conserved | start, transfers and booked fills give each balance of each exchange exactly |
| no illegal step of an order | the stored history against a second table of states |
| what is unhedged is closed, or said with a reason | the trade's stated residual against the exchanges' fills |
| nothing is sent without a live lease | the database's lease at the moment of sending |
| nothing is sent without a durable intent | the database's rows at the moment of sending, field by field |
| every unknown outcome is resolved or DISPUTED | order states once everything is whole again |
| no order that lived was concluded to be absent | FAILED in an order's history against the exchanges' orders |
| no new attempt while an earlier order may act | open, later accepted, or filled without the engine's knowledge |
| no order on a decision older than 2 s, on a deaf account, or at an absurd price | the moment of sending |
| what is not ours is never touched | cancellations, and fills booked as ours |
"""

ON_DATABASE = """## On the real database

The models above leave the platform's own database code out. `tests/crash_points` puts it in: the same engine and
exchanges on the real store, database threads and lease, on SQLite and PostgreSQL, while one trade happens. The process
ends at every resumption of a task, before every call of the database, before every COMMIT (the connection is gone,
the database undoes it) and after it (the answer reaches nobody); or it stands still in a call that arrives once
another engine has taken over. The next engine recovers, and may be killed while it does. Trades that fill evenly, with
a leg that is refused, half filled, executed without an answer, and lost on its way, are killed so. What is left is
judged by the exchanges' books and the tables: orders, their history, fills, ledger entries and sums, results and
their totals, and that the platform's own comparison finds no difference. A sample runs with the tests;
`python -m tests.crash_points` tries every point, with `--recovery` twice.

Trades by hand are killed in the same way: protected by a pair, by separate orders, by the engine, and by a pair whose
answer is lost; closed by hand, or by their take-profit. While such a trade is held, what it holds is what was bought,
and both levels stand once over all of it; at its end nothing is open, and each command is answered.

`python -m tests.crash` kills whole host processes (`kill -9`) that trade with simulated exchanges on real sockets:
while bots find trades, at any moment; with `--by-hand` while somebody trades by hand, when the command's row is
there, the entry's, the protection's, while the position is held, when the close is asked for, when its order is there,
and at the end, with several positions to take up. The exchanges' own books are the judge: one entry, protection as
large as what is held, a close as it was asked for, nothing twice, nothing left open.

The last run of each kind (`--document` writes it here):
"""
KILLS = "## On the real database"
KILLS_HEAD = ("date", "killed", "database", "kills", "trades closed", "anomalies")

LIMITS = """## What this does not show

- Models are not exchanges: wire formats, signatures and ccxt are tested against the simulated exchanges
  (`tests/exchanges`, `tests/exchangesim`) and real recordings; the database's own transactions on SQLite and
  PostgreSQL (`tests/bots`, `tests/host`, `tests/crash_points`).
- A machine's clock that is AHEAD by more than a minute when an order is made, on an exchange that no longer finds the
  order by its id: lists of executions are asked for from that moment on, and would leave it out. Simulated clocks step
  back by up to an hour, and ahead by up to 45 s.
- A late fill of a finished trade that is written just before a crash, while what it made of the trade is not: the next
  engine settles it when the exchange tells of it again, which its first sweep asks for; nobody else looks.
- An engine that was overtaken while it stood still writes what the exchange had answered it. An old acknowledgement
  then ends a dispute in the order's row (not in the engine that disputed it), until the next start asks about the
  order again: seed 4025426.
- A trade that was under way when a backup was made goes on, after the backup is restored, by what the backup knows of
  it. Its orders that are forgotten are shown and block their accounts; what they executed is not counted in the trade.
- One run of 60 kills of trades by hand, on a machine under several times its load, ended after the 58th: a close that
  was asked for right after a host on OKX had been killed sent no order within 180 s. Another 33 kills at that moment
  afterwards did not show it again; why is not known.
- Legs are spot orders, IOC; in four histories of ten a missing leg is worked as a limit order first. No derivatives.
"""

ALONE = "## Faults run on their own since"
ALONE_HEAD = ("date", "fault", "seeds", "injected", "anomalies")
FAULT_HEAD = ("#", "fault", "correct behaviour", "simulated as", "injected", "anomalies", "tests")


def document(
    totals: Totals,
    verdicts: Sequence[Verdict],
    first: int,
    today: date,
    kills: Iterable[Sequence[str]] = (),
) -> str:
    """Return the whole document; ``kills`` are the rows of runs on the real database that it is to keep."""
    figures = totals.figures()
    killed = sum(1 for verdict in verdicts if verdict.anomaly)
    parts = [
        INTRODUCTION,
        "## The last large run\n",
        *_table(
            ("figure", "value"),
            [
                ("date", today.isoformat()),
                ("seeds", f"{first} to {first + totals.histories - 1}"),
                ("histories", f"{totals.histories:,}"),
                ("histories with an anomaly", f"{figures['anomalies']:,}"),
                ("histories a second", f"{totals.rate:.0f}"),
                ("virtual time", f"{totals.virtual_seconds / 86400:,.1f} days"),
                ("trades", ", ".join(f"{count:,} {state}" for state, count in figures["trades"].items())),
                ("faults injected", f"{totals.faults.total():,}"),
                ("crashes", f"{totals.crash_points.total():,}"),
                ("safety rules taken away, caught", f"{killed} of {len(verdicts)}"),
            ],
        ),
        "## Faults\n",
        "*Injected* counts how often a fault took place, *anomalies* the histories with it that broke a rule.\n",
        *_table(FAULT_HEAD, fault_rows(totals)),
        "*Tests* counts those that bring a fault about outside the simulation, on real sockets, processes, databases",
        "or pages (`python -m tests.faults.catalogue` names them).\n",
        "## Crash points\n",
        "Where processes were killed; *in recovery* is a process that was itself taking over. `await` is any",
        "resumption of any of its tasks or callbacks.\n",
        *_table(("point", "killed", "in recovery"), _crash_rows(totals)),
        "## Safety rules taken away\n",
        "Each rule is removed from the engine in turn; a history that the whole engine passes must catch it",
        "(`./arb simulate --mutants`).\n",
        *_mutants(verdicts),
        ON_DATABASE,
        *_table(KILLS_HEAD, kills),
        LIMITS,
    ]
    return "\n".join(parts)


def with_fault(text: str, totals: Totals, name: str, first: int, today: date) -> str:
    """Return the document with what a run of one fault alone came to: its row, and a line about the run."""
    number = f"{BY_NAME[name].number}"
    (row,) = [row for row in fault_rows(totals) if row[0] == number]
    lines = [_row(row) if line.startswith(f"| {number} | ") else line for line in text.split("\n")]
    if ALONE not in lines:
        end = lines.index("## Crash points")
        lines[end:end] = [ALONE, "", *_table(ALONE_HEAD, [])]
    shown = (
        today.isoformat(), f"`{name}`", f"{first} to {first + totals.histories - 1}", f"{totals.faults[name]:,}",
        f"{totals.anomalies_with[name]:,}",
    )  # fmt: skip
    begin = lines.index(ALONE)
    end = lines.index("", begin + 2)
    kept = [line for line in lines[begin:end] if f"| `{name}` |" not in line]
    return "\n".join([*lines[:begin], *kept, _row(shown), *lines[end:]])


def with_mutants(text: str, verdicts: Sequence[Verdict]) -> str:
    """Return the document with what became of the mutants."""
    lines = text.split("\n")
    begin = next(number for number, line in enumerate(lines) if line.startswith("| mutant |"))
    end = lines.index("", begin)
    killed = sum(1 for verdict in verdicts if verdict.anomaly)
    lines[begin : end + 1] = _mutants(verdicts)
    caught = "| safety rules taken away, caught |"
    return "\n".join(f"{caught} {killed} of {len(verdicts)} |" if line.startswith(caught) else line for line in lines)


def kills_in(text: str) -> list[tuple[str, ...]]:
    """Return the runs on the real database that a document tells of."""
    lines = text.split("\n")
    head = _row(KILLS_HEAD)
    if head not in lines:
        return []
    begin = lines.index(head) + 2
    return [tuple(line.strip("| ").split(" | ")) for line in lines[begin : lines.index("", begin)]]


def with_kills(text: str, killed: str, database: str, kills: int, closed: int, anomalies: int, today: date) -> str:
    """Return the document with a run on the real database, in the place of the last one of its kind."""
    row = (today.isoformat(), killed, database, f"{kills:,}", f"{closed:,}", f"{anomalies:,}")
    rows = {known[1:3]: known for known in [*kills_in(text), row]}
    end = text.index("## What this does not show")
    begin = text.index(KILLS) if KILLS in text else end
    section = "\n".join([ON_DATABASE, *_table(KILLS_HEAD, rows.values())])
    return f"{text[:begin]}{section}\n{text[end:]}"


def record_kills(killed: str, database: str, kills: int, closed: int, anomalies: int) -> None:
    """Write a run on the real database into the document."""
    text = DOCUMENT.read_text()
    DOCUMENT.write_text(with_kills(text, killed, database, kills, closed, anomalies, timezone.localdate()))


def _mutants(verdicts: Sequence[Verdict]) -> list[str]:
    return _table(
        ("mutant", "rule", "caught after (histories)", "as"),
        [(f"`{one.mutant.name}`", one.mutant.rule, f"{one.histories}", _caught(one)) for one in verdicts],
    )


def fault_rows(totals: Totals) -> list[tuple[str, ...]]:
    """Return each fault of the catalogue with what the simulation made of it."""
    simulated = {one.number: one.name for one in FAULTS}
    rows = []
    for row in ROWS:
        name = simulated.get(row.number)
        seen = (
            ("", "", "")
            if name is None
            else (f"`{name}`", f"{totals.faults[name]:,}", f"{totals.anomalies_with[name]:,}")
        )
        rows.append((f"{row.number}", row.fault, row.expected, *seen, f"{len(row.tests)}"))
    return rows


def _crash_rows(totals: Totals) -> list[tuple[str, ...]]:
    points = totals.crash_points
    return [(f"`{point}`", f"{points[point]:,}", f"{points[f'{point}@recovery']:,}") for point in POINTS]


def _caught(verdict: Verdict) -> str:
    return f"`{verdict.anomaly.partition(':')[0]}`" if verdict.anomaly else "SURVIVED"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *map(_row, rows),
        "",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
