"""One running bot inside an engine: its configuration, what it is observed to do, its routes and its day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from risk.policy.limits import Limits, Situation
from trading.config import BotConfig
from trading.execution.desk import Desk, TradeTerms
from trading.execution.exposures import Exposures
from trading.execution.planner import limits_of, terms_of
from trading.execution.purses import Purses
from trading.execution.route_terms import RouteTerms, route_terms
from trading.messages import Opportunity, TradeMode, TradeRecord

ZERO = Decimal(0)
NS_PER_DAY = 86_400 * 10**9
NOTHING = Exposures()  # is only read

LIVE = "live"  # of accounts
STARTING, RUNNING, BLOCKED, STOPPING, STOPPED, FAILED = (
    "starting",
    "running",
    "blocked",
    "stopping",
    "stopped",
    "failed",
)


class BotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a bot is seen to do, and why if it isn't trading."""

    bot_id: int
    name: str
    observed: str
    reason: str
    paper: bool
    open_trades: int
    counters: Mapping[str, int]


class RunningBot:
    """State of one bot. ``stopping`` once it is no longer wanted; ``faults`` keep it from trading, by cause."""

    def __init__(self, config: BotConfig, purses: Purses, now_ns: int) -> None:
        self.configure(config, purses)
        self.observed = STARTING
        self.reason = ""
        self.kept = False  # stays on the roster after its last trade, for the engine's last report
        self.start_over()
        self.open_trades: set[str] = set()
        self.busy_routes: dict[str, str] = {}  # route to the trade that has it
        self.cooling: dict[str, int] = {}  # route to the monotonic time it may trade again
        self.counters: Counter[str] = Counter()
        self._results: dict[str, tuple[int, Decimal]] = {}  # trade to the day and profit counted for it
        self._record: Counter[tuple[str, bool]] = Counter()  # trades counted here, by route and whether they were won
        self._days: dict[tuple[int, str, str], Decimal] = {}  # by day, mode and quote asset
        self._known = config.realised_today
        self._known_day = now_ns // NS_PER_DAY

    def configure(self, config: BotConfig, purses: Purses) -> None:
        """Take a new configuration; open trades keep the terms they were opened with."""
        self.config = config
        self.purses = purses
        self.limits: Limits = limits_of(config)
        self.terms: TradeTerms = terms_of(config, purses.by_exchange, paper=purses.paper)
        refused = {**(config.unproven if purses.mode == TradeMode.LIVE else {}), **config.untradable}
        self._routes: dict[str, RouteTerms] = {}  # by the name an opportunity carries, as they are asked for
        # By the name an opportunity carries.
        self.untradable = {f"{config.bot_id}:{route}": why for route, why in refused.items()}

    def route(self, desk: Desk, found: Opportunity) -> RouteTerms:
        """Return the bot's terms on an opportunity's route."""
        route = self._routes.get(found.route)
        markets = desk.markets
        if (
            route is None
            or markets[found.buy.market] is not route.buy.market
            or markets[found.sell.market] is not route.sell.market
        ):
            route = self._routes[found.route] = route_terms(desk, self.config, self.terms, self.limits, found)
        return route

    def start_over(self) -> None:
        """Begin without faults but those its configuration knows of: whoever starts a bot again has looked."""
        self.stopping = False
        self.faults: dict[str, str] = {}
        for trade, reason in self.config.exposed.items():
            self.block(trade, reason)

    def block(self, trade: str, reason: str) -> None:
        """Keep the bot from trading because a trade of its is exposed."""
        self.faults[trade] = f"trade {trade} is exposed: {reason}"

    def situation(self, quote: str, now_ns: int, orders_last_minute: int, exposed: Exposures | None) -> Situation:
        """Return what the bot and its owner hold; without ``exposed`` nothing asks for exposures."""
        exposed = exposed or NOTHING
        return Situation(
            open_trades=len(self.open_trades),
            realised_today=self.realised(quote, now_ns),
            orders_last_minute=orders_last_minute,
            exposure_by_asset=exposed.by_asset,
            exposure_by_exchange=exposed.by_exchange,
            exposure_by_account=exposed.by_account,
            exposure_total=exposed.total,
            unhedged=exposed.unhedged,
        )

    def realised(self, quote: str, now_ns: int, mode: str = "") -> Decimal:
        """Return the results of the present UTC day in ``quote``, of the money the bot trades with now, or of
        another ``mode``'s."""
        day = now_ns // NS_PER_DAY
        mode = mode or self.purses.mode
        known = self._known.get(mode, {}).get(quote, ZERO) if day == self._known_day else ZERO
        return known + self._days.get((day, mode, quote), ZERO)

    def count_result(self, record: TradeRecord, now_ns: int) -> None:
        """Count a finished trade's profit once; if a late fill changes it, count the difference."""
        profit = record.realised_profit
        if profit is None:
            return
        known = self._results.get(record.trade_id)
        if known is not None:
            self._record[record.route, known[1] >= 0] -= 1
        self._record[record.route, profit >= 0] += 1
        day, counted = known or (now_ns // NS_PER_DAY, ZERO)
        key = (day, record.mode, record.quote)
        self._days[key] = self._days.get(key, ZERO) + profit - counted
        self._results[record.trade_id] = (day, profit)
        if len(self._results) > 10_000:
            self._results.pop(next(iter(self._results)))
        for old in [key for key in self._days if key[0] < day - 1]:
            del self._days[old]

    def record_of(self, route: str, known: tuple[int, int]) -> tuple[int, int]:
        """Return how many trades of a route were won (or came out even), and how many were lost.

        ``known`` are those of before the bot was started.
        """
        counted = self._record
        return known[0] + counted.get((route, True), 0), known[1] + counted.get((route, False), 0)

    def status(self) -> BotStatus:
        return BotStatus(
            bot_id=self.config.bot_id,
            name=self.config.name,
            observed=self.observed,
            reason=self.reason,
            paper=self.purses.paper,
            open_trades=len(self.open_trades),
            counters=dict(self.counters),
        )
