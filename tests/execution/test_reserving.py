"""What an order on a contract reserves: its margin, never less than the simulated exchange takes."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchangesim.core.orders import Reject, Rejected
from exchangesim.core.orders import Side as SimSide
from tests.exchangesim.futures.contracts import NATIVE, RULES, make_account, make_contracts, order
from trading.execution.order import Order
from trading.execution.reserving import needed, spent
from trading.instruments import Market, Side
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState

D = Decimal
CONTRACT = Market(
    exchange="test", symbol=RULES.symbol, native_id=NATIVE, base="BTC", quote="USDT", settle="USDT", kind="linear",
    tick=RULES.tick, lot=RULES.lot, taker_fee=RULES.taker_fee, maker_fee=RULES.maker_fee,
)  # fmt: skip


@pytest.mark.parametrize(
    ("side", "price", "leverage", "mark", "amount"),
    [
        # A tenth of 25,000 and 5 bps of fees.
        ("buy", "50000", 10, "50000", "2512.5"),
        # 25,250 / 10, 12.625 of fees, and 250 lost at once: it may pay 500 more than the coin is worth.
        ("buy", "50500", 10, "50000", "2787.625"),
        ("sell", "49500", 10, "50000", "2737.375"),
        # A better price loses nothing.
        ("sell", "50500", 10, "50000", "2537.625"),
        ("buy", "50000", 10, None, "2512.5"),
        # Without a leverage the exchange's own is not known: all of it.
        ("buy", "50000", None, "50000", "25012.5"),
    ],
)
def test_half_a_coin_by_hand(side: Side, price: str, leverage: int | None, mark: str | None, amount: str) -> None:
    found = needed(CONTRACT, side, D("0.5"), D(price), leverage=leverage, mark=None if mark is None else D(mark))
    assert found == ("USDT", D(amount))


def test_leverage_is_of_linear_contracts_alone() -> None:
    spot = Market(exchange="x", symbol="A/B", native_id="AB", base="A", quote="B")
    inverse = Market(
        exchange="x", symbol="A/B:A", native_id="AB", base="A", quote="B", kind="inverse", contract_size=D(100)
    )
    for market in (spot, inverse):
        plain = needed(market, "buy", D(3), D(100))
        assert needed(market, "buy", D(3), D(100), leverage=10, mark=D(90)) == plain


@settings(deadline=None)
@given(
    side=st.sampled_from(["buy", "sell"]),
    quantity=st.decimals("0.001", "10", places=3),
    beyond=st.integers(-200, 500),
    leverage=st.integers(1, 50),
)
def test_what_is_reserved_is_enough_for_the_exchange_and_covers_what_it_took(
    side: Side, quantity: Decimal, beyond: int, leverage: int
) -> None:
    exchange = make_contracts()
    mark = exchange.mark(NATIVE)
    price = mark + (beyond if side == "buy" else -beyond)
    _, reserved = needed(CONTRACT, side, quantity, price, leverage=leverage, mark=mark)
    if quantity * price < RULES.min_notional:
        return
    account = make_account(exchange, wallet=str(reserved))
    exchange.set_leverage(account, NATIVE, leverage)
    before = exchange.margin(account, "USDT").available
    placed = exchange.place(account, order(SimSide(side.upper()), str(quantity), str(price)))
    assert before - exchange.margin(account, "USDT").available <= reserved
    assert placed.filled in (0, quantity)
    if beyond > 0:
        assert placed.filled == quantity


@settings(deadline=None)
@given(side=st.sampled_from(["buy", "sell"]), beyond=st.integers(1, 500), leverage=st.integers(1, 50))
def test_with_less_than_the_margin_and_the_loss_the_exchange_refuses(side: Side, beyond: int, leverage: int) -> None:
    exchange = make_contracts()
    price = exchange.mark(NATIVE) + (beyond if side == "buy" else -beyond)
    _, reserved = needed(CONTRACT, side, D(1), price, leverage=leverage, mark=exchange.mark(NATIVE))
    fee = price * CONTRACT.taker_fee
    account = make_account(exchange, wallet=str((reserved - fee).quantize(D("0.01")) - D("0.02")))
    exchange.set_leverage(account, NATIVE, leverage)
    with pytest.raises(Rejected) as refused:
        exchange.place(account, order(SimSide(side.upper()), "1", str(price)))
    assert refused.value.reason is Reject.INSUFFICIENT_BALANCE


def test_a_settled_order_took_the_filled_part_of_what_it_had_reserved() -> None:
    asset, amount = needed(CONTRACT, "buy", D("0.5"), D(50_500), leverage=10, mark=D(50_000))
    intent = OrderIntent(
        client_order_id="c", trade_id="t", account_id=1, market=CONTRACT.key, leg=0, attempt=0, side="buy",
        price=D(50_500), quantity=D("0.5"), deadline_ns=1, created_ns=0, reserve_asset=asset, reserve_amount=amount,
    )  # fmt: skip
    made = Order(intent, OrderState.SENDING)
    fill = Fill(
        account_id=1, market=CONTRACT.key, exchange_trade_id="1", exchange_order_id="1", client_order_id="c",
        side="buy", price=D(50_000), quantity=D("0.2"), fee=None, fee_asset="", liquidity="taker", exchange_ns=0,
    )  # fmt: skip
    made.apply(
        OrderEvent(
            account_id=1, market=CONTRACT.key, client_order_id="c", state=OrderState.CANCELLED, filled=D("0.2"),
            fills=(fill,), source="stream",
        )
    )  # fmt: skip
    assert spent(made, CONTRACT) == amount * D("0.4")
    assert spent(made, CONTRACT) >= D("0.2") * 50_000 / 10 + D("0.2") * 50_000 * CONTRACT.taker_fee
