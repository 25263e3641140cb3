"""``./arb simulate``: run the engine through thousands of seeded histories of faults and crashes, and check each."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

DESCRIPTION = """Run the real engine under virtual time against modelled exchanges and a modelled database.

Each seed is one history: delays, losses, repetitions, faults and crashes follow from it. At its end the exchanges'
and the database's records must agree: nothing lost, nothing twice, every exposure closed or said. Exit code 1 when
a history shows an anomaly; it names its seed, and --histories 1 --seed <that> --trace shows what happened."""

DOCUMENT = Path(settings.BASE_DIR) / "docs" / "reliability.md"


class Command(BaseCommand):
    help = DESCRIPTION
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--histories", type=_count, default=1000, help="how many histories (default: 1000)")
        parser.add_argument("--seed", type=int, default=1, help="seed of the first; the others count on from it")
        parser.add_argument("--fault", metavar="NAME", help="only this fault, in every history; --faults lists them")
        parser.add_argument("--faults", action="store_true", help="list the faults and stop")
        parser.add_argument("--jobs", type=_count, default=None, help="processes to use (default: one a core)")
        parser.add_argument("--mutants", action="store_true", help="take each safety rule away in turn: all are caught")
        parser.add_argument(
            "--document",
            action="store_true",
            help="run histories and mutants, and write docs/reliability.md; with --fault or --mutants that part of it",
        )
        parser.add_argument("--trace", action="store_true", help="print what happened in each history")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        from tests.simulation import runs  # noqa: PLC0415 (the engine's imports cost a second)
        from tests.simulation.faults import BY_NAME, FAULTS  # noqa: PLC0415

        if options["faults"]:
            for one in sorted(FAULTS, key=lambda one: one.name):
                self.stdout.write(f"{one.name:28} {one.what}")
            return
        if options["mutants"]:
            self._hunt(options["seed"], as_json=options["json"], write=options["document"])
            return
        fault = options["fault"]
        if fault is not None and fault not in BY_NAME:
            raise CommandError(f"--fault: no fault {fault!r} is simulated; --faults lists them", returncode=2)
        if options["trace"]:
            for outcome in runs.outcomes(options["seed"], options["histories"], fault):
                self.stdout.write(f"history {outcome.seed}")
                for line in outcome.lines():
                    self.stdout.write(line)
        totals = runs.run_many(options["seed"], options["histories"], fault, options["jobs"])
        if options["document"]:
            self._document(totals, options["seed"], fault)
        self.stdout.write(json.dumps(totals.figures()) if options["json"] else runs.table(totals))
        if totals.failing:
            raise SystemExit(1)

    def _hunt(self, seed: int, *, as_json: bool, write: bool) -> None:
        from tests.simulation import mutants  # noqa: PLC0415
        from tests.simulation.document import with_mutants  # noqa: PLC0415

        verdicts, seconds = mutants.hunt_all(seed)
        if write:
            DOCUMENT.write_text(with_mutants(DOCUMENT.read_text(), verdicts))
        if as_json:
            self.stdout.write(json.dumps(mutants.figures(verdicts, seconds)))
        else:
            self.stdout.write(mutants.table(verdicts, seconds))
        if not all(verdict.anomaly for verdict in verdicts):
            raise SystemExit(1)

    def _document(self, totals: Any, seed: int, fault: str | None) -> None:
        from tests.simulation import mutants  # noqa: PLC0415
        from tests.simulation.document import document, kills_in, with_fault  # noqa: PLC0415

        if fault is not None:
            DOCUMENT.write_text(with_fault(DOCUMENT.read_text(), totals, fault, seed, timezone.localdate()))
            return
        verdicts, _ = mutants.hunt_all()
        kills = kills_in(DOCUMENT.read_text())
        DOCUMENT.write_text(document(totals, verdicts, seed, timezone.localdate(), kills))


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"must be a whole number above zero (given {text!r})")
    return int(text)
