"""Proposals to move or convert inventory, who said what to them, and what became of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from risk.models.exact import ExactField, exact_text
from risk.models.rating_settings import ONLY, Bounds, RatingSettings, _figure, _within
from risk.policy.rebalance_states import OPEN, RebalanceState
from risk.policy.rebalancing import Kind, RebalanceRules

REASON_LENGTH = 500
OPEN_STATES = sorted(state.value for state in OPEN)

REBALANCING: Bounds = {
    "target": ("0.01", "0.99"), "band": ("0.01", "0.98"), "least_value": ("0", "1000000000"),
    "most_value": ("0.01", "1000000000"),
}  # fmt: skip
HOURS: Bounds = {"lifetime_hours": ("0.01", "168"), "pause_hours": ("0", "168")}


class RebalanceSettings(RatingSettings):
    """When the platform proposes to rebalance, see :mod:`risk.policy.rebalancing`; off, only people propose."""

    parts = {RebalanceRules: REBALANCING}
    beside = ("enabled", "lifetime_hours", "pause_hours")

    enabled = models.BooleanField(
        default=True, help_text="Off: the platform proposes nothing; people may, and what is open goes on."
    )
    target = _figure(0.5, "Share of base, of what an account holds of a pair, that is to be restored.")
    band = _figure(0.3, "How far a share may be from the target before anything is proposed.")
    least_value = _figure(50, "Nothing worth less is proposed, in the quote asset.")
    most_value = _figure(10_000, "The most that one proposal is worth, in the quote asset.")
    lifetime_hours = _figure(4, "Hours until a proposal that nobody has decided on expires, at most 168.", "lifetime")
    pause_hours = _figure(
        6, "Hours in which the same is not proposed again after it was rejected, cancelled or has failed.", "pause"
    )

    class Meta(RatingSettings.Meta):
        verbose_name = verbose_name_plural = "rebalancing settings"
        constraints = [
            models.CheckConstraint(condition=Q(scope=ONLY), name="rebalance_settings_one"),
            _within({**REBALANCING, **HOURS}, "rebalance_settings_bounds"),
            models.CheckConstraint(
                condition=Q(least_value__lte=F("most_value")), name="rebalance_settings_values",
                violation_error_message="The least value must not be above the most.",
            ),
        ]  # fmt: skip

    def clean(self) -> None:
        super().clean()
        for name, (low, high) in HOURS.items():
            hours = getattr(self, name)
            if isinstance(hours, Decimal) and not Decimal(low) <= hours <= Decimal(high):
                raise ValidationError({name: f"Must lie between {low} and {high} (given {hours})."})

    def _value(self, name: str) -> Any:
        return getattr(self, name)  # money: it stays exact

    def to_policy(self) -> RebalanceRules:
        """Return the rules; raises ValueError that begins with the field's name."""
        (rules,) = self.rules()
        return rules  # type: ignore[no-any-return]


class RebalanceKind(models.TextChoices):
    MOVE = Kind.MOVE.value, "Move"
    CONVERT = Kind.CONVERT.value, "Convert"


class RebalanceRequest(models.Model):
    """One proposal and its life. What is to be done never changes: something else is another proposal.

    A conversion buys or sells ``amount`` of ``asset`` on ``account`` and has a command; a move sends it to
    ``to_account``, is done by a person, and ends when both sides of it were adopted from the exchanges.
    """

    Kind = RebalanceKind

    class State(models.TextChoices):
        PROPOSED = RebalanceState.PROPOSED.value, "Proposed"
        APPROVED = RebalanceState.APPROVED.value, "Approved"
        RUNNING = RebalanceState.RUNNING.value, "Running"
        DONE = RebalanceState.DONE.value, "Done"
        FAILED = RebalanceState.FAILED.value, "Failed"
        REJECTED = RebalanceState.REJECTED.value, "Rejected"
        EXPIRED = RebalanceState.EXPIRED.value, "Expired"
        CANCELLED = RebalanceState.CANCELLED.value, "Cancelled"

    class Side(models.TextChoices):
        NONE = "", "–"
        BUY = "buy", "Buy"
        SELL = "sell", "Sell"

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", help_text="The user it belongs to."
    )
    kind = models.CharField(max_length=8, choices=RebalanceKind.choices)
    account = models.ForeignKey("bots.ExchangeAccount", on_delete=models.PROTECT, related_name="+")
    to_account = models.ForeignKey(
        "bots.ExchangeAccount", on_delete=models.PROTECT, related_name="+", null=True, blank=True,
        help_text="Of a move: where it goes.",
    )  # fmt: skip
    market = models.ForeignKey(
        "bots.Market", on_delete=models.PROTECT, related_name="+", null=True, blank=True,
        help_text="Of a conversion: where the order goes. Of a move: the pair it is for.",
    )  # fmt: skip
    asset = models.CharField(max_length=32)
    side = models.CharField(max_length=4, choices=Side.choices, blank=True, default="")
    amount = ExactField(help_text="Of the asset.")
    value = ExactField(null=True, blank=True, help_text="About what it is worth, in the quote asset.")
    quote = models.CharField("quote asset", max_length=32)
    price = ExactField(null=True, blank=True, help_text="What the figures were made with.")
    half_spread_bps = ExactField("half the spread", null=True, blank=True, help_text="Basis points; empty: not known.")
    cost_bps = ExactField(
        "estimated cost", null=True, blank=True, help_text="Basis points: half the spread and the fee."
    )
    effects = models.JSONField(default=list, blank=True, help_text="Share of base by account, before and after.")
    reason = models.CharField(max_length=REASON_LENGTH, help_text="Why it is proposed.")
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True, blank=True,
        help_text="Empty: the platform.",
    )  # fmt: skip
    state = models.CharField(max_length=12, choices=State.choices, default=State.PROPOSED)
    subject = models.CharField(max_length=120, editable=False, help_text="What two of may not be open at once.")
    expires_at = models.DateTimeField("expires", help_text="Until when it may be approved.")
    created_at = models.DateTimeField("proposed", auto_now_add=True)
    approved_at = models.DateTimeField("approved", null=True, blank=True)
    ended_at = models.DateTimeField("ended", null=True, blank=True)

    command = models.OneToOneField("bots.Command", on_delete=models.PROTECT, related_name="+", null=True, blank=True)
    trade = models.OneToOneField("bots.Trade", on_delete=models.PROTECT, related_name="+", null=True, blank=True)
    sent = models.OneToOneField(
        "bots.Difference", on_delete=models.PROTECT, related_name="+", null=True, blank=True,
        help_text="Of a move: the withdrawal that was adopted.",
    )  # fmt: skip
    arrived = models.OneToOneField(
        "bots.Difference", on_delete=models.PROTECT, related_name="+", null=True, blank=True,
        help_text="Of a move: the deposit that was adopted.",
    )  # fmt: skip
    filled = ExactField(null=True, blank=True, help_text="What was converted of the amount, or has arrived of it.")
    realised_price = ExactField(null=True, blank=True, help_text="What a conversion was filled at on average.")
    improvement = ExactField(
        "price improvement", null=True, blank=True, help_text="Against taking the book at once, in the quote asset."
    )
    fees = models.JSONField(default=dict, blank=True, help_text="Amounts by asset.")
    outcome = models.CharField(max_length=REASON_LENGTH, blank=True, default="", help_text="How it stands, or ended.")

    class Meta:
        default_permissions = ("view", "add")
        permissions = [("decide_rebalancerequest", "Can approve, reject and cancel rebalancing of what is theirs")]
        ordering = ("-id",)
        verbose_name = "rebalancing request"
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=RebalanceKind.values), name="rebalance_kind"),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in RebalanceState]), name="rebalance_state"
            ),
            models.CheckConstraint(
                condition=Q(kind="convert", to_account=None, side__in=["buy", "sell"], market__isnull=False)
                | Q(kind="move", to_account__isnull=False, side="", command=None) & ~Q(to_account=F("account")),
                name="rebalance_kind_fields",
            ),
                        models.UniqueConstraint(
                fields=["owner", "subject"], condition=Q(state__in=OPEN_STATES), name="rebalance_open_once",
                violation_error_message="The same is proposed already: decide on that one first.",
            ),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["owner", "-id"], name="rebalance_owner"),
            models.Index(fields=["state"], condition=Q(state__in=OPEN_STATES), name="rebalance_open"),
        ]

    def __str__(self) -> str:
        return f"Rebalancing {self.pk}: {self.get_kind_display().lower()} {exact_text(self.amount)} {self.asset}"

    @property
    def is_open(self) -> bool:
        return RebalanceState(self.state) in OPEN


class Written(models.Model):
    """A row that is written once."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError(f"{type(self).__name__} is written once: row {self.pk} cannot be changed")
        super().save(*args, **kwargs)


class Approval(Written):
    """What a person decided about a request."""

    class Decision(models.TextChoices):
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"

    request = models.ForeignKey(RebalanceRequest, on_delete=models.CASCADE, related_name="approvals")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    decision = models.CharField(max_length=8, choices=Decision.choices)
    note = models.CharField(max_length=REASON_LENGTH, blank=True, default="")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ("id",)
        constraints = [
            models.UniqueConstraint(fields=["request", "by"], name="approval_once"),
            models.CheckConstraint(condition=Q(decision__in=["approved", "rejected"]), name="approval_decision"),
        ]

    def __str__(self) -> str:
        return f"{self.get_decision_display()} by {self.by}"


class RebalanceEvent(Written):
    """One step of a request."""

    request = models.ForeignKey(RebalanceRequest, on_delete=models.CASCADE, related_name="events")
    from_state = models.CharField("from", max_length=12, blank=True, default="")
    to_state = models.CharField("to", max_length=12)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    text = models.CharField(max_length=REASON_LENGTH, blank=True, default="")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ("id",)
        verbose_name = "step of a rebalancing request"
        verbose_name_plural = "steps"

    def __str__(self) -> str:
        return f"{self.from_state.lower()} to {self.to_state.lower()}" if self.from_state else self.to_state.lower()
