"""Circuit breakers as they stand, and everything that ever happened to them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from risk.policy import breakers as policy

KEY_LENGTH, REASON_LENGTH = 128, 200
# Scopes of one user's: others do not see them.
OWNED = (policy.Scope.OWNER, policy.Scope.BOT, policy.Scope.ACCOUNT)
_TIMED = (policy.BreakerState.OPEN, policy.BreakerState.PROBING)


def choices(enumeration: type[StrEnum]) -> list[tuple[str, str]]:
    """Return an enumeration of the policy's as model choices: half_open is shown as "Half-open"."""
    shown = {"half_open": "Half-open", "global": "Everything", "one_legged": "One-legged"}
    return [
        (member.value, shown.get(member.value, member.value.replace("_", " ").capitalize())) for member in enumeration
    ]


class CircuitBreaker(models.Model):
    """The durable state of one breaker; the row behind :class:`risk.policy.breakers.Breaker`.

    ``key`` names what it stands over: an owner's, bot's or account's id, an exchange's code, BTC/USDT,
    binance:BTC/USDT, nothing for everything. Times are kept as the engine counts them, so that every process reads
    back exactly what was written.
    """

    scope = models.CharField(max_length=16, choices=choices(policy.Scope))
    key = models.CharField(max_length=KEY_LENGTH, blank=True, default="")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+",
        help_text="Whose it is, of an owner, a bot or an account.",
    )  # fmt: skip
    state = models.CharField(
        max_length=16, choices=choices(policy.BreakerState), default=policy.BreakerState.CLOSED.value
    )
    step = models.PositiveSmallIntegerField(default=0)
    until_ns = models.BigIntegerField(null=True, blank=True)
    reason = models.CharField(max_length=REASON_LENGTH, blank=True, default="")
    trigger = models.CharField(max_length=32, blank=True, default="")
    trips = models.PositiveIntegerField(default=0)
    clean_trades = models.PositiveIntegerField(default=0)
    holder = models.CharField(max_length=64, blank=True, default="")
    since_ns = models.BigIntegerField(default=0)
    version = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("scope", "key")
        default_permissions = ("view",)
        permissions = [("operate_circuitbreaker", "Can trip, reset and extend circuit breakers")]
        constraints = [
            models.UniqueConstraint(fields=["scope", "key"], name="breaker_unique"),
            models.CheckConstraint(
                condition=Q(scope__in=[scope.value for scope in policy.Scope]), name="breaker_scope"
            ),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in policy.BreakerState]), name="breaker_state"
            ),
            models.CheckConstraint(
                condition=Q(scope="global", key="") | (~Q(scope="global") & ~Q(key="")), name="breaker_key"
            ),
            models.CheckConstraint(
                condition=Q(scope__in=[scope.value for scope in OWNED], owner__isnull=False)
                | (~Q(scope__in=[scope.value for scope in OWNED]) & Q(owner__isnull=True)),
                name="breaker_owner",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in _TIMED], until_ns__isnull=False)
                | (~Q(state__in=[state.value for state in _TIMED]) & Q(until_ns__isnull=True)),
                name="breaker_until",
            ),
            models.CheckConstraint(
                condition=(Q(state="probing") & ~Q(holder="")) | (~Q(state="probing") & Q(holder="")),
                name="breaker_holder",
            ),
            models.CheckConstraint(condition=Q(state="ramping") | Q(step=0, clean_trades=0), name="breaker_step"),
        ]  # fmt: skip
        indexes = [
            # Every process asks for these, and they are few.
            models.Index(fields=["scope", "key"], condition=~Q(state="closed"), name="breaker_tripped"),
        ]

    def __str__(self) -> str:
        return self.to_policy().name

    def to_policy(self) -> policy.Breaker:
        """Return the row as the policy knows it."""
        return policy.Breaker(
            scope=policy.Scope(self.scope),
            key=self.key,
            state=policy.BreakerState(self.state),
            step=self.step,
            until_ns=self.until_ns,
            reason=self.reason,
            trigger=self.trigger,
            trips=self.trips,
            clean=self.clean_trades,
            holder=self.holder,
            since_ns=self.since_ns,
            version=self.version,
        )

    def take(self, breaker: policy.Breaker) -> None:
        """Take over the state of a breaker of the policy's; the caller saves."""
        self.state = breaker.state.value
        self.step = breaker.step
        self.until_ns = breaker.until_ns
        self.reason = breaker.reason
        self.trigger = breaker.trigger
        self.trips = breaker.trips
        self.clean_trades = breaker.clean
        self.holder = breaker.holder
        self.since_ns = breaker.since_ns
        self.version = breaker.version


class BreakerEvent(models.Model):
    """One step in a breaker's history; append-only.

    ``event_id`` names what happened, such as a trade's end, so that each breaker takes it once however often it is
    told.
    """

    breaker = models.ForeignKey(CircuitBreaker, on_delete=models.PROTECT, related_name="events")
    at = models.DateTimeField()
    event = models.CharField(max_length=16, choices=choices(policy.BreakerEvent))
    from_state = models.CharField(max_length=16, choices=choices(policy.BreakerState))
    to_state = models.CharField(max_length=16, choices=choices(policy.BreakerState))
    step = models.PositiveSmallIntegerField(default=0)
    until_ns = models.BigIntegerField(null=True)
    version = models.PositiveIntegerField(help_text="The breaker's version after it.")
    reason = models.CharField(max_length=REASON_LENGTH, blank=True, default="")
    trigger = models.CharField(max_length=32, blank=True, default="")
    holder = models.CharField(max_length=64, blank=True, default="")
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+",
        help_text="The operator, or nobody for the platform itself.",
    )  # fmt: skip
    figures = models.JSONField(default=dict)
    event_id = models.CharField(max_length=128, null=True)

    class Meta:
        ordering = ("-id",)
        default_permissions = ("view",)
        verbose_name = "circuit breaker event"
        constraints = [
            models.UniqueConstraint(fields=["breaker", "version"], name="breaker_event_version"),
            models.UniqueConstraint(fields=["breaker", "event_id"], name="breaker_event_once"),
        ]
        indexes = [models.Index(fields=["at"], name="breaker_event_at")]

    def __str__(self) -> str:
        return f"{self.get_event_display()} of {self.breaker}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError(f"BreakerEvent is append-only: row {self.pk} cannot be changed")
        super().save(*args, **kwargs)
