"""Which routes of a bot are not traded, whatever their prices: halted markets, other coins, closed wallets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bots.models import Asset, Bot, ListedAsset
from bots.models import Market as MarketRow
from risk.policy.tradability import (
    Listing,
    RouteMarkets,
    known_different,
    known_same,
    market_status,
    wallets,
)
from trading.arbitrage.routes import two_leg_routes
from trading.instruments import Market


class BotRoutes(NamedTuple):
    """The markets a bot watches, and the routes between them it does not trade, by key with a sentence: with nobody's
    money, and not with real money."""

    markets: tuple[Market, ...]
    untradable: Mapping[str, str]
    unproven: Mapping[str, str]


def bot_routes(bot: Bot) -> BotRoutes:
    """Judge every route between the listed markets of a bot's pairs on its accounts' exchanges.

    A halted market is watched on, as if it were active: its routes are refused with the reason, and trade when it does.
    """
    exchanges = {account.exchange_id for account in bot.accounts.all()}
    pairs = {(pair.base_id, pair.quote_id) for pair in bot.pairs.all()}
    rows = MarketRow.objects.filter(exchange__in=exchanges, listed=True, base__in={base for base, _ in pairs})
    listed = [
        row.to_engine()
        for row in rows.select_related("exchange").order_by("pk")
        if (row.base_id, row.quote_id) in pairs
    ]
    halted = {market.key for market in listed if not market.active}
    markets = tuple(msgspec.structs.replace(market, active=True) for market in listed)
    untradable, unproven = _refused(markets, halted, bot.require_open_wallets)
    return BotRoutes(markets, untradable, unproven)


def _refused(
    markets: Sequence[Market], halted: Collection[str], require_open_wallets: bool
) -> tuple[dict[str, str], dict[str, str]]:
    assets = {asset for market in markets for asset in (market.base, market.quote)}
    exchanges = {market.exchange for market in markets}
    rows = ListedAsset.objects.filter(asset__in=assets, exchange__code__in=exchanges).select_related("exchange")
    known = {(row.exchange.code, row.asset_id): row.to_policy() for row in rows}
    confirmed = frozenset(Asset.objects.filter(code__in=assets, confirmed=True).values_list("code", flat=True))

    def listing(market: Market, asset: str) -> Listing:
        return known.get((market.exchange, asset)) or Listing(exchange=market.exchange, asset=asset)

    untradable: dict[str, str] = {}
    unproven: dict[str, str] = {}
    for route in two_leg_routes(markets):
        buy, sell = route.buy, route.sell
        judged = RouteMarkets(
            base_bought=listing(buy, buy.base),
            base_sold=listing(sell, sell.base),
            quote_paid=listing(buy, buy.quote),
            quote_received=listing(sell, sell.quote),
            halted=tuple(market.key for market in (buy, sell) if market.key in halted),
        )
        verdicts = [market_status(judged), known_different(judged, confirmed)]
        # A contract delivers no coin, so no wallet is in its way.
        if require_open_wallets and {buy.kind, sell.kind} == {"spot"}:
            verdicts.append(wallets(judged))
        refused = next((verdict.reason for verdict in verdicts if not verdict.allowed), "")
        if refused:
            untradable[route.key] = refused
        elif not (proof := known_same(judged, confirmed)).allowed:
            unproven[route.key] = proof.reason
    return untradable, unproven
