"""The funnel's arithmetic, against rows made by hand, and the words of every check."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from msgspec import structs

from bots.decision_words import WORDS, figure_words, words_of
from bots.models import Bot, Decision, DecisionCount
from bots.selectors import period_start, why_report
from bots.selectors.funnel import NO_TRADES, Traded, funnel_of, percent
from bots.services.decisions import DecisionSampler, decisions_store
from bots.times import to_ns
from risk.policy.limits import RULES
from tests.bots.world import SECOND
from trading.arbitrage import depth
from trading.messages import AT_DEPTH, COMPARED, PAID

COUNTS = {
    COMPARED: 10_000,
    PAID: 500,
    f"{AT_DEPTH}no_edge": 90,
    f"{AT_DEPTH}below_lot": 10,
    "book_age": 250,
    "size": 100,
    "cooldown": 30,
    "store": 5,
    "": 15,
}


def test_every_step_is_what_the_one_before_was_less_what_it_lost():
    funnel = funnel_of(COUNTS, Traded(opened=15, profitable=12))
    assert [(stage.name, stage.count, stage.lost) for stage in funnel.stages] == [
        ("compared", 10_000, 0),
        ("paid", 500, 9_500),
        ("found", 400, 100),
        ("judged", 400, 0),
        ("passed", 20, 380),
        ("traded", 15, 5),
        ("profitable", 12, 3),
    ]
    assert [stage.share for stage in funnel.stages] == [None, 0.05, 0.8, 1.0, 0.05, 0.75, 0.8]
    assert [stage.percent for stage in funnel.stages][:2] == ["", "5.0\u00a0%"]


@pytest.mark.django_db
def test_trades_by_hand_are_no_part_of_the_funnel(world):
    bot = world.bot(world.anna)
    now = timezone.now()
    world.closed_trade(bot, profit="3", closed_at=now, opened_ns=to_ns(now))
    Bot.objects.filter(pk=bot.pk).update(strategy=Bot.Strategy.MANUAL)
    assert why_report(owner_id=world.anna.pk, start=period_start("today")).funnel.is_empty
    Bot.objects.filter(pk=bot.pk).update(strategy=Bot.Strategy.CROSS_EXCHANGE)
    funnel = why_report(owner_id=world.anna.pk, start=period_start("today")).funnel
    assert (funnel.count("traded"), funnel.count("profitable")) == (1, 1)


def test_reasons_are_all_that_ended_the_most_frequent_first():
    funnel = funnel_of(COUNTS)
    assert [(reason.check, reason.count) for reason in funnel.reasons] == [
        ("book_age", 250), ("size", 100), ("depth:no_edge", 90), ("cooldown", 30), ("depth:below_lot", 10),
        ("store", 5),
    ]  # fmt: skip
    assert funnel.ended == COUNTS[PAID] - COUNTS[""]
    assert funnel.reasons[0].share == pytest.approx(250 / 485)
    assert [reason.check for reason in funnel.reasons if reason.judged] == ["book_age", "size", "store"]
    assert len(funnel.top) == 3


def test_nothing_counted_is_an_empty_funnel():
    funnel = funnel_of({})
    assert funnel.is_empty
    assert funnel.reasons == ()
    assert {(stage.count, stage.lost, stage.share) for stage in funnel.stages} == {(0, 0, None)}
    assert not funnel_of({COMPARED: 1}).is_empty


def test_what_is_counted_an_hour_late_loses_less_than_nothing_and_never_more_than_all():
    funnel = funnel_of({PAID: 5, "book_age": 6})
    assert (funnel.stages[3].lost, funnel.stages[3].share) == (0, 1.0)


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0.0"), (0.00001, "<0.1"), (0.5, "50.0"), (0.99999, ">99.9"), (1, "100.0")]
)
def test_a_share_never_reads_as_none_or_all_when_it_is_not(share, text):
    assert percent(share) == f"{text}\u00a0%"


NOW = datetime(2026, 3, 14, 9, 41, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "start"),
    [("today", NOW.replace(hour=0)), ("hour", NOW.replace(hour=8)), ("day", NOW.replace(day=13, hour=9))],
)
def test_periods_begin_with_a_whole_hour(period, start):
    assert period_start(period, NOW) == start.replace(minute=0, second=0)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("slippage_limit_bps", 0.9609272558048262, ("Slippage limit", "0.96\u00a0bps")),
        ("book_age_ms", 1500.0, ("Book age", "1500.00\u00a0ms")),
        ("score", 0.123456789, ("Score", "0.123457")),
        ("max_open_trades", 3, ("Max open trades", "3")),
        ("notional", "1000.5", ("Notional", "1000.5")),
    ],
)
def test_a_figure_is_shown_for_reading(name, value, shown):
    assert figure_words(name, value) == shown


def test_every_check_there_is_has_words():
    names = {name for name, _ in RULES} | {f"{AT_DEPTH}{reason.name.lower()}" for reason in depth.Refusal}
    names.add(f"{AT_DEPTH}not_live")
    for path in Path("trading/execution").glob("*.py"):
        names |= set(re.findall(r'(?:Refusal\(|tally\.add\([^"]*)"(\w+)"', path.read_text()))
    assert {"book_age", "route_busy", "tradability", "free_balance", "lease", "store", "depth:empty"} <= names
    assert sorted(names - WORDS.keys()) == []


def test_a_check_without_words_is_shown_by_its_name():
    assert words_of("quiet_hours").title == "Quiet hours"
    assert words_of("depth:odd_thing").title == "Odd thing"
    assert words_of("").title


@pytest.mark.django_db
@pytest.mark.database
class TestReport:
    @pytest.fixture
    def start(self):
        return timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)

    def count(self, bot, check, count, *, base="BTC", hour):
        DecisionCount.objects.create(
            owner_id=bot.owner_id, bot=bot, base=base, quote="USDT", hour=hour, check_name=check, count=count
        )

    def test_it_adds_up_over_hours_bots_and_pairs_of_one_owner(self, world, start):
        one, two, bens = world.bot(world.anna), world.bot(world.anna, "Second"), world.bot(world.ben)
        for hour in (start, start + timedelta(hours=1)):
            self.count(one, PAID, 10, hour=hour)
            self.count(one, "book_age", 10, hour=hour)
        self.count(two, PAID, 7, base="ETH", hour=start)
        self.count(two, "size", 6, base="ETH", hour=start)
        self.count(two, "", 1, base="ETH", hour=start)
        self.count(one, "book_age", 1000, hour=start - timedelta(hours=1))
        self.count(bens, "book_age", 5000, hour=start)
        world.closed_trade(two, profit="1.5", closed_at=timezone.now(), base="ETH", opened_ns=to_ns(timezone.now()))
        world.closed_trade(two, profit="-1", closed_at=timezone.now(), base="ETH", opened_ns=to_ns(timezone.now()))

        report = why_report(owner_id=world.anna.pk, start=start)
        assert [(reason.check, reason.count) for reason in report.funnel.reasons] == [("book_age", 20), ("size", 6)]
        assert (report.paid, report.traded, report.funnel.count("profitable")) == (27, 2, 1)
        assert {one.bot.name: one.funnel.count("judged") for one in report.bots} == {"Wide net": 20, "Second": 8}
        assert [(one.pair, one.funnel.count("paid")) for one in report.pairs] == [("BTC/USDT", 20), ("ETH/USDT", 7)]
        assert report.pairs[1].funnel.count("profitable") == 1

        alone = why_report(owner_id=world.anna.pk, start=start, bot=two)
        assert [one.bot.name for one in alone.bots] == ["Second"]
        assert (alone.paid, alone.traded) == (7, 2), "one of them is not counted yet"

    def test_money_missed_is_of_the_refusals_kept_and_those_still_there(self, world, start):
        bot = world.bot(world.anna)
        at = to_ns(timezone.now())
        made = [
            structs.replace(
                world.decision(bot, check="size", at_ns=at, route=f"r{number}", net_profit=10.0), later_profit=later
            )
            for number, later in enumerate((4.0, -1.0, None))
        ]
        made.append(world.decision(bot, trade_id="t", at_ns=at, net_profit=99.0))
        made.append(world.decision(bot, check="size", at_ns=to_ns(start) - SECOND, route="old", net_profit=1000.0))
        decisions_store(owner_id=world.anna.pk, decisions=made, sampler=DecisionSampler())
        report = why_report(owner_id=world.anna.pk, start=start)
        (missed,) = report.missed
        assert (missed.quote, missed.refusals, missed.profit, missed.still_there, missed.later_profit) == (
            "USDT", 3, 30.0, 2, 3.0,
        )  # fmt: skip
        assert report.latest == Decision.objects.filter(route="r2").get()

    def test_it_takes_five_queries_however_much_there_is(self, world, start, django_assert_num_queries):
        bots = [world.bot(world.anna, f"bot {number}") for number in range(5)]
        for bot in bots:
            for base in ("BTC", "ETH", "SOL"):
                self.count(bot, "size", 1, base=base, hour=start)
        with django_assert_num_queries(5):
            report = why_report(owner_id=world.anna.pk, start=start)
        assert len(report.bots) == 5
        assert report.funnel == funnel_of({"size": 15}, NO_TRADES)
