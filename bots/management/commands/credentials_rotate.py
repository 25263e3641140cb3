"""`./arb credentials_rotate`: encrypt every account's credentials with the newest key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from bots.services.accounts import credentials_rotate
from bots.vault import CredentialsUnreadable


class Command(BaseCommand):
    help = (
        "Encrypt every account's credentials with the newest of ARB_FIELD_KEYS. Put a new key first, run this, and "
        "only then remove the old ones. If one row cannot be read with the keys there are, nothing is changed."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = credentials_rotate()
        except CredentialsUnreadable as problem:
            raise CommandError(f"{problem}. Nothing was changed.") from None
        self.stdout.write(f"Credentials of {count} accounts are encrypted with the newest key.")
