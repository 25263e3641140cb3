"""One trade by hand on the real adapters: asked for as a command, protected, held, and closed, killed on its way.

The command runner of the host carries out what is asked for, as it does in life. What protects the position is
looked at while it is held and nothing is under way; then it is closed by hand, or its take-profit is reached.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from bots.engine_host.commands import CommandRunner
from bots.models import BY_HAND, Command, Order, Ticket, Trade
from bots.services.commands import commands_pending
from bots.services.tickets import manual_close_request, manual_trade_request
from tests.crash_points.ground import Ground
from tests.crash_points.guarding import ENGINE, GuardedVenue, GuardingExchange
from tests.crash_points.points import Point
from tests.crash_points.world import LONGEST_TRADE, POLL_SECONDS, Engine, RealWorld, Threads
from tests.simulation.exchange import ZERO
from tests.simulation.venue import Plan
from tests.simulation.world import SYMBOL, D
from trading.messages import OrderKind, TradeState

QUANTITY, CAP, TAKE_PROFIT, STOP_LOSS = "0.1", "50500", "51000", "49000"
CLOSED_BY_HAND, PROFIT_TAKEN = "close", "take_profit"
PROFIT_AT = D(51_100)  # the middle that takes the profit
HURRY_SECONDS = 0.5  # how often a process looks for what a person waits for
ENDED = (TradeState.CLOSED.value, TradeState.FAILED.value)
_keys = itertools.count(1)  # of requests: a key is never used twice on one database


class HandWorld(RealWorld):
    """A world in which one trade by hand happens."""

    make_exchange = GuardingExchange
    make_venue = GuardedVenue
    by_hand = True

    def __init__(self, ground: Ground, threads: Threads, planned: Sequence[Point] = ()) -> None:
        super().__init__(ground, threads, planned)
        self.guarding = ENGINE
        self.ending = CLOSED_BY_HAND
        self.protect_plans: list[Plan] = []
        self.commands: list[int] = []

    def plan_protect(self) -> Plan:
        return self.protect_plans.pop(0) if self.protect_plans else Plan()

    # -- what the host does

    async def started(self, body: Engine) -> None:
        assert body.engine is not None
        assert body.store is not None
        threads, owner_id = self.threads, self.ground.owner.pk
        runner = CommandRunner(body.engine, body.store, threads.control)

        def pending() -> list[Command]:
            return commands_pending(owner_id=owner_id, kinds=BY_HAND)

        async def hurry() -> None:
            while True:
                runner.hurry(await threads.commits.run(pending))
                await body.clock.sleep(HURRY_SECONDS)

        body.tasks.append(self.loop.create_task(hurry()))

    # -- what a person does

    def _ask(self, kind: str, data: dict[str, Any]) -> None:
        owner = self.ground.owner
        request = manual_trade_request if kind == Command.Kind.MANUAL_TRADE else manual_close_request
        key = f"hand-{next(_keys)}"
        self.commands.append(
            self.threads.ask(lambda: request(owner=owner, actor=None, data=data, idempotency_key=key).pk)
        )

    def _state(self) -> str:
        """Return the trade's state; empty while there is none."""
        states = self.threads.ask(lambda: list(Trade.objects.values_list("state", flat=True)))
        return "" if not states else states[0]

    def _unanswered(self) -> bool:
        pending = Command.objects.filter(status=Command.Status.PENDING)
        return self.threads.ask(pending.exists)

    async def _until_rest(self, *states: str) -> None:
        end = self.loop.time() + LONGEST_TRADE
        while self.loop.time() < end:
            if self._at_rest() and not self._unanswered() and self._state() in states:
                return
            await asyncio.sleep(POLL_SECONDS)
        self.anomaly(f"not_at_rest: the trade is {self._state() or 'not there'}, not {' or '.join(states)}")

    async def happen_once(self) -> None:
        account_id = self.ground.accounts["alpha"]
        asked = {
            "mode": "live", "account_id": account_id, "symbol": SYMBOL, "side": "buy", "amount": QUANTITY,
            "order": "market", "limit_price": CAP, "take_profit": TAKE_PROFIT, "stop_loss": STOP_LOSS,
        }  # fmt: skip
        self._ask(Command.Kind.MANUAL_TRADE, asked)
        await self._until_rest(TradeState.HOLDING.value, *ENDED)
        if self._state() != TradeState.HOLDING.value:
            return
        self._look_at_protection()
        if self.ending == CLOSED_BY_HAND:
            (trade_id,) = self.threads.ask(lambda: list(Trade.objects.values_list("trade_id", flat=True)))
            self._ask(Command.Kind.MANUAL_CLOSE, {"trade_id": trade_id, "order": "market"})
        else:
            for code in self.exchanges:
                self.middles[code] = PROFIT_AT
                self.refresh(code)
        await self._until_rest(*ENDED)

    def refresh(self, code: str) -> None:
        super().refresh(code)
        exchange = self.exchanges[code]
        assert isinstance(exchange, GuardingExchange)
        exchange.reach(exchange.bids[0][0])

    # -- what must hold

    def _look_at_protection(self) -> None:
        """While it is held: what it holds is what was bought, and both levels stand, once, over all of it."""
        exchange = self.exchanges["alpha"]
        assert isinstance(exchange, GuardingExchange)
        held, by = self.threads.ask(lambda: Ticket.objects.values_list("held", "protected_by").get())
        gained = exchange.free["BTC"] + exchange.used["BTC"] - exchange.start["BTC"]
        if held > gained or gained - held >= exchange.lot:
            self.anomaly(f"held_wrong: the ticket holds {held}, the account gained {gained} BTC")
        standing = [(exchange.guards[order.client_id].kind, order.quantity) for order in exchange.guarding()]
        whole = held - held % exchange.lot
        if self.guarding == ENGINE:
            body = self.newest
            assert body is not None
            assert body.engine is not None
            watched = [ticket.protection.is_watching for ticket in body.engine.trades.tickets()]
            if by != "engine" or watched != [True] or standing:
                self.anomaly(f"unprotected: by {by!r}, watched {watched}, at the exchange {standing}")
            return
        wanted = sorted((kind.value, whole) for kind in (OrderKind.TAKE_PROFIT, OrderKind.STOP_LOSS))
        if by != "exchange" or sorted((kind.value, quantity) for kind, quantity in standing) != wanted:
            self.anomaly(f"unprotected: by {by!r}, at the exchange {standing} for {held}")

    def judge(self) -> None:
        super().judge()
        for problem in self.threads.ask(lambda: list(self._at_end())):
            self.anomaly(problem)

    def _at_end(self) -> Iterator[str]:
        for command in Command.objects.exclude(status=Command.Status.DONE):
            yield f"command: {command.kind} is {command.status}: {command.result}"
        tickets = list(Ticket.objects.select_related("trade"))
        if [ticket.command_id for ticket in tickets] != self.commands[:1]:
            yield f"ticket: {len(tickets)} tickets for one command"
        for exchange in self.exchanges.values():
            assert isinstance(exchange, GuardingExchange)
            for order in exchange.open():
                yield f"orphan: {exchange.code} still has {order.client_id}"
        for ticket in tickets:
            yield from self._booked(ticket)

    def _booked(self, ticket: Ticket) -> Iterator[str]:
        """What the trade says it earned is what the exchange paid and took."""
        trade = ticket.trade
        ours = set(Order.objects.filter(trade=trade).values_list("client_order_id", flat=True))
        executed = [fill for fill in self.exchanges["alpha"].executions if fill.client_id in ours]
        if trade.state != (TradeState.CLOSED if executed else TradeState.FAILED):
            yield f"ticket: {trade.trade_id} is {trade.state} with {len(executed)} executions"
        if ticket.held >= D("0.0001") or ticket.protected_by:
            yield f"ticket: {trade.trade_id} has ended and holds {ticket.held}, protected by {ticket.protected_by!r}"
        if not executed:
            return
        earned = ZERO
        for fill in executed:
            earned += fill.price * fill.quantity * (1 if fill.side == "sell" else -1)
            earned -= fill.fee if fill.fee_asset == "USDT" else ZERO
        if trade.realised_profit is None or trade.residual_base or trade.realised_profit != earned:
            yield f"profit: {trade.trade_id} says {trade.realised_profit} with {trade.residual_base}, it is {earned}"
