"""Disputed orders: what a person decides becomes a command, which the owner's engine carries out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from bots.fields import exact_sum
from bots.models import Command, Fill, Order, OrderEvent
from bots.services import locks
from bots.services.audit import audit_record, owner_check, permission_check
from bots.services.commands import command_create, command_finish
from bots.services.differences import reason_clean
from bots.services.validation import refuse
from bots.times import from_ns, to_ns
from trading import messages
from trading.execution.decisions import DecisionKind, OrderDecision
from trading.instruments import money, positive
from trading.messages import OrderState

DECIDE = "bots.decide_order"
MAX_FILLS = 100
ID_LENGTH = 64
CLOCK_MARGIN = timedelta(minutes=1)


class FillText(msgspec.Struct, frozen=True, kw_only=True):
    """A fill as a person types it; an empty fee is one not known yet."""

    exchange_trade_id: str
    quantity: str
    price: str
    fee: str = ""
    fee_asset: str = ""
    at: str = ""


def order_mark_absent(*, order: Order, actor: User, reason: str) -> Command:
    """Ask to book that the exchange never had the order; raises ValidationError."""
    return _ask(order, actor, DecisionKind.ABSENT, reason)


def order_adopt(*, order: Order, actor: User, reason: str, exchange_order_id: str) -> Command:
    """Ask to book that an order of the exchange's is ours; raises ValidationError."""
    wanted = exchange_order_id.strip()
    if not wanted or len(wanted) > ID_LENGTH or not wanted.isprintable() or " " in wanted:
        raise refuse(
            f"Must be 1 to {ID_LENGTH} characters without spaces (given {wanted[:ID_LENGTH]!r}).",
            field="exchange_order_id",
        )
    others = Order.objects.filter(account=order.account_id, exchange_order_id=wanted).exclude(pk=order.pk)
    if other := others.first():
        raise refuse(f"Belongs to our order {other.client_order_id} (given {wanted}).", field="exchange_order_id")
    for candidate in evidence_of(order).candidates:
        # An open order's side may not be known; what it executed tells it.
        if candidate.get("exchange_order_id") == wanted and candidate.get("side", "") not in {"", order.side}:
            raise refuse(
                f"Is a {candidate['side']}, the order is a {order.side} (given {wanted}).", field="exchange_order_id"
            )
    return _ask(order, actor, DecisionKind.ADOPT, reason, exchange_order_id=wanted)


def order_mark_filled(
    *, order: Order, actor: User, reason: str, typed: Sequence[FillText] = (), chosen: Sequence[Fill] = ()
) -> Command:
    """Ask to book fills of the order, typed or chosen from the account's that belong to no order.

    Raises
    ------
    ValidationError
        With the field, the limit and what was given.
    """
    fills = [_chosen(order, fill) for fill in chosen] + [_typed(order, fill) for fill in typed]
    if not fills:
        raise refuse("Name at least one fill; an order without any is marked absent.", field="fills")
    if len(fills) > MAX_FILLS:
        raise refuse(f"At most {MAX_FILLS} fills (given {len(fills)}).", field="fills")
    ids = [str(fill["exchange_trade_id"]) for fill in fills]
    if doubled := next((one for one in ids if ids.count(one) > 1), None):
        raise refuse(f"Trade id {doubled} is given twice.", field="fills")
    known = Fill.objects.filter(account=order.account_id, market=order.market_id, exchange_trade_id__in=ids)
    for row in known.exclude(order__isnull=True).select_related("order"):
        raise refuse(f"Trade id {row.exchange_trade_id} is booked already, for order {row.order}.", field="fills")
    booked = exact_sum(order.fills.values_list("quantity", flat=True))
    total = exact_sum([booked, *(Decimal(str(fill["quantity"])) for fill in fills)])
    if total > order.quantity:
        raise refuse(
            f"The order is for {order.quantity:f}: its fills may not come to more (given {total:f}).", field="fills"
        )
    return _ask(order, actor, DecisionKind.FILLED, reason, fills=fills)


def order_decision_of(command: Command) -> OrderDecision:
    """Return what a command asks of the engine."""
    asked = command.payload
    fills = tuple(
        messages.Fill(
            account_id=asked["account_id"],
            market=asked["market"],
            exchange_trade_id=fill["exchange_trade_id"],
            exchange_order_id=fill["exchange_order_id"],
            client_order_id=asked["client_order_id"],
            side=asked["side"],
            price=positive(fill["price"], field="price"),
            quantity=positive(fill["quantity"], field="quantity"),
            fee=None if fill["fee"] is None else money(fill["fee"], field="fee"),
            fee_asset=fill["fee_asset"],
            liquidity="",
            exchange_ns=int(fill["at_ns"]),
        )
        for fill in asked["fills"]
    )
    return OrderDecision(
        client_order_id=asked["client_order_id"],
        kind=DecisionKind(asked["decision"]),
        exchange_order_id=asked["exchange_order_id"],
        fills=fills,
        cause=f"{_mark(command.pk)} {asked['decision']}, {asked['reason']}",
    )


def order_decided(*, command_id: int, problem: str) -> None:
    """Record how a decision ended, with what the order is now; a second time nothing happens.

    A process that died after booking it leaves the command pending: the next one finds the order moved on, by this
    very decision, which is then done.
    """
    with transaction.atomic():
        command = Command.objects.select_related("requested_by").get(pk=command_id)
        order = Order.objects.get(client_order_id=command.payload["client_order_id"], owner_id=command.owner_id)
        booked = order.events.filter(source=OrderEvent.Source.OPERATOR, cause__startswith=_mark(command_id))
        if problem and booked.exists():
            problem = ""
        now = f"the order is {order.state}, {order.filled:f} of {order.quantity:f} filled"
        if not command_finish(command_id=command_id, failed=bool(problem), result=problem or f"Booked: {now}."):
            return
        if problem:
            message = f"Decision #{command_id} was not booked: {problem}"
        else:
            message = f"Decision #{command_id} is booked: it was DISPUTED, {now}."
        audit_record(actor=command.requested_by, subject=order, message=message)


class Evidence(msgspec.Struct, frozen=True):
    """What the engine had asked before it gave up: rows of (at, question, answer), the exchange's orders that might
    be it, and text of another form."""

    asked: Sequence[tuple[datetime | None, str, str]] = ()
    candidates: Sequence[Mapping[str, str]] = ()
    text: str = ""


def evidence_of(order: Order) -> Evidence:
    """Return the evidence of the last time an order became disputed."""
    event = order.events.filter(to_state=OrderState.DISPUTED.value).order_by("-id").first()
    if event is None:
        return Evidence()
    try:
        told = msgspec.json.decode(event.raw)
        asked = [
            (from_ns(int(row["at"])) if row.get("at") else None, str(row["question"]), str(row["answer"]))
            for row in told["evidence"]
        ]
        candidates = [{str(name): str(value) for name, value in row.items()} for row in told.get("candidates", ())]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return Evidence(text="\n".join(part for part in (event.cause, event.raw) if part))
    return Evidence(asked, candidates, event.cause)


# --- asking --------------------------------------------------------------------------------------------------------


def _ask(
    order: Order,
    actor: User,
    decision: DecisionKind,
    reason: str,
    *,
    exchange_order_id: str = "",
    fills: Sequence[Mapping[str, object]] = (),
) -> Command:
    owner_check(actor=actor, owner_id=order.owner_id)
    permission_check(actor=actor, permission=DECIDE)
    why = reason_clean(reason)
    with transaction.atomic():
        rows = locks.orders_lock(owner_id=order.owner_id, client_order_ids=[order.client_order_id])
        row = rows[order.client_order_id]
        asked = Command.objects.filter(
            owner_id=row.owner_id, kind=Command.Kind.ORDER_DECIDE, payload__client_order_id=row.client_order_id
        )
        pending = asked.filter(status=Command.Status.PENDING).select_related("requested_by").first()
        if pending is not None:
            raise refuse(
                f"A decision on this order is being carried out already (#{pending.pk}, {pending.payload['decision']}, "
                f"asked for by {pending.requested_by}): wait for its result.",
                code="already",
            )
        if row.state != OrderState.DISPUTED.value:
            raise refuse(
                f"The order is no longer disputed: it is {row.state}, {row.filled:f} of {row.quantity:f} filled.",
                code="already",
            )
        disputed = row.events.filter(to_state=OrderState.DISPUTED.value).order_by("-id").values_list("pk").first()
        command = command_create(
            owner_id=row.owner_id,
            actor=actor,
            kind=Command.Kind.ORDER_DECIDE,
            payload={
                "client_order_id": row.client_order_id,
                "account_id": row.account_id,
                "market": f"{row.market.exchange.code}:{row.market.symbol}",
                "side": row.side,
                "decision": decision.value,
                "exchange_order_id": exchange_order_id,
                "fills": [dict(fill) for fill in fills],
                "reason": why,
            },
            # One effect for each time it is disputed and for each answer to a decision before.
            idempotency_key=f"decide-{row.pk}-{disputed[0] if disputed else 0}-{asked.count()}",
        )
        audit_record(
            actor=actor,
            subject=row,
            message=f"Decision #{command.pk} asked for: {_words(command)}. It was DISPUTED, {row.filled:f} of "
            f"{row.quantity:f} filled. Reason: {why}",
        )
    return command


def _words(command: Command) -> str:
    asked = command.payload
    if asked["decision"] == DecisionKind.ADOPT:
        return f"adopt the exchange's order {asked['exchange_order_id']}"
    if asked["decision"] == DecisionKind.FILLED:
        fills = [f"{fill['quantity']} at {fill['price']} ({fill['exchange_trade_id']})" for fill in asked["fills"]]
        return f"mark it filled with {', '.join(fills[:5])}{' and more' if len(fills) > 5 else ''}"
    return "mark it absent"


def _mark(command_id: int) -> str:
    return f"decision #{command_id}:"


def _chosen(order: Order, fill: Fill) -> dict[str, object]:
    """Return one of the account's fills that belong to no order."""
    same = (fill.account_id, fill.market_id, fill.side) == (order.account_id, order.market_id, order.side)
    if not same or fill.order_id is not None:
        raise refuse(
            f"Fill {fill.exchange_trade_id} is not an unassigned {order.side} of this account on this market.",
            field="fills",
        )
    return {
        "exchange_trade_id": fill.exchange_trade_id,
        "exchange_order_id": fill.exchange_order_id,
        "price": f"{fill.price:f}",
        "quantity": f"{fill.quantity:f}",
        "fee": None if fill.fee is None else f"{fill.fee:f}",
        "fee_asset": fill.fee_asset,
        "at_ns": str(to_ns(fill.at)),
    }


def _typed(order: Order, fill: FillText) -> dict[str, object]:
    """Return a typed fill, every figure checked."""
    trade_id = fill.exchange_trade_id.strip()
    if not trade_id or len(trade_id) > ID_LENGTH or not trade_id.isprintable():
        raise refuse(
            f"exchange trade id: must be 1 to {ID_LENGTH} characters (given {trade_id[:ID_LENGTH]!r}).", field="fills"
        )
    try:
        price, quantity = positive(fill.price, field="price"), positive(fill.quantity, field="quantity")
        fee = money(fill.fee.strip(), field="fee") if fill.fee.strip() else None
    except ValueError as problem:
        raise refuse(f"{problem}.", field="fills") from None
    worse = price > order.price if order.side == Order.Side.BUY else price < order.price
    if worse:
        most = "at most" if order.side == Order.Side.BUY else "at least"
        raise refuse(f"price: {most} the order's limit of {order.price:f} (given {price:f}).", field="fills")
    asset = fill.fee_asset.strip()
    if fee and (not asset or len(asset) > 32 or " " in asset or not asset.isprintable()):
        raise refuse(f"fee asset: name the asset of the fee, such as USDT (given {asset[:32]!r}).", field="fills")
    if fee and abs(fee) > price * quantity and asset == order.market.quote_id:
        raise refuse(f"fee: below the fill's worth of {price * quantity:f} (given {fee:f}).", field="fills")
    return {
        "exchange_trade_id": trade_id,
        "exchange_order_id": order.exchange_order_id,
        "price": f"{price:f}",
        "quantity": f"{quantity:f}",
        "fee": None if fee is None else f"{fee:f}",
        "fee_asset": asset if fee is not None else "",
        "at_ns": str(to_ns(_moment(order, fill.at))),
    }


def _moment(order: Order, text: str) -> datetime:
    """Return when a fill was: UTC unless it says otherwise, between the order's making and now."""
    try:
        at = parse_datetime(text.strip())
    except ValueError:
        at = None
    if at is None:
        raise refuse(f"time: write it as 2026-11-25 16:30:05, in UTC (given {text[:40]!r}).", field="fills")
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if not order.created_at - CLOCK_MARGIN <= at <= timezone.now() + CLOCK_MARGIN:
        raise refuse(
            f"time: between the order's {order.created_at:%Y-%m-%d %H:%M:%S} UTC and now (given {text[:40]!r}).",
            field="fills",
        )
    return at


__all__ = [
    "Evidence", "FillText", "ValidationError", "evidence_of", "order_adopt", "order_decided", "order_decision_of",
    "order_mark_absent", "order_mark_filled",
]  # fmt: skip
