"""Whatever happens to a worked quantity, in whatever order: never too much, never too dear, never too often, and it
ends with nothing resting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.execution.limit_world import PURSE, LimitWorld

D = Decimal

# What may happen next to a world; a share is of what rests.
ACTIONS: dict[str, Callable[[LimitWorld, int], None]] = {
    "fill": lambda world, number: world.exchange.fill(D(1)),
    "part": lambda world, number: world.exchange.fill(D(number) / 20),
    "up": lambda world, number: world.show(*quotes(1523 + number)),
    "down": lambda world, number: world.show(*quotes(1523 - number)),
    "own touch": lambda world, number: own_touch(world),
    "crossed": lambda world, number: world.show("15.50", "15.40"),
    "feed lost": lambda world, number: world.lose_feed(),
    "exchange cancels": lambda world, number: world.exchange.end(),
    "stream lost": lambda world, number: lose_stream(world),
    "stream back": lambda world, number: regain_stream(world),
    "mute": lambda world, number: setattr(world.exchange, "mute", True),
    "speak": lambda world, number: setattr(world.exchange, "mute", False),
    "store down": lambda world, number: setattr(world.store, "available", False),
    "store up": lambda world, number: setattr(world.store, "available", True),
    "stop": lambda world, number: world.saga.workings.stop("stopped"),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(ACTIONS)), st.integers(1, 19), st.sampled_from([0.0, 0.004, 0.011, 0.3, 1.0, 4.0])
    ),
    max_size=20,
)
PLACING = st.lists(st.sampled_from(["ok", "refuse", "lose_answer", "lose_request", "fill"]), max_size=6)
CANCELLING = st.lists(st.sampled_from(["ok", "lose_answer", "lose_request", "fill_first", "part_first"]), max_size=8)


def quotes(cents: int) -> tuple[str, str]:
    return str(D(cents) / 100), str(D(cents + 9) / 100)


def own_touch(world: LimitWorld) -> None:
    """Show our own order as the best of its side, as a real book does."""
    for kept in world.exchange.resting():
        mine = (float(kept.intent.price), float(kept.left))
        if world.side == "sell":
            world.show_levels([(mine[0] - 0.01, 5.0)], [mine, (mine[0] + 0.08, 5.0)])
        else:
            world.show_levels([mine, (mine[0] - 0.08, 5.0)], [(mine[0] + 0.01, 5.0)])


def lose_stream(world: LimitWorld) -> None:
    world.exchange.mute = True
    world.desk.live_purses.discard(PURSE)


def regain_stream(world: LimitWorld) -> None:
    """As the engine does: the stream lives, and what it may have missed is asked for."""
    world.exchange.mute = False
    world.desk.live_purses.add(PURSE)
    world.exchange.tell_balances()
    world.saga.wake(PURSE)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    side=st.sampled_from(["buy", "sell"]),
    steps=STEPS,
    placing=PLACING,
    cancelling=CANCELLING,
    ioc=st.integers(0, 10),
    reprices=st.integers(0, 3),
    cap_cents=st.integers(-15, 40),
    fallback=st.booleans(),
)
def test_never_too_much_nor_too_dear_and_it_always_ends(
    side: str,
    steps: list[tuple[str, int, float]],
    placing: list[str],
    cancelling: list[str],
    ioc: int,
    reprices: int,
    cap_cents: int,
    fallback: bool,
) -> None:
    cents = 1523 + 9 + cap_cents if side == "buy" else 1523 - cap_cents

    async def live() -> None:
        world = LimitWorld(
            side,  # type: ignore[arg-type]
            "1",
            str(D(cents) / 100),
            max_reprices=reprices,
            fallback=fallback,
        )
        world.exchange.placing, world.exchange.cancelling = list(placing), list(cancelling)
        world.exchange.ioc = D(ioc) / 10
        world.show("15.23", "15.32")
        world.keep_fresh()
        world.begin()
        for name, number, seconds in steps:
            await world.clock.advance(seconds)
            ACTIONS[name](world, number)
        await world.clock.advance(0.1)
        world.exchange.mute = False
        regain_stream(world)
        worked = await world.end(400)
        event(worked.reason.split(":", maxsplit=1)[0][:40] or "all of it filled")
        world.check(worked)
        if not any(action == "store down" for action, _, _ in steps):
            assert worked.seconds < world.style.seconds(world.side) + 60

    asyncio.run(live())


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["part", "up", "down", "own touch", "fill"]), st.integers(1, 9)), max_size=12
    )
)
def test_a_live_stream_needs_no_question(steps: list[tuple[str, int]]) -> None:
    async def live() -> None:
        world = LimitWorld("sell", "1", "14.00")
        world.show("15.23", "15.32")
        world.keep_fresh()
        world.begin()
        for name, number in steps:
            await world.clock.advance(0.7)
            ACTIONS[name](world, number)
        worked = await world.end(60)
        assert (worked.filled, worked.questions) == (D(1), 0)
        world.check(worked)

    asyncio.run(live())
