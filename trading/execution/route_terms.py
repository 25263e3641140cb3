"""What judging a route asks for and its books do not change: markets, purses, limits, breakers. Made once."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from risk.policy.gate import Key, Leg, keys_of
from risk.policy.limits import Limits, Rules, in_force, tighten
from trading.basis import BASIS
from trading.config import BotConfig
from trading.execution.desk import Desk, TradeTerms
from trading.execution.exposures import are_limited
from trading.execution.footprints import Footprint
from trading.instruments import Market, Side, common_step
from trading.messages import LegQuote, Opportunity
from trading.portfolio import Purse

BPS = Decimal(10_000)


class RouteLeg(msgspec.Struct, frozen=True):
    """One leg of a route. ``beyond`` is what a worst price is multiplied by to be the leg's limit before the tick."""

    market: Market
    side: Side
    purse: Purse
    footprint: Footprint
    beyond: Decimal
    lesson: str  # under which realised slippage is learned
    spot: bool
    account: str
    leverage: int | None = None  # of a linear contract's margin; None: as if it were one


class RouteTerms(msgspec.Struct, frozen=True, kw_only=True):
    """A bot's terms on one route, as long as its configuration and the markets stand.

    ``limits`` are the bot's with those of the route's exchanges and pair, ``rules`` those of them that are on,
    ``step`` the least base quantity that is whole lots of both markets (None with an inverse leg), ``among``
    the bot's markets of the opportunity's pair, none where those are its two legs.
    """

    buy: RouteLeg
    sell: RouteLeg
    limits: Limits
    rules: Rules
    limits_exposures: bool
    step: Decimal | None
    among: tuple[Market, ...]
    keys: tuple[Key, ...]  # of all breakers that stand over it
    exchanges: tuple[str, ...]
    accounts: tuple[str, ...]
    record: tuple[int, int]  # trades won and lost, as the store knew when the bot was started
    units: Any  # as compiled code takes them: see _units of both legs, the limit, the step (0 for none)


def route_terms(desk: Desk, bot: BotConfig, terms: TradeTerms, limits: Limits, found: Opportunity) -> RouteTerms:
    """Return a bot's terms on an opportunity's route; ``limits`` are the bot's own."""
    share = Decimal(repr(terms.price_tolerance_bps)) / BPS
    leverage = bot.basis.leverage if bot.strategy == BASIS else None
    buy = _leg(desk, terms, found.buy, 1 + share, leverage)
    sell = _leg(desk, terms, found.sell, 1 - share, leverage)
    markets = (buy.market, sell.market)
    exchanges = tuple(dict.fromkeys(market.exchange for market in markets))
    limits = limits_at(bot, limits, exchanges, f"{found.base}/{found.quote}")
    inverse = any(market.kind == "inverse" for market in markets)
    alike = tuple(market for market in bot.markets if (market.base, market.quote) == (found.base, found.quote))
    step = None if inverse else common_step(*(market.lot * market.contract_size for market in markets))
    legs = [Leg(leg.purse.account_id, leg.market.exchange, _pair(leg.market)) for leg in (buy, sell)]
    return RouteTerms(
        buy=buy,
        sell=sell,
        limits=limits,
        rules=in_force(limits),
        limits_exposures=are_limited(limits),
        step=step,
        among=() if {market.key for market in markets} == {market.key for market in alike} else alike,
        keys=keys_of(owner_id=desk.owner_id, bot_id=bot.bot_id, legs=legs),
        exchanges=exchanges,
        accounts=tuple(dict.fromkeys(leg.account for leg in (buy, sell))),
        record=bot.record.get(found.route.partition(":")[2], (0, 0)),
        units=np.array([*_units(buy), *_units(sell), float(limits.max_trade_notional), float(step or 0)]),
    )


def limits_at(bot: BotConfig, limits: Limits, exchanges: Iterable[str], pair: str) -> Limits:
    """Return a bot's limits with those of some exchanges and a pair (``BTC/USDT``)."""
    layers = [bot.exchange_limits.get(exchange) for exchange in exchanges]
    layers.append(bot.pair_limits.get(pair))
    return tighten(limits, *(layer for layer in layers if layer is not None))


def _leg(desk: Desk, terms: TradeTerms, quote: LegQuote, beyond: Decimal, leverage: int | None) -> RouteLeg:
    market = desk.markets[quote.market]
    purse = terms.purses[market.exchange]
    return RouteLeg(
        market=market,
        side=quote.side,
        purse=purse,
        footprint=Footprint(market.key, quote.side, purse.paper),
        beyond=beyond,
        lesson=f"{market.exchange}:{_pair(market)}",
        spot=market.kind == "spot",
        account=str(purse.account_id),
        leverage=leverage if market.kind == "linear" else None,
    )


def _units(leg: RouteLeg) -> tuple[float, float, float, float]:
    market = leg.market
    return float(market.contract_size), market.kind == "inverse", float(market.tick), float(leg.beyond)


def _pair(market: Market) -> str:
    return f"{market.base}/{market.quote}"
