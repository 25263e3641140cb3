"""A user's desk in the database: exchanges, accounts, a bot, trades with orders and fills."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from bots.models import (
    Asset,
    Balance,
    Bot,
    Decision,
    Exchange,
    ExchangeAccount,
    Fill,
    Market,
    Order,
    Trade,
    TradingPair,
)
from bots.services.profits import profits_move, result_of

PASSWORD = "correct horse battery"
EXCHANGES = ("binance-sim", "okx-sim")
_numbers = count(1)


def make_user(name: str, *, operator: bool = False) -> User:
    user = get_user_model().objects.create_user(name, password=PASSWORD, is_staff=operator)
    if operator:
        user.user_permissions.add(Permission.objects.get(content_type__app_label="bots", codename="operate_all"))
    return user


@dataclass
class Desk:
    """What one user owns."""

    user: User
    bot: Bot
    accounts: dict[str, ExchangeAccount] = field(default_factory=dict)
    markets: dict[str, Market] = field(default_factory=dict)

    def trade(
        self,
        *,
        profit: str | None = "0.25",
        state: str = "CLOSED",
        residual: str = "0",
        opened_at: datetime | None = None,
        mode: str = "paper",
    ) -> Trade:
        """Add a trade that bought 0.01 BTC on the first exchange and sold it on the second."""
        number = next(_numbers)
        opened = opened_at or timezone.now()
        closed = opened + timedelta(milliseconds=300)
        trade = Trade.objects.create(
            owner=self.user,
            trade_id=f"trade{number}",
            bot=self.bot,
            route=f"{self.bot.pk}:{EXCHANGES[0]}:BTC/USDT>{EXCHANGES[1]}:BTC/USDT",
            base="BTC",
            quote="USDT",
            state=state,
            mode=mode,
            quantity=Decimal("0.01"),
            expected_net_bps=Decimal("5.5"),
            expected_profit=Decimal("0.275"),
            realised_profit=None if profit is None else Decimal(profit),
            residual_base=Decimal(residual),
            lease_token=1,
            opened_at=opened,
            closed_at=closed if profit is not None else None,
        )
        profits_move(owner_id=self.user.pk, moves=[(None, result_of(trade))])
        for leg, (code, side, price) in enumerate(zip(EXCHANGES, ("buy", "sell"), ("50000.1", "50040.2"), strict=True)):
            self._order(trade, leg, code, side, Decimal(price), number)
        return trade

    def _order(self, trade: Trade, leg: int, code: str, side: str, price: Decimal, number: int) -> None:
        quantity = Decimal("0.01")
        order = Order.objects.create(
            owner=self.user,
            client_order_id=f"desk{number}L{leg}",
            trade=trade,
            account=self.accounts[code],
            market=self.markets[code],
            leg=leg,
            attempt=0,
            side=side,
            kind="limit",
            time_in_force="IOC",
            price=price,
            quantity=quantity,
            filled=quantity,
            average_price=price,
            state="FILLED",
            lease_token=1,
            deadline=trade.opened_at + timedelta(seconds=15),
            created_at=trade.opened_at,
            updated_at=trade.opened_at,
        )
        Fill.objects.create(
            owner=self.user,
            account=order.account,
            market=order.market,
            exchange_trade_id=f"{number}-{leg}",
            order=order,
            side=side,
            price=price,
            quantity=quantity,
            fee=Decimal("0.05"),
            fee_asset="USDT",
            at=trade.opened_at,
        )

    def decision(
        self, *, taken: bool = False, reason: str = "net edge 1.1 bps is below the minimum of 2 bps"
    ) -> Decision:
        buy, sell = (f"{code}:BTC/USDT" for code in EXCHANGES)
        return Decision.objects.create(
            owner=self.user,
            bot=self.bot,
            route=f"{self.bot.pk}:{buy}>{sell}",
            buy_market=buy,
            sell_market=sell,
            base="BTC",
            quote="USDT",
            quantity=0.01,
            buy_vwap=50000.1,
            sell_vwap=50010.2,
            gross_bps=3.1,
            net_bps=1.1,
            profit=0.05,
            book_age_ms=12.0,
            taken=taken,
            check_name="" if taken else "edge",
            reason="" if taken else reason,
            at=timezone.now(),
        )


def make_desk(name: str = "alice", *, user: User | None = None) -> Desk:
    """Create a user with a bot on two exchanges that have BTC/USDT, balances included."""
    user = user or make_user(name)
    for code in ("BTC", "USDT"):
        Asset.objects.get_or_create(code=code)
    pair, _ = TradingPair.objects.get_or_create(base_id="BTC", quote_id="USDT")
    desk = Desk(user=user, bot=Bot.objects.create(owner=user, name=f"{name}'s majors"))
    desk.bot.pairs.add(pair)
    for port, code in enumerate(EXCHANGES, start=9001):
        ccxt_id = code.partition("-")[0]
        exchange, _ = Exchange.objects.get_or_create(
            code=code,
            defaults={
                "name": code,
                "ccxt_id": ccxt_id,
                "environment": "simulated",
                "urls": {"rest": f"http://127.0.0.1:{port}", "ws": f"ws://127.0.0.1:{port}"},
            },
        )
        desk.markets[code], _ = Market.objects.get_or_create(
            exchange=exchange,
            symbol="BTC/USDT",
            defaults={
                "native_id": "BTCUSDT",
                "base_id": "BTC",
                "quote_id": "USDT",
                "tick": Decimal("0.1"),
                "lot": Decimal("0.00001"),
                "taker_fee": Decimal("0.001"),
                "maker_fee": Decimal("0.001"),
            },
        )
        account = ExchangeAccount.objects.create(
            owner=user, exchange=exchange, label="main", paper_balances={"USDT": "100000", "BTC": "1"}
        )
        desk.accounts[code] = account
        desk.bot.accounts.add(account)
        for asset, free in (("BTC", "1.5"), ("USDT", "60000.25")):
            Balance.objects.create(
                owner=user, account=account, asset=asset, free=Decimal(free), used=Decimal(0), at=timezone.now()
            )
    return desk
