"""``python -m tests.crash_points --database sqlite``: every point of every trade, one after the other.

``--every`` thins out the awaits. ``--recovery`` kills a second time, in the engine that recovers from the first.
PostgreSQL is the server of DATABASE_URL; the database used is made for the run and deleted afterwards. Prints what was
tried and every anomaly; the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import os
import sys


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash_points", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--trade", action="append", help="only this trade (more than once: only these)")
    parser.add_argument("--one-thread", action="store_true", help="for a busy machine: no threads for the database")
    parser.add_argument("--every", type=int, default=1, help="try every so manieth await (%(default)s)")
    parser.add_argument("--recovery", action="store_true", help="kill the engine that recovers, too")
    parser.add_argument("--first", type=int, default=4, help="first points with a second one, a trade (%(default)s)")
    parser.add_argument("--document", action="store_true", help="tell of the run in docs/reliability.md")
    parser.add_argument("--only-recovery", action="store_true", help="no points but those")
    given = parser.parse_args()
    for name in ("every", "first"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} must be at least 1 (given {getattr(given, name)})")
    if given.database == "sqlite":
        os.environ.pop("DATABASE_URL", None)
    elif not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        parser.error("--database postgres needs DATABASE_URL, such as postgres:///name")
    for name in ("ARB_TEST_STATE_DIR", "ARB_TEST_RUN", "PYTEST_XDIST_WORKER"):  # of a test run that has started this
        os.environ.pop(name, None)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    if given.one_thread:
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    import django

    django.setup()
    from bench.snapshot import own_database
    from tests.crash_points.runs import ALL_TRADES, HAND_TRADES, Totals, recovery_plans, running, sampled

    if unknown := set(given.trade or ()) - ALL_TRADES.keys():
        parser.error(f"--trade is one of {', '.join(ALL_TRADES)} (given {', '.join(sorted(unknown))})")

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    totals = Totals()
    with own_database(), running(one_thread=given.one_thread) as runner:
        for trade in given.trade or ALL_TRADES:
            path = runner.path(trade)
            plans = [] if given.only_recovery else [[point] for point in sampled(path, given.every)]
            if given.recovery or given.only_recovery:
                plans += recovery_plans(runner, trade, path, first=given.first, every=given.every)
            before = totals.seconds
            runner.try_all(totals, trade, plans, say)
            say(f"{trade}: {len(path)} points on its path, {len(plans)} runs in {totals.seconds - before:.0f} s")
        say(f"on {given.database}:")
        for line in totals.lines():
            say(line)
    if given.document:
        from tests.simulation.document import record_kills

        by_hand = {trade in HAND_TRADES for trade in given.trade or ALL_TRADES}
        what = "trades by hand" if by_hand == {True} else "trades of bots" if by_hand == {False} else "all trades"
        how = "again in recovery" if given.only_recovery else "once and again" if given.recovery else "once"
        closed = totals.trades["CLOSED"]
        record_kills(f"engines, {how}, in {what}", given.database, totals.tried, closed, len(totals.failing))
    return 1 if totals.failing else 0


if __name__ == "__main__":
    sys.exit(main())
