"""How far a ticket's entry or one close of it has come, step by step, each with the time it took."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from trading.ports import Clock
from trading.tickets import TicketStep

CONNECTING, PLACING_ORDER, PLACING_PROTECTION = "connecting", "placing order", "placing protection"
WITHDRAWING = "withdrawing protection"
DONE, FAILED = "done", "failed"


class Progress:
    """Keeps the steps of the entry, or with ``command_id`` of the close it asks for. Those of an earlier process stand,
    and its last one goes on."""

    def __init__(self, clock: Clock, steps: Iterable[TicketStep] = (), command_id: int = 0) -> None:
        self._clock = clock
        self.command_id = command_id
        self._steps = list(steps)
        begun_ns = int(self._steps[-1].at * 1e9) if self._steps else clock.time_ns()
        self._since_ns = clock.monotonic_ns() - max(clock.time_ns() - begun_ns, 0)

    @property
    def steps(self) -> tuple[TicketStep, ...]:
        return tuple(self._steps)

    @property
    def has_ended(self) -> bool:
        """Whether it said "done" or "failed" already."""
        return bool(self._steps) and self._steps[-1].step in {DONE, FAILED}

    def step(self, name: str, text: str = "") -> bool:
        """Begin a step, which ends the one before; False if it is the present one, or all has ended."""
        if self.has_ended or (self._steps and self._steps[-1].step == name):
            return False
        self._finish("done")
        self._append(name, "now", text)
        return True

    def done(self, text: str = "") -> None:
        """Say that everything asked for stands."""
        if not self.has_ended:
            self._finish("done")
            self._append(DONE, "done", text)

    def fail(self, text: str) -> None:
        """Say why it went no further."""
        if not self.has_ended:
            self._finish("failed")
            self._append(FAILED, "failed", text)

    def _finish(self, state: str) -> None:
        if self._steps and self._steps[-1].state == "now":
            ms = (self._clock.monotonic_ns() - self._since_ns) / 1e6
            self._steps[-1] = msgspec.structs.replace(self._steps[-1], state=state, ms=round(ms, 3))

    def _append(self, name: str, state: str, text: str) -> None:
        self._since_ns = self._clock.monotonic_ns()
        at = self._clock.time_ns() / 1e9
        self._steps.append(TicketStep(step=name, state=state, at=at, text=text, command_id=self.command_id))


def steps_of(steps: Iterable[TicketStep], command_id: int) -> tuple[TicketStep, ...]:
    """Return those of a close, or with 0 of the entry."""
    return tuple(step for step in steps if step.command_id == command_id)


def given_up(steps: tuple[TicketStep, ...], text: str, at_ns: int) -> tuple[TicketStep, ...]:
    """Return the steps of what goes no further and has nobody to say so."""
    if steps and steps[-1].state == "now":
        ms = round(at_ns / 1e6 - steps[-1].at * 1e3, 3)
        steps = (*steps[:-1], msgspec.structs.replace(steps[-1], state="failed", ms=max(ms, 0.0)))
    return (*steps, TicketStep(step=FAILED, state="failed", at=at_ns / 1e9, text=text))
