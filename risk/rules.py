"""The rules a limit can be set on: what each bounds, in which unit, and which of two values is the tighter one.

Zero is taken only where it leaves something to trade: no edge beyond the fees, no rest, no tolerance, no loss by
repairs, nothing new while anything is unhedged. To stop trading there is the switch, not a limit of zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple

from risk.policy.layers import FLOORS, is_tighter
from risk.policy.limits import ROUTE_RULES

Kind = Literal["money", "ratio", "count"]


class Rule(NamedTuple):
    """A bound on one parameter of :class:`trading.config.BotConfig`; ``name`` is the parameter's.

    ``by_route`` rules are judged anew for each route, so that an exchange or a pair can have a limit of its own.
    """

    name: str
    label: str
    unit: str
    kind: Kind
    low: Decimal
    high: Decimal

    @property
    def tighter(self) -> Literal["lower", "higher"]:
        return "higher" if self.name in FLOORS else "lower"

    @property
    def by_route(self) -> bool:
        return self.name in ROUTE_RULES

    @property
    def described(self) -> str:
        """Return its label with what it is given in: ``Maximum open trades (trades, 1 to 100)``."""
        return f"{self.label} ({self.unit}, {figure(self.low)} to {figure(self.high)})"

    def tightest(self, *values: Decimal) -> Decimal:
        """Return the value that allows least."""
        return min(values) if self.tighter == "lower" else max(values)

    def is_tighter(self, value: Decimal, other: Decimal) -> bool:
        """Return whether ``value`` allows less than ``other``."""
        return is_tighter(self.name, value, other)

    def native(self, value: Decimal) -> Decimal | float | int:
        """Return a limit as the engine holds it: money stays exact, ratios and times are floats."""
        if self.kind == "money":
            return value
        return int(value) if self.kind == "count" else float(value)

    def text(self, value: Decimal) -> str:
        """Return a limit for reading: ``at most 500 of the quote asset``."""
        bound = "at most" if self.tighter == "lower" else "at least"
        return f"{bound} {figure(value)} {self.unit}"


def figure(value: Decimal) -> str:
    """Return a stored limit's number without the zeros its column adds."""
    return f"{value:f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def _rule(name: str, label: str, unit: str, kind: Kind, low: str, high: str) -> Rule:
    return Rule(name, label, unit, kind, Decimal(low), Decimal(high))


QUOTE, BPS, MS = "of the quote asset", "basis points", "milliseconds"
LEAST = "0.000001"  # the smallest value a limit's column holds

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            _rule("max_trade_notional", "Maximum trade notional", QUOTE, "money", "1", "100000000"),
            _rule("max_open_trades", "Maximum open trades", "trades", "count", "1", "100"),
            _rule("max_exposure_asset", "Maximum exposure in an asset", QUOTE, "money", LEAST, "100000000"),
            _rule("max_exposure_exchange", "Maximum exposure on an exchange", QUOTE, "money", LEAST, "100000000"),
            _rule("max_exposure_account", "Maximum exposure of an account", QUOTE, "money", LEAST, "100000000"),
            _rule("max_exposure_global", "Maximum exposure over everything", QUOTE, "money", LEAST, "100000000"),
            _rule("max_unhedged", "Maximum unhedged", f"{QUOTE} times seconds", "money", "0", "100000000"),
            _rule("max_orders_per_minute", "Maximum orders per minute", "orders", "count", "2", "100000"),
            _rule("min_net_edge_bps", "Minimum net edge", BPS, "ratio", "0", "1000"),
            _rule("max_edge_bps", "Maximum edge", BPS, "ratio", "1", "10000"),
            _rule("max_book_age_ms", "Maximum book age", MS, "ratio", "1", "60000"),
            _rule("max_quote_deviation_bps", "Maximum quote deviation", BPS, "ratio", "1", "10000"),
            _rule("max_daily_loss", "Maximum daily loss", QUOTE, "money", LEAST, "100000000"),
            _rule("cooldown_ms", "Minimum cool-down", MS, "ratio", "0", "3600000"),
            _rule("price_tolerance_bps", "Maximum price tolerance", BPS, "ratio", "0", "500"),
            _rule("repair_tolerance_bps", "Maximum repair tolerance", BPS, "ratio", "0", "2000"),
            _rule("unwind_tolerance_bps", "Maximum unwind tolerance", BPS, "ratio", "0", "5000"),
            _rule("max_repair_loss", "Maximum repair loss", QUOTE, "money", "0", "100000000"),
        )
    }
)
