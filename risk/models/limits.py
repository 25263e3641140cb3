"""Limits over bots. They only ever tighten what a bot's owner has set."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from risk.policy.layers import layer_name
from risk.rules import RULES, Rule


class RiskLimit(models.Model):
    """One bound on one parameter: for everybody, an owner's bots, one bot, or routes over an exchange or of a pair.

    ``version`` counts changes: a form that was opened before another change is refused.
    """

    class Scope(models.TextChoices):
        GLOBAL = "global", "Everybody"
        OWNER = "owner", "One owner"
        BOT = "bot", "One bot"
        EXCHANGE = "exchange", "One exchange"
        PAIR = "pair", "One pair"

    scope = models.CharField(max_length=8, choices=Scope.choices, default=Scope.GLOBAL)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        help_text="For the scope of one owner.",
    )  # fmt: skip
    bot = models.ForeignKey(
        "bots.Bot", on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        help_text="For the scope of one bot.",
    )  # fmt: skip
    exchange = models.ForeignKey(
        "bots.Exchange", on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        help_text="For the scope of one exchange: every route with a leg on it.",
    )  # fmt: skip
    pair = models.ForeignKey(
        "bots.TradingPair", on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        help_text="For the scope of one pair: every route of it.",
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
                condition=Q(scope="global", owner=None, bot=None, exchange=None, pair=None)
                | Q(scope="owner", owner__isnull=False, bot=None, exchange=None, pair=None)
                | Q(scope="bot", owner=None, bot__isnull=False, exchange=None, pair=None)
                | Q(scope="exchange", owner=None, bot=None, exchange__isnull=False, pair=None)
                | Q(scope="pair", owner=None, bot=None, exchange=None, pair__isnull=False),
                name="risk_limit_scope",
                violation_error_message="Name the one owner, bot, exchange or pair the scope is of, and no other; "
                "nothing for everybody.",
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
            models.UniqueConstraint(
                fields=["rule", "exchange"], condition=Q(scope="exchange"), name="risk_limit_exchange",
                violation_error_message="There is already a limit of this rule for this exchange: change that one.",
            ),
            models.UniqueConstraint(
                fields=["rule", "pair"], condition=Q(scope="pair"), name="risk_limit_pair",
                violation_error_message="There is already a limit of this rule for this pair: change that one.",
            ),
            models.CheckConstraint(condition=Q(value__gte=0), name="risk_limit_not_negative"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.get_rule_display()} for {self.source}"

    @property
    def source(self) -> str:
        """Whose limit it is, as in ``exchange binance-sim``; reads the row it names."""
        subject = str(self.exchange.code if self.exchange else self.owner or self.bot or self.pair or "")
        return layer_name(self.scope, subject)

    def clean(self) -> None:
        super().clean()
        rule = RULES.get(self.rule)
        if rule is None:  # refused already
            return
        if self.scope in {self.Scope.EXCHANGE, self.Scope.PAIR} and not rule.by_route:
            raise ValidationError(
                {"rule": f"{rule.label} is of a bot as a whole: set it for everybody, an owner or a bot."}
            )
        value: object = self.value
        if isinstance(value, Decimal):  # else refused already, or not given
            self._value_check(rule, value)

    def _value_check(self, rule: Rule, value: Decimal) -> None:
        if not (value.is_finite() and rule.low <= value <= rule.high):
            raise ValidationError({"value": f"Must be between {rule.low} and {rule.high} {rule.unit} (given {value})."})
        if rule.kind == "count" and value != value.to_integral_value():
            raise ValidationError({"value": f"Must be a whole number of {rule.unit} (given {value})."})
