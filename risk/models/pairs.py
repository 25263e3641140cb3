"""The pairs that may be traded, where somebody has said so."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from risk.policy.layers import layer_name


class AllowedPair(models.Model):
    """One pair that a scope may trade. A scope without rows allows all; what several allow is what all of them do.

    Its pair can't be deleted: with the last row gone a scope would allow everything.
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
    pair = models.ForeignKey("bots.TradingPair", on_delete=models.PROTECT, related_name="+")
    note = models.CharField(max_length=200, blank=True, help_text="Why this pair.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("scope", "id")
        verbose_name = "allowed pair"
        constraints = [
            models.CheckConstraint(
                condition=Q(scope="global", owner=None, bot=None)
                | Q(scope="owner", owner__isnull=False, bot=None)
                | Q(scope="bot", owner=None, bot__isnull=False),
                name="allowed_pair_scope",
                violation_error_message="Name the owner for one owner, the bot for one bot, and nothing for everybody.",
            ),
            models.UniqueConstraint(
                fields=["pair"], condition=Q(scope="global"), name="allowed_pair_global",
                violation_error_message="This pair is allowed for everybody already.",
            ),
            models.UniqueConstraint(
                fields=["pair", "owner"], condition=Q(scope="owner"), name="allowed_pair_owner",
                violation_error_message="This pair is allowed for this owner already.",
            ),
            models.UniqueConstraint(
                fields=["pair", "bot"], condition=Q(scope="bot"), name="allowed_pair_bot",
                violation_error_message="This pair is allowed for this bot already.",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.pair} for {self.source}"

    @property
    def source(self) -> str:
        """Whose list it is on, as in ``owner anna``; reads the row it names."""
        return layer_name(self.scope, str(self.owner or self.bot or ""))

    def clean(self) -> None:
        super().clean()
        if self.scope not in self.Scope.values:
            raise ValidationError({"scope": f"One of {', '.join(self.Scope.values)} (given {self.scope[:20]!r})."})
