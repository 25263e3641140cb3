"""The rules a limit can be set on: what each bounds, in which unit, and which of two values is the tighter one."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple


class Rule(NamedTuple):
    """A bound on one parameter of :class:`trading.config.BotConfig`; ``name`` is the parameter's."""

    name: str
    label: str
    unit: str
    tighter: Literal["lower", "higher"]
    low: Decimal
    high: Decimal

    def tightest(self, *values: Decimal) -> Decimal:
        """Return the value that allows least."""
        return min(values) if self.tighter == "lower" else max(values)


def _rule(name: str, label: str, unit: str, tighter: Literal["lower", "higher"], low: str, high: str) -> Rule:
    return Rule(name, label, unit, tighter, Decimal(low), Decimal(high))


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            _rule("max_trade_notional", "Maximum trade notional", "of the quote asset", "lower", "1", "100000000"),
            _rule("max_open_trades", "Maximum open trades", "trades", "lower", "1", "100"),
            _rule("min_net_edge_bps", "Minimum net edge", "basis points", "higher", "0", "1000"),
            _rule("max_edge_bps", "Maximum edge", "basis points", "lower", "1", "10000"),
            _rule("max_book_age_ms", "Maximum book age", "milliseconds", "lower", "1", "60000"),
            _rule("max_quote_deviation_bps", "Maximum quote deviation", "basis points", "lower", "1", "10000"),
            _rule("max_daily_loss", "Maximum daily loss", "of the quote asset", "lower", "0", "100000000"),
            _rule("cooldown_ms", "Minimum cool-down", "milliseconds", "higher", "0", "3600000"),
            _rule("price_tolerance_bps", "Maximum price tolerance", "basis points", "lower", "0", "500"),
            _rule("repair_tolerance_bps", "Maximum repair tolerance", "basis points", "lower", "0", "2000"),
            _rule("unwind_tolerance_bps", "Maximum unwind tolerance", "basis points", "lower", "0", "5000"),
            _rule("max_repair_loss", "Maximum repair loss", "of the quote asset", "lower", "0", "100000000"),
        )
    }
)
