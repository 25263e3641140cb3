"""Orders, their history and their fills."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Q

from bots.fields import MoneyField
from bots.models.accounts import ExchangeAccount
from bots.models.base import AppendOnly, Owned, OwnedQuerySet, choices, one_of
from bots.models.trades import Trade
from bots.models.venues import Market
from trading.execution.states import TERMINAL
from trading.instruments import POSITION_SIDES
from trading.messages import OrderKind, OrderState, TimeInForce

UNFINISHED_ORDERS = tuple(sorted(state.value for state in OrderState if state not in TERMINAL))


class OrderQuerySet(OwnedQuerySet["Order"]):
    def unfinished(self) -> Self:
        """Return the orders that are not in a terminal state: the exchange may hold them or may yet execute them."""
        return self.filter(state__in=UNFINISHED_ORDERS)

    def disputed(self) -> Self:
        """Return the orders that wait for a person, by their own small index: every page of the admin counts them.

        The state stands in the SQL itself, because SQLite takes a partial index for no query with parameters.
        """
        return self.extra(where=[f"bots_order.state = '{OrderState.DISPUTED.value}'"])  # noqa: S610 - a constant


class OrderSide(models.TextChoices):
    BUY = "buy", "Buy"
    SELL = "sell", "Sell"


class Order(Owned):
    """One order: durable before it is sent. Quantities are in the market's own unit."""

    Side = OrderSide

    State = OrderState

    client_order_id = models.CharField(max_length=36, unique=True)
    exchange_order_id = models.CharField(max_length=64, blank=True, default="")
    trade = models.ForeignKey(Trade, on_delete=models.PROTECT, related_name="orders", null=True)
    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="orders")
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="orders")
    leg = models.PositiveSmallIntegerField()
    attempt = models.PositiveSmallIntegerField()
    side = models.CharField(max_length=4, choices=Side.choices)
    kind = models.CharField(max_length=16, choices=choices(OrderKind))
    time_in_force = models.CharField(max_length=4, choices=[(tif.value, tif.value) for tif in TimeInForce])
    reduce_only = models.BooleanField(default=False)
    price = MoneyField(help_text="Limit.")
    trigger = MoneyField(null=True, help_text="The price at which a protective order becomes active; empty: at once.")
    linked = models.CharField(
        max_length=36, blank=True, default="", help_text="Client order id of the other order of a pair."
    )
    quantity = MoneyField()
    filled = MoneyField(default=0)
    average_price = MoneyField(null=True)
    state = models.CharField(max_length=20, choices=choices(OrderState))
    path = models.CharField(
        max_length=16, blank=True, default="", help_text="How it left: websocket, rest; empty: nowhere, or not known."
    )
    lease_token = models.BigIntegerField()
    deadline = models.DateTimeField()
    reserve_asset = models.CharField(max_length=32, blank=True, default="")
    reserve_amount = MoneyField(default=0)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = OrderQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        permissions = [("decide_order", "Can decide what became of a disputed order")]
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=["trade", "leg", "attempt"], name="order_attempt_unique"),
            one_of("state", OrderState, "order_state"),
            one_of("side", OrderSide, "order_side"),
            models.CheckConstraint(
                condition=Q(price__gt=0, quantity__gt=0, filled__gte=0, reserve_amount__gte=0),
                name="order_amounts",
            ),
            one_of("kind", OrderKind, "order_kind"),
            models.CheckConstraint(condition=Q(trigger__isnull=True) | Q(trigger__gt=0), name="order_trigger"),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["owner", "-id"], name="order_owner"),
            models.Index(
                fields=["owner"], condition=Q(state=OrderState.DISPUTED.value), name="order_disputed"
            ),
            models.Index(fields=["account", "exchange_order_id"], name="order_exchange_id"),
            models.Index(fields=["account", "reserve_asset"], condition=Q(state__in=UNFINISHED_ORDERS),
                         name="order_unfinished"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.client_order_id


class OrderEvent(AppendOnly):
    """One step in an order's history. ``digest`` makes storing the same event again a no-op."""

    class Source(models.TextChoices):
        ENGINE = "engine", "Engine"
        STREAM = "stream", "Stream"
        ANSWER = "answer", "Answer"
        QUERY = "query", "Query"
        OPERATOR = "operator", "Operator"

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="events")
    from_state = models.CharField("from", max_length=20, choices=choices(OrderState), blank=True)
    to_state = models.CharField("to", max_length=20, choices=choices(OrderState))
    reported_state = models.CharField("reported", max_length=20, choices=choices(OrderState))
    filled = MoneyField(null=True, help_text="Cumulative quantity the exchange named.")
    cause = models.CharField(max_length=500, blank=True)
    source = models.CharField(max_length=16, choices=Source.choices)
    raw = models.TextField(blank=True, help_text="The exchange's words, without secrets.")
    digest = models.CharField(max_length=32)
    at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        ordering = ("id",)
        verbose_name = "order event"
        constraints = [models.UniqueConstraint(fields=["order", "digest"], name="order_event_unique")]

    def __str__(self) -> str:
        return f"{self.from_state or 'new'} to {self.to_state}"


class Fill(Owned, AppendOnly):
    """One execution. The exchange's trade id, on its account and market, is what makes it one.

    Written once but for the fee and what it realised, which some exchanges tell later.
    """

    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="fills")
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="fills")
    exchange_trade_id = models.CharField(max_length=64)
    order = models.ForeignKey(
        Order, on_delete=models.PROTECT, related_name="fills", null=True, help_text="Empty: not an order of ours."
    )
    exchange_order_id = models.CharField(max_length=64, blank=True)
    side = models.CharField(max_length=4, choices=Order.Side.choices)
    position_side = models.CharField(
        max_length=5, blank=True, default="", choices=[(side, side.capitalize()) for side in POSITION_SIDES],
        help_text="Of an account that holds both sides of a contract apart (hedge mode).",
    )  # fmt: skip
    price = MoneyField()
    quantity = MoneyField()
    fee = MoneyField(null=True, help_text="Empty: not known yet. Negative: a rebate.")
    fee_asset = models.CharField(max_length=32, blank=True)
    realized_pnl = MoneyField(
        "realised PnL", null=True, help_text="Of a contract, in its settle asset, before the fee. Empty: not told."
    )
    liquidity = models.CharField(max_length=8, blank=True)
    at = models.DateTimeField(help_text="The exchange's time.")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=["account", "market", "exchange_trade_id"], name="fill_unique"),
            one_of("side", Order.Side, "fill_side"),
            models.CheckConstraint(condition=Q(position_side__in=["", *POSITION_SIDES]), name="fill_position_side"),
            models.CheckConstraint(condition=Q(price__gt=0, quantity__gt=0), name="fill_amounts_positive"),
        ]
        indexes = [models.Index(fields=["owner", "-id"], name="fill_owner")]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} at {self.price}"
