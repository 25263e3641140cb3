"""The engine's store on the database: what is awaited is durable, what is queued arrives in order and once."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from unittest import mock

import pytest
from django.db import InternalError, OperationalError
from msgspec import structs

from bots.engine_host import store as store_module
from bots.models import (
    Balance,
    Decision,
    DecisionCount,
    Fill,
    JournaledIntent,
    LegSlippage,
    Order,
    OrderEvent,
    Position,
    Ticket,
    Trade,
)
from bots.selectors.dashboard import request_progress
from bots.services import decision_counts, trades
from bots.services.leases import lease_release
from tests.bots.test_slippage import leg as slippage_of
from tests.bots.test_ticket_rows import Place as TicketPlace
from tests.bots.world import START_NS, D
from tests.host.conftest import until
from trading.messages import AccountBalance, AccountPosition, AccountPositions, OrderState, TradeState
from trading.ports import LeaseLost, StoreUnavailable
from trading.tickets import TicketStanding, TicketStep

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Given:
    """A bot with a leased owner, a trade with two intents, and what the store is told of them."""

    def __init__(self, world) -> None:
        self.world = world
        self.bot = world.bot(world.anna)
        self.owner = world.anna.pk
        self.token = world.lease(world.anna)
        self.trade = world.trade(self.bot, self.token)
        self.intents = world.intents(self.bot, self.trade)
        self.decision = world.decision(self.bot, trade_id=self.trade.trade_id)

    def filled(self, leg: int):
        intent = self.intents[leg]
        return self.world.event(intent, OrderState.FILLED, self.world.fill(intent))


@pytest.fixture
def given(world) -> Given:
    return Given(world)


@pytest.fixture
def ticket(db) -> TicketPlace:
    return TicketPlace()


def held_back(store) -> asyncio.Event:
    """Let a store unfold nothing before what is returned is set."""
    go, unfold = asyncio.Event(), store._unfold_one

    async def later(key: str) -> None:
        await go.wait()
        await unfold(key)

    store._unfold_one = later
    return go


async def test_a_committed_trade_is_in_the_journal_when_commit_returns_and_unfolded_behind_it(
    given, make_store, threads
) -> None:
    store = make_store(given.owner, given.token)
    go = held_back(store)
    await store.commit_trade(given.trade, given.intents, given.decision)
    journaled = await threads.run(lambda: list(JournaledIntent.objects.values_list("trade_id", "token")))
    assert journaled == [(given.trade.trade_id, given.token)]
    assert await threads.run(Order.objects.count) == 0
    assert store.waiting == 1
    go.set()
    await store.flush()
    assert await threads.run(JournaledIntent.objects.count) == 0
    states = await threads.run(lambda: list(Order.objects.values_list("state", flat=True)))
    assert states == ["SENDING", "SENDING"]


async def test_events_and_results_are_written_and_flush_waits_for_them(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    for leg in (0, 1):
        store.record_event(given.filled(leg), OrderState.FILLED)
    store.record_trade(
        given.world.trade(given.bot, trade_id=given.trade.trade_id, state=TradeState.CLOSED, closed_ns=START_NS)
    )
    store.record_balance(
        AccountBalance(account_id=given.intents[0].account_id, asset="USDT", free=D(5), used=D(0), received_ns=START_NS)
    )
    store.record_decision(given.world.decision(given.bot, check="size", at_ns=time.time_ns()))
    for filled in ("100.4", "100.5"):
        store.record_slippage(slippage_of(given.intents[0], filled=filled))
    await store.flush()

    def read():
        return (
            set(Order.objects.values_list("state", flat=True)), Fill.objects.count(), Trade.objects.get().state,
            Balance.objects.get().free, Decision.objects.filter(taken=False).count(),
            LegSlippage.objects.get().total_bps, store.waiting,
        )  # fmt: skip

    assert await threads.run(read) == ({"FILLED"}, 2, "CLOSED", D(5), 1, D("52.5"), 0)


async def test_a_queued_event_reported_twice_is_booked_once(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    for _ in range(3):
        store.record_event(given.filled(0), OrderState.FILLED)
    await store.flush()
    assert await threads.run(Fill.objects.count) == 1


async def test_of_a_trade_only_the_newest_record_is_written(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    with mock.patch.object(store_module.trades, "trades_apply", wraps=trades.trades_apply) as apply:
        for state in (TradeState.OPEN, TradeState.REPAIRING, TradeState.CLOSED):
            store.record_trade(given.world.trade(given.bot, trade_id=given.trade.trade_id, state=state))
        await store.flush()
    written = [record.state for call in apply.call_args_list for record in call.kwargs["trades"]]
    assert written == [TradeState.CLOSED]


async def test_a_stale_token_is_refused_and_nothing_is_written(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token - 1)
    with pytest.raises(LeaseLost):
        await store.commit_trade(given.trade, given.intents, given.decision)
    assert await threads.run(Order.objects.count) == 0


async def test_past_the_fence_nothing_is_committed_though_the_database_would(
    given, make_store, threads, hand_clock
) -> None:
    store = make_store(given.owner, given.token, hand_clock, fenced_in=8.0)
    hand_clock.advance(8.0)
    with pytest.raises(LeaseLost):
        await store.commit_trade(given.trade, given.intents, given.decision)
    assert await threads.run(Order.objects.count) == 0


async def test_a_lease_that_runs_out_during_the_commit_sends_nothing_and_books_that(
    given, make_store, threads, hand_clock
) -> None:
    store = make_store(given.owner, given.token, hand_clock, fenced_in=8.0)

    def slow_commit(**values) -> None:
        trades.trade_commit(**values)
        hand_clock.advance(9.0)

    with mock.patch.object(store_module, "trades", mock.Mock(wraps=trades, trade_commit=slow_commit)):
        with pytest.raises(LeaseLost):
            await store.commit_trade(given.trade, given.intents, given.decision)
        await store.flush()
    assert await threads.run(lambda: set(Order.objects.values_list("state", flat=True))) == {"FAILED"}
    assert await threads.run(lambda: Trade.objects.get().state) == "FAILED"


async def test_a_commit_that_comes_too_late_is_void(given, make_store, threads, monkeypatch) -> None:
    store = make_store(given.owner, given.token)
    monkeypatch.setattr(store_module, "COMMIT_SECONDS", 0.05)
    go = threading.Event()

    def slow_commit(**values) -> None:
        go.wait(10)
        trades.trade_commit(**values)

    with mock.patch.object(store_module, "trades", mock.Mock(wraps=trades, trade_commit=slow_commit)):
        with pytest.raises(StoreUnavailable, match="did not commit within"):
            await store.commit_trade(given.trade, given.intents, given.decision)
        go.set()
        voided = len(given.intents) + 2  # with the trade, and what there may be to unfold
        await until(lambda: store._recorded == 2 * voided)  # when it was given up, and when it came
        await store.flush()
    causes = await threads.run(
        lambda: set(OrderEvent.objects.filter(to_state="FAILED").values_list("cause", flat=True))
    )
    assert causes == {"never sent: the commit came too late"}


async def test_a_ticket_whose_commit_comes_too_late_shows_that_it_failed(
    ticket: TicketPlace, make_store, threads, monkeypatch
) -> None:
    at = ticket.record.opened_ns / 1e9
    standing = TicketStanding(
        progress=(
            TicketStep(step="connecting", state="done", at=at, ms=2.0),
            TicketStep(step="placing order", state="now", at=at),
        )
    )
    record = structs.replace(ticket.record, standing=standing)
    store = make_store(ticket.owner.pk, ticket.token)
    monkeypatch.setattr(store_module, "COMMIT_SECONDS", 0.05)
    go = threading.Event()

    def slow_commit(**values) -> None:
        go.wait(10)
        trades.trade_commit(**values)

    with mock.patch.object(store_module, "trades", mock.Mock(wraps=trades, trade_commit=slow_commit)):
        with pytest.raises(StoreUnavailable):
            await store.commit_trade(record, [ticket.entry], None)
        go.set()
        await until(lambda: store._recorded == 6)  # journal, order and trade, when it was given up, and when it came
        await store.flush()
    row = await threads.run(lambda: Ticket.objects.select_related("trade", "command").get())
    shown = request_progress(row.command, row)
    assert (shown["step"], shown["message"]) == ("failed", "never sent: the commit came too late")
    assert [(step["step"], step["state"]) for step in shown["steps"]] == [
        ("connecting", "done"), ("placing order", "failed"), ("failed", "failed"),
    ]  # fmt: skip
    assert shown["steps"][1]["ms"] > 0


async def test_after_an_outage_everything_that_waited_is_written(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    with mock.patch.object(store_module.events, "events_apply", side_effect=OperationalError("gone")):
        store.record_event(given.filled(0), OrderState.FILLED)
        await until(lambda: bool(store.failing))
        with pytest.raises(StoreUnavailable, match="records wait"):
            await store.commit_trade(given.trade, given.intents, given.decision)
        with pytest.raises(StoreUnavailable, match="1 records are not written yet"):
            await store.flush(0.05)
    await store.flush()
    assert await threads.run(Fill.objects.count) == 1
    assert store.failing == ""


async def test_one_record_that_is_refused_does_not_hold_up_the_others(given, make_store, threads, caplog) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    real = store_module.events.events_apply

    def refuse_first_leg(*, batch, **named):
        if any(event.client_order_id == given.intents[0].client_order_id for event, _ in batch):
            raise ValueError("cannot be stored")
        return real(batch=batch, **named)

    with mock.patch.object(store_module.events, "events_apply", side_effect=refuse_first_leg):
        store.record_event(given.filled(0), OrderState.FILLED)
        store.record_event(given.filled(1), OrderState.FILLED)
        await store.flush()
    assert await threads.run(Fill.objects.count) == 1
    assert store.refused == 1
    assert "cannot be stored" in caplog.text


async def test_too_many_waiting_events_mean_no_new_trades(given, make_store, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "MAX_WAITING_EVENTS", 3)
    store = make_store(given.owner, given.token)
    for _ in range(4):
        store.record_event(given.filled(0), OrderState.FILLED)
    with pytest.raises(StoreUnavailable, match="the limit is 3"):
        await store.commit_trade(given.trade, given.intents, given.decision)


async def test_too_many_waiting_intents_mean_no_new_trades(given, make_store, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "MAX_WAITING_INTENTS", 0)
    store = make_store(given.owner, given.token)
    go = held_back(store)
    await store.commit_trade(given.trade, given.intents, given.decision)
    with pytest.raises(StoreUnavailable, match="1 journaled intents wait to be written; the limit is 0"):
        await store.commit_trade(given.trade, given.intents, given.decision)
    go.set()


async def test_what_is_told_is_written_though_trades_keep_coming(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    await store.flush()
    unfold = store._unfold_one

    async def and_there_is_another(key: str) -> None:
        await unfold(key)
        store._journal(given.intents)

    store._unfold_one = and_there_is_another
    store._journal(given.intents)
    store.record_event(given.filled(0), OrderState.FILLED)
    await until(lambda: not store._events)
    store._unfold_one = unfold
    await store.flush()
    assert await threads.run(Fill.objects.count) == 1


async def test_open_trades_come_back_with_their_orders_and_fills(given, make_store) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    store.record_event(given.filled(0), OrderState.FILLED)
    await store.flush()
    ((trade, orders),) = await store.open_trades()
    assert trade.trade_id == given.trade.trade_id
    assert [(intent.client_order_id, state) for intent, state, _ in orders] == [
        (given.intents[0].client_order_id, "FILLED"),
        (given.intents[1].client_order_id, "SENDING"),
    ]


async def test_the_loop_goes_on_while_the_database_is_slow(given, make_store) -> None:
    store = make_store(given.owner, given.token)
    entered, go = threading.Event(), threading.Event()

    def slow(**values) -> None:
        entered.set()
        go.wait(10)

    with mock.patch.object(store_module, "trades", mock.Mock(wraps=trades, trade_commit=slow)):
        commit = asyncio.create_task(store.commit_trade(given.trade, given.intents, given.decision))
        await until(entered.is_set)  # this very waiting needs the loop
        assert not commit.done()
        go.set()
        await commit


class SlowLine:
    """A line whose statement takes until ``go`` is set, and is then left to a thread."""

    is_free = True

    def __init__(self) -> None:
        self.entered, self.go = asyncio.Event(), asyncio.Event()

    async def insert(self, *_: object) -> bool:
        self.entered.set()
        await self.go.wait()
        return False


def balance_of(given: Given) -> AccountBalance:
    account = given.intents[0].account_id
    return AccountBalance(account_id=account, asset="USDT", free=D(5), used=D(0), received_ns=START_NS)


async def test_what_is_queued_is_written_behind_a_commit_that_orders_wait_for(
    given, make_store, threads, monkeypatch
) -> None:
    monkeypatch.setattr(store_module, "COMMITS_FIRST_SECONDS", 60.0)
    store = make_store(given.owner, given.token, line=(line := SlowLine()))
    waits, wait = asyncio.Event(), store._no_commit.wait

    async def waiting() -> bool:
        waits.set()
        return await wait()

    store._no_commit.wait = waiting
    commit = asyncio.create_task(store.commit_trade(given.trade, given.intents, given.decision))
    await line.entered.wait()
    store.record_balance(balance_of(given))
    async with asyncio.timeout(60):
        await waits.wait()
    assert not await threads.run(Balance.objects.exists)
    line.go.set()
    await commit
    await store.flush()
    assert await threads.run(Balance.objects.exists)


async def test_a_commit_that_takes_long_holds_up_no_fill(given, make_store, threads, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "COMMITS_FIRST_SECONDS", 0.01)
    store = make_store(given.owner, given.token, line=(line := SlowLine()))
    commit = asyncio.create_task(store.commit_trade(given.trade, given.intents, given.decision))
    await line.entered.wait()
    store.record_balance(balance_of(given))
    await store.flush()
    assert not commit.done()
    assert await threads.run(Balance.objects.exists)
    line.go.set()
    await commit


async def test_a_commit_whose_answer_is_lost_is_void(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)

    def cut_at_commit(**values) -> None:
        trades.trade_commit(**values)
        raise OperationalError("server closed the connection unexpectedly")

    with mock.patch.object(store_module, "trades", mock.Mock(wraps=trades, trade_commit=cut_at_commit)):
        with pytest.raises(StoreUnavailable):
            await store.commit_trade(given.trade, given.intents, given.decision)
        await store.flush()
    assert await threads.run(lambda: set(Order.objects.values_list("state", flat=True))) == {"FAILED"}
    assert await threads.run(lambda: Trade.objects.get().state) == "FAILED"


async def test_a_commit_that_failed_leaves_nothing_to_write(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    failing = mock.Mock(side_effect=OperationalError("gone"))
    with mock.patch.object(store_module, "trades", mock.Mock(wraps=trades, trade_commit=failing)):
        with pytest.raises(StoreUnavailable):
            await store.commit_trade(given.trade, given.intents, given.decision)
        await store.flush()
    assert await threads.run(lambda: (Order.objects.count(), Trade.objects.count(), store.refused)) == (0, 0, 0)


async def test_a_database_that_only_reads_keeps_records_waiting(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    # What psycopg says of a server that has become a standby.
    problem = InternalError("cannot execute INSERT in a read-only transaction")
    with mock.patch.object(store_module.events, "events_apply", side_effect=problem):
        store.record_event(given.filled(0), OrderState.FILLED)
        await until(lambda: bool(store.failing or store.refused))
    await store.flush()
    assert store.refused == 0
    assert await threads.run(Fill.objects.count) == 1


async def test_a_former_holders_word_on_a_trade_comes_too_late(given, make_store, threads) -> None:
    former = make_store(given.owner, given.token)
    await former.commit_trade(given.trade, given.intents, given.decision)

    def take_over() -> int:
        lease_release(owner_id=given.owner, holder="host-1", token=given.token)
        return given.world.lease(given.world.anna, "host-2")

    present = make_store(given.owner, await threads.run(take_over))
    assert len(await present.open_trades()) == 1
    closed = given.world.trade(given.bot, trade_id=given.trade.trade_id, state=TradeState.CLOSED, closed_ns=START_NS)
    present.record_trade(closed)
    await present.flush()
    former.record_trade(given.world.trade(given.bot, trade_id=given.trade.trade_id, state=TradeState.REPAIRING))
    former.record_event(given.filled(0), OrderState.FILLED)
    await former.flush()
    assert await threads.run(lambda: Trade.objects.get().state) == "CLOSED"
    assert await threads.run(Fill.objects.count) == 1  # a fill is a fact, whoever tells it


def counted() -> dict[str, int]:
    return dict(DecisionCount.objects.values_list("check_name", "count"))


async def test_counts_are_exact_whatever_fails_on_the_way(given, make_store, threads) -> None:
    """A batch that fails once, one that was committed though its answer was lost, and what came meanwhile."""
    store = make_store(given.owner, given.token)
    add, calls = decision_counts.counts_add, []

    def faulty(**values) -> int:
        calls.append(values["batch"].number)
        if len(calls) == 1:
            raise StoreUnavailable("gone")
        added = add(**values)
        if len(calls) == 3:
            raise StoreUnavailable("the answer to COMMIT was lost")
        return added

    with mock.patch.object(store_module.decision_counts, "counts_add", side_effect=faulty):
        store.record_counts(given.world.counts(given.bot, "size", 3))
        await until(lambda: len(calls) == 2)
        store.record_counts(given.world.counts(given.bot, "size", 4))
        await until(lambda: len(calls) == 3)
        store.record_counts(given.world.counts(given.bot, "size", 5) | given.world.counts(given.bot, "", 1))
        await store.flush(30)
    assert await threads.run(counted) == {"": 1, "size": 12}
    assert store.waiting == 0
    assert calls[:4] == [1, 1, 2, 2]


async def test_counts_that_the_database_refuses_do_not_hold_up_the_next(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    with mock.patch.object(store_module.decision_counts, "counts_add", side_effect=ValueError("odd")):
        store.record_counts(given.world.counts(given.bot, "size", 3))
        await store.flush()
    store.record_counts(given.world.counts(given.bot, "size", 4))
    await store.flush()
    assert await threads.run(counted) == {"size": 4}
    assert store.refused == 1


async def test_counts_of_a_former_holder_still_count(given, make_store, threads) -> None:
    former = make_store(given.owner, given.token)
    former.record_counts(given.world.counts(given.bot, "size", 3))
    await former.flush()
    await threads.run(lambda: lease_release(owner_id=given.owner, holder="host-1", token=given.token))
    present = make_store(given.owner, await threads.run(lambda: given.world.lease(given.world.anna, "host-2")))
    present.record_counts(given.world.counts(given.bot, "size", 10))
    await present.flush()
    former.record_counts(given.world.counts(given.bot, "size", 4))
    await former.flush()
    assert await threads.run(counted) == {"size": 17}


async def test_what_a_trade_would_have_earned_later_is_added_to_its_decision(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    store.record_later_profit(given.trade.trade_id, -1.25)
    store.record_later_profit("no-trade", 1.0)
    await store.flush()
    assert await threads.run(lambda: Decision.objects.get().later_profit) == -1.25


async def test_of_an_accounts_readings_of_positions_the_newest_is_written_once(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    intent = given.intents[0]
    with mock.patch.object(
        store_module.positions, "positions_apply", wraps=store_module.positions.positions_apply
    ) as apply:
        for seconds, quantity in enumerate(("1", "2", "3")):
            held = AccountPosition(market=intent.market, side="both", quantity=D(quantity))
            at_ns = START_NS + seconds * 10**9
            store.record_positions(AccountPositions(account_id=intent.account_id, positions=(held,), received_ns=at_ns))
        await store.flush()
    assert apply.call_count == 1
    assert await threads.run(lambda: [row.quantity for row in Position.objects.all()]) == [D(3)]


# -- the journal ----------------------------------------------------------------------------------------------------


async def stopped(store, make_store) -> None:
    """Let a store's process be gone: nothing of it is written any more."""
    make_store.writers[store].cancel()
    with suppress(asyncio.CancelledError):
        await make_store.writers[store]


def passed_on(given) -> int:
    """Let another host take the owner's lease; returns the new token."""
    lease_release(owner_id=given.owner, holder="host-1", token=given.token)
    return given.world.lease(given.world.anna, "host-2")


async def test_what_a_process_left_in_the_journal_is_taken_up_as_sent_perhaps(given, make_store, threads) -> None:
    former = make_store(given.owner, given.token)
    await former.commit_trade(given.trade, given.intents, given.decision)
    await stopped(former, make_store)
    assert await threads.run(lambda: (JournaledIntent.objects.count(), Order.objects.count())) == (1, 0)
    present = make_store(given.owner, await threads.run(lambda: passed_on(given)))
    ((trade, orders),) = await present.open_trades()
    assert trade.trade_id == given.trade.trade_id
    assert [state for _, state, _ in orders] == ["SENDING", "SENDING"]
    known = await present.known_orders()
    assert {order.client_order_id for order in known} == {intent.client_order_id for intent in given.intents}
    assert await threads.run(lambda: set(Order.objects.values_list("lease_token", flat=True))) == {given.token}


async def test_a_former_holder_that_unfolds_late_finds_it_done(given, make_store, threads) -> None:
    former = make_store(given.owner, given.token)
    go = held_back(former)
    await former.commit_trade(given.trade, given.intents, given.decision)
    former.record_event(given.filled(0), OrderState.FILLED)
    present = make_store(given.owner, await threads.run(lambda: passed_on(given)))
    assert len(await present.open_trades()) == 1
    go.set()
    await former.flush()
    assert await threads.run(lambda: (Trade.objects.count(), Order.objects.count())) == (1, 2)
    assert await threads.run(Fill.objects.count) == 1  # a fact, whoever tells it
    assert former.refused == 0


async def test_what_is_told_of_an_order_waits_until_it_is_unfolded(given, make_store, threads) -> None:
    store = make_store(given.owner, given.token)
    away = mock.Mock(side_effect=StoreUnavailable("gone"))
    with mock.patch.object(store_module, "trades", mock.Mock(wraps=trades, intent_unfold=away)):
        await store.commit_trade(given.trade, given.intents, given.decision)
        store.record_event(given.filled(0), OrderState.FILLED)
        store.record_trade(structs.replace(given.trade, state=TradeState.REPAIRING))
        await until(lambda: bool(store.failing))
        assert store.waiting == 3
        with pytest.raises(StoreUnavailable, match="records wait"):
            await store.commit_trade(given.trade, given.intents, given.decision)
    await store.flush(60)
    assert await threads.run(Fill.objects.count) == 1
    assert await threads.run(lambda: Trade.objects.get().state) == "REPAIRING"
    assert store.refused == 0


async def test_what_is_told_of_a_trade_during_its_commit_is_not_undone_by_unfolding_that(
    given, make_store, threads
) -> None:
    store = make_store(given.owner, given.token)
    await store.commit_trade(given.trade, given.intents, given.decision)
    await store.flush()
    first = given.intents[0]
    repair = structs.replace(first, attempt=1, client_order_id=f"{first.client_order_id}r")
    repairing = structs.replace(given.trade, state=TradeState.REPAIRING, reason="one leg is missing")
    go, run = asyncio.Event(), store._commits.run

    async def answer_late(work) -> object:
        done = await run(work)
        await go.wait()
        return done

    with mock.patch.object(store, "_commits", mock.Mock(run=answer_late)):
        committing = asyncio.create_task(store.commit_repair(repairing, repair))
        async with asyncio.timeout(60):
            while not await threads.run(JournaledIntent.objects.count):  # noqa: ASYNC110 (it waits for a database)
                await asyncio.sleep(0.01)
        store.record_trade(structs.replace(repairing, reason="another one is missing"))
        await store.flush(60)  # written before the commit is over
        assert await threads.run(lambda: Trade.objects.get().reason) == "another one is missing"
        go.set()
        await committing
    await store.flush(60)
    assert await threads.run(lambda: Trade.objects.get().reason) == "another one is missing"
    assert await threads.run(Order.objects.count) == 3


async def test_an_intent_that_can_t_be_unfolded_stays_and_holds_up_nobody(given, make_store, threads, caplog) -> None:
    store = make_store(given.owner, given.token)
    broken = mock.Mock(side_effect=ValueError("a bug"))
    with mock.patch.object(store_module, "trades", mock.Mock(wraps=trades, intent_unfold=broken)):
        await store.commit_trade(given.trade, given.intents, given.decision)
        await store.flush()
    assert store.refused == 1
    assert "stays in the journal: a bug" in caplog.text
    other = given.world.trade(given.bot, given.token)
    await store.commit_trade(other, await threads.run(lambda: given.world.intents(given.bot, other)), None)
    await store.flush()
    assert await threads.run(lambda: list(Trade.objects.values_list("trade_id", flat=True))) == [other.trade_id]
    assert await threads.run(JournaledIntent.objects.count) == 1
