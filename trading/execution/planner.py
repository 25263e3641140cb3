"""From an opportunity to orders: size to what is affordable, quantise once, price the limits, fill in the proposal."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_DOWN, Decimal
from itertools import takewhile
from statistics import median

import msgspec

from risk.policy.limits import LegNeed, Limits, Proposal
from trading.config import BotConfig
from trading.execution.desk import Desk, TradeTerms
from trading.execution.ids import client_order_id
from trading.execution.ladder import Ladder
from trading.execution.repair import is_enough, smallest_order
from trading.execution.reserving import needed, taken
from trading.execution.route_terms import RouteLeg, RouteTerms
from trading.instruments import Market, Side, base_quantity, limit_price, lot_quantity, order_quantity
from trading.marketdata.hub import ANY_AGE, MarketState
from trading.messages import Opportunity, OrderIntent, TradeRecord, TradeState, WorstCase
from trading.portfolio import Purse

Pair = tuple[Decimal, Decimal]  # of the buy leg and of the sell leg
ONE = Decimal(1)
DEEP = 10.0  # times the quantity wanted: beyond that, more depth makes a leg no surer
FIGURE = Decimal("1e-8")  # digits kept of detection's floats in durable records


class Sized(msgspec.Struct, frozen=True, gc=False):
    """What an opportunity is cut to: a notional in the quote asset, and the worst prices its legs reach for it.

    The same as whole numbers, of ticks of the limits and of steps of the quantity, where floats leave no doubt of what
    decimals would come to; else ``steps`` is 0.
    """

    notional: float
    worst: tuple[float, float]
    buy_ticks: float
    sell_ticks: float
    steps: float


class PlannedLeg(msgspec.Struct, frozen=True, gc=False):
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


class Plan(msgspec.Struct, frozen=True, gc=False):
    """A trade as it would be sent; ``needs`` is what it takes of each account, and what that has free."""

    opportunity: Opportunity
    legs: tuple[PlannedLeg, PlannedLeg]
    needs: tuple[LegNeed, ...]

    @property
    def base(self) -> Decimal:
        return min(leg.base for leg in self.legs)

    @property
    def notional(self) -> Decimal:
        """The larger leg's value at its limit, in quote."""
        buy, sell = self.legs
        return max(buy.base * buy.price, sell.base * sell.price)


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
        max_open_trades_together=bot.max_open_trades_together,
        max_daily_loss_together=bot.max_daily_loss_together,
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
        completion=bot.working if bot.adaptive_completion else None,
    )


def plan(
    desk: Desk,
    route: RouteTerms,
    found: Opportunity,
    max_notional: Decimal,
    *,
    sized: Sized | None = None,
    smallest: bool = False,
) -> Plan | str:
    """Return the orders for an opportunity, or in one sentence why there are none.

    The size is what the books offer, cut to the notional limit at the limit prices, to what it is sized to and to what
    both accounts have free; quantities are whole lots of both markets. ``smallest`` asks for the least that both
    markets take, which may be more than ``max_notional`` leaves.
    """
    step = route.step
    if sized is None or smallest or step is None or not sized.steps > 0.0:
        prices = _prices(route, sized.worst if sized else (found.buy.worst_price, found.sell.worst_price))
        if prices[0] <= 0 or prices[1] <= 0:
            return "A leg's limit price rounds to zero."
        most = max_notional if sized is None else min(max_notional, Decimal(repr(sized.notional)))
        base = min(_least(route, prices) if smallest else most / max(prices), *_walked(route, found, prices))
    else:
        prices = (
            Decimal(int(sized.buy_ticks)) * route.buy.market.tick,
            Decimal(int(sized.sell_ticks)) * route.sell.market.tick,
        )
        base = Decimal(int(sized.steps)) * step
    legs = _legs(desk, route, found, prices, base)
    needs = _needs(desk, route, legs)
    # What is needed grows with the size, which both legs share where there is a common step: if it is free, no less is.
    if step is None or any([need.needed > need.free for need in needs]):  # noqa: C419 (a list is quicker)
        base = min(base, _affordable(desk, route, prices))
        legs = _legs(desk, route, found, prices, base)
        needs = _needs(desk, route, legs)
    for leg in legs:
        if is_enough(leg.market, leg.quantity, leg.price):
            continue
        if leg.quantity <= 0:
            base = min(base, _affordable(desk, route, prices))
            return f"The size affordable, {_short(base)} {found.base}, is below one lot of both markets."
        least = smallest_order(leg.market, leg.price)
        return f"{leg.market.key} takes orders of at least {least:f}; the size affordable gives {leg.quantity:f}."
    return Plan(found, legs, needs)


def _prices(route: RouteTerms, worst: tuple[float, float]) -> Pair:
    """Return the legs' limits: the worst price walked plus (or less) the tolerance, at the tick towards safety."""
    return (
        limit_price(route.buy.market, Decimal(repr(worst[0])) * route.buy.beyond, "buy"),
        limit_price(route.sell.market, Decimal(repr(worst[1])) * route.sell.beyond, "sell"),
    )


def _walked(route: RouteTerms, found: Opportunity, prices: Pair) -> Pair:
    """Return the base quantities of the whole lots detection walked; as floats they are nearest to what they mean."""
    return (
        base_quantity(route.buy.market, Decimal(repr(found.buy.order_quantity)), prices[0]),
        base_quantity(route.sell.market, Decimal(repr(found.sell.order_quantity)), prices[1]),
    )


def _legs(
    desk: Desk, route: RouteTerms, found: Opportunity, prices: Pair, base: Decimal
) -> tuple[PlannedLeg, PlannedLeg]:
    """Return orders of at most ``base``: on spot and linear markets a common whole number of lots."""
    buy, sell, step = route.buy, route.sell, route.step
    if step is not None:
        whole = Decimal(int(base / step)) * step  # a quotient such as 7.7E+2 would lose the digits of the lot
        return (
            _planned(desk, 0, buy, prices[0], whole if buy.spot else whole / buy.market.contract_size),
            _planned(desk, 1, sell, prices[1], whole if sell.spot else whole / sell.market.contract_size),
        )
    quantities = [
        min(Decimal(repr(quote.order_quantity)), lot_quantity(order_quantity(leg.market, base, price), leg.market))
        for leg, quote, price in zip((buy, sell), (found.buy, found.sell), prices, strict=True)
    ]
    return _planned(desk, 0, buy, prices[0], quantities[0]), _planned(desk, 1, sell, prices[1], quantities[1])


def _planned(desk: Desk, number: int, leg: RouteLeg, price: Decimal, quantity: Decimal) -> PlannedLeg:
    market = leg.market
    base = quantity if leg.spot else base_quantity(market, quantity, price)
    if leg.leverage is None:
        asset, amount = taken(market, leg.side, base, price)
    else:
        asset, amount = needed(market, leg.side, quantity, price, leverage=leg.leverage, mark=desk.middle(market))
    return PlannedLeg(number, market, leg.purse, leg.side, price, quantity, base, asset, amount)


def _needs(desk: Desk, route: RouteTerms, legs: tuple[PlannedLeg, PlannedLeg]) -> tuple[LegNeed, ...]:
    """Return what the legs take of each account, and what it has free; legs that draw on the same money share it."""
    buy, sell = legs
    if buy.reserve_asset == sell.reserve_asset and buy.purse == sell.purse:
        return (_need(desk, route.buy, buy.reserve_asset, buy.reserve_amount + sell.reserve_amount),)
    return (
        _need(desk, route.buy, buy.reserve_asset, buy.reserve_amount),
        _need(desk, route.sell, sell.reserve_asset, sell.reserve_amount),
    )


def _need(desk: Desk, leg: RouteLeg, asset: str, amount: Decimal) -> LegNeed:
    return LegNeed(account=leg.account, asset=asset, needed=amount, free=desk.portfolio.free(leg.purse, asset))


def _least(route: RouteTerms, prices: Pair) -> Decimal:
    """Return the smallest base quantity that both markets take at these prices, in whole lots of both."""
    markets = (route.buy.market, route.sell.market)
    least = max(
        base_quantity(market, smallest_order(market, price), price)
        for market, price in zip(markets, prices, strict=True)
    )  # fmt: skip
    if route.step is None:
        return least
    return (least / route.step).to_integral_value(ROUND_CEILING) * route.step


def less_certain(desk: Desk, planned: Plan) -> int:
    """Return the leg whose fill is less sure: less depth within its limit, else the slower exchange."""

    def certainty(leg: PlannedLeg) -> tuple[float, float]:
        book = desk.fresh_book(leg.market, ANY_AGE)
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


def _affordable(desk: Desk, route: RouteTerms, prices: Pair) -> Decimal:
    """Return the base quantity that both accounts can cover; legs that draw on the same money share it."""
    buy = _planned(desk, 0, route.buy, prices[0], order_quantity(route.buy.market, ONE, prices[0]))
    sell = _planned(desk, 1, route.sell, prices[1], order_quantity(route.sell.market, ONE, prices[1]))
    return min(need.free / need.needed for need in _needs(desk, route, (buy, sell)))


def proposal_of(desk: Desk, route: RouteTerms, planned: Plan, buying: MarketState, selling: MarketState) -> Proposal:
    """Describe a plan to the risk policy; ``buying`` and ``selling`` are the markets of its legs, as they are now."""
    found = planned.opportunity
    buy_age_ms, sell_age_ms = found.buy.book_age_ms, found.sell.book_age_ms
    deviation = 0.0 if route.limits.max_quote_deviation_bps is None else _deviation(desk, route, buying, selling)
    return Proposal(
        notional=planned.notional,
        quote=found.quote,
        gross_bps=found.gross_bps,
        net_bps=found.net_bps,
        book_age_ms=sell_age_ms if sell_age_ms > buy_age_ms else buy_age_ms,
        quote_deviation_bps=deviation,
        needs=planned.needs,
        base=found.base,
        exchanges=route.exchanges,
        accounts=route.accounts,
        orders=len(planned.legs),
    )


def _deviation(desk: Desk, route: RouteTerms, buying: MarketState, selling: MarketState) -> float:
    """Return how far the farther leg's mid stands from the median of the bot's live markets of this pair, in bps."""
    buy_mid, sell_mid = (buying.bid + buying.ask) / 2, (selling.bid + selling.ask) / 2
    if not route.among:
        middle = (buy_mid + sell_mid) / 2
        return max(abs(buy_mid / middle - 1), abs(sell_mid / middle - 1)) * 1e4
    mids = {market.key: mid for market in route.among if (mid := desk.mid(market)) is not None}
    middle = median(mids.values()) if mids else 0.0
    keys = (route.buy.market.key, route.sell.market.key)
    return max([abs(mids[key] / middle - 1) * 1e4 for key in keys if key in mids], default=0.0)


def worst_of(planned: Plan, *, paper: bool) -> WorstCase:
    """Return what a plan may hold unhedged at its worst: one leg fills and the other does not."""
    return WorstCase(
        base=planned.opportunity.base,
        quote=planned.opportunity.quote,
        notional=planned.notional,
        exchanges=tuple(dict.fromkeys(leg.market.exchange for leg in planned.legs)),
        accounts=tuple(dict.fromkeys(leg.purse.account_id for leg in planned.legs)),
        paper=paper,
    )


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
