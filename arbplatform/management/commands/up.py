"""`./arb up`: the platform on the configured database, broker and exchanges."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError

from arbplatform.parts import WebServer
from arbplatform.runall import Runner
from arbplatform.start import DEFAULT_HOST, DEFAULT_PORT, ROLES, end_old_leases, only_one, parts_for

SEPARATELY = """\
To run the parts as processes of their own, on as many hosts as you like:
  ./arb up --role web --host 0.0.0.0 --port 8000
  ./arb up --role worker
  ./arb up --role engine      (one or more; each owner is run by one of them)
  ./arb up --role beat        (one)"""


class Command(BaseCommand):
    help = (
        "Migrate the database, check the settings and run the platform until Ctrl-C: everything in one process, or "
        "with services configured (DATABASE_URL, REDIS_URL) only the roles given."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=DEFAULT_HOST, help="Address to listen on (default: %(default)s).")
        parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="Port; 0 takes a free one (%(default)s).")
        parser.add_argument(
            "--role", action="append", choices=ROLES, dest="roles", help="Run only this part; may be given again."
        )
        parser.add_argument("--no-migrate", action="store_true", help="Leave the database as it is.")

    def handle(
        self, *args: Any, host: str, port: int, roles: list[str] | None, no_migrate: bool, **options: Any
    ) -> None:
        chosen = roles or list(ROLES)
        with ExitStack() as stack:
            if settings.ARB_SHAPE == "embedded":
                stack.enter_context(only_one(settings.ARB_STATE_DIR))
            parts = parts_for(chosen, host=host, port=port)
            if not no_migrate:
                self._migrate()
            end_old_leases()
            if settings.PRODUCTION and "web" in chosen:
                call_command("collectstatic", interactive=False, verbosity=0)
            sys.exit(Runner(parts).run(started=lambda: self._ready(parts, chosen)))

    def _migrate(self) -> None:
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except OperationalError as problem:
            reason = str(problem).strip().splitlines()[0]
            sys.exit(f"arb: the database does not answer ({reason}): start it, or correct DATABASE_URL")

    def _ready(self, parts: list[Any], roles: list[str]) -> None:
        for part in parts:
            if isinstance(part, WebServer):
                self.stdout.write(f"arb: ready on {part.url} (admin: {part.url}/admin/); Ctrl-C stops")
        if set(roles) != set(ROLES):
            self.stdout.write(f"arb: running {', '.join(roles)}; Ctrl-C stops")
        elif settings.ARB_SHAPE == "services":
            self.stdout.write(SEPARATELY)
        if not get_user_model().objects.filter(is_superuser=True).exists():
            self.stdout.write("arb: nobody can sign in yet: ./arb createsuperuser makes the first operator")
