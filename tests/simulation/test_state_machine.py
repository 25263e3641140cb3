"""Any order of trades, faults, crashes and restarts: hypothesis looks for one that the checks object to."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.simulation.exchange import Refused, Turn
from tests.simulation.venue import Plan, Unanswered
from tests.simulation.world import World, quiet_garbage

D = Decimal
PLANS = {
    "answer lost": lambda: Plan(answer_lost=True, reset_after=0.05),
    "request lost": lambda: Plan(request_lost=True, reset_after=0.05),
    "request late": lambda: Plan(request_delay=7.0, reset_after=0.05),
    "error and live": lambda: Plan(answer=Unanswered("-1007", "timeout")),
    "refused": lambda: Plan(refuse=Refused("-2010", "insufficient balance")),
    "half": lambda: Plan(turn=Turn(most=D("0.5"))),
    "nothing": lambda: Plan(turn=Turn(most=D(0))),
    "rests": lambda: Plan(turn=Turn(most=D("0.4"), rests=True), bare=True),
    "rests, fills later": lambda: Plan(turn=Turn(most=D("0.4"), rests=True, fills_by=9.0), bare=True),
    "answer late": lambda: Plan(answer_delay=2.0),
    "overfilled": lambda: Plan(turn=Turn(over=D("0.001"))),
}
SIDES = st.sampled_from([("alpha", "beta"), ("beta", "alpha")])


class Trading(RuleBasedStateMachine):
    """A world in which nothing happens but what the rules do."""

    @initialize(seed=st.integers(0, 10_000))
    def start(self, seed: int) -> None:
        self.world = World(seed, planned=False)
        self.world.begin()
        self.let_pass(1.0)

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.3, 2.0, 12.0, 30.0]))
    def let_pass(self, seconds: float) -> None:
        self.world.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(sides=SIDES, bps=st.integers(40, 120), after=st.sampled_from([0, 20, 80, -80]))
    def edge(self, sides: tuple[str, str], bps: int, after: int) -> None:
        self.world.edge(*sides, bps=bps, seconds=0.5, after=after)
        self.let_pass(0.08)

    @rule(plan=st.sampled_from(sorted(PLANS)), ahead=st.integers(1, 3))
    def next_order(self, plan: str, ahead: int) -> None:
        """Decide what happens to one of the next orders."""
        self.world.place_plans[self.world.places + ahead] = (":", PLANS[plan]())

    @rule()
    def crash(self) -> None:
        body = self.world.newest
        if body is not None:
            self.world.kill(body, "await")

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def stand_still(self, seconds: float) -> None:
        body = self.world.newest
        if body is not None:
            self.world.pause(body, seconds)

    @rule()
    def replace_engine(self) -> None:
        self.world.stop_engine()

    @rule()
    def cut_lease(self) -> None:
        body = self.world.newest
        if body is not None:
            self.world.leases_cut.add(body.name)

    @rule()
    def lose_database(self) -> None:
        self.world.database_down = "connection refused"

    @rule()
    def regain_database(self) -> None:
        self.world.database_down = ""

    @rule(code=st.sampled_from(["alpha", "beta"]))
    def lose_stream(self, code: str) -> None:
        for venue in list(self.world.links[code].streams):
            venue.lose_stream()

    @rule(code=st.sampled_from(["alpha", "beta"]), blocked=st.booleans())
    def cut_off(self, code: str, blocked: bool) -> None:
        self.world.links[code].blocked = blocked

    @invariant()
    def nothing_is_wrong(self) -> None:
        if hasattr(self, "world"):
            assert self.world.anomalies == []

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        try:
            world.heal()
            world.loop.run_until_complete(world.come_to_rest())
            world.judge()
        finally:
            world.end()
        assert world.anomalies == []


def test_no_order_of_events_breaks_a_rule() -> None:
    with quiet_garbage():
        Trading.TestCase.settings = settings(
            max_examples=200,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        Trading.TestCase("runTest").runTest()
