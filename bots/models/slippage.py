"""What each real leg cost against its decision."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from bots.fields import MoneyField
from bots.models.base import Owned, OwnedQuerySet
from bots.models.orders import Order
from bots.models.trades import Trade


class LegSlippage(Owned):
    """One filled order, measured on its way; rewritten when late fills change it. Paper orders have none.

    Prices are quote per base, fees quote, parts basis points of the notional at the decided price; positive is worse.
    ``due_at`` and ``counted`` say how far it stands in the hours' sums: a row that is due is counted again, by its
    difference to what ``counted`` says it has added (in the columns' units and order), and is then no longer due. So
    each row is its own cursor. A common one over ids would pass by rows whose transaction commits late, and would not
    see a row change.
    """

    order = models.OneToOneField(Order, on_delete=models.PROTECT, related_name="slippage")
    trade = models.ForeignKey(Trade, on_delete=models.PROTECT, related_name="slippage")
    exchange = models.CharField(max_length=32)
    pair = models.CharField(max_length=65)
    at = models.DateTimeField(help_text="When the order left.")
    quantity = MoneyField(help_text="Base units filled.")
    decided_price = MoneyField(help_text="VWAP of the size in the book the decision was made on.")
    sent_price = MoneyField(help_text="VWAP of the size in the book when the order left.")
    sent_best = MoneyField(help_text="Best price when the order left.")
    arrival_best = MoneyField(help_text="Best price when the exchange first spoke of it.")
    filled_price = MoneyField(help_text="Average price of the fills.")
    expected_fee = MoneyField(help_text="In the quote asset.")
    paid_fee = MoneyField(help_text="In the quote asset.")
    fees_unvalued = models.PositiveIntegerField(
        "fees without a price", default=0, help_text="Fills whose fee is in neither of the two sums."
    )
    charged_bps = MoneyField("expected", help_text="Basis points taken off the edge for it beforehand.")
    before_send_bps = MoneyField("before sending", help_text="Basis points the price moved before the order left.")
    in_flight_bps = MoneyField("in flight", help_text="Basis points the best price moved until it arrived.")
    depth_bps = MoneyField("depth", help_text="Basis points walked beyond the walk the book had shown.")
    fee_bps = MoneyField("fee", help_text="Basis points paid beyond the fee expected.")
    total_bps = MoneyField("realised", help_text="The four together.")
    surprise_bps = MoneyField("surprise", help_text="Realised beyond expected: what there is to learn.")
    due_at = models.DateTimeField(null=True, help_text="When it goes into the sums; empty: it stands there.")
    counted = models.JSONField(null=True, help_text="What of it stands in its hour's sums.")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("-id",)
        verbose_name = "leg's slippage"
        verbose_name_plural = "legs' slippage"
        constraints = [
            models.CheckConstraint(
                condition=Q(quantity__gt=0, decided_price__gt=0, filled_price__gt=0), name="leg_slippage_positive"
            )
        ]
        indexes = [
            # Not partial: SQLite takes a partial index for no query with parameters.
            models.Index(fields=["due_at"], name="leg_slippage_due"),
            models.Index(fields=["at"], name="leg_slippage_at"),
            models.Index(fields=["owner", "-id"], name="leg_slippage_owner"),
        ]

    def __str__(self) -> str:
        return f"{self.total_bps:f} bps on {self.exchange}"
