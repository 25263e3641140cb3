"""A user's strategy instance and its parameters."""

from __future__ import annotations

from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from bots.fields import Between, MoneyField
from bots.models.accounts import ExchangeAccount
from bots.models.base import OPERATE_ALL, Owned, OwnedQuerySet, choices, one_of, validate_plain_name
from bots.models.venues import TradingPair
from trading.messages import LegPolicy


class BotStrategy(models.TextChoices):
    CROSS_EXCHANGE = "cross_exchange", "Two legs across markets"
    MANUAL = "manual", "Trades made by hand"
    BASIS = "basis", "Spot against a perpetual"


class BotMode(models.TextChoices):
    PAPER = "paper", "Paper"
    LIVE = "live", "Live"


class BotDesired(models.TextChoices):
    RUNNING = "running", "Running"
    STOPPED = "stopped", "Stopped"


class BotObserved(models.TextChoices):
    STOPPED = "stopped", "Stopped"
    STARTING = "starting", "Starting"
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    BLOCKED = "blocked", "Blocked"
    FAILED = "failed", "Failed"


class Bot(Owned):
    """A strategy on pairs and accounts. Its parameters are those of :class:`trading.config.BotConfig`."""

    Strategy = BotStrategy
    Mode = BotMode
    Desired = BotDesired
    Observed = BotObserved

    name = models.CharField(max_length=64, validators=[validate_plain_name])
    strategy = models.CharField(max_length=32, choices=Strategy.choices, default=Strategy.CROSS_EXCHANGE)
    pairs = models.ManyToManyField(TradingPair, related_name="bots", help_text="What it may trade.")
    accounts = models.ManyToManyField(
        ExchangeAccount, related_name="bots", help_text="Where it may trade: one account an exchange, all of its owner."
    )
    mode = models.CharField(
        max_length=8, choices=Mode.choices, default=Mode.PAPER, help_text="Paper fills against live books, at no risk."
    )

    min_net_edge_bps = MoneyField(
        "minimum net edge", default="2", validators=[Between("0", "1000", "basis points")],
        help_text=(
            "Basis points of notional after fees below which nothing is traded. Of spot against a perpetual it is the "
            "entry edge: after the fees of entry and exit and the reserve, funding counted in."
        ),
    )  # fmt: skip
    max_edge_bps = MoneyField(
        "maximum edge", default="200", validators=[Between("1", "10000", "basis points")],
        help_text="Basis points above which an edge is too good to be true and is not traded.",
    )  # fmt: skip
    max_trade_notional = MoneyField(
        "maximum trade notional", default="1000", validators=[Between("1", "100000000", "of the quote asset")],
        help_text="Largest notional of one trade, in the quote asset.",
    )  # fmt: skip
    max_book_age_ms = models.PositiveIntegerField(
        "maximum book age", default=1000, validators=[Between("1", "60000", "milliseconds")],
        help_text="Milliseconds after which a book is stale and trades nothing.",
    )  # fmt: skip
    max_open_trades = models.PositiveIntegerField(
        "maximum open trades", default=1, validators=[Between("1", "100", "trades")]
    )
    cooldown_ms = models.PositiveIntegerField(
        "cool-down", default=250, validators=[Between("0", "3600000", "milliseconds")],
        help_text="Milliseconds a route rests after a trade closed.",
    )  # fmt: skip
    price_tolerance_bps = MoneyField(
        "price tolerance", default="2", validators=[Between("0", "500", "basis points")],
        help_text="Basis points a limit may stand beyond the worst price the opportunity counted on.",
    )  # fmt: skip
    leg_policy = models.CharField(
        "leg policy", max_length=20, choices=choices(LegPolicy), default=LegPolicy.TOGETHER,
        help_text="Both legs at once; or the less certain one first, and the other sized to what that filled.",
    )  # fmt: skip
    repair_tolerance_bps = MoneyField(
        "repair tolerance", default="30", validators=[Between("0", "2000", "basis points")],
        help_text="Basis points beyond the entry price that completing a missing leg may cost.",
    )  # fmt: skip
    completion_seconds = MoneyField(
        "completion time", default="3", validators=[Between("0", "60", "seconds")],
        help_text="Seconds in which only the missing leg is sent, at a cap that widens to the repair tolerance.",
    )  # fmt: skip
    unwind_tolerance_bps = MoneyField(
        "unwind tolerance", default="100", validators=[Between("0", "5000", "basis points")],
        help_text="Basis points that hedging elsewhere or undoing may cost after that.",
    )  # fmt: skip
    unwind_seconds = MoneyField(
        "unwind time", default="30", validators=[Between("1", "600", "seconds")],
        help_text="Seconds after which nothing more is sent and the trade waits for a person.",
    )  # fmt: skip
    max_repair_loss = MoneyField(
        "maximum repair loss", null=True, blank=True, validators=[Between("0", "100000000", "of the quote asset")],
        help_text="Most a trade may lose by being hedged, in the quote asset; empty: what the tolerances allow.",
    )  # fmt: skip
    adaptive_completion = models.BooleanField(
        "adaptive completion", default=False,
        help_text="Work a missing leg as a limit order in the spread first, for what the completion time leaves.",
    )  # fmt: skip
    limit_buy_seconds = MoneyField(
        "limit time of purchases", default="15", validators=[Between("1", "600", "seconds")],
        help_text="Seconds a purchase rests in the spread before the rest of it goes to the market.",
    )  # fmt: skip
    limit_sell_seconds = MoneyField(
        "limit time of sales", default="10", validators=[Between("1", "600", "seconds")],
        help_text="Seconds a sale rests in the spread before the rest of it goes to the market.",
    )  # fmt: skip
    basis_exit_bps = MoneyField(
        "exit edge", default="5", validators=[Between("-1000", "1000", "basis points")],
        help_text="Basis points a pair would earn in all if it were closed now, from which on it is closed.",
    )  # fmt: skip
    basis_min_funding_bps = MoneyField(
        "least funding", default="0", validators=[Between("-100", "100", "basis points")],
        help_text=(
            "Basis points an interval that the perpetual's rate must pay to be entered, and held; "
            "below 0: the most that is paid."
        ),
    )  # fmt: skip
    basis_funding_hours = MoneyField(
        "funding counted on", default="0", validators=[Between("0", "720", "hours")],
        help_text="Hours ahead for which the present rate counts in the entry edge; 0: only what shorts would pay.",
    )  # fmt: skip
    basis_slippage_bps = MoneyField(
        "slippage reserve", default="2", validators=[Between("0", "500", "basis points")],
        help_text="Basis points kept back from the entry edge for what leaving the pair costs beyond fees.",
    )  # fmt: skip
    basis_max_hold_hours = MoneyField(
        "longest holding time", default="168", validators=[Between("0.01", "8760", "hours")],
        help_text="Hours after which a pair is closed whatever it earns.",
    )  # fmt: skip
    basis_leverage = models.PositiveSmallIntegerField(
        "leverage", default=1, validators=[Between("1", "20", "times")],
        help_text="How often its margin the perpetual position is; an order is still covered by its whole notional.",
    )  # fmt: skip
    basis_min_liquidation_bps = MoneyField(
        "distance to liquidation", default="500", validators=[Between("50", "9000", "basis points")],
        help_text="Basis points between mark and liquidation price below which a pair is closed, bot stopped or not.",
    )  # fmt: skip
    basis_close_orphan = models.BooleanField(
        "sell an orphaned spot leg", default=True,
        help_text="When the perpetual was liquidated or closed by others; else the trade is exposed and waits.",
    )  # fmt: skip
    order_timeout_ms = models.PositiveIntegerField(
        "order timeout", default=15000, validators=[Between("1000", "60000", "milliseconds")],
        help_text="Milliseconds to wait for an exchange's answer; exchanges themselves may take 10 seconds.",
    )  # fmt: skip

    require_open_wallets = models.BooleanField(
        "require open wallets", default=True,
        help_text="Trade only what can be withdrawn and deposited again, as far as the exchanges tell.",
    )  # fmt: skip

    desired_state = models.CharField(max_length=16, choices=Desired.choices, default=Desired.STOPPED, editable=False)
    desired_at = models.DateTimeField(null=True, editable=False)
    observed_state = models.CharField(max_length=16, choices=Observed.choices, default=Observed.STOPPED, editable=False)
    observed_reason = models.CharField(max_length=500, blank=True, default="", editable=False)
    observed_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("owner_id", "name")
        permissions = [(OPERATE_ALL.partition(".")[2], "Can see and operate the rows of every owner")]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="bot_name_unique"),
            models.UniqueConstraint(fields=["owner", "mode"], condition=Q(strategy="manual"), name="bot_manual_unique"),
            one_of("strategy", BotStrategy, "bot_strategy"),
            one_of("mode", BotMode, "bot_mode"),
            one_of("leg_policy", LegPolicy, "bot_leg_policy"),
            one_of("desired_state", BotDesired, "bot_desired_state"),
            one_of("observed_state", BotObserved, "bot_observed_state"),
            models.CheckConstraint(
                condition=Q(min_net_edge_bps__gte=0, max_edge_bps__gt=F("min_net_edge_bps"), max_trade_notional__gt=0),
                name="bot_edges_and_notional",
            ),
        ]  # fmt: skip
        indexes = [models.Index(fields=["desired_state", "owner"], name="bot_desired")]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        low, high = self.min_net_edge_bps, self.max_edge_bps
        # Django asks here also when a field was refused and is still what was given.
        if isinstance(low, Decimal) and isinstance(high, Decimal) and low >= high:
            raise ValidationError(
                {"min_net_edge_bps": f"Must be below the maximum edge of {high} basis points (given {low})."}
            )
        for smaller, larger, unit in (
            ("basis_funding_hours", "basis_max_hold_hours", "hours"),
            ("completion_seconds", "unwind_seconds", "seconds"),
            ("repair_tolerance_bps", "unwind_tolerance_bps", "basis points"),
        ):
            first, then = getattr(self, smaller), getattr(self, larger)
            if isinstance(first, Decimal) and isinstance(then, Decimal) and first > then:
                name = self._meta.get_field(larger).verbose_name  # type: ignore[union-attr]
                raise ValidationError({smaller: f"Must be at most the {name} of {then} {unit} (given {first})."})
