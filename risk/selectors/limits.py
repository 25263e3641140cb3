"""Which limits bind a bot, and what they leave of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec
from django.db.models import Q

from risk.models import RiskLimit
from risk.rules import RULES
from trading.config import BotConfig

# Parameters that are off until a limit is set; those in money stay Decimal.
MONEY_RULES = frozenset({"max_daily_loss", "max_repair_loss"})


def resolved_limits(*, owner_id: int, bot_id: int) -> dict[str, Decimal]:
    """Return the tightest limit of each rule over a bot: everybody's, its owner's and its own."""
    binding = RiskLimit.objects.filter(
        Q(scope=RiskLimit.Scope.GLOBAL)
        | Q(scope=RiskLimit.Scope.OWNER, owner_id=owner_id)
        | Q(scope=RiskLimit.Scope.BOT, bot_id=bot_id)
    )
    found: dict[str, Decimal] = {}
    for name, value in binding.values_list("rule", "value"):
        if name in RULES:
            found[name] = RULES[name].tightest(value, found.get(name, value))
    return found


def limits_apply(config: BotConfig, limits: Mapping[str, Decimal]) -> BotConfig:
    """Return the configuration with each parameter no looser than its limit; limits never loosen one.

    A parameter that is off (None) takes the limit as it is.
    """
    tightened = {}
    for name, limit in limits.items():
        present = getattr(config, name)
        if present is None:
            tightened[name] = limit if name in MONEY_RULES else float(limit)
            continue
        bound = RULES[name].tightest(Decimal(str(present)), limit)
        tightened[name] = present if bound == present else type(present)(bound)
    return msgspec.structs.replace(config, **tightened)
