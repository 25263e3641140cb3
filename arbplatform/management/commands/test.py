"""`./arb test`: every test and check of the project."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from arbplatform import testrun


class Command(BaseCommand):
    help = (
        "Run all checks (ruff, mypy, import borders, system check, migrations) and all tests: embedded on SQLite, "
        "again on PostgreSQL and Redis where marked, and in headless Chromium. What is absent is installed if this "
        "is root, else skipped with a line that says how to get it; with CI=true a skip is a failure. Further "
        "arguments go to pytest (./arb test tests/risk -k limits) and leave the checks out."
    )
    requires_system_checks: Sequence[str] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fast", action="store_true", help="Only the quick checks and the embedded tests.")

    def run_from_argv(self, argv: list[str]) -> None:
        parser = self.create_parser(argv[0], argv[1])
        options, pytest_arguments = parser.parse_known_args(argv[2:])
        sys.exit(self.handle(fast=options.fast, pytest_arguments=pytest_arguments))

    def handle(self, *args: Any, fast: bool = False, pytest_arguments: list[str] | None = None, **options: Any) -> int:
        strict = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
        return testrun.run(fast=fast, pytest_arguments=pytest_arguments or [], strict=strict)
