"""Which coins are one, and which routes can be moved: hand-made cases and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.tradability import (
    Listing,
    Network,
    RouteMarkets,
    Ruling,
    Sameness,
    known_different,
    known_same,
    market_status,
    sameness,
    wallets,
)

TETHER = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
OTHER = "0x1111111111111111111111111111111111111111"


def token(
    exchange: str, contract: str = TETHER, *, asset: str = "USDT", ruling: Ruling = Ruling.NONE, **flags: bool
) -> Listing:
    return Listing(
        exchange=exchange, asset=asset, networks=(Network(name="ERC20", contract=contract, **flags),), ruling=ruling
    )


def native(exchange: str, **flags: bool) -> Listing:
    return Listing(exchange=exchange, asset="BTC", networks=(Network(name="BTC", **flags),))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (token("a"), token("b"), Sameness.SAME),
        (token("a"), token("b", TETHER.lower()), Sameness.SAME),
        (token("a"), token("b", "831ec7"), Sameness.SAME),  # the last six digits
        (token("a"), token("b", "31ec7"), Sameness.DIFFERENT),  # five prove nothing, and are not the contract
        (token("a"), token("b", OTHER), Sameness.DIFFERENT),
        (token("a"), token("b", ""), Sameness.UNKNOWN),
        (native("a"), native("b"), Sameness.SAME),
        (native("a"), Listing(exchange="b", asset="BTC"), Sameness.UNKNOWN),
        (token("a", OTHER, ruling=Ruling.SAME), token("b", ruling=Ruling.SAME), Sameness.SAME),
        (token("a", ruling=Ruling.OTHER), token("b"), Sameness.DIFFERENT),
        (token("a", "So1"), token("b", "so1"), Sameness.DIFFERENT),  # only hexadecimal is free in its case
    ],
)  # fmt: skip
def test_what_makes_two_coins_one(one: Listing, other: Listing, expected: Sameness) -> None:
    assert sameness(one, other)[0] is expected
    assert sameness(other, one)[0] is expected


def test_a_coin_on_other_networks_too_is_the_same_by_the_one_that_agrees() -> None:
    bridged = Listing(
        exchange="b", asset="USDT",
        networks=(Network(name="TRC20", contract="TR7"), Network(name="ERC20", contract=TETHER)),
    )  # fmt: skip
    one = Listing(
        exchange="a", asset="USDT",
        networks=(Network(name="TRC20", contract="TXX"), Network(name="ERC20", contract=TETHER)),
    )  # fmt: skip
    assert sameness(one, bridged)[0] is Sameness.SAME


def test_a_confirmed_asset_is_one_unless_an_operator_said_otherwise_of_a_listing() -> None:
    assert sameness(token("a"), token("b", OTHER), confirmed=True)[0] is Sameness.SAME
    assert sameness(token("a"), token("b", ruling=Ruling.OTHER), confirmed=True)[0] is Sameness.DIFFERENT


def route(**changes: object) -> RouteMarkets:
    usual = {
        "base_bought": native("a", deposit=True, withdraw=True),
        "base_sold": native("b", deposit=True, withdraw=True),
        "quote_paid": token("a", deposit=True, withdraw=True),
        "quote_received": token("b", deposit=True, withdraw=True),
    }
    return RouteMarkets(**{**usual, **changes})  # type: ignore[arg-type]


def test_the_usual_route_is_refused_by_nothing() -> None:
    assert market_status(route()).allowed
    assert known_different(route(), frozenset()).allowed
    assert known_same(route(), frozenset()).allowed
    assert wallets(route()).allowed


@pytest.mark.parametrize(
    ("part", "listing", "said"),
    [
        ("base_bought", native("a", deposit=True, withdraw=False), "BTC on a: withdrawals"),
        ("base_sold", native("b", deposit=False, withdraw=True), "BTC on b: deposits"),
        ("quote_received", token("b", deposit=True, withdraw=False), "USDT on b: withdrawals"),
        ("quote_paid", token("a", deposit=False, withdraw=True), "USDT on a: deposits"),
    ],
)
def test_a_wallet_on_the_way_that_is_closed_refuses(part: str, listing: Listing, said: str) -> None:
    verdict = wallets(route(**{part: listing}))
    assert not verdict.allowed
    assert verdict.reason.startswith(said)


@pytest.mark.parametrize(
    ("part", "listing"),
    [
        ("base_bought", native("a", deposit=False, withdraw=True)),
        ("base_sold", native("b", deposit=True, withdraw=False)),
        ("quote_received", token("b", deposit=False, withdraw=True)),
        ("quote_paid", token("a", deposit=True, withdraw=False)),
        ("base_bought", Listing(exchange="a", asset="BTC")),
    ],
)
def test_wallets_that_are_not_on_the_way_or_untold_do_not_refuse(part: str, listing: Listing) -> None:
    assert wallets(route(**{part: listing})).allowed


def test_one_open_network_is_enough() -> None:
    listing = Listing(
        exchange="a", asset="BTC",
        networks=(Network(name="BTC", withdraw=False), Network(name="LIGHTNING", withdraw=True)),
    )  # fmt: skip
    assert listing.can_withdraw
    assert wallets(route(base_bought=listing)).allowed


def test_refusals_name_the_coin_both_exchanges_and_what_to_do() -> None:
    different = known_different(
        route(base_sold=token("b", OTHER, asset="BTC"), base_bought=token("a", asset="BTC")), frozenset()
    )
    assert "BTC on a and on b" in different.reason
    assert "two different coins" in different.reason
    unknown = known_same(route(quote_paid=token("a", "")), frozenset())
    assert "USDT on a and on b" in unknown.reason
    assert "confirm" in unknown.reason
    assert known_same(route(quote_paid=token("a", "")), frozenset({"USDT"})).allowed


def test_a_halted_market_refuses_by_its_name() -> None:
    assert market_status(route(halted=("a:BTC/USDT",))).reason == "a:BTC/USDT: trading is halted by the exchange."


def test_two_markets_of_one_exchange_need_neither_wallets_nor_proof() -> None:
    shut = route(
        base_bought=native("a", withdraw=False), base_sold=native("a", deposit=False),
        quote_paid=token("a", ""), quote_received=token("a", ""),
    )  # fmt: skip
    assert wallets(shut).allowed
    assert known_same(shut, frozenset()).allowed


FLAG = st.none() | st.booleans()
NETWORKS = st.lists(
    st.builds(
        Network,
        name=st.sampled_from(["ERC20", "BTC", "SOL"]),
        contract=st.text(max_size=8),
        deposit=FLAG,
        withdraw=FLAG,
    ),
    max_size=3,
    unique_by=lambda network: network.name,
).map(tuple)
LISTINGS = st.builds(
    Listing, exchange=st.just("a"), asset=st.just("X"), networks=NETWORKS, ruling=st.sampled_from(Ruling)
)


@given(LISTINGS, LISTINGS, st.booleans())
def test_sameness_is_symmetric_and_an_operators_denial_is_final(one: Listing, other: Listing, confirmed: bool) -> None:
    found, why = sameness(one, other, confirmed=confirmed)
    assert found is sameness(other, one, confirmed=confirmed)[0]
    assert why
    if Ruling.OTHER in (one.ruling, other.ruling):
        assert found is Sameness.DIFFERENT
    elif confirmed:
        assert found is Sameness.SAME
