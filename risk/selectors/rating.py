"""By which rules opportunities are sized, rated and charged."""

from __future__ import annotations

from risk.models import ScoringSettings, SizingSettings, SlippageSettings
from trading.config import RatingRules


def rating_rules() -> RatingRules | None:
    """Return the rules as operators have set them, else the defaults; None while sizing is off. Three queries."""
    defaults = RatingRules()
    sizing = SizingSettings.objects.first()
    if sizing is not None and not sizing.enabled:
        return None
    slippage, scoring = SlippageSettings.objects.first(), ScoringSettings.objects.first()
    weights, scales = (defaults.weights, defaults.scales) if scoring is None else scoring.to_policy()
    return RatingRules(
        sizing=defaults.sizing if sizing is None else sizing.to_policy(),
        slippage=defaults.slippage if slippage is None else slippage.to_policy(),
        weights=weights,
        scales=scales,
    )
