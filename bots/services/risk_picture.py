"""What an owner's engine is told of risk: circuit breakers and their rules, and where trading is switched to."""

from __future__ import annotations

from bots.models import Bot, ExchangeAccount
from risk.policy.breakers import Breaker, Scope
from risk.selectors import breaker_settings, breakers_tripped, switches_of
from trading.config import RiskPicture


def risk_picture(*, owner_id: int) -> RiskPicture:
    """Return the picture as the database has it now."""
    return RiskPicture(
        rules=breaker_settings(),
        tripped=_over(owner_id, breakers_tripped()),
        switches=switches_of(owner_id),
    )


def _over(owner_id: int, tripped: list[Breaker]) -> tuple[Breaker, ...]:
    """Return the breakers that may stand over an owner's trades: everybody's, and his own."""
    owned = {Scope.OWNER, Scope.BOT, Scope.ACCOUNT}
    if not any(breaker.scope in owned for breaker in tripped):
        return tuple(tripped)
    mine = {(Scope.OWNER, str(owner_id))}
    mine |= {(Scope.BOT, str(key)) for key in Bot.objects.filter(owner=owner_id).values_list("pk", flat=True)}
    accounts = ExchangeAccount.objects.filter(owner=owner_id).values_list("pk", flat=True)
    mine |= {(Scope.ACCOUNT, str(key)) for key in accounts}
    return tuple(breaker for breaker in tripped if breaker.scope not in owned or (breaker.scope, breaker.key) in mine)
