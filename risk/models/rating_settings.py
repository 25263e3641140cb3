"""What operators set for sizing, slippage and scoring: one row each, every rule of the policy a column of its name."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from risk.policy.score import ScoreScales, ScoreWeights
from risk.policy.sizing import SizingRules
from risk.policy.slippage import SlippageRules

ONLY = "all"  # the scope of the one row
LEAST_DAYS, MOST_DAYS = 1, 90

Bounds = Mapping[str, tuple[str, str]]
Rules = type[msgspec.Struct]

# What the policy takes; its own errors name these bounds too. The columns keep them whoever writes.
SIZING: Bounds = {
    "depth_share": ("0", "1"), "band_bps": ("0.01", "1000"), "volatility_target_bps": ("0.01", "10000"),
    "volatility_floor": ("0", "1"), "volatility_unknown": ("0", "1"), "reward_full": ("1", "1000"),
    "reward_floor": ("0", "1"), "score_floor": ("0", "1"),
}  # fmt: skip
SLIPPAGE: Bounds = {
    "share_of_profit": ("0", "1"), "cap_bps": ("0", "1000"), "drift_sigmas": ("0", "10"),
    "unknown_sigma_bps": ("0", "1000"), "impact_coefficient": ("0", "1000"), "min_sample": ("1", "1000000"),
    "edge_floor_bps": ("0", "1000"), "edge_cap_bps": ("0", "1000"), "threshold_floor": ("0", "1"),
}  # fmt: skip
WEIGHTS: Bounds = dict.fromkeys(("profit", "liquidity", "volatility", "success", "conditions"), ("0", "1000"))
SCALES: Bounds = {
    "profit_full_bps": ("0.01", "10000"), "depth_full": ("0.01", "1000000"), "volume_full": ("0.01", "1000000000"),
    "volatility_half_bps": ("0.001", "10000"), "volatility_unknown": ("0", "1"), "spread_unknown": ("0", "1"),
    "prior_wins": ("0.01", "1000000"), "prior_losses": ("0.01", "1000000"), "latency_worst_ms": ("1", "600000"),
    "errors_worst": ("0.001", "1"), "book_age_worst_ms": ("1", "600000"),
}  # fmt: skip
DAYS: Bounds = {"days": (str(LEAST_DAYS), str(MOST_DAYS))}


def _figure(default: float, help_text: str, label: str | None = None) -> models.DecimalField[Any, Any]:
    # Settings, not sums: 16 digits are exact on every database.
    return models.DecimalField(
        label, max_digits=16, decimal_places=6, default=Decimal(str(default)), help_text=help_text
    )  # fmt: skip


def _within(bounds: Bounds, name: str) -> models.CheckConstraint:
    condition = Q()
    for field, (low, high) in bounds.items():
        condition &= Q(**{f"{field}__gte": Decimal(low), f"{field}__lte": Decimal(high)})
    return models.CheckConstraint(condition=condition, name=name)


class RatingSettings(models.Model):
    """One row; while it is not there the policy's defaults hold.

    ``version`` counts changes: a form that was opened before another change is refused.
    """

    # The parts of the policy that the columns make, in the order in which to_policy returns them.
    parts: ClassVar[Mapping[Rules, Bounds]]
    beside: ClassVar[tuple[str, ...]] = ()  # columns that are no rule of the policy

    scope = models.CharField(max_length=8, default=ONLY, unique=True, editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        name = str(self._meta.verbose_name)
        return f"{name[:1].upper()}{name[1:]}"

    @classmethod
    def editable(cls) -> frozenset[str]:
        """Return the names of the columns that operators set."""
        return frozenset({*cls.beside, *(name for bounds in cls.parts.values() for name in bounds)})

    def rules(self) -> tuple[Any, ...]:
        """Return the policy's structs; raises ValueError that begins with the field's name."""
        return tuple(
            part(**{name: self._value(name) for name in bounds}) for part, bounds in self.parts.items()
        )  # fmt: skip

    def clean(self) -> None:
        super().clean()
        try:
            self.rules()
        except ValueError as problem:
            raise by_field(str(problem), self.editable()) from None
        except (TypeError, ArithmeticError):
            return  # a field that was refused already is still what was given

    def _value(self, name: str) -> Any:
        value = getattr(self, name)
        return float(value) if isinstance(value, Decimal) else value


def by_field(problem: str, fields: frozenset[str]) -> ValidationError:
    """Return a policy's "band_bps is 0.0; it must lie between 0.01 and 1000." as an error of its field."""
    field, _, text = problem.partition(" is ")
    if field not in fields:
        return ValidationError(problem, code="invalid")
    given, _, must = text.partition("; it must ")
    said = f"Must {must.rstrip('.')} (given {given})." if must else f"Is {text}"
    return ValidationError({field: ValidationError(said, code="invalid")})


class SizingSettings(RatingSettings):
    """How large a trade may be, see :mod:`risk.policy.sizing`; off, every trade has its limit's size."""

    parts = {SizingRules: SIZING}
    beside = ("enabled",)

    enabled = models.BooleanField(
        default=True,
        help_text="Off: opportunities are neither sized, rated nor held against expected slippage; every trade is as "
        "large as its limits allow.",
    )
    depth_share = _figure(0.25, "How much of the thinner book's depth may be taken, from 0 to 1.")
    band_bps = _figure(10, "Basis points from the best price within which a book's depth counts.", "band")
    volatility_target_bps = _figure(
        10, "Basis points per square root of a minute up to which the full size is traded.", "volatility target"
    )
    volatility_floor = _figure(0.1, "Smallest volatility factor.")
    volatility_unknown = _figure(0.5, "Volatility factor while it is not known yet.")
    reward_full = _figure(2, "Net edge, as a multiple of the demanded one, at which the reward factor is 1.")
    reward_floor = _figure(0.5, "Reward factor at exactly the demanded edge.")
    score_floor = _figure(0.1, "Smallest score factor; a score of 0 is a veto and stays 0.")

    class Meta(RatingSettings.Meta):
        verbose_name = verbose_name_plural = "sizing settings"
        constraints = [
            models.CheckConstraint(condition=Q(scope=ONLY), name="sizing_settings_one"),
            _within(SIZING, "sizing_settings_bounds"),
        ]

    def to_policy(self) -> SizingRules:
        """Return the rules; raises ValueError that begins with the field's name."""
        (sizing,) = self.rules()
        return sizing  # type: ignore[no-any-return]


class SlippageSettings(RatingSettings):
    """What slippage is expected, allowed and learned from, see :mod:`risk.policy.slippage`."""

    parts = {SlippageRules: SLIPPAGE}
    beside = ("days",)

    share_of_profit = _figure(0.5, "Share of the expected profit that slippage may take, from 0 to 1.")
    cap_bps = _figure(10, "Basis points: the most slippage allowed, whatever the profit.", "cap")
    drift_sigmas = _figure(
        0.8, "Standard deviations of the price's move in flight that are charged; a normal move's mean size is 0.8."
    )
    unknown_sigma_bps = _figure(
        2, "Basis points per root second assumed while the volatility is not measured; 2 is 112 % a year.",
        "unknown volatility",
    )  # fmt: skip
    impact_coefficient = _figure(
        1, "Basis points that taking everything visible on one book would cost beyond the walk."
    )
    min_sample = models.PositiveIntegerField(
        "least sample", default=30, help_text="Legs below which nothing is learned from realised slippage."
    )
    days = models.PositiveSmallIntegerField(
        "days looked back", default=7, help_text=f"Legs of so many days are learned from, {LEAST_DAYS} to {MOST_DAYS}."
    )
    edge_floor_bps = _figure(0, "Basis points demanded on top, at least.", "least edge on top")
    edge_cap_bps = _figure(20, "Basis points demanded on top, at most.", "greatest edge on top")
    threshold_floor = _figure(
        0.25, "Smallest factor that realised slippage may put on the allowed slippage, from 0 to 1."
    )

    class Meta(RatingSettings.Meta):
        verbose_name = verbose_name_plural = "slippage settings"
        constraints = [
            models.CheckConstraint(condition=Q(scope=ONLY), name="slippage_settings_one"),
            _within({**SLIPPAGE, **DAYS}, "slippage_settings_bounds"),
            models.CheckConstraint(
                condition=Q(edge_floor_bps__lte=F("edge_cap_bps")), name="slippage_settings_edge"
            ),
        ]  # fmt: skip

    def clean(self) -> None:
        super().clean()
        if isinstance(self.days, int) and not LEAST_DAYS <= self.days <= MOST_DAYS:
            raise ValidationError({"days": f"Must lie between {LEAST_DAYS} and {MOST_DAYS} (given {self.days})."})

    def to_policy(self) -> SlippageRules:
        """Return the rules; raises ValueError that begins with the field's name."""
        (slippage,) = self.rules()
        return slippage  # type: ignore[no-any-return]


class ScoringSettings(RatingSettings):
    """What an opportunity's score is made of, see :mod:`risk.policy.score`."""

    parts = {ScoreWeights: WEIGHTS, ScoreScales: SCALES}

    profit = _figure(0.3, "Weight of the net edge.")
    liquidity = _figure(0.2, "Weight of depth and volume.")
    volatility = _figure(0.15, "Weight of a still market.")
    success = _figure(0.2, "Weight of the share of trades won on the route.")
    conditions = _figure(0.15, "Weight of the exchanges' health.")
    profit_full_bps = _figure(30, "Basis points of net edge from which the profit component is 1.", "full profit")
    depth_full = _figure(4, "Depth in both bands, as a multiple of the largest trade allowed, that is full liquidity.")
    volume_full = _figure(1000, "Volume of 24 hours, as a multiple of that trade, that is full liquidity.")
    volatility_half_bps = _figure(
        2, "Basis points per square root of a second at which the volatility component is 0.5.", "half volatility"
    )
    volatility_unknown = _figure(0.5, "Volatility component while it is not known yet.")
    spread_unknown = _figure(0.5, "What stands for a usual spread that is not known yet.")
    prior_wins = _figure(4, "Trades a route is taken to have won before its first one.")
    prior_losses = _figure(4, "Trades a route is taken to have lost before its first one.")
    latency_worst_ms = _figure(
        1000, "Milliseconds of order latency at which an exchange's health is 0.", "worst latency"
    )
    errors_worst = _figure(0.2, "Share of failed requests at which an exchange's health is 0.")
    book_age_worst_ms = _figure(2000, "Milliseconds of a book's age at which its health is 0.", "worst book age")

    class Meta(RatingSettings.Meta):
        verbose_name = verbose_name_plural = "scoring settings"
        constraints = [
            models.CheckConstraint(condition=Q(scope=ONLY), name="scoring_settings_one"),
            _within({**WEIGHTS, **SCALES}, "scoring_settings_bounds"),
            models.CheckConstraint(
                condition=Q(profit__gt=0) | Q(liquidity__gt=0) | Q(volatility__gt=0) | Q(success__gt=0)
                | Q(conditions__gt=0),
                name="scoring_settings_sum",
                violation_error_message="At least one of the weights must be above 0.",
            ),
        ]  # fmt: skip

    def to_policy(self) -> tuple[ScoreWeights, ScoreScales]:
        """Return weights and scales; raises ValueError that begins with the field's name, or says that all are 0."""
        weights, scales = self.rules()
        return weights, scales
