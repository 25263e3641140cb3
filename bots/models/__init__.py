"""What is stored. Reads are in bots.selectors, writes in bots.services."""

from bots.models.accounts import Balance, ExchangeAccount
from bots.models.api import ApiAnswer, ApiToken
from bots.models.base import OPERATE_ALL, sees_everything
from bots.models.basis import BasisPosition
from bots.models.bot import Bot
from bots.models.control import BY_HAND, Command, Installation, OwnerLease
from bots.models.counts import CountWriter, DecisionCount
from bots.models.journal import JournaledIntent
from bots.models.ledger import FeeCheckpoint, Income, LedgerCheckpoint, LedgerEntry, LedgerLine
from bots.models.orders import UNFINISHED_ORDERS, Fill, Order, OrderEvent
from bots.models.positions import Position
from bots.models.profits import ALL_TIME, ProfitTotal, span_start
from bots.models.reconciliation import Difference
from bots.models.slippage import LegSlippage
from bots.models.tickets import Ticket
from bots.models.trades import UNFINISHED_TRADES, Decision, Trade
from bots.models.venues import Asset, Exchange, ListedAsset, Market, TradingPair

__all__ = [
    "ALL_TIME", "BY_HAND", "OPERATE_ALL", "UNFINISHED_ORDERS", "UNFINISHED_TRADES", "ApiAnswer", "ApiToken", "Asset",
    "Balance", "BasisPosition", "Bot", "Command", "CountWriter", "Decision", "DecisionCount", "Difference", "Exchange",
    "ExchangeAccount", "FeeCheckpoint", "Fill", "Income", "Installation", "JournaledIntent", "LedgerCheckpoint",
    "LedgerEntry", "LedgerLine", "LegSlippage", "ListedAsset", "Market", "Order", "OrderEvent", "OwnerLease",
    "Position", "ProfitTotal", "Ticket", "Trade", "TradingPair", "sees_everything", "span_start",
]  # fmt: skip
