"""Circuit breakers and trading switches as the live page shows them, each with whose it is."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model

from bots.models import Bot, ExchangeAccount
from bots.times import unix
from risk.models import CircuitBreaker, TradingSwitch
from risk.policy.breakers import SECOND_NS, Breaker, BreakerRules, BreakerState, Scope, settled
from risk.selectors import breaker_rules, breakers_over, switches_over


class RiskItem(NamedTuple):
    """One item of a live page: ``owner_id`` None is for everybody. ``row_id`` is the row's in the database."""

    owner_id: int | None
    kind: str
    data: dict[str, Any]
    row_id: int

    @property
    def key(self) -> str:
        return f"{self.data['scope']}:{self.data['key']}"


class Named(NamedTuple):
    """A breaker with its name in words and whose it is."""

    owner_id: int | None
    name: str
    breaker: Breaker
    row_id: int


def breakers_data(*, owner_id: int) -> list[RiskItem]:
    """Return the breakers that are not closed, as they are now: everybody's, and those of one owner."""
    return breaker_items(breakers_over(owner_id))


def breaker_items(rows: Sequence[CircuitBreaker]) -> list[RiskItem]:
    """Return breakers as they are now."""
    rules, now_ns = breaker_rules(), time.time_ns()
    return [breaker_item(named, rules, now_ns) for named in breakers_named(rows)]


def breaker_item(named: Named, rules: Mapping[Scope, BreakerRules], now_ns: int) -> RiskItem:
    """Return a breaker as it is at ``now_ns``. What tripped one in figures stays away: it may be another owner's."""
    present = settled(named.breaker, now_ns)
    data = {
        "scope": present.scope.value,
        "key": present.key,
        "name": named.name,
        "state": present.state.value,
        "share": _share(present, rules[present.scope]),
        "until": None if present.until_ns is None else present.until_ns / SECOND_NS,
        "reason": present.reason,
        "trigger": present.trigger,
        "trips": present.trips,
        "since": present.since_ns / SECOND_NS,
        "version": present.version,
    }
    return RiskItem(named.owner_id, "breaker", data, named.row_id)


def breakers_named(rows: Sequence[CircuitBreaker]) -> list[Named]:
    """Return breakers with their names in words; a query for each of owners, bots and accounts that is there."""
    ids: defaultdict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row.owner_id is not None:
            ids[row.scope].add(int(row.key))
    names: dict[tuple[str, str], str] = {}
    users = get_user_model()._default_manager
    if owners := ids[Scope.OWNER]:
        for user in users.filter(pk__in=owners):
            names[Scope.OWNER, str(user.pk)] = f"owner {user.get_username()}"
    if bots := ids[Scope.BOT]:
        for bot_id, name in Bot.objects.filter(pk__in=bots).values_list("pk", "name"):
            names[Scope.BOT, str(bot_id)] = f"bot {name}"
    if accounts := ids[Scope.ACCOUNT]:
        found = ExchangeAccount.objects.filter(pk__in=accounts).values_list("pk", "label", "exchange__code")
        for account_id, label, exchange in found:
            names[Scope.ACCOUNT, str(account_id)] = f"account {label} on {exchange}"
    return [
        Named(row.owner_id, names.get((row.scope, row.key)) or _plain_name(row), row.to_policy(), row.pk)
        for row in rows
    ]


def switches_data(*, owner_id: int | None) -> list[RiskItem]:
    """Return the switch of everybody and those of an owner and its bots, for None all there are."""
    return switch_items(switches_over(owner_id))


def switch_items(rows: Sequence[TradingSwitch]) -> list[RiskItem]:
    """Return switches as they stand."""
    return [
        RiskItem(
            row.owner_id if row.bot is None else row.bot.owner_id,
            "switch",
            {
                "scope": row.scope,
                "key": str(row.bot_id or row.owner_id or ""),
                "name": row.source,
                "state": row.state,
                "reason": row.reason,
                "since": unix(row.changed_at),
                "version": row.version,
            },
            row.pk,
        )
        for row in rows
    ]


def risk_items(published: Collection[int]) -> tuple[list[Named], dict[Scope, BreakerRules], list[RiskItem]]:
    """Return every owner's breakers that are not closed or in ``published`` (row ids), the rules, and all switches."""
    rows = breakers_over(None, also=published)
    return breakers_named(rows), breaker_rules(), switches_data(owner_id=None)


def _share(breaker: Breaker, rules: BreakerRules) -> float:
    """Return the share of the size that goes through; a probe goes at the smallest size, which has no share."""
    if breaker.state is BreakerState.CLOSED:
        return 1.0
    if breaker.state is BreakerState.RAMPING:
        return rules.steps[min(breaker.step, len(rules.steps) - 1)]
    return 0.0


def _plain_name(row: CircuitBreaker) -> str:
    if row.scope == Scope.PAIR_ON_EXCHANGE:
        exchange, _, pair = row.key.partition(":")
        return f"{pair} on {exchange}"
    return row.to_policy().name


__all__ = [
    "Named", "RiskItem", "breaker_item", "breaker_items", "breakers_data", "breakers_named", "risk_items",
    "switch_items", "switches_data",
]  # fmt: skip
