"""What is proposed when inventory runs short: hand-checked examples, and what holds for any balances."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.rebalance_states import OPEN, TRANSITIONS, RebalanceState, may_become
from risk.policy.rebalancing import (
    HEADROOM,
    Holding,
    Kind,
    Proposal,
    RebalanceRules,
    conversion_effect,
    least_order,
    parts_of,
    propose,
)

D = Decimal
RULES = RebalanceRules()


def holding(account: int, base: str, quote: str, **changes: Any) -> Holding:
    values: dict[str, Any] = {
        "account": account, "base": D(base), "quote": D(quote), "price": D(50_000), "lot": D("0.00001"),
        "min_notional": D(5), "taker_fee": D("0.001"), "half_spread_bps": D("0.5"),
    }  # fmt: skip
    return Holding(**(values | changes))


def proposed(*holdings: Holding, **rules: Any) -> tuple[Proposal, ...]:
    return propose("BTC", "USDT", holdings, RebalanceRules(**{"most_value": D(1_000_000), **rules}))


def told(proposals: tuple[Proposal, ...]) -> list[tuple[Any, ...]]:
    return [(one.kind.value, one.account, one.to_account, one.side, one.asset, one.amount) for one in proposals]


def test_two_accounts_skewed_oppositely_exchange_inventory() -> None:
    found = proposed(holding(1, "2", "0"), holding(2, "0", "100000"))
    assert told(found) == [("move", 1, 2, "", "BTC", D(1)), ("move", 2, 1, "", "USDT", D(50_000))]
    assert [(one.account, one.before, one.after) for one in found[0].effects] == [
        (1, D(1), D("0.5")), (2, D(0), D("0.5")),
    ]  # fmt: skip
    assert found[0].cost_bps is None, "nobody knows what the network will take"


def test_an_account_that_is_short_alone_converts() -> None:
    (sale,) = proposed(holding(1, "2", "0"), holding(2, "1", "50000"))
    assert told((sale,)) == [("convert", 1, None, "sell", "BTC", D(1))]
    assert sale.cost_bps == D("10.5"), "a fee of 10 bps and half a spread of 0.5"
    (purchase,) = proposed(holding(1, "0", "100000"))
    assert told((purchase,)) == [("convert", 1, None, "buy", "BTC", D(1))]
    assert [(one.before, one.after) for one in purchase.effects] == [(D(0), D("0.5"))]


def test_what_moving_leaves_is_converted() -> None:
    found = proposed(holding(1, "2", "0"), holding(2, "0", "20000"))
    # Account 2 lacks 10,000 of base; account 1 then has 1.8 BTC and 10,000 USDT: 40,000 too much base.
    assert told(found) == [
        ("move", 1, 2, "", "BTC", D("0.2")), ("move", 2, 1, "", "USDT", D(10_000)),
        ("convert", 1, None, "sell", "BTC", D("0.8")),
    ]  # fmt: skip


def test_nothing_within_the_band_and_nothing_of_little_worth() -> None:
    assert not proposed(holding(1, "1.6", "20000"), holding(2, "0.4", "80000"))  # 0.8 and 0.2: the band's edges
    assert proposed(holding(1, "1.61", "20000"))
    assert not proposed(holding(1, "0.0019", "0"))  # 95 in all, of which 47.5 is too much
    assert not proposed(holding(1, "0", "0"))
    assert not proposed(holding(1, "2", "0", min_notional=D(60_000)))
    assert not proposed(holding(1, "2", "0", min_amount=D("1.5")))


def test_a_proposal_has_a_largest_value_and_a_purchase_leaves_room_for_its_cost() -> None:
    (sale,) = proposed(holding(1, "2", "0"), most_value=D(10_000))
    assert sale.amount == D("0.2")
    found = proposed(holding(1, "2", "0"), holding(2, "0", "100000"), most_value=D(10_000))
    assert told(found) == [("move", 1, 2, "", "BTC", D("0.2")), ("move", 2, 1, "", "USDT", D(10_000))]
    (purchase,) = proposed(holding(1, "0", "102000"), target=D("0.99"), band=D("0.01"))
    assert purchase.amount == D(2), "102,000 buy 2 BTC and 2 % stay for a worse price and the fee"


def test_three_accounts() -> None:
    found = proposed(holding(1, "4", "0"), holding(2, "0", "100000"), holding(3, "0", "100000"))
    assert told(found) == [
        ("move", 1, 2, "", "BTC", D(1)), ("move", 2, 1, "", "USDT", D(50_000)),
        ("move", 1, 3, "", "BTC", D(1)), ("move", 3, 1, "", "USDT", D(50_000)),
    ]  # fmt: skip


def test_accounts_between_which_nothing_can_be_moved_convert() -> None:
    held = (holding(1, "2", "0"), holding(2, "0", "100000"))
    found = propose("BTC", "USDT", held, RebalanceRules(most_value=D(1_000_000)), apart=[frozenset({1, 2})])
    assert told(found) == [("convert", 1, None, "sell", "BTC", D(1)), ("convert", 2, None, "buy", "BTC", D(1))]


def test_the_effect_of_a_conversion_asked_for_by_hand() -> None:
    effect = conversion_effect(holding(1, "1", "50000"), "sell", D("0.5"))
    assert (effect.before, effect.after) == (D("0.5"), D("0.25"))
    assert conversion_effect(holding(1, "0", "0"), "buy", D(1)).after == 0


@pytest.mark.parametrize(
    ("name", "value"), [("base", "NaN"), ("quote", "-1"), ("price", "0"), ("price", "Infinity"), ("lot", "0")]
)
def test_figures_that_cannot_be_are_refused(name: str, value: str) -> None:
    one = D(1)
    with pytest.raises(ValueError, match=f"{name}.* of account 7"):
        Holding(**{"account": 7, "base": one, "quote": one, "price": one, "lot": one, name: D(value)})


@pytest.mark.parametrize(
    ("name", "value"), [("target", "0"), ("target", "1"), ("band", "NaN"), ("least_value", "-1"), ("most_value", "0")]
)
def test_settings_out_of_range_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is"):
        RebalanceRules(**{name: D(value)})


amounts = st.one_of(st.decimals("0", "10", places=8), st.decimals("0", "1e6", places=4))
prices = st.decimals("0.00001", "200000", places=8).filter(lambda price: price > 0)
holdings = st.builds(
    lambda account, base, quote, price, lot, least, fee: Holding(
        account=account, base=base, quote=quote, price=price, lot=lot, min_notional=least, taker_fee=fee
    ),
    st.integers(1, 4), amounts, amounts, prices, st.sampled_from([D("1e-8"), D("0.001"), D("0.5"), D(10)]),
    st.sampled_from([D(0), D(5), D(1000)]), st.sampled_from([D("-0.0001"), D(0), D("0.001")]),
)  # fmt: skip
rules = st.builds(
    RebalanceRules,
    target=st.decimals("0.01", "0.99", places=2), band=st.decimals("0.01", "0.98", places=2),
    least_value=st.sampled_from([D(0), D(50)]), most_value=st.sampled_from([D(100), D(10_000), D("1e9")]),
)  # fmt: skip


@given(st.lists(holdings, max_size=4, unique_by=lambda one: one.account), rules)
def test_whatever_is_held(held: list[Holding], chosen: RebalanceRules) -> None:
    found = propose("BTC", "USDT", held, chosen)
    before = {one.account: one for one in held}
    base = {one.account: one.base for one in held}
    quote = {one.account: one.quote for one in held}
    out = {(one.account, asset): D(0) for one in held for asset in ("BTC", "USDT")}
    for one in found:
        source = before[one.account]
        assert one.amount.is_finite()
        assert 0 < one.value <= chosen.most_value * D("1.0000001") or one.kind is Kind.MOVE
        if one.kind is Kind.CONVERT:
            sign = 1 if one.side == "buy" else -1
            assert one.amount >= least_order(source)
            assert one.amount % source.lot == 0
            base[one.account] += sign * one.amount
            quote[one.account] -= sign * one.value
            paid = ("BTC", one.amount) if sign < 0 else ("USDT", one.value * (1 + HEADROOM / 2))
            out[one.account, paid[0]] += paid[1]
        else:
            assert one.to_account not in {None, one.account}
            of = base if one.asset == "BTC" else quote
            of[one.account] -= one.amount
            of[one.to_account] += one.amount  # type: ignore[index]
            out[one.account, one.asset] += one.amount
    arrived = {account: base[account] >= 0 and quote[account] >= 0 for account in base}
    assert all(arrived.values()), "never more than is free"
    for one in held:
        if one.value <= 0:
            continue
        share = one.share or D(0)
        after = base[one.account] * one.price
        total = after + quote[one.account]
        changed = one.account in {account for found_ in found for account in (found_.account, found_.to_account)}
        if abs(share - chosen.target) <= chosen.band:
            assert not changed, "nothing within the band"
        elif changed:
            now = after / total
            assert abs(now - chosen.target) <= abs(share - chosen.target)
            assert (now - chosen.target) * (share - chosen.target) >= -D("1e-20"), "not beyond the target"
    keys = [(one.kind, one.account, one.to_account, one.asset) for one in found]
    assert len(set(keys)) == len(keys)


@given(amounts, st.integers(1, 7))
def test_parts_are_never_more_than_the_whole(free: Decimal, count: int) -> None:
    assert parts_of(free, count) * count <= free


def test_what_has_ended_stays_so_and_everything_can_end() -> None:
    ended = set(RebalanceState) - OPEN
    assert ended == {
        RebalanceState.DONE, RebalanceState.FAILED, RebalanceState.REJECTED, RebalanceState.EXPIRED,
        RebalanceState.CANCELLED,
    }  # fmt: skip
    for state in OPEN:
        seen, waiting = set(), {state}
        while waiting:
            seen |= waiting
            waiting = {after for one in waiting for after in TRANSITIONS[one]} - seen
        assert seen & ended
    assert not may_become(RebalanceState.PROPOSED, RebalanceState.RUNNING), "nothing runs that nobody approved"
