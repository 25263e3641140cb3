"""A small world of exchanges, users and bots, made through the services, and the engine's words about it."""

from __future__ import annotations

import itertools
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Group, User
from msgspec import structs

from bots.models import Bot, Exchange, ExchangeAccount, OwnerLease, TradingPair
from bots.services.accounts import account_create
from bots.services.bots import bot_create
from bots.services.exchanges import exchange_create, markets_sync
from bots.services.leases import lease_take
from bots.services.roles import USERS, roles_sync
from bots.services.trades import trades_apply
from bots.times import to_ns
from tests.bots.durable import trade_commit
from trading import instruments
from trading.config import Credentials
from trading.execution.ids import client_order_id, trade_id
from trading.messages import (
    Decision,
    DecisionKey,
    Fill,
    LegQuote,
    Opportunity,
    OrderEvent,
    OrderIntent,
    OrderState,
    TradeRecord,
    TradeState,
    Verdict,
)

D = Decimal
SECOND = 1_000_000_000
START_NS = 1_760_000_000 * SECOND


def market(exchange: str = "alpha", base: str = "BTC", quote: str = "USDT", **changes: Any) -> instruments.Market:
    values: dict[str, Any] = {
        "exchange": exchange,
        "symbol": f"{base}/{quote}",
        "native_id": f"{base}{quote}",
        "base": base,
        "quote": quote,
        "tick": D("0.01"),
        "lot": D("0.00001"),
        "min_notional": D("5"),
        "taker_fee": D("0.001"),
        "maker_fee": D("0.0008"),
    }
    return instruments.Market(**(values | changes))


class World:
    """Two exchanges with BTC/USDT and ETH/USDT, and as many owners as asked for, each with a bot on both."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._sequence = itertools.count(1)
        self.operator = User.objects.create_superuser("operator", password="operator-password")
        roles_sync()
        self.exchanges = {code: self.exchange(code) for code in ("alpha", "beta")}
        self.anna = self.user("anna")
        self.ben = self.user("ben")

    def exchange(self, code: str, environment: str = "simulated") -> Exchange:
        exchange = exchange_create(
            actor=None,
            code=code,
            name=code.capitalize(),
            ccxt_id="binance",
            environment=environment,
            urls={"rest": "http://127.0.0.1:9001", "ws": "ws://127.0.0.1:9001"},
        )
        markets_sync(exchange=exchange, markets=[market(code), market(code, "ETH")])
        return exchange

    def user(self, username: str) -> User:
        user = User.objects.create_user(username, password=f"{username}-password", is_staff=True)
        user.groups.add(Group.objects.get(name=USERS))
        return user

    def credentials(self, secret: str = "") -> Credentials:
        number = next(self._numbers)
        return Credentials(api_key=f"key-number-{number:06}", secret=secret or f"secret-number-{number:06}")

    def account(self, owner: User, exchange: str = "alpha", label: str = "Main", **values: Any) -> ExchangeAccount:
        values.setdefault("credentials", self.credentials())
        return account_create(owner=owner, actor=owner, exchange=self.exchanges[exchange], label=label, **values)

    def bot(self, owner: User, name: str = "Wide net", mode: str = "live", **parameters: Any) -> Bot:
        accounts = [
            ExchangeAccount.objects.filter(owner=owner, exchange__code=code).first() or self.account(owner, code)
            for code in self.exchanges
        ]
        pairs = TradingPair.objects.filter(base="BTC", quote="USDT")
        return bot_create(owner=owner, actor=owner, name=name, pairs=pairs, accounts=accounts, mode=mode, **parameters)

    def lease(self, owner: User, holder: str = "host-1", seconds: float = 60) -> int:
        token = lease_take(owner_id=owner.pk, holder=holder, ttl_seconds=seconds)
        assert token is not None
        return token

    def token(self, owner: User) -> int:
        """Return the token of the owner's lease, taken if there is none."""
        return OwnerLease.objects.filter(owner=owner).values_list("token", flat=True).first() or self.lease(owner)

    def closed_trade(self, bot: Bot, *, profit: str, closed_at: datetime, **changes: Any) -> TradeRecord:
        """Commit a trade and store its result, as the engine does."""
        owner = bot.owner
        token = self.token(owner)
        trade = self.trade(bot, token, **changes)
        trade_commit(owner_id=owner.pk, token=token, trade=trade, intents=self.intents(bot, trade))
        values = {"state": TradeState.CLOSED, "closed_ns": to_ns(closed_at), "realised_profit": D(profit)}
        closed = structs.replace(trade, **values)
        trades_apply(owner_id=owner.pk, token=token, trades=[closed])
        return closed

    # --- what the engine says --------------------------------------------------------------------------------

    def trade(self, bot: Bot, token: int = 1, **changes: Any) -> TradeRecord:
        values: dict[str, Any] = {
            "trade_id": trade_id("test", bot.owner_id, token, next(self._sequence)),
            "bot_id": bot.pk,
            "route": "alpha:BTC/USDT>beta:BTC/USDT",
            "base": "BTC",
            "quote": "USDT",
            "state": TradeState.OPEN,
            "mode": "simulated",
            "quantity": D("0.5"),
            "expected_net_bps": D("4.2"),
            "expected_profit": D("12.6"),
            "opened_ns": START_NS,
        }
        return TradeRecord(**(values | changes))

    def intents(self, bot: Bot, trade: TradeRecord, **changes: Any) -> list[OrderIntent]:
        accounts = {account.exchange.code: account for account in bot.accounts.select_related("exchange")}
        legs = [("alpha", "buy", "60000", "USDT", "30030"), ("beta", "sell", "60030", "BTC", "0.5")]
        return [
            OrderIntent(
                **{
                    "client_order_id": client_order_id(trade.trade_id, leg, 0),
                    "trade_id": trade.trade_id,
                    "account_id": accounts[exchange].pk,
                    "market": f"{exchange}:BTC/USDT",
                    "leg": leg,
                    "attempt": 0,
                    "side": side,
                    "price": D(price),
                    "quantity": trade.quantity,
                    "deadline_ns": START_NS + 15 * SECOND,
                    "created_ns": START_NS,
                    "reserve_asset": asset,
                    "reserve_amount": D(amount),
                }
                | changes
            )
            for leg, (exchange, side, price, asset, amount) in enumerate(legs)
        ]

    def decision(
        self, bot: Bot, *, trade_id: str = "", check: str = "", at_ns: int = START_NS, **changes: Any
    ) -> Decision:
        def leg(exchange: str, side: str, vwap: float) -> LegQuote:
            return LegQuote(f"{exchange}:BTC/USDT", side, 0.5, vwap, vwap, 0.001, 0.3, 12.0)  # type: ignore[arg-type]

        values: dict[str, Any] = {
            "bot_id": bot.pk,
            "route": "alpha:BTC/USDT>beta:BTC/USDT",
            "base": "BTC",
            "quote": "USDT",
            "buy": leg("alpha", "buy", 60_000.0),
            "sell": leg("beta", "sell", 60_030.0),
            "quantity": 0.5,
            "gross_bps": 24.2,
            "net_bps": 4.2,
            "net_profit": 12.6,
            "detected_ns": at_ns,
            "detected_monotonic_ns": 1,
        }
        verdict = Verdict(allowed=not check, reason="too small" if check else "", figures={"net_bps": 4.2})
        return Decision(opportunity=Opportunity(**(values | changes)), verdict=verdict, check=check, trade_id=trade_id)

    def counts(self, bot: Bot, check: str = "", count: int = 1, **changes: Any) -> dict[DecisionKey, int]:
        values: dict[str, Any] = {"bot_id": bot.pk, "base": "BTC", "quote": "USDT", "check": check}
        return {DecisionKey(**(values | changes)): count}

    def fill(self, intent: OrderIntent, number: int = 1, **changes: Any) -> Fill:
        values: dict[str, Any] = {
            "account_id": intent.account_id,
            "market": intent.market,
            "exchange_trade_id": f"t{number}-{intent.client_order_id}",
            "exchange_order_id": f"x-{intent.client_order_id}",
            "client_order_id": intent.client_order_id,
            "side": intent.side,
            "price": intent.price,
            "quantity": intent.quantity,
            "fee": D("0.001") * intent.price * intent.quantity,
            "fee_asset": "USDT",
            "liquidity": "taker",
            "exchange_ns": START_NS + SECOND,
        }
        return Fill(**(values | changes))

    def event(self, intent: OrderIntent, state: OrderState, *fills: Fill, **changes: Any) -> OrderEvent:
        values: dict[str, Any] = {
            "account_id": intent.account_id,
            "market": intent.market,
            "client_order_id": intent.client_order_id,
            "exchange_order_id": f"x-{intent.client_order_id}",
            "state": state,
            "filled": sum((fill.quantity for fill in fills), D(0)),
            "fills": fills,
            "source": "stream",
            "raw": '{"e": "executionReport"}',
            "exchange_ns": START_NS + SECOND,
            "received_ns": START_NS + SECOND + 5_000_000,
        }
        return OrderEvent(**(values | changes))
