"""Take up a trade another process left unfinished: its orders as the store knows them, nothing assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trading.config import BotConfig, OwnerConfig
from trading.execution.desk import TradeTerms
from trading.execution.order import Order
from trading.execution.planner import terms_of
from trading.instruments import Market
from trading.messages import OrderEvent, OrderIntent, OrderState, TradeMode, TradeRecord
from trading.portfolio import Purse

StoredOrder = tuple[OrderIntent, str, Sequence[OrderEvent]]


def take_up(
    config: OwnerConfig,
    record: TradeRecord,
    rows: Sequence[StoredOrder],
    markets: Mapping[str, Market],
) -> tuple[TradeTerms, list[Order], list[OrderEvent]] | str:
    """Return the trade's terms, its orders with their fills, and the events that say what the restart means.

    A PENDING order was never sent: it is void. A SENDING one may have been: its outcome is unknown. Returns a
    sentence when the trade refers to a market or account this engine was not given.
    """
    for intent, _, _ in rows:
        if intent.market not in markets:
            return f"trade {record.trade_id} can't be taken up: market {intent.market} is not in the configuration"
    accounts = {account.account_id for account in config.accounts}
    for intent, _, _ in rows:
        if intent.account_id not in accounts:
            return f"trade {record.trade_id} can't be taken up: account {intent.account_id} is not in the configuration"
    paper = record.mode == TradeMode.PAPER
    orders: list[Order] = []
    events: list[OrderEvent] = []
    for intent, stored, past in rows:
        state = OrderState(stored)
        order = Order(intent, state)
        for event in past:
            order.restore(event)
        orders.append(order)
        if state is OrderState.PENDING:
            events.append(_event(intent, OrderState.FAILED, "void: the process ended before it was sent"))
        elif state is OrderState.SENDING:
            events.append(_event(intent, OrderState.UNKNOWN, "the process ended while it was being sent"))
    bot = next((bot for bot in config.bots if bot.bot_id == record.bot_id), None)
    purses = {markets[intent.market].exchange: Purse(intent.account_id, paper) for intent, _, _ in rows}
    if bot is not None:  # its other accounts may hedge the trade
        for exchange, account_id in bot.accounts.items():
            purses.setdefault(exchange, Purse(account_id, paper))
    if bot is None:  # gone since: the defaults settle what it left
        bot = BotConfig(bot_id=record.bot_id, name=f"bot {record.bot_id}", mode="paper", markets=(), accounts={})
    return terms_of(bot, purses, paper=paper), orders, events


def _event(intent: OrderIntent, state: OrderState, cause: str) -> OrderEvent:
    return OrderEvent(
        account_id=intent.account_id,
        market=intent.market,
        client_order_id=intent.client_order_id,
        state=state,
        filled=None,
        source="engine",
        cause=cause,
    )
