"""Who may send orders, what pages ask of the engine, and the installation's own name."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from bots.models.base import Owned, OwnedQuerySet, one_of


class OwnerLease(models.Model):
    """The right to send orders for one owner. All its times are the database's clock.

    ``token`` grows with every taking and never shrinks, so whoever holds an older one is refused.
    """

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    holder = models.CharField(max_length=128, blank=True, default="")
    token = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()
    taken_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = "owner lease"
        constraints = [models.CheckConstraint(condition=Q(token__gte=0), name="lease_token_not_negative")]

    def __str__(self) -> str:
        return f"lease {self.token} of {self.owner}"


class CommandKind(models.TextChoices):
    BOT_START = "bot_start", "Start bot"
    BOT_STOP = "bot_stop", "Stop bot"
    RELOAD = "reload", "Reload configuration"
    ORDER_DECIDE = "order_decide", "Decide disputed order"
    RECONCILE = "reconcile", "Reconcile accounts"
    MANUAL_TRADE = "manual_trade", "Trade by hand"
    MANUAL_CLOSE = "manual_close", "Close a trade made by hand"


# What a person waits for.
BY_HAND = frozenset({CommandKind.MANUAL_TRADE, CommandKind.MANUAL_CLOSE})


class CommandStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


class Command(Owned):
    """What a page or the API asks of an owner's engine. The holder of the lease carries it out, once."""

    Kind = CommandKind
    Status = CommandStatus

    kind = models.CharField(max_length=32, choices=Kind.choices)
    payload = models.JSONField(default=dict, blank=True)
    idempotency_key = models.CharField(max_length=64, unique=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PENDING)
    result = models.TextField(blank=True, default="")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("-id",)
        constraints = [one_of("kind", CommandKind, "command_kind"), one_of("status", CommandStatus, "command_status")]
        indexes = [
            models.Index(fields=["owner", "id"], condition=Q(status="pending"), name="command_pending"),
            models.Index(fields=["owner", "-id"], name="command_owner"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} #{self.pk}"


class Installation(models.Model):
    """The one row that names this installation; its prefix keeps order ids apart from those of other databases."""

    id_prefix = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ("view",)
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="installation_single_row")]

    def __str__(self) -> str:
        return self.id_prefix
