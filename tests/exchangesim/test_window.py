"""The window of best levels that depth-limited streams show: diffs always lead to exactly what the book has."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from exchangesim.core.exchange import SimExchange
from exchangesim.core.listener import ExchangeListener
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import BookChange
from exchangesim.core.rules import make_rules
from exchangesim.core.window import DepthWindow

NATIVE = "AAA-USDT"
DEPTH = 4
PRICES = st.integers(90, 110).map(Decimal)
LEVELS = st.dictionaries(PRICES, st.integers(0, 3).map(Decimal), max_size=12)


class Toucher(ExchangeListener):
    """Tells a window of every change, as a face does."""

    def __init__(self, window: DepthWindow) -> None:
        self._window = window

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        self._window.touch(change)


def exchange() -> SimExchange:
    rules = make_rules("okx", "AAA/USDT", price=Decimal(100))
    return SimExchange("okx", [rules], {"AAA/USDT": Decimal(100)})


@given(steps=st.lists(st.tuples(LEVELS, LEVELS, st.booleans()), max_size=8))
def test_applied_diffs_show_the_best_levels_and_nothing_else(
    steps: list[tuple[dict[Decimal, Decimal], dict[Decimal, Decimal], bool]],
) -> None:
    venue = exchange()
    market = venue.markets[NATIVE]
    window = DepthWindow(market, DEPTH)
    venue.listeners.append(Toucher(window))
    window.reset()
    received: list[dict[Decimal, Decimal]] = [{}, {}]
    for bids, asks, tell in steps:
        venue.apply_levels(NATIVE, bids.items(), asks.items())
        if not tell:
            continue
        changed = window.diff()
        for side, levels in zip(received, changed or ([], []), strict=True):
            for price, total in levels:
                assert total or price in side, "a level is taken away that was never shown"
                assert side.get(price) != total, "a level is told again that has not changed"
                side[price] = total
                if not total:
                    del side[price]
        own = [market.book.bids.top(DEPTH), market.book.asks.top(DEPTH)]
        assert [sorted(side.items()) for side in received] == [sorted(side) for side in own]
        assert window.shown() == (own[0], own[1])


def test_nothing_is_told_when_the_shown_levels_are_as_before() -> None:
    venue = exchange()
    window = DepthWindow(venue.markets[NATIVE], DEPTH)
    venue.listeners.append(Toucher(window))
    venue.apply_levels(NATIVE, [(Decimal(price), Decimal(1)) for price in range(90, 96)], [])
    window.reset()
    told = window.update_id
    venue.apply_levels(NATIVE, [(Decimal(90), Decimal(7))], [])  # below the best four
    assert window.diff() is None
    assert window.update_id == told
    venue.apply_levels(NATIVE, [(Decimal(95), Decimal(2))], [])
    assert window.diff() == ([(Decimal(95), Decimal(2))], [])
    assert window.update_id == venue.markets[NATIVE].update_id
