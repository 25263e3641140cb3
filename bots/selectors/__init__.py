"""Reads. Whoever asks for rows on a user's behalf goes through here or through ``for_user``."""

from bots.selectors.funnel import PERIODS, Report, period_start, why_report
from bots.selectors.live import live_snapshot
from bots.selectors.manual import manual_markets
from bots.selectors.profits import ProfitLines, midnight_utc, profit_days, profit_lines, profits_ever, profits_since
from bots.selectors.totals import Totals, figures_today, totals
from bots.selectors.work import (
    bots_desired,
    engine_owners,
    intents_left,
    ledger_unbalanced,
    trades_left_exposed,
    trades_unfinished,
)

__all__ = [
    "PERIODS", "ProfitLines", "Report", "Totals", "bots_desired", "engine_owners", "figures_today",
    "intents_left", "ledger_unbalanced", "live_snapshot", "manual_markets", "midnight_utc", "period_start",
    "profit_days", "profit_lines", "profits_ever", "profits_since", "totals",
    "trades_left_exposed", "trades_unfinished", "why_report",
]  # fmt: skip
