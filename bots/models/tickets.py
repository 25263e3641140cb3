"""Trades made by hand: what was asked for, and how it stands."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from bots.fields import MoneyField
from bots.models.accounts import ExchangeAccount
from bots.models.base import Owned, OwnedQuerySet, one_of
from bots.models.control import Command
from bots.models.orders import OrderSide
from bots.models.trades import Trade
from bots.models.venues import Market


class TicketPath(models.TextChoices):
    """How its orders were to go."""

    AUTO = "auto", "The fastest there is"
    WEBSOCKET = "websocket", "WebSocket only"


class Ticket(Owned):
    """A trade made by hand, beside its trade's row. Quantities are in the market's own unit, prices quote per base.

    What was asked for never changes; the rest is the engine's :class:`trading.tickets.TicketStanding`.
    """

    Side = OrderSide
    Path = TicketPath

    trade = models.OneToOneField(Trade, on_delete=models.PROTECT, related_name="ticket")
    command = models.OneToOneField(
        Command, on_delete=models.PROTECT, related_name="ticket", null=True, help_text="What asked for it."
    )
    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="tickets")
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="tickets")
    side = models.CharField(max_length=4, choices=OrderSide.choices, help_text="Of the entry.")
    quantity = MoneyField(help_text="Asked for.")
    style = models.JSONField(default=dict, help_text="How its orders are worked.")
    limit_cap = MoneyField("worst price", help_text="The entry pays no worse.")
    take_profit = MoneyField(null=True)
    stop_loss = MoneyField(null=True)
    leverage = models.PositiveSmallIntegerField(null=True)
    wanted_path = models.CharField(max_length=16, choices=TicketPath.choices, default=TicketPath.AUTO)
    is_close_only = models.BooleanField("closes only", default=False, help_text="Its entry opens nothing to be held.")

    entry_price = MoneyField(null=True, help_text="Average price of the entry.")
    held = MoneyField(default=0, help_text="The position now, unsigned.")
    protected_by = models.CharField(max_length=16, blank=True, default="", help_text="exchange, engine, or nobody.")
    protection_note = models.CharField(max_length=500, blank=True, default="")
    improvement = MoneyField(
        "price improvement", null=True, help_text="Against taking the book at once, in the quote asset."
    )
    fallback_quantity = MoneyField("fallback", default=0, help_text="What took the book after all.")
    status_questions = models.PositiveIntegerField(default=0, help_text="Times an order's state had to be asked for.")
    path = models.CharField(max_length=16, blank=True, default="", help_text="How its orders went.")
    progress = models.JSONField(default=list, blank=True)
    closing = models.JSONField(null=True, blank=True, help_text="How it is being closed.")
    carried_out = models.JSONField(default=list, blank=True, help_text="Commands that closed some of it.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("-id",)
        constraints = [
            one_of("side", OrderSide, "ticket_side"),
            one_of("wanted_path", TicketPath, "ticket_path"),
            models.CheckConstraint(
                condition=Q(quantity__gt=0, limit_cap__gt=0, held__gte=0, fallback_quantity__gte=0),
                name="ticket_amounts",
            ),
        ]
        indexes = [models.Index(fields=["owner", "-id"], name="ticket_owner")]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} of {self.market_id}"
