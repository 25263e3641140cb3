"""The modelled database and the real one come to the same rows: what histories wrote is written to both."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec
import pytest
from django.utils import timezone

from bots.models import Fill, Order, OrderEvent, OwnerLease, Trade
from bots.services.events import events_apply
from bots.services.stored import open_trades, trade_of
from bots.services.trades import trades_apply
from tests.bots.durable import repair_commit, trade_commit
from tests.bots.world import World as Rows
from tests.simulation import world as histories
from tests.simulation.database import Database, Operation
from trading.instruments import money
from trading.messages import OrderEvent as Event

pytestmark = [pytest.mark.django_db, pytest.mark.database]


class Mirror:
    """The real database under one owner, with the accounts and the bot that histories speak of."""

    def __init__(self, rows: Rows, codes: dict[str, int]) -> None:
        bot = rows.bot(rows.anna)
        self.owner = rows.anna.pk
        self.bot = bot.pk
        accounts = {account.exchange.code: account.pk for account in bot.accounts.select_related("exchange")}
        self.accounts = {number: accounts[code] for code, number in codes.items()}
        rows.lease(rows.anna)

    def write(self, operation: Operation) -> None:
        expires = timezone.now() + timedelta(hours=1)
        OwnerLease.objects.filter(owner_id=self.owner).update(token=operation.present, expires_at=expires)
        owner, token = self.owner, operation.token
        trade = None if operation.trade is None else msgspec.structs.replace(operation.trade, bot_id=self.bot)
        if operation.event is not None:
            events_apply(owner_id=owner, batch=[(self.event(operation.event), operation.state)], token=token)
        elif not operation.intents:
            assert trade is not None
            trades_apply(owner_id=owner, token=token, trades=[trade])
        elif operation.first:
            assert trade is not None
            trade_commit(
                owner_id=owner, token=token, trade=trade, intents=[self.ours(one) for one in operation.intents]
            )
        else:
            assert trade is not None
            (intent,) = operation.intents
            repair_commit(owner_id=owner, token=token, trade=trade, intent=self.ours(intent))

    def ours(self, value: Any) -> Any:
        """Return a value with the account's key of this database."""
        return msgspec.structs.replace(value, account_id=self.accounts[value.account_id])

    def event(self, event: Event) -> Event:
        return msgspec.structs.replace(self.ours(event), fills=tuple(self.ours(fill) for fill in event.fills))


def written(seed: int) -> tuple[Database, dict[str, int]]:
    """Let a history happen; return what it left in the modelled database, and its accounts."""
    with histories.quiet_garbage():
        return _happen(seed)


def _happen(seed: int) -> tuple[Database, dict[str, int]]:
    one = histories.World(seed)
    assert one.run().anomalies == []
    return one.database, one.accounts


@pytest.fixture(scope="module")
def seeds() -> list[int]:
    """Histories in which engines are killed or paused, on the two exchanges the rows have."""
    found = []
    for seed in range(2000, 2400):
        one = histories.World(seed)
        if len(one.accounts) == 2 and one.incidents:
            found.append(seed)
        one.end()
    return found


@pytest.mark.parametrize("number", range(10))
def test_both_databases_come_to_the_same_rows(number: int, seeds: list[int]) -> None:
    model, codes = written(seeds[number])
    rows = Mirror(Rows(), codes)
    for operation in model.operations:
        rows.write(operation)

    assert dict(Order.objects.values_list("client_order_id", "state")) == model.states
    steps = OrderEvent.objects.order_by("pk").values_list("order__client_order_id", "to_state")
    history = {
        client_id: [state for state, _ in groupby(to_state for order, to_state in steps if order == client_id)]
        for client_id in model.history
    }
    assert history == {client_id: [str(state) for state in states] for client_id, states in model.history.items()}
    fills = {
        (fill.account_id, fill.exchange_trade_id): (fill.side, fill.price, fill.quantity, fill.fee, fill.fee_asset)
        for fill in Fill.objects.all()
    }
    assert fills == {
        (rows.accounts[fill.account_id], fill.exchange_trade_id): (
            fill.side, fill.price, fill.quantity, fill.fee, fill.fee_asset,
        )
        for fill in model.fills.values()
    }  # fmt: skip
    trades = {
        trade.trade_id: (trade.state, trade.residual_base, trade.realised_profit, trade.reason)
        for trade in Trade.objects.all()
    }
    assert trades == {
        trade.trade_id: (str(trade.state), trade.residual_base, stored(trade.realised_profit), trade.reason[:500])
        for trade in model.trades.values()
    }
    assert read(open_trades(owner_id=rows.owner)) == read(model.unfinished())
    for client_id in model.intents:
        assert read([trade_of(owner_id=rows.owner, client_order_id=client_id)]) == read([model.trade_with(client_id)])


def stored(amount: Decimal | None) -> Decimal | None:
    """Return an amount with the digits the database keeps."""
    return None if amount is None else money(amount)


def read(trades: Any) -> Any:
    """Return what an engine that takes over reads: each trade with its orders, their states and their fills."""
    return {
        trade.trade_id: sorted(
            (
                intent.client_order_id, intent.side, intent.price, intent.quantity, str(state),
                tuple(sorted({fill.exchange_trade_id for event in events for fill in event.fills})),
            )
            for intent, state, events in orders
        )
        for trade, orders in trades
    }  # fmt: skip
