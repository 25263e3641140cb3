"""What the breakers over a trade leave of it: nothing, a probe, a share of its size, or all.

A gate stands before new trades only. Repairs of trades that are open already are never asked about here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from risk.policy.breakers import Breaker, BreakerRules, BreakerState, Scope, describe, settled

Key = tuple[Scope, str]
# The rules of every scope.
Rulebook = Mapping[Scope, BreakerRules]


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """The combined answer of the breakers that apply to a trade.

    Attributes
    ----------
    factor
        Share of the wanted size that may go through, in [0, 1]; 0.0 when refused.
    probe
        The trade goes at the smallest size its markets allow.
    edge_factor
        What the least net edge is multiplied by, at least 1.0.
    reason
        One sentence naming the breaker that binds and until when; empty when none does.
    until
        Wall time in nanoseconds after which asking again may help, or None.
    breaker
        The breaker that binds: the one that refuses, else that of the smallest factor.
    claims
        When refused only because probes are free: all of these the holder has to claim to get through.
    """

    allowed: bool
    factor: float = 1.0
    probe: bool = False
    edge_factor: float = 1.0
    reason: str = ""
    until: int | None = None
    breaker: Breaker | None = None
    claims: tuple[Breaker, ...] = ()


FREE = Gate(allowed=True)


class Leg(NamedTuple):
    """One leg of a route, as breakers name it; ``symbol`` is ccxt's unified one."""

    account_id: int | str
    exchange: str
    symbol: str


def keys_of(*, owner_id: int | str, bot_id: int | str, legs: Iterable[Leg]) -> tuple[Key, ...]:
    """Return the keys of all breakers that stand over a bot's route, each once; make them once a route.

    A contract counts to its pair: BTC/USDT:USDT is BTC/USDT.
    """
    keys: dict[Key, None] = {(Scope.GLOBAL, ""): None, (Scope.OWNER, str(owner_id)): None}
    keys[Scope.BOT, str(bot_id)] = None
    for leg in legs:
        pair = leg.symbol.partition(":")[0]
        keys[Scope.ACCOUNT, str(leg.account_id)] = None
        keys[Scope.EXCHANGE, leg.exchange] = None
        keys[Scope.PAIR, pair] = None
        keys[Scope.PAIR_ON_EXCHANGE, f"{leg.exchange}:{pair}"] = None
    return tuple(keys)


def verdict(breakers: Iterable[Breaker], rules: Rulebook, holder: str, now_ns: int) -> Gate:
    """Return what ``breakers`` together allow ``holder`` to do.

    The first refusal by breaker that is open or probed by another binds; free probes bind only when nothing else
    refuses, and then all of them are named, because a trade goes through all its breakers or through none.
    """
    factor, edge_factor, probe = 1.0, 1.0, False
    bound: Breaker | None = None
    free: list[Breaker] = []
    for breaker in breakers:
        if breaker.state is BreakerState.CLOSED:
            continue
        present = settled(breaker, now_ns)
        if present.state is BreakerState.HALF_OPEN:
            free.append(present)
            continue
        of_scope = rules[present.scope]
        if present.state is BreakerState.RAMPING:
            share = of_scope.steps[min(present.step, len(of_scope.steps) - 1)]
        elif present.state is BreakerState.PROBING and holder and present.holder == holder:
            share, probe = of_scope.steps[0], True
            edge_factor = max(edge_factor, of_scope.probe_edge_factor)
        else:
            return _refused(present, now_ns)
        if share < factor or bound is None:
            factor, bound = min(factor, share), present
    if free:
        return _refused(free[0], now_ns, claims=tuple(free))
    if bound is None:
        return FREE
    reason = describe(bound, now_ns)
    return Gate(allowed=True, factor=factor, probe=probe, edge_factor=edge_factor, reason=reason, breaker=bound)


def _refused(breaker: Breaker, now_ns: int, *, claims: tuple[Breaker, ...] = ()) -> Gate:
    reason = describe(breaker, now_ns)
    if claims:
        reason += " One trade may claim its probe."
    elif breaker.state is BreakerState.PROBING:
        reason += f" The probe is {breaker.holder}'s."
    return Gate(
        allowed=False, factor=0.0, reason=reason, until=breaker.until_ns, breaker=breaker, claims=claims
    )  # fmt: skip


class Breakers:
    """The breakers that are not closed, as one process knows them: asking is a handful of dictionary lookups."""

    def __init__(self) -> None:
        self._tripped: dict[Key, Breaker] = {}
        # Also of closed ones: news may come in another order than it happened. Key -> (version, change).
        self._known: dict[Key, tuple[int, int]] = {}
        self._changes = 0

    def __len__(self) -> int:
        return len(self._tripped)

    def get(self, scope: Scope, key: str) -> Breaker | None:
        """Return a breaker that is not closed, or None."""
        return self._tripped.get((scope, key))

    def put(self, breaker: Breaker) -> bool:
        """Take over what is new about a breaker; False for what is no later than what is known."""
        key = (breaker.scope, breaker.key)
        version, _ = self._known.get(key, (-1, 0))
        if breaker.version <= version:
            return False
        self._changes += 1
        self._known[key] = (breaker.version, self._changes)
        if breaker.state is BreakerState.CLOSED:
            self._tripped.pop(key, None)
        else:
            self._tripped[key] = breaker
        return True

    def mark(self) -> int:
        """Return the present point in the order of changes; take it before reading what :meth:`sync` is given."""
        return self._changes

    def sync(self, tripped: Iterable[Breaker], mark: int) -> None:
        """Take over all breakers that were not closed, as read after ``mark``.

        One that is missing was closed, unless it was put here while they were read.
        """
        read = {(breaker.scope, breaker.key): breaker for breaker in tripped}
        for breaker in read.values():
            self.put(breaker)
        for key in [key for key in self._tripped if key not in read and self._known[key][1] <= mark]:
            del self._tripped[key]

    def gate(self, keys: Sequence[Key], rules: Rulebook, holder: str, now_ns: int) -> Gate:
        """Return what the breakers of ``keys`` allow ``holder`` to do."""
        return verdict(self.over(keys), rules, holder, now_ns)

    def over(self, keys: Sequence[Key]) -> Sequence[Breaker]:
        """Return those of ``keys`` that are not closed, in their order."""
        tripped = self._tripped
        if tripped.keys().isdisjoint(keys):
            return ()
        return [tripped[key] for key in keys if key in tripped]
