"""Realised slippage of all legs, rolled up by pair, exchange and hour."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.db.models import Q

from risk.policy.realised import Rollup

# Sums are whole millionths of a basis point (their squares of a square one): exact on every database, in any order.
UNIT = 6


def bps(units: int, count: int = 1) -> float:
    """Return so many units as basis points each of ``count`` legs; 0.0 of none."""
    return float(Decimal(units).scaleb(-UNIT) / count) if count else 0.0


def rollup_of(count: int, surprise: int, squares: int) -> Rollup:
    """Return stored sums as the policy knows them."""
    return Rollup(count, Decimal(surprise).scaleb(-UNIT), Decimal(squares).scaleb(-UNIT))


class SlippageStat(models.Model):
    """What the legs of one hour cost on one exchange in one pair, whoever's they were. Whose is not kept.

    ``surprise`` and ``squares`` are of what legs cost beyond what was ``expected`` of them and charged beforehand; the
    four parts are of all they cost against their decisions. Real orders only: paper money has no slippage to learn
    from, and an exchange's environment is in its code.
    """

    pair = models.CharField(max_length=65)
    exchange = models.CharField(max_length=32)
    hour = models.DateTimeField(help_text="When it begins, in UTC.")
    legs = models.PositiveIntegerField(default=0)
    surprise = models.BigIntegerField(default=0)
    squares = models.BigIntegerField(default=0)
    expected = models.BigIntegerField(default=0)
    before_send = models.BigIntegerField(default=0)
    in_flight = models.BigIntegerField(default=0)
    depth = models.BigIntegerField(default=0)
    fee = models.BigIntegerField(default=0)

    class Meta:
        ordering = ("-hour", "exchange", "pair")
        default_permissions = ("view",)
        verbose_name = "slippage"
        verbose_name_plural = "slippage"
        constraints = [
            models.UniqueConstraint(fields=["hour", "exchange", "pair"], name="slippage_stat_unique"),
            models.CheckConstraint(condition=Q(squares__gte=0), name="slippage_stat_squares"),
        ]

    def __str__(self) -> str:
        return f"{self.pair} on {self.exchange}, {self.hour:%Y-%m-%d %H:%M} UTC"

    @property
    def realised(self) -> int:
        """What the legs cost in all, in units."""
        return self.before_send + self.in_flight + self.depth + self.fee
