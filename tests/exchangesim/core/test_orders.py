"""What becomes of each kind of order."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchangesim.core.exchange import SimExchange
from exchangesim.core.orders import CloseReason, NewOrder, Reject, Rejected, Side, Status
from exchangesim.core.policy import ExchangePolicy
from tests.exchangesim.core.venue import NATIVE, Heard, buy, levels, make_account, make_exchange, sell, totals

D = Decimal


@pytest.fixture
def exchange() -> SimExchange:
    """A book of 1 at 99 and 98, and 1 at 101 and 102."""
    exchange = make_exchange()
    exchange.apply_levels(NATIVE, levels(("99", "1"), ("98", "1")), levels(("101", "1"), ("102", "1")))
    return exchange


def top(exchange: SimExchange) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
    book = exchange.markets[NATIVE].book
    return book.bids.top(3), book.asks.top(3)


def test_a_limit_order_within_the_spread_rests_and_is_published(exchange: SimExchange) -> None:
    order = exchange.place(make_account(exchange), buy("100", "0.5"))
    assert order.status is Status.NEW
    assert top(exchange)[0][0] == (D(100), D("0.5"))


def test_an_order_takes_the_best_price_first_at_the_makers_price(exchange: SimExchange) -> None:
    order = exchange.place(make_account(exchange), buy("102", "1.5"))
    assert order.status is Status.FILLED
    assert order.filled_quote == D("101") + D("0.5") * 102
    assert top(exchange)[1] == levels(("102", "0.5"))


def test_what_a_gtc_order_cannot_take_rests(exchange: SimExchange) -> None:
    order = exchange.place(make_account(exchange), buy("101", "1.5"))
    assert (order.status, order.filled) == (Status.PARTIALLY_FILLED, D(1))
    assert top(exchange)[0][0] == (D(101), D("0.5"))


def test_the_rest_of_an_ioc_order_expires(exchange: SimExchange) -> None:
    account = make_account(exchange)
    order = exchange.place(account, buy("101", "1.5", tif="IOC"))
    assert (order.status, order.filled, order.close_reason) == (Status.EXPIRED, D(1), CloseReason.IOC_REST)
    assert account.balance("USDT").locked == 0


def test_a_fok_order_that_cannot_fill_whole_takes_nothing(exchange: SimExchange) -> None:
    account = make_account(exchange)
    order = exchange.place(account, buy("102", "2.01", tif="FOK"))
    assert (order.status, order.filled, order.close_reason) == (Status.EXPIRED, D(0), CloseReason.FOK_UNFILLED)
    assert account.balance("USDT").total == 100_000
    assert exchange.place(account, buy("102", "2", tif="FOK")).status is Status.FILLED


def test_a_market_order_by_base_quantity_walks_the_book(exchange: SimExchange) -> None:
    order = exchange.place(make_account(exchange), sell(None, "1.5"))
    assert (order.status, order.filled_quote) == (Status.FILLED, D(99) + D(49))


def test_a_market_order_beyond_the_book_expires_with_what_it_got(exchange: SimExchange) -> None:
    order = exchange.place(make_account(exchange), sell(None, "5"))
    assert (order.status, order.filled, order.close_reason) == (Status.EXPIRED, D(2), CloseReason.MARKET_REST)


def test_a_market_buy_by_quote_amount_spends_no_more_than_asked(exchange: SimExchange) -> None:
    account = make_account(exchange)
    order = exchange.place(account, buy(None, None, quote="150"))
    assert (order.status, order.filled) == (Status.FILLED, D("1.48"))  # 101 + 0.48 x 102 = 149.96
    assert account.balance("USDT").total == D(100_000) - D("149.96")
    assert account.balance("USDT").locked == 0


def test_a_market_sell_by_quote_amount_raises_no_more_than_asked(exchange: SimExchange) -> None:
    order = exchange.place(make_account(exchange), sell(None, None, quote="150"))
    assert (order.status, order.filled) == (Status.FILLED, D("1.52"))  # 99 + 0.52 x 98 = 149.96


def test_fees_are_taken_from_what_is_received(exchange: SimExchange) -> None:
    account = make_account(exchange)
    exchange.place(account, buy("101", "1"))
    assert account.balance("BTC").total == D("100.998")
    exchange.place(account, sell("99", "1"))
    assert account.balance("USDT").total == D(100_000) - 101 + 99 - D("0.198")
    assert exchange.fees == {"BTC": D("0.002"), "USDT": D("0.198")}


def test_a_maker_pays_the_maker_fee_and_is_filled_at_its_price(exchange: SimExchange) -> None:
    maker, taker = make_account(exchange, "maker"), make_account(exchange, "taker")
    resting = exchange.place(maker, sell("100.5", "1"))
    exchange.place(taker, buy("102", "1"))
    assert resting.status is Status.FILLED
    assert maker.balance("USDT").total == D(100_000) + D("100.5") * D("0.999")
    assert taker.balance("BTC").total == D(100) + D("0.998")


def test_at_one_price_the_older_order_fills_first(exchange: SimExchange) -> None:
    first, second = make_account(exchange, "first"), make_account(exchange, "second")
    older, newer = exchange.place(first, sell("100", "1")), exchange.place(second, sell("100", "1"))
    exchange.place(make_account(exchange, "taker"), buy("100", "1.5"))
    assert (older.filled, newer.filled) == (D(1), D("0.5"))


def test_an_order_stands_behind_what_the_market_showed_at_its_price(exchange: SimExchange) -> None:
    order = exchange.place(make_account(exchange), sell("101", "1"))
    exchange.market_trade(NATIVE, Side.BUY, D("1"))
    assert order.filled == 0
    exchange.market_trade(NATIVE, Side.BUY, D("0.25"))
    assert order.filled == D("0.25")


def test_liquidity_that_comes_later_at_the_price_stands_behind_the_order(exchange: SimExchange) -> None:
    order = exchange.place(make_account(exchange), sell("100", "1"))
    exchange.apply_levels(NATIVE, (), levels(("100", "3")))
    exchange.market_trade(NATIVE, Side.BUY, D("1"))
    assert order.status is Status.FILLED
    assert top(exchange)[1][0] == (D(100), D(3))


def test_a_market_that_moves_through_an_order_fills_it_at_its_price(exchange: SimExchange) -> None:
    account = make_account(exchange)
    order = exchange.place(account, buy("100", "1.5"))
    exchange.apply_levels(NATIVE, (), levels(("99.5", "1")))
    assert (order.filled, order.filled_quote) == (D(1), D(100))
    assert top(exchange)[1][0] == (D(101), D(1)), "the quantity that traded is not shown"
    exchange.apply_levels(NATIVE, (), levels(("99.5", "2")))
    assert order.status is Status.FILLED
    assert top(exchange)[1][0] == (D("99.5"), D("1.5"))


def test_a_market_that_crosses_itself_is_never_published_crossed(exchange: SimExchange) -> None:
    exchange.apply_levels(NATIVE, levels(("101.5", "2")), ())
    bids, asks = top(exchange)
    assert bids[0] == (D("101.5"), D(2))
    assert asks[0] == (D(102), D(1))


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (buy("100.3", "1"), Reject.PRICE_TICK),
        (buy("0", "1"), Reject.BAD_PRICE),
        (buy("-1", "1"), Reject.BAD_PRICE),
        (buy("NaN", "1"), Reject.BAD_PRICE),
        (buy("Infinity", "1"), Reject.BAD_PRICE),
        (buy("1E+400", "1"), Reject.PRICE_BAND),
        (buy("1E-400", "1"), Reject.PRICE_BAND),
        (buy("100", "0"), Reject.BAD_QUANTITY),
        (buy("100", "-1"), Reject.BAD_QUANTITY),
        (buy("100", "NaN"), Reject.BAD_QUANTITY),
        (buy("100", "0.001"), Reject.QUANTITY_TOO_SMALL),
        (buy("100", "1.005"), Reject.QUANTITY_LOT),
        (buy("100", "1E+400"), Reject.QUANTITY_TOO_LARGE),
        (buy("100", "0.04"), Reject.NOTIONAL_TOO_SMALL),
        (buy("600", "1"), Reject.PRICE_BAND),
        (buy("19.5", "1"), Reject.PRICE_BAND),
        (buy("100.5", "1000"), Reject.INSUFFICIENT_BALANCE),
        (sell("100", "100.01"), Reject.INSUFFICIENT_BALANCE),
        (sell(None, "100.01"), Reject.INSUFFICIENT_BALANCE),
        (buy(None, None, quote="100001"), Reject.INSUFFICIENT_BALANCE),
        (buy(None, None, quote="4"), Reject.NOTIONAL_TOO_SMALL),
        (buy(None, "1", quote="100"), Reject.BAD_QUANTITY),
        (buy("101", "1", post_only=True), Reject.WOULD_TAKE),
        (NewOrder(native="NOSUCH", side=Side.BUY, type=buy("1", "1").type), Reject.UNKNOWN_SYMBOL),
    ],
)
def test_orders_that_break_a_rule_are_refused_and_change_nothing(
    exchange: SimExchange, order: NewOrder, reason: Reject
) -> None:
    account = make_account(exchange)
    before = exchange.markets[NATIVE].update_id
    with pytest.raises(Rejected) as refused:
        exchange.place(account, order)
    assert refused.value.reason is reason
    assert refused.value.detail.endswith(".")
    assert account.balance("USDT").free == 100_000
    assert exchange.markets[NATIVE].update_id == before
    assert exchange.store.orders("test") == []


def test_an_order_for_all_that_is_free_is_accepted(exchange: SimExchange) -> None:
    assert exchange.place(make_account(exchange), buy("100", "1000")).status is Status.NEW


def test_a_halted_market_takes_no_orders_but_lets_them_be_cancelled(exchange: SimExchange) -> None:
    account = make_account(exchange)
    order = exchange.place(account, buy("90", "1"))
    exchange.set_halted(NATIVE, True)
    with pytest.raises(Rejected) as refused:
        exchange.place(account, buy("90", "1"))
    assert refused.value.reason is Reject.SYMBOL_HALTED
    assert exchange.cancel(account, order_id=order.id).status is Status.CANCELED


def test_a_cancel_gives_back_exactly_what_was_reserved(exchange: SimExchange) -> None:
    account = make_account(exchange)
    order = exchange.place(account, buy("101", "3"))
    assert account.balance("USDT").locked == 202
    exchange.cancel(account, order_id=order.id)
    assert account.balance("USDT").locked == 0
    assert account.balance("USDT").free == 100_000 - 101


def test_cancelling_what_is_closed_or_not_ones_own_is_refused(exchange: SimExchange) -> None:
    account, other = make_account(exchange), make_account(exchange, "bob")
    order = exchange.place(account, buy("90", "1"))
    with pytest.raises(Rejected) as refused:
        exchange.cancel(other, order_id=order.id)
    assert refused.value.reason is Reject.ORDER_NOT_FOUND
    exchange.cancel(account, order_id=order.id)
    with pytest.raises(Rejected) as refused:
        exchange.cancel(account, order_id=order.id)
    assert refused.value.reason is Reject.ORDER_CLOSED
    assert refused.value.order is not None


def test_client_ids_are_free_again_after_the_order_closed_or_never(exchange: SimExchange) -> None:
    strict = make_exchange(policy=ExchangePolicy(client_ids_unique_forever=True))
    for venue, again in ((exchange, True), (strict, False)):
        account = make_account(venue)
        order = venue.place(account, buy("90", "1", client_id="mine"))
        with pytest.raises(Rejected) as refused:
            venue.place(account, buy("90", "1", client_id="mine"))
        assert refused.value.reason is Reject.DUPLICATE_CLIENT_ID
        venue.cancel(account, client_id="mine")
        if again:
            newer = venue.place(account, buy("90", "1", client_id="mine"))
            assert venue.shelf.find(account, client_id="mine") is newer
            assert venue.shelf.find(account, order_id=order.id) is order
        else:
            with pytest.raises(Rejected):
                venue.place(account, buy("90", "1", client_id="mine"))
        venue.place(make_account(venue, "bob"), buy("90", "1", client_id="mine"))


def test_a_crossing_post_only_order_is_cancelled_where_the_exchange_accepts_it_first() -> None:
    exchange = make_exchange(policy=ExchangePolicy(post_only_refused=False))
    exchange.apply_levels(NATIVE, (), levels(("101", "1")))
    account = make_account(exchange)
    order = exchange.place(account, buy("101", "1", post_only=True))
    assert (order.status, order.close_reason) == (Status.CANCELED, CloseReason.POST_ONLY_WOULD_TAKE)
    assert account.balance("USDT").locked == 0


def test_listeners_hear_things_in_the_order_they_happened(exchange: SimExchange) -> None:
    heard = Heard()
    exchange.listeners.append(heard)
    exchange.place(make_account(exchange), buy("102", "2.5", tif="IOC"))
    assert heard.events == [
        *("NEW:NEW", "balances"),
        *("TRADE:PARTIALLY_FILLED", "balances"),
        *("TRADE:PARTIALLY_FILLED", "balances"),
        *("EXPIRED:EXPIRED", "balances"),
        *("trades", "book", "top"),
    ]
    first, second = heard.trades
    assert first.aggregate_id != second.aggregate_id, "two prices"


def test_one_takers_trades_at_one_price_share_an_aggregate_id(exchange: SimExchange) -> None:
    for name in ("a", "b"):
        exchange.place(make_account(exchange, name), sell("100", "1"))
    heard = Heard()
    exchange.listeners.append(heard)
    exchange.place(make_account(exchange, "taker"), buy("101", "2.5"))
    assert [trade.price for trade in heard.trades] == [D(100), D(100), D(101)]
    first, second, third = (trade.aggregate_id for trade in heard.trades)
    assert first == second != third


def test_trading_with_oneself_conserves_funds(exchange: SimExchange) -> None:
    account = make_account(exchange)
    before = totals(exchange)
    exchange.place(account, sell("100", "1"))
    exchange.place(account, buy("100", "1"))
    assert totals(exchange) == before
    assert len(exchange.store.fills("test")) == 2
