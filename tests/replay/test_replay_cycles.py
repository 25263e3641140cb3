"""Statistics of three-leg cycles, by hand and through a replay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.replay.files import SECOND, SpotTape
from trading.arbitrage.cycles import three_leg_cycles
from trading.clock import SystemClock
from trading.instruments import Market
from trading.marketdata.replay import CycleRow, ReplayOptions, ReplayReport, replay
from trading.marketdata.replay_cycles import CycleEdge
from trading.marketdata.replay_report import replay_json, replay_table
from trading.marketdata.replay_sources import open_sources
from trading.marketdata.replay_statistics import EdgeStatistics


def market(symbol: str) -> Market:
    base, _, quote = symbol.partition("/")
    return Market(exchange="x", symbol=symbol, native_id=symbol, base=base, quote=quote)


A, B_A, B, OTHER = market("A/USDT"), market("B/A"), market("B/USDT"), market("C/USDT")


class Tape:
    """A cycle USDT > A > B > USDT that pays bid(B) / 200 - 1: A asks 100, B/A asks 2."""

    def __init__(self) -> None:
        self.statistics = EdgeStatistics([], [A, B_A, B, OTHER])
        cycle = next(one for one in three_leg_cycles([A, B_A, B]) if one.path == "USDT>A>B>USDT")
        markets = [leg.market for leg in cycle.legs]
        tops = tuple(map(self.statistics.top, markets))
        self.edge = CycleEdge(cycle, tops, self.statistics.quotes("x"))
        self.statistics.follow(self.edge, markets)

    def quote(self, one: Market, bid: float, ask: float, second: float) -> None:
        self.statistics.on_book(one.key, bid, ask, round(second * SECOND))

    def begin(self) -> Tape:
        self.quote(A, 99.0, 100.0, 1)
        self.quote(B_A, 1.9, 2.0, 2)
        self.quote(B, 198.0, 205.0, 3)
        return self


def test_nothing_is_known_until_all_three_have_quoted() -> None:
    tape = Tape()
    tape.quote(A, 99.0, 100.0, 1)
    tape.quote(B, 202.0, 205.0, 2)
    assert (tape.edge.overlap_seconds, tape.edge.states, tape.edge.episodes) == (0.0, 0, ())
    assert (tape.edge.best_bps, tape.edge.median_bps) == (None, None)


def test_an_episode_lasts_from_the_quote_that_opens_it_to_the_quote_that_closes_it() -> None:
    tape = Tape().begin()
    tape.quote(B, 202.0, 205.0, 5)
    tape.quote(B, 204.0, 205.0, 6)
    tape.quote(A, 99.0, 103.0, 8)
    tape.quote(OTHER, 1.0, 2.0, 13)
    assert [(one.start_ns / SECOND, one.end_ns / SECOND) for one in tape.edge.episodes] == [(5.0, 8.0)]
    assert tape.edge.overlap_seconds == pytest.approx(10.0)
    assert tape.edge.share == pytest.approx(0.3)
    assert (tape.edge.best_bps, tape.edge.best_ns) == (pytest.approx(200.0), 6 * SECOND)


def test_an_episode_still_open_at_the_end_lasts_to_the_last_quote_of_the_exchange() -> None:
    tape = Tape().begin()
    tape.quote(B, 202.0, 205.0, 5)
    tape.quote(OTHER, 1.0, 2.0, 9)
    assert (len(tape.edge.episodes), tape.edge.seconds_in_profit) == (1, 4.0)


def test_a_quote_of_any_market_of_the_exchange_is_a_state() -> None:
    tape = Tape().begin()  # 198: -100 bps, states 1..3
    tape.quote(OTHER, 1.0, 2.0, 4)
    tape.quote(OTHER, 1.0, 2.0, 5)
    tape.quote(B, 204.0, 205.0, 6)  # +200 bps, states 4..5
    tape.quote(A, 98.0, 100.0, 7)
    assert (tape.edge.states, tape.edge.median_bps) == (5, pytest.approx(-100.0))
    tape.quote(OTHER, 1.0, 2.0, 8)
    assert (tape.edge.states, tape.edge.median_bps) == (6, pytest.approx(50.0))


def test_a_lost_book_ends_the_episode_and_gives_no_states() -> None:
    tape = Tape().begin()
    tape.quote(B, 202.0, 205.0, 5)
    tape.statistics.on_lost(A.key, 6 * SECOND)
    tape.quote(OTHER, 1.0, 2.0, 7)
    tape.quote(A, 99.0, 100.0, 8)
    assert [(one.start_ns / SECOND, one.end_ns / SECOND) for one in tape.edge.episodes] == [(5.0, 6.0), (8.0, 8.0)]
    assert tape.edge.states == 3


def test_best_prices_the_exchange_publishes_itself_begin_the_statistics_anew() -> None:
    tape = Tape().begin()
    tape.quote(B, 202.0, 205.0, 5)
    tape.statistics.on_stream(B.key, 199.0, 205.0, 6 * SECOND)
    assert (tape.edge.episodes, tape.edge.states) == ((), 1)
    assert tape.edge.best_bps == pytest.approx(-50.0)


# Through a replay


@pytest.fixture
def tapes(tmp_path: Path) -> list[tuple[str, Path]]:
    """BTC at 100, ETH at 0.5 BTC and, for two seconds, at 51 dollars."""
    one = SpotTape("BTCUSDT").snapshot(1, [(99.0, 5.0)], [(100.0, 3.0)])
    two = SpotTape("ETHBTC").snapshot(2, [(0.49, 5.0)], [(0.5, 4.0)])
    three = SpotTape("ETHUSDT").snapshot(3, [(49.0, 5.0)], [(52.0, 2.0)]).book(5, bids=[(51.0, 1.0)])
    three.book(7, bids=[(51.0, 0.0)]).book(9, bids=[(48.0, 1.0)])
    return [
        (f"binance:{symbol}", tape.write(tmp_path / f"{tape.native_id}.gz"))
        for symbol, tape in (("BTC/USDT", one), ("ETH/BTC", two), ("ETH/USDT", three))
    ]


def run(named: list[tuple[str, Path]]) -> ReplayReport:
    return asyncio.run(replay(open_sources(named, []), ReplayOptions(), SystemClock()))


def test_cycles_go_through_the_recordings_of_one_exchange(tapes: list[tuple[str, Path]]) -> None:
    rows: dict[str, CycleRow] = {row.assets: row for row in run(tapes).cycles}
    assert set(rows) == {"USDT>BTC>ETH>USDT", "USDT>ETH>BTC>USDT"}
    row = rows["USDT>BTC>ETH>USDT"]
    assert (row.exchange, row.episodes, row.seconds_in_profit) == ("binance", 1, 2.0)
    assert (row.best_bps, row.overlap_seconds) == (pytest.approx(200.0), pytest.approx(6.0))
    assert rows["USDT>ETH>BTC>USDT"].episodes == 0


def test_cycles_are_printed_where_there_are_some_and_not_mentioned_elsewhere(tapes: list[tuple[str, Path]]) -> None:
    some, none = run(tapes), run(tapes[:2])
    assert '"cycles": [{"exchange": "binance", "assets": "USDT>' in replay_json(some)
    table = replay_table(some, 10.0)
    assert any(line.split()[:2] == ["binance", "USDT>BTC>ETH>USDT"] for line in table.splitlines())
    assert "cycles" not in replay_json(none)
    assert "cycle" not in replay_table(none, 10.0)
