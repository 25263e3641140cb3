"""The bots app: what users own, what their engines did, and the services that change it."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class BotsConfig(AppConfig):
    name = "bots"
    verbose_name = "Trading"

    def ready(self) -> None:
        # The two signals of the project: neither is about rows. SQLite forgets its functions with each connection,
        # and permissions exist only after migrate, so the roles that hold them are made then.
        from bots.fields import sqlite_decimal_functions  # noqa: PLC0415

        connection_created.connect(sqlite_decimal_functions, dispatch_uid="bots.sqlite_decimal_functions")
        post_migrate.connect(_make_roles, dispatch_uid="bots.roles")


def _make_roles(*, app_config: AppConfig, using: str, **_: Any) -> None:
    # Runs after every app's migrations; the last of ours to have permissions is this one.
    if app_config.label == "bots" and using == "default":
        from bots.services.roles import roles_sync  # noqa: PLC0415

        roles_sync()
