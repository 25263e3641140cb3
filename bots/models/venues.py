"""Where and what can be traded: exchanges, assets, their markets and the pairs operators think in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import msgspec
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q

from bots.fields import Between, MoneyField
from risk.policy.tradability import Listing, Network, Ruling
from trading import config, instruments, margin

D = Decimal

CODE = RegexValidator(
    r"\A[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z",
    "Use 1 to 32 lower-case letters, digits and hyphens, such as binance-sim.",
    code="code",
)
ASSET_CODE = RegexValidator(r"\A\S{1,32}\Z", "Use 1 to 32 characters without spaces, such as USDT.", code="asset")
URL_SCHEMES = {"rest": ("http", "https"), "ws": ("ws", "wss")}


def validate_urls(value: Any) -> None:
    """Refuse anything but ``{"rest": "http(s)://host", "ws": "ws(s)://host"}`` without path, user or query."""
    if not isinstance(value, dict):
        raise ValidationError('URLs must be an object such as {"rest": "http://127.0.0.1:9001"}.', code="urls")
    for name, url in value.items():
        if name not in URL_SCHEMES:
            raise ValidationError(f"Unknown URL {name!r}: only rest and ws can be set.", code="urls")
        try:
            parts = urlsplit(url if isinstance(url, str) else "")
            parts.port  # noqa: B018 - reading it is what refuses a bad port
        except ValueError as error:
            raise ValidationError(f"URL {name}: {error} (given {str(url)[:80]!r}).", code="urls") from None
        clean = parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username)
        if parts.scheme not in URL_SCHEMES[name] or not parts.hostname or not clean:
            schemes = " or ".join(f"{scheme}://host[:port]" for scheme in URL_SCHEMES[name])
            raise ValidationError(f"URL {name} must be {schemes}, no path (given {str(url)[:80]!r}).", code="urls")


class Exchange(models.Model):
    """A trading venue and how to reach it."""

    class Environment(models.TextChoices):
        LIVE = "live", "Live"
        TESTNET = "testnet", "Testnet"
        SIMULATED = "simulated", "Simulated"

    code = models.CharField(
        max_length=32, unique=True, validators=[CODE], help_text="Its name in this installation, such as binance-sim."
    )
    name = models.CharField(max_length=64)
    ccxt_id = models.CharField(
        "protocol", max_length=32, validators=[CODE], help_text="The ccxt id of the protocol it speaks: binance, okx."
    )
    environment = models.CharField(max_length=16, choices=Environment.choices, default=Environment.LIVE)
    urls = models.JSONField(
        "URL overrides", default=dict, blank=True, validators=[validate_urls],
        help_text='Other hosts than the exchange\'s own: {"rest": "http://127.0.0.1:9001", "ws": "ws://..."}.',
    )  # fmt: skip
    enabled = models.BooleanField(default=True, help_text="A disabled exchange trades nothing.")
    markets_note = models.CharField("markets", max_length=300, blank=True, editable=False)
    markets_asked_at = models.DateTimeField("markets asked for", null=True, editable=False)

    class Meta:
        ordering = ("code",)
        constraints = [
            models.CheckConstraint(
                condition=Q(environment__in=["live", "testnet", "simulated"]), name="exchange_environment"
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.code

    def to_engine(self) -> config.ExchangeSpec:
        """Return how to reach it, as the engine is told."""
        return config.ExchangeSpec(code=self.code, ccxt_id=self.ccxt_id, environment=self.environment, urls=self.urls)

    def clean(self) -> None:
        super().clean()
        address = self.urls.get("rest") if isinstance(self.urls, dict) else "refused already"
        if self.environment == self.Environment.SIMULATED and not address:
            raise ValidationError({"urls": 'A simulated exchange needs its address: {"rest": "http://host:port"}.'})


class Asset(models.Model):
    """A coin or currency by its unified code. The same code on two exchanges is the same asset once confirmed."""

    code = models.CharField(primary_key=True, max_length=32, validators=[ASSET_CODE])
    name = models.CharField(max_length=64, blank=True)
    confirmed = models.BooleanField(
        default=False, help_text="An operator has checked that every exchange means the same coin by this code."
    )
    note = models.TextField(blank=True, max_length=2000, help_text="Contract addresses per network, or why confirmed.")

    class Meta:
        ordering = ("code",)

    def __str__(self) -> str:
        return self.code


class ListedAsset(models.Model):
    """What one exchange tells of a coin: networks, contracts, wallets; and what an operator says it is."""

    class Ruling(models.TextChoices):
        NONE = "", "Not said"
        SAME = "same", "The asset of this code"
        OTHER = "other", "Another coin of the name"

    exchange = models.ForeignKey(Exchange, on_delete=models.CASCADE, related_name="listed_assets")
    asset = models.ForeignKey(Asset, on_delete=models.CASCADE, related_name="listings")
    networks = models.JSONField(default=list, editable=False)
    ruling = models.CharField(
        max_length=8, choices=Ruling.choices, default=Ruling.NONE, blank=True,
        help_text="An operator's word; it stands above what networks and contracts say.",
    )  # fmt: skip
    note = models.CharField(max_length=300, blank=True, help_text="Why, and where it was looked up.")
    read_at = models.DateTimeField("read", null=True, editable=False, help_text="When the exchange last told.")

    class Meta:
        ordering = ("asset_id", "exchange__code")
        verbose_name = "asset on an exchange"
        verbose_name_plural = "assets on exchanges"
        constraints = [
            models.UniqueConstraint(fields=["exchange", "asset"], name="listed_asset_unique"),
            models.CheckConstraint(condition=Q(ruling__in=["", "same", "other"]), name="listed_asset_ruling"),
        ]

    def __str__(self) -> str:
        return f"{self.asset_id} on {self.exchange}"

    def to_policy(self) -> Listing:
        """Return what the rules look at; needs ``exchange`` loaded."""
        return Listing(
            exchange=self.exchange.code,
            asset=self.asset_id,
            networks=tuple(msgspec.convert(network, Network) for network in self.networks),
            ruling=Ruling(self.ruling),
        )


class TradingPair(models.Model):
    """An asset pair across exchanges. USD, USDT and USDC are different assets."""

    base = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    quote = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("base_id", "quote_id")
        constraints = [
            models.UniqueConstraint(fields=["base", "quote"], name="pair_unique"),
            models.CheckConstraint(condition=~Q(base=F("quote")), name="pair_of_two_assets"),
        ]

    def __str__(self) -> str:
        return f"{self.base_id}/{self.quote_id}"


class Market(models.Model):
    """One instrument on one exchange; the row behind :class:`trading.instruments.Market`."""

    class Kind(models.TextChoices):
        SPOT = "spot", "Spot"
        LINEAR = "linear", "Linear contract"
        INVERSE = "inverse", "Inverse contract"

    exchange = models.ForeignKey(Exchange, on_delete=models.PROTECT, related_name="markets")
    symbol = models.CharField(max_length=64, help_text="ccxt's unified symbol: BTC/USDT, BTC/USDT:USDT.")
    native_id = models.CharField(max_length=64, help_text="The exchange's own name for it: BTCUSDT, BTC-USDT.")
    base = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    quote = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    settle = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+", null=True, blank=True)
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.SPOT)
    contract_size = MoneyField(
        default=1, validators=[Between("0.000000000000000001", "1000000000")],
        help_text="Base per contract (linear) or quote per contract (inverse); 1 for spot.",
    )  # fmt: skip
    tick = MoneyField(validators=[Between("0.000000000000000001", "1000000")], help_text="Smallest price step.")
    lot = MoneyField(validators=[Between("0.000000000000000001", "1000000000")], help_text="Smallest quantity step.")
    min_amount = MoneyField("minimum quantity", default=0, validators=[Between("0", "1000000000000")])
    min_notional = MoneyField("minimum notional", default=0, validators=[Between("0", "1000000000000")])
    taker_fee = MoneyField(
        validators=[Between("-0.01", "0.1")], help_text="Fraction of notional: 0.001 is 10 basis points."
    )
    maker_fee = MoneyField(
        validators=[Between("-0.01", "0.1")], help_text="Fraction of notional; negative is a rebate."
    )
    active = models.BooleanField(default=True, help_text="The exchange trades it now.")
    listed = models.BooleanField(default=True, help_text="The exchange still lists it, be it halted or not.")
    synced_at = models.DateTimeField(null=True, editable=False)
    margin_tiers = models.JSONField(
        default=list, blank=True, editable=False,
        help_text="A contract's tiers: from which value, to which, its maintenance rate, the largest leverage.",
    )  # fmt: skip

    class Meta:
        ordering = ("exchange__code", "symbol")
        constraints = [
            models.UniqueConstraint(fields=["exchange", "symbol"], name="market_unique"),
            models.CheckConstraint(condition=Q(kind__in=["spot", "linear", "inverse"]), name="market_kind"),
            models.CheckConstraint(
                condition=Q(tick__gt=0, lot__gt=0, contract_size__gt=0, min_amount__gte=0, min_notional__gte=0),
                name="market_steps_positive",
            ),
        ]
        indexes = [models.Index(fields=["base", "quote"], name="market_pair")]

    def __str__(self) -> str:
        return f"{self.symbol} on {self.exchange}"

    @property
    def tiers(self) -> tuple[margin.Tier, ...]:
        """Return the margin tiers that its exchange last told; empty if none are known."""
        return margin.tiers_of((D(floor), D(cap), D(rate), most) for floor, cap, rate, most in self.margin_tiers)

    def to_engine(self) -> instruments.Market:
        """Return the engine's value; needs ``exchange`` loaded."""
        return instruments.Market(
            exchange=self.exchange.code,
            symbol=self.symbol,
            native_id=self.native_id,
            base=self.base_id,
            quote=self.quote_id,
            settle=self.settle_id,
            kind=self.kind,  # type: ignore[arg-type]
            contract_size=self.contract_size,
            tick=self.tick,
            lot=self.lot,
            min_amount=self.min_amount,
            min_notional=self.min_notional,
            taker_fee=self.taker_fee,
            maker_fee=self.maker_fee,
            active=self.active,
            tiers=self.tiers,
        )
