"""From an opportunity to orders: size to what is affordable, quantise once, price the limits, fill in the proposal."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_DOWN, Decimal
from functools import lru_cache
from itertools import takewhile
from statistics import median

import msgspec

from risk.policy.limits import LegNeed, Limits, Proposal
from trading.config import BotConfig
from trading.execution.desk import Desk, TradeTerms
from trading.execution.ids import client_order_id
from trading.execution.ladder import Ladder
from trading.execution.repair import smallest_order
from trading.execution.reserving import needed
from trading.instruments import Market, Side, base_quantity, common_step, limit_price, lot_quantity, order_quantity
from trading.messages import Opportunity, OrderIntent, TradeRecord, TradeState
from trading.portfolio import Purse

BPS = Decimal(10_000)
DEEP = 10.0  # times the quantity wanted: beyond that, more depth makes a leg no surer
FIGURE = Decimal("1e-8")  # digits kept of detection's floats in durable records


class PlannedLeg(msgspec.Struct, frozen=True, kw_only=True):
    """One order to be: ``quantity`` in the market's own unit, ``base`` the same in base units at the limit price."""

    leg: int
    market: Market
    purse: Purse
    side: Side
    price: Decimal
    quantity: Decimal
    base: Decimal
    reserve_asset: str
    reserve_amount: Decimal


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A trade as it would be sent."""

    opportunity: Opportunity
    legs: tuple[PlannedLeg, PlannedLeg]

    @property
    def base(self) -> Decimal:
        return min(leg.base for leg in self.legs)

    @property
    def notional(self) -> Decimal:
        """The larger leg's value at its limit, in quote."""
        return max(leg.base * leg.price for leg in self.legs)


def limits_of(bot: BotConfig) -> Limits:
    return Limits(
        max_trade_notional=bot.max_trade_notional,
        max_open_trades=bot.max_open_trades,
        min_net_edge_bps=bot.min_net_edge_bps,
        max_edge_bps=bot.max_edge_bps,
        max_book_age_ms=bot.max_book_age_ms,
        max_quote_deviation_bps=bot.max_quote_deviation_bps,
        max_daily_loss=bot.max_daily_loss,
        max_exposure_asset=bot.max_exposure_asset,
        max_exposure_exchange=bot.max_exposure_exchange,
        max_exposure_account=bot.max_exposure_account,
        max_exposure_global=bot.max_exposure_global,
        max_unhedged=bot.max_unhedged,
        max_orders_per_minute=bot.max_orders_per_minute,
        allowed_pairs=bot.allowed_pairs,
        sources=bot.limit_sources,
    )


def terms_of(bot: BotConfig, purses: Mapping[str, Purse], *, paper: bool) -> TradeTerms:
    return TradeTerms(
        bot_name=bot.name,
        paper=paper,
        purses=purses,
        max_book_age_ms=bot.max_book_age_ms,
        price_tolerance_bps=bot.price_tolerance_bps,
        order_timeout_ms=bot.order_timeout_ms,
        ladder=Ladder(
            completion_seconds=bot.completion_seconds,
            unwind_seconds=bot.unwind_seconds,
            completion_bps=bot.repair_tolerance_bps,
            unwind_bps=bot.unwind_tolerance_bps,
            max_loss=bot.max_repair_loss,
        ),
        markets=tuple(market.key for market in bot.markets),
    )


def leg_limit(market: Market, side: Side, worst: float, tolerance_bps: float) -> Decimal:
    """Return a leg's limit: the worst price walked plus (or less) the tolerance, rounded to the tick towards safety."""
    more, less = _tolerances(tolerance_bps)
    return limit_price(market, Decimal(repr(worst)) * (more if side == "buy" else less), side)


@lru_cache(256)
def _tolerances(bps: float) -> tuple[Decimal, Decimal]:
    share = Decimal(repr(bps)) / BPS
    return 1 + share, 1 - share


def plan(
    desk: Desk,
    terms: TradeTerms,
    found: Opportunity,
    max_notional: Decimal,
    *,
    worst: tuple[float, float] | None = None,
    smallest: bool = False,
) -> Plan | str:
    """Return the orders for an opportunity, or in one sentence why there are none.

    The size is what the books offer, cut to the notional limit at the limit prices and to what both accounts have
    free; quantities are whole lots of both markets. ``worst`` are the prices that both legs reach for that size,
    where it is less than the opportunity's own: so their limits stand no further off than they have to. ``smallest``
    asks for the least that both markets take, which may be more than ``max_notional`` leaves.
    """
    quotes = (found.buy, found.sell)
    markets = tuple(desk.markets[quote.market] for quote in quotes)
    reached = worst or (found.buy.worst_price, found.sell.worst_price)
    prices = tuple(
        leg_limit(market, quote.side, price, terms.price_tolerance_bps)
        for market, quote, price in zip(markets, quotes, reached, strict=True)
    )
    if any(price <= 0 for price in prices):
        return "A leg's limit price rounds to zero."
    # The whole-lot quantities detection walked; as floats they are the nearest to the decimals they mean.
    walked = tuple(Decimal(repr(quote.order_quantity)) for quote in quotes)
    base = min(
        base_quantity(market, quantity, price)
        for market, quantity, price in zip(markets, walked, prices, strict=True)
    )  # fmt: skip
    most = _least(markets, prices) if smallest else max_notional / max(prices)
    base = min(base, most, _affordable(desk, terms, markets, prices))
    quantities = _whole_lots(markets, prices, base, walked)
    legs = []
    for number, (market, quote, price, quantity) in enumerate(zip(markets, quotes, prices, quantities, strict=True)):
        if quantity <= 0:
            return f"The size affordable, {_short(base)} {found.base}, is below one lot of both markets."
        least = smallest_order(market, price)
        if quantity < least:
            return f"{market.key} takes orders of at least {least:f}; the size affordable gives {quantity:f}."
        asset, amount = needed(market, quote.side, quantity, price)
        legs.append(
            PlannedLeg(
                leg=number,
                market=market,
                purse=terms.purses[market.exchange],
                side=quote.side,
                price=price,
                quantity=quantity,
                base=base_quantity(market, quantity, price),
                reserve_asset=asset,
                reserve_amount=amount,
            )
        )
    return Plan(opportunity=found, legs=(legs[0], legs[1]))


def _least(markets: tuple[Market, ...], prices: tuple[Decimal, ...]) -> Decimal:
    """Return the smallest base quantity that both markets take at these prices, in whole lots of both."""
    least = max(
        base_quantity(market, smallest_order(market, price), price)
        for market, price in zip(markets, prices, strict=True)
    )  # fmt: skip
    if any(market.kind == "inverse" for market in markets):
        return least
    step = common_step(*(market.lot * market.contract_size for market in markets))
    return (least / step).to_integral_value(rounding=ROUND_CEILING) * step


def less_certain(desk: Desk, planned: Plan) -> int:
    """Return the leg whose fill is less sure: less depth within its limit, else the slower exchange."""

    def certainty(leg: PlannedLeg) -> tuple[float, float]:
        book = desk.fresh_book(leg.market, float("inf"))
        if book is None:
            return 0.0, 0.0
        limit = float(leg.price)
        side = book.asks if leg.side == "buy" else book.bids
        reachable = takewhile(
            lambda level: level[0] <= limit if leg.side == "buy" else level[0] >= limit, side.levels()
        )
        within = sum(size for _, size in reachable)
        times = within / float(leg.quantity)
        return min(times, DEEP), -desk.answer_seconds.get(leg.purse, 0.0)

    return min(planned.legs, key=certainty).leg


def _short(number: Decimal) -> str:
    return f"{number.quantize(FIGURE, rounding=ROUND_DOWN).normalize():f}"


def _affordable(desk: Desk, terms: TradeTerms, markets: tuple[Market, ...], prices: tuple[Decimal, ...]) -> Decimal:
    """Return the base quantity that both accounts can cover; legs that draw on the same money share it."""
    unit: dict[tuple[Purse, str], Decimal] = {}
    sides: tuple[Side, Side] = ("buy", "sell")
    for market, price, side in zip(markets, prices, sides, strict=True):
        one = order_quantity(market, Decimal(1), price)
        asset, amount = needed(market, side, one, price)
        key = (terms.purses[market.exchange], asset)
        unit[key] = unit.get(key, Decimal(0)) + amount
    return min(desk.portfolio.free(purse, asset) / amount for (purse, asset), amount in unit.items())


def _whole_lots(
    markets: tuple[Market, ...], prices: tuple[Decimal, ...], base: Decimal, walked: tuple[Decimal, ...]
) -> tuple[Decimal, ...]:
    """Return each leg's quantity in its own unit: a common whole number of lots on spot and linear markets."""
    if any(market.kind == "inverse" for market in markets):
        return tuple(
            min(most, lot_quantity(order_quantity(market, base, price), market))
            for market, price, most in zip(markets, prices, walked, strict=True)
        )
    step = common_step(*(market.lot * market.contract_size for market in markets))
    whole = (base / step).to_integral_value(rounding=ROUND_DOWN) * step
    return tuple(whole / market.contract_size for market in markets)


def proposal_of(desk: Desk, bot: BotConfig, planned: Plan) -> Proposal:
    """Describe a plan to the risk policy."""
    found = planned.opportunity
    needs: dict[tuple[Purse, str], Decimal] = {}
    for leg in planned.legs:
        key = (leg.purse, leg.reserve_asset)
        needs[key] = needs.get(key, Decimal(0)) + leg.reserve_amount
    return Proposal(
        notional=planned.notional,
        quote=found.quote,
        gross_bps=found.gross_bps,
        net_bps=found.net_bps,
        book_age_ms=max(found.buy.book_age_ms, found.sell.book_age_ms),
        quote_deviation_bps=_deviation(desk, bot, planned),
        needs=tuple(
            LegNeed(account=str(purse.account_id), asset=asset, needed=amount, free=desk.portfolio.free(purse, asset))
            for (purse, asset), amount in needs.items()
        ),
        base=found.base,
        exchanges=tuple(dict.fromkeys(leg.market.exchange for leg in planned.legs)),
        accounts=tuple(dict.fromkeys(str(leg.purse.account_id) for leg in planned.legs)),
        orders=len(planned.legs),
    )


def _deviation(desk: Desk, bot: BotConfig, planned: Plan) -> float:
    """Return how far the farther leg's mid stands from the median of the bot's live markets of this pair, in bps."""
    found = planned.opportunity
    mids = {}
    for market in bot.markets:
        if (market.base, market.quote) == (found.base, found.quote):
            mid = desk.mid(market)
            if mid is not None:
                mids[market.key] = mid
    if not mids:
        return 0.0
    middle = median(mids.values())
    return max(abs(mids[leg.market.key] / middle - 1) * 1e4 for leg in planned.legs if leg.market.key in mids)


def intents_of(planned: Plan, trade_id: str, now_ns: int, timeout_ms: float) -> tuple[OrderIntent, ...]:
    return tuple(
        OrderIntent(
            client_order_id=client_order_id(trade_id, leg.leg, 0),
            trade_id=trade_id,
            account_id=leg.purse.account_id,
            market=leg.market.key,
            leg=leg.leg,
            attempt=0,
            side=leg.side,
            price=leg.price,
            quantity=leg.quantity,
            deadline_ns=now_ns + int(timeout_ms * 1e6),
            created_ns=now_ns,
            reserve_asset=leg.reserve_asset,
            reserve_amount=leg.reserve_amount,
        )
        for leg in planned.legs
    )


def record_of(planned: Plan, bot: BotConfig, trade_id: str, mode: str, now_ns: int) -> TradeRecord:
    found = planned.opportunity
    share = planned.base / Decimal(repr(found.quantity)) if found.quantity else Decimal(0)
    return TradeRecord(
        trade_id=trade_id,
        bot_id=bot.bot_id,
        route=found.route,
        base=found.base,
        quote=found.quote,
        state=TradeState.OPEN,
        mode=mode,
        quantity=planned.base,
        expected_net_bps=Decimal(repr(found.net_bps)).quantize(FIGURE),
        expected_profit=(Decimal(repr(found.net_profit)) * share).quantize(FIGURE),
        opened_ns=now_ns,
    )
