"""The small world of trades by hand with a perpetual on alpha, whose exchange holds reduce-only orders ahead of a
position."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tests.engine.basis_world import PerpetualVenue, perpetual
from tests.engine.ticket_world import ProtectingVenue, TicketWorld
from tests.engine.worlds import MONEY, D
from trading.messages import OrderIntent, OrderKind, OrderState

AHEAD = ("stops", "ahead")


class ContractVenue(ProtectingVenue, PerpetualVenue):
    """An account that tells its positions, and takes what may only reduce without one."""

    def fire(self, kind: OrderKind, price: str) -> None:
        """Trigger a resting order: it closes what of the position it may, or is rejected for want of one."""
        intent = next(one for one in self.resting.values() if one.kind is kind)
        held = self.position() if intent.side == "sell" else -self.position()
        part = min(held, intent.quantity)
        if part > 0:
            self.trigger(kind, price, part=part)
        if intent.client_order_id in self.resting:
            self._drop(intent.client_order_id)

    def position(self) -> Decimal:
        return sum((one.quantity for one in self._money.positions.values()), D(0))


class ContractWorld(TicketWorld):
    """Alpha's market is a perpetual; its account has told that it holds nothing."""

    def __init__(self, *, protects: Sequence[str] = AHEAD) -> None:
        super().__init__(real=True, protects=protects)
        self.alpha = perpetual("alpha")
        self.venues[11] = ContractVenue(
            11, "alpha", [self.alpha], MONEY,
            book_of=self.live_book, clock=self.clock, watch=self._watch, protects=protects,
        )  # fmt: skip
        self.desk_bot = msgspec.structs.replace(self.desk_bot, markets=(self.alpha, self.beta))
        self.config = msgspec.structs.replace(self.config, bots=(self.desk_bot,))
        self.store.markets = {market.key: market for market in (self.alpha, self.beta)}
        self.engine = self.make_engine()

    @property
    def contracts(self) -> ContractVenue:
        venue = self.venues[11]
        assert isinstance(venue, ContractVenue)
        return venue

    async def begin(self, bid: str = "49990", ask: str = "50000") -> None:
        await super().begin(bid, ask)
        self.contracts.tell_positions()

    async def rise(self, token: int = 4) -> None:
        await super().rise(token)
        self.contracts.tell_positions()

    def states(self, kind: OrderKind) -> list[OrderState]:
        """Return the states of all orders of a kind, as stored."""
        return [self.store.states[name] for name, intent in self.store.intents.items() if intent.kind is kind]

    def protective(self) -> list[OrderIntent]:
        return [intent for pair in self.venue.protected for intent in pair if intent is not None]
