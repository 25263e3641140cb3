"""What programs sign in with, and what was answered to requests that must not be carried out twice."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.utils import timezone

from bots.models.base import Owned, OwnedQuerySet, validate_plain_name


class ApiToken(Owned):
    """A user's token for the HTTP API. It acts in its owner's name; only its hash is stored."""

    name = models.CharField(max_length=64, validators=[validate_plain_name], help_text="What uses it.")
    digest = models.CharField(max_length=64, unique=True, editable=False)  # SHA-256, in hexadecimal
    prefix = models.CharField(max_length=16, editable=False, help_text="How it begins, to tell tokens apart.")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField("last used", null=True, editable=False)
    expires_at = models.DateTimeField("expires", null=True, blank=True, help_text="Empty: it does not.")
    revoked_at = models.DateTimeField("revoked", null=True, editable=False)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view", "add", "change")
        ordering = ("-id",)
        verbose_name = "API token"
        verbose_name_plural = "API tokens"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_valid(self, now: datetime | None = None) -> bool:
        """Return whether it still signs its owner in."""
        now = now or timezone.now()
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class ApiAnswer(Owned):
    """The answer to a request by its idempotency key, written in the transaction that did what was asked."""

    key = models.CharField(max_length=64)
    content = models.CharField(max_length=64)  # SHA-256 of what was asked
    status = models.PositiveSmallIntegerField(default=0)
    answer = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()  # it has no page
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="api_answer_unique")]
        indexes = [models.Index(fields=["created_at"], name="api_answer_created")]

    def __str__(self) -> str:
        return f"answer to {self.key}"
