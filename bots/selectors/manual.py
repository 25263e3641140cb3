"""What the panel for trading by hand offers: the markets of an account, by what is searched for."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, Q, QuerySet, Value, When

from bots.models import ExchangeAccount, Market, TradingPair
from bots.selectors.desks import desk_pairs

MARKETS = 50


def manual_markets(*, account: ExchangeAccount, search: str) -> list[dict[str, Any]]:
    """Return up to MARKETS markets of an account's exchange whose symbol or asset is like ``search``.

    Exactly this symbol comes first, then what begins with it. Only markets of pairs that the owner's bots trade, or of
    all pairs if they trade none: nobody follows the prices of others.
    """
    rows = Market.objects.filter(exchange_id=account.exchange_id, active=True, listed=True)
    rows = rows.filter(_of_pairs(desk_pairs(owner_id=account.owner_id)))
    words = search.upper().replace("/", " ").replace(":", " ").split()
    for word in words[:4]:
        rows = rows.filter(symbol__icontains=word)
    if words:
        rows = rows.annotate(
            rank=Case(
                When(symbol__iexact=search, then=Value(0)),
                When(symbol__istartswith=search, then=Value(1)),
                default=Value(2),
            )
        ).order_by("rank", "symbol")
    else:
        rows = rows.order_by("symbol")
    return [_market_data(row) for row in rows.select_related("exchange")[:MARKETS]]


def _of_pairs(pairs: QuerySet[TradingPair]) -> Q:
    by_quote: dict[str, list[str]] = {}
    for base, quote in pairs.values_list("base_id", "quote_id"):
        by_quote.setdefault(quote, []).append(base)
    condition = Q(pk__in=[])
    for quote, bases in by_quote.items():
        condition |= Q(quote=quote, base__in=bases)
    return condition


def _market_data(row: Market) -> dict[str, Any]:
    return {
        "key": f"{row.exchange.code}:{row.symbol}",
        "id": row.pk,
        "exchange": row.exchange.code,
        "symbol": row.symbol,
        "kind": row.kind,
        "base": row.base_id,
        "quote": row.quote_id,
        "settle": row.settle_id,
        "contract_size": f"{row.contract_size:f}",
        "tick": f"{row.tick:f}",
        "lot": f"{row.lot:f}",
        "min_amount": f"{row.min_amount:f}",
        "min_notional": f"{row.min_notional:f}",
    }
