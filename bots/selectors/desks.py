"""What a bot for trades by hand may trade, and whose money accounts hold: worked out when it is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from django.conf import settings
from django.db.models import Q, QuerySet

from bots.models import Bot, Exchange, ExchangeAccount, Market, TradingPair

MOST_MARKETS = 200  # whose data a desk follows; a ticket in any other waits until its book is there


def desk_accounts(*, owner_id: int, mode: str) -> QuerySet[ExchangeAccount]:
    """Return the accounts that an owner may trade by hand with: all that are enabled; for live those with a key."""
    rows = ExchangeAccount.objects.filter(owner_id=owner_id, enabled=True, exchange__enabled=True)
    if mode == Bot.Mode.LIVE:
        rows = rows.filter(key_fingerprint__isnull=False)
    return rows.select_related("exchange").order_by("pk")


def accounts_real(accounts: Iterable[ExchangeAccount], *, owner_id: int) -> frozenset[int]:
    """Return which of an owner's accounts have the exchange's figures stored; those of the others are paper money.

    They are the exchange's while a live bot runs on an account, else paper money while a paper bot does; with neither
    running they are the exchange's if a live bot has it. A bot for trades by hand is on every account it may use.
    """
    uses: defaultdict[int | None, set[tuple[str, bool]]] = defaultdict(set)
    by_hand: set[tuple[str, bool]] = set()
    bots = Bot.objects.filter(owner_id=owner_id)
    for strategy, mode, desired, account_id in bots.values_list("strategy", "mode", "desired_state", "accounts"):
        on = by_hand if strategy == Bot.Strategy.MANUAL else uses[account_id]
        on.add((mode, desired == Bot.Desired.RUNNING))
    live, paper = Bot.Mode.LIVE.value, Bot.Mode.PAPER.value
    found = set()
    for account in accounts:
        may_be_live = account.has_credentials and _has_its_yeses(account)
        used = uses[account.pk] | {use for use in by_hand if use[0] == paper or may_be_live}
        if (live, True) in used or ((paper, True) not in used and (live, False) in used):
            found.add(account.pk)
    return frozenset(found)


def _has_its_yeses(account: ExchangeAccount) -> bool:
    if account.exchange.environment != Exchange.Environment.LIVE:
        return True
    return bool(settings.ARB_ALLOW_LIVE_ORDERS and account.armed_for_live)


def desk_pairs(*, owner_id: int) -> QuerySet[TradingPair]:
    """Return the pairs of an owner's other bots; all there are if those have none."""
    own = TradingPair.objects.filter(bots__owner_id=owner_id).exclude(bots__strategy=Bot.Strategy.MANUAL).distinct()
    return own if own.exists() else TradingPair.objects.all()


def desk_markets(*, owner_id: int, mode: str) -> list[Market]:
    """Return the markets whose data a desk follows, with their exchanges."""
    exchanges = {account.exchange_id for account in desk_accounts(owner_id=owner_id, mode=mode)}
    pairs = Q(pk__in=())
    for base, quote in desk_pairs(owner_id=owner_id).values_list("base_id", "quote_id")[:MOST_MARKETS]:
        pairs |= Q(base_id=base, quote_id=quote)
    rows = Market.objects.filter(pairs, exchange__in=exchanges, listed=True, active=True)
    return list(rows.select_related("exchange").order_by("pk")[:MOST_MARKETS])
