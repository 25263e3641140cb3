"""Order events: applied in any order and any number of times, the rows end the same."""

from __future__ import annotations

import logging
from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bots.models import Fill, LedgerEntry, LedgerLine, Order, OrderEvent, OwnerLease
from bots.selectors import ledger_unbalanced
from bots.services.events import average_price, events_apply
from tests.bots.durable import trade_commit
from tests.bots.test_trade_commit import committed
from tests.bots.world import D
from trading.messages import OrderKind, OrderState

pytestmark = [pytest.mark.django_db, pytest.mark.database]

S = OrderState


@pytest.fixture
def sent(world):
    """A trade of anna's whose two orders were sent."""
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token)
    intents = world.intents(bot, trade)
    trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=intents)
    return world, intents


def apply(world, *batch):
    return events_apply(owner_id=world.anna.pk, batch=[(event, state) for event, state in batch])


def history(order):
    return list(OrderEvent.objects.filter(order=order).values_list("from_state", "to_state"))


def test_placed_then_filled_is_stored_with_fill_history_and_average(sent):
    world, (buy, _) = sent
    first = world.fill(buy, 1, price=D("59999"), quantity=D("0.2"))
    second = world.fill(buy, 2, price=D("60000"), quantity=D("0.3"))

    assert apply(world, (world.event(buy, S.PLACED, source="answer"), S.PLACED)) == 0
    assert apply(world, (world.event(buy, S.FILLED, first, second), S.FILLED)) == 2

    order = Order.objects.get(client_order_id=buy.client_order_id)
    assert (order.state, order.filled, order.average_price) == ("FILLED", D("0.5"), D("59999.6"))
    assert order.exchange_order_id == f"x-{buy.client_order_id}"
    assert history(order)[2:] == [("SENDING", "PLACED"), ("PLACED", "FILLED")]


def test_how_an_order_left_is_kept_also_if_its_answer_came_after_its_end(sent):
    world, (buy, _) = sent
    apply(world, (world.event(buy, S.FILLED, world.fill(buy)), S.FILLED))
    assert Order.objects.get(client_order_id=buy.client_order_id).path == ""
    answer = world.event(buy, S.PLACED, source="answer", path="websocket", cause="by WebSocket")
    apply(world, (answer, S.FILLED))
    order = Order.objects.get(client_order_id=buy.client_order_id)
    assert (order.path, order.state) == ("websocket", "FILLED")
    apply(world, (world.event(buy, S.FILLED, source="query"), S.FILLED))
    order.refresh_from_db()
    assert order.path == "websocket", "others don't tell"


def test_same_batch_again_changes_nothing(sent):
    world, (buy, sell) = sent
    batch = [
        (world.event(buy, S.PARTIALLY_FILLED, world.fill(buy, quantity=D("0.1"))), S.PARTIALLY_FILLED),
        (world.event(sell, S.CANCELLED), S.CANCELLED),
    ]

    def rows():
        return [
            list(model.objects.order_by("pk").values()) for model in (Fill, LedgerEntry, LedgerLine, OrderEvent)
        ] + [list(Order.objects.order_by("pk").values("state", "filled", "average_price"))]

    assert apply(world, *batch) == 1
    once = rows()
    assert apply(world, *batch) == 0
    assert apply(world, *reversed(batch)) == 0
    assert rows() == once


def test_older_state_after_the_final_one_does_not_bring_it_back(sent):
    world, (buy, _) = sent
    apply(world, (world.event(buy, S.FILLED, world.fill(buy)), S.FILLED))
    apply(world, (world.event(buy, S.PLACED, filled=D(0)), S.PLACED))

    order = Order.objects.get(client_order_id=buy.client_order_id)
    assert (order.state, order.filled) == ("FILLED", D("0.5"))
    assert history(order)[-1] == ("FILLED", "FILLED")


def test_late_fill_of_a_cancelled_order_is_booked(sent):
    world, (buy, _) = sent
    apply(world, (world.event(buy, S.CANCELLED), S.CANCELLED))
    late = world.fill(buy, quantity=D("0.5"))
    assert apply(world, (world.event(buy, S.FILLED, late), S.FILLED)) == 1

    order = Order.objects.get(client_order_id=buy.client_order_id)
    assert (order.state, order.filled) == ("FILLED", D("0.5"))
    assert LedgerLine.objects.filter(asset="BTC", book="account").get().amount == D("0.5")


def test_fee_that_comes_later_is_added_and_booked_once(sent):
    world, (buy, _) = sent
    unknown = world.fill(buy, fee=None, fee_asset="")
    known = msgspec.structs.replace(unknown, fee=D("0.0005"), fee_asset="BTC")

    apply(world, (world.event(buy, S.FILLED, unknown), S.FILLED))
    assert Fill.objects.get().fee is None
    for _ in range(2):
        apply(world, (world.event(buy, S.FILLED, known, source="query"), S.FILLED))
    apply(world, (world.event(buy, S.FILLED, unknown), S.FILLED))

    fill = Fill.objects.get()
    assert (fill.fee, fill.fee_asset) == (D("0.0005"), "BTC")
    assert list(LedgerLine.objects.filter(book="fees").values_list("asset", "amount")) == [("BTC", D("0.0005"))]


def test_fills_of_strangers_orders_are_kept_without_an_order(sent):
    world, (buy, _) = sent
    foreign = world.fill(buy, client_order_id="by-hand", exchange_order_id="x-9", exchange_trade_id="t-9")
    event = world.event(buy, S.FILLED, foreign, client_order_id="by-hand", exchange_order_id="x-9")

    assert apply(world, (event, S.FILLED)) == 1
    assert Fill.objects.get().order is None
    assert Order.objects.get(client_order_id=buy.client_order_id).state == "SENDING"


def test_fill_that_names_only_the_exchanges_order_id_finds_its_order(sent):
    world, (buy, _) = sent
    apply(world, (world.event(buy, S.PLACED), S.PLACED))
    fill = world.fill(buy, client_order_id="")
    event = world.event(buy, S.FILLED, fill, client_order_id="")

    apply(world, (event, S.FILLED))

    order = Order.objects.get(client_order_id=buy.client_order_id)
    assert (order.state, Fill.objects.get().order) == ("FILLED", order)


def test_one_bad_fill_is_left_out_and_the_rest_is_kept(sent, caplog):
    world, (buy, sell) = sent
    bad = [
        world.fill(buy, 1, price=D("NaN")),
        world.fill(buy, 2, quantity=D("-1")),
        world.fill(buy, 3, market="alpha:NONE/USDT"),
        world.fill(buy, 4, exchange_trade_id=""),
        world.fill(buy, 5, price=D("1e400")),
    ]
    good = world.fill(sell)
    with caplog.at_level(logging.ERROR, "arb.store"):
        new = apply(
            world,
            (world.event(buy, S.PLACED, *bad, filled=D("NaN")), S.PLACED),
            (world.event(sell, S.FILLED, good), S.FILLED),
        )
    assert new == 1
    assert len(caplog.records) == 6
    assert list(Order.objects.order_by("leg").values_list("state", flat=True)) == ["PLACED", "FILLED"]


def test_events_of_another_owners_order_or_account_touch_nothing(sent):
    world, (buy, _) = sent
    event = world.event(buy, S.FILLED, world.fill(buy))
    assert events_apply(owner_id=world.ben.pk, batch=[(event, "FILLED")]) == 0
    assert not Fill.objects.exists()
    assert Order.objects.get(client_order_id=buy.client_order_id).state == "SENDING"


def test_same_trade_id_on_another_market_is_another_fill(sent):
    world, (buy, sell) = sent
    one = world.fill(buy, exchange_trade_id="77")
    other = world.fill(sell, exchange_trade_id="77")
    apply(world, (world.event(buy, S.FILLED, one), S.FILLED), (world.event(sell, S.FILLED, other), S.FILLED))
    assert Fill.objects.count() == 2


def test_mean_price_of_inverse_contracts_is_harmonic():
    fills = [(D("50000"), D("100")), (D("100000"), D("100"))]
    assert average_price(fills) == D("75000")
    assert round(average_price(fills, inverse=True), 6) == D("66666.666667")


amounts = st.decimals(min_value="0.00000001", max_value="1000000", places=8, allow_nan=False, allow_infinity=False)
fees = st.one_of(st.none(), st.decimals(min_value="-10", max_value="10", places=12))
fill_values = st.tuples(
    st.booleans(), st.integers(1, 6), amounts, amounts, fees, st.sampled_from(["USDT", "BTC", "BNB"])
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(fill_values, min_size=1, max_size=8))
def test_ledger_is_zero_per_asset_and_holds_what_the_fills_say(sent, values):
    """Whatever fills come, twice and in pieces, each entry is balanced and the accounts' lines sum to the fills."""
    world, (buy, sell) = sent
    LedgerLine.objects.all().delete()
    LedgerEntry.objects.all().delete()
    Fill.objects.all().delete()
    for is_buy, number, price, quantity, fee, fee_asset in values:
        intent = buy if is_buy else sell
        fill = world.fill(intent, number, price=price, quantity=quantity, fee=fee, fee_asset=fee_asset)
        event = world.event(intent, S.PARTIALLY_FILLED, fill)
        apply(world, (event, S.PARTIALLY_FILLED))
        apply(world, (event, S.PARTIALLY_FILLED))

    assert ledger_unbalanced() == []
    held: dict[str, D] = {}
    for line in LedgerLine.objects.filter(book="account"):
        held[line.asset] = held.get(line.asset, D(0)) + line.amount
    expected: dict[str, D] = {}
    for fill in Fill.objects.all():
        sign = 1 if fill.side == "buy" else -1
        for asset, change in (
            ("BTC", sign * fill.quantity),
            ("USDT", -sign * fill.price * fill.quantity),
            (fill.fee_asset, -(fill.fee or D(0))),
        ):
            expected[asset] = expected.get(asset, D(0)) + change
    assert {asset: value for asset, value in held.items() if value} == {
        asset: value for asset, value in expected.items() if value
    }


def test_an_overtaken_engine_says_nothing_of_an_order_sent_since(world):
    bot = world.bot(world.anna)
    first = world.lease(world.anna)
    trade = world.trade(bot, first)
    (intent, *_) = world.intents(bot, trade)
    OwnerLease.objects.filter(owner=world.anna).update(expires_at=timezone.now() - timedelta(seconds=1))
    second = world.lease(world.anna, holder="host-2")
    trade_commit(owner_id=world.anna.pk, token=second, trade=trade, intents=[intent])
    void = msgspec.structs.replace(world.event(intent, S.FAILED), source="engine")

    events_apply(owner_id=world.anna.pk, batch=[(void, S.FAILED)], token=first)
    assert Order.objects.get().state == S.SENDING

    events_apply(owner_id=world.anna.pk, batch=[(void, S.FAILED)], token=second)
    assert Order.objects.get().state == S.FAILED


def test_who_was_overtaken_books_fills_and_moves_no_order_on(world):
    _, token, _, (buy, _) = committed(world)
    for state in (OrderState.UNKNOWN, OrderState.DISPUTED):
        told = world.event(buy, state, source="engine")
        events_apply(owner_id=world.anna.pk, batch=[(told, state)], token=token)
    OwnerLease.objects.filter(owner=world.anna).update(token=token + 1)

    late = world.event(buy, OrderState.PLACED, source="stream")
    events_apply(owner_id=world.anna.pk, batch=[(late, OrderState.PLACED)], token=token)
    order = Order.objects.get(client_order_id=buy.client_order_id)
    assert order.state == "DISPUTED"
    assert OrderEvent.objects.filter(order=order, reported_state="PLACED").exists()

    part = world.event(buy, OrderState.PARTIALLY_FILLED, world.fill(buy, quantity=D("0.1")), source="stream")
    assert events_apply(owner_id=world.anna.pk, batch=[(part, OrderState.PARTIALLY_FILLED)], token=token) == 1
    order.refresh_from_db()
    assert (order.state, order.filled) == ("PARTIALLY_FILLED", D("0.1"))

    present = world.event(buy, OrderState.CANCELLED, filled=D("0.1"), source="query")
    events_apply(owner_id=world.anna.pk, batch=[(present, OrderState.CANCELLED)], token=token + 1)
    order.refresh_from_db()
    assert order.state == "CANCELLED"


def test_an_order_that_the_exchange_made_is_a_row_from_its_first_event_on_and_once(sent):
    world, (buy, _) = sent
    made = msgspec.structs.replace(
        buy, client_order_id=f"{buy.client_order_id}x", attempt=9, kind=OrderKind.LIQUIDATION, side="sell",
        reduce_only=True, reserve_asset="", reserve_amount=D(0),
    )  # fmt: skip
    event = world.event(made, S.FILLED, world.fill(made, quantity=made.quantity), made=made)
    assert apply(world, (event, S.FILLED)) == 1
    assert apply(world, (event, S.FILLED)) == 0
    row = Order.objects.get(client_order_id=made.client_order_id)
    assert (row.kind, row.state, row.filled) == ("liquidation", "FILLED", made.quantity)
    assert (row.trade.trade_id, row.reduce_only, row.fills.count()) == (buy.trade_id, True, 1)
    assert history(row) == [("PENDING", "FILLED")]
    # Another process has found the same execution and names the order otherwise.
    other = msgspec.structs.replace(made, client_order_id=f"{made.client_order_id}y", attempt=10)
    again = msgspec.structs.replace(event, client_order_id=other.client_order_id, made=other)
    assert apply(world, (again, S.FILLED)) == 0
    assert not Order.objects.filter(client_order_id=other.client_order_id).exists()
    assert ledger_unbalanced() == []
