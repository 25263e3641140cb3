"""Which dialect speaks for which exchange."""

from __future__ import annotations

import importlib

from trading.exchanges.ccxt_client import folder_of
from trading.exchanges.generic.dialect import Dialect


def dialect_class(ccxt_id: str) -> type[Dialect]:
    """Return what knows an exchange's peculiarities."""
    folder = folder_of(ccxt_id)
    if folder == "generic":
        return Dialect
    module = importlib.import_module(f"trading.exchanges.{folder}.venue")
    name = "".join(part.capitalize() for part in folder.split("_"))
    found: type[Dialect] = getattr(module, f"{name}Dialect")
    return found
