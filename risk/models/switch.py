"""The trading switch of everybody, an owner or a bot, and who turned it when and why."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from risk.policy.layers import layer_name
from risk.policy.switch import TradingState

REASON_LENGTH = 200
_STATES = [state.value for state in TradingState]


class TradingSwitch(models.Model):
    """Where trading stands for one scope; a scope without a row is at normal.

    ``operator_state`` is what an operator asked for last: an owner may be stricter than that, not looser.
    ``version`` counts changes: a form that was opened before another change is refused.
    """

    class Scope(models.TextChoices):
        GLOBAL = "global", "Everybody"
        OWNER = "owner", "One owner"
        BOT = "bot", "One bot"

    class State(models.TextChoices):
        NORMAL = "normal", "Normal"
        REDUCE_ONLY = "reduce_only", "Reduce only"
        KILL = "kill", "Killed"

    scope = models.CharField(max_length=8, choices=Scope.choices, default=Scope.GLOBAL)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        help_text="For the scope of one owner.",
    )  # fmt: skip
    bot = models.ForeignKey(
        "bots.Bot", on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        help_text="For the scope of one bot.",
    )  # fmt: skip
    state = models.CharField(
        max_length=12, choices=State.choices, default=State.NORMAL,
        help_text="Reduce only opens no trades and repairs open ones; killed sends nothing but cancels.",
    )  # fmt: skip
    operator_state = models.CharField(max_length=12, choices=State.choices, default=State.NORMAL, editable=False)
    reason = models.CharField(max_length=REASON_LENGTH, help_text="Why; it is kept with your name.")
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", editable=False
    )
    changed_at = models.DateTimeField(auto_now=True)
    version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        ordering = ("scope", "id")
        verbose_name = "trading switch"
        verbose_name_plural = "trading switches"
        permissions = [("set_tradingswitch", "Can switch trading of what is theirs")]
        constraints = [
            models.CheckConstraint(
                condition=Q(scope="global", owner=None, bot=None)
                | Q(scope="owner", owner__isnull=False, bot=None)
                | Q(scope="bot", owner=None, bot__isnull=False),
                name="trading_switch_scope",
                violation_error_message="Name the owner for one owner, the bot for one bot, and nothing for everybody.",
            ),
            models.UniqueConstraint(
                fields=["scope"], condition=Q(scope="global"), name="trading_switch_global",
                violation_error_message="There is already a switch for everybody: turn that one.",
            ),
            models.UniqueConstraint(
                fields=["owner"], condition=Q(scope="owner"), name="trading_switch_owner",
                violation_error_message="There is already a switch for this owner: turn that one.",
            ),
            models.UniqueConstraint(
                fields=["bot"], condition=Q(scope="bot"), name="trading_switch_bot",
                violation_error_message="There is already a switch for this bot: turn that one.",
            ),
            models.CheckConstraint(
                condition=Q(state__in=_STATES, operator_state__in=_STATES),
                name="trading_switch_state",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="trading_switch_reason"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"Trading of {self.source}"

    @property
    def source(self) -> str:
        """Whose switch it is, as in ``owner anna``; reads the row it names."""
        return layer_name(self.scope, str(self.owner or self.bot or ""))


class TradingSwitchEvent(models.Model):
    """One turn of a switch; written once."""

    switch = models.ForeignKey(TradingSwitch, on_delete=models.CASCADE, related_name="events")
    version = models.PositiveIntegerField()
    from_state = models.CharField("from", max_length=12, choices=TradingSwitch.State.choices)
    to_state = models.CharField("to", max_length=12, choices=TradingSwitch.State.choices)
    reason = models.CharField(max_length=REASON_LENGTH)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-version",)
        verbose_name = "turn of a switch"
        verbose_name_plural = "turns"
        constraints = [models.UniqueConstraint(fields=["switch", "version"], name="trading_switch_event_once")]

    def __str__(self) -> str:
        return f"{self.get_from_state_display()} to {self.get_to_state_display().lower()}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError(f"a turn of a switch is written once: row {self.pk} cannot be changed")
        super().save(*args, **kwargs)
