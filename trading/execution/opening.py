"""From a plan to a trade under way: reserve, make the intents durable, send.

The commit begins as soon as there is something to commit; everything else that a trade needs is done while the database
works at it, so that the orders leave with the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from risk.policy.verdict import ALLOWED
from trading.basis import BasisStanding, BasisTerms
from trading.execution.bots import RunningBot
from trading.execution.breakers import BreakerDesk
from trading.execution.desk import Desk
from trading.execution.footprints import Footprint
from trading.execution.gate import Passed, Refusal
from trading.execution.notices import Notices
from trading.execution.order import Order
from trading.execution.planner import Plan, intents_of, less_certain, record_of, worst_of
from trading.execution.realised import Measure, decided
from trading.execution.saga import Saga
from trading.execution.trades import Trades
from trading.messages import LIQUIDITY, Decision, LegPolicy, OrderIntent, OrderState, TradeRecord
from trading.portfolio import InsufficientFunds
from trading.ports import LeaseLost, StoreUnavailable, SwitchedOff


class Opening:
    """Opens the trades of one engine. ``on_lost`` is told when the store says that the lease is gone."""

    def __init__(
        self, desk: Desk, trades: Trades, breakers: BreakerDesk, notices: Notices, on_lost: Callable[[str], None]
    ) -> None:
        self._desk = desk
        self._breakers = breakers
        self._trades = trades
        self._notices = notices
        self._on_lost = on_lost

    def open(self, bot: RunningBot, passed: Passed, basis: BasisTerms | None = None) -> Refusal | None:
        """Reserve what a trade needs and set it going; return what it could not have, and then nothing is reserved.

        With ``basis`` it is a spot-against-perpetual trade of these terms.
        """
        planned = passed.plan
        desk, found = self._desk, planned.opportunity
        now = desk.clock.time_ns()
        trade = desk.ids.next_trade()
        intents = intents_of(planned, trade, now, bot.config.order_timeout_ms)
        held = intents[:0]
        if bot.config.leg_policy == LegPolicy.UNCERTAIN_FIRST:
            first = less_certain(desk, planned)
            intents, held = (intents[first],), tuple(intent for intent in intents if intent.leg != first)
        if refusal := self._reserve(planned, (*intents, *held)):
            return refusal
        assessment = passed.assessment
        record = record_of(planned, bot.config, trade, bot.purses.mode, now)
        if assessment is not None:
            liquidity = assessment.components.get(LIQUIDITY)
            record = msgspec.structs.replace(record, score=assessment.score, liquidity=liquidity)
        if basis is not None:
            record = msgspec.structs.replace(record, basis=basis, pair=BasisStanding())
        decision = Decision(opportunity=found, verdict=ALLOWED, check="", trade_id=trade, assessment=assessment)
        monotonic = desk.clock.monotonic_ns()
        committing = desk.store.commit_trade(record, intents, decision)
        measures: dict[str, Measure] = {}
        work = self._execute(bot, record, intents, held, decision, monotonic, committing, measures)
        self._trades.opening[trade] = worst_of(planned, paper=bot.terms.paper)
        self._trades.run(bot.config.bot_id, trade, found.route, work)
        # All of this turn of the event loop: the next opportunity finds it done, and so does the trade's own work.
        for intent in intents:
            desk.footprints.begin(intent.client_order_id, Footprint(intent.market, intent.side, bot.purses.paper))
        desk.promise(intents)
        self._breakers.opened(trade, bot.route(desk, found).keys)
        bot.counters["trades"] += 1
        bot.open_trades.add(trade)
        bot.busy_routes[found.route] = trade
        age_ns = int(min(found.buy.book_age_ms, found.sell.book_age_ms) * 1e6)
        desk.stages.record_ns("book_to_decision", monotonic - found.detected_monotonic_ns + age_ns)
        if not bot.purses.paper:
            measures.update(decided(desk, found, intents, assessment))
        return None

    def _reserve(self, planned: Plan, intents: Sequence[OrderIntent]) -> Refusal | None:
        reserved: list[OrderIntent] = []
        for intent in intents:
            purse = planned.legs[intent.leg].purse
            try:
                self._desk.portfolio.reserve(intent.client_order_id, purse, intent.reserve_asset, intent.reserve_amount)
            except InsufficientFunds as error:
                self._release(reserved)
                return Refusal("free_balance", f"{error}.")
            reserved.append(intent)
        for intent in intents:
            purse = planned.legs[intent.leg].purse
            wait = self._desk.venues[purse].reserve_order(intent.client_order_id)
            if wait > 0:
                self._release(reserved)
                why = f"The request budget of {intent.market.partition(':')[0]} is used up for {wait:.2f} s."
                return Refusal("request_budget", why)
        return None

    def _release(self, intents: Iterable[OrderIntent]) -> None:
        for intent in intents:
            self._desk.portfolio.settle(intent.client_order_id, Decimal(0), self._desk.clock.time_ns())
            self._desk.footprints.forget(intent.client_order_id)
            self._desk.release_budget(intent)

    async def _execute(
        self,
        bot: RunningBot,
        record: TradeRecord,
        intents: Sequence[OrderIntent],
        held: Sequence[OrderIntent],
        decision: Decision,
        decided_ns: int,
        committing: Awaitable[None],
        measures: Mapping[str, Measure],
    ) -> None:
        """Send the intents once they are durable and see the trade through; legs held back follow what these fill."""
        try:
            saga = await self._durable(bot, record, intents, held, committing, measures)
        except SwitchedOff as error:  # turned while this engine had not heard of it yet
            self._notices.refused(bot, decision.opportunity, Refusal("switch", f"{error}"))
            return
        except StoreUnavailable as error:
            why = f"The store can't make the intents durable: {error}."
            self._notices.refused(bot, decision.opportunity, Refusal("store", why))
            return
        except LeaseLost as error:
            self._desk.tally.add(decision.opportunity, "lease")
            self._on_lost(str(error))
            return
        committed_ns = self._desk.clock.monotonic_ns()
        self._desk.stages.record_ns("decision_to_committed", committed_ns - decided_ns)
        self._trades.keep(saga)

        def tell() -> None:
            self._notices.taken(bot, decision)
            saga.publish()

        await saga.send_and_settle(decided_ns, committed_ns, tell)

    async def _durable(
        self,
        bot: RunningBot,
        record: TradeRecord,
        intents: Sequence[OrderIntent],
        held: Sequence[OrderIntent],
        committing: Awaitable[None],
        measures: Mapping[str, Measure],
    ) -> Saga:
        """Return the trade once its intents are durable, ready to be sent; whatever keeps the store from it, they are
        not sent and hold nothing."""
        saga: Saga | None = None
        try:
            try:
                saga = self._trades.build(
                    bot.terms, record, [Order(intent, OrderState.SENDING) for intent in intents], held, measures
                )
                saga.prepare()
            finally:
                await committing
        except BaseException:
            if saga is not None:
                self._trades.give_up(saga)
            self._release((*intents, *held))
            raise
        return saga
