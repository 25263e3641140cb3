"""The two roles: operators work on every owner's rows and on the venues, users on what is theirs."""

from __future__ import annotations

from collections.abc import Iterable

from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.db.models import Q

OPERATORS = "Operators"
USERS = "Users"

# App label -> model -> actions; "*" is every model of the app.
_USER_RIGHTS: dict[str, tuple[str, ...]] = {
    "bots.basisposition": ("view",),
    "bots.bot": ("view", "add", "change", "delete"),
    "bots.exchangeaccount": ("view", "add", "change", "delete"),
    "bots.apitoken": ("view", "add", "change"),
    "bots.asset": ("view",),
    "bots.balance": ("view",),
    "bots.command": ("view",),
    "bots.decision": ("view",),
    "bots.difference": ("view", "settle"),
    "bots.exchange": ("view",),
    "bots.fill": ("view",),
    "bots.income": ("view",),
    "bots.ledgerentry": ("view",),
    "bots.ledgerline": ("view",),
    "bots.legslippage": ("view",),
    "bots.listedasset": ("view",),
    "bots.market": ("view",),
    "bots.order": ("view", "decide"),
    "bots.orderevent": ("view",),
    "bots.position": ("view",),
    "bots.ticket": ("view",),
    "bots.trade": ("view",),
    "bots.tradingpair": ("view",),
    "risk.approval": ("view",),
    "risk.breakerevent": ("view",),
    "risk.circuitbreaker": ("view",),
    "risk.allowedpair": ("view",),
    "risk.rebalanceevent": ("view",),
    "risk.rebalancerequest": ("view", "add", "decide"),
    "risk.risklimit": ("view",),
    "risk.tradingswitch": ("view", "set"),
    "risk.slippagestat": ("view",),
}
_OPERATOR_APPS = ("bots", "risk", "django_celery_beat")


def roles_sync() -> None:
    """Create the groups and give them exactly the permissions of their role; idempotent."""
    _group_set(OPERATORS, Permission.objects.filter(content_type__app_label__in=_OPERATOR_APPS))
    wanted = Q(pk__in=[])
    for label, actions in _USER_RIGHTS.items():
        model = apps.get_model(label)._meta
        names = [f"{action}_{model.model_name}" for action in actions]
        wanted |= Q(content_type__app_label=model.app_label, codename__in=names)
    _group_set(USERS, Permission.objects.filter(wanted))


def _group_set(name: str, permissions: Iterable[Permission]) -> None:
    group, _ = Group.objects.get_or_create(name=name)
    group.permissions.set(permissions)
