"""``python -m tests.crash --kills 500 --database postgres``: the crash loop at any size; prints one JSON object.

``--by-hand`` kills hosts that see to trades by hand, instead of such whose bots look for edges.

PostgreSQL is the server of DATABASE_URL; the database used is made for the run and deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="how often to kill (%(default)s)")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--by-hand", action="store_true", help="trades by hand: entered, protected, held, closed")
    parser.add_argument("--seed", type=int, default=1, help="draws moments and faults (%(default)s)")
    parser.add_argument("--document", action="store_true", help="tell of the run in docs/reliability.md")
    parser.add_argument("--verbose", action="store_true", help="tell of each kill on standard error")
    given = parser.parse_args()
    if given.kills < 1:
        parser.error(f"--kills must be at least 1 (given {given.kills})")
    if given.database == "sqlite":
        os.environ.pop("DATABASE_URL", None)
    elif not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        parser.error("--database postgres needs DATABASE_URL, such as postgres:///name")
    for name in ("ARB_TEST_STATE_DIR", "ARB_TEST_RUN", "PYTEST_XDIST_WORKER"):  # of a test run that has started this
        os.environ.pop(name, None)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    os.environ.setdefault("ARB_LOG_LEVEL", "WARNING")
    import django

    django.setup()
    from bench.snapshot import own_database
    from tests.crash.by_hand import hand_loop
    from tests.crash.loop import crash_loop

    def say(text: str) -> None:
        if given.verbose:
            sys.stderr.write(f"{text}\n")

    with tempfile.TemporaryDirectory(prefix="arb-crash-") as folder, own_database():
        result = None
        try:
            loop = hand_loop if given.by_hand else crash_loop
            result = loop(Path(folder), kills=given.kills, seed=given.seed, say=say)
        finally:
            if given.verbose and (result is None or result["problems"]):
                sys.stderr.write((Path(folder) / "hosts.log").read_text()[-20_000:])
    sys.stdout.write(json.dumps({"database": given.database, **result}) + "\n")
    if given.document:
        from tests.simulation.document import record_kills

        killed = f"hosts, while {'somebody trades by hand' if given.by_hand else 'bots trade'}"
        closed = result["trades"].get("CLOSED", 0)
        record_kills(killed, given.database, result["kills"], closed, len(result["problems"]))
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
