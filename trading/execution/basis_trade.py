"""A spot-against-perpetual trade: entered with both legs together, held on purpose while they hedge each other, and
closed with two legs together.

An entry is a saga's: legs that filled unequally are completed or undone down its ladder. So is an exit, and what others
closed of the perpetual position counts as an exit's leg that has filled: the spot leg is what is missing then. While
the pair is held nothing of it runs; a reason to leave, news of an order or a position that changed sets it going.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from risk.policy.switch import Action, verdict
from trading.basis import PERP_CLOSE_LEG, SPOT_CLOSE_LEG, BasisStanding, Closing
from trading.execution.basis_exit import exit_orders, liquidation_bps
from trading.execution.closed_words import what_was_closed
from trading.execution.desk import Desk, TradeTerms
from trading.execution.ladder import Rung
from trading.execution.order import Change, Order
from trading.execution.pair import Pair, entry_bps, is_exit, pair_of, result_of_pair, unhedged
from trading.execution.pair_view import pair_view
from trading.execution.realised import Measure
from trading.execution.repair import Leg, smallest_order
from trading.execution.resolver import Patience
from trading.execution.result import ZERO, Result, Tally
from trading.execution.saga import Saga
from trading.execution.trade import Trade
from trading.execution.views import plain, trade_view
from trading.instruments import Market, Side, base_quantity, lot_quantity
from trading.messages import FINISHED_TRADES, MADE_BY_EXCHANGE, Fill, OrderIntent, TradeRecord, TradeState
from trading.ports import StoreUnavailable

LAST_LEG = 34  # of the spot market: its pair's other leg is the last that an order's id has room for
CLOSE_PAUSES = (0.5, 1.0, 2.0, 5.0)  # between attempts to close what has to be closed
KILLED_SECONDS = 0.5  # how often a close that the trading switch forbids looks whether it may go on
FIGURE = Decimal("0.01")


class BasisTrade(Saga):
    """See the module's text. :meth:`settle` works until the pair is held, or until it has ended."""

    def __init__(
        self,
        desk: Desk,
        terms: TradeTerms,
        record: TradeRecord,
        orders: Iterable[Order],
        *,
        on_change: Callable[[Trade], None],
        on_late_news: Callable[[Trade], None],
        register: Callable[[Order, Trade], None],
        patience: Patience | None = None,
        held: Iterable[OrderIntent] = (),
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        if record.basis is None:
            raise ValueError(f"trade {record.trade_id}: is no basis trade")
        self.basis = record.basis
        self.spot, self.perp = desk.markets[self.basis.spot], desk.markets[self.basis.perp]
        self._failed_closes = 0
        self._note = ""  # why less was closed than was to be
        super().__init__(
            desk,
            # Nothing else hedges a pair: another market's position would be neither its spot leg nor its short.
            msgspec.structs.replace(terms, markets=(), completion=None, leverage=self.basis.rules.leverage),
            record if record.pair is not None else msgspec.structs.replace(record, pair=BasisStanding()),
            orders,
            on_change=on_change,
            on_late_news=on_late_news,
            register=register,
            patience=patience,
            held=held,
            measures=measures,
        )
        if self.holds:
            self._promise(self.pair().spot)

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> BasisStanding:
        return self.record.pair or BasisStanding()

    @property
    def holds(self) -> bool:
        return self.record.state is TradeState.HOLDING

    def pair(self) -> Pair:
        return pair_of(self.orders.values(), self.spot, self.perp, self.standing.outside)

    def unhedged(self) -> Tally:
        return unhedged(list(self.orders.values()), self.desk.markets, self.spot, self.perp, self.standing)

    def result(self) -> Result:
        orders = list(self.orders.values())
        return result_of_pair(orders, self.desk.markets, self.spot, self.perp, self.standing, self.desk.value)

    def reduces(self, market: Market, side: Side) -> bool:
        return market.key == self.perp.key and side == "buy"

    def reference(self, market: Market, side: Side) -> Decimal | None:
        """Return what an order of the missing leg was to have at the least, or what the other leg had: spot and
        perpetual prices are apart by the very difference that is traded."""
        for leg in self._repairs.legs():
            if (leg.market, leg.side) == (market.key, side) and leg.limit is not None:
                return leg.limit
        if market.key == self.spot.key and self.standing.outside_spot:
            return self.standing.outside_spot
        is_leaving = any(is_exit(order) for order in self.orders.values())
        mine = [order for order in self.orders.values() if order.intent.market == market.key]
        prices = (order.average_price for order in mine if is_exit(order) is is_leaving)
        return next((price for price in prices if price is not None), None)

    def market_keys(self) -> set[str]:
        return {self.spot.key, self.perp.key}

    @property
    def is_orphaned(self) -> bool:
        """Whether others have closed some of its perpetual position: the exchange, or somebody by hand."""
        closed = any(order.intent.kind in MADE_BY_EXCHANGE for order in self.orders.values())
        return closed or bool(self.standing.outside)

    def closing_legs(self, market: Market) -> Iterable[int]:
        return range(LAST_LEG + 1, PERP_CLOSE_LEG, -2) if market.key == self.perp.key else ()

    def take_closed(self, fill: Fill, words: str) -> bool:
        before = self.standing
        state = self.desk.market_state(self.spot)
        bid = None if state is None or not state.bid > 0 else Decimal(repr(state.bid))
        # What a reading of positions lacked, and was taken for closed by others, is this.
        known = max(before.outside - base_quantity(self.perp, fill.quantity, fill.price), ZERO)
        self.tell(outside=known, outside_spot=before.outside_spot or bid)
        if not super().take_closed(fill, words):
            self.tell(outside=before.outside, outside_spot=before.outside_spot)
            return False
        self.desk.store.record_trade(self.record)
        return True

    def whole(self) -> tuple[Decimal, Decimal]:
        """Return what of the spot leg (base units) and of the perpetual (contracts) can be closed, in whole lots."""
        pair = self.pair()
        return lot_quantity(max(pair.spot, ZERO), self.spot), lot_quantity(max(pair.perp, ZERO), self.perp)

    def repair_legs(self) -> list[Leg] | None:
        """Return, while the pair is left, what the closing legs lack; undoing them is a way out only later, and none
        where others have closed the perpetual: that would open it anew."""
        if not any(is_exit(order) for order in self.orders.values()) and not self.is_orphaned:
            return None
        spot_leg, perp_leg = self._last_legs()
        legs = [self._leg(spot_leg, self.spot, "sell"), self._leg(perp_leg, self.perp, "buy")]
        seconds = self.record.repair_ms / 1000
        if self.is_orphaned or self.terms.ladder.rung(seconds) is Rung.COMPLETE:
            missing: Side = "sell" if self.unhedged().residual > 0 else "buy"
            return [leg for leg in legs if leg.side == missing]
        return legs

    def _leg(self, number: int, market: Market, side: Side) -> Leg:
        sent = [order.intent for order in self.orders.values() if order.intent.leg == number]
        first = next((intent.price for intent in sent if intent.attempt == 0), None)
        return Leg(leg=number, market=market.key, side=side, limit=first)

    def _last_legs(self) -> tuple[int, int]:
        """Return the numbers of the closing legs that were sent last, or are sent first."""
        ours = [one for one in self.orders.values() if one.intent.kind not in MADE_BY_EXCHANGE]
        last = max((one.intent.leg for one in ours if is_exit(one)), default=SPOT_CLOSE_LEG)
        spot_leg = last - (last - SPOT_CLOSE_LEG) % 2
        return spot_leg, spot_leg + PERP_CLOSE_LEG - SPOT_CLOSE_LEG

    def _next_legs(self) -> tuple[int, int]:
        """Return the numbers of the closing legs to be sent next: their own, so long as ids have room for them."""
        spot_leg, perp_leg = self._last_legs()
        if any(order.intent.leg in {spot_leg, perp_leg} for order in self.orders.values()) and spot_leg < LAST_LEG:
            return spot_leg + 2, perp_leg + 2
        return spot_leg, perp_leg

    # -- what is asked of it ----------------------------------------------------------------------------------------

    def close(self, closing: Closing) -> str:
        """Ask to close the pair; :meth:`settle` is to run after that. Return why not, or an empty string."""
        standing = self.standing
        if closing.command_id and closing.command_id in standing.carried_out:
            return ""  # it was, by a process that died before it could say so
        if self.finished:
            return f"Trade {self.record.trade_id} has ended: it holds nothing to close."
        if standing.closing is None or closing.must:
            self.tell(closing=closing)
        if closing.command_id:
            self.tell(carried_out=(*standing.carried_out, closing.command_id))
        self.desk.store.record_trade(self.record)
        return ""

    def lose(self, outside: Decimal, price: Decimal | None, spot_price: Decimal | None) -> bool:
        """Take it that others have closed so much (base units) of the perpetual position, at about these prices of it
        and of spot; return whether that is news.

        :meth:`settle` is to run after that: the spot leg hedges nothing any more.
        """
        if self.finished or outside <= self.standing.outside:
            return False
        self.tell(outside=outside, outside_price=price, outside_spot=spot_price)
        self.desk.store.record_trade(self.record)
        what = "the spot leg is sold" if self.basis.rules.close_orphan else "its owner is to sell the spot leg"
        self.desk.alarm(
            f"trade {self.record.trade_id}: {plain(outside)} {self.record.base} of its position in {self.perp.key} "
            f"were closed by others, {what}"
        )
        return True

    def count_funding(self, amount: Decimal, until_ns: int, *, is_estimated: bool) -> None:
        """Take the funding received so far, counted until a moment."""
        self.tell(funding=amount, funding_ns=until_ns, is_estimated=is_estimated)
        if self.holds:
            self.restate(TradeState.HOLDING)
            self.publish()

    def stand(self, exit_bps: Decimal | None, at_ns: int, *, is_stored: bool) -> None:
        """Show what closing would earn now, None while that can't be told; store it now and then."""
        self.tell(exit_bps=exit_bps, exit_ns=at_ns)
        self.record = msgspec.structs.replace(self.record, reason=self._reason(TradeState.HOLDING))
        if is_stored:
            self.desk.store.record_trade(self.record)
        self.publish()

    def has_news(self, change: Change, order: Order, *, has_ended: bool) -> bool:
        news = super().has_news(change, order, has_ended=has_ended)
        return news or (self.holds and (bool(change.new_fills) or change.before is not change.after or has_ended))

    # -- its life ---------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        self.finished = False
        self._promise(ZERO)
        await self._even()
        while self._is_leaving():
            await self._leave()
        if not self.desk.halted:
            await self._end()

    async def _even(self) -> None:
        """Bring every order to its end and both legs to the same size, as far as that can be done."""
        await self._resolve_all()
        if self.is_orphaned and not self.basis.rules.close_orphan:
            return
        while await self._repairs.send_next():
            await self._resolve_all()

    def _is_leaving(self) -> bool:
        """Return whether an attempt to close what is held is due."""
        if self.standing.closing is None or self.desk.halted or self.desk.stopping or self.blocked:
            return False
        return self._is_pair() and self.is_dust()

    async def _leave(self) -> None:
        """Close what the books take within the caps, both legs together; give up where nothing has to be closed."""
        closing = self.standing.closing
        assert closing is not None
        switched = verdict(self.desk.switch_of(self.record.bot_id), Action.REDUCE)
        if not switched.allowed:
            await self._put_off(closing, switched.reason.rstrip("."), KILLED_SECONDS)
            return
        wanted = exit_orders(self, self._next_legs(), closing)
        if isinstance(wanted, str):
            await self._put_off(closing, wanted)
            return
        self.restate(TradeState.REPAIRING)
        before = self.pair().perp
        try:
            if not await self.placing.place_together(wanted):
                await self._put_off(closing, self.placing.last_note)
                return
        except StoreUnavailable as error:
            await self._put_off(closing, f"the store could not take the closing orders: {error}")
            return
        await self._even()
        if self.pair().perp < before:
            self._failed_closes = 0
        elif self._is_leaving():
            await self._put_off(closing, "; ".join(self.causes()[-2:]) or "the books held nothing within the caps")

    async def _put_off(self, closing: Closing, why: str, pause: float | None = None) -> None:
        """Try again in a moment what has to be closed; hold on to what has not."""
        self._note = why
        if not closing.must:
            self.tell(closing=None)
            return
        if self._failed_closes == 0:
            self.desk.alarm(f"trade {self.record.trade_id} could not be closed at once: {why}")
        self.restate(TradeState.REPAIRING)
        self.publish()
        if pause is None:
            pause = CLOSE_PAUSES[min(self._failed_closes, len(CLOSE_PAUSES) - 1)]
        self._failed_closes += 1
        await self.desk.clock.sleep(pause)

    async def _end(self) -> None:
        """State how it stands, now that nothing more is to be done."""
        self._repairs.release_held()
        state = self._state()
        if state is not TradeState.HOLDING:
            await self._ask_for_fees()
            state = self._state()
        self.finished = state in FINISHED_TRADES
        if state is TradeState.HOLDING:
            self._promise(self.pair().spot)
        self.restate(state)
        self.publish()
        self._on_change(self)

    def _promise(self, quantity: Decimal) -> None:
        """Keep the spot leg from being sold by others while it is held."""
        self.desk.portfolio.settle(self.record.trade_id, ZERO, self.desk.clock.time_ns())
        if quantity > 0:
            purse = self.terms.purses[self.spot.exchange]
            self.desk.portfolio.adopt(self.record.trade_id, purse, self.spot.base, quantity)

    # -- what it comes to -------------------------------------------------------------------------------------------

    def _is_pair(self) -> bool:
        """Return whether both legs hold what their markets take as an order."""
        spot, perp = self.whole()
        pair = self.pair()
        prices = pair.spot_price, pair.perp_price
        if prices[0] is None or prices[1] is None:
            return False
        return spot >= smallest_order(self.spot, prices[0]) and perp >= smallest_order(self.perp, prices[1])

    def _state(self) -> TradeState:
        if self.blocked:
            return TradeState.EXPOSED
        if not any(order.fills for order in self.orders.values()):
            return TradeState.FAILED
        if not self.is_dust():
            return TradeState.EXPOSED
        return TradeState.HOLDING if self._is_pair() else TradeState.CLOSED

    def restate(self, state: TradeState | None = None) -> None:
        state = state or self._state()
        finished = state in FINISHED_TRADES
        outcome, pair = self.result(), self.pair()
        traded = bool(outcome.tally.bought or outcome.tally.sold)
        self.tell(
            held=ZERO if finished else max(min(pair.spot, pair.perp_base(self.perp)), ZERO),
            spot_price=pair.spot_price,
            perp_price=pair.perp_price,
            entry_bps=entry_bps(pair, self.spot, self.perp),
        )
        self.record = msgspec.structs.replace(
            self.record,
            state=state,
            closed_ns=(self.record.closed_ns or self.desk.clock.time_ns()) if finished else 0,
            realised_profit=outcome.profit if traded and finished else None,
            residual_base=outcome.residual,
            fees=dict(outcome.tally.fees),
            reason=self._reason(state),
            exposure=self.exposed_so_far(),
            # What happens to a pair that came out even is another descent, with a ladder of its own.
            repair_ms=0 if state in {TradeState.HOLDING, TradeState.CLOSED} else self.record.repair_ms,
        )
        self.desk.store.record_trade(self.record)
        if finished:
            self.tell(closing=None)

    def publish(self) -> None:
        view = trade_view(self.record, self.terms, self.orders.values(), self.exposed_so_far())
        pair = pair_view(self.spot.key, self.perp.key, self.standing, liquidation_bps=liquidation_bps(self))
        self.desk.publisher.publish(self.desk.owner_id, "trade", self.record.trade_id, {**view, "pair": pair})

    def _reason(self, state: TradeState) -> str:
        standing = self.standing
        if state is TradeState.FAILED:
            return "; ".join(self.causes()) or "the orders ended unfilled"
        reasons: list[str] = []
        if state is TradeState.EXPOSED:
            residual = self.worst_residual() if self.blocked else self.unhedged().residual
            word = "bought and not sold" if residual > 0 else "sold and not bought"
            reasons += [self.blocked] if self.blocked else []
            reasons.append(f"{plain(abs(residual))} {self.record.base} {word}")
            reasons += [self.placing.last_note] if self.placing.last_note else []
        elif state is TradeState.HOLDING:
            reasons.append(self.words())
        elif standing.closing is not None:
            reasons.append(standing.closing.cause)
        reasons += what_was_closed(self.orders.values())
        if standing.outside:
            reasons.append(f"{plain(standing.outside)} {self.record.base} of the perpetual were closed by others")
        if self._note and state is not TradeState.CLOSED:
            reasons.append(self._note)
        if state is TradeState.CLOSED:
            reasons += self._what_closing_left()
        return "; ".join(reasons)

    def _what_closing_left(self) -> list[str]:
        outcome, standing = self.result(), self.standing
        reasons = []
        if standing.funding:
            word = "estimated funding" if standing.is_estimated else "funding"
            reasons.append(f"{plain(standing.funding)} {self.record.quote} of {word}")
        if outcome.tally.fees_pending:
            reasons.append(f"the fees of {outcome.tally.fees_pending} fills are not known yet")
        for asset, amount in outcome.unvalued.items():
            reasons.append(f"fees of {amount:f} {asset} have no price in {self.record.quote}")
        if outcome.residual:
            reasons.append(f"{outcome.residual:f} {self.record.base} stays as inventory, below the smallest order")
        return reasons

    def words(self) -> str:
        """Return how the pair that is held stands, in a line."""
        standing = self.standing
        parts = [f"holds {plain(standing.held)} {self.record.base} of {self.spot.key} against {self.perp.key}"]
        if standing.entry_bps is not None:
            parts.append(f"entered at {plain(standing.entry_bps.quantize(FIGURE))} bps")
        word = "estimated funding" if standing.is_estimated else "funding"
        parts.append(f"{word} {plain(standing.funding)} {self.record.quote}")
        if standing.exit_bps is not None:
            parts.append(f"exit edge {plain(standing.exit_bps.quantize(FIGURE))} bps")
        return ", ".join(parts)

    def tell(self, **changes: Any) -> None:
        """Change how it stands; stored with the next record."""
        self.record = msgspec.structs.replace(self.record, pair=msgspec.structs.replace(self.standing, **changes))
