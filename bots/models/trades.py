"""What was decided about opportunities, and the trades that came of it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from bots.fields import MoneyField
from bots.models.base import AppendOnly, Owned, OwnedQuerySet, choices, one_of
from bots.models.bot import Bot
from trading.messages import TradeMode, TradeState

UNFINISHED_TRADES = (TradeState.OPEN.value, TradeState.HOLDING.value, TradeState.REPAIRING.value)


class Decision(Owned, AppendOnly):
    """What was done about an opportunity and the first check that refused it; sampled, and kept for a time.

    The figures are the detector's floats: they explain, they are not booked. Only ``later_profit`` of a taken one is
    written after the row.
    """

    bot = models.ForeignKey(Bot, on_delete=models.CASCADE, related_name="decisions")
    route = models.CharField(max_length=160)
    buy_market = models.CharField(max_length=100)
    sell_market = models.CharField(max_length=100)
    base = models.CharField(max_length=32)
    quote = models.CharField(max_length=32)
    quantity = models.FloatField(help_text="Base units.")
    buy_vwap = models.FloatField("buy VWAP")
    sell_vwap = models.FloatField("sell VWAP")
    gross_bps = models.FloatField("gross edge", help_text="Basis points before fees.")
    net_bps = models.FloatField("net edge", help_text="Basis points after fees.")
    profit = models.FloatField(help_text="Expected, in the quote asset.")
    buy_fee_rate = models.FloatField("buy fee", default=0, help_text="Share of notional.")
    sell_fee_rate = models.FloatField("sell fee", default=0, help_text="Share of notional.")
    buy_age_ms = models.FloatField("buy book's age", default=0, help_text="Milliseconds.")
    sell_age_ms = models.FloatField("sell book's age", default=0, help_text="Milliseconds.")
    book_age_ms = models.FloatField("book age", help_text="Milliseconds; the older of the two books.")
    notional = models.FloatField(
        "size", null=True, help_text="After all factors, in the quote asset; empty: not sized."
    )
    factors = models.JSONField(default=dict, blank=True, help_text="What the size was multiplied by.")
    score = models.FloatField(null=True, help_text="Of 0 to 1; empty: not rated.")
    components = models.JSONField(default=dict, blank=True, help_text="What the score is made of.")
    costs = models.JSONField(default=dict, blank=True, help_text="Expected beyond fees, in basis points.")
    taken = models.BooleanField()
    check_name = models.CharField("check", max_length=64, blank=True, help_text="The check that refused it.")
    reason = models.CharField(max_length=500, blank=True)
    figures = models.JSONField(default=dict, blank=True)
    trade_id = models.CharField(max_length=64, blank=True)
    later_profit = models.FloatField(
        "profit a second later", null=True,
        help_text="Had it been taken then, in the quote asset; empty: not looked at, or no longer to be had.",
    )  # fmt: skip
    at = models.DateTimeField()

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("-id",)
        indexes = [
            models.Index(fields=["owner", "-id"], name="decision_owner"),
            models.Index(fields=["bot", "-id"], name="decision_bot"),
            models.Index(fields=["owner", "trade_id"], name="decision_trade"),
            models.Index(fields=["at"], name="decision_at"),
        ]

    def __str__(self) -> str:
        return f"{'taken' if self.taken else 'refused'}: {self.route}"


class Trade(Owned):
    """One executed opportunity: the durable head of a saga that owns its orders and result."""

    State = TradeState
    Mode = TradeMode

    trade_id = models.CharField(max_length=64, unique=True)
    bot = models.ForeignKey(Bot, on_delete=models.PROTECT, related_name="trades")
    route = models.CharField(max_length=160)
    base = models.CharField(max_length=32)
    quote = models.CharField(max_length=32)
    state = models.CharField(max_length=16, choices=choices(TradeState))
    mode = models.CharField(max_length=16, choices=choices(TradeMode), help_text="Whose money it moved.")
    quantity = MoneyField(help_text="Base units wanted.")
    expected_net_bps = MoneyField("expected net edge", help_text="Basis points after fees.")
    expected_profit = MoneyField(help_text="In the quote asset.")
    realised_profit = MoneyField("profit", null=True, help_text="In the quote asset, after fees; empty until known.")
    residual_base = MoneyField("residual", default=0, help_text="Base units left unhedged; positive: bought more.")
    exposure = MoneyField(default=0, help_text="Notional times seconds unhedged, in the quote asset.")
    repair_ms = models.PositiveIntegerField(
        "repair time", default=0, help_text="Milliseconds spent on the ladder of repairs."
    )
    fees = models.JSONField(default=dict, help_text="Amounts by asset.")
    reason = models.CharField(max_length=500, blank=True)
    lease_token = models.BigIntegerField()
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("-id",)
        constraints = [
            one_of("state", TradeState, "trade_state"),
            one_of("mode", TradeMode, "trade_mode"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="trade_quantity_positive"),
        ]
        indexes = [
            models.Index(fields=["owner", "-id"], name="trade_owner"),
            models.Index(fields=["owner", "opened_at"], name="trade_opened"),
            models.Index(fields=["owner", "closed_at"], name="trade_closed"),
            # Not partial: SQLite takes a partial index for no query with parameters.
            models.Index(fields=["owner", "state"], name="trade_state"),
        ]

    def __str__(self) -> str:
        return self.trade_id
