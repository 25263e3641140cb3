"""One trade from its committed intents to its result: a saga that owns its orders, repairs and outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from trading.execution.desk import Desk, TradeTerms
from trading.execution.order import Order
from trading.execution.realised import Measure
from trading.execution.repair import Leg, is_dust
from trading.execution.repairs import Repairs
from trading.execution.resolver import Patience
from trading.execution.statement import Standing, stated
from trading.execution.states import MAY_REST
from trading.execution.trade import Trade
from trading.execution.views import trade_view
from trading.instruments import Market, Side
from trading.messages import OrderIntent, TradeRecord, TradeState

ZERO = Decimal(0)


class Saga(Trade):
    """A trade of an opportunity.

    ``held`` are legs that wait for what the others fill: they are sent for as much, as the first step of the ladder.
    """

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
        super().__init__(
            desk,
            terms,
            record,
            orders,
            on_change=on_change,
            on_late_news=on_late_news,
            register=register,
            patience=patience,
            measures=measures,
        )
        self._repairs = Repairs(self, held)

    def prepare(self) -> None:
        """Do for the first intents what can be done while they are made durable."""
        for order in self.orders.values():
            self._sender.prepare(order.intent, self.purse_of(order))

    async def send_and_settle(self, decided_ns: int, committed_ns: int, on_left: Callable[[], None]) -> None:
        """Send the first intents, decided and committed at these (monotonic) times, together; see the trade through.

        ``on_left`` is called behind them: it is for what no order waits for.

        Prices of a decision that had to wait (for the store, or because the machine stood still) are not sent: the
        orders are void, provably, and so is the trade.
        """
        orders = list(self.orders.values())
        self._sender.check()
        self.desk.stages.record_ns("committed_to_sent", self.desk.clock.monotonic_ns() - committed_ns)
        sending = [self._sender.send(order, self.purse_of(order), decided_ns) for order in orders]
        asyncio.get_running_loop().call_soon(on_left)
        await asyncio.gather(*sending)
        await self.settle()

    async def settle(self) -> None:
        """Bring every order to its end, repair what is unhedged, state the result. Callable again after late fills."""
        self.finished = False
        for resolution in self._resolutions.values():
            if resolution.order.intent.time_in_force in MAY_REST:  # of a process that worked it and died
                resolution.abandon()
        await self._resolve_all()
        while await self._repairs.send_next():
            await self._resolve_all()
        await self._ask_for_fees()
        self._close()

    def market_keys(self) -> set[str]:
        return {order.intent.market for order in self.orders.values()} | {leg.market for leg in self._repairs.legs()}

    def is_dust(self) -> bool:
        """Return whether no market of the trade takes an order as small as its residual."""
        return is_dust(self.unhedged(), [self.desk.markets[key] for key in sorted(self.market_keys())])

    def repair_legs(self) -> list[Leg] | None:
        """Return the legs that repairs may be sent for now; None: those of its route."""
        return None

    def reference(self, market: Market, side: Side) -> Decimal | None:
        """Return the price from which a repair on a market is judged; None: from what the residual cost."""
        return None

    def is_one_legged(self) -> bool:
        """Return whether of the first orders one side filled and the other did not at all."""
        filled = {"buy": ZERO, "sell": ZERO}
        for order in self.orders.values():
            if order.intent.attempt == 0:
                filled[order.intent.side] += order.filled
        return any(filled.values()) and not all(filled.values())

    def _close(self) -> None:
        self._repairs.release_held()
        self.finished = True
        self.restate()
        self.publish()
        self._on_change(self)

    def restate(self, state: TradeState | None = None) -> None:
        """Recompute the record from the fills and queue it."""
        standing = Standing(
            result=self.result(),
            blocked=self.blocked,
            worst=self.worst_residual(),
            is_dust=self.is_dust(),
            causes=self.causes(),
            note=self.placing.last_note,
        )
        now_ns = self.desk.clock.time_ns()
        self.record = stated(self.record, standing, now_ns=now_ns, exposure=self.exposed_so_far(), state=state)
        self.desk.store.record_trade(self.record)

    def publish(self) -> None:
        self.desk.publisher.publish(
            self.desk.owner_id,
            "trade",
            self.record.trade_id,
            trade_view(self.record, self.terms, self.orders.values(), self.exposed_so_far()),
        )
