"""`manage.py runall`: web server, worker, beat and engines in one process, on a database that is ready."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from arbplatform.runall import Runner
from arbplatform.start import DEFAULT_HOST, DEFAULT_PORT, ROLES, end_old_leases, only_one, parts_for


class Command(BaseCommand):
    help = (
        "Run web server, task worker, beat and engine host in this process until Ctrl-C. The database must be "
        "migrated; ./arb up does that first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=DEFAULT_HOST, help="Address to listen on (default: %(default)s).")
        parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="Port; 0 takes a free one (%(default)s).")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        with only_one(settings.ARB_STATE_DIR):
            parts = parts_for(ROLES, host=host, port=port)
            end_old_leases()
            web = parts[0]
            code = Runner(parts).run(started=lambda: self.stdout.write(f"arb: ready on {web.url}"))  # type: ignore[attr-defined]
        sys.exit(code)
