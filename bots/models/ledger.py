"""Double entry: where every amount came from and where it went. The lines of an entry are zero per asset."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from bots.fields import MoneyField
from bots.models.accounts import ExchangeAccount
from bots.models.base import AppendOnly, Owned, OwnedQuerySet, choices, one_of
from bots.models.orders import Fill
from bots.models.reconciliation import Difference
from trading.messages import IncomeKind


class LedgerCause(models.TextChoices):
    FILL = "fill", "Fill"
    FEE = "fee", "Fee"
    REALISED = "realised", "Realised PnL"
    FUNDING = "funding", "Funding"
    INSURANCE = "insurance", "Cost of a liquidation"
    # What the exchange held when an account was first compared with it, and what was adopted from it since.
    OPENING = "opening", "Opening balance"
    DEPOSIT = "deposit", "Deposit"
    WITHDRAWAL = "withdrawal", "Withdrawal"
    MANUAL_TRADE = "manual_trade", "Trade by hand"
    FORCED = "forced", "Closed by the exchange"
    CORRECTION = "correction", "Correction"


OF_FILLS = (LedgerCause.FILL.value, LedgerCause.FEE.value, LedgerCause.REALISED.value)
OF_INCOMES = (LedgerCause.FUNDING.value, LedgerCause.INSURANCE.value)


class Income(Owned, AppendOnly):
    """A line of an exchange's statement that no execution tells. Its id and kind, on its account, make it one.

    What happened before an account's ledger was opened is in its opening balance: it is kept, and has no entry.
    """

    Kind = IncomeKind

    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="incomes")
    kind = models.CharField(max_length=16, choices=choices(IncomeKind))
    transaction_id = models.CharField(max_length=64)
    market = models.CharField(max_length=100, blank=True, default="", help_text="Empty: of none.")
    asset = models.CharField(max_length=32)
    amount = MoneyField(help_text="Negative: paid.")
    at = models.DateTimeField(help_text="The exchange's time.")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=["account", "kind", "transaction_id"], name="income_unique"),
            one_of("kind", IncomeKind, "income_kind"),
        ]
        indexes = [models.Index(fields=["account", "at"], name="income_at")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.amount} {self.asset}"


class LedgerEntry(Owned, AppendOnly):
    """One booked cause; of a fill, its fee and what it realised once each, a line of an exchange's statement once, a
    difference once, an account opened once."""

    Cause = LedgerCause

    cause = models.CharField(max_length=16, choices=Cause.choices)
    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="ledger_entries")
    fill = models.ForeignKey(Fill, on_delete=models.PROTECT, related_name="ledger_entries", null=True)
    income = models.OneToOneField(Income, on_delete=models.PROTECT, related_name="ledger_entry", null=True)
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
            models.CheckConstraint(
                condition=Q(cause__in=OF_INCOMES, income__isnull=False)
                | (~Q(cause__in=OF_INCOMES) & Q(income__isnull=True)),
                name="ledger_entry_of_income",
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


class FeeCheckpoint(Owned):
    """An owner's fees over the first lines, by trade mode and asset; it moves on as :class:`LedgerCheckpoint` does."""

    line = models.BigIntegerField(default=0)
    sums = models.JSONField(default=dict)
    next_line = models.BigIntegerField(default=0)
    next_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["owner"], name="fee_checkpoint_unique")]

    def __str__(self) -> str:
        return f"fees of owner {self.owner_id} up to line {self.line}"


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
    # A contract is a holding too: its asset is the market's symbol, with its side where both are held apart, its amount
    # the contracts held.
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
