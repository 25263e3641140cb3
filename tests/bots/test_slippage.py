"""Legs' slippage in the database: one row an order, and every leg in the sums of its hour exactly once."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest import mock

import msgspec
import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from bots.models import LegSlippage, Order
from bots.services import slippage as service
from bots.services.risk_picture import risk_picture
from bots.services.slippage import SETTLE, legs_store, slippage_prune, slippage_roll_up
from bots.times import from_ns, to_ns
from risk.models import SlippageSettings, SlippageStat
from risk.models.slippage_stat import bps, rollup_of
from risk.policy.breakers import BreakerEvent, Scope
from risk.policy.realised import Learned, LegExecution, Rollup, split
from risk.selectors import lessons, market_lessons
from risk.services.breakers import breaker_event
from risk.services.rating_settings import sizing_update, slippage_update
from risk.services.slippage_stats import KEEP_FOR, stats_prune
from tests.bots.durable import trade_commit
from tests.bots.test_trade_commit import committed
from trading.messages import LegSlippageRecord, OrderIntent

pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal
HOUR_NS = 3_600_000_000_000


def leg(intent: OrderIntent, *, filled: str = "100.5", charged: str = "12.5", **changes: Any) -> LegSlippageRecord:
    """The policy's worked leg: 10 bps before sending, 20 in flight, 20 by depth, 2.5 by the fee."""
    execution = LegExecution(
        side="buy",
        quantity=D(2),
        decided_price=D(100),
        sent_price=D("100.1"),
        sent_best=D(100),
        arrival_best=D("100.2"),
        filled_price=D(filled),
        expected_fee=D("0.2"),
        paid_fee=D("0.25"),
        charged_bps=D(charged),
    )
    exchange, _, pair = intent.market.partition(":")
    values: dict[str, Any] = {
        "client_order_id": intent.client_order_id,
        "trade_id": intent.trade_id,
        "bot_id": 1,
        "account_id": intent.account_id,
        "market": intent.market,
        "exchange": exchange,
        "pair": pair,
        "attempt": intent.attempt,
        "execution": execution,
        "slippage": split(execution),
        "at_ns": to_ns(timezone.now()) // HOUR_NS * HOUR_NS,
    }
    return LegSlippageRecord(**(values | changes))


def later(seconds: float = 11) -> Any:
    return timezone.now() + timedelta(seconds=seconds)


def stat(exchange: str = "alpha") -> SlippageStat:
    return SlippageStat.objects.get(exchange=exchange)


@pytest.fixture
def traded(world: Any) -> tuple[int, list[OrderIntent]]:
    """An owner and two intents that are durable."""
    _, _, _, intents = committed(world)
    return world.anna.pk, list(intents)


# --- one row an order -------------------------------------------------------------------------------------------------


def test_a_record_is_stored_once_however_often_it_is_told(traded: Any) -> None:
    owner, (buy, _) = traded
    record = leg(buy)
    assert legs_store(owner_id=owner, records=[record, record]) == 1
    assert legs_store(owner_id=owner, records=[record]) == 0
    row = LegSlippage.objects.get()
    assert (row.owner_id, row.order.client_order_id, row.trade.trade_id) == (owner, buy.client_order_id, buy.trade_id)
    assert (row.before_send_bps, row.in_flight_bps, row.depth_bps, row.fee_bps) == (10, 20, 20, D("2.5"))
    assert (row.total_bps, row.charged_bps, row.surprise_bps) == (D("52.5"), D("12.5"), 40)
    assert row.at == from_ns(record.at_ns)


def test_a_late_fill_rewrites_the_row(traded: Any) -> None:
    owner, (buy, _) = traded
    legs_store(owner_id=owner, records=[leg(buy)])
    assert legs_store(owner_id=owner, records=[leg(buy, filled="100.7")]) == 1
    assert LegSlippage.objects.get().depth_bps == 40


def test_anothers_order_or_none_is_left_out_and_the_rest_stored(world: Any, traded: Any) -> None:
    owner, (buy, sell) = traded
    assert legs_store(owner_id=world.ben.pk, records=[leg(buy)]) == 0
    strange = leg(sell, client_order_id="nowhere")
    assert legs_store(owner_id=owner, records=[strange, leg(buy)]) == 1


def test_a_figure_that_cannot_be_is_refused_and_nothing_is_stored(traded: Any) -> None:
    owner, (buy, sell) = traded
    broken = msgspec.structs.replace(leg(sell).slippage, total_bps=D("1e30"))
    with pytest.raises(ValueError, match="total_bps"):
        legs_store(owner_id=owner, records=[leg(buy), leg(sell, slippage=broken)])
    assert not LegSlippage.objects.exists()


# --- rolled up --------------------------------------------------------------------------------------------------------


def test_a_leg_settles_before_it_is_rolled_up_and_is_then_counted_once(traded: Any) -> None:
    owner, (buy, sell) = traded
    legs_store(owner_id=owner, records=[leg(buy), leg(sell, filled="100.3")])
    assert slippage_roll_up() == 0, "its fills may still be coming"
    assert slippage_roll_up(now=later()) == 2
    assert slippage_roll_up(now=later()) == 0
    row = stat()
    assert (row.pair, row.legs, row.hour.minute) == ("BTC/USDT", 1, 0)
    assert [bps(part) for part in (row.before_send, row.in_flight, row.depth, row.fee)] == [10, 20, 20, 2.5]
    assert [bps(part) for part in (row.realised, row.expected, row.surprise)] == [52.5, 12.5, 40]
    assert rollup_of(row.legs, row.surprise, row.squares) == Rollup.of(D(40))
    assert bps(stat("beta").surprise) == 20


def test_a_change_after_it_was_counted_adjusts_by_the_difference(traded: Any) -> None:
    owner, (buy, _) = traded
    legs_store(owner_id=owner, records=[leg(buy)])
    slippage_roll_up(now=later())
    legs_store(owner_id=owner, records=[leg(buy, filled="100.4")])
    assert (bps(stat().surprise), LegSlippage.objects.get().due_at is not None) == (40, True)
    assert slippage_roll_up(now=later()) == 1
    row = stat()
    assert (row.legs, bps(row.surprise), bps(row.depth)) == (1, 30, 10)
    assert rollup_of(row.legs, row.surprise, row.squares) == Rollup.of(D(30))


def test_hours_pairs_and_exchanges_are_apart(world: Any, traded: Any) -> None:
    owner, (buy, sell) = traded
    earlier = leg(buy).at_ns - HOUR_NS
    legs_store(owner_id=owner, records=[leg(buy, at_ns=earlier), leg(sell, exchange="alpha", at_ns=earlier + HOUR_NS)])
    slippage_roll_up(now=later())
    assert list(SlippageStat.objects.order_by("hour").values_list("exchange", "legs")) == [("alpha", 1), ("alpha", 1)]


def test_what_dies_before_its_end_has_counted_nothing(traded: Any) -> None:
    owner, (buy, _) = traded
    legs_store(owner_id=owner, records=[leg(buy)])
    with (
        mock.patch.object(service, "stats_move", side_effect=[KeyboardInterrupt]),
        pytest.raises(KeyboardInterrupt),
    ):
        slippage_roll_up(now=later())
    assert LegSlippage.objects.get().counted is None
    assert slippage_roll_up(now=later()) == 1
    assert stat().legs == 1


def test_more_than_a_batch_is_counted_whole(world: Any, traded: Any) -> None:
    owner, intents = traded
    legs_store(owner_id=owner, records=[leg(intent, exchange="alpha") for intent in intents])
    with mock.patch.object(service, "BATCH", 1):
        assert slippage_roll_up(now=later()) == 2
    assert (stat().legs, bps(stat().surprise)) == (2, 80)


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_count_every_leg_once(world: Any) -> None:
    owner, records = world.anna.pk, []
    bot, token = world.bot(world.anna), world.token(world.anna)
    for _ in range(15):
        trade = world.trade(bot, token)
        intents = world.intents(bot, trade)
        trade_commit(owner_id=owner, token=token, trade=trade, intents=intents)
        records += [leg(intent) for intent in intents]
    legs_store(owner_id=owner, records=records)
    barrier, done = threading.Barrier(3), []

    def work(changing: bool) -> None:
        try:
            barrier.wait(20)
            if changing:  # an engine books late fills meanwhile
                legs_store(owner_id=owner, records=[leg_again(record) for record in records[:10]])
            else:
                with mock.patch.object(service, "BATCH", 4):
                    done.append(slippage_roll_up(now=later()))
        except BaseException as problem:
            done.append(problem)
        finally:
            connection.close()

    def leg_again(record: LegSlippageRecord) -> LegSlippageRecord:
        execution = msgspec.structs.replace(record.execution, filled_price=D("100.6"))
        return msgspec.structs.replace(record, execution=execution, slippage=split(execution))

    threads = [threading.Thread(target=work, args=(changing,)) for changing in (False, False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(isinstance(count, int) for count in done), done
    slippage_roll_up(now=later(60))
    rows = SlippageStat.objects.all()
    assert sum(row.legs for row in rows) == len(records)
    assert sum(row.surprise for row in rows) == sum(
        int(row.surprise_bps * 10**6) for row in LegSlippage.objects.all()
    )  # fmt: skip
    assert LegSlippage.objects.filter(surprise_bps=50).count() == 10
    assert not LegSlippage.objects.exclude(due_at=None).exists()


# --- learned ----------------------------------------------------------------------------------------------------------


def test_what_is_learned_holds_from_the_least_sample_on_and_reaches_the_engine(world: Any, traded: Any) -> None:
    owner, (buy, sell) = traded
    legs_store(owner_id=owner, records=[leg(buy, charged="49.5"), leg(sell, exchange="alpha", charged="49.5")])
    slippage_roll_up(now=later())
    assert lessons() == {"alpha:BTC/USDT": Learned(0.0, 1.0)}
    assert not market_lessons()["alpha:BTC/USDT"].suffices
    slippage_update(actor=world.operator, values={"min_sample": 2}, seen_version=1)
    # Twice a surprise of 3 bps, without any spread, of a cap of 10.
    assert lessons() == {"alpha:BTC/USDT": Learned(3.0, 0.7)}
    assert risk_picture(owner).learned == lessons()
    slippage_update(actor=world.operator, values={"edge_cap_bps": D(2), "threshold_floor": D("0.9")}, seen_version=2)
    assert lessons() == {"alpha:BTC/USDT": Learned(2.0, 0.9)}
    sizing_update(actor=world.operator, values={"enabled": False}, seen_version=1)
    assert risk_picture(owner).learned == {}


def test_only_the_days_looked_back_on_count(world: Any, traded: Any) -> None:
    owner, (buy, sell) = traded
    old = leg(buy).at_ns - 8 * 24 * HOUR_NS
    legs_store(owner_id=owner, records=[leg(buy, at_ns=old), leg(sell)])
    slippage_roll_up(now=later())
    assert set(lessons()) == {"beta:BTC/USDT"}
    SlippageSettings.objects.create(days=9)
    assert set(lessons()) == {"alpha:BTC/USDT", "beta:BTC/USDT"}


def test_an_engine_is_told_of_shared_breakers_and_its_owners_own(world: Any) -> None:
    bot, other = world.bot(world.anna), world.bot(world.ben)
    now = to_ns(timezone.now())
    for scope, key in (
        (Scope.GLOBAL, ""), (Scope.EXCHANGE, "alpha"), (Scope.PAIR, "BTC/USDT"),
        (Scope.PAIR_ON_EXCHANGE, "alpha:BTC/USDT"), (Scope.OWNER, str(world.anna.pk)), (Scope.BOT, str(bot.pk)),
        (Scope.OWNER, str(world.ben.pk)), (Scope.BOT, str(other.pk)),
    ):  # fmt: skip
        breaker_event(scope=scope, key=key, event=BreakerEvent.TRIP, reason="It lost.", trigger="rejects", now_ns=now)
    told = {(breaker.scope, breaker.key) for breaker in risk_picture(world.anna.pk).tripped}
    assert told == {
        (Scope.GLOBAL, ""), (Scope.EXCHANGE, "alpha"), (Scope.PAIR, "BTC/USDT"),
        (Scope.PAIR_ON_EXCHANGE, "alpha:BTC/USDT"), (Scope.OWNER, str(world.anna.pk)), (Scope.BOT, str(bot.pk)),
    }  # fmt: skip


def test_a_picture_costs_few_queries(world: Any, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(8):
        risk_picture(world.anna.pk)


# --- retention --------------------------------------------------------------------------------------------------------


def test_old_legs_go_once_they_stand_in_the_sums_and_old_hours_go(traded: Any) -> None:
    owner, (buy, sell) = traded
    long_ago = leg(buy).at_ns - int((KEEP_FOR + timedelta(days=1)).total_seconds()) * 10**9
    legs_store(owner_id=owner, records=[leg(buy, at_ns=long_ago), leg(sell)])
    assert slippage_prune() == 0
    slippage_roll_up(now=timezone.now() + SETTLE + timedelta(seconds=1))
    assert (slippage_prune(), LegSlippage.objects.count()) == (1, 1)
    assert (stats_prune(), SlippageStat.objects.count()) == (1, 1)
    assert Order.objects.count() == 2


# --- pages ----------------------------------------------------------------------------------------------------------


def text(answer: Any) -> str:
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def test_a_trades_page_shows_what_its_legs_cost_before_and_after(world: Any, traded: Any, anna: Client) -> None:
    owner, (buy, _) = traded
    legs_store(owner_id=owner, records=[leg(buy, fees_unvalued=3)])
    trade = LegSlippage.objects.get().trade
    shown = text(anna.get(reverse("admin:bots_trade_change", args=[trade.pk])))
    assert "Slippage by leg" in shown
    assert re.search(
        r"0 buy, attempt 0 BTC/USDT on Alpha 2 100 → 100\.1 → 100\.5 12\.50 52\.50 10\.00 20\.00 20\.00 2\.50, 3 un",
        shown,
    ), shown[shown.index("Slippage by leg") :][:600]


def test_anothers_trade_and_its_legs_are_not_found(world: Any, traded: Any, ben: Client) -> None:
    owner, (buy, _) = traded
    legs_store(owner_id=owner, records=[leg(buy)])
    row = LegSlippage.objects.get()
    assert ben.get(reverse("admin:bots_trade_change", args=[row.trade_id])).status_code == 404
    assert list(LegSlippage.objects.for_user(world.ben)) == []
    assert list(LegSlippage.objects.for_user(world.anna)) == [row]


def test_the_hours_are_listed_filtered_and_explained_without_their_owners(
    world: Any, traded: Any, operator: Client, anna: Client
) -> None:
    owner, (buy, sell) = traded
    legs_store(owner_id=owner, records=[leg(buy), leg(sell, filled="100.3")])
    slippage_roll_up(now=later())
    listing = reverse("admin:risk_slippagestat_changelist")
    for client in (operator, anna):
        shown = text(client.get(listing))
        assert re.search(r"BTC/USDT alpha 1 12\.50 52\.50 40\.00 10\.00 20\.00 20\.00 2\.50 1 legs: too few", shown)
    assert "anna" not in text(operator.get(listing))
    found = operator.get(listing, {"exchange": "beta"}).context["cl"].queryset
    assert [row.exchange for row in found] == ["beta"]
    hour = stat().hour
    assert operator.get(listing, {"hour__year": hour.year, "hour__month": hour.month}).status_code == 200
    page = text(operator.get(reverse("admin:risk_slippagestat_change", args=[stat().pk])))
    assert "1, too few to learn from" in page
    assert "40.00 bps" in page
    slippage_update(actor=world.operator, values={"min_sample": 1}, seen_version=1)
    assert "1, enough to learn from" in text(operator.get(reverse("admin:risk_slippagestat_change", args=[stat().pk])))


def test_a_list_of_many_hours_takes_as_many_queries(
    world: Any, operator: Client, django_assert_max_num_queries: Any
) -> None:
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    SlippageStat.objects.bulk_create(
        [
            SlippageStat(pair="BTC/USDT", exchange="alpha", hour=now - timedelta(hours=number), legs=number)
            for number in range(40)
        ]
    )
    with django_assert_max_num_queries(20):
        assert operator.get(reverse("admin:risk_slippagestat_changelist")).status_code == 200
