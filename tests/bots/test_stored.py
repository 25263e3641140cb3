"""What a new process reads of trades that are over, and of what its accounts traded before."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone

from bots.models import ExchangeAccount, Order
from bots.services.events import events_apply
from bots.services.stored import known_orders, trade_of
from bots.services.trades import trades_apply
from bots.times import to_ns
from tests.bots.test_trade_commit import committed
from tests.bots.world import D
from trading.messages import OrderState, TradeState

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
