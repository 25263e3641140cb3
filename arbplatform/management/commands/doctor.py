"""`./arb doctor`: is this installation in order, and what cures it if not."""

from __future__ import annotations

import json as codec
import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = (
        "Check Python, settings, secrets, database, migrations, broker, channel layer, credentials, clock and every "
        "enabled exchange with its clock's offset: one line each, with the cure. Exit code 1 if any fails."
    )
    requires_system_checks: Sequence[str] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        from arbplatform.doctor import as_json, diagnose  # noqa: PLC0415 (ccxt; --help needs none)

        checks = diagnose()
        if json:
            self.stdout.write(codec.dumps(as_json(checks)))
        else:
            for check in checks:
                cure = "" if check.ok or not check.cure else f"\n     cure: {check.cure}"
                self.stdout.write(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}{cure}")
        sys.exit(0 if all(check.ok for check in checks) else 1)
