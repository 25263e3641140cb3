"""Running totals of what trades realised, so that no page sums trades."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import models

from bots.fields import MoneyField
from bots.models.base import Owned, OwnedQuerySet, choices, one_of
from bots.models.bot import Bot
from trading.messages import TradeMode

# The start of the row that sums everything a bot ever realised; every other row sums one span from its start on.
ALL_TIME = datetime(1970, 1, 1, tzinfo=UTC)
# Short enough for the line of a day, long enough that a page reads few of them. Midnight begins one.
SPAN = timedelta(minutes=5)


def span_start(at: datetime) -> datetime:
    """Return when the span of an instant begins."""
    return at - (at - ALL_TIME) % SPAN


class ProfitTotal(Owned):
    """What a bot's trades of one mode realised in one quote asset: ever, or those closed within one span.

    Written in the transaction that stores a trade's result. The total of all time outlives the trades it counted, and
    spans are kept as long as pages look back.
    """

    bot = models.ForeignKey(Bot, on_delete=models.PROTECT, related_name="profits")
    mode = models.CharField(max_length=16, choices=choices(TradeMode))
    quote = models.CharField(max_length=32)
    start = models.DateTimeField()
    profit = MoneyField(help_text="In the quote asset, after fees.")
    last_closed_at = models.DateTimeField(help_text="When the newest of these trades closed.")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ()  # it has no page
        constraints = [
            models.UniqueConstraint(fields=["bot", "mode", "quote", "start"], name="profit_unique"),
            one_of("mode", TradeMode, "profit_mode"),
        ]
        indexes = [models.Index(fields=["owner", "start"], name="profit_owner")]

    def __str__(self) -> str:
        return f"{self.mode} {self.quote} of bot {self.bot_id}"
