"""What an owner's engine is told of risk: rules, breakers and switches, and what all owners' legs have taught."""

from __future__ import annotations

from risk.selectors import breaker_settings, breakers_tripped, lessons, rating_rules, switches_of
from trading.config import RiskPicture


def risk_picture(owner_id: int) -> RiskPicture:
    """Return the risk picture of an owner: shared breakers and the owner's own, nobody else's."""
    rating = rating_rules()
    return RiskPicture(
        rating=rating,
        rules=breaker_settings(),
        tripped=tuple(breakers_tripped(owner_id=owner_id)),
        learned=lessons() if rating is not None else {},
        switches=switches_of(owner_id),
    )
