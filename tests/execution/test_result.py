"""What a trade earned: worked by hand, and by conservation."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.engine.worlds import spot
from tests.execution.makers import event, fill, intent
from trading.execution.latency import Histogram
from trading.execution.order import Order
from trading.execution.reserving import needed, spent
from trading.execution.result import result, tally
from trading.instruments import Market
from trading.messages import OrderState as S

D = Decimal
MARKETS = {market.key: market for market in (spot("alpha"), spot("beta"))}
INVERSE = Market(
    exchange="gamma", symbol="BTC/USD:BTC", native_id="BTCUSD_PERP", base="BTC", quote="USD", settle="BTC",
    kind="inverse", contract_size=D(100), tick=D("0.1"), lot=D(1),
)  # fmt: skip


def order(side: str, *parts: tuple[str, str], fee: str = "0", asset: str = "USDT", market: str = "") -> Order:
    key = market or ("alpha:BTC/USDT" if side == "buy" else "beta:BTC/USDT")
    made = Order(intent("1000", side=side, market=key, client_order_id=f"{side}-{key}"), S.SENDING)
    for number, (quantity, price) in enumerate(parts):
        one = fill(f"{side}{number}", quantity, price, side=side, market=key, fee=D(fee), fee_asset=asset)
        made.apply(event(S.PARTIALLY_FILLED, one))
    return made


def no_price(asset: str, quote: str) -> None:
    return None


def test_matched_legs_with_fees_in_quote_and_base() -> None:
    # Bought 2 at 100 with 0.002 BTC of fee, sold 2 at 103 with 0.206 USDT of fee:
    # 206 - 200 = 6; VWAP (200 + 206) / 4 = 101.5; 0.002 x 101.5 = 0.203; 6 - 0.206 - 0.203 = 5.591.
    orders = [order("buy", ("2", "100"), fee="0.002", asset="BTC"), order("sell", ("2", "103"), fee="0.206")]
    outcome = result(tally(orders, MARKETS), "BTC", "USDT", no_price)
    assert outcome.profit == D("5.591")
    assert outcome.residual == 0
    assert outcome.unvalued == {}


def test_a_residual_stands_at_its_own_entry_price() -> None:
    # Bought 3 at 100, sold 2 at 103: the third is worth what it cost, so 6 is earned on the matched 2.
    outcome = result(tally([order("buy", ("3", "100")), order("sell", ("2", "103"))], MARKETS), "BTC", "USDT", no_price)
    assert (outcome.profit, outcome.residual) == (D(6), D(1))
    # Sold 3 at 103, bought 2 at 100: 6 again.
    outcome = result(tally([order("buy", ("2", "100")), order("sell", ("3", "103"))], MARKETS), "BTC", "USDT", no_price)
    assert (outcome.profit, outcome.residual) == (D(6), D(-1))


def test_a_third_assets_fee_is_valued_when_it_has_a_price_and_kept_apart_when_not() -> None:
    orders = [order("buy", ("1", "100"), fee="0.01", asset="BNB"), order("sell", ("1", "103"))]
    assert result(tally(orders, MARKETS), "BTC", "USDT", lambda asset, quote: D(300)).profit == D(0)
    apart = result(tally(orders, MARKETS), "BTC", "USDT", no_price)
    assert (apart.profit, apart.unvalued) == (D(3), {"BNB": D("0.01")})


def test_nothing_traded_earned_nothing() -> None:
    outcome = result(tally([order("buy"), order("sell")], MARKETS), "BTC", "USDT", no_price)
    assert (outcome.profit, outcome.residual, outcome.tally.vwap) == (0, 0, None)


def test_an_inverse_leg_counts_contracts_as_quote() -> None:
    # 5 contracts of 100 USD sold at 50000 are 0.01 BTC and 500 USD.
    sums = tally([order("sell", ("5", "50000"), market=INVERSE.key)], {INVERSE.key: INVERSE})
    assert (sums.sold, sums.received) == (D("0.01"), D(500))


parts = st.lists(
    st.tuples(
        st.integers(1, 10**6).map(lambda n: str(D(n) / 10**4)), st.integers(1, 10**7).map(lambda n: str(D(n) / 100))
    ),
    max_size=6,
)


@given(parts, parts)
def test_profit_is_quote_in_less_quote_out_plus_the_rest(
    bought: list[tuple[str, str]], sold: list[tuple[str, str]]
) -> None:
    sums = tally([order("buy", *bought), order("sell", *sold)], MARKETS)
    outcome = result(sums, "BTC", "USDT", no_price)
    cash = sum((D(q) * D(p) for q, p in sold), D(0)) - sum((D(q) * D(p) for q, p in bought), D(0))
    rest = outcome.residual * (sums.entry_price or 0)
    assert abs(outcome.profit - cash - rest) < D("1e-12")
    assert outcome.residual == sum((D(q) for q, _ in bought), D(0)) - sum((D(q) for q, _ in sold), D(0))


@given(parts)
def test_an_order_never_spends_more_than_it_reserved(bought: list[tuple[str, str]]) -> None:
    market = spot("alpha")
    if not bought:
        return
    quantity = sum((D(q) for q, _ in bought), D(0))
    worst = max(D(p) for _, p in bought)
    made = Order(intent(str(quantity), str(worst), market=market.key), S.SENDING)
    for number, (size, price) in enumerate(bought):
        fee = D(size) * D(price) * market.taker_fee
        one = fill(f"t{number}", size, price, market=market.key, fee=fee, fee_asset="USDT")
        made.apply(event(S.PARTIALLY_FILLED, one))
    asset, reserved = needed(market, "buy", quantity, worst)
    assert asset == "USDT"
    assert spent(made, market) <= reserved


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_percentiles_are_upper_bounds_within_a_bucket(values: list[int], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = sorted(values)[max(0, -(-len(values) * share // 1).__int__() - 1)] if share < 1 else max(values)
    bound = histogram.percentile(share)
    assert bound <= max(values)
    assert bound >= min(exact, max(values)) * 0.99 - 1
    assert histogram.summary()["count"] == len(values)
