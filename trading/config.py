"""What an engine is told to run: exchanges, accounts, bots. Frozen; a change is a new value."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from risk.policy.breakers import Breaker, Scope
from risk.policy.gate import Key
from risk.policy.limits import RouteLimits
from risk.policy.realised import Learned
from risk.policy.rulebook import DEFAULTS, ScopeRules
from risk.policy.score import ScoreScales, ScoreWeights
from risk.policy.sizing import SizingRules
from risk.policy.slippage import SlippageRules
from risk.policy.switch import NORMAL, SwitchState
from risk.policy.threshold import Day
from trading.basis import BasisRules
from trading.execution.pricing import WorkingStyle
from trading.instruments import Market
from trading.messages import WorstCase


class ExchangeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A trading venue and how to reach it.

    ``code`` names it in this installation (``binance-sim``), ``ccxt_id`` picks the protocol. ``urls`` overrides
    hosts: ``rest`` (``http://127.0.0.1:9001``) and ``ws`` (``ws://127.0.0.1:9001``), without a path; empty means
    the real exchange (or its testnet when ``environment`` is ``testnet``).
    """

    code: str
    ccxt_id: str
    environment: str  # "live", "testnet", "simulated"
    urls: Mapping[str, str] = {}


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """API credentials. Never logged: repr hides them."""

    api_key: str
    secret: str
    passphrase: str = ""

    def __repr__(self) -> str:
        return "Credentials(***)"


class AccountConfig(msgspec.Struct, frozen=True, kw_only=True):
    account_id: int
    label: str
    exchange: ExchangeSpec
    credentials: Credentials | None  # None: paper only
    armed_for_live: bool = False
    # Balances a paper account starts from when the store knows none, by asset.
    paper_balances: Mapping[str, Decimal] = {}
    websocket_orders: bool = True  # where the exchange takes them; False: orders leave by REST only


MANUAL = "manual"  # a bot's strategy: what its owner trades by hand


class BotConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy instance.

    ``accounts`` maps exchange code to account id. ``markets`` are the markets it may trade (spot and derivatives);
    routes are built between those that share base and quote.
    """

    bot_id: int
    name: str
    mode: str  # "paper" or "live"
    # ``manual``: what its owner trades by hand. It has no routes, and any of ``desk_accounts``, several on an exchange.
    strategy: str = "cross_exchange"
    # ``basis``: spot against linear perpetuals, by these rules.
    desk_accounts: tuple[int, ...] = ()
    basis: BasisRules = BasisRules()
    markets: tuple[Market, ...]
    accounts: Mapping[str, int]
    min_net_edge_bps: float = 2.0
    max_edge_bps: float = 200.0  # above: too good to be true
    max_trade_notional: Decimal = Decimal(1000)
    max_book_age_ms: float = 1000.0
    max_open_trades: int = 1
    cooldown_ms: float = 250.0  # per route, after a trade closed
    price_tolerance_bps: float = 2.0  # how far a limit may stand beyond the worst price walked
    leg_policy: str = "together"  # a LegPolicy
    # A trade whose legs filled unequally: how far beyond the entry price it is completed, and until when; then how far
    # it is completed, undone or hedged elsewhere, and until when; and what all of it may cost, in the quote asset.
    repair_tolerance_bps: float = 30.0
    completion_seconds: float = 3.0
    unwind_tolerance_bps: float = 100.0
    unwind_seconds: float = 30.0
    max_repair_loss: Decimal | None = None  # None: what the tolerances allow
    adaptive_completion: bool = False  # a missing leg is worked in the spread first, for the completion time
    working: WorkingStyle = WorkingStyle()  # how it is worked, and whatever else trades on one side only
    order_timeout_ms: float = 15_000.0
    max_quote_deviation_bps: float | None = None  # of a leg's mid from the median of the pair's markets; None: off
    max_daily_loss: Decimal | None = None  # in the quote asset; None: off
    # Limits of the owner's open exposure at its worst case, in the quote asset; None: off.
    max_exposure_asset: Decimal | None = None
    max_exposure_exchange: Decimal | None = None
    max_exposure_account: Decimal | None = None
    max_exposure_global: Decimal | None = None
    max_unhedged: Decimal | None = None  # of open trades: quote times seconds
    max_orders_per_minute: int | None = None
    allowed_pairs: frozenset[str] | None = None  # as ``BTC/USDT``; None: all
    # What limits leave to all the owner's bots together; None: no limit is over them.
    max_open_trades_together: int | None = None
    max_daily_loss_together: Decimal | None = None
    # What an exchange, by its code, or a pair adds on the routes through it; and whose limit a parameter is, by name.
    exchange_limits: Mapping[str, RouteLimits] = {}
    pair_limits: Mapping[str, RouteLimits] = {}
    limit_sources: Mapping[str, str] = {}
    # Why a route (``<buy market>><sell market>``) is not traded; and why it is not with real money.
    untradable: Mapping[str, str] = {}
    unproven: Mapping[str, str] = {}
    # What the store knows when the bot is started, by trade mode and quote asset.
    realised_today: Mapping[str, Mapping[str, Decimal]] = {}
    # Trades won and lost on a route (``<buy market>><sell market>``), as the store knows when the bot is started.
    record: Mapping[str, tuple[int, int]] = {}
    # Trades that were left exposed since somebody last started the bot, with the reason: they block it.
    exposed: Mapping[str, str] = {}


class RatingRules(msgspec.Struct, frozen=True, kw_only=True):
    """How opportunities are sized and rated."""

    sizing: SizingRules = SizingRules()
    slippage: SlippageRules = SlippageRules()
    weights: ScoreWeights = ScoreWeights()
    scales: ScoreScales = ScoreScales()


class RiskPicture(msgspec.Struct, frozen=True, kw_only=True):
    """What operators and other processes say of risk, as it was last read.

    ``rating`` None trades every opportunity at the size its limits allow. ``tripped`` are the circuit breakers that
    are not closed, ``learned`` what realised slippage has taught, by market (``<exchange>:<pair>``).
    """

    rating: RatingRules | None = None
    rules: Mapping[Scope, ScopeRules] = DEFAULTS
    tripped: tuple[Breaker, ...] = ()
    learned: Mapping[str, Learned] = {}
    # Where trading is switched to, by bot; None for bots without a switch of their own.
    switches: Mapping[int | None, SwitchState] = {}

    def switch(self, bot_id: int) -> SwitchState:
        """Return the strictest switch over a bot."""
        return self.switches.get(bot_id) or self.switches.get(None, NORMAL)


class PastResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a trade of before came to, and the breakers it still tells something of."""

    trade_id: str
    at_ns: int
    profit: Decimal
    keys: tuple[Key, ...]


class OwnerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One engine: one owner's accounts and the bots that should run."""

    owner_id: int
    id_prefix: str  # installation's own, 4 alphanumerics: ids stay unique across fresh databases
    lease_token: int
    accounts: tuple[AccountConfig, ...]
    bots: tuple[BotConfig, ...]
    live_allowed: bool = False  # ARB_ALLOW_LIVE_ORDERS=1
    max_loop_lag_seconds: float = 0.5  # an engine that stands still for longer begins no trade until it keeps time
    risk: RiskPicture = RiskPicture()
    # Markets beyond the bots' own: those of trades that may still be open though their bot no longer runs.
    markets: tuple[Market, ...] = ()
    # The present UTC day of all the owner's bots as the store knows it when the engine starts, by mode and quote asset.
    today: Mapping[str, Mapping[str, Day]] = {}
    # Its newest results as of then, oldest first: the evidence of circuit breakers.
    results: tuple[PastResult, ...] = ()
    # Trades that were left exposed and whose bot nobody has started again since, whether it runs or not.
    left_exposed: tuple[WorstCase, ...] = ()
