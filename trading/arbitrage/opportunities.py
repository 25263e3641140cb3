"""What a joint walk of two books found, as a message."""

from __future__ import annotations

from trading.arbitrage.depth import JointQuote, LegTerms, PairTerms
from trading.instruments import Side
from trading.messages import LegQuote, Opportunity
from trading.ports import Clock

__all__ = ["opportunity_of"]


def opportunity_of(
    clock: Clock,
    quote: JointQuote,
    terms: PairTerms,
    received_ns: tuple[int, int],
    *,
    bot_id: int,
    route: str,
    assets: tuple[str, str],
    net_bps: float,
    net_profit: float,
) -> Opportunity:
    """Return an opportunity seen now; ``terms`` are the bought and the sold market's, ``received_ns`` (monotonic)
    when their books came, ``assets`` base and quote."""
    monotonic = clock.monotonic_ns()
    bought_ns, sold_ns = received_ns
    return Opportunity(
        bot_id=bot_id,
        route=route,
        base=assets[0],
        quote=assets[1],
        buy=_leg(quote, terms.buy, "buy", monotonic - bought_ns),
        sell=_leg(quote, terms.sell, "sell", monotonic - sold_ns),
        quantity=quote.quantity,
        gross_bps=quote.gross_bps,
        net_bps=net_bps,
        net_profit=net_profit,
        detected_ns=clock.time_ns(),
        detected_monotonic_ns=monotonic,
    )


def _leg(quote: JointQuote, terms: LegTerms, side: Side, age_ns: int) -> LegQuote:
    filled, ordered = (quote.buy, quote.buy_order) if side == "buy" else (quote.sell, quote.sell_order)
    return LegQuote(
        market=terms.market,
        side=side,
        quantity=filled.quantity,
        vwap=filled.vwap,
        worst_price=filled.worst_price,
        fee_rate=terms.fee,
        impact_bps=filled.impact_bps,
        book_age_ms=age_ns / 1e6,
        order_quantity=ordered,
    )
