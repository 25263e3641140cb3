"""Double entry: where every amount came from and where it went. The lines of an entry are zero per asset."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from bots.fields import MoneyField
from bots.models.accounts import ExchangeAccount
from bots.models.base import AppendOnly, Owned, OwnedQuerySet, one_of
from bots.models.orders import Fill
from bots.models.reconciliation import Difference


class LedgerCause(models.TextChoices):
    FILL = "fill", "Fill"
    FEE = "fee", "Fee"
    # What the exchange held when an account was first compared with it, and what was adopted from it since.
    OPENING = "opening", "Opening balance"
    DEPOSIT = "deposit", "Deposit"
    WITHDRAWAL = "withdrawal", "Withdrawal"
    MANUAL_TRADE = "manual_trade", "Trade by hand"
    CORRECTION = "correction", "Correction"


OF_FILLS = (LedgerCause.FILL.value, LedgerCause.FEE.value)


class LedgerEntry(Owned, AppendOnly):
    """One booked cause; a fill is booked once, its fee once, a difference once, an account opened once."""

    Cause = LedgerCause

    cause = models.CharField(max_length=16, choices=Cause.choices)
    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="ledger_entries")
    fill = models.ForeignKey(Fill, on_delete=models.PROTECT, related_name="ledger_entries", null=True)
    difference = models.OneToOneField(
        Difference, on_delete=models.PROTECT, related_name="ledger_entry", null=True,
        help_text="What was adopted from the exchange.",
    )  # fmt: skip
    at = models.DateTimeField()

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("-id",)
        verbose_name_plural = "ledger entries"
        constraints = [
            models.UniqueConstraint(fields=["fill", "cause"], name="ledger_entry_unique"),
            models.UniqueConstraint(
                fields=["account"], condition=Q(cause=LedgerCause.OPENING.value), name="ledger_opened_once"
            ),
            models.CheckConstraint(
                condition=Q(cause__in=OF_FILLS, fill__isnull=False) | (~Q(cause__in=OF_FILLS) & Q(fill__isnull=True)),
                name="ledger_entry_of_fill",
            ),
            one_of("cause", LedgerCause, "ledger_entry_cause"),
        ]
        indexes = [models.Index(fields=["owner", "-id"], name="ledger_entry_owner")]

    def __str__(self) -> str:
        return f"{self.get_cause_display()} #{self.pk}"


class LedgerCheckpoint(models.Model):
    """An account's sums over its first lines, so that nobody adds up years of them each minute.

    ``next_line`` is the newest line at ``next_at``: once that is long enough ago for every line before it to be
    committed, the sums go on to there.
    """

    account = models.OneToOneField(ExchangeAccount, on_delete=models.CASCADE, related_name="ledger_checkpoint")
    line = models.BigIntegerField(default=0)
    sums = models.JSONField(default=dict)
    next_line = models.BigIntegerField(default=0)
    next_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"ledger of account {self.account_id} up to line {self.line}"


class LedgerBook(models.TextChoices):
    ACCOUNT = "account", "Exchange account"
    TRADING = "trading", "Trading"
    FEES = "fees", "Fees"
    EQUITY = "equity", "Equity"


class LedgerLine(AppendOnly):
    """An amount of one asset in one book: ``account`` is what the exchange holds, the others are its counterparts."""

    Book = LedgerBook

    entry = models.ForeignKey(LedgerEntry, on_delete=models.PROTECT, related_name="lines")
    book = models.CharField(max_length=16, choices=Book.choices)
    # A contract is a holding too: its asset is the market's symbol, its amount the contracts held.
    asset = models.CharField(max_length=64)
    amount = MoneyField()

    class Meta:
        default_permissions = ("view",)
        ordering = ("id",)
        constraints = [
            one_of("book", LedgerBook, "ledger_line_book"),
            models.CheckConstraint(condition=~Q(amount=0), name="ledger_line_not_zero"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.asset} {self.get_book_display()}"
