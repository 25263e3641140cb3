"""The small world with a bot for trades by hand, and an exchange account that rests and triggers protective orders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tests.engine.worlds import MONEY, D, FaultyVenue, World
from trading.config import MANUAL, BotConfig
from trading.execution.ticket import Ticket
from trading.execution.tickets import Opened
from trading.messages import (
    Fill,
    OrderEvent,
    OrderIntent,
    OrderKind,
    OrderState,
    Outcome,
    PlaceResult,
    TimeInForce,
    TradeRecord,
    TradeState,
)
from trading.tickets import ClosingTerms, TicketTerms, WorkingStyle

DESK = 9
AT_ONCE = WorkingStyle(kind="market")


class ProtectingVenue(FaultyVenue):
    """An account whose exchange holds protective orders: pairs that cancel each other, or separate ones.

    ``refuse`` are kinds it rejects, ``lose`` kinds whose answer is lost. :meth:`trigger` fills one as a price that
    reaches it would.
    """

    def __init__(self, *args: object, protects: Sequence[str] = ("oco", "stops"), **options: object) -> None:
        super().__init__(*args, **options)
        self.protects = frozenset(protects)
        self.refuse: set[OrderKind] = set()
        self.lose: set[OrderKind] = set()
        self.resting: dict[str, OrderIntent] = {}
        self.protected: list[tuple[OrderIntent | None, OrderIntent | None]] = []
        self.cancelled: list[str] = []
        self.times: dict[str, int] = {}  # when (monotonic) an order arrived

    async def place(self, intent: OrderIntent) -> PlaceResult:
        self.times[intent.client_order_id] = self._clock.monotonic_ns()
        return await super().place(intent)

    async def protect(self, take_profit: OrderIntent | None, stop_loss: OrderIntent | None) -> tuple[PlaceResult, ...]:
        self.protected.append((take_profit, stop_loss))
        return await asyncio.shield(asyncio.ensure_future(self._hold(take_profit, stop_loss)))

    async def _hold(self, *intents: OrderIntent | None) -> tuple[PlaceResult, ...]:
        for intent in intents:
            if intent is not None:
                self.times[intent.client_order_id] = self._clock.monotonic_ns()
        await self._clock.sleep(2 * self._one_way)
        return tuple(self._taken_in(intent) for intent in intents if intent is not None)

    def _taken_in(self, intent: OrderIntent) -> PlaceResult:
        if intent.kind in self.refuse:
            return PlaceResult(outcome=Outcome.REJECTED, code="-2021", message="Order would immediately trigger")
        self.resting[intent.client_order_id] = intent
        self._orders[intent.client_order_id] = self._state(intent, OrderState.PLACED)
        if intent.kind in self.lose:
            return PlaceResult(outcome=Outcome.UNKNOWN, message="timed out")
        return PlaceResult(outcome=Outcome.PLACED, exchange_order_id=f"x-{intent.client_order_id}")

    def _state(self, intent: OrderIntent, state: OrderState, fills: tuple[Fill, ...] = ()) -> OrderEvent:
        return OrderEvent(
            account_id=self.account_id,
            market=intent.market,
            client_order_id=intent.client_order_id,
            exchange_order_id=f"x-{intent.client_order_id}",
            state=state,
            filled=sum((fill.quantity for fill in fills), D(0)),
            fills=fills,
            source="stream",
        )

    def trigger(self, kind: OrderKind, price: str, part: Decimal | None = None, tell: bool = True) -> None:
        """Fill the resting order of a kind, whole or a part; a pair's other order is cancelled by the exchange."""
        intent = next(one for one in self.resting.values() if one.kind is kind)
        known = self._orders[intent.client_order_id]
        quantity = part or intent.quantity - sum((fill.quantity for fill in known.fills), D(0))
        market = self._markets[intent.market]
        fee, asset = self._money.book(market, intent.side, quantity, D(price), market.taker_fee)
        fill = Fill(
            account_id=self.account_id,
            market=intent.market,
            exchange_trade_id=f"x-{intent.client_order_id}-{len(known.fills)}",
            exchange_order_id=f"x-{intent.client_order_id}",
            client_order_id=intent.client_order_id,
            side=intent.side,
            price=D(price),
            quantity=quantity,
            fee=fee,
            fee_asset=asset,
            liquidity="taker",
            exchange_ns=self._clock.time_ns(),
        )
        fills = (*known.fills, fill)
        is_whole = sum((one.quantity for one in fills), D(0)) >= intent.quantity
        event = self._state(intent, OrderState.FILLED if is_whole else OrderState.PARTIALLY_FILLED, fills)
        self._orders[intent.client_order_id] = event
        if is_whole:
            del self.resting[intent.client_order_id]
        if tell:
            self._tell(event)
        if "oco" in self.protects and intent.linked in self.resting:
            self._drop(intent.linked, tell=tell)
        self._tell_balances(self._assets_of(self._markets[intent.market]))

    def _drop(self, client_id: str, *, tell: bool = True) -> None:
        intent = self.resting.pop(client_id)
        event = self._state(intent, OrderState.CANCELLED, self._orders[client_id].fills)
        self._orders[client_id] = event
        if tell:
            self._tell(event)

    def lose_track(self, kind: OrderKind) -> None:
        """Forget a resting order, as if somebody had cancelled it while nobody listened."""
        client_id = next(one.client_order_id for one in self.resting.values() if one.kind is kind)
        del self.resting[client_id]
        del self._orders[client_id]

    async def cancel(self, intent: OrderIntent) -> PlaceResult:
        await self._clock.sleep(2 * self._one_way)
        self.cancelled.append(intent.client_order_id)
        if intent.client_order_id not in self.resting:
            return PlaceResult(outcome=Outcome.REJECTED, code="-2011", message="Unknown order sent.")
        linked = self.resting[intent.client_order_id].linked
        self._drop(intent.client_order_id)
        if "oco" in self.protects and linked in self.resting:
            self._drop(linked)
        return PlaceResult(outcome=Outcome.PLACED)

    async def open_orders(self) -> Sequence[OrderEvent]:
        return [self._orders[client_id] for client_id in self.resting]


class TicketWorld(World):
    """Alpha and beta, one account each, and a bot whose owner trades by hand."""

    def __init__(self, *, real: bool = False, protects: Sequence[str] = ("oco", "stops"), **bot: object) -> None:
        self._protects = protects
        super().__init__(faulty=real)
        self.desk_bot = BotConfig(
            bot_id=DESK,
            name="Manual live" if real else "Manual paper",
            mode="live" if real else "paper",
            strategy=MANUAL,
            desk_accounts=(11, 12),
            markets=(self.alpha, self.beta),
            accounts={},
            max_trade_notional=D(1_000_000),
            max_open_trades=20,
            max_book_age_ms=1e9,
            **bot,  # type: ignore[arg-type]
        )
        self.config = msgspec.structs.replace(self.config, bots=(self.desk_bot,))
        self.engine = self.make_engine()

    def faulty_venue(self, account_id: int, market: object) -> ProtectingVenue:
        return ProtectingVenue(
            account_id,
            market.exchange,  # type: ignore[attr-defined]
            [market],
            MONEY,
            book_of=self.live_book,
            clock=self.clock,
            watch=self._watch,
            protects=self._protects,
        )

    @property
    def venue(self) -> ProtectingVenue:
        venue = self.venues[11]
        assert isinstance(venue, ProtectingVenue)
        return venue

    async def begin(self, bid: str = "49990", ask: str = "50000") -> None:
        await self.start()
        self.show(self.alpha, bid, ask)
        self.show(self.beta, bid, ask)
        await self.clock.run_until(lambda: self.engine.roster.get(DESK) is not None)
        await self.clock.advance(10)  # accounts are compared the first time

    def asked(self, **changes: object) -> TicketTerms:
        settings: dict[str, object] = {
            "market": self.alpha.key,
            "account_id": 11,
            "side": "buy",
            "quantity": D("0.1"),
            "style": AT_ONCE,
            "limit_cap": D("50500"),
            "take_profit": D("51000"),
            "stop_loss": D("49000"),
            "command_id": 1,
            **changes,
        }
        return TicketTerms(**settings)  # type: ignore[arg-type]

    async def open(self, **changes: object) -> Opened:
        opening = asyncio.ensure_future(self.engine.open_ticket(DESK, self.asked(**changes)))
        await self.clock.run_until(opening.done)
        return opening.result()

    async def held(self, **changes: object) -> Ticket:
        """Open a ticket and wait until its position is held."""
        opened = await self.open(**changes)
        assert opened.trade_id, opened
        await self.clock.run_until(lambda: self.record(opened.trade_id).state is TradeState.HOLDING)
        ticket = self.engine.trades.ticket_of(opened.trade_id)
        assert ticket is not None
        return ticket

    def record(self, trade_id: str) -> TradeRecord:
        return self.store.trades[trade_id]

    async def ended(self, ticket: Ticket) -> TradeRecord:
        await self.clock.run_until(lambda: ticket.finished)
        return self.record(ticket.record.trade_id)

    async def close(self, ticket: Ticket, **changes: object) -> str:
        terms = ClosingTerms(**{"style": AT_ONCE, "cause": "closing was asked for", "command_id": 2, **changes})  # type: ignore[arg-type]
        closing = asyncio.ensure_future(self.engine.close_ticket(ticket.record.trade_id, terms))
        await self.clock.run_until(closing.done)
        return closing.result()

    async def die(self) -> None:
        """End the process where it stands: nothing it had queued but not stored is lost, nothing is tidied up."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def rise(self, token: int = 4) -> None:
        """Begin again in a new process, with a later lease."""
        self.engine = self.make_engine(token)
        await self.start()

    def bought(self) -> Decimal:
        return sum((fill.quantity for fill in self.store.fills.values() if fill.side == "buy"), D(0))

    def sold(self) -> Decimal:
        return sum((fill.quantity for fill in self.store.fills.values() if fill.side == "sell"), D(0))


__all__ = ["AT_ONCE", "DESK", "ProtectingVenue", "TicketWorld", "TimeInForce"]
