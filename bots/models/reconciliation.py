"""Where our books and an exchange's account differ, and what was decided about it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from bots.fields import MoneyField
from bots.models.accounts import ExchangeAccount
from bots.models.base import Owned, OwnedQuerySet, choices, one_of
from trading.execution.reconciliation import DifferenceCause, DifferenceKind


class DifferenceState(models.TextChoices):
    OPEN = "open", "Open"
    ADOPTED = "adopted", "Adopted"
    RESOLVED = "resolved", "Resolved"
    DISMISSED = "dismissed", "Dismissed"


class Difference(Owned):
    """One difference; while it is open it has one row, which closes itself when the difference no longer shows."""

    Kind = DifferenceKind
    Cause = DifferenceCause
    State = DifferenceState

    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="differences")
    kind = models.CharField(max_length=16, choices=choices(DifferenceKind))
    key = models.CharField(max_length=64, help_text="The asset, the contract or the order's id.")
    market = models.CharField(max_length=100, blank=True, default="")
    asset = models.CharField(max_length=64, blank=True, default="", help_text="As the ledger names it.")
    ours = MoneyField(null=True, help_text="What our ledger says.")
    theirs = MoneyField(null=True, help_text="What the exchange says.")
    amount = MoneyField(null=True, help_text="Theirs less ours.")
    cause = models.CharField("likely cause", max_length=16, choices=choices(DifferenceCause))
    suggestion = models.CharField(max_length=500, blank=True, default="")
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    decided_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=500, blank=True, default="")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        permissions = [("settle_difference", "Can adopt or dismiss a difference")]
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["account", "kind", "key"], condition=Q(state="open"), name="difference_open_once"
            ),
            one_of("kind", DifferenceKind, "difference_kind"),
            one_of("cause", DifferenceCause, "difference_cause"),
            one_of("state", DifferenceState, "difference_state"),
        ]
        # Not partial: SQLite takes a partial index for no query with parameters.
        indexes = [
            models.Index(fields=["owner", "state", "-id"], name="difference_owner"),
            models.Index(fields=["account", "state"], name="difference_account"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.key}"
