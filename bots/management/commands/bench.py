"""``./arb bench``: how fast the engine is on this machine, side by side with what it is compared to."""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from importlib import import_module
from typing import Any

from django.core.management.base import BaseCommand

# Each is a module of bench/ with run() -> figures and table(figures) -> text, imported only when asked for.
BENCHMARKS = {
    "feeds": "CPU per order book message, socket to updated book, against ccxt.pro and the bare decode",
    "detect": "bytes received to decision over four exchanges, and how it grows from 10 to 1,000 pairs",
    "intent": "what the durable intent adds before orders leave, against a bare one-row commit",
    "recovery": "a host is killed with 1,000 orders unfinished: how long until it trades again",
    "risk": "one judgement of an opportunity: breakers, rating, size, slippage, plan and limits",
    "snapshot": "a live page opens with up to 50,000 trades of a day: running totals against summing the trades",
}

DESCRIPTION = "Measure on this machine. Figures depend on it; ratios travel.\n\n" + "\n".join(
    f"  {name:8} {text}" for name, text in BENCHMARKS.items()
)


class Command(BaseCommand):
    help = DESCRIPTION
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        benchmark = import_module(f"bench.{options['benchmark']}")
        figures = benchmark.run()
        self.stdout.write(json.dumps(figures) if options["json"] else benchmark.table(figures))
