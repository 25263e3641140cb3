"""Paper money's positions in contracts are liquidated where their exchange would do it, with the same news."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from tests.engine.basis_world import perpetual
from tests.engine.worlds import VirtualClock
from tests.execution.makers import intent
from trading.exchanges.paper import PaperVenue
from trading.instruments import Market
from trading.margin import tiers_of
from trading.marketdata.book import Book
from trading.messages import AccountBalance, Forced, OrderEvent, PlaceResult, PublicTrade, StreamState, TimeInForce
from trading.messages import OrderState as S

D = Decimal
TIERS = tiers_of([(D(0), D(100_000), D("0.01"), 20)])
MARKET = perpetual("alpha", lot=D("0.1"), min_amount=D("0.1"), taker_fee=D("0.001"), maker_fee=D("0.001"), tiers=TIERS)


class Paper:
    """An account with 200 USDT on one contract at a leverage of 5; book and mark price are the test's."""

    def __init__(self, market: Market = MARKET) -> None:
        self.clock = VirtualClock()
        self.market = market
        self.book = Book(market)
        self.book.bids.replace([(100.0, 50.0)])
        self.book.asks.replace([(100.0, 50.0)])
        self.mark = D(100)
        self.told: list[OrderEvent | AccountBalance | StreamState] = []
        self.watchers: list[Callable[[], None]] = []
        self.venue = PaperVenue(
            1, market.exchange, [market], {"USDT": D(200)},
            book_of=lambda _: self.book, clock=self.clock, watch=self._watch, mark_of=lambda _: self.mark,
        )  # fmt: skip
        self.venue._listener = self.told.append  # type: ignore[assignment]
        self.count = 0

    def _watch(
        self, market: Market, on_change: Callable[[], None], on_trade: Callable[[PublicTrade], None] | None = None
    ) -> Callable[[], None]:
        self.watchers.append(on_change)
        return lambda: self.watchers.remove(on_change)

    async def run(self, work: object) -> object:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        await self.clock.run_until(task.done)
        return task.result()

    async def place(self, quantity: str, price: str, side: str = "buy", **changes: object) -> PlaceResult:
        self.count += 1
        terms: dict[str, object] = {"client_order_id": f"o{self.count}", "market": self.market.key, **changes}
        result = await self.run(self.venue.place(intent(quantity, price, side, **terms)))
        assert isinstance(result, PlaceResult)
        return result

    async def hold(self, side: str = "buy") -> None:
        """Hold 6 at 100, for 0.6 of fees."""
        await self.run(self.venue.set_leverage(self.market.key, 5))
        await self.place("6", "100", side)

    async def move(self, mark: str) -> None:
        """Let the mark price be this one, and the news of it arrive."""
        self.mark = D(mark)
        for watcher in list(self.watchers):
            watcher()
        await self.clock.advance(1)

    def forced(self) -> list[OrderEvent]:
        return [one for one in self.told if isinstance(one, OrderEvent) and any(fill.forced for fill in one.fills)]


@pytest.mark.parametrize(
    ("side", "safe", "passed", "price"),
    # A long one at (600 - 199.4) / (6 x 0.99), a short one at (600 + 199.4) / (6 x 1.01).
    [("buy", "67.45", "67.4", "67.5"), ("sell", "131.9", "132", "131.9")],
)
async def test_a_position_is_closed_at_its_liquidation_price_once_the_mark_has_passed_it(
    side: str, safe: str, passed: str, price: str
) -> None:
    paper = await started(side)
    await paper.move(safe)
    assert paper.forced() == []
    await paper.move(passed)
    (event,) = paper.forced()
    (fill,) = event.fills
    assert (event.state, fill.forced, fill.price, fill.quantity) == (S.FILLED, Forced.LIQUIDATION, D(price), D(6))
    assert fill.side == ("sell" if side == "buy" else "buy")
    assert event.client_order_id.startswith("autoclose-")
    lost = abs(D(price) - 100) * 6 + D("0.001") * 6 * D(price)
    last = [one for one in paper.told if isinstance(one, AccountBalance)][-1]
    assert (last.free, last.used) == (D("199.4") - lost, 0)
    assert paper.watchers == []  # nothing is held that has to be looked after
    await paper.move("1")
    assert len(paper.forced()) == 1
    late = await paper.place("6", "100", "sell" if side == "buy" else "buy", reduce_only=True)
    assert late.code == "REDUCE_ONLY"


async def started(side: str = "buy", market: Market = MARKET) -> Paper:
    paper = Paper(market)
    await paper.hold(side)
    return paper


async def test_what_rests_in_the_contract_is_cancelled_before_it_is_closed() -> None:
    paper = await started()
    await paper.place("6", "120", "sell", time_in_force=TimeInForce.GTC)
    await paper.move("60")
    ends = [(one.client_order_id, one.state) for one in paper.told if isinstance(one, OrderEvent)]
    assert ("o2", S.CANCELLED) in ends
    assert len(paper.forced()) == 1
    assert await paper.venue.open_orders() == []


async def test_more_money_moves_the_price_away_and_no_tiers_mean_none() -> None:
    rich = await started()
    rich.venue._money.free["USDT"] += 200
    await rich.move("40")
    assert rich.forced() == []
    unknown = await started(market=msgspec.structs.replace(MARKET, tiers=()))
    await unknown.move("1")
    assert unknown.forced() == []
