"""The installation's own name, made once."""

from __future__ import annotations

import secrets

from bots.models import Installation
from trading.execution.ids import DIGITS, PREFIX, check_prefix


def installation_get() -> Installation:
    """Return the installation's row; make it at the first call, with a random prefix for order ids."""
    prefix = check_prefix("".join(secrets.choice(DIGITS) for _ in range(PREFIX)))
    return Installation.objects.get_or_create(pk=1, defaults={"id_prefix": prefix})[0]
