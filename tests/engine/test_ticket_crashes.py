"""A process that dies at any point of a trade by hand: the next one finishes it, with one position and one protection.

The process is ended at every call to the store and to the exchange, before it is made and after it was: what it had
queued for the store is as far as it got, and nothing is tidied up.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.contract_world import AHEAD, ContractVenue, ContractWorld
from tests.engine.ticket_world import AT_ONCE, DESK, ProtectingVenue, TicketWorld
from tests.engine.worlds import D
from trading.messages import OrderKind, TradeState
from trading.tickets import ClosingTerms

pytestmark = pytest.mark.asyncio

STORE = ("commit_trade", "commit_protection", "commit_repair")
OVER = (TradeState.CLOSED, TradeState.FAILED)
VENUE = ("place", "protect", "cancel", "query", "trades")


class Mortal:
    """A world whose process dies when it has come to a point. ``deadly`` 0: never; it only counts then."""

    def __init__(self, world: TicketWorld, deadly: int) -> None:
        self.world = world
        self.deadly = deadly
        self.points: list[str] = []
        self.is_dead = asyncio.Event()
        self._wrap(world.store, STORE)
        self._wrap(world.venue, VENUE)

    def _wrap(self, owner: Any, names: tuple[str, ...]) -> None:
        for name in names:
            setattr(owner, name, self._watched(getattr(owner, name), name))

    def _watched(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def watched(*args: Any) -> Any:
            await self._reach(f"before {name}")
            answer = await call(*args)
            await self._reach(f"after {name}")
            return answer

        return watched

    async def _reach(self, point: str) -> None:
        self.points.append(point)
        if len(self.points) == self.deadly:
            self.remains = {
                name: copy.copy(value) if isinstance(value, dict | list | set) else value
                for name, value in self.world.store.__dict__.items()
                if name not in STORE
            }
            for kept in ("events", "history", "trade_history"):
                self.remains[kept] = {key: list(value) for key, value in self.remains[kept].items()}
            self.world.venue._listener = None
            self.is_dead.set()
            await asyncio.get_running_loop().create_future()

    async def bury(self) -> None:
        """End the process for good, and begin the next on what the store had."""
        world = self.world
        for name in VENUE:
            delattr(world.venue, name)
        assert world.task is not None
        world.task.cancel()
        await world.clock.run_until(world.task.done)
        world.store = type(world.store)()
        world.store.__dict__.update(self.remains)
        await world.rise()
        world.show(world.alpha, "49990", "50000")
        world.show(world.beta, "49990", "50000")
        await world.clock.advance(10)


async def live(world: TicketWorld, ending: str) -> None:
    """Do what is left of a day: open the ticket unless it is, wait until it is held, and end it."""
    if not any(record.ticket.command_id == 1 for record in world.store.trades.values()):
        opened = await world.engine.open_ticket(DESK, world.asked())
        assert opened.trade_id, opened
    (record,) = world.store.trades.values()
    await _until(world, TradeState.HOLDING, *OVER)
    if _state(world) in OVER:
        return
    if ending == "take profit":
        if isinstance(world.venue, ContractVenue):
            world.venue.fire(OrderKind.TAKE_PROFIT, "51000")
        elif any(intent.kind is OrderKind.TAKE_PROFIT for intent in world.venue.resting.values()):
            world.venue.trigger(OrderKind.TAKE_PROFIT, "51000")
        else:
            world.show(world.alpha, "51000", "51010")
    else:
        closing = ClosingTerms(style=AT_ONCE, cause="closed", command_id=2)
        await world.engine.close_ticket(record.trade_id, closing)
    await _until(world, TradeState.CLOSED)


async def _until(world: TicketWorld, *states: TradeState) -> None:
    while _state(world) not in states:
        await world.clock.sleep(0.01)


def _state(world: TicketWorld) -> TradeState:
    (record,) = world.store.trades.values()
    return record.state


async def _day(ending: str, protects: tuple[str, ...], deadly: int) -> tuple[TicketWorld, Mortal]:
    world = ContractWorld() if protects == AHEAD else TicketWorld(real=True, protects=protects)
    await world.begin()
    mortal = Mortal(world, deadly)
    living = asyncio.ensure_future(live(world, ending))
    dying = asyncio.ensure_future(mortal.is_dead.wait())
    await world.clock.run_until(lambda: living.done() or dying.done())
    if mortal.is_dead.is_set():
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
        await mortal.bury()
        living = asyncio.ensure_future(live(world, ending))
        await world.clock.run_until(living.done)
    dying.cancel()
    living.result()
    return world, mortal


def _check(world: TicketWorld, point: str) -> None:
    # An order that its process did not live to send is proven absent, and the ticket came to nothing.
    assert _state(world) is (TradeState.CLOSED if world.bought() else TradeState.FAILED), point
    (record,) = world.store.trades.values()
    assert (
        world.bought()
        - world.sold()
        - sum((fill.fee for fill in world.store.fills.values() if fill.fee_asset == "BTC"), D(0))
        == record.residual_base
    ), point
    assert abs(record.residual_base) < D("0.0001"), point
    venue = world.venue
    assert isinstance(venue, ProtectingVenue)
    assert not venue.resting, f"{point}: something is left to protect nothing"
    held = venue.position() if isinstance(venue, ContractVenue) else venue.money()["BTC"] - 10
    assert abs(held) < D("0.0001"), f"{point}: {held} BTC more than at first"
    assert world.engine.desk.portfolio.reservations == {}, point
    assert world.engine.roster.get(DESK) is not None, point


@pytest.mark.parametrize("ending", ["close", "take profit"])
@pytest.mark.parametrize("protects", [("oco",), ("stops",), AHEAD, ()], ids=["pair", "separate", "ahead", "engine"])
async def test_it_is_finished_wherever_its_process_dies(ending: str, protects: tuple[str, ...]) -> None:
    world, mortal = await _day(ending, protects, 0)
    _check(world, "nobody died")
    await world.stop()
    points = mortal.points
    assert len(points) >= 6
    for deadly, point in enumerate(points, 1):
        world, _ = await _day(ending, protects, deadly)
        _check(world, f"{point} ({deadly} of {points})")
        await world.stop()
