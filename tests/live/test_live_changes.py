"""What a page keeps of what it was told."""

from __future__ import annotations

from decimal import Decimal

from bots.live_changes import REPLAY_SECONDS, DeskChanges
from bots.live_desk import MARKED, DeskMoney, Holding
from bots.live_desk_schema import Connection, Dashboard, Positions
from tests.live.items import position, trade


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


def test_an_older_word_before_a_snapshot_does_not_undo_what_it_shows() -> None:
    """A ticket in a contract is told empty when it is opened, and a moment later with what it holds."""
    clock = Clock()
    changes = DeskChanges("paper", monotonic=clock, wall_time=clock)
    told = position("2", symbol="BTC/USDT:USDT")
    facts = {name: value for name, value in told["data"].items() if name not in MARKED}
    stored = Holding("binance-sim:BTC/USDT:USDT", "linear", Decimal("0.1"), Decimal(50_000), Decimal(2), facts)
    changes = DeskChanges("paper", monotonic=clock, wall_time=clock)
    changes.take([position("0", symbol="BTC/USDT:USDT"), told])
    shown, money = empty()
    money.positions[told["key"]] = stored
    changes.begin(shown, money)
    assert money.positions == {told["key"]: stored}
    assert not changes.is_missing, "nothing else is to be asked of what is stored"


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
