"""What the fills of a pair leave: held, unhedged, earned. By hand, and for any fills of the closing legs."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.engine.basis_world import perpetual
from tests.engine.worlds import spot
from trading.basis import BasisStanding
from trading.execution.order import Order
from trading.execution.pair import entry_bps, fees_in_quote, pair_of, result_of_pair, unhedged
from trading.instruments import Market, Side
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState

D = Decimal
SPOT, PERP = spot("alpha"), perpetual("beta")
MARKETS = {SPOT.key: SPOT, PERP.key: PERP}


def order(leg: int, side: Side, filled: str | Decimal, price: str) -> Order:
    """An order that has filled so much; spot purchases pay a tenth of a percent in base, the rest pays in quote."""
    market: Market = PERP if leg % 2 else SPOT
    quantity = D(filled)
    intent = OrderIntent(
        client_order_id=f"order{leg}{side}", trade_id="trade", account_id=1, market=market.key, leg=leg, attempt=0,
        side=side, price=D(price), quantity=max(quantity, D("0.001")), deadline_ns=0, created_ns=0,
    )  # fmt: skip
    made = Order(intent, OrderState.SENDING)
    in_base = market is SPOT and side == "buy"
    fee = quantity * D("0.001") if in_base else quantity * D(price) * market.taker_fee
    fill = Fill(
        account_id=1, market=market.key, exchange_trade_id=f"{leg}{side}", exchange_order_id="1",
        client_order_id=intent.client_order_id, side=side, price=D(price), quantity=quantity, fee=fee,
        fee_asset="BTC" if in_base else "USDT", liquidity="taker", exchange_ns=0,
    )  # fmt: skip
    state = OrderState.FILLED if quantity else OrderState.CANCELLED
    made.apply(
        OrderEvent(
            account_id=1, market=market.key, client_order_id=intent.client_order_id, state=state, filled=quantity,
            fills=(fill,) if quantity else (), source="stream",
        )
    )  # fmt: skip
    return made


ENTRY = [order(0, "buy", "1", "50000"), order(1, "sell", "1", "50500")]
NOTHING = BasisStanding()


def residual(*orders: Order, standing: BasisStanding = NOTHING) -> Decimal:
    return unhedged([*orders], MARKETS, SPOT, PERP, standing).residual


def test_what_is_held_is_less_by_the_fee_that_was_taken_of_it() -> None:
    pair = pair_of(ENTRY, SPOT, PERP)
    assert (pair.spot, pair.perp) == (D("0.999"), D(1))
    assert (pair.spot_price, pair.perp_price) == (D(50_000), D(50_500))
    assert residual(*ENTRY) == 0
    # 100 bps, less 10 twice, 5 at 101 % and 5
    assert entry_bps(pair, SPOT, PERP) == D("69.95")
    # 0.001 of 50,000, and 5 bps of 50,500
    assert fees_in_quote(ENTRY, SPOT, lambda asset, quote: None) == D("75.25")


def test_an_entry_that_is_uneven_has_the_difference_unhedged() -> None:
    assert residual(ENTRY[0], order(1, "sell", "0.4", "50500")) == D("0.6")
    assert residual(order(0, "buy", "0.4", "50000"), ENTRY[1]) == D("-0.6")


def test_closing_legs_that_differ_by_the_fee_are_even() -> None:
    closed = [*ENTRY, order(2, "sell", "0.999", "50200"), order(3, "buy", "1", "50200")]
    assert residual(*closed) == 0
    found = result_of_pair(closed, MARKETS, SPOT, PERP, BasisStanding(funding=D(3)), lambda asset, quote: None)
    assert found.residual == 0
    # 500 between the entries; what went as a fee could not be sold; fees of three orders in quote; funding
    fees = D("50500") * D("0.0005") + D("50200") * D("0.999") * D("0.001") + D("50200") * D("0.0005")
    assert found.profit == 500 - D("0.001") * 50_200 - fees + 3


def test_a_held_pair_has_lost_its_fees_only() -> None:
    found = result_of_pair(ENTRY, MARKETS, SPOT, PERP, NOTHING, lambda asset, quote: None)
    assert found.profit == -D("75.25")
    assert found.residual == D("-0.001")


def test_what_others_closed_counts_as_bought_back() -> None:
    lost = BasisStanding(outside=D(1), outside_price=D(60_000), outside_spot=D(59_000))
    assert residual(*ENTRY, standing=lost) == D("0.999")
    sold = [*ENTRY, order(2, "sell", "0.999", "59000")]
    assert residual(*sold, standing=lost) == 0
    found = result_of_pair(sold, MARKETS, SPOT, PERP, lost, lambda asset, quote: None)
    fees = D("50500") * D("0.0005") + D("59000") * D("0.999") * D("0.001")
    assert found.profit == (50_500 - 60_000) + D("0.999") * 59_000 - 50_000 - fees
    half = BasisStanding(outside=D("0.5"), outside_price=D(60_000))
    assert residual(*ENTRY, standing=half) == D("0.499")  # the half that went is even with the fee


def test_a_leg_that_is_closed_leaves_all_of_the_other_unhedged() -> None:
    """Lots differ: what is missing of the perpetual would else be rounded below what there is of it."""
    assert residual(*ENTRY, order(2, "sell", "0.999", "50000"), order(3, "buy", "0.5", "50000")) == D("-0.5")
    assert residual(*ENTRY, order(2, "sell", "0.5", "50000"), order(3, "buy", "1", "50000")) == D("0.499")


share = st.integers(0, 998).map(lambda thousandths: D(thousandths) / 1000)


@given(share, share)
def test_what_is_left_of_both_legs_is_even_once_the_residual_is_traded(sold: Decimal, bought: Decimal) -> None:
    orders = [*ENTRY, order(2, "sell", sold, "50000"), order(3, "buy", bought, "50000")]
    left = residual(*orders)
    if left > 0:
        orders.append(order(4, "sell", left, "50000"))
    elif left < 0:
        orders.append(order(5, "buy", -left, "50000"))
    assert residual(*orders) == 0
    pair = pair_of(orders, SPOT, PERP)
    assert 0 <= pair.perp - pair.spot <= D("0.001")
    assert pair.spot >= 0
