"""An account whose exchange answers slowly takes no new trades until a question shows that it is quick again."""

from __future__ import annotations

import pytest

from tests.engine.worlds import World
from trading.execution.pace import PROBE_SECONDS, SLOW_SECONDS
from trading.messages import TradeState


class Line:
    """The way to one exchange: what is asked over it takes so long, in seconds, each way of answering apart."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.orders = self.questions = 0.0
        self.asked = 0
        venue, clock = world.one_venue, world.clock
        place, balances = venue.place, venue.balances

        async def slow_place(intent):
            answer = await place(intent)
            await clock.sleep(self.orders)
            return answer

        async def slow_balances():
            self.asked += 1
            await clock.sleep(self.questions)
            return await balances()

        monkeypatch.setattr(venue, "place", slow_place)
        monkeypatch.setattr(venue, "balances", slow_balances)


async def slow_world(monkeypatch: pytest.MonkeyPatch) -> tuple[World, Line]:
    """A world after one trade whose order on one exchange took six seconds to be answered, as questions do too."""
    world = World(faulty=True)
    line = Line(world, monkeypatch)
    await world.start()
    line.orders = line.questions = 6.0
    record = await world.trade()
    assert record.state is TradeState.CLOSED
    return world, line


async def test_fault_56_an_account_that_answers_slowly_takes_no_new_trades(monkeypatch) -> None:
    world, _ = await slow_world(monkeypatch)
    view = world.engine.account_views()[11]
    assert view.state == "blocked"
    assert f"6.0 s to answer orders (at most {SLOW_SECONDS:.0f} s)" in view.reason
    assert world.engine.account_views()[12].state == "live"
    await world.clock.advance(3 * PROBE_SECONDS)
    await world.no_edge()
    await world.edge()
    await world.clock.advance(3 * PROBE_SECONDS)
    assert len(world.store.trades) == 1
    assert world.store.decisions[-1].check == "bot_state"
    await world.stop()


async def test_fault_56_it_trades_again_once_a_question_is_answered_quickly(monkeypatch) -> None:
    world, line = await slow_world(monkeypatch)
    line.orders = line.questions = 0.1
    await world.clock.run_until(lambda: world.engine.account_views()[11].state == "live", 10 * PROBE_SECONDS)
    await world.no_edge()
    await world.edge()
    await world.clock.run_until(lambda: len(world.store.trades) == 2 and not world.engine.status().open_trades)
    asked = line.asked
    await world.clock.advance(3 * PROBE_SECONDS)
    assert line.asked - asked <= 2, "only a comparison of the books asks now"
    await world.stop()


async def test_one_slow_answer_among_quick_ones_stops_nothing(monkeypatch) -> None:
    world = World(faulty=True)
    line = Line(world, monkeypatch)
    await world.start()
    await world.trade()
    line.orders = 2 * SLOW_SECONDS
    await world.clock.advance(1)
    await world.no_edge()
    await world.edge()
    await world.clock.run_until(lambda: len(world.store.trades) == 2 and not world.engine.status().open_trades)
    assert world.engine.account_views()[11].state == "live"
    await world.stop()
