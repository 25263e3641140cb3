"""An intent as the journal has it: one body, made so that the rows it becomes can be written whatever happens.

What would keep a row from being written is refused here, before anything is durable: behind the orders nobody is left
who could be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from django.db.models import CharField, IntegerField, Model

from bots.models import BasisPosition, JournaledIntent, Order, Ticket, Trade
from bots.services.basis_rows import pair_columns
from bots.services.order_columns import order_columns
from bots.services.ticket_rows import standing_columns, ticket_columns
from bots.services.trade_rows import result_columns, trade_columns
from bots.times import from_ns
from trading.messages import Decision, OrderIntent, TradeRecord
from trading.tickets import ENTRY_LEG

Kind = JournaledIntent.Kind
_INTEGERS = {
    "PositiveSmallIntegerField": (0, 2**15 - 1),
    "PositiveIntegerField": (0, 2**31 - 1),
}
_NEVER_NEGATIVE = ("reserve_amount", "held", "fallback_quantity", "outside")
_MAYBE_NOTHING = frozenset({"assessment", "later_profit", "until"})  # of a decision; other nulls were not numbers


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored. The decision stays plain values until :func:`decision_of`: JSON has no NaN."""

    trade: TradeRecord
    orders: tuple[OrderIntent, ...]
    decision: Any = None


class Intent(NamedTuple):
    """An intent that is right in itself. ``claims`` are words that no other intent may have; ``slots`` (legs with
    attempts) those of its trade. ``opens`` says that it opens what a reducing switch forbids."""

    kind: str
    trade: TradeRecord
    orders: Sequence[OrderIntent]
    body: str
    accounts: Sequence[int]
    markets: Sequence[str]
    slots: Sequence[str]
    opens: bool

    @property
    def key(self) -> str:
        return self.orders[0].client_order_id

    @property
    def command_id(self) -> int:
        """The command an entry carries out; 0: none."""
        ticket = self.trade.ticket if self.kind == Kind.ENTRY else None
        return 0 if ticket is None else ticket.command_id

    @property
    def claims(self) -> str:
        words = [*(order.client_order_id for order in self.orders), *self.slots]
        if self.command_id:
            words.append(command_claim(self.command_id))
        return f" {' '.join(words)} "


_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Body)


def intent_of(
    *, kind: str, trade: TradeRecord, orders: Sequence[OrderIntent], decision: Decision | None = None
) -> Intent:
    """Return what is to be journaled.

    Raises
    ------
    ValueError
        If any of it could not be stored as a row, with the field, the limit and what was given.
    """
    try:
        return _checked(kind, trade, orders, decision)
    except OverflowError as problem:
        raise ValueError(f"trade_id: a time or number of trade {trade.trade_id!r} is out of range: {problem}") from None


def _checked(kind: str, trade: TradeRecord, orders: Sequence[OrderIntent], decision: Decision | None) -> Intent:
    is_entry = kind == Kind.ENTRY
    accounts, markets = {order.account_id for order in orders}, {order.market for order in orders}
    if is_entry:
        _trade_check(trade, decision)
        if trade.ticket is not None:
            columns_check(Ticket, ticket_columns(trade))
            accounts.add(trade.ticket.account_id)
            markets.add(trade.ticket.market)
        if trade.basis is not None:
            columns_check(BasisPosition, {"funding_rate": trade.basis.funding_rate})
            markets |= {trade.basis.spot, trade.basis.perp}
    else:
        columns_check(Trade, result_columns(trade))
        if trade.standing is not None:
            columns_check(Ticket, standing_columns(trade.standing))
    if trade.pair is not None:
        columns_check(BasisPosition, pair_columns(trade.pair))
    if not orders:
        raise ValueError(f"orders: an intent of trade {trade.trade_id!r} without any; name at least one")
    for order in orders:
        if order.trade_id != trade.trade_id:
            raise ValueError(f"trade_id: the order names {order.trade_id!r}, its trade is {trade.trade_id!r}")
        columns_check(Order, order_columns(order))
        if not order.client_order_id or " " in order.client_order_id:
            raise ValueError(f"client_order_id: one word is wanted (given {order.client_order_id!r})")
    slots = [slot(order.leg, order.attempt) for order in orders]
    for name, given in (("client_order_id", [order.client_order_id for order in orders]), ("attempt", slots)):
        if len(set(given)) < len(given):
            raise ValueError(f"{name}: given twice in one intent ({', '.join(given)})")
    opens = is_entry or (trade.ticket is not None and any(order.leg == ENTRY_LEG for order in orders))
    return Intent(
        kind, trade, orders, _encoded(trade, orders, decision), sorted(accounts), sorted(markets), slots, opens
    )


def body_of(row: JournaledIntent) -> Body:
    """Return what a journaled row says."""
    return _decoder.decode(row.body)


def decision_of(body: Body) -> Decision | None:
    """Return the decision that a trade came of, with NaN for what was no finite number."""
    return None if body.decision is None else msgspec.convert(_with_nan(body.decision), Decision)


def slot(leg: int, attempt: int) -> str:
    return f"{leg}/{attempt}"


def command_claim(command_id: int) -> str:
    return f"command-{command_id}"


def columns_check(model: type[Model], values: Mapping[str, Any]) -> None:
    """Refuse values that a model's columns would: too long, out of range, not a choice; raises ValueError."""
    lengths, ranges, choices = _rules(model)
    for name, value in values.items():
        if value is None:
            continue
        if name in lengths and len(value) > lengths[name]:
            raise ValueError(f"{name}: at most {lengths[name]} characters (given {len(value)}: {value[:40]!r})")
        if name in choices and value not in choices[name]:
            raise ValueError(f"{name}: one of {', '.join(sorted(choices[name]))} (given {value!r})")
        if name in ranges and not ranges[name][0] <= value <= ranges[name][1]:
            raise ValueError(f"{name}: must be {ranges[name][0]} to {ranges[name][1]} (given {value!r})")
        if name in _NEVER_NEGATIVE and isinstance(value, Decimal) and value < 0:
            raise ValueError(f"{name}: may not be negative (given {value})")


@lru_cache
def _rules(model: type[Model]) -> tuple[dict[str, int], dict[str, tuple[int, int]], dict[str, frozenset[str]]]:
    fields = model._meta.concrete_fields
    return (
        {field.attname: field.max_length for field in fields if isinstance(field, CharField) and field.max_length},
        {
            field.attname: _INTEGERS[field.get_internal_type()]
            for field in fields
            if isinstance(field, IntegerField) and field.get_internal_type() in _INTEGERS
        },
        {field.attname: frozenset(str(value) for value, _ in field.flatchoices) for field in fields if field.choices},
    )


def _trade_check(trade: TradeRecord, decision: Decision | None) -> None:
    columns_check(Trade, trade_columns(trade))
    if trade.realised_profit is not None and trade.closed_ns:
        raise ValueError(f"trade_id: {trade.trade_id!r} has a result before its orders; commit it open")
    if decision is None:
        return
    found = decision.opportunity
    said = (found.bot_id, found.base, found.quote, decision.trade_id)
    if said != (trade.bot_id, trade.base, trade.quote, trade.trade_id):
        raise ValueError(f"decision: is about {said}, its trade is {trade.trade_id!r} of bot {trade.bot_id}")
    from_ns(found.detected_ns)


def _encoded(trade: TradeRecord, orders: Sequence[OrderIntent], decision: Decision | None) -> str:
    body = _encoder.encode(Body(trade=trade, orders=tuple(orders), decision=decision))
    if b"\\u0000" in body:
        raise ValueError(f"trade_id: a text of trade {trade.trade_id!r} has a NUL character, which no row can hold")
    try:
        _decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise ValueError(f"trade_id: a value of trade {trade.trade_id!r} can't be stored: {problem}") from None
    return body.decode()


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: float("nan") if one is None and name not in _MAYBE_NOTHING else _with_nan(one)
            for name, one in value.items()
        }
    return value
