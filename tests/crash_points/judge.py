"""What the database holds against what the exchanges did: read from tables alone, by no code that engines use.

:func:`read` brings the tables into the form the simulation's checks judge; :func:`books` judges what only a database
has: the ledger, its sums, the results' totals, the differences that comparisons found.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now

from bots.models import (
    ALL_TIME,
    Difference,
    ExchangeAccount,
    Fill,
    JournaledIntent,
    LedgerEntry,
    LedgerLine,
    Order,
    OrderEvent,
    OwnerLease,
    ProfitTotal,
    Ticket,
    Trade,
)
from bots.services.ticket_rows import terms_of_ticket
from bots.times import to_ns
from tests.simulation.database import Database
from trading import messages
from trading.instruments import Market
from trading.messages import OrderIntent, OrderState, TradeRecord, TradeState

if TYPE_CHECKING:
    from tests.crash_points.world import RealWorld

ZERO = Decimal(0)


def at_send(token: int, intent: OrderIntent) -> Iterator[str]:
    """Yield what is wrong with a placement that leaves now under a lease's token."""
    client_id = intent.client_order_id
    if not OwnerLease.objects.filter(token=token, expires_at__gt=Now()).exists():
        yield f"sent_without_lease: {client_id} under token {token}"
    stored = _stored(client_id) or _journaled(client_id)
    if stored is None:
        yield f"sent_without_intent: {client_id} is not durable"
        return
    (state, under), stored = stored[:2], stored[2:]
    if state != OrderState.SENDING or under != token:
        yield f"sent_unmarked: {client_id} is {state} under token {under}, sent under {token}"
    wanted = (
        intent.trade_id, intent.account_id, intent.market, intent.leg, intent.attempt, intent.side, intent.price,
        intent.quantity,
    )  # fmt: skip
    if stored != wanted:
        yield f"sent_other_than_intended: {client_id} is stored as {stored}, sent as {wanted}"


def _stored(client_id: str) -> tuple[Any, ...] | None:
    """Return an order's state, token and figures, if it has a row."""
    row = Order.objects.filter(client_order_id=client_id).select_related("trade", "market__exchange").first()
    return row and (
        row.state, row.lease_token, row.trade.trade_id, row.account_id,
        f"{row.market.exchange.code}:{row.market.symbol}", row.leg, row.attempt, row.side, row.price, row.quantity,
    )  # fmt: skip


def _journaled(client_id: str) -> tuple[Any, ...] | None:
    """Return the same of an order that is in the journal, where it is what its row will be: SENDING."""
    for row in JournaledIntent.objects.all():
        for order in json.loads(row.body)["orders"]:
            if order["client_order_id"] == client_id:
                return (
                    OrderState.SENDING, row.token, row.trade_id, order["account_id"], order["market"], order["leg"],
                    order["attempt"], order["side"], Decimal(order["price"]), Decimal(order["quantity"]),
                )  # fmt: skip
    return None


def read(database: Database, markets: Mapping[str, Market]) -> Database:
    """Fill a modelled database with what the real one holds."""
    database.markets = {market.key: market for market in markets.values()}
    keys = {row.pk: row for row in Order.objects.select_related("trade", "market__exchange").order_by("pk")}
    tickets = {row.trade_id: row for row in Ticket.objects.select_related("market__exchange")}
    for trade in Trade.objects.order_by("pk"):
        database.trades[trade.trade_id] = _record(trade, tickets.get(trade.pk))
    for row in keys.values():
        database.intents[row.client_order_id] = _intent(row)
        database.states[row.client_order_id] = OrderState(row.state)
        database.history[row.client_order_id] = []
    for event in OrderEvent.objects.order_by("pk"):
        history = database.history[keys[event.order_id].client_order_id]
        if not history or history[-1] != event.to_state:
            history.append(OrderState(event.to_state))
    for fill in Fill.objects.select_related("order", "market__exchange").order_by("pk"):
        market = f"{fill.market.exchange.code}:{fill.market.symbol}"
        database.fills[fill.account_id, market, fill.exchange_trade_id] = messages.Fill(
            account_id=fill.account_id,
            market=market,
            exchange_trade_id=fill.exchange_trade_id,
            exchange_order_id=fill.exchange_order_id,
            client_order_id=fill.order.client_order_id if fill.order else "",
            side=fill.side,
            price=fill.price,
            quantity=fill.quantity,
            fee=fill.fee,
            fee_asset=fill.fee_asset,
            liquidity=fill.liquidity,
            exchange_ns=to_ns(fill.at),
        )
    return database


def _record(row: Trade, ticket: Ticket | None) -> TradeRecord:
    asked = None
    if ticket is not None:
        asked = terms_of_ticket(ticket, f"{ticket.market.exchange.code}:{ticket.market.symbol}")
    return TradeRecord(
        trade_id=row.trade_id,
        bot_id=row.bot_id,
        route=row.route,
        base=row.base,
        quote=row.quote,
        state=TradeState(row.state),
        mode=row.mode,
        quantity=row.quantity,
        expected_net_bps=row.expected_net_bps,
        expected_profit=row.expected_profit,
        opened_ns=to_ns(row.opened_at),
        closed_ns=to_ns(row.closed_at) if row.closed_at else 0,
        residual_base=row.residual_base,
        reason=row.reason,
        ticket=asked,
    )


def _intent(row: Order) -> OrderIntent:
    return OrderIntent(
        client_order_id=row.client_order_id,
        trade_id=row.trade.trade_id,
        account_id=row.account_id,
        market=f"{row.market.exchange.code}:{row.market.symbol}",
        leg=row.leg,
        attempt=row.attempt,
        side=row.side,
        price=row.price,
        quantity=row.quantity,
        deadline_ns=to_ns(row.deadline),
        created_ns=to_ns(row.created_at),
        reserve_asset=row.reserve_asset,
        reserve_amount=row.reserve_amount,
    )


def books(world: RealWorld) -> Iterator[str]:
    """Yield what must not be in the tables once everything is at rest."""
    for left in JournaledIntent.objects.all():
        yield f"journal: {left} is not unfolded"
    yield from _chains()
    yield from _attempts(world)
    yield from _orders_as_executed(world)
    yield from _ledger(world)
    yield from _results()
    yield from _tokens(world)
    yield from _compared()


def _chains() -> Iterator[str]:
    """Each order's history is one chain from its beginning to the state it has."""
    for order in Order.objects.all():
        steps = list(OrderEvent.objects.filter(order=order).order_by("pk").values_list("from_state", "to_state"))
        if steps[:2] != [("", "PENDING"), ("PENDING", "SENDING")]:
            yield f"history: {order.client_order_id} begins with {steps[:2]}"
        elif any(one[1] != other[0] for one, other in pairwise(steps)) or steps[-1][1] != order.state:
            yield f"history: {order.client_order_id} is {order.state} after {steps}"


def _attempts(world: RealWorld) -> Iterator[str]:
    """Each attempt of a leg is at an exchange once at most, whatever id it had there."""
    named = {row.client_order_id: (row.trade_id, row.leg, row.attempt) for row in Order.objects.all()}
    seen = Counter(
        named[order.client_id]
        for exchange in world.exchanges.values()
        for order in exchange.orders
        if order.client_id in named
    )
    for attempt, count in seen.items():
        if count > 1:
            yield f"executed_twice: trade {attempt[0]}, leg {attempt[1]}, attempt {attempt[2]} is there {count} times"


def _orders_as_executed(world: RealWorld) -> Iterator[str]:
    executed: defaultdict[str, Decimal] = defaultdict(Decimal)
    for exchange in world.exchanges.values():
        for fill in exchange.executions:
            executed[fill.client_id] += fill.quantity
        for asset, amount in exchange.used.items():
            if amount:
                yield f"locked: {exchange.code} holds {amount} {asset} for an open order"
    for order in Order.objects.all():
        if order.filled != executed[order.client_order_id]:
            yield f"filled_wrong: {order.client_order_id} has {order.filled}, it is {executed[order.client_order_id]}"
    for fill in Fill.objects.filter(order__isnull=True):
        yield f"fill_unowned: {fill.exchange_trade_id} is booked without its order"


def _ledger(world: RealWorld) -> Iterator[str]:
    """Each fill and its fee are booked by one entry, entries are zero in sum, and the sums are what exchanges hold."""
    entries = Counter(LedgerEntry.objects.filter(fill__isnull=False).values_list("fill", "cause"))
    for fill in Fill.objects.all():
        for cause in (LedgerEntry.Cause.FILL, LedgerEntry.Cause.FEE):
            count = entries[fill.pk, cause.value]
            if count != 1:
                yield f"ledger: fill {fill.exchange_trade_id} has {count} entries of its {cause}"
    sums: defaultdict[tuple[int, str], Decimal] = defaultdict(Decimal)
    held: defaultdict[tuple[int, str], Decimal] = defaultdict(Decimal)
    for line in LedgerLine.objects.select_related("entry"):
        sums[line.entry_id, line.asset] += line.amount
        if line.book == LedgerLine.Book.ACCOUNT:
            held[line.entry.account_id, line.asset] += line.amount
    for (entry, asset), amount in sums.items():
        if amount:
            yield f"ledger: entry {entry} is {amount} {asset} in sum"
    for code, account_id in world.accounts.items():
        exchange = world.exchanges[code]
        for asset in exchange.free:
            there = exchange.free[asset] + exchange.used[asset]
            if held[account_id, asset] != there:
                yield f"ledger: {code} has {held[account_id, asset]} {asset} by the ledger, {there} there"


def _results() -> Iterator[str]:
    """The running total is every trade's result, each once."""
    totals = sum(ProfitTotal.objects.filter(start=ALL_TIME).values_list("profit", flat=True), ZERO)
    results = sum(Trade.objects.filter(realised_profit__isnull=False).values_list("realised_profit", flat=True), ZERO)
    if totals != results:
        yield f"profit: the total is {totals}, the trades' results come to {results}"


def _tokens(world: RealWorld) -> Iterator[str]:
    """Once an order of a later lease has left, none of an earlier one does."""
    tokens = dict(Order.objects.values_list("client_order_id", "lease_token"))
    newest = 0
    for send in world.sends:
        token = tokens.get(send.intent.client_order_id, 0)
        if token < newest:
            yield f"sent_under_old_token: {send.intent.client_order_id} under {token} after {newest} had sent"
        newest = max(newest, token)


def _compared() -> Iterator[str]:
    """The platform's own comparison has taken place, and found nothing."""
    for account in ExchangeAccount.objects.all():
        if account.opened_at is None or account.matched_at != account.reconciled_at:
            yield f"comparison: account {account.pk} matched {account.matched_at}, compared {account.reconciled_at}"
    for found in Difference.objects.all():
        yield f"difference: {found.kind} {found.key} of account {found.account_id} ({found.state})"
