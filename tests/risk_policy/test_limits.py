"""Limits of a bot: each refuses beyond its limit, allows at it, and says so in one sentence with its figures."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from risk.policy.limits import RULES, LegNeed, Limits, Proposal, Situation, first_refusal

D = Decimal
PROPOSAL = Proposal(
    notional=D(1000),
    quote="USDT",
    gross_bps=30.0,
    net_bps=10.0,
    book_age_ms=100.0,
    quote_deviation_bps=15.0,
    needs=(LegNeed(account="11", asset="USDT", needed=D(1000), free=D(1000)),),
)
SITUATION = Situation(open_trades=0, realised_today=D(-50))
LIMITS = Limits(
    max_trade_notional=D(1000),
    max_open_trades=1,
    min_net_edge_bps=10.0,
    max_edge_bps=30.0,
    max_book_age_ms=100.0,
    max_quote_deviation_bps=15.0,
    max_daily_loss=D("50.01"),
)

BEYOND = [
    ("book_age", {"book_age_ms": 100.1}, {}),
    ("max_edge", {"gross_bps": 30.1}, {}),
    ("quote_deviation", {"quote_deviation_bps": 15.1}, {}),
    ("min_net_edge", {"net_bps": 9.99}, {}),
    ("open_trades", {}, {"open_trades": 1}),
    ("daily_loss", {}, {"realised_today": D("-50.01")}),
    ("trade_amount", {"notional": D("1000.01")}, {}),
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


@pytest.mark.parametrize("field", ["max_quote_deviation_bps", "max_daily_loss"])
def test_a_limit_of_none_is_off(field: str) -> None:
    off = msgspec.structs.replace(LIMITS, **{field: None})
    wild = msgspec.structs.replace(PROPOSAL, quote_deviation_bps=1e6)
    lost = Situation(realised_today=D(-(10**9)))
    proposal, situation = (wild, SITUATION) if field == "max_quote_deviation_bps" else (PROPOSAL, lost)
    assert first_refusal(proposal, situation, off)[1].allowed


def test_legs_on_one_account_are_each_asked_for() -> None:
    needs = (
        LegNeed(account="11", asset="USDT", needed=D(1), free=D(2)),
        LegNeed(account="12", asset="BTC", needed=D(3), free=D(2)),
    )
    check, verdict = first_refusal(msgspec.structs.replace(PROPOSAL, needs=needs), SITUATION, LIMITS)
    assert check == "free_balance"
    assert "12" in verdict.reason
    assert "BTC" in verdict.reason
