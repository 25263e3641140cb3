"""Paper limit orders that rest: filled only where a real one would be, for the maker's fee, with money set aside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.worlds import VirtualClock, spot
from tests.execution.makers import intent
from trading.exchanges.paper import PaperVenue
from trading.instruments import Market, Side
from trading.marketdata.book import Book
from trading.messages import (
    AccountBalance,
    OrderEvent,
    OrderIntent,
    Outcome,
    PlaceResult,
    PublicTrade,
    StreamState,
    TimeInForce,
)
from trading.messages import OrderState as S

D = Decimal
GTC, POST_ONLY = TimeInForce.GTC, TimeInForce.POST_ONLY
MARKET = spot("alpha", min_notional=D(5), taker_fee=D("0.001"), maker_fee=D("0.0005"))
MONEY = {"USDT": D(10_000), "BTC": D(10)}


class Resting:
    """A paper account on one market whose books and trades are the test's. Bid 99 for 2, ask 101 for 3."""

    def __init__(self, market: Market = MARKET, money: dict[str, Decimal] = MONEY) -> None:
        self.clock = VirtualClock()
        self.market = market
        self.book = Book(market)
        self.book.bids.replace([(99.0, 2.0), (98.0, 3.0)])
        self.book.asks.replace([(101.0, 3.0), (102.0, 3.0)])
        self.live = True
        self.told: list[OrderEvent | AccountBalance | StreamState] = []
        self.watchers: list[tuple[Callable[[], None], Callable[[PublicTrade], None] | None]] = []
        self.venue = PaperVenue(
            1,
            market.exchange,
            [market],
            money,
            book_of=lambda _: self.book if self.live else None,
            clock=self.clock,
            watch=self._watch,
        )
        self.venue._listener = self.told.append
        self.sent: list[OrderIntent] = []

    def _watch(
        self, market: Market, on_change: Callable[[], None], on_trade: Callable[[PublicTrade], None] | None = None
    ) -> Callable[[], None]:
        watcher = (on_change, on_trade)
        self.watchers.append(watcher)
        return lambda: self.watchers.remove(watcher)

    async def place(
        self, quantity: str, price: str, side: Side = "buy", time_in_force: TimeInForce = GTC, **changes: object
    ) -> PlaceResult:
        name = f"o{len(self.sent) + 1}"
        terms: dict[str, object] = {"client_order_id": name, "market": self.market.key, "time_in_force": time_in_force}
        self.sent.append(intent(quantity, price, side, **terms, **changes))
        task = asyncio.ensure_future(self.venue.place(self.sent[-1]))
        await self.clock.run_until(task.done)
        return task.result()

    async def cancel(self, order: OrderIntent) -> PlaceResult:
        task = asyncio.ensure_future(self.venue.cancel(order))
        await self.clock.run_until(task.done)
        return task.result()

    async def query(self, order: OrderIntent) -> OrderEvent | None:
        task = asyncio.ensure_future(self.venue.query(order))
        await self.clock.run_until(task.done)
        return task.result()

    async def show(self, bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> None:
        self.book.bids.replace(bids)
        self.book.asks.replace(asks)
        for on_change, _ in list(self.watchers):
            on_change()
        await self.clock.advance(0.1)

    async def trade(self, price: float, size: float, side: Side) -> None:
        """Print a public trade; ``side`` is the taker's."""
        for _, on_trade in list(self.watchers):
            assert on_trade is not None
            on_trade(PublicTrade(self.market.key, price, size, side, 0, 0))
        await self.clock.advance(0.1)

    def last(self) -> OrderEvent:
        return [message for message in self.told if isinstance(message, OrderEvent)][-1]

    async def money(self) -> dict[str, tuple[Decimal, Decimal]]:
        return {balance.asset: (balance.free, balance.used) for balance in await self.venue.balances()}


async def test_an_order_inside_the_spread_rests_with_its_money_set_aside() -> None:
    paper = Resting()
    result = await paper.place("2", "100")
    (event,) = result.events
    assert (event.state, event.filled, event.fills) == (S.PLACED, D(0), ())
    assert await paper.money() == {"BTC": (D(10), D(0)), "USDT": (D(9_800), D(200))}
    (open_order,) = await paper.venue.open_orders()
    assert (open_order.client_order_id, open_order.state) == ("o1", S.PLACED)
    assert len(paper.watchers) == 1


async def test_the_other_side_reaching_its_price_fills_it_there_as_a_maker() -> None:
    paper = Resting()
    await paper.place("2", "100")
    await paper.show([(99.0, 2.0)], [(99.9, 0.5), (101.0, 3.0)])
    event = paper.last()
    assert (event.state, event.filled, event.source) == (S.PARTIALLY_FILLED, D("0.5"), "stream")
    await paper.show([(99.0, 2.0)], [(100.0, 4.0)])
    event = paper.last()
    assert (event.state, event.filled) == (S.FILLED, D(2))
    # At its own limit, never better; the maker's fee, in what was received.
    assert [(fill.price, fill.liquidity, fill.fee) for fill in event.fills] == [
        (D(100), "maker", D("0.00025")),
        (D(100), "maker", D("0.00075")),
    ]
    assert await paper.money() == {"BTC": (D(12) - D("0.001"), D(0)), "USDT": (D(9_800), D(0))}
    assert not paper.watchers, "nothing rests there any more"
    assert list(await paper.venue.open_orders()) == []


async def test_what_stands_at_its_price_is_taken_once() -> None:
    paper = Resting()
    await paper.place("2", "100")
    for _ in range(3):
        await paper.show([(99.0, 2.0)], [(100.0, 0.5)])
    assert paper.last().filled == D("0.5")


async def test_a_marketable_order_takes_first_and_rests_with_what_is_left() -> None:
    paper = Resting()
    result = await paper.place("4", "101")
    (event,) = result.events
    assert (event.state, event.filled) == (S.PARTIALLY_FILLED, D(3))
    assert [fill.liquidity for fill in event.fills] == ["taker"]
    assert await paper.money() == {"BTC": (D(13) - D("0.003"), D(0)), "USDT": (D(10_000) - D(404), D(101))}
    await paper.trade(100.5, 5.0, "sell")
    assert [fill.liquidity for fill in paper.last().fills] == ["taker", "maker"]
    assert paper.last().state is S.FILLED


async def test_a_trade_through_its_price_would_have_come_to_it() -> None:
    paper = Resting()
    await paper.place("2", "100", "sell")
    await paper.trade(100.5, 0.7, "sell")  # a seller met a bid up there: that buyer stands on our side of nothing
    await paper.trade(99.5, 5.0, "buy")  # below our price: no buyer of it came to us
    assert await paper.venue.open_orders()
    await paper.trade(100.5, 0.7, "buy")
    event = paper.last()
    assert (event.state, event.filled, event.fills[0].price) == (S.PARTIALLY_FILLED, D("0.7"), D(100))
    assert event.fills[0].fee_asset == "USDT"


async def test_a_trade_at_its_price_fills_it_behind_the_queue() -> None:
    paper = Resting()
    await paper.place("1", "99")  # behind the 2 that stand there
    await paper.trade(99.0, 1.5, "sell")
    assert not [told for told in paper.told if isinstance(told, OrderEvent) and told.fills]
    await paper.trade(99.0, 0.8, "sell")
    assert paper.last().filled == D("0.3")
    await paper.trade(99.0, 0.7, "sell")
    assert paper.last().state is S.FILLED


async def test_the_queue_is_no_longer_than_its_level() -> None:
    paper = Resting()
    await paper.place("1", "99")
    await paper.show([(99.0, 0.4)], [(101.0, 3.0)])
    await paper.trade(99.0, 0.5, "sell")
    assert paper.last().filled == D("0.1")


async def test_one_trade_is_given_away_once_best_price_first() -> None:
    paper = Resting()
    await paper.place("1", "99.5")
    await paper.place("1", "100")
    await paper.trade(99.2, 1.5, "sell")
    events = [told for told in paper.told if isinstance(told, OrderEvent) and told.fills]
    filled = {event.client_order_id: event.filled for event in events}
    assert filled == {"o1": D("0.5"), "o2": D(1)}


async def test_a_cancellation_gives_the_money_back_and_a_second_one_finds_nothing() -> None:
    paper = Resting()
    await paper.place("2", "100")
    await paper.trade(99.0, 0.5, "sell")
    result = await paper.cancel(paper.sent[0])
    assert result.outcome is Outcome.PLACED
    assert (paper.last().state, paper.last().filled) == (S.CANCELLED, D("0.5"))
    assert await paper.money() == {"BTC": (D("10.5") - D("0.00025"), D(0)), "USDT": (D(9_950), D(0))}
    assert not paper.watchers
    again = await paper.cancel(paper.sent[0])
    assert (again.outcome, again.code) == (Outcome.REJECTED, "NOT_OPEN")
    await paper.trade(99.0, 5.0, "sell")
    assert paper.last().filled == D("0.5")


async def test_post_only_never_takes() -> None:
    paper = Resting()
    refused = await paper.place("1", "101", time_in_force=POST_ONLY)
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "POST_ONLY")
    result = await paper.place("1", "100.99", time_in_force=POST_ONLY)
    assert result.events[0].state is S.PLACED


async def test_a_book_that_is_not_live_fills_nothing() -> None:
    paper = Resting()
    await paper.place("2", "100")
    paper.live = False
    await paper.show([(99.0, 2.0)], [(99.0, 9.0)])
    assert paper.last().state is S.PLACED


async def test_money_that_is_set_aside_cannot_be_spent_twice() -> None:
    paper = Resting()
    await paper.place("80", "100")
    refused = await paper.place("30", "100")
    assert (refused.code, refused.message) == ("BALANCE", "2000 USDT is free, 3000 is needed")


async def test_a_derivative_sets_its_margin_aside() -> None:
    perpetual = spot(
        "alpha", "BTC/USDT", kind="linear", settle="USDT", contract_size=D("0.1"), lot=D(1), min_amount=D(1),
        maker_fee=D("0.0005"),
    )  # fmt: skip
    paper = Resting(perpetual, {"USDT": D(1000)})
    await paper.place("10", "100")
    assert await paper.money() == {"USDT": (D(900), D(100))}
    await paper.trade(99.0, 4.0, "sell")
    # Margin at rest becomes margin of the position: 4 contracts of 0.1 at 100 are 40.
    assert await paper.money() == {"USDT": (D(900) - D("0.02"), D(100))}
    await paper.cancel(paper.sent[0])
    assert await paper.money() == {"USDT": (D(960) - D("0.02"), D(40))}


async def test_it_does_not_outlive_its_process_and_says_so() -> None:
    paper = Resting()
    before = intent("1", "100", client_order_id="old", market=MARKET.key, time_in_force=GTC, created_ns=1)
    event = await paper.query(before)
    assert event is not None
    assert (event.state, event.filled, event.cause) == (
        S.CANCELLED,
        D(0),
        "paper orders that rest end with their process",
    )
    ioc = intent("1", "100", client_order_id="old", market=MARKET.key, created_ns=1)
    assert await paper.query(ioc) is None


async def test_without_anybody_to_tell_of_fills_nothing_may_rest() -> None:
    paper = Resting()
    paper.venue._watch = None
    refused = await paper.place("1", "100")
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "TIME_IN_FORCE")


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.integers(95, 105), st.integers(1, 40), st.sampled_from(["buy", "sell"])),
        st.tuples(st.just("book"), st.integers(95, 105), st.integers(1, 40), st.just("buy")),
        st.tuples(st.just("trade"), st.integers(95, 105), st.integers(1, 40), st.sampled_from(["buy", "sell"])),
        st.tuples(st.just("cancel"), st.integers(0, 9), st.just(1), st.just("buy")),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=150)
@given(MOVES)
def test_money_is_conserved_and_no_order_fills_beyond_itself(moves: list[tuple[str, int, int, Side]]) -> None:
    async def live() -> None:
        paper = Resting()
        for kind, number, size, side in moves:
            quantity = D(size) / 10
            if kind == "place":
                await paper.place(str(quantity), str(number), side)
            elif kind == "book":
                await paper.show([(number - 1.0, size / 10)], [(number + 0.0, size / 10)])
            elif kind == "trade":
                await paper.trade(float(number), size / 10, side)
            elif paper.sent:
                await paper.cancel(paper.sent[number % len(paper.sent)])
        money, expected = await paper.money(), dict(MONEY)
        held = {"BTC": D(0), "USDT": D(0)}
        orders = {order.client_order_id: order for order in paper.sent}
        for fill in await paper.venue.trades(MARKET.key, 0):
            sign = 1 if fill.side == "buy" else -1
            expected["BTC"] += sign * fill.quantity
            expected["USDT"] -= sign * fill.quantity * fill.price
            assert fill.fee is not None
            expected[fill.fee_asset] -= fill.fee
            limit = orders[fill.client_order_id].price
            assert fill.price <= limit if fill.side == "buy" else fill.price >= limit
        for event in await paper.venue.open_orders():
            order = orders[event.client_order_id]
            assert event.filled is not None
            left = order.quantity - event.filled
            assert left > 0
            held["USDT" if order.side == "buy" else "BTC"] += left * (order.price if order.side == "buy" else 1)
        for asset, (free, used) in money.items():
            assert free >= 0
            assert used == held[asset]
            assert free + used == expected[asset]
        assert bool(paper.watchers) == bool(await paper.venue.open_orders())

    asyncio.run(live())


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_news_of_a_fill_takes_its_way(side: Side) -> None:
    paper = Resting()
    await paper.place("1", "100", side)
    began = paper.clock.monotonic_ns()
    for _, on_trade in list(paper.watchers):
        assert on_trade is not None
        on_trade(PublicTrade(MARKET.key, 100.0, 5.0, "sell" if side == "buy" else "buy", 0, 0))
    assert paper.last().state is S.PLACED
    await paper.clock.run_until(lambda: paper.last().state is S.FILLED)
    assert paper.clock.monotonic_ns() > began
