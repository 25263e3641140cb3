"""Which limits, allowed pairs and switches bind a bot, and what they leave of its parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from django.apps import apps
from django.db.models import Q, QuerySet

from risk.models import AllowedPair, RiskLimit, RiskRevision, TradingSwitch
from risk.policy.layers import TOGETHER, Bound, Layer, LayerScope, layer_name, tightest
from risk.policy.limits import RouteLimits
from risk.policy.switch import NORMAL, SwitchState, TradingState, strictest
from risk.rules import RULES, Rule
from trading.config import BotConfig

OWN_SETTING = "the bot's own setting"


class LimitBounds(NamedTuple):
    """The limits over a bot, by rule: everywhere; by exchange code and by pair (``BTC/USDT``) on the routes of it."""

    everywhere: Mapping[str, Bound]
    exchanges: Mapping[str, Mapping[str, Bound]] = {}
    pairs: Mapping[str, Mapping[str, Bound]] = {}
    together: Mapping[
        str, Bound
    ] = {}  # over all the owner's bots together: what everybody's and the owner's layers say


class AllowedPairs(NamedTuple):
    """The pairs that every list over a bot has, and whose lists these are."""

    pairs: frozenset[str]
    source: str


class Binding(NamedTuple):
    """What binds a bot by one rule. ``where`` is empty for everywhere, else ``exchange alpha`` or ``pair BTC/USDT``."""

    rule: Rule
    value: Decimal
    where: str
    source: str


# --- limits --------------------------------------------------------------------------------------------------------


def limit_bounds(
    *, owner_id: int, bot_id: int, exchanges: Collection[str] = (), pairs: Collection[str] = ()
) -> LimitBounds:
    """Return the tightest limit of each rule over a bot, and those of its exchanges (codes) and pairs; one query."""
    bases = {pair.partition("/")[0] for pair in pairs}
    rows = RiskLimit.objects.filter(
        Q(scope=LayerScope.GLOBAL)
        | Q(scope=LayerScope.OWNER, owner_id=owner_id)
        | Q(scope=LayerScope.BOT, bot_id=bot_id)
        | Q(scope=LayerScope.EXCHANGE, exchange__code__in=exchanges)
        | Q(scope=LayerScope.PAIR, pair__base__in=bases)
    ).order_by("pk")
    everywhere: list[Layer] = []
    by_exchange: defaultdict[str, list[Layer]] = defaultdict(list)
    by_pair: defaultdict[str, list[Layer]] = defaultdict(list)
    for scope, rule, value, owner, bot, exchange, base, quote in rows.values_list(
        "scope", "rule", "value", "owner__username", "bot__name", "exchange__code", "pair__base_id", "pair__quote_id"
    ):
        if rule not in RULES:
            continue
        pair = f"{base}/{quote}"
        if scope == LayerScope.EXCHANGE:
            by_exchange[exchange].append(Layer(scope=LayerScope(scope), subject=exchange, rule=rule, value=value))
        elif scope != LayerScope.PAIR:
            everywhere.append(Layer(scope=LayerScope(scope), subject=owner or bot or "", rule=rule, value=value))
        elif pair in pairs:
            by_pair[pair].append(Layer(scope=LayerScope(scope), subject=pair, rule=rule, value=value))
    return LimitBounds(
        everywhere=tightest(everywhere),
        exchanges={exchange: tightest(layers) for exchange, layers in by_exchange.items()},
        pairs={pair: tightest(layers) for pair, layers in by_pair.items()},
        together=tightest(one for one in everywhere if one.scope != LayerScope.BOT and one.rule in TOGETHER),
    )


def limits_overlapping(limit: RiskLimit, *, rule: str) -> QuerySet[RiskLimit]:
    """Return the limits of a rule that could bind the same trade as ``limit``, whatever its scope.

    Two layers bind the same trade unless they are over different owners, bots or pairs. A route has a leg on each of
    two exchanges, so even the limits of two exchanges meet on one.
    """
    apart = Q(pk__in=[])
    if limit.scope == LayerScope.OWNER:
        apart = Q(scope=LayerScope.OWNER) & ~Q(owner=limit.owner_id) | Q(scope=LayerScope.BOT) & ~Q(
            bot__owner=limit.owner_id
        )
    elif limit.scope == LayerScope.BOT and limit.bot is not None:
        owner = limit.bot.owner_id
        apart = Q(scope=LayerScope.BOT) & ~Q(bot=limit.bot_id) | Q(scope=LayerScope.OWNER) & ~Q(owner=owner)
    elif limit.scope == LayerScope.PAIR:
        apart = Q(scope=LayerScope.PAIR) & ~Q(pair=limit.pair_id)
    others = RiskLimit.objects.filter(rule=rule).exclude(pk=limit.pk).exclude(apart)
    return others.select_related("owner", "bot", "exchange", "pair").order_by("pk")


def limits_apply(config: BotConfig, bounds: LimitBounds, allowed: AllowedPairs | None = None) -> BotConfig:
    """Return the configuration with each parameter no looser than its limit; limits never loosen one.

    A parameter that is off (None) takes the limit as it is. ``limit_sources`` names whose limit stands where one is
    tighter than the bot's own setting.
    """
    changes: dict[str, Any] = {}
    sources = dict(config.limit_sources)
    for name, bound in bounds.everywhere.items():
        rule, present = RULES[name], getattr(config, name)
        if present is None or rule.is_tighter(bound.value, Decimal(str(present))):
            changes[name] = rule.native(bound.value)
            sources[name] = bound.source
    for name, bound in bounds.together.items():
        changes[f"{name}_together"] = RULES[name].native(bound.value)
        sources[f"{name}_together"] = bound.source
    if allowed is not None:
        own = config.allowed_pairs
        changes["allowed_pairs"] = allowed.pairs if own is None else allowed.pairs & own
        sources["allowed_pairs"] = allowed.source
    return msgspec.structs.replace(
        config,
        **changes,
        exchange_limits=_routes(LayerScope.EXCHANGE, bounds.exchanges),
        pair_limits=_routes(LayerScope.PAIR, bounds.pairs),
        limit_sources=sources,
    )


def _routes(scope: LayerScope, found: Mapping[str, Mapping[str, Bound]]) -> dict[str, RouteLimits]:
    routes = {}
    for subject, bounds in found.items():
        values: dict[str, Any] = {
            name: RULES[name].native(bound.value) for name, bound in bounds.items() if RULES[name].by_route
        }
        routes[subject] = RouteLimits(source=layer_name(scope, subject), **values)
    return routes


def limits_binding(bounds: LimitBounds, own: Mapping[str, Decimal | int | None]) -> list[Binding]:
    """Return what binds a bot by each rule, and whose it is; ``own`` are its parameters by rule, None for off.

    An exchange's or a pair's limit is listed where it is tighter than what holds everywhere.
    """
    found = []
    for name, rule in RULES.items():
        setting, bound = own.get(name), bounds.everywhere.get(name)
        present = None if setting is None else Decimal(setting)
        source = OWN_SETTING
        if bound is not None and (present is None or rule.is_tighter(bound.value, present)):
            present, source = bound.value, bound.source
        if present is not None:
            found.append(Binding(rule, present, "", source))
        for scope, routes in ((LayerScope.EXCHANGE, bounds.exchanges), (LayerScope.PAIR, bounds.pairs)):
            for subject in sorted(routes):
                route = routes[subject].get(name)
                if route is not None and (present is None or rule.is_tighter(route.value, present)):
                    found.append(Binding(rule, route.value, layer_name(scope, subject), route.source))
    return found


# --- allowed pairs -------------------------------------------------------------------------------------------------


def pairs_allowed(*, owner_id: int, bot_id: int) -> AllowedPairs | None:
    """Return the pairs that every list over a bot has, or None if there is no list; one query."""
    rows = AllowedPair.objects.filter(
        Q(scope=LayerScope.GLOBAL)
        | Q(scope=LayerScope.OWNER, owner_id=owner_id)
        | Q(scope=LayerScope.BOT, bot_id=bot_id)
    ).order_by("pk")
    lists: defaultdict[str, set[str]] = defaultdict(set)
    for scope, owner, bot, base, quote in rows.values_list(
        "scope", "owner__username", "bot__name", "pair__base_id", "pair__quote_id"
    ):
        lists[layer_name(scope, owner or bot or "")].add(f"{base}/{quote}")
    if not lists:
        return None
    return AllowedPairs(frozenset(set.intersection(*lists.values())), ", ".join(sorted(lists)))


def is_last_pair(allowed: AllowedPair) -> bool:
    """Return whether without this row its scope would have no list, and so allow every pair."""
    others = AllowedPair.objects.filter(scope=allowed.scope, owner=allowed.owner_id, bot=allowed.bot_id)
    return not others.exclude(pk=allowed.pk).exists()


# --- switches ------------------------------------------------------------------------------------------------------


def switches_of(owner_id: int) -> dict[int | None, SwitchState]:
    """Return where trading stands for an owner's bots, the strictest switch over each; one query.

    The key None is for bots without a switch of their own, and always there.
    """
    rows = TradingSwitch.objects.filter(
        Q(scope=LayerScope.GLOBAL)
        | Q(scope=LayerScope.OWNER, owner_id=owner_id)
        | Q(scope=LayerScope.BOT, bot__owner=owner_id)
    ).order_by("pk")
    over_all: list[SwitchState] = []
    bots: dict[int, SwitchState] = {}
    for scope, state, reason, owner, bot_id, bot in rows.values_list(
        "scope", "state", "reason", "owner__username", "bot_id", "bot__name"
    ):
        found = SwitchState(state=TradingState(state), source=layer_name(scope, owner or bot or ""), reason=reason)
        if scope == LayerScope.BOT:
            bots[bot_id] = found
        else:
            over_all.append(found)
    everywhere = strictest(over_all)
    switches: dict[int | None, SwitchState] = {None: everywhere}
    for bot_id, own in bots.items():
        switches[bot_id] = strictest((everywhere, own))
    return {key: switch if switch.state != TradingState.NORMAL else NORMAL for key, switch in switches.items()}


def switches_over(owner_id: int | None) -> list[TradingSwitch]:
    """Return the switch of everybody and those of an owner and its bots, for None all there are; one query."""
    rows = TradingSwitch.objects.select_related("owner", "bot").order_by("pk")
    if owner_id is not None:
        rows = rows.filter(
            Q(scope=LayerScope.GLOBAL)
            | Q(scope=LayerScope.OWNER, owner_id=owner_id)
            | Q(scope=LayerScope.BOT, bot__owner=owner_id)
        )
    return list(rows)


def switch_over(*, owner_id: int, bot_id: int) -> SwitchState:
    """Return the strictest switch over a bot; one query."""
    found = switches_of(owner_id)
    return found.get(bot_id, found[None])


def risk_revision() -> int:
    """Return the number of the last change to limits, allowed pairs or switches; 0 before the first."""
    return RiskRevision.objects.values_list("number", flat=True).first() or 0


# --- who is bound --------------------------------------------------------------------------------------------------


def bots_running_under(row: RiskLimit | AllowedPair) -> list[str]:
    """Return the running bots that a limit or a list is over, as ``Wide net (anna)``."""
    bots: Any = apps.get_model("bots", "Bot")
    running: Iterable[tuple[str, str]] = (
        bots._default_manager.filter(_under(row), desired_state=bots.Desired.RUNNING)
        .order_by("owner__username", "name")
        .values_list("name", "owner__username")
        .distinct()
    )
    return [f"{name} ({owner})" for name, owner in running]


def _under(row: RiskLimit | AllowedPair) -> Q:
    scopes = RiskLimit.Scope
    if row.scope == scopes.OWNER:
        return Q(owner=row.owner_id)
    if row.scope == scopes.BOT:
        return Q(pk=row.bot_id)
    if isinstance(row, RiskLimit) and row.scope == scopes.EXCHANGE:
        return Q(accounts__exchange=row.exchange_id)
    if isinstance(row, RiskLimit) and row.scope == scopes.PAIR:
        return Q(pairs=row.pair_id)
    return Q()
