"""Intents are durable before anything is sent, all of them or none, and only under the present token."""

from __future__ import annotations

from unittest import mock

import msgspec
import pytest
from django.db import IntegrityError, OperationalError, transaction

from bots.models import Balance, Decision, JournaledIntent, Order, OrderEvent, Trade
from bots.services import trades
from bots.services.balances import balances_apply
from bots.services.events import events_apply
from bots.services.leases import lease_release, lease_take
from bots.services.trades import open_trades, trades_apply
from bots.services.unfolding import intents_unfold
from risk.services.switch import switch_set
from tests.bots.durable import repair_commit, trade_commit
from tests.bots.world import SECOND, START_NS, D, World
from trading.execution.ids import client_order_id
from trading.messages import AccountBalance, OrderState, TradeState
from trading.ports import LeaseLost, StoreUnavailable, SwitchedOff

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def committed(world: World, **changes):
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token, **changes)
    intents = world.intents(bot, trade)
    trade_commit(
        owner_id=world.anna.pk,
        token=token,
        trade=trade,
        intents=intents,
        decision=world.decision(bot, trade_id=trade.trade_id),
    )
    return bot, token, trade, intents


def test_commit_writes_trade_orders_history_and_decision(world):
    bot, token, trade, intents = committed(world)

    row = Trade.objects.get(trade_id=trade.trade_id)
    assert (row.owner, row.bot, row.state, row.lease_token) == (world.anna, bot, "OPEN", token)
    orders = list(Order.objects.filter(trade=row).order_by("leg"))
    assert [order.client_order_id for order in orders] == [intent.client_order_id for intent in intents]
    assert {order.state for order in orders} == {"SENDING"}
    assert [(order.reserve_asset, order.reserve_amount) for order in orders] == [
        ("USDT", D("30030")),
        ("BTC", D("0.5")),
    ]
    for order in orders:
        steps = OrderEvent.objects.filter(order=order).values_list("from_state", "to_state", "source")
        assert list(steps) == [("", "PENDING", "engine"), ("PENDING", "SENDING", "engine")]
    assert Decision.objects.get().trade_id == trade.trade_id


def test_a_commit_is_one_statement_and_unfolding_a_handful(world, django_assert_max_num_queries):
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token)
    intents = world.intents(bot, trade)
    decision = world.decision(bot, trade_id=trade.trade_id)

    with django_assert_max_num_queries(0):  # the one statement does not pass Django's cursor
        trades.trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=intents, decision=decision)
    assert not Trade.objects.exists()
    with django_assert_max_num_queries(10):  # with the savepoint of the test's own transaction
        assert intents_unfold(owner_id=world.anna.pk) == 1
    assert Order.objects.count() == 2
    assert not JournaledIntent.objects.exists()


@pytest.mark.parametrize("scope", ["global", "owner", "bot"])
@pytest.mark.parametrize("state", ["reduce_only", "kill"])
def test_a_switch_that_the_engine_has_not_heard_of_stops_the_intent(world, scope, state):
    bot, token, trade, intents = committed(world)
    whose = {"owner": {"owner_id": world.anna.pk}, "bot": {"bot_id": bot.pk}}.get(scope, {})
    switch_set(actor=world.operator, scope=scope, state=state, reason="Fire.", seen_version=0, **whose)
    other = world.trade(bot, token)
    with pytest.raises(SwitchedOff, match="Trading is switched to"):
        trade_commit(owner_id=world.anna.pk, token=token, trade=other, intents=world.intents(bot, other))
    assert not Trade.objects.filter(trade_id=other.trade_id).exists()

    repair = msgspec.structs.replace(
        intents[0], attempt=1, client_order_id=client_order_id(trade.trade_id, intents[0].leg, 1)
    )
    if state == "kill":
        with pytest.raises(SwitchedOff, match="killed"):
            repair_commit(owner_id=world.anna.pk, token=token, trade=trade, intent=repair)
    else:
        repair_commit(owner_id=world.anna.pk, token=token, trade=trade, intent=repair)
    assert Order.objects.filter(client_order_id=repair.client_order_id).exists() is (state != "kill")


def test_a_switch_over_others_stops_nothing(world):
    bot, token, *_ = committed(world)
    switch_set(actor=world.operator, scope="owner", owner_id=world.ben.pk, state="kill", reason="His.", seen_version=0)
    other = world.trade(bot, token)
    trade_commit(owner_id=world.anna.pk, token=token, trade=other, intents=world.intents(bot, other))
    assert Trade.objects.filter(trade_id=other.trade_id).exists()


def test_older_token_is_refused_and_nothing_is_written(world):
    bot = world.bot(world.anna)
    old = world.lease(world.anna)
    assert lease_release(owner_id=world.anna.pk, holder="host-1", token=old)
    new = lease_take(owner_id=world.anna.pk, holder="host-2")
    trade = world.trade(bot, old)

    with pytest.raises(LeaseLost, match="taken over"):
        trade_commit(owner_id=world.anna.pk, token=old, trade=trade, intents=world.intents(bot, trade))

    assert new == old + 1
    assert not Trade.objects.exists()
    assert not Order.objects.exists()


def test_expired_lease_is_refused_even_with_the_right_token(world):
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    lease_release(owner_id=world.anna.pk, holder="host-1", token=token)
    trade = world.trade(bot, token)

    with pytest.raises(LeaseLost):
        trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=world.intents(bot, trade))
    assert not Order.objects.exists()


def test_same_commit_again_changes_nothing(world):
    _, token, trade, intents = committed(world)

    trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=intents)

    assert Trade.objects.count() == 1
    assert Order.objects.count() == 2
    assert OrderEvent.objects.count() == 4


@pytest.mark.django_db(transaction=True)
def test_order_id_of_another_trade_writes_nothing(world):
    bot, token, _, intents = committed(world)
    other = world.trade(bot, token)
    repeated = [msgspec.structs.replace(intent, trade_id=other.trade_id) for intent in intents]

    with pytest.raises(IntegrityError):
        trade_commit(
            owner_id=world.anna.pk,
            token=token,
            trade=other,
            intents=repeated,
            decision=world.decision(bot, trade_id=other.trade_id),
        )
    assert not Trade.objects.filter(trade_id=other.trade_id).exists()
    assert (Order.objects.count(), OrderEvent.objects.count(), Decision.objects.count()) == (2, 4, 1)


def test_trade_with_a_result_is_not_committed(world):
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token, state=TradeState.CLOSED, closed_ns=START_NS, realised_profit=D(1))
    with pytest.raises(ValueError, match="has a result before its orders"):
        trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=world.intents(bot, trade))


def test_same_trade_id_with_other_orders_is_an_error(world):
    bot, token, trade, _ = committed(world)
    other = world.trade(bot, token)
    intents = world.intents(bot, other, trade_id=trade.trade_id)

    with pytest.raises(IntegrityError), transaction.atomic():
        trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=intents)
    assert Order.objects.count() == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"market": "alpha:DOGE/USDT"}, "no market 'alpha:DOGE/USDT'"),
        ({"price": D("NaN")}, "price"),
        ({"price": D("0")}, "price"),
        ({"quantity": D("-1")}, "quantity"),
        ({"quantity": D("1e30")}, "quantity"),
        ({"reserve_amount": D("Infinity")}, "reserve_amount"),
    ],
)
def test_bad_intent_is_refused_whole(world, change, message):
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token)

    with pytest.raises(ValueError, match=message):
        trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=world.intents(bot, trade, **change))
    assert not Trade.objects.exists()
    assert not Order.objects.exists()


def test_another_owners_account_or_bot_is_refused(world):
    annas, bens = world.bot(world.anna), world.bot(world.ben)
    token = world.lease(world.anna)
    trade = world.trade(annas, token)
    foreign = bens.accounts.first()

    with pytest.raises(ValueError, match="account_id"):
        trade_commit(
            owner_id=world.anna.pk, token=token, trade=trade, intents=world.intents(annas, trade, account_id=foreign.pk)
        )
    trade = world.trade(bens, token)
    with pytest.raises(ValueError, match="bot_id"):
        trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=world.intents(annas, trade))


def test_database_that_is_away_is_a_value_of_the_port(world):
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token)
    intents = world.intents(bot, trade)
    broken = mock.Mock(side_effect=OperationalError("database is locked"))

    with mock.patch("bots.services.journal._executed", broken), pytest.raises(StoreUnavailable, match="locked"):
        trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=intents)
    assert not JournaledIntent.objects.exists()


def test_repair_adds_an_attempt_and_the_trades_new_state(world):
    bot, token, trade, _ = committed(world)
    repairing = world.trade(bot, token, trade_id=trade.trade_id, state=TradeState.REPAIRING)
    repair = world.intents(bot, trade, attempt=1)[0]
    repair = type(repair)(
        **{field: getattr(repair, field) for field in repair.__struct_fields__}
        | {"client_order_id": client_order_id(trade.trade_id, 0, 1)}
    )

    repair_commit(owner_id=world.anna.pk, token=token, trade=repairing, intent=repair)
    repair_commit(owner_id=world.anna.pk, token=token, trade=repairing, intent=repair)

    assert Trade.objects.get().state == "REPAIRING"
    assert list(Order.objects.filter(leg=0).values_list("attempt", flat=True).order_by("attempt")) == [0, 1]
    with pytest.raises(LeaseLost):
        repair_commit(owner_id=world.anna.pk, token=token + 1, trade=repairing, intent=repair)


def test_trade_results_are_stored_and_never_reopen(world):
    bot, token, trade, _ = committed(world)
    closed = world.trade(
        bot,
        token,
        trade_id=trade.trade_id,
        state=TradeState.CLOSED,
        closed_ns=START_NS + 3 * SECOND,
        realised_profit=D("11.123456789012345678"),
        fees={"USDT": D("1.500"), "BNB": D("0.0001")},
    )

    assert trades_apply(owner_id=world.anna.pk, token=token, trades=[trade, closed]) == 1
    assert trades_apply(owner_id=world.anna.pk, token=token, trades=[trade]) == 0
    assert trades_apply(owner_id=world.ben.pk, token=token, trades=[trade]) == 0

    row = Trade.objects.get()
    assert (row.state, row.realised_profit) == ("CLOSED", D("11.123456789012345678"))
    assert row.fees == {"USDT": "1.500", "BNB": "0.0001"}
    assert row.closed_at.timestamp() == START_NS / SECOND + 3


def test_open_trades_give_back_what_was_committed(world):
    _, _, trade, intents = committed(world)
    fill = world.fill(intents[0], quantity=D("0.2"), fee=None, fee_asset="")
    partial = OrderState.PARTIALLY_FILLED
    events_apply(owner_id=world.anna.pk, batch=[(world.event(intents[0], partial, fill), partial)])

    [(record, orders)] = open_trades(owner_id=world.anna.pk)

    assert record == trade
    assert [intent for intent, _, _ in orders] == intents
    assert [state for _, state, _ in orders] == ["PARTIALLY_FILLED", "SENDING"]
    assert orders[0][2][0].fills == (fill,)
    assert orders[0][2][0].filled == D("0.2")
    assert open_trades(owner_id=world.ben.pk) == []


def test_closed_trade_with_a_live_order_is_still_given_back(world):
    bot, token, trade, intents = committed(world)
    done = world.trade(bot, token, trade_id=trade.trade_id, state=TradeState.FAILED, closed_ns=START_NS)
    trades_apply(owner_id=world.anna.pk, token=token, trades=[done])
    assert len(open_trades(owner_id=world.anna.pk)) == 1

    for intent in intents:
        events_apply(owner_id=world.anna.pk, batch=[(world.event(intent, OrderState.CANCELLED), OrderState.CANCELLED)])
    assert open_trades(owner_id=world.anna.pk) == []


def test_reservations_live_as_long_as_their_orders(world):
    _, _, _, intents = committed(world)
    balances_apply(
        owner_id=world.anna.pk,
        balances=[
            AccountBalance(account_id=intent.account_id, asset=asset, free=D(1), used=D(0), received_ns=START_NS)
            for intent in intents
            for asset in ("BTC", "USDT")
        ],
    )

    def reserved():
        rows = Balance.objects.with_reserved().order_by("account__exchange__code", "asset")
        return [row.reserved for row in rows]

    assert reserved() == [D(0), D("30030"), D("0.5"), D(0)]
    events_apply(owner_id=world.anna.pk, batch=[(world.event(intents[0], OrderState.CANCELLED), OrderState.CANCELLED)])
    assert reserved() == [D(0), D(0), D("0.5"), D(0)]


def test_an_error_while_unfolding_leaves_nothing_but_the_journal(world, caplog):
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token)
    with mock.patch("bots.services.trade_rows.history_add", side_effect=RuntimeError("died here")):
        trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=world.intents(bot, trade))
    assert not Trade.objects.exists()
    assert not Order.objects.exists()
    assert JournaledIntent.objects.get().trade_id == trade.trade_id
    assert "stays in the journal: died here" in caplog.text
    assert intents_unfold(owner_id=world.anna.pk) == 1
    assert Order.objects.count() == 2


def test_commit_in_doubt_is_not_taken_for_that_of_another_order(world):
    bot, token, trade, intents = committed(world)
    repairing = world.trade(bot, token, trade_id=trade.trade_id, state=TradeState.REPAIRING)
    first = msgspec.structs.replace(
        intents[0], client_order_id=client_order_id(trade.trade_id, 0, 1), attempt=1, price=D("60000")
    )
    repair_commit(owner_id=world.anna.pk, token=token, trade=repairing, intent=first)

    other = msgspec.structs.replace(first, price=D("60010"))
    with pytest.raises(IntegrityError), transaction.atomic():
        repair_commit(owner_id=world.anna.pk, token=token, trade=repairing, intent=other)
    events_apply(owner_id=world.anna.pk, batch=[(world.event(first, OrderState.FAILED), OrderState.FAILED)])
    with pytest.raises(IntegrityError), transaction.atomic():
        repair_commit(owner_id=world.anna.pk, token=token, trade=repairing, intent=first)
