"""The repairs of one trade: legs held back and orders that complete, undo or hedge, down the ladder, one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from risk.policy.switch import Action, verdict
from trading.execution.completing import Completing
from trading.execution.ladder import Rung
from trading.execution.placing import Placement
from trading.execution.repair import Leg, RepairOrder, candidates
from trading.instruments import Side
from trading.messages import OrderIntent, OrderState, TradeState
from trading.ports import StoreUnavailable

if TYPE_CHECKING:
    from trading.execution.saga import Saga

MAX_REPAIRS = 24  # orders a trade may send beyond its first ones, however many seconds and money are left
REPAIR_PAUSE_SECONDS = 0.05
REFUSED_SECONDS = 1.0  # a market that refused a repair is left alone so long: another way out goes first
SHOW_SECONDS = 0.5  # how often a trade that waits on its ladder shows what it holds unhedged
STORE_PAUSE_SECONDS = 0.5  # after the store did not take a repair


class Repairs:
    """What a trade sends after its first orders. ``held`` are legs that wait for what the others fill: they are sent
    for as much, as the first step of the ladder."""

    def __init__(self, trade: Saga, held: Iterable[OrderIntent] = ()) -> None:
        self._trade = trade
        self._desk = trade.desk
        self._held = {intent.leg: intent for intent in held}
        self._completing = Completing(trade)
        self._refused: dict[str, tuple[int, str]] = {}  # by market, when (monotonic) a repair was last refused, and why

    def legs(self) -> list[Leg]:
        """Return the trade's legs: those sent, those held back, and what its route names besides."""
        if (own := self._trade.repair_legs()) is not None:
            return own
        first = [order.intent for order in self._trade.orders.values() if order.intent.attempt == 0]
        known = {intent.leg: intent for intent in (*self._held.values(), *first)}
        legs = [
            Leg(leg=intent.leg, market=intent.market, side=intent.side, limit=intent.price) for intent in known.values()
        ]
        buy, _, sell = self._trade.record.route.partition(":")[2].partition(">")
        sides: tuple[tuple[str, Side], ...] = ((buy, "buy"), (sell, "sell"))
        for number, (market, side) in enumerate(sides):
            if number not in known and market in self._desk.markets:  # held back by an earlier process
                legs.append(Leg(leg=number, market=market, side=side, limit=None))
        return sorted(legs, key=lambda leg: leg.leg)

    def release_held(self) -> None:
        """Give back what was reserved for legs that waited: the repair that sends them reserves what it needs."""
        for intent in self._held.values():
            self._desk.portfolio.settle(intent.client_order_id, Decimal(0), self._desk.clock.time_ns())
            self._desk.release_budget(intent)

    async def send_next(self) -> bool:
        """Send one completing, undoing or hedging order if one is due; return whether one was sent."""
        trade = self._trade
        if trade.blocked or trade.is_dust():
            return False
        self.release_held()
        self._climb(0)
        if not self._first_of_held():
            trade.restate(TradeState.REPAIRING)
        why = "no price within the cap of what may be paid"
        at_ns = shown_ns = self._desk.clock.monotonic_ns()
        while not self._desk.halted and not trade.blocked and not trade.is_dust():
            seconds = trade.record.repair_ms / 1000
            if self._trade.placing.count >= MAX_REPAIRS or trade.terms.ladder.rung(seconds) is Rung.ASK:
                self._trade.placing.note(f"{why}, after {seconds:.0f} s and {self._trade.placing.count} orders")
                return False
            pause = REPAIR_PAUSE_SECONDS
            if await self._is_killed():
                at_ns = shown_ns = self._desk.clock.monotonic_ns()
                continue
            if trade.terms.ladder.rung(seconds) is Rung.COMPLETE and await self._work_missing_leg():
                self._climb(self._desk.clock.monotonic_ns() - at_ns)
                return True
            profit = trade.result().profit
            for wanted in candidates(
                self._desk,
                trade.terms,
                trade.unhedged(),
                profit,
                self.legs(),
                seconds,
                reduces=trade.reduces,
                reference=trade.reference,
            ):
                if refusal := self._refusal(wanted.market.key):
                    why = refusal
                    continue
                try:
                    if await self._send(wanted):
                        self._climb(self._desk.clock.monotonic_ns() - at_ns)
                        return True
                except StoreUnavailable:
                    why = "the store could not take the repair"
                    pause = STORE_PAUSE_SECONDS
                    break
            await self._desk.clock.sleep(pause)
            now_ns = self._desk.clock.monotonic_ns()
            self._climb(now_ns - at_ns)
            at_ns = now_ns
            if now_ns - shown_ns >= SHOW_SECONDS * 1e9:
                shown_ns = now_ns
                self._desk.store.record_trade(trade.record)  # so that a restart knows how far it had climbed
                trade.publish()
        return False

    async def _work_missing_leg(self) -> bool:
        """Have the missing leg filled in the spread, if the bot wants that; return whether an order was sent.

        A leg that was only held back for the other goes at once: nothing has gone wrong with it.
        """
        return not self._first_of_held() and await self._completing.work(self.legs())

    async def _is_killed(self) -> bool:
        """Wait a moment if trading is killed. That is no reason to give up: the time on the ladder stands still."""
        trade = self._trade
        switched = verdict(self._desk.switch_of(trade.record.bot_id), Action.REDUCE)
        if switched.allowed:
            return False
        trade.record = msgspec.structs.replace(
            trade.record, reason=switched.reason.rstrip("."), exposure=trade.exposed_so_far()
        )
        self._desk.store.record_trade(trade.record)
        trade.publish()
        await self._desk.clock.sleep(SHOW_SECONDS)
        return True

    def _climb(self, passed_ns: int) -> None:
        """Count time on the ladder; it is kept with the trade, so that a restart does not begin it anew."""
        trade = self._trade
        trade.record = msgspec.structs.replace(
            trade.record,
            repair_ms=trade.record.repair_ms + passed_ns // 1_000_000,
            exposure=trade.exposed_so_far(),
        )

    def _first_of_held(self) -> bool:
        """Return whether all that is missing is a leg that was held back for the other to fill first."""
        sent = {order.intent.leg for order in self._trade.orders.values()}
        return self._trade.placing.count == 0 and any(leg.leg not in sent for leg in self.legs())

    async def _send(self, wanted: RepairOrder) -> bool:
        order = await self._trade.placing.place(
            Placement(
                leg=wanted.leg,
                market=wanted.market,
                purse=wanted.purse,
                side=wanted.side,
                price=wanted.price,
                quantity=wanted.quantity,
                reduce_only=self._trade.reduces(wanted.market, wanted.side),
            )
        )
        if order is None:
            return False
        self._held.pop(wanted.leg, None)  # its reservation is the order's own from here on
        if order.state is OrderState.FAILED and order.sent_ns:
            cause = self._trade.cause_of(order.intent.client_order_id)
            self._refused[wanted.market.key] = (self._desk.clock.monotonic_ns(), cause)
        return True

    def _refusal(self, market: str) -> str:
        """Say that a market has refused a repair a moment ago, as it most likely would the next; empty if not."""
        at_ns, cause = self._refused.get(market, (None, ""))
        if at_ns is None or self._desk.clock.monotonic_ns() - at_ns >= REFUSED_SECONDS * 1e9:
            return ""
        return f"{market} refused the last order: {cause}"
