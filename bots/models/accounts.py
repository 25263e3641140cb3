"""A user's access to an exchange, and what the exchange says is on it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce

from bots.fields import CiphertextField, MoneyField, MoneySum
from bots.models.base import Owned, OwnedQuerySet, one_of, validate_plain_name
from bots.models.venues import Exchange
from trading.instruments import money


def validate_amounts(value: Any) -> None:
    """Refuse anything but an object of asset codes and decimal strings that are not negative."""
    if not isinstance(value, dict):
        raise ValidationError('Must be an object of amounts such as {"USDT": "10000"}.', code="amounts")
    if len(value) > 200:
        raise ValidationError(f"At most 200 assets (given {len(value)}).", code="amounts")
    for asset, amount in value.items():
        if not isinstance(amount, str):
            raise ValidationError(f'{asset}: write the amount as a string, such as "10000.5".', code="amounts")
        try:
            number = money(amount, field=asset[:32])
        except ValueError as error:
            raise ValidationError(str(error), code="amounts") from None
        if number < 0:
            raise ValidationError(f"{asset[:32]}: must not be negative (given {amount[:40]}).", code="amounts")


class AccountObserved(models.TextChoices):
    IDLE = "idle", "Not in use"
    STARTING = "starting", "Starting"
    LIVE = "live", "Live"
    BLOCKED = "blocked", "Blocked"
    DOWN = "down", "Down"
    FAILED = "failed", "Failed"


class ExchangeAccount(Owned):
    """A user's account on an exchange. Credentials are stored encrypted and are read only for the engine."""

    exchange = models.ForeignKey(Exchange, on_delete=models.PROTECT, related_name="accounts")
    label = models.CharField(max_length=64, validators=[validate_plain_name])
    credentials = CiphertextField(null=True, blank=True)
    key_fingerprint = models.CharField(max_length=64, unique=True, null=True, editable=False)
    key_last4 = models.CharField("key ends in", max_length=4, blank=True, default="", editable=False)
    credentials_set_at = models.DateTimeField(null=True, editable=False)
    permissions_seen = models.JSONField(
        default=list, blank=True, editable=False, help_text="What the exchange says the key may do."
    )
    armed_for_live = models.BooleanField(
        "armed for live", default=False, editable=False, help_text="May send orders to a live exchange."
    )
    paper_balances = models.JSONField(
        default=dict, blank=True, validators=[validate_amounts],
        help_text='What a paper account starts with: {"USDT": "10000", "BTC": "0.5"}.',
    )  # fmt: skip
    isolated_markets = models.JSONField(
        default=list, blank=True, editable=False,
        help_text="Symbols of contracts whose positions it holds under isolated margin, as the exchange last told.",
    )  # fmt: skip
    enabled = models.BooleanField(default=True)
    # What the owner's engine sees of it.
    observed_state = models.CharField(
        max_length=16, choices=AccountObserved.choices, default=AccountObserved.IDLE, editable=False
    )
    observed_reason = models.CharField(max_length=500, blank=True, default="", editable=False)
    observed_at = models.DateTimeField(null=True, editable=False)
    swept_at = models.DateTimeField("last sweep", null=True, editable=False)
    foreign_orders = models.PositiveIntegerField(null=True, editable=False, help_text="Open orders that are not ours.")
    # Comparison with the exchange: when it was last made, when it last found nothing, when the ledger was opened.
    reconciled_at = models.DateTimeField("last reconciliation", null=True, editable=False)
    matched_at = models.DateTimeField("books last matched", null=True, editable=False)
    opened_at = models.DateTimeField("ledger opened", null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    Observed = AccountObserved

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("owner_id", "exchange__code", "label")
        constraints = [
            one_of("observed_state", AccountObserved, "account_observed_state"),
            models.UniqueConstraint(fields=["owner", "exchange", "label"], name="account_label_unique"),
            models.CheckConstraint(
                condition=Q(credentials__isnull=True, key_fingerprint__isnull=True)
                | Q(credentials__isnull=False, key_fingerprint__isnull=False),
                name="account_credentials_with_fingerprint",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.label} on {self.exchange}"

    @property
    def has_credentials(self) -> bool:
        return self.key_fingerprint is not None


class BalanceQuerySet(OwnedQuerySet["Balance"]):
    def with_reserved(self) -> Self:
        """Annotate ``reserved``: what this account's own orders that may still live hold of the asset.

        It is summed from the orders rather than kept in a column, so it cannot drift from them.
        """
        from bots.models.orders import Order  # noqa: PLC0415 - orders refer to accounts

        held = (
            Order.objects.filter(account=OuterRef("account"), reserve_asset=OuterRef("asset"))
            .unfinished()
            .order_by()
            .values("account")
            .annotate(total=MoneySum("reserve_amount"))
            .values("total")
        )
        return self.annotate(
            reserved=Coalesce(Subquery(held), Value(Decimal(0), output_field=MoneyField()), output_field=MoneyField())
        )


class Balance(Owned):
    """The exchange's figures for one asset of one account, as of ``at``."""

    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="balances")
    asset = models.CharField(max_length=32)
    free = MoneyField()
    used = MoneyField()
    at = models.DateTimeField(help_text="When the exchange's figures were received.")

    objects = BalanceQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("account_id", "asset")
        constraints = [models.UniqueConstraint(fields=["account", "asset"], name="balance_unique")]
        indexes = [models.Index(fields=["owner", "asset"], name="balance_owner")]

    def __str__(self) -> str:
        return f"{self.asset} of account {self.account_id}"
