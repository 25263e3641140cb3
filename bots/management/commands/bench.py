"""``./arb bench``: how fast the engine is on this machine, side by side with what it is compared to."""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from importlib import import_module
from typing import Any

from django.core.management.base import BaseCommand, CommandError

# Each is a module of bench/, with _ for -: run() -> figures and table(figures) -> text, imported only when asked for.
BENCHMARKS = {
    "feeds": "CPU per order book message, socket to updated book, against ccxt.pro and the bare decode",
    "detect": "bytes received to decision over four exchanges, and how it grows from 10 to 1,000 pairs",
    "manual-trade": "click to entry, take-profit and stop-loss acknowledged, with the exchange 50 ms away",
    "orders": "call to bytes on the wire, and the gap between two legs, against ccxt.pro by WebSocket and REST",
    "tick-to-order": "market frame received to both orders written, the durable intent between, by stage",
    "intent": "what the durable intent adds before orders leave, against a bare one-row commit",
    "limits": "adaptive limit orders against market orders: price improvement on recorded and made books",
    "recovery": "a host is killed with 1,000 orders unfinished: how long until it trades again",
    "risk": "one judgement of an opportunity: breakers, rating, size, slippage, plan and limits",
    "stream": "an event in the engine to the message in 300 connected dashboards, and what compression costs",
    "snapshot": "a live page opens with up to 50,000 trades of a day: running totals against summing the trades",
}

DESCRIPTION = "Measure on this machine. Figures depend on it; ratios travel.\n\n" + "\n".join(
    f"  {name:13} {text}" for name, text in BENCHMARKS.items()
)


class Command(BaseCommand):
    help = DESCRIPTION
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--document", action="store_true", help="write the table into its part of docs/ (limits has one)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        benchmark = import_module(f"bench.{options['benchmark'].replace('-', '_')}")
        write = getattr(benchmark, "document", None)
        if options["document"] and write is None:
            raise CommandError(f"document: {options['benchmark']} has no part in docs/; leave --document out")
        try:
            figures = benchmark.run()
        except RuntimeError as problem:  # what benchmarks raise where there is nothing to measure
            raise CommandError(f"{options['benchmark']}: {problem}") from problem
        if options["document"] and write is not None:
            write(figures)
        self.stdout.write(json.dumps(figures) if options["json"] else benchmark.table(figures))
