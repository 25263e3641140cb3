"""Spot-against-perpetual trades: what they were entered on, and how they stand."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from bots.fields import MoneyField
from bots.models.base import Owned, OwnedQuerySet
from bots.models.trades import Trade
from bots.models.venues import Market


class BasisPosition(Owned):
    """A pair of spot and a perpetual sold short, beside its trade's row. Edges are basis points of the spot notional.

    Markets and rules never change; the rest is the engine's :class:`trading.basis.BasisStanding`.
    """

    trade = models.OneToOneField(Trade, on_delete=models.PROTECT, related_name="basis")
    spot = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="basis_spots")
    perp = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="basis_perpetuals")
    rules = models.JSONField(help_text="What it was entered on and is left by.")
    funding_rate = models.FloatField(help_text="When it was entered; a share of notional an interval.")

    held = MoneyField(default=0, help_text="Base units that hedge each other now.")
    spot_price = MoneyField(null=True, help_text="Average price of the spot entry.")
    perp_price = MoneyField("perpetual price", null=True, help_text="Average price of the perpetual's entry.")
    entry_bps = MoneyField("entry edge", null=True, help_text="Basis points after the fees of entry and exit.")
    funding = MoneyField(default=0, help_text="Received so far, in the quote asset; negative: paid.")
    funding_at = models.DateTimeField(null=True, help_text="Until when it is counted.")
    is_estimated = models.BooleanField("estimated", default=False, help_text="On paper, from the rates.")
    exit_bps = MoneyField("exit edge", null=True, help_text="What closing would have earned in all, in basis points.")
    exit_at = models.DateTimeField(null=True, help_text="When that was.")
    closing = models.JSONField(null=True, blank=True, help_text="Why it is being closed.")
    outside = MoneyField(default=0, help_text="Base units of the perpetual that others have closed.")
    outside_price = MoneyField(null=True, help_text="Of the perpetual, at about that time.")
    outside_spot = MoneyField(null=True, help_text="Of spot, at about that time.")
    carried_out = models.JSONField(default=list, blank=True, help_text="Commands that closed it.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(condition=Q(held__gte=0, outside__gte=0), name="basis_amounts"),
        ]
        indexes = [models.Index(fields=["owner", "-id"], name="basis_owner")]

    def __str__(self) -> str:
        return f"{self.spot_id} against {self.perp_id}"
