"""How many opportunities ended where, by the hour: what "why no trades today?" is answered from."""

from __future__ import annotations

from django.db import models

from bots.models.base import Owned, OwnedQuerySet
from bots.models.bot import Bot


class DecisionCount(Owned):
    """How many of a bot's opportunities of one pair ended at one check within an hour (UTC).

    ``check_name`` is what a :class:`trading.messages.DecisionKey` says. Everything is counted, also what no Decision
    is kept of. A count belongs to the hour in which it was told, some seconds after it happened.
    """

    bot = models.ForeignKey(Bot, on_delete=models.CASCADE, related_name="decision_counts")
    base = models.CharField(max_length=32)
    quote = models.CharField(max_length=32)
    hour = models.DateTimeField()
    check_name = models.CharField("check", max_length=64, blank=True)
    count = models.PositiveBigIntegerField()

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ()  # they have a page of their own
        constraints = [
            models.UniqueConstraint(fields=["bot", "hour", "base", "quote", "check_name"], name="decision_count_unique")
        ]
        indexes = [models.Index(fields=["owner", "hour"], name="decision_count_owner")]

    def __str__(self) -> str:
        return f"{self.count} {self.base}/{self.quote} of bot {self.bot_id}: {self.check_name or 'taken'}"


class CountWriter(Owned):
    """One engine's way of counting once: the number of the newest of its batches that the counts hold."""

    writer = models.CharField(max_length=32, unique=True)
    number = models.PositiveBigIntegerField(default=0)
    at = models.DateTimeField(auto_now=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.writer}: {self.number}"
