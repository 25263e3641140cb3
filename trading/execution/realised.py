"""What a trade's orders really cost against their decision: measured on their way, told once they have filled.

Paper orders are not measured: they fill against the very books that decided them, and would teach that nothing slips.
Neither are orders of an earlier process: what the books showed when those were sent is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from risk.policy.realised import LegExecution, split
from trading.arbitrage.depth import BaseLevels, LegTerms
from trading.execution.desk import Desk
from trading.execution.order import Order
from trading.instruments import Market, Side, base_quantity
from trading.messages import (
    Assessment,
    LegSlippageRecord,
    Opportunity,
    OrderEvent,
    OrderIntent,
    OrderState,
    TradeRecord,
)

ZERO = Decimal(0)
CHARGED_DIGITS = Decimal("1e-6")
# Who speaks of an order when it happens; a question's answer may come long after.
PROMPT = frozenset({"stream", "answer"})
UNHEARD = frozenset({OrderState.UNKNOWN, OrderState.FAILED})

Walk = tuple[tuple[float, float], ...]


class Measure:
    """One order's figures as it went: the levels its size took in the book when it was decided and when it left, and
    the best prices when it left and when it was first heard of. Floats, quote per base and base units."""

    __slots__ = (
        "arrival_best", "charged_bps", "decided", "fee_rate", "quantity", "sent", "sent_best", "sent_ns", "terms",
    )  # fmt: skip

    def __init__(self, desk: Desk, intent: OrderIntent, fee_rate: Decimal | None = None, charged_bps: float = 0.0):
        """Walk the book the decision was made on; call it when that is made. ``fee_rate`` None is the taker fee."""
        market = desk.markets[intent.market]
        self.terms = LegTerms.of(market)
        self.quantity = float(base_quantity(market, intent.quantity, intent.price))
        self.fee_rate = market.taker_fee if fee_rate is None else fee_rate
        self.charged_bps = charged_bps
        self.decided, _ = self._read(desk, market, intent.side)
        self.sent: Walk = ()
        self.sent_best = self.arrival_best = 0.0
        self.sent_ns = 0

    def leave(self, desk: Desk, intent: OrderIntent, at_ns: int) -> None:
        """Read the book as it is when the order is sent, at this (wall) time."""
        self.sent, self.sent_best = self._read(desk, desk.markets[intent.market], intent.side)
        self.sent_ns = at_ns

    def arrive(self, desk: Desk, intent: OrderIntent) -> None:
        """Note the best price when the exchange is first heard of the order; once.

        What the order itself took of the book by then counts as moved in flight.
        """
        if not self.arrival_best and self.sent_ns:
            self.arrival_best = _best(desk, desk.markets[intent.market], intent.side)[0]

    def _read(self, desk: Desk, market: Market, side: Side) -> tuple[Walk, float]:
        state = desk.market_state(market)
        if state is None:
            return (), 0.0
        best, size = _best(desk, market, side)
        book = state.book.asks if side == "buy" else state.book.bids
        left, taken = self.quantity, []
        for level in BaseLevels(book, self.terms, best, size):
            taken.append(level)
            left -= level[1]
            if left <= 0.0:
                break
        return tuple(taken), best or (taken[0][0] if taken else 0.0)


def decided(
    desk: Desk, found: Opportunity, intents: Iterable[OrderIntent], assessment: Assessment | None
) -> dict[str, Measure]:
    """Begin to measure a trade's first orders, by client order id; call it when the trade is decided."""
    rates = {leg.market: Decimal(repr(leg.fee_rate)) for leg in (found.buy, found.sell)}
    charged = charged_bps(assessment)
    return {intent.client_order_id: Measure(desk, intent, rates[intent.market], charged) for intent in intents}


def charged_bps(assessment: Assessment | None) -> float:
    """Return one leg's half of the drift and impact that were taken off an opportunity's edge, in basis points."""
    costs: Mapping[str, float] = {} if assessment is None else assessment.costs_bps
    charged = (costs.get("drift_bps", 0.0) + costs.get("impact_bps", 0.0)) / 2.0
    return charged if math.isfinite(charged) else 0.0


def average(walk: Walk, quantity: Decimal, rest: Decimal) -> Decimal:
    """Return the VWAP of the first ``quantity`` base units of a walk; what it lacks is taken at ``rest``, the limit.

    For as much as has filled in the end, so that a part's price is not held against that of the whole.

    >>> float(average(((100.0, 1.0), (101.0, 4.0)), Decimal(2), Decimal(110)))
    100.5
    >>> float(average(((100.0, 1.0),), Decimal(2), Decimal(110)))
    105.0
    """
    left, value = quantity, ZERO
    for price, size in walk:
        taken = min(left, Decimal(repr(size)))
        value += taken * Decimal(repr(price))
        left -= taken
        if left <= 0:
            break
    return (value + left * rest) / quantity


class Realised:
    """The measures of one trade's orders; tells the store what each has cost."""

    def __init__(self, desk: Desk, measures: Mapping[str, Measure]) -> None:
        self._desk = desk
        self._measures = dict(measures)
        self._charged_bps = max((measure.charged_bps for measure in measures.values()), default=0.0)
        self._told: dict[str, LegSlippageRecord] = {}

    def decide(self, intent: OrderIntent) -> None:
        """Begin to measure a further order; call it when it is decided. Nothing was charged for a repair beforehand,
        but for a leg that was held back."""
        charged = self._charged_bps if intent.attempt == 0 else 0.0
        self._measures[intent.client_order_id] = Measure(self._desk, intent, charged_bps=charged)

    def leave(self, intent: OrderIntent, at_ns: int) -> None:
        """Read the book that an order meets which was sent at this (wall) time; call it before any news is read."""
        measure = self._measures.get(intent.client_order_id)
        if measure is not None:
            measure.leave(self._desk, intent, at_ns)

    def hear(self, order: Order, event: OrderEvent) -> None:
        """Note when the exchange first speaks of an order."""
        measure = self._measures.get(order.intent.client_order_id)
        if measure is not None and event.source in PROMPT and event.state not in UNHEARD:
            measure.arrive(self._desk, order.intent)

    def tell(self, order: Order, trade: TradeRecord) -> None:
        """Let the store know what a settled order has cost, if it filled and that is not known yet."""
        client_id = order.intent.client_order_id
        measure = self._measures.get(client_id)
        if measure is None or not measure.sent_ns or not order.fills:
            return
        try:
            record = recorded(self._desk, order, measure, trade)
        except (ValueError, ArithmeticError) as problem:
            self._desk.alarm(f"order {client_id}: its slippage is not recorded, {problem}")
            return
        if self._told.get(client_id) != record:
            self._told[client_id] = record
            self._desk.store.record_slippage(record)


def recorded(desk: Desk, order: Order, measure: Measure, trade: TradeRecord) -> LegSlippageRecord:
    """Return what a filled order cost; raises ValueError for figures that cannot be."""
    intent, market = order.intent, desk.markets[order.intent.market]
    base = value = expected = paid = ZERO
    unvalued = 0
    for fill in order.fills.values():
        quantity = base_quantity(market, fill.quantity, fill.price)
        worth = quantity * fill.price
        base += quantity
        value += worth
        price = _price_of(desk, fill.fee_asset, market, fill.price)
        if fill.fee is None or (price is None and fill.fee):
            unvalued += 1  # neither paid nor expected: it would pass for a fee that was saved
            continue
        expected += worth * measure.fee_rate
        paid += fill.fee * (price or ZERO)
    sent_best = Decimal(repr(measure.sent_best)) if measure.sent_best else intent.price
    execution = LegExecution(
        side=intent.side,
        quantity=base,
        decided_price=average(measure.decided, base, intent.price),
        sent_price=average(measure.sent, base, intent.price),
        sent_best=sent_best,
        arrival_best=Decimal(repr(measure.arrival_best)) if measure.arrival_best else sent_best,
        filled_price=value / base,
        expected_fee=expected,
        paid_fee=paid,
        charged_bps=Decimal(repr(measure.charged_bps)).quantize(CHARGED_DIGITS),
    )
    return LegSlippageRecord(
        client_order_id=intent.client_order_id,
        trade_id=trade.trade_id,
        bot_id=trade.bot_id,
        account_id=intent.account_id,
        market=market.key,
        exchange=market.exchange,
        pair=f"{market.base}/{market.quote}",
        attempt=intent.attempt,
        execution=execution,
        slippage=split(execution),
        fees_unvalued=unvalued,
        at_ns=measure.sent_ns,
    )


def _price_of(desk: Desk, asset: str, market: Market, price: Decimal) -> Decimal | None:
    """Return what one unit of a fee's asset is worth in the market's quote, or None."""
    if asset == market.quote:
        return Decimal(1)
    return price if asset == market.base else desk.value(asset, market.quote)


def _best(desk: Desk, market: Market, side: Side) -> tuple[float, float]:
    """Return the best price an order of this side meets now, and its size; zeros where none is known."""
    state = desk.market_state(market)
    if state is None:
        return 0.0, 0.0
    return (state.ask, state.ask_size) if side == "buy" else (state.bid, state.bid_size)
