"""What pages and commands read: the documented shapes, own rows, exact sums."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from django.utils import timezone

from bots import live_schema, selectors
from bots.models import Bot, Decision, LedgerLine, OwnerLease, Trade
from bots.selectors.profits import profit_lines, thinned
from bots.services.bots import bot_start
from bots.services.events import events_apply
from bots.services.profits import profits_move, result_of
from tests.bots.durable import trade_commit
from tests.bots.world import D
from trading.messages import OrderState

pytestmark = [pytest.mark.django_db, pytest.mark.database]

KINDS = {
    "bots": live_schema.Bot,
    "opportunities": live_schema.Opportunity,
    "trades": live_schema.Trade,
    "balances": live_schema.Balance,
    "pnl": live_schema.Pnl,
}


def close(world, owner, *results, at=None, quote="USDT", mode="simulated"):
    """Write closed trades with these profits, a minute apart, the last at ``at``."""
    bot = Bot.objects.get(owner=owner)
    at = at or timezone.now()
    first = Trade.objects.count()
    trades = Trade.objects.bulk_create(
        Trade(
            owner=owner, trade_id=f"made-{first + number}", bot=bot, route="r", base="BTC", quote=quote, state="CLOSED",
            mode=mode, quantity=1, expected_net_bps=1, expected_profit=1, realised_profit=profit, lease_token=1,
            opened_at=at, closed_at=at - timedelta(minutes=len(results) - 1 - number),
        )
        for number, profit in enumerate(results)
    )  # fmt: skip
    profits_move(owner_id=owner.pk, moves=[(None, result_of(trade)) for trade in trades])


def line(points, quote="USDT", mode="simulated"):
    return [point["total"] for point in points if (point["mode"], point["quote"]) == (mode, quote)]


def test_snapshot_has_the_documented_shapes_and_nothing_missing(busy_world):
    snapshot = selectors.live_snapshot(owner_id=busy_world.anna.pk)
    for name, kind in KINDS.items():
        assert snapshot[name], name
        for item in snapshot[name]:
            msgspec.convert(item, kind)
    msgspec.convert(snapshot["figures"], live_schema.Figures)
    [trade] = snapshot["trades"]
    assert (trade["profit"], trade["state"], trade["residual"]) == ("1.25", "CLOSED", "0")
    assert [(leg["side"], leg["filled"], leg["fee"], leg["fee_asset"]) for leg in trade["legs"]] == [
        ("buy", "0.5", "30", "USDT"),
        ("sell", "0.5", "30.015", "USDT"),
    ]
    msgspec.json.encode(snapshot)


def test_snapshot_is_the_owners_alone(busy_world):
    annas = selectors.live_snapshot(owner_id=busy_world.anna.pk)
    bens_bots = set(Bot.objects.filter(owner=busy_world.ben).values_list("pk", flat=True))
    for name in ("bots", "opportunities", "trades"):
        assert not {item.get("bot_id", item["id"] if name == "bots" else None) for item in annas[name]} & bens_bots


def test_snapshot_takes_as_many_queries_for_many_trades(busy_world, django_assert_max_num_queries):
    close(busy_world, busy_world.anna, *[D(1)] * 200)
    with django_assert_max_num_queries(16):
        snapshot = selectors.live_snapshot(owner_id=busy_world.anna.pk)
    assert len(snapshot["trades"]) == 50


def test_opportunities_are_the_newest_of_each_route(busy_world):
    bot = Bot.objects.get(owner=busy_world.anna)
    assert Decision.objects.filter(bot=bot).count() == 2
    [newest] = selectors.live_snapshot(owner_id=busy_world.anna.pk)["opportunities"]
    assert (newest["taken"], newest["check"]) == (False, "size")


def test_profit_line_goes_on_from_before_and_is_exact(busy_world):
    now = timezone.now()
    close(busy_world, busy_world.anna, D("0.1"), at=now - timedelta(hours=30))
    close(busy_world, busy_world.anna, D("0.2"), D("-0.000000000000000001"), at=now)
    close(busy_world, busy_world.anna, D("5"), at=now - timedelta(hours=1), quote="USDC")
    close(busy_world, busy_world.ben, D("100"), at=now)
    points = profit_lines(owner_id=busy_world.anna.pk).points
    assert line(points) == ["1.35", "1.55", "1.549999999999999999"]  # 1.25 is the trade of the world
    assert line(points, "USDC") == ["5"]
    assert [point["at"] for point in points] == sorted(point["at"] for point in points)
    assert points[-1]["at"] == now.timestamp()


def test_profit_of_one_mode_is_never_added_to_that_of_another(busy_world):
    now = timezone.now().replace(hour=12)
    for number, mode in enumerate(Trade.Mode):
        close(busy_world, busy_world.anna, D(10) ** number, at=now, quote="EUR", mode=mode)
    found = profit_lines(owner_id=busy_world.anna.pk, now=now)
    wanted = {"paper": "1", "simulated": "10", "testnet": "100", "live": "1000"}
    assert {mode: line(found.points, "EUR", mode) for mode in Trade.Mode} == {
        mode: [total] for mode, total in wanted.items()
    }
    assert {mode: sums["EUR"] for mode, sums in found.today.items()} == {
        mode: D(total) for mode, total in wanted.items()
    }
    ever = selectors.totals(owner_id=busy_world.anna.pk).net_profit
    assert ever == {
        mode: {"EUR": D(total), **({"USDT": D("1.25")} if mode == "simulated" else {})}
        for mode, total in wanted.items()
    }


def test_a_line_that_stood_still_for_a_day_is_a_point_where_the_day_begins(busy_world):
    now = timezone.now()
    [point] = profit_lines(owner_id=busy_world.anna.pk, now=now).points
    assert (point["total"], point["mode"]) == ("1.25", "simulated")
    assert 0 <= now.timestamp() - 86_400 - point["at"] < 300


def test_long_profit_line_is_thinned_and_ends_at_the_total(busy_world):
    close(busy_world, busy_world.anna, *[D("0.01")] * 1300)
    points = profit_lines(owner_id=busy_world.anna.pk).points
    assert len(points) == 500
    assert points[-1]["total"] == "14.25"  # and 1.25 the trade of the world


@pytest.mark.parametrize("length", [0, 1, 499, 500, 501, 10_000])
def test_thinning_keeps_order_and_the_last(length):
    line = list(range(length))
    thin = thinned(line, 500)
    assert len(thin) == min(length, 500)
    assert thin == sorted(set(thin))
    assert not line or thin[-1] == line[-1]


def test_todays_figures_count_from_midnight_utc(busy_world):
    noon = timezone.now().replace(hour=12)
    midnight = noon.replace(hour=0, minute=0, second=0, microsecond=0)
    close(busy_world, busy_world.anna, D("2"), at=midnight)
    close(busy_world, busy_world.anna, D("7"), at=midnight - timedelta(microseconds=1))
    profits = profit_lines(owner_id=busy_world.anna.pk, now=noon).today
    figures = selectors.figures_today(owner_id=busy_world.anna.pk, profits=profits, now=noon)
    assert figures == {"since": midnight.timestamp(), "trades": 1, "profit": {"simulated": {"USDT": "2"}}}


def test_totals_count_everything_and_sum_by_quote(busy_world):
    every = selectors.totals()
    assert (every.trades, every.orders, every.fills, every.unresolved_orders) == (2, 4, 4, 0)
    assert every.net_profit == {"simulated": {"USDT": D("2.5")}}
    assert selectors.totals(owner_id=busy_world.anna.pk).net_profit == {"simulated": {"USDT": D("1.25")}}


def test_unresolved_orders_are_those_that_may_still_live(world):
    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token)
    intents = world.intents(bot, trade)
    trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=intents)
    assert selectors.totals().unresolved_orders == 2
    events_apply(owner_id=world.anna.pk, batch=[(world.event(intents[0], OrderState.UNKNOWN), OrderState.UNKNOWN)])
    events_apply(owner_id=world.anna.pk, batch=[(world.event(intents[1], OrderState.CANCELLED), OrderState.CANCELLED)])
    assert selectors.totals().unresolved_orders == 1


def test_engines_are_wanted_for_running_bots_and_unresolved_orders_without_a_lease(world):
    assert selectors.engine_owners() == []
    bot = world.bot(world.anna)
    bot_start(bot=bot, actor=world.anna)
    assert selectors.engine_owners() == [world.anna.pk]
    bens = world.bot(world.ben)
    token = world.lease(world.ben)
    trade = world.trade(bens, token)
    trade_commit(owner_id=world.ben.pk, token=token, trade=trade, intents=world.intents(bens, trade))
    assert selectors.engine_owners() == [world.anna.pk], "ben's lease is held"
    OwnerLease.objects.update(expires_at=datetime(2000, 1, 1, tzinfo=UTC))
    assert selectors.engine_owners() == sorted([world.anna.pk, world.ben.pk])
    assert [row.pk for row in selectors.bots_desired(owner_id=world.anna.pk)] == [bot.pk]


def test_ledger_check_finds_a_line_that_went_missing(busy_world):
    assert selectors.ledger_unbalanced() == []
    line = LedgerLine.objects.filter(asset="BTC", book="account").first()
    LedgerLine.objects.filter(pk=line.pk)._raw_delete("default")
    assert selectors.ledger_unbalanced() == [(line.entry_id, "BTC")]
