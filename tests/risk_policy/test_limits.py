"""Limits of a bot: each refuses beyond its limit, allows at it, and says so in one sentence with its figures."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.limits import (
    ROUTE_RULES,
    RULES,
    LegNeed,
    Limits,
    Proposal,
    RouteLimits,
    Situation,
    first_refusal,
    in_force,
    tighten,
)

D = Decimal
PROPOSAL = Proposal(
    notional=D(1000),
    quote="USDT",
    gross_bps=30.0,
    net_bps=10.0,
    book_age_ms=100.0,
    quote_deviation_bps=15.0,
    needs=(LegNeed(account="11", asset="USDT", needed=D(1000), free=D(1000)),),
    base="BTC",
    exchanges=("alpha", "beta"),
    accounts=("11", "12"),
)
SITUATION = Situation(
    open_trades=0,
    realised_today=D(-50),
    exposure_by_asset={"BTC": D(100), "ETH": D(10**6)},
    exposure_by_exchange={"alpha": D(50), "beta": D(200), "gamma": D(10**6)},
    exposure_by_account={"12": D(300), "13": D(10**6)},
    exposure_total=D(400),
    unhedged=D(60),
    orders_last_minute=8,
)
LIMITS = Limits(
    max_trade_notional=D(1000),
    max_open_trades=1,
    min_net_edge_bps=10.0,
    max_edge_bps=30.0,
    max_book_age_ms=100.0,
    max_quote_deviation_bps=15.0,
    max_daily_loss=D("50.01"),
    max_exposure_asset=D(1100),
    max_exposure_exchange=D(1200),
    max_exposure_account=D(1300),
    max_exposure_global=D(1400),
    max_unhedged=D(60),
    max_orders_per_minute=10,
    allowed_pairs=frozenset({"BTC/USDT"}),
)
OPTIONAL = [field.name for field in msgspec.structs.fields(Limits) if field.default is None]

BEYOND = [
    ("allowed_pair", {"base": "SOL"}, {}),
    ("book_age", {"book_age_ms": 100.1}, {}),
    ("max_edge", {"gross_bps": 30.1}, {}),
    ("quote_deviation", {"quote_deviation_bps": 15.1}, {}),
    ("min_net_edge", {"net_bps": 9.99}, {}),
    ("open_trades", {}, {"open_trades": 1}),
    ("daily_loss", {}, {"realised_today": D("-50.01")}),
    ("order_rate", {}, {"orders_last_minute": 9}),
    ("unhedged_time", {}, {"unhedged": D("60.01")}),
    ("trade_amount", {"notional": D("1000.01")}, {}),
    ("asset_exposure", {}, {"exposure_by_asset": {"BTC": D("100.01")}}),
    ("exchange_exposure", {}, {"exposure_by_exchange": {"beta": D("200.01")}}),
    ("account_exposure", {}, {"exposure_by_account": {"12": D("300.01")}}),
    ("total_exposure", {}, {"exposure_total": D("400.01")}),
    ("free_balance", {"needs": (LegNeed(account="11", asset="USDT", needed=D("1000.01"), free=D(1000)),)}, {}),
]


def test_everything_at_its_limit_is_allowed() -> None:
    check, verdict = first_refusal(PROPOSAL, SITUATION, LIMITS)
    assert (check, verdict.allowed) == ("", True)


@pytest.mark.parametrize(("name", "proposal", "situation"), BEYOND, ids=[row[0] for row in BEYOND])
def test_beyond_a_limit_is_refused_by_name(
    name: str, proposal: dict[str, object], situation: dict[str, object]
) -> None:
    check, verdict = first_refusal(
        msgspec.structs.replace(PROPOSAL, **proposal), msgspec.structs.replace(SITUATION, **situation), LIMITS
    )
    assert check == name
    assert not verdict.allowed
    assert verdict.reason.endswith(".")
    assert verdict.figures


def test_every_rule_is_tested_here() -> None:
    assert [name for name, _ in RULES] == [row[0] for row in BEYOND]


def test_the_first_refusal_is_named() -> None:
    bad = msgspec.structs.replace(PROPOSAL, net_bps=0.0, book_age_ms=5000.0)
    assert first_refusal(bad, SITUATION, LIMITS)[0] == "book_age"


@pytest.mark.parametrize("field", ["book_age_ms", "gross_bps", "net_bps", "quote_deviation_bps"])
def test_not_a_number_is_refused(field: str) -> None:
    bad = msgspec.structs.replace(PROPOSAL, **{field: float("nan")})
    assert not first_refusal(bad, SITUATION, LIMITS)[1].allowed


NAN = D("NaN")
NOT_NUMBERS = [
    ("notional", {"notional": NAN}, {}),
    ("needed", {"needs": (LegNeed(account="11", asset="USDT", needed=NAN, free=D(1)),)}, {}),
    ("loss", {}, {"realised_today": NAN}),
    ("unhedged", {}, {"unhedged": NAN}),
    ("asset", {}, {"exposure_by_asset": {"BTC": NAN}}),
    ("exchange", {}, {"exposure_by_exchange": {"alpha": NAN}}),
    ("account", {}, {"exposure_by_account": {"11": NAN}}),
    ("total", {}, {"exposure_total": NAN}),
    ("infinite", {}, {"exposure_total": D("Infinity")}),
]


@pytest.mark.parametrize(("name", "proposal", "situation"), NOT_NUMBERS, ids=[row[0] for row in NOT_NUMBERS])
def test_money_that_is_no_number_is_refused(
    name: str, proposal: dict[str, object], situation: dict[str, object]
) -> None:
    _, verdict = first_refusal(
        msgspec.structs.replace(PROPOSAL, **proposal), msgspec.structs.replace(SITUATION, **situation), LIMITS
    )
    assert not verdict.allowed


FLOATS = {"max_quote_deviation_bps", "max_orders_per_minute", "max_open_trades_together"}


@pytest.mark.parametrize("name", [name for name in OPTIONAL if name != "allowed_pairs"])
def test_a_bound_that_is_no_number_refuses(name: str) -> None:
    nan = float("nan") if name in FLOATS else NAN
    assert not first_refusal(PROPOSAL, SITUATION, msgspec.structs.replace(LIMITS, **{name: nan}))[1].allowed


SWITCHES_OFF = {
    "max_quote_deviation_bps": "quote_deviation",
    "max_daily_loss": "daily_loss",
    "max_exposure_asset": "asset_exposure",
    "max_exposure_exchange": "exchange_exposure",
    "max_exposure_account": "account_exposure",
    "max_exposure_global": "total_exposure",
    "max_unhedged": "unhedged_time",
    "max_orders_per_minute": "order_rate",
    "allowed_pairs": "allowed_pair",
}


def test_every_limit_that_can_be_off_is_tested_here() -> None:
    assert [*SWITCHES_OFF, "max_open_trades_together", "max_daily_loss_together"] == OPTIONAL


@pytest.mark.parametrize("name", SWITCHES_OFF)
def test_a_limit_of_none_is_off(name: str) -> None:
    _, proposal, situation = next(row for row in BEYOND if row[0] == SWITCHES_OFF[name])
    off = msgspec.structs.replace(LIMITS, **{name: None})
    assert first_refusal(changed(PROPOSAL, proposal), changed(SITUATION, situation), off)[1].allowed


def changed(value: msgspec.Struct, changes: dict[str, object]) -> msgspec.Struct:
    return msgspec.structs.replace(value, **changes)


@pytest.mark.parametrize(
    ("limit", "most", "situation", "reason"),
    [
        (
            "max_open_trades_together", 3, {"open_together": 3},
            "3 trades of the owner's bots are open; at most 3 are allowed (owner anna).",
        ),
        (
            "max_daily_loss_together", D(200), {"realised_together": D(-200)},
            "Today's loss of the owner's bots is 200 USDT; trading stops at 200 USDT until midnight UTC (owner anna).",
        ),
    ],
)  # fmt: skip
def test_what_is_over_all_bots_of_an_owner_counts_all_of_them(limit, most, situation, reason) -> None:
    limits = msgspec.structs.replace(LIMITS, **{limit: most, "sources": {limit: "owner anna"}})
    assert first_refusal(PROPOSAL, SITUATION, limits)[1].allowed
    [verdict] = [first_refusal(PROPOSAL, changed(SITUATION, situation), limits)[1]]
    assert verdict.reason == reason
    assert first_refusal(PROPOSAL, changed(SITUATION, situation), LIMITS)[1].allowed, "without such a limit"


def test_nothing_may_be_unhedged_under_a_limit_of_zero() -> None:
    zero = msgspec.structs.replace(LIMITS, max_unhedged=D(0))
    assert first_refusal(PROPOSAL, SITUATION, zero)[0] == "unhedged_time"
    assert first_refusal(PROPOSAL, msgspec.structs.replace(SITUATION, unhedged=D(0)), zero)[1].allowed


SOURCES = dict.fromkeys((*ROUTE_RULES, "allowed_pairs"), "exchange binance")


@pytest.mark.parametrize(
    ("name", "proposal", "situation"),
    [row for row in BEYOND if row[0] != "free_balance"],
    ids=[row[0] for row in BEYOND if row[0] != "free_balance"],
)
def test_a_refusal_names_the_layer(name: str, proposal: dict[str, object], situation: dict[str, object]) -> None:
    limits = msgspec.structs.replace(LIMITS, sources=SOURCES)
    _, verdict = first_refusal(changed(PROPOSAL, proposal), changed(SITUATION, situation), limits)
    assert "(exchange binance)" in verdict.reason


def test_the_sentence_of_a_limit_of_an_exchange() -> None:
    tight = tighten(LIMITS, RouteLimits(source="exchange binance", max_trade_notional=D(500)))
    _, verdict = first_refusal(PROPOSAL, SITUATION, tight)
    assert verdict.reason == "The trade is worth 1000 USDT; at most 500 USDT are allowed (exchange binance)."


MONEY = st.decimals(min_value=0, max_value=3000, places=2)
RATIO = st.floats(min_value=0, max_value=300)
COUNT = st.integers(0, 20)
BOUNDS = {
    name: COUNT
    if name in {"max_open_trades", "max_orders_per_minute"}
    else RATIO
    if name.endswith(("_bps", "_ms"))
    else MONEY
    for name in ROUTE_RULES
}
ROUTES = st.builds(
    RouteLimits,
    source=st.sampled_from(("exchange alpha", "exchange beta", "pair BTC/USDT")),
    **{name: st.none() | bound for name, bound in BOUNDS.items()},
)


@given(routes=st.lists(ROUTES, max_size=3), more=ROUTES, row=st.sampled_from([("", {}, {}), *BEYOND]))
def test_another_layer_of_a_route_never_allows_more(routes, more, row) -> None:
    proposal, situation = changed(PROPOSAL, row[1]), changed(SITUATION, row[2])
    before = first_refusal(proposal, situation, tighten(LIMITS, *routes))[1]
    after = first_refusal(proposal, situation, tighten(LIMITS, *routes, more))[1]
    assert before.allowed or not after.allowed


@given(routes=st.lists(ROUTES, max_size=3), data=st.data())
def test_order_of_a_routes_layers_does_not_matter(routes, data) -> None:
    shuffled = data.draw(st.permutations(routes))
    one, other = tighten(LIMITS, *routes), tighten(LIMITS, *shuffled)
    assert all(getattr(one, name) == getattr(other, name) for name in ROUTE_RULES)


def test_a_layer_that_adds_nothing_leaves_the_limits_as_they_are() -> None:
    assert tighten(LIMITS) is LIMITS
    assert tighten(LIMITS, RouteLimits(source="pair BTC/USDT", max_trade_notional=D(1000))) is LIMITS


def test_a_routes_bound_that_is_no_number_refuses() -> None:
    for name in ("min_net_edge_bps", "max_edge_bps", "max_book_age_ms", "max_quote_deviation_bps"):
        tight = tighten(LIMITS, RouteLimits(source="exchange alpha", **{name: float("nan")}))
        assert not first_refusal(PROPOSAL, SITUATION, tight)[1].allowed


def test_legs_on_one_account_are_each_asked_for() -> None:
    needs = (
        LegNeed(account="11", asset="USDT", needed=D(1), free=D(2)),
        LegNeed(account="12", asset="BTC", needed=D(3), free=D(2)),
    )
    check, verdict = first_refusal(msgspec.structs.replace(PROPOSAL, needs=needs), SITUATION, LIMITS)
    assert check == "free_balance"
    assert "12" in verdict.reason
    assert "BTC" in verdict.reason


@given(
    off=st.sets(st.sampled_from(sorted(SWITCHES_OFF))),
    row=st.sampled_from([("", {}, {}), *BEYOND]),
    other=st.sampled_from([("", {}, {}), *BEYOND]),
)
def test_rules_that_are_off_are_not_missed(off, row, other) -> None:
    limits = msgspec.structs.replace(LIMITS, **dict.fromkeys(off))
    proposal = changed(changed(PROPOSAL, row[1]), other[1])
    situation = changed(changed(SITUATION, row[2]), other[2])
    rules = in_force(limits)
    assert first_refusal(proposal, situation, limits, rules) == first_refusal(proposal, situation, limits)
    assert len(rules) == len(RULES) - len(off)
