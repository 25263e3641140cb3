"""Protective orders: the ones of a position together, and the answer of a venue that has none of its own."""

from __future__ import annotations

import msgspec

from trading.messages import OrderIntent, OrderKind, Outcome, PlaceResult

# What ``Venue.protects`` may name, see there.
NOTHING: frozenset[str] = frozenset()
OCO = frozenset({"oco"})
STOPS = frozenset({"stops"})
AHEAD = frozenset({"ahead"})


class Exits(msgspec.Struct, frozen=True):
    """The protective orders of one position: a pair of which one cancels the other, or one of the two."""

    take_profit: OrderIntent | None
    stop_loss: OrderIntent | None

    @property
    def intents(self) -> tuple[OrderIntent, ...]:
        """Those that are given, the take-profit first."""
        return tuple(intent for intent in (self.take_profit, self.stop_loss) if intent is not None)

    def apart(self) -> tuple[Exits, ...]:
        """Return each of them alone."""
        alone = (Exits(self.take_profit, None), Exits(None, self.stop_loss))
        return tuple(exits for exits in alone if exits.intents)

    @property
    def is_pair(self) -> bool:
        return self.take_profit is not None and self.stop_loss is not None

    def refusal(self) -> str:
        """Return why these can't protect a position together; empty when they can."""
        for intent, kind in ((self.take_profit, OrderKind.TAKE_PROFIT), (self.stop_loss, OrderKind.STOP_LOSS)):
            if intent is None:
                continue
            if intent.kind is not kind:
                return f"kind: must be {kind.value} (given {intent.kind.value})"
            if intent.trigger is None or intent.trigger <= 0:
                return f"trigger: a protective order needs one above 0 (given {intent.trigger})"
            if (intent.price > intent.trigger) if intent.side == "sell" else (intent.price < intent.trigger):
                return f"price: the worst of a {intent.side} can't be better than its trigger (given {intent.price})"
        if self.take_profit is None or self.stop_loss is None:
            return "" if self.intents else "neither a take-profit nor a stop-loss is given"
        return _differing(self.take_profit, self.stop_loss)


def _differing(take_profit: OrderIntent, stop_loss: OrderIntent) -> str:
    for field in ("market", "side", "quantity"):
        values = getattr(take_profit, field), getattr(stop_loss, field)
        if values[0] != values[1]:
            return f"{field}: must be the same of both orders of a pair (given {values[0]} and {values[1]})"
    if (take_profit.linked, stop_loss.linked) != (stop_loss.client_order_id, take_profit.client_order_id):
        return "linked: each order of a pair must name the other"
    assert take_profit.trigger is not None
    assert stop_loss.trigger is not None
    gain = take_profit.trigger - stop_loss.trigger
    if gain <= 0 if take_profit.side == "sell" else gain >= 0:
        return f"trigger: {take_profit.trigger} is no profit after {stop_loss.trigger} as the loss"
    return ""


def not_native(exchange: str, *intents: OrderIntent | None) -> tuple[PlaceResult, ...]:
    """Answer protective orders that cannot be sent: each is rejected, provably."""
    why = f"{exchange} takes no protective orders from here: the engine holds the levels"
    return refused(why, *intents)


def refused(why: str, *intents: OrderIntent | None, code: str = "LOCAL") -> tuple[PlaceResult, ...]:
    """Answer protective orders of which none leaves: each is rejected, provably."""
    answer = PlaceResult(outcome=Outcome.REJECTED, code=code, message=why)
    return tuple(answer for intent in intents if intent is not None)
