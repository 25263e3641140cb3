"""What operators set for the circuit breakers of a scope."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from risk.models.breakers import choices
from risk.policy.breakers import BreakerRules, Scope
from risk.policy.rulebook import ScopeRules
from risk.policy.threshold import ThresholdRules
from risk.policy.triggers import TriggerRules

# Columns by the part of the rules they are of; each column is named as the policy's field.
BREAKER = (
    "cooldown_seconds", "cooldown_growth", "max_cooldown_seconds", "forget_seconds", "clean_per_step",
    "probe_edge_factor", "probe_seconds",
)  # fmt: skip
TRIGGERS = (
    "consecutive_losses", "window_loss", "window_seconds", "error_rate", "error_sample", "rejects", "rejects_seconds",
    "stale_seconds", "latency_ms", "latency_sample", "one_legged", "one_legged_seconds", "reconciliation_difference",
)  # fmt: skip
THRESHOLD = ("share_of_equity", "share_of_profit", "floor", "ceiling")
EDITABLE = frozenset({*BREAKER, "steps", *TRIGGERS, "daily_loss", *THRESHOLD})
# These stay Decimal: they are money, or multiply it.
_MONEY = frozenset({"window_loss", *THRESHOLD})


# Settings, not sums: 15 digits are exact on every database.
def _figure(label: str, help_text: str, **options: Any) -> models.DecimalField[Any, Any]:
    return models.DecimalField(label, max_digits=15, decimal_places=6, help_text=help_text, **options)


def _count(label: str, help_text: str, **options: Any) -> models.PositiveIntegerField[Any, Any]:
    return models.PositiveIntegerField(label, help_text=help_text, **options)


_OFF = {"null": True, "blank": True}


class BreakerSettings(models.Model):
    """The rules of one scope's breakers. What is not set here is :data:`risk.policy.rulebook.DEFAULTS`.

    ``version`` counts changes: a form that was opened before another change is refused.
    """

    scope = models.CharField(max_length=16, choices=choices(Scope), unique=True, editable=False)

    cooldown_seconds = _figure("cool-down", "Seconds the first trip keeps it open.", default=Decimal(300))
    cooldown_growth = _figure("growth", "Factor of the cool-down for each trip in a row.", default=Decimal(2))
    max_cooldown_seconds = _figure("longest cool-down", "Seconds; at most 7 days.", default=Decimal(14_400))
    forget_seconds = _figure(
        "forgotten after", "Seconds closed until a trip counts as the first.", default=Decimal(86_400)
    )
    probe_edge_factor = _figure("probe's edge", "Factor of the least net edge for a probe.", default=Decimal("1.5"))
    probe_seconds = _figure("probe's time", "Seconds until an unreported probe is free again.", default=Decimal(60))
    steps = models.CharField(
        "steps back", max_length=64, default="25 50 100",
        help_text="Shares of the size in percent, rising to 100, with spaces between: 25 50 100.",
    )  # fmt: skip
    clean_per_step = _count("clean trades a step", "Trades without a loss that earn the next step.", default=3)

    consecutive_losses = _count("losses in a row", "Trades in a row at a loss; empty: off.", **_OFF)
    window_loss = _figure("loss in the window", "Net, in the quote asset; empty: off.", **_OFF)
    window_seconds = _figure("window", "Seconds of that window.", default=Decimal(3600))
    error_rate = _figure("error rate", "Share of errors among answers, such as 0.5; empty: off.", **_OFF)
    error_sample = _count("answers looked at", "How many of the last answers that is asked of.", default=20)
    rejects = _count("rejected orders", "Rejected orders within their time; empty: off.", **_OFF)
    rejects_seconds = _figure("time of rejected orders", "Seconds.", default=Decimal(60))
    stale_seconds = _figure("stale data", "Seconds the newest data may be old; empty: off.", **_OFF)
    latency_ms = _figure("latency", "Milliseconds the median answer may take; empty: off.", **_OFF)
    latency_sample = _count("answers measured", "How many of the last answers that is asked of.", default=20)
    one_legged = _count("one-legged trades", "Trades filled on one side only, in their time; empty: off.", **_OFF)
    one_legged_seconds = _figure("time of one-legged trades", "Seconds.", default=Decimal(3600))
    reconciliation_difference = models.BooleanField(
        "difference of the books", default=False, help_text="A difference from the exchange's books trips at once."
    )

    daily_loss = models.BooleanField(
        "daily loss", default=False, help_text="The day's loss from its peak trips until midnight UTC."
    )
    share_of_equity = _figure("share of equity", "Of the present equity, such as 0.02.", default=Decimal("0.02"))
    share_of_profit = _figure("share of profit", "Of the day's peak profit, added to it.", default=Decimal("0.5"))
    floor = _figure("least threshold", "In the quote asset.", default=Decimal(50))
    ceiling = _figure("greatest threshold", "In the quote asset.", default=Decimal(10_000))

    version = models.PositiveIntegerField(default=1, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("id",)
        default_permissions = ("view", "change")
        verbose_name = verbose_name_plural = "circuit breaker settings"
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    cooldown_seconds__gte=1,
                    cooldown_growth__gte=1,
                    max_cooldown_seconds__gte=F("cooldown_seconds"),
                    max_cooldown_seconds__lte=604_800,
                    forget_seconds__gte=0,
                    probe_edge_factor__gte=1,
                    probe_seconds__gte=1,
                    clean_per_step__gte=1,
                ),
                name="breaker_settings_cooldown",
            ),
            models.CheckConstraint(
                condition=Q(share_of_equity__gte=0, share_of_equity__lte=1, share_of_profit__gte=0)
                & Q(share_of_profit__lte=1, floor__gt=0, ceiling__gte=F("floor")),
                name="breaker_settings_threshold",
            ),
            models.CheckConstraint(
                condition=(Q(error_rate__isnull=True) | Q(error_rate__gt=0, error_rate__lte=1))
                & (Q(window_loss__isnull=True) | Q(window_loss__gt=0))
                & Q(error_sample__gte=1, latency_sample__gte=1),
                name="breaker_settings_triggers",
            ),
        ]

    def __str__(self) -> str:
        return f"Settings of {self.get_scope_display().lower()}"

    def clean(self) -> None:
        super().clean()
        try:
            self.to_policy()
        except ValueError as problem:
            field, _, text = str(problem).partition(": ")
            raise ValidationError({field: f"{text[:1].upper()}{text[1:]}."}) from None
        except (TypeError, ArithmeticError):
            return  # a field that was refused already is still what was given

    def to_policy(self) -> ScopeRules:
        """Return the rules as the policy knows them; raises ValueError that begins with the field's name."""
        threshold = ThresholdRules(**{name: self._value(name) for name in THRESHOLD})
        return ScopeRules(
            breaker=BreakerRules(**{name: self._value(name) for name in BREAKER}, steps=_shares(self.steps)),
            triggers=TriggerRules(**{name: self._value(name) for name in TRIGGERS}),
            threshold=threshold if self.daily_loss else None,
        )

    def take(self, rules: ScopeRules) -> None:
        """Take over rules of the policy's; the caller saves."""
        parts: tuple[tuple[Any, tuple[str, ...]], ...] = ((rules.breaker, BREAKER), (rules.triggers, TRIGGERS))
        if rules.threshold is not None:
            parts += ((rules.threshold, THRESHOLD),)
        for part, names in parts:
            for name in names:
                value = getattr(part, name)
                setattr(self, name, Decimal(str(value)) if isinstance(value, float) else value)
        self.steps = " ".join(f"{share * 100:g}" for share in rules.breaker.steps)
        self.daily_loss = rules.threshold is not None

    def _value(self, name: str) -> Any:
        value = getattr(self, name)
        return float(value) if isinstance(value, Decimal) and name not in _MONEY else value


def _shares(text: str) -> tuple[float, ...]:
    """Return "25 50 100" as shares; raises ValueError."""
    try:
        return tuple(float(Decimal(part) / 100) for part in text.split())
    except ArithmeticError:
        raise ValueError(f"steps: must be percents with spaces between, such as 25 50 100 (given {text!r})") from None
