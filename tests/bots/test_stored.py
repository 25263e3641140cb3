"""What a new process reads of trades that are over, and of what its accounts traded before."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone

from bots.models import ExchangeAccount, Order
from bots.services.events import events_apply
from bots.services.stored import known_orders, open_trades, trade_of
from bots.services.trades import trades_apply
from bots.times import to_ns
from tests.bots.durable import trade_commit
from tests.bots.test_trade_commit import committed
from tests.bots.world import D
from trading.messages import Assessment, OrderState, TradeState

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def test_a_finished_trade_is_found_by_any_of_its_orders(world):
    _, token, trade, (buy, sell) = committed(world)
    booked = world.event(buy, OrderState.FILLED, world.fill(buy), filled=buy.quantity)
    events_apply(owner_id=world.anna.pk, batch=[(booked, OrderState.FILLED)])
    ended = msgspec.structs.replace(
        trade, state=TradeState.EXPOSED, exposure=D("12.5"), repair_ms=4_200, residual_base=D("0.5")
    )
    trades_apply(owner_id=world.anna.pk, token=token, trades=[ended])

    for intent in (buy, sell):
        found = trade_of(owner_id=world.anna.pk, client_order_id=intent.client_order_id)
        assert found is not None
        record, rows = found
        assert (record.state, record.exposure, record.repair_ms) == (TradeState.EXPOSED, D("12.5"), 4_200)
        assert [(row.client_order_id, state) for row, state, _ in rows] == [
            (buy.client_order_id, "FILLED"),
            (sell.client_order_id, "SENDING"),
        ]
        assert rows[0][2][0].fills == booked.fills
    assert trade_of(owner_id=world.ben.pk, client_order_id=buy.client_order_id) is None
    assert trade_of(owner_id=world.anna.pk, client_order_id="unknown") is None


def test_a_trade_knows_how_its_opportunity_was_rated(world):
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    rated, plain = world.trade(bot, token), world.trade(bot, token)
    rating = Assessment(notional=500.0, score=0.75, components={"liquidity": 0.5, "profit": 1.0})
    for trade, assessment in ((rated, rating), (plain, None)):
        decision = world.decision(bot, trade_id=trade.trade_id)
        trade_commit(
            owner_id=world.anna.pk,
            token=token,
            trade=trade,
            intents=world.intents(bot, trade),
            decision=msgspec.structs.replace(decision, assessment=assessment),
        )
    read = {record.trade_id: (record.score, record.liquidity) for record, _ in open_trades(owner_id=world.anna.pk)}
    assert read == {rated.trade_id: (0.75, 0.5), plain.trade_id: (None, None)}
    order = Order.objects.filter(trade__trade_id=rated.trade_id).earliest("pk")
    found = trade_of(owner_id=world.anna.pk, client_order_id=order.client_order_id)
    assert found is not None
    assert (found[0].score, found[0].liquidity) == (0.75, 0.5)


def test_what_an_account_traded_is_known_up_to_the_last_match_and_no_further_back_than_a_day(world):
    _, _, _, (buy, sell) = committed(world)
    answer = world.event(buy, OrderState.PLACED, exchange_order_id="x-1")
    events_apply(owner_id=world.anna.pk, batch=[(answer, OrderState.PLACED)])
    now = timezone.now()
    created, matched = now - timedelta(hours=3), now - timedelta(minutes=5)
    Order.objects.update(created_at=created)
    ExchangeAccount.objects.filter(pk=sell.account_id).update(matched_at=matched)

    known = {order.account_id: order for order in known_orders(owner_id=world.anna.pk)}
    assert known.keys() == {buy.account_id, sell.account_id}
    assert (known[buy.account_id].client_order_id, known[buy.account_id].exchange_order_id) == (
        buy.client_order_id,
        "x-1",
    )
    assert known[buy.account_id].market == buy.market
    # Never matched: an event may have been heard of and not written down since the first of them.
    assert known[buy.account_id].since_ns == to_ns(created)
    assert known[sell.account_id].since_ns == to_ns(matched)

    Order.objects.update(created_at=now - timedelta(days=9))
    known = {order.account_id: order for order in known_orders(owner_id=world.anna.pk)}
    assert abs(known[buy.account_id].since_ns - to_ns(now - timedelta(days=1))) < 60 * 10**9
    assert known_orders(owner_id=world.ben.pk) == []
