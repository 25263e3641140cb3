"""What a page keeps of what it was told."""

from __future__ import annotations

from bots.live_changes import REPLAY_SECONDS, DeskChanges
from bots.live_desk import DeskMoney
from bots.live_desk_schema import Connection, Dashboard, Positions
from tests.live.items import trade


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def empty() -> tuple[Dashboard, DeskMoney]:
    connection = Connection(state="yellow", reason="", accounts=[], feeds=[], engine=None, stages=[])
    shown = Dashboard(
        mode="paper", balance=[], positions=Positions(count=0, items=[]), orders=[], trades=[], opportunities=[],
        breakers=[], switches=[], bots=[], progress=[], connection=connection, server_time=0.0,
    )  # fmt: skip
    return shown, DeskMoney(accounts={}, quotes=("USDT",))


def test_a_snapshot_is_followed_by_what_was_told_just_before_it() -> None:
    clock = Clock()
    changes = DeskChanges("paper", monotonic=clock, wall_time=clock)
    for number in range(4):
        changes.take([trade(f"t{number}")])
        clock.now += REPLAY_SECONDS / 2
    changes.messages()
    clock.now -= REPLAY_SECONDS / 2  # the last one was told just now
    changes.begin(*empty())
    assert [data["id"] for kind, data in changes.messages() if kind == "trade"] == ["t1", "t2", "t3"]


def test_a_page_that_is_told_for_hours_keeps_no_more_than_one_that_has_just_opened() -> None:
    clock = Clock()
    changes = DeskChanges("paper", monotonic=clock, wall_time=clock)
    kept = []
    for number in range(2_000):
        changes.take([trade(f"t{number}")])
        changes.messages()
        kept.append(len(changes._recent))
        clock.now += 0.5
    assert max(kept) == 2 * REPLAY_SECONDS + 1
