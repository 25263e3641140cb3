"""`./arb demo`: everything at once, with simulated exchanges."""

from __future__ import annotations

import json as codec
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from arbplatform.start import DEFAULT_HOST, DEFAULT_PORT


class Command(BaseCommand):
    help = (
        "Run simulated exchanges, an operator and two users with bots, and the whole platform, in one go. "
        "Data is kept in the state directory's folder demo (default: var/demo), apart from everything else; "
        "the next start goes on with it. The result counts the trades, orders and fills of all bots; net_profit is "
        "what orders on the simulated exchanges earned, by asset; paper_profit, never added to it, what trades on "
        "paper did."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=DEFAULT_HOST, help="Address to listen on (default: %(default)s).")
        parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="Port; 0 takes a free one (%(default)s).")
        parser.add_argument("--seconds", type=float, help="Stop by itself after so many seconds.")
        parser.add_argument("--json", action="store_true", help="Print the result as one JSON object, last.")
        parser.add_argument("--fresh", action="store_true", help="Forget the demo's data first.")

    def handle(
        self, *args: Any, host: str, port: int, seconds: float | None, json: bool, fresh: bool, **options: Any
    ) -> None:
        if seconds is not None and not 0 < seconds <= 1e6:
            raise CommandError(f"--seconds must be above 0 and at most 1000000 (given {seconds})")
        from arbplatform.demo import Demo, summary  # noqa: PLC0415 (engine and exchanges; --help needs none)

        code, result = Demo(host=host, port=port, quiet=json).run(seconds=seconds, fresh=fresh)
        self.stdout.write(codec.dumps(result) if json else f"arb: {summary(result)}")
        sys.exit(code)
