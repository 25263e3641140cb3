"""The engine's own values, read back from what is stored: where a new process takes up the trades of the last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from bots.models import BasisPosition, Decision, ExchangeAccount, Fill, Order, Ticket, Trade
from bots.selectors import trades_unfinished
from bots.services.basis_rows import standing_of_basis, terms_of_basis
from bots.services.guard import guarded
from bots.services.ticket_rows import standing_of_ticket, terms_of_ticket
from bots.services.unfolding import intents_unfold
from bots.times import to_ns
from trading import messages
from trading.instruments import money
from trading.messages import (
    LIQUIDITY,
    KnownOrder,
    OrderEvent,
    OrderIntent,
    OrderKind,
    OrderState,
    TimeInForce,
    TradeRecord,
    TradeState,
)

KNOWN_ORDERS = 2_000
KNOWN_FOR = timedelta(days=1)

OpenOrder = tuple[OrderIntent, str, Sequence[OrderEvent]]


def open_trades(*, owner_id: int) -> list[tuple[TradeRecord, list[OpenOrder]]]:
    """Return the trades that are not finished, or have an order that is not, with what is booked of each order.

    An order's events are one: the state as stored, with the fills booked so far.
    """

    def read() -> list[tuple[TradeRecord, list[OpenOrder]]]:
        intents_unfold(owner_id=owner_id)
        trades = list(_with_parts(trades_unfinished()).filter(owner_id=owner_id).order_by("pk"))
        orders, ratings = _orders_of(trades), _ratings_of(owner_id, trades)
        return [(_trade_record(trade, ratings), orders[trade.pk]) for trade in trades]

    return guarded(read)


def _ratings_of(owner_id: int, trades: Iterable[Trade]) -> dict[str, tuple[float | None, float | None]]:
    """Return score and liquidity of the opportunities of some trades, by the trades' ids, as far as they are kept."""
    taken = Decision.objects.filter(owner_id=owner_id, trade_id__in=[trade.trade_id for trade in trades])
    return {
        trade_id: (score, float(components[LIQUIDITY]) if components.get(LIQUIDITY) is not None else None)
        for trade_id, score, components in taken.values_list("trade_id", "score", "components")
    }


def _orders_of(trades: Sequence[Trade]) -> dict[int | None, list[OpenOrder]]:
    """Return the orders of some trades with their fills, by the trade's key."""
    orders: dict[int | None, list[OpenOrder]] = {trade.pk: [] for trade in trades}
    rows = Order.objects.filter(trade__in=trades).select_related("market__exchange", "trade")
    fills: defaultdict[int | None, list[Fill]] = defaultdict(list)
    for fill in Fill.objects.filter(order__trade__in=trades).order_by("pk"):
        fills[fill.order_id].append(fill)
    for order in rows.order_by("leg", "attempt", "pk"):
        orders[order.trade_id].append(_open_order(order, fills[order.pk]))
    return orders


def trade_of(*, owner_id: int, client_order_id: str) -> tuple[TradeRecord, list[OpenOrder]] | None:
    """Return the trade an order of the owner belongs to, finished or not, with all its orders, or None."""

    def read() -> tuple[TradeRecord, list[OpenOrder]] | None:
        intents_unfold(owner_id=owner_id)
        rows = _with_parts(Trade.objects.filter(owner_id=owner_id, orders__client_order_id=client_order_id))
        trade = rows.first()
        if trade is None:
            return None
        return _trade_record(trade, _ratings_of(owner_id, [trade])), _orders_of([trade])[trade.pk]

    return guarded(read)


def known_orders(*, owner_id: int) -> list[KnownOrder]:
    """Return the newest orders of each of the owner's accounts, at most ``KNOWN_ORDERS`` of one.

    What happened is known up to the last comparison that matched; without one, from no moment on. A day is as far back
    as it goes.
    """

    def read() -> list[KnownOrder]:
        intents_unfold(owner_id=owner_id)
        found: list[KnownOrder] = []
        furthest = timezone.now() - KNOWN_FOR
        accounts = ExchangeAccount.objects.filter(owner_id=owner_id).order_by("pk")
        for account_id, matched_at in accounts.values_list("pk", "matched_at"):
            rows = Order.objects.filter(owner_id=owner_id, account_id=account_id).select_related("market__exchange")
            found += [
                KnownOrder(
                    account_id=account_id,
                    market=_market_key(order),
                    client_order_id=order.client_order_id,
                    exchange_order_id=order.exchange_order_id,
                    since_ns=to_ns(max(matched_at or order.created_at, furthest)),
                )
                for order in rows.order_by("-pk")[:KNOWN_ORDERS]
            ]
        return found

    return guarded(read)


def _market_key(order: Order) -> str:
    return f"{order.market.exchange.code}:{order.market.symbol}"


def _with_parts(trades: QuerySet[Trade]) -> QuerySet[Trade]:
    return trades.select_related("ticket__market__exchange", "basis__spot__exchange", "basis__perp__exchange")


def _trade_record(row: Trade, ratings: Mapping[str, tuple[float | None, float | None]]) -> TradeRecord:
    ticket: Ticket | None = getattr(row, "ticket", None)  # no row: not a trade made by hand
    asked = standing = None
    score, liquidity = ratings.get(row.trade_id, (None, None))
    if ticket is not None:
        asked = terms_of_ticket(ticket, f"{ticket.market.exchange.code}:{ticket.market.symbol}")
        standing = standing_of_ticket(ticket)
    pair: BasisPosition | None = getattr(row, "basis", None)  # no row: not a pair
    return TradeRecord(
        trade_id=row.trade_id,
        bot_id=row.bot_id,
        route=row.route,
        base=row.base,
        quote=row.quote,
        state=TradeState(row.state),
        mode=row.mode,
        quantity=row.quantity,
        expected_net_bps=row.expected_net_bps,
        expected_profit=row.expected_profit,
        opened_ns=to_ns(row.opened_at),
        closed_ns=to_ns(row.closed_at) if row.closed_at else 0,
        realised_profit=row.realised_profit,
        residual_base=row.residual_base,
        fees={asset: money(fee) for asset, fee in row.fees.items()},
        reason=row.reason,
        exposure=row.exposure,
        repair_ms=row.repair_ms,
        score=score,
        liquidity=liquidity,
        ticket=asked,
        standing=standing,
        basis=None if pair is None else terms_of_basis(pair),
        pair=None if pair is None else standing_of_basis(pair),
    )


def _open_order(order: Order, fills: Iterable[Fill]) -> OpenOrder:
    market = _market_key(order)
    intent = OrderIntent(
        client_order_id=order.client_order_id,
        trade_id=order.trade.trade_id if order.trade else "",
        account_id=order.account_id,
        market=market,
        leg=order.leg,
        attempt=order.attempt,
        side=order.side,  # type: ignore[arg-type]
        kind=OrderKind(order.kind),
        time_in_force=TimeInForce(order.time_in_force),
        price=order.price,
        quantity=order.quantity,
        reduce_only=order.reduce_only,
        trigger=order.trigger,
        linked=order.linked,
        deadline_ns=to_ns(order.deadline),
        created_ns=to_ns(order.created_at),
        reserve_asset=order.reserve_asset,
        reserve_amount=order.reserve_amount,
    )
    event = OrderEvent(
        account_id=order.account_id,
        market=market,
        client_order_id=order.client_order_id,
        exchange_order_id=order.exchange_order_id,
        state=OrderState(order.state),
        filled=order.filled,
        fills=tuple(
            messages.Fill(
                account_id=fill.account_id,
                market=market,
                exchange_trade_id=fill.exchange_trade_id,
                exchange_order_id=fill.exchange_order_id,
                client_order_id=order.client_order_id,
                side=fill.side,  # type: ignore[arg-type]
                price=fill.price,
                quantity=fill.quantity,
                fee=fill.fee,
                fee_asset=fill.fee_asset,
                liquidity=fill.liquidity,
                exchange_ns=to_ns(fill.at),
                realized_pnl=fill.realized_pnl,
                position_side=fill.position_side,
            )
            for fill in fills
        ),
        source="engine",
        cause="as stored",
    )
    return intent, order.state, [event]
