"""Limits over bots. They only ever tighten what a bot's owner has set."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from risk.rules import RULES


class RiskLimit(models.Model):
    """One bound on one parameter, for everybody, for an owner's bots or for one bot.

    ``version`` counts changes: a form that was opened before another change is refused.
    """

    class Scope(models.TextChoices):
        GLOBAL = "global", "Everybody"
        OWNER = "owner", "One owner"
        BOT = "bot", "One bot"

    scope = models.CharField(max_length=8, choices=Scope.choices, default=Scope.GLOBAL)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        help_text="For the scope of one owner.",
    )  # fmt: skip
    bot = models.ForeignKey(
        "bots.Bot", on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        help_text="For the scope of one bot.",
    )  # fmt: skip
    rule = models.CharField(max_length=32, choices=[(rule.name, rule.label) for rule in RULES.values()])
    # Limits are settings, not sums: 15 digits are exact on every database.
    value = models.DecimalField(max_digits=15, decimal_places=6)
    note = models.CharField(max_length=200, blank=True, help_text="Why this limit.")
    version = models.PositiveIntegerField(default=1, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("rule", "scope", "id")
        verbose_name = "risk limit"
        constraints = [
            models.CheckConstraint(
                condition=Q(scope="global", owner__isnull=True, bot__isnull=True)
                | Q(scope="owner", owner__isnull=False, bot__isnull=True)
                | Q(scope="bot", owner__isnull=True, bot__isnull=False),
                name="risk_limit_scope",
                violation_error_message="Name the owner for one owner, the bot for one bot, and nothing for everybody.",
            ),
            models.UniqueConstraint(
                fields=["rule"], condition=Q(scope="global"), name="risk_limit_global",
                violation_error_message="There is already a limit of this rule for everybody: change that one.",
            ),
            models.UniqueConstraint(
                fields=["rule", "owner"], condition=Q(scope="owner"), name="risk_limit_owner",
                violation_error_message="There is already a limit of this rule for this owner: change that one.",
            ),
            models.UniqueConstraint(
                fields=["rule", "bot"], condition=Q(scope="bot"), name="risk_limit_bot",
                violation_error_message="There is already a limit of this rule for this bot: change that one.",
            ),
            models.CheckConstraint(condition=Q(value__gte=0), name="risk_limit_not_negative"),
        ]  # fmt: skip

    def __str__(self) -> str:
        subject = self.get_scope_display().lower() if self.scope == self.Scope.GLOBAL else (self.bot or self.owner)
        return f"{self.get_rule_display()} for {subject}"

    def clean(self) -> None:
        super().clean()
        rule = RULES.get(self.rule)
        if rule is None or not isinstance(self.value, Decimal):  # refused already, or not given
            return
        if not (self.value.is_finite() and rule.low <= self.value <= rule.high):
            raise ValidationError(
                {"value": f"Must be between {rule.low} and {rule.high} {rule.unit} (given {self.value})."}
            )
