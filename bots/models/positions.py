"""What exchanges say an account holds in contracts."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from bots.fields import MoneyField
from bots.models.accounts import ExchangeAccount
from bots.models.base import Owned, OwnedQuerySet, one_of
from bots.models.venues import Market


class PositionSide(models.TextChoices):
    """``both`` is the one position of a market in one-way mode; a negative quantity is short in either mode."""

    BOTH = "both", "One-way"
    LONG = "long", "Long"
    SHORT = "short", "Short"


class MarginMode(models.TextChoices):
    CROSS = "cross", "Cross"
    ISOLATED = "isolated", "Isolated"
    UNKNOWN = "", "Not told"


class PositionQuerySet(OwnedQuerySet["Position"]):
    def held(self) -> PositionQuerySet:
        """Return the positions that are open; what is gone stays as a row of 0."""
        return self.filter(~Q(quantity=0))


class Position(Owned):
    """The exchange's figures for one position, as of ``at``; quantity in the market's own unit, prices quote per base.

    A position that is gone is a row of 0: it says since when, and no older reading brings it back.
    """

    Side = PositionSide
    Margin = MarginMode

    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="positions")
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="positions")
    side = models.CharField(max_length=5, choices=Side.choices)
    quantity = MoneyField(help_text="Negative: short. 0: gone.")
    entry_price = MoneyField(null=True)
    mark_price = MoneyField(null=True)
    unrealized_pnl = MoneyField("unrealised PnL", null=True, help_text="At the mark price, in the settle asset.")
    leverage = models.PositiveSmallIntegerField(null=True)
    margin_mode = models.CharField(max_length=8, choices=Margin.choices, blank=True, default="")
    liquidation_price = MoneyField(null=True)
    at = models.DateTimeField(help_text="When the exchange was asked.")

    objects = PositionQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("account_id", "market_id", "side")
        constraints = [
            models.UniqueConstraint(fields=["account", "market", "side"], name="position_unique"),
            one_of("side", PositionSide, "position_side"),
            one_of("margin_mode", MarginMode, "position_margin"),
        ]
        indexes = [models.Index(fields=["owner", "account"], name="position_owner")]

    def __str__(self) -> str:
        return f"{self.market_id} of account {self.account_id}"
