"""What exchanges said about orders, made durable: states without regress, fills once, ledger lines with them.

Facts are stored whoever reports them and however often; no lease is asked for, because refusing to write down a fill
would lose it. What cannot be stored (an unknown market, an absurd number) is logged and left out, the rest is kept.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import NamedTuple

import msgspec
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from bots.fields import EXACT, exact_sum
from bots.models import ExchangeAccount, Fill, Market, Order, OrderEvent, OwnerLease
from bots.services import locks
from bots.services.forced import orders_made
from bots.services.guard import retried_once
from bots.services.ledger import fees_book, fills_book, realised_book
from bots.times import from_ns
from bots.venue_keys import markets_by_key
from trading import messages
from trading.execution.states import next_state
from trading.instruments import MIN_STEP, POSITION_SIDES, money, positive
from trading.messages import OrderState

logger = logging.getLogger("arb.store")

# Below SQLite's limit of variables, and short enough not to hold its one writer.
CHUNK = 200
CAUSE_LENGTH = 500
RAW_LENGTH = 20_000  # a disputed order's evidence is the longest

Reported = tuple[messages.OrderEvent, str]
FillKey = tuple[int, int, str]


class _Found(NamedTuple):
    """The rows a chunk of events is about."""

    orders: dict[str, Order]
    by_exchange_id: dict[tuple[int, str], Order]
    accounts: Collection[int]
    markets: dict[str, Market]

    def order(self, account_id: int, client_order_id: str, exchange_order_id: str) -> Order | None:
        found = self.orders.get(client_order_id) or self.by_exchange_id.get((account_id, exchange_order_id))
        return found if found is not None and found.account_id == account_id else None


def events_apply(*, owner_id: int, batch: Sequence[Reported], token: int | None = None) -> int:
    """Store order events, each with the state the engine says it led to, and their fills; idempotent.

    Fills of orders that are not ours are stored without an order. Returns how many fills were new. ``token`` is the
    lease token of the engine that speaks. Once a later one has taken over, it books fills but moves no order on: its
    news may be older than what the later one has found out. What it concluded by itself of an order (that it was never
    sent) is left out where the later engine has sent one of the same id.

    Raises
    ------
    StoreUnavailable
        If the database is away; chunks stored before stay, and storing the batch again is harmless.
    """
    new = 0
    for start in range(0, len(batch), CHUNK):
        chunk = batch[start : start + CHUNK]
        new += retried_once(lambda chunk=chunk: _apply(owner_id, chunk, token))  # type: ignore[misc]
    return new


def _apply(owner_id: int, chunk: Sequence[Reported], token: int | None) -> int:
    with transaction.atomic():
        found = _find(owner_id, chunk)
        made = orders_made(
            owner_id=owner_id,
            token=token or 0,
            events=[event for event, _ in chunk if event.account_id in found.accounts],
            known=found.orders,
            markets=found.markets,
        )
        found.orders.update(made)
        steps = []
        touched: dict[int, Order] = {}
        now = timezone.now()
        # Not locked: commits wait for that row, and whoever takes over in this moment reads what is written here.
        overtaken = token is not None and OwnerLease.objects.filter(owner_id=owner_id, token__gt=token).exists()
        for event, state in chunk:
            order = found.order(event.account_id, event.client_order_id, event.exchange_order_id)
            if order is not None and not _is_anothers(event, order, token):
                steps.append(_advance(order, event, OrderState(state), now, is_overtaken=overtaken))
                touched[order.pk] = order
        fresh = _fills_store(owner_id, chunk, found, touched)
        _totals_set(touched, found)
        for order in touched.values():
            order.updated_at = now
        Order.objects.bulk_update(
            touched.values(), ["state", "exchange_order_id", "path", "filled", "average_price", "updated_at"]
        )
        OrderEvent.objects.bulk_create(steps, ignore_conflicts=True)
        return len(fresh)


def _is_anothers(event: messages.OrderEvent, order: Order, token: int | None) -> bool:
    return token is not None and event.source == OrderEvent.Source.ENGINE and order.lease_token > token


def _find(owner_id: int, chunk: Sequence[Reported]) -> _Found:
    reports: list[messages.OrderEvent | messages.Fill] = []
    for event, _ in chunk:
        reports += [event, *event.fills]
    ids = {report.client_order_id for report in reports if report.client_order_id}
    orders = locks.orders_lock(owner_id=owner_id, client_order_ids=ids)
    # An exchange that leaves the client's id out of its fills still names its own.
    known = {(order.account_id, order.exchange_order_id) for order in orders.values()}
    unnamed = {
        (report.account_id, report.exchange_order_id)
        for report in reports
        if report.exchange_order_id and not report.client_order_id
    } - known
    if unnamed:
        wanted = Q(pk__in=[])
        for account_id, exchange_order_id in unnamed:
            wanted |= Q(account_id=account_id, exchange_order_id=exchange_order_id)
        more = Order.objects.filter(wanted, owner_id=owner_id).values_list("client_order_id", flat=True)
        orders |= locks.orders_lock(owner_id=owner_id, client_order_ids=list(more))
    accounts = set(
        ExchangeAccount.objects.filter(owner_id=owner_id, pk__in={report.account_id for report in reports})
        .order_by()
        .values_list("pk", flat=True)
    )
    by_exchange_id = {
        (order.account_id, order.exchange_order_id): order for order in orders.values() if order.exchange_order_id
    }
    return _Found(orders, by_exchange_id, accounts, markets_by_key({report.market for report in reports}))


def _advance(
    order: Order, event: messages.OrderEvent, state: OrderState, now: datetime, *, is_overtaken: bool
) -> OrderEvent:
    """Move an order on as its one table allows, and return the step for its history."""
    before = OrderState(order.state)
    # Who was overtaken speaks of what was so then; executions stay facts, whoever tells of them.
    after = before if is_overtaken and not event.fills else next_state(before, state) or before
    order.state = after.value
    order.exchange_order_id = order.exchange_order_id or event.exchange_order_id[:64]
    order.path = order.path or event.path[:16]
    filled = _amount(event.filled, f"order {order.client_order_id}: filled")
    if filled is not None and filled > order.filled:
        order.filled = filled
    return OrderEvent(
        order=order,
        from_state=before.value,
        to_state=after.value,
        reported_state=event.state.value,
        filled=filled,
        cause=event.cause[:CAUSE_LENGTH],
        source=event.source,
        raw=event.raw[:RAW_LENGTH],
        digest=_digest(event, state),
        at=from_ns(event.received_ns) if event.received_ns else now,
    )


def _amount(value: Decimal | None, what: str) -> Decimal | None:
    try:
        return None if value is None else money(value)
    except ValueError as problem:
        logger.error("%s is not stored: %s", what, problem)
        return None


def _digest(event: messages.OrderEvent, state: OrderState) -> str:
    return hashlib.blake2b(msgspec.json.encode((event, state)), digest_size=16).hexdigest()


def history_add(steps: Iterable[tuple[Order, str, OrderState]], *, cause: str, at: datetime) -> None:
    """Add the engine's own steps (order, from, to) to the history."""
    OrderEvent.objects.bulk_create(
        OrderEvent(
            order=order,
            from_state=before,
            to_state=after.value,
            reported_state=after.value,
            cause=cause[:CAUSE_LENGTH],
            source=OrderEvent.Source.ENGINE,
            digest=f"intent {after.value}",
            at=at,
        )
        for order, before, after in steps
    )


# --- fills -------------------------------------------------------------------------------------------------------


def _fills_store(
    owner_id: int, chunk: Sequence[Reported], found: _Found, touched: dict[int, Order]
) -> list[tuple[Fill, Market]]:
    """Insert and book the fills that are new, and what was missing of others; returns the new ones."""
    reported: dict[FillKey, tuple[Fill, Market]] = {}
    for event, _ in chunk:
        for fill in event.fills:
            pair = _fill_row(owner_id, event, fill, found)
            if pair is None:
                continue
            key = (pair[0].account_id, pair[1].pk, pair[0].exchange_trade_id)
            earlier = reported.get(key)
            # Of two reports of one fill, the one that knows more.
            if earlier is None or _known_of(pair[0]) > _known_of(earlier[0]):
                reported[key] = pair
    stored = _fills_stored(reported)
    fresh = [pair for key, pair in reported.items() if key not in stored]
    Fill.objects.bulk_create([fill for fill, _ in fresh])
    fills_book(fresh)
    late_fees, late_realised = [], []
    for key, known in stored.items():
        told = reported[key][0]
        if known.fee is None and told.fee is not None:
            Fill.objects.filter(pk=known.pk).update(fee=told.fee, fee_asset=told.fee_asset)
            known.fee, known.fee_asset = told.fee, told.fee_asset
            late_fees.append(known)
        if known.realized_pnl is None and told.realized_pnl is not None:
            Fill.objects.filter(pk=known.pk).update(realized_pnl=told.realized_pnl)
            known.realized_pnl = told.realized_pnl
            late_realised.append((known, reported[key][1]))
        if known.order_id is None and told.order_id is not None:
            Fill.objects.filter(pk=known.pk).update(order_id=told.order_id)
    fees_book(late_fees)
    realised_book(late_realised)
    for row, _ in reported.values():
        if row.order is not None:
            touched[row.order.pk] = row.order
    return fresh


def _known_of(fill: Fill) -> int:
    """Return how much is known of a fill of what may be told later."""
    return (fill.fee is not None) + (fill.realized_pnl is not None)


def _fill_row(
    owner_id: int, event: messages.OrderEvent, fill: messages.Fill, found: _Found
) -> tuple[Fill, Market] | None:
    what = f"fill {fill.exchange_trade_id!r} of account {fill.account_id}"
    market = found.markets.get(fill.market)
    if fill.account_id not in found.accounts or market is None or not fill.exchange_trade_id:
        logger.error("%s is not stored: no such account of owner %s, market %r, or no id", what, owner_id, fill.market)
        return None
    exchange_order_id = fill.exchange_order_id or event.exchange_order_id
    client_order_id = fill.client_order_id or event.client_order_id
    try:
        return (
            Fill(
                owner_id=owner_id,
                account_id=fill.account_id,
                market=market,
                exchange_trade_id=fill.exchange_trade_id[:64],
                order=found.order(fill.account_id, client_order_id, exchange_order_id),
                exchange_order_id=exchange_order_id[:64],
                side=fill.side,
                position_side=fill.position_side if fill.position_side in POSITION_SIDES else "",
                price=positive(fill.price, field="price"),
                quantity=positive(fill.quantity, field="quantity"),
                fee=None if fill.fee is None else money(fill.fee, field="fee"),
                fee_asset=fill.fee_asset[:32],
                realized_pnl=None if fill.realized_pnl is None else money(fill.realized_pnl, field="realized_pnl"),
                liquidity=fill.liquidity[:8],
                at=from_ns(fill.exchange_ns or event.exchange_ns or event.received_ns),
            ),
            market,
        )
    except ValueError as problem:
        logger.error("%s is not stored: %s", what, problem)
        return None


def _fills_stored(keys: Collection[FillKey]) -> dict[FillKey, Fill]:
    grouped: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for account_id, market_id, trade_id in keys:
        grouped[account_id, market_id].append(trade_id)
    wanted = Q(pk__in=[])
    for (account_id, market_id), trade_ids in grouped.items():
        wanted |= Q(account_id=account_id, market_id=market_id, exchange_trade_id__in=trade_ids)
    rows = Fill.objects.filter(wanted) if grouped else []
    return {(row.account_id, row.market_id, row.exchange_trade_id): row for row in rows}


def _totals_set(touched: dict[int, Order], found: _Found) -> None:
    """Recompute filled and average price from the fills: what the exchange names may only be more."""
    kinds = {market.pk: market.kind for market in found.markets.values()}
    parts: defaultdict[int, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for order_id, price, quantity in Fill.objects.filter(order__in=touched).values_list("order", "price", "quantity"):
        parts[order_id].append((price, quantity))
    for order_id, fills in parts.items():
        order = touched[order_id]
        order.filled = max(order.filled, exact_sum(quantity for _, quantity in fills))
        order.average_price = average_price(fills, inverse=kinds.get(order.market_id) == Market.Kind.INVERSE)


def average_price(fills: Sequence[tuple[Decimal, Decimal]], *, inverse: bool = False) -> Decimal:
    """Return the mean price of (price, quantity) fills, cut to 18 places.

    Quantities of inverse contracts are in quote, so their mean is the harmonic one.
    """
    with localcontext(EXACT):
        total = sum((quantity for _, quantity in fills), Decimal(0))
        if inverse:
            mean = total / sum((quantity / price for price, quantity in fills), Decimal(0))
        else:
            mean = sum((price * quantity for price, quantity in fills), Decimal(0)) / total
        mean = mean.quantize(MIN_STEP, rounding=ROUND_DOWN)
    return money(mean, field="average_price")
