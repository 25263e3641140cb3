"""Injected faults: a registry of what shall go wrong, where, how often and for whom.

A fault kind belongs to one stage of a message's way. Faces and the transport ask the registry at that stage, which
answers with the fault to suffer or None. Adding a kind is adding a row to ``KINDS`` and its handling at the stage.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import count

from exchangesim.core.text import read_decimal


class Stage(StrEnum):
    REQUEST = "request"
    """A call has arrived and has not been handled."""
    RESPONSE = "response"
    """It has been handled and its answer has not left."""
    EVENT = "event"
    """A private stream message is about to be sent."""
    MARKET = "market"
    """A market data message is about to be sent."""
    ENGINE = "engine"
    """The matching engine takes an order (operation ``order``): what it does is booked, so the judge sees it too."""
    CLOCK = "clock"
    """Lasting: the exchange's clock."""


class FaultError(ValueError):
    """A fault that cannot be registered; the text is one sentence."""


# kind -> (stages it may apply at, the first is the default; parameters it reads with their defaults)
KINDS: dict[str, tuple[tuple[Stage, ...], dict[str, object]]] = {
    # A call never reaches the engine. how: "hang" (no answer until the client gives up) or "reset".
    "drop_request": ((Stage.REQUEST,), {"how": "hang"}),
    # It reaches the engine late.
    "delay_request": ((Stage.REQUEST,), {"ms": 1000}),
    # It is answered with this status and body; with apply the engine has handled it all the same.
    "error": ((Stage.REQUEST,), {"status": 503, "body": "", "content_type": "", "headers": {}, "apply": False}),
    # It is refused in the exchange's own words (see REASONS); with apply the engine has handled it all the same.
    "refuse": ((Stage.REQUEST,), {"reason": "backend_timeout", "apply": False}),
    # Nobody hears an answer, and the engine handles it so much later. how: as for drop_request.
    "late_request": ((Stage.REQUEST,), {"ms": 1000, "how": "reset"}),
    # The engine handles it twice; the second answer goes back.
    "duplicate_request": ((Stage.REQUEST,), {}),
    # From the first strike all matching calls are refused for retry_after seconds. More than tolerated of them while
    # that lasts are a ban of so many seconds, twice as long for each call that ignores it, up to
    # three days.
    "throttle": ((Stage.REQUEST,), {"retry_after": 1, "tolerated": 1000, "ban": 60}),
    # What it reads shows no order and no fill younger than this.
    "read_lag": ((Stage.REQUEST,), {"ms": 1000}),
    # The engine handled it, the answer is lost.
    "drop_response": ((Stage.RESPONSE,), {"how": "hang"}),
    "delay_response": ((Stage.RESPONSE,), {"ms": 1000}),
    # The answer is cut after so many bytes (negative: so many before its end).
    "truncate_body": ((Stage.RESPONSE,), {"bytes": -20}),
    # The answer is replaced by this body; status 0 keeps the answer's.
    "replace_body": ((Stage.RESPONSE,), {"status": 0, "body": ""}),
    # The connection is reset after so many bytes of the answer's body.
    "reset_body": ((Stage.RESPONSE,), {"bytes": 20}),
    # The first matching answer passes; the same call is answered with it again from then on.
    "stale_answer": ((Stage.RESPONSE,), {}),
    # Fields of the message have these values, wherever they occur in it, or within a parent: ``result.status``.
    "edit": ((Stage.RESPONSE, Stage.EVENT, Stage.MARKET), {"set": {}}),
    "drop_event": ((Stage.EVENT,), {}),
    "duplicate_event": ((Stage.EVENT,), {}),
    "delay_event": ((Stage.EVENT,), {"ms": 1000}),
    # The socket is cut without a close frame, before the message.
    "disconnect": ((Stage.EVENT, Stage.MARKET), {}),
    # The socket stays open and sends nothing more of this stage while the fault is registered.
    "silent": ((Stage.EVENT, Stage.MARKET), {}),
    # One market data message is left out, so its successor does not chain.
    "gap": ((Stage.MARKET,), {}),
    "delay_market": ((Stage.MARKET,), {"ms": 1000}),
    # The message is sent, and after the next one of its stream it comes again.
    "repeat_market": ((Stage.MARKET,), {}),
    # One message is cut in the middle.
    "corrupt": ((Stage.MARKET, Stage.EVENT), {}),
    # So much more than ordered is filled, at the order's price.
    "overfill": ((Stage.ENGINE,), {"quantity": "0.001"}),
    # No more than this trades at once, as if the book had been thinner.
    "cut_depth": ((Stage.ENGINE,), {"quantity": "0.001"}),
    # Price and quantity are rounded down to these steps; "0" leaves them.
    "reshape": ((Stage.ENGINE,), {"price_step": "0", "quantity_step": "0"}),
    # The order's fees are so many times the schedule's; with an asset they are taken in that, at this price of it.
    "fee": ((Stage.ENGINE,), {"times": 1, "asset": "", "price": "1"}),
    # A client id of a closed order is accepted again on an exchange that otherwise refuses it.
    "reuse_client_id": ((Stage.ENGINE,), {}),
    # The exchange's clock is wrong by so many milliseconds while the fault is registered.
    "clock_shift": ((Stage.CLOCK,), {"ms": 2000}),
}


REASONS = (
    "backend_timeout",
    "unexpected",
    "busy",
    "maintenance",
    "rate_limited",
    "banned",
    "duplicate_client_id",
    "insufficient_balance",
    "market_closed",
    "account_restricted",
    "key_revoked",
    "ip_not_allowed",
    "permission",
)
"""Why a call may be refused by the fault ``refuse``. Every face has an answer for each, in its documented form."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One registered fault and what it has done so far."""

    id: int
    kind: str
    stage: Stage
    exchange: str = "*"
    operation: str = "*"
    """Glob over the operation's name: ``POST /api/v3/order``, ``order.place``, ``btcusdt@depth*``."""
    symbol: str = "*"
    """Glob over the exchange's native symbol."""
    api_key: str = "*"
    contains: str = ""
    """Only messages (answers, events, market data) that hold this text."""
    skip: int = 0
    """Let so many matching messages pass first."""
    count: int | None = None
    """How often it strikes before it is spent; None for ever."""
    probability: float = 1.0
    parameters: dict[str, object] = field(default_factory=dict)
    seen: int = 0
    hits: int = 0
    unheard: list[str] = field(default_factory=list)
    """Answers of the engine that this fault kept from the client, in order."""
    memory: dict[object, object] = field(default_factory=dict)
    """What a lasting fault remembers between strikes; its stage's own affair."""

    def number(self, name: str) -> float:
        value = self.parameters[name]
        assert isinstance(value, int | float)
        return float(value)

    def text(self, name: str) -> str:
        return str(self.parameters[name])

    def describe(self) -> dict[str, object]:
        return {
            "id": self.id,
            "kind": self.kind,
            "stage": str(self.stage),
            "exchange": self.exchange,
            "operation": self.operation,
            "symbol": self.symbol,
            "api_key": self.api_key,
            "contains": self.contains,
            "skip": self.skip,
            "count": self.count,
            "probability": self.probability,
            "parameters": self.parameters,
            "seen": self.seen,
            "hits": self.hits,
            "unheard": self.unheard,
        }


class FaultRegistry:
    """The faults of one simulator. The random draws come from a seed, so a run can be repeated."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._ids = count(1)
        self._faults: dict[int, Fault] = {}

    def __len__(self) -> int:
        return len(self._faults)

    def add(self, description: dict[str, object]) -> Fault:
        """Register a fault from its JSON description. Raises FaultError saying what is wrong and what is allowed."""
        known = {
            "kind",
            "stage",
            "exchange",
            "operation",
            "symbol",
            "api_key",
            "contains",
            "skip",
            "count",
            "probability",
            "parameters",
        }
        unknown = set(description) - known
        if unknown:
            raise FaultError(f"A fault has no field {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}.")
        kind = description.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise FaultError(f"kind {kind!r} is none of {', '.join(KINDS)}.")
        stages, defaults = KINDS[kind]
        stage = description.get("stage", stages[0])
        if not isinstance(stage, str) or stage not in tuple(stages):
            raise FaultError(f"{kind} applies at {' or '.join(stages)}, not at {stage!r}.")
        given = description.get("parameters", {})
        if not isinstance(given, dict):
            raise FaultError("parameters must be an object.")
        for name, value in given.items():
            if name not in defaults:
                raise FaultError(f"{kind} has no parameter {name!r}; it has {', '.join(defaults) or 'none'}.")
            wanted = type(defaults[name])
            right = isinstance(value, int | float) if wanted is int else isinstance(value, wanted)
            if not right or (wanted is not bool and isinstance(value, bool)):
                raise FaultError(f"{kind} parameter {name} must be like {defaults[name]!r}, not {value!r}.")
        for name, value in given.items():
            if stages == (Stage.ENGINE,) and name != "asset" and read_decimal(value) is None:
                raise FaultError(f"{kind} parameter {name} must be a plain number of at least 0, not {value!r}.")
        if kind == "refuse" and given.get("reason", REASONS[0]) not in REASONS:
            raise FaultError(f"refuse parameter reason must be one of {', '.join(REASONS)}, not {given['reason']!r}.")
        contains = description.get("contains", "")
        if not isinstance(contains, str):
            raise FaultError(f"contains must be a text, not {contains!r}.")
        fault = Fault(
            id=next(self._ids),
            kind=kind,
            stage=Stage(stage),
            exchange=_glob(description, "exchange"),
            operation=_glob(description, "operation"),
            symbol=_glob(description, "symbol"),
            api_key=_glob(description, "api_key"),
            contains=contains,
            skip=_whole(description, "skip") or 0,
            count=_whole(description, "count"),
            probability=_probability(description),
            parameters={**defaults, **given},
        )
        self._faults[fault.id] = fault
        return fault

    def remove(self, fault_id: int) -> bool:
        return self._faults.pop(fault_id, None) is not None

    def clear(self) -> None:
        self._faults.clear()

    def describe(self) -> list[dict[str, object]]:
        return [fault.describe() for fault in self._faults.values()]

    def strike(
        self,
        stage: Stage,
        *,
        exchange: str,
        operation: str,
        symbol: str = "",
        api_key: str = "",
        kind: str = "*",
        message: bytes = b"",
    ) -> Fault | None:
        """Return the first registered fault that strikes this message, counting it; None as a rule."""
        if not self._faults:
            return None
        for fault in self._faults.values():
            if (
                fault.stage is not stage
                or not fnmatchcase(fault.kind, kind)
                or not fnmatchcase(exchange, fault.exchange)
                or not fnmatchcase(operation, fault.operation)
                or not fnmatchcase(symbol, fault.symbol)
                or not fnmatchcase(api_key, fault.api_key)
                or (fault.contains and fault.contains.encode() not in message)
                or (fault.count is not None and fault.hits >= fault.count)
            ):
                continue
            fault.seen += 1
            if fault.seen <= fault.skip:
                continue
            if fault.probability < 1 and self._random.random() >= fault.probability:
                continue
            fault.hits += 1
            return fault
        return None

    def clock_shift_ms(self, exchange: str) -> int:
        """Return by how much an exchange's clock is to be wrong now."""
        return sum(
            int(fault.number("ms"))
            for fault in self._faults.values()
            if fault.kind == "clock_shift" and fnmatchcase(exchange, fault.exchange)
        )


def _glob(description: dict[str, object], name: str) -> str:
    value = description.get(name, "*")
    if not isinstance(value, str) or not value:
        raise FaultError(f"{name} must be a name or pattern, not {value!r}.")
    return value


def _whole(description: dict[str, object], name: str) -> int | None:
    value = description.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise FaultError(f"{name} must be a whole number of at least 0, not {value!r}.")
    return value


def _probability(description: dict[str, object]) -> float:
    value = description.get("probability", 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise FaultError(f"probability must be between 0 and 1, not {value!r}.")
    return float(value)
