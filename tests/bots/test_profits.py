"""Running totals say what a sum over the trades would, however results arrive."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from bots.fields import exact_sum
from bots.models import ALL_TIME, Bot, Order, OrderEvent, ProfitTotal, Trade, span_start
from bots.selectors import profits_ever, profits_since
from bots.services.profits import KEEP_SPANS, profits_prune
from bots.services.trades import trades_apply
from bots.times import to_ns
from tests.bots.durable import repair_commit, trade_commit
from tests.bots.world import SECOND, START_NS, D, World
from trading.execution.ids import client_order_id
from trading.messages import TradeMode, TradeRecord, TradeState

pytestmark = [pytest.mark.django_db, pytest.mark.database]

BEGIN = datetime(2026, 1, 2, 3, 5, tzinfo=UTC)


@pytest.fixture
def bot(world: World) -> Bot:
    return world.bot(world.anna)


@pytest.fixture
def token(world: World) -> int:
    return world.lease(world.anna)


def opened(world: World, bot: Bot, token: int, **changes: object) -> TradeRecord:
    trade = world.trade(bot, token, **changes)
    trade_commit(owner_id=bot.owner_id, token=token, trade=trade, intents=world.intents(bot, trade))
    return trade


def closed(trade: TradeRecord, profit: str | None, at: datetime = BEGIN) -> TradeRecord:
    result = {"realised_profit": None if profit is None else D(profit), "closed_ns": to_ns(at)}
    return structs.replace(trade, state=TradeState.CLOSED, **result)


def rows() -> dict[tuple[str, str, datetime], object]:
    return {(row.mode, row.quote, row.start): row.profit for row in ProfitTotal.objects.all()}


def check_against_the_trades() -> None:
    """Compare every total with the trades it counts."""
    wanted: dict[tuple[int, str, str, datetime], list[object]] = {}
    for trade in Trade.objects.filter(realised_profit__isnull=False):
        for start in (ALL_TIME, span_start(trade.closed_at)):
            wanted.setdefault((trade.bot_id, trade.mode, trade.quote, start), []).append(trade.realised_profit)
    found = {(row.bot_id, row.mode, row.quote, row.start): row.profit for row in ProfitTotal.objects.all()}
    sums = {key: exact_sum(profits) for key, profits in wanted.items()}
    assert {key: total for key, total in found.items() if total or key in sums} == sums


def test_a_result_is_counted_for_all_time_and_for_its_span(world, bot):
    at = BEGIN + timedelta(seconds=299, microseconds=999_999)
    world.closed_trade(bot, profit="1.000000000000000001", closed_at=at)
    world.closed_trade(bot, profit="-3", closed_at=BEGIN)
    assert rows() == {
        ("simulated", "USDT", ALL_TIME): D("-1.999999999999999999"),
        ("simulated", "USDT", BEGIN): D("-1.999999999999999999"),
    }
    assert set(ProfitTotal.objects.values_list("owner", "bot", "last_closed_at")) == {(world.anna.pk, bot.pk, at)}


def test_sums_beyond_the_digits_of_a_float_are_exact(world, bot):
    for profit in ("9999999999999999999.999999999999999999", "-9999999999999999999.999999999999999998", "0"):
        world.closed_trade(bot, profit=profit, closed_at=BEGIN)
    assert set(rows().values()) == {D("1E-18")}


def test_the_same_result_again_counts_once(world, bot):
    done = world.closed_trade(bot, profit="5", closed_at=BEGIN)
    for _ in range(2):
        trades_apply(owner_id=world.anna.pk, token=world.token(world.anna), trades=[done, done])
    assert set(rows().values()) == {D(5)}


def test_a_late_result_replaces_the_one_before_in_its_span(world, bot):
    done = world.closed_trade(bot, profit="5", closed_at=BEGIN)
    later = BEGIN + timedelta(minutes=5)
    trades_apply(owner_id=world.anna.pk, token=world.token(world.anna), trades=[closed(done, "7", later)])
    assert rows() == {
        ("simulated", "USDT", ALL_TIME): D(7),
        ("simulated", "USDT", BEGIN): D(0),
        ("simulated", "USDT", later): D(7),
    }


def test_a_trade_that_is_repaired_again_counts_nothing_until_it_has_a_result(world, bot):
    done = world.closed_trade(bot, profit="-5", closed_at=BEGIN)
    token = Trade.objects.get().lease_token
    repair = world.intents(bot, done)[0]
    repair = structs.replace(repair, attempt=1, client_order_id=client_order_id(done.trade_id, 0, 1))
    repairing = structs.replace(done, state=TradeState.REPAIRING, realised_profit=None, closed_ns=0)
    repair_commit(owner_id=world.anna.pk, token=token, trade=repairing, intent=repair)
    assert set(rows().values()) == {D(0)}
    trades_apply(owner_id=world.anna.pk, token=world.token(world.anna), trades=[closed(done, "-2")])
    assert set(rows().values()) == {D(-2)}


def test_modes_and_quote_assets_are_apart(world, bot):
    for number, mode in enumerate(TradeMode):
        world.closed_trade(bot, profit=str(10**number), closed_at=BEGIN, mode=mode)
    world.closed_trade(bot, profit="-1", closed_at=BEGIN, mode="live", quote="USDC")
    assert profits_ever(bot.profits.all()) == {
        "paper": {"USDT": D(1)},
        "simulated": {"USDT": D(10)},
        "testnet": {"USDT": D(100)},
        "live": {"USDC": D(-1), "USDT": D(1000)},
    }


def test_a_transaction_that_fails_moves_nothing(world, bot, token):
    trade = opened(world, bot, token)
    with (
        mock.patch("bots.services.profits.ProfitTotal.objects.bulk_create", side_effect=RuntimeError("died here")),
        pytest.raises(RuntimeError),
    ):
        trades_apply(owner_id=world.anna.pk, token=world.token(world.anna), trades=[closed(trade, "5")])
    assert not rows()
    assert Trade.objects.get().realised_profit is None
    trades_apply(owner_id=world.anna.pk, token=world.token(world.anna), trades=[closed(trade, "5")])
    assert set(rows().values()) == {D(5)}


def test_pruning_takes_old_spans_and_no_total(world, bot):
    now = timezone.now()
    old = now - KEEP_SPANS - timedelta(minutes=5)
    gone = world.closed_trade(bot, profit="1", closed_at=old)
    world.closed_trade(bot, profit="2", closed_at=now - timedelta(hours=24))
    world.closed_trade(bot, profit="4", closed_at=now)
    assert profits_prune() == 1
    assert profits_ever(bot.profits.all()) == {"simulated": {"USDT": D(7)}}
    assert profits_since(bot.profits.all(), now - timedelta(hours=24)) == {"simulated": {"USDT": D(6)}}
    # A result of a span that is gone may still change.
    trades_apply(owner_id=world.anna.pk, token=world.token(world.anna), trades=[closed(gone, None, old)])
    assert profits_ever(bot.profits.all()) == {"simulated": {"USDT": D(6)}}
    assert profits_since(bot.profits.all(), now - timedelta(hours=24)) == {"simulated": {"USDT": D(6)}}


def test_the_total_stays_when_trades_are_deleted(world, bot):
    world.closed_trade(bot, profit="3", closed_at=BEGIN)
    for model in (OrderEvent, Order, Trade):
        model.objects.all()._raw_delete("default")
    assert profits_ever(bot.profits.all()) == {"simulated": {"USDT": D(3)}}


amounts = st.none() | st.decimals(min_value=-(10**6), max_value=10**6, places=18).map(lambda value: f"{value:f}")
results = st.tuples(st.integers(0, 3), amounts, st.integers(0, 3))


@given(st.lists(st.lists(results, max_size=4), max_size=6))
@settings(max_examples=25, database=None, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_totals_equal_the_sums_of_the_trades_whatever_is_stored(world, bot, token, batches):
    modes = ("paper", "simulated", "simulated", "live")
    trades = [opened(world, bot, token, mode=mode) for mode in modes]
    for batch in batches:
        records = [
            closed(trades[number], profit, BEGIN + timedelta(seconds=100 * place)) for number, profit, place in batch
        ]
        trades_apply(owner_id=world.anna.pk, token=world.token(world.anna), trades=records)
        check_against_the_trades()


@pytest.mark.django_db(transaction=True)
def test_writers_at_once_lose_nothing_and_count_nothing_twice(transactional_db):
    world = World()
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trades = [opened(world, bot, token, opened_ns=START_NS + number * SECOND) for number in range(12)]
    records = [closed(trade, f"0.{number + 1:018}") for number, trade in enumerate(trades)]
    barrier = threading.Barrier(4)
    failures: list[Exception] = []

    def write(mine: list[TradeRecord]) -> None:
        try:
            barrier.wait()
            for record in mine:
                trades_apply(owner_id=world.anna.pk, token=world.token(world.anna), trades=[record])
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    # Each result is written by two threads, in opposite orders.
    orders = [records[::2], records[::2][::-1], records[1::2], records[1::2][::-1]]
    threads = [threading.Thread(target=write, args=(mine,)) for mine in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert set(rows().values()) == {D("78E-18")}
    check_against_the_trades()
