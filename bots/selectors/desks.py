"""What a bot for trades by hand may trade: worked out when it is asked for."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from bots.models import Bot, ExchangeAccount, Market, TradingPair

MOST_MARKETS = 200  # whose data a desk follows; a ticket in any other waits until its book is there


def desk_accounts(*, owner_id: int, mode: str) -> QuerySet[ExchangeAccount]:
    """Return the accounts that an owner may trade by hand with: all that are enabled; for live those with a key."""
    rows = ExchangeAccount.objects.filter(owner_id=owner_id, enabled=True, exchange__enabled=True)
    if mode == Bot.Mode.LIVE:
        rows = rows.filter(key_fingerprint__isnull=False)
    return rows.select_related("exchange").order_by("pk")


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
