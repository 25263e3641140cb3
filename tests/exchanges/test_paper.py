"""The paper venue: fills as the live book would give them, and never the same level twice."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from tests.engine.worlds import VirtualClock, spot
from tests.execution.makers import intent
from trading.exchanges.paper import REMEMBERED_SECONDS, PaperVenue
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.messages import AccountBalance, OrderEvent, Outcome, PlaceResult, StreamState, TimeInForce
from trading.messages import OrderState as S

D = Decimal
MARKET = spot("alpha", min_notional=D(5), taker_fee=D("0.001"))


class Paper:
    def __init__(self, market: Market = MARKET, balances: dict[str, Decimal] | None = None) -> None:
        self.clock = VirtualClock()
        self.market = market
        self.book = Book(market)
        self.book.asks.replace([(100.0, 2.0), (101.0, 3.0)])
        self.book.bids.replace([(99.0, 2.0), (98.0, 3.0)])
        self.live = True
        self.told: list[OrderEvent | AccountBalance | StreamState] = []
        self.venue = PaperVenue(
            1,
            market.exchange,
            [market],
            balances if balances is not None else {"USDT": D(1000), "BTC": D(10)},
            book_of=lambda _: self.book if self.live else None,
            clock=self.clock,
            one_way_seconds=0.5,
        )
        self._count = 0

    async def start(self) -> Paper:
        await self.venue.start(self.told.append)
        return self

    async def place(self, quantity: str, price: str, side: str = "buy", **changes: object) -> PlaceResult:
        self._count += 1
        settings: dict[str, object] = {"client_order_id": f"o{self._count}", "market": self.market.key, **changes}
        task = asyncio.ensure_future(self.venue.place(intent(quantity, price, side, **settings)))
        await self.clock.run_until(task.done)
        return task.result()

    async def money(self) -> dict[str, Decimal]:
        return {balance.asset: balance.free for balance in await self.venue.balances()}


async def test_a_buy_walks_the_asks_to_its_limit() -> None:
    paper = await Paper().start()
    result = await paper.place("4", "101")
    (event,) = result.events
    assert (event.state, event.filled) == (S.FILLED, D(4))
    assert [(fill.price, fill.quantity) for fill in event.fills] == [(D(100), D(2)), (D(101), D(2))]
    # The fee is in what was received.
    assert [(fill.fee, fill.fee_asset) for fill in event.fills] == [(D("0.002"), "BTC"), (D("0.002"), "BTC")]
    assert await paper.money() == {"BTC": D(14) - D("0.004"), "USDT": D(1000) - D(402)}


async def test_a_sell_walks_the_bids_to_its_limit_and_the_rest_is_cancelled() -> None:
    paper = await Paper().start()
    result = await paper.place("4", "99", "sell")
    (event,) = result.events
    assert (event.state, event.filled) == (S.CANCELLED, D(2))
    assert event.cause
    assert await paper.money() == {"BTC": D(8), "USDT": D(1000) + D(198) - D("0.198")}


async def test_an_order_meets_the_book_as_it_is_when_it_arrives() -> None:
    paper = await Paper().start()
    task = asyncio.ensure_future(paper.venue.place(intent("1", "100", market=paper.market.key, client_order_id="late")))
    await paper.clock.settle()
    paper.book.asks.replace([(100.5, 5.0)])
    await paper.clock.run_until(task.done)
    assert task.result().events[0].filled == 0
    assert paper.clock.monotonic_ns() > 10**9  # there and back


async def test_a_level_is_not_eaten_twice_and_what_comes_on_top_is_new() -> None:
    paper = await Paper().start()
    assert (await paper.place("1.5", "100")).events[0].filled == D("1.5")
    assert (await paper.place("1", "100")).events[0].filled == D("0.5")
    assert (await paper.place("1", "100")).events[0].filled == 0
    paper.book.asks.apply([(100.0, 2.5)])
    assert (await paper.place("1", "100")).events[0].filled == D("0.5")


async def test_fill_or_kill_fills_all_or_nothing() -> None:
    paper = await Paper().start()
    assert (await paper.place("3", "100", time_in_force=TimeInForce.FOK)).events[0].filled == 0
    assert (await paper.place("2", "100", time_in_force=TimeInForce.FOK)).events[0].filled == D(2)


async def test_a_market_that_is_not_live_fills_nothing() -> None:
    paper = await Paper().start()
    paper.live = False
    assert (await paper.place("1", "101")).events[0].filled == 0


@pytest.mark.parametrize(
    ("quantity", "price", "side", "changes", "code"),
    [
        ("10", "101", "buy", {}, "BALANCE"),
        ("10.1", "99", "sell", {}, "BALANCE"),
        ("1", "100.001", "buy", {}, "PRICE"),
        ("1.00001", "100", "buy", {}, "QUANTITY"),
        ("0.01", "100", "buy", {}, "NOTIONAL"),
        ("1", "100", "buy", {"market": "alpha:ETH/USDT"}, "UNKNOWN_MARKET"),
        ("1", "100", "buy", {"time_in_force": TimeInForce.GTC}, "TIME_IN_FORCE"),  # nobody tells it of books
    ],
)
async def test_what_an_exchange_refuses_is_refused(
    quantity: str, price: str, side: str, changes: dict[str, object], code: str
) -> None:
    paper = await Paper().start()
    before = await paper.money()
    result = await paper.place(quantity, price, side, **changes)
    assert (result.outcome, result.code) == (Outcome.REJECTED, code)
    assert result.message
    assert await paper.money() == before


async def test_an_id_is_taken_once() -> None:
    paper = await Paper().start()
    await paper.place("1", "100", client_order_id="same")
    result = await paper.place("1", "101", client_order_id="same")
    assert (result.outcome, result.code) == (Outcome.REJECTED, "DUPLICATE")


async def test_events_reach_the_listener_before_the_answer_and_can_be_asked_for() -> None:
    paper = await Paper().start()
    assert [type(message) for message in paper.told] == [AccountBalance, AccountBalance, StreamState]
    paper.told.clear()
    result = await paper.place("1", "100", client_order_id="one")
    assert [type(message) for message in paper.told] == [OrderEvent, AccountBalance, AccountBalance]
    asking = asyncio.ensure_future(paper.venue.query(intent(client_order_id="one", market=paper.market.key)))
    await paper.clock.run_until(asking.done)
    asked = asking.result()
    assert asked is not None
    assert asked.fills == result.events[0].fills
    other = asyncio.ensure_future(paper.venue.query(intent(client_order_id="two", market=paper.market.key)))
    await paper.clock.run_until(other.done)
    assert other.result() is None


async def test_a_linear_position_opens_turns_and_settles_to_the_last_digit() -> None:
    market = Market(
        exchange="alpha", symbol="BTC/USDT:USDT", native_id="BTCUSDT", base="BTC", quote="USDT", settle="USDT",
        kind="linear", contract_size=D("0.1"), tick=D("0.1"), lot=D(1), min_amount=D(1), taker_fee=D(0),
    )  # fmt: skip
    paper = Paper(market, {"USDT": D(1000)})
    paper.book.asks.replace([(100.0, 50.0)])
    paper.book.bids.replace([(110.0, 50.0)])
    await paper.start()
    await paper.place("10", "100")  # long 1 BTC at 100
    money = {balance.asset: (balance.free, balance.used) for balance in await paper.venue.balances()}
    assert money == {"USDT": (D(900), D(100))}
    await paper.place("15", "110", "sell")  # closes it with 10, opens short 0.5 BTC at 110
    money = {balance.asset: (balance.free, balance.used) for balance in await paper.venue.balances()}
    assert money == {"USDT": (D(1010) - D(55), D(55))}


async def test_leverage_binds_that_part_of_a_contract_s_value_and_can_be_changed_while_it_is_held() -> None:
    market = Market(
        exchange="alpha", symbol="BTC/USDT:USDT", native_id="BTCUSDT", base="BTC", quote="USDT", settle="USDT",
        kind="linear", tick=D("0.1"), lot=D(1), min_amount=D(1), taker_fee=D(0),
    )  # fmt: skip
    paper = Paper(market, {"USDT": D(100)})
    paper.book.asks.replace([(100.0, 50.0)])
    paper.book.bids.replace([(90.0, 50.0)])
    await paper.start()

    async def money() -> tuple[Decimal, Decimal]:
        (balance,) = await paper.venue.balances()
        return balance.free, balance.used

    assert (await paper.place("4", "100")).outcome is Outcome.REJECTED
    assert await paper.venue.set_leverage(market.key, 10) == ""
    assert (await paper.place("4", "100")).outcome is Outcome.PLACED
    assert await money() == (D(60), D(40))
    assert await paper.venue.set_leverage(market.key, 5) == ""
    assert await money() == (D(20), D(80))
    assert "320.0 more margin is needed" in await paper.venue.set_leverage(market.key, 1)
    await paper.place("2", "90", "sell")  # loses 20 and gives back half of the margin
    assert await money() == (D(40), D(40))
    assert "no contract" in await paper.venue.set_leverage("alpha:BTC/USDT", 2)


async def test_an_order_meets_what_the_exchange_showed_when_it_arrived() -> None:
    """A book reaches us as late as an order reaches the exchange: what is gone there is still in ours by then."""
    paper = await Paper().start()
    task = asyncio.ensure_future(paper.venue.place(intent("1", "100", market=paper.market.key, client_order_id="late")))
    await paper.clock.advance(0.9)  # one way takes 0.5: the exchange took the level away at 0.4, before we arrived
    paper.book.asks.replace([(100.5, 5.0)])
    await paper.clock.run_until(task.done)
    assert task.result().events[0].filled == 0


async def test_what_was_taken_stays_taken_while_others_come_and_go_at_its_price() -> None:
    paper = await Paper().start()
    assert (await paper.place("2", "100")).events[0].filled == D(2)
    paper.book.asks.apply([(100.0, 1.9)])  # somebody cancelled a little: that does not bring back what we took
    assert (await paper.place("1", "100")).events[0].filled == 0
    paper.book.asks.apply([(100.0, 2.4)])  # half a coin has come since
    assert (await paper.place("1", "100")).events[0].filled == D("0.5")


async def test_a_level_that_was_gone_and_came_back_is_a_new_one() -> None:
    paper = await Paper().start()
    assert (await paper.place("2", "100")).events[0].filled == D(2)
    paper.book.asks.apply([(100.0, 0.0)])
    assert (await paper.place("1", "100")).events[0].filled == 0
    paper.book.asks.apply([(100.0, 1.0)])
    assert (await paper.place("1", "100")).events[0].filled == D(1)


async def test_a_level_is_believed_again_after_a_while() -> None:
    paper = await Paper().start()
    assert (await paper.place("2", "100")).events[0].filled == D(2)
    await paper.clock.advance(REMEMBERED_SECONDS)
    assert (await paper.place("2", "100")).events[0].filled == D(2)


async def test_an_inverse_position_is_worth_what_its_entries_were_in_coins() -> None:
    market = Market(
        exchange="alpha", symbol="BTC/USD:BTC", native_id="BTCUSD", base="BTC", quote="USD", settle="BTC",
        kind="inverse", contract_size=D(100), tick=D("0.1"), lot=D(1), min_amount=D(1), taker_fee=D(0),
    )  # fmt: skip
    paper = Paper(market, {"BTC": D(10)})
    paper.book.asks.replace([(100.0, 1.0), (200.0, 1.0)])
    paper.book.bids.replace([(150.0, 2.0)])
    await paper.start()
    await paper.place("2", "200")  # 100 dollars each at 100 and 200: 1 and 0.5 coins
    ((free, used),) = [(balance.free, balance.used) for balance in await paper.venue.balances()]
    assert (round(free, 12), round(used, 12)) == (D("8.5"), D("1.5"))
    await paper.place("2", "150", "sell")  # 200 dollars at 150 are 1 1/3 coins: 1/6 earned
    ((free, used),) = [(balance.free, balance.used) for balance in await paper.venue.balances()]
    assert (round(free, 12), used) == (D("10.166666666667"), D(0))
