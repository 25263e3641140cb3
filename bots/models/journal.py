"""What may be sent from now on, before it is orders' rows: the one write that is awaited."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class IntentKind(models.TextChoices):
    ENTRY = "entry", "A trade and its first orders"
    FURTHER = "further", "Further orders of a trade"


class JournaledIntent(models.Model):
    """One intent, durable and not unfolded yet: its orders may have been sent under ``token``.

    Behind the orders it becomes the rows of trade, orders and history, and is deleted in the same transaction, so the
    table is empty at rest. No column refers to another table by a constraint, and only two are indexed: what would
    have to be looked up for that is asked by the statement that inserts the row (``services.journal``).
    """

    Kind = IntentKind

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    token = models.BigIntegerField(help_text="Of the lease it was made durable under.")
    kind = models.CharField(max_length=8, choices=IntentKind.choices)
    trade_id = models.CharField(max_length=64)
    client_order_id = models.CharField(max_length=36, help_text="Of its first order.")
    claims = models.TextField(help_text="What no other intent may have: its orders' ids, legs with attempts, command.")
    body = models.TextField(help_text="Trade, orders and decision, as JSON.")
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        ordering = ("id",)
        verbose_name = "journaled intent"
        # Not unique=True, which on PostgreSQL makes an index for patterns beside it.
        constraints = [models.UniqueConstraint(fields=["client_order_id"], name="journaled_intent_once")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.trade_id}"
