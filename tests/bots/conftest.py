"""The small world, once for each test that asks for it, and browsers signed in to it."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from msgspec import to_builtins

from bots.models import BasisPosition, Order, Ticket
from bots.services.balances import balances_apply
from bots.services.decisions import DecisionSampler, decisions_store
from bots.services.events import events_apply
from bots.services.positions import positions_apply
from bots.services.reconciliation import reconciliation_apply
from bots.services.trades import trades_apply
from risk.services.rebalancing import request_propose
from tests.bots.durable import trade_commit
from tests.bots.world import SECOND, START_NS, World
from trading.basis import BasisRules
from trading.execution.reconciliation import Difference, DifferenceCause, DifferenceKind, Findings, Reconciliation
from trading.messages import (
    AccountBalance,
    AccountIncome,
    AccountPosition,
    AccountPositions,
    IncomeKind,
    OrderState,
    TradeState,
)


@pytest.fixture
def world(db: None) -> World:
    return World()


def traded(world: World, owner: User) -> World:
    """Let an owner's bot make one trade, with everything that leaves rows."""
    bot = world.bot(owner)
    token = world.lease(owner, f"host of {owner.username}")
    trade = world.trade(bot, token)
    intents = world.intents(bot, trade)
    trade_commit(
        owner_id=owner.pk,
        token=token,
        trade=trade,
        intents=intents,
        decision=world.decision(bot, trade_id=trade.trade_id, at_ns=time.time_ns()),
    )
    batch = [(world.event(intent, OrderState.FILLED, world.fill(intent)), OrderState.FILLED) for intent in intents]
    events_apply(owner_id=owner.pk, batch=batch)
    closed = world.trade(
        bot,
        token,
        trade_id=trade.trade_id,
        state=TradeState.CLOSED,
        closed_ns=START_NS + SECOND,
        realised_profit=Decimal("1.25"),
    )
    trades_apply(owner_id=owner.pk, token=token, trades=[closed])
    balances = [
        AccountBalance(
            account_id=intent.account_id, asset="USDT", free=Decimal("1000.5"), used=Decimal(0), received_ns=START_NS
        )
        for intent in intents
    ]
    balances_apply(owner_id=owner.pk, balances=balances)
    held = AccountPosition(market=intents[0].market, side="both", quantity=Decimal("0.5"), leverage=5)
    reading = AccountPositions(account_id=intents[0].account_id, positions=(held,), received_ns=START_NS)
    positions_apply(owner_id=owner.pk, token=token, told=[reading])
    reconciliation_apply(owner_id=owner.pk, done=compared(intents[0].account_id))
    order = Order.objects.filter(owner=owner).select_related("trade").earliest("pk")
    Ticket.objects.create(
        owner=owner, trade=order.trade, account_id=order.account_id, market_id=order.market_id, side=order.side,
        quantity=order.quantity, limit_cap=order.price, entry_price=order.price,
    )  # fmt: skip
    BasisPosition.objects.create(
        owner=owner, trade=order.trade, spot_id=order.market_id, perp_id=order.market_id,
        rules=to_builtins(BasisRules()), funding_rate=1e-4,
    )  # fmt: skip
    request_propose(
        actor=None,
        values={
            "owner_id": owner.pk, "kind": "convert", "account_id": order.account_id, "market_id": order.market_id,
            "asset": "BTC", "side": "sell", "amount": Decimal("0.1"), "value": Decimal(5000), "quote": "USDT",
            "cost_bps": Decimal(11), "effects": [{"account": "Main", "before": "1", "after": "0.5"}],
            "reason": "It holds 100 % BTC.",
        },
        expires_at=timezone.now() + timedelta(hours=4),
    )  # fmt: skip
    refused = world.decision(bot, check="size", at_ns=time.time_ns())
    decisions_store(owner_id=owner.pk, decisions=[refused], sampler=DecisionSampler())
    return world


def compared(account_id: int) -> Reconciliation:
    """A comparison that found somebody else's order on an account, and funding that was paid."""
    foreign = Difference(
        kind=DifferenceKind.FOREIGN_ORDER,
        key="x-by-hand",
        cause=DifferenceCause.FOREIGN_ORDER,
        suggestion="Look at it.",
    )
    paid = AccountIncome(
        account_id=account_id, kind=IncomeKind.FUNDING, transaction_id="1", asset="USDT", amount=Decimal(-2),
        exchange_ns=time.time_ns(),
    )  # fmt: skip
    findings = Findings(differences=(foreign,), foreign_orders=1, incomes=(paid,))
    return Reconciliation(
        account_id=account_id, findings=findings, ledger={}, left_out=frozenset(), at_ns=time.time_ns()
    )


@pytest.fixture
def busy_world(world: World) -> World:
    """The world after anna and ben have traded."""
    traded(world, world.anna)
    return traded(world, world.ben)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(world: World) -> Client:
    return signed_in(world.operator)


@pytest.fixture
def anna(world: World) -> Client:
    return signed_in(world.anna)


@pytest.fixture
def ben(world: World) -> Client:
    return signed_in(world.ben)
