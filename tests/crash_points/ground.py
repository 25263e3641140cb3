"""The rows an engine needs before it trades, made through the services, and everything it wrote taken away again."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.db import connection, transaction

from bots.models import (
    Asset,
    Balance,
    Bot,
    Command,
    CountWriter,
    Decision,
    DecisionCount,
    Difference,
    ExchangeAccount,
    Fill,
    Income,
    Installation,
    JournaledIntent,
    LedgerCheckpoint,
    LedgerEntry,
    LedgerLine,
    LegSlippage,
    Order,
    OrderEvent,
    Position,
    ProfitTotal,
    Ticket,
    Trade,
    TradingPair,
)
from bots.services.accounts import account_create
from bots.services.bots import bot_create, bot_start
from bots.services.exchanges import exchange_create, markets_sync
from bots.services.leases import leases_end
from bots.services.tickets import manual_bot
from risk.models import BreakerEvent, CircuitBreaker
from risk.services.rating_settings import sizing_update
from tests.simulation.world import BOOK_EVERY, PREFIX, D
from trading.config import Credentials
from trading.instruments import Market
from trading.messages import LegPolicy

# What engines write, each before what it refers to.
WRITTEN = (
    LedgerLine, LedgerEntry, Income, LedgerCheckpoint, Difference, LegSlippage, Fill, OrderEvent, Order, Decision,
    DecisionCount, CountWriter, Ticket, Trade, JournaledIntent, ProfitTotal, Balance, Position, Command, BreakerEvent,
    CircuitBreaker,
)  # fmt: skip


class Ground:
    """An owner with an account on each market's exchange, a bot on all of them, and one for trades by hand."""

    def __init__(self, markets: Iterable[Market]) -> None:
        Installation.objects.update_or_create(pk=1, defaults={"id_prefix": PREFIX})
        self.owner = User.objects.create_user("crash-points")
        self.accounts: dict[str, int] = {}
        accounts = []
        for market in markets:
            exchange = exchange_create(
                actor=None,
                code=market.exchange,
                name=market.exchange,
                ccxt_id="binance",
                environment="simulated",
                urls={"rest": "http://127.0.0.1:9001", "ws": "ws://127.0.0.1:9001"},
            )
            markets_sync(exchange=exchange, markets=[market])
            credentials = Credentials(api_key=f"key-of-{market.exchange}", secret=f"secret-of-{market.exchange}")
            account = account_create(
                owner=self.owner, actor=None, exchange=exchange, label=market.exchange, credentials=credentials
            )
            self.accounts[market.exchange] = account.pk
            accounts.append(account)
        Asset.objects.update(confirmed=True)
        self.bot = bot_create(
            owner=self.owner,
            actor=None,
            name="first",
            mode="live",
            pairs=TradingPair.objects.filter(base="BTC", quote="USDT"),
            accounts=accounts,
            max_trade_notional=D(5_000),
            max_book_age_ms=int(2 * BOOK_EVERY * 1000),
            cooldown_ms=100,
            leg_policy=LegPolicy.TOGETHER.value,
        )
        bot_start(bot=self.bot, actor=None)
        self.desk = manual_bot(owner=self.owner, mode="live")
        # Every trade at its limit's size, so that each run is the same trade.
        sizing_update(actor=self.operator(), values={"enabled": False}, seen_version=1)

    @staticmethod
    def operator() -> User:
        """A user who may set everything."""
        return User.objects.create_superuser("operator", password=None)

    def clear(self, *, by_hand: bool = False) -> None:
        """Leave the database as it was before the first engine, but for the lease's token, which only grows.

        One bot is to run: that for trades by hand, or that which finds its own.
        """
        with transaction.atomic(), connection.cursor() as cursor:
            for model in WRITTEN:
                cursor.execute(f'DELETE FROM "{model._meta.db_table}"')
            ExchangeAccount.objects.update(reconciled_at=None, matched_at=None, opened_at=None, foreign_orders=None)
            running = self.desk if by_hand else self.bot
            for bot in (self.bot, self.desk):
                state = Bot.Desired.RUNNING if bot == running else Bot.Desired.STOPPED
                Bot.objects.filter(pk=bot.pk).update(desired_state=state)
        leases_end()
