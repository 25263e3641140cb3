"""The engine's durable writes about trades: intents before anything is sent, results after."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from django.db import transaction
from django.utils import timezone

from bots.models import Bot, ExchangeAccount, Order, Trade
from bots.models import Decision as DecisionRow
from bots.services import locks
from bots.services.balances import balances_apply
from bots.services.decisions import DecisionSampler, decision_row, decisions_store
from bots.services.events import events_apply, history_add, history_rows
from bots.services.guard import committed_once, guarded
from bots.services.intents import intent_insert, is_one_statement
from bots.services.profits import Result, profits_move, result_of
from bots.services.stored import known_orders, open_trades, trade_of
from bots.times import from_ns
from bots.venue_keys import markets_by_key
from risk.policy.switch import Action, verdict
from risk.selectors import switch_over
from trading.instruments import money, positive
from trading.messages import Decision, OrderIntent, OrderState, TradeRecord, TradeState
from trading.ports import SwitchedOff

# What the engine's store adapter calls.
__all__ = [
    "DecisionSampler", "balances_apply", "decisions_store", "events_apply", "known_orders", "open_trades",
    "repair_commit", "trade_commit", "trade_of", "trades_apply",
]  # fmt: skip

REASON_LENGTH = 500


def trade_commit(
    *, owner_id: int, token: int, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision | None = None
) -> None:
    """Make a trade, its first orders and their reservations durable in one short transaction.

    The orders are written PENDING and moved to SENDING under the fencing token; both steps are in their history, the
    row is inserted in the second. A reservation is the order's own reserve columns for as long as it may live. The
    same commit a second time (an answer to COMMIT was lost) changes nothing.

    Raises
    ------
    LeaseLost
        If the token is not the present one or has expired: send nothing.
    StoreUnavailable
        If the database cannot be reached or does not answer (SwitchedOff: if the trading switch forbids it): send
        nothing.
    ValueError
        If an intent names a market, account or bot that is not the owner's, or an amount is out of range.
    """

    row = Trade(**_trade_head(trade), owner_id=owner_id, lease_token=token)
    if result_of(row) is not None:
        raise ValueError(f"trade_id: {trade.trade_id!r} has a result before its orders; commit it open")
    orders = _order_rows(owner_id=owner_id, token=token, trade_id=trade.trade_id, intents=intents)
    decided = None if decision is None else decision_row(owner_id=owner_id, decision=decision)

    def write() -> None:
        if not (is_one_statement() and _insert_at_once(row, orders, intents, decided)):
            # Step by step where it must be, or to learn what keeps the one statement from being written.
            _insert_in_steps(row, orders, intents, decided)

    committed_once(write, lambda: _is_committed(owner_id, token, intents))


def _insert_at_once(
    trade: Trade, orders: Sequence[Order], intents: Sequence[OrderIntent], decision: DecisionRow | None
) -> bool:
    return intent_insert(
        owner_id=trade.owner_id,
        token=trade.lease_token,
        trade=trade,
        orders=orders,
        market_keys=[intent.market for intent in intents],
        steps=history_rows(_first_steps(orders[:1]), cause=_cause(trade.lease_token), at=orders[0].updated_at),
        decision=decision,
    )


def _insert_in_steps(
    trade: Trade, orders: Sequence[Order], intents: Sequence[OrderIntent], decision: DecisionRow | None
) -> None:
    with transaction.atomic():
        locks.lease_lock(owner_id=trade.owner_id, token=trade.lease_token)
        _switch_check(owner_id=trade.owner_id, bot_id=trade.bot_id, action=Action.OPEN)
        _owned_check(Bot, [trade.bot_id], trade.owner_id, "bot_id")
        trade.save(force_insert=True)
        _orders_insert(trade, orders, intents)
        if decision is not None:
            decision.save(force_insert=True)


def repair_commit(*, owner_id: int, token: int, trade: TradeRecord, intent: OrderIntent) -> None:
    """Make one further order of a trade durable, under the rules of :func:`trade_commit`."""
    orders = _order_rows(owner_id=owner_id, token=token, trade_id=trade.trade_id, intents=[intent])

    def write() -> None:
        with transaction.atomic():
            locks.lease_lock(owner_id=owner_id, token=token)
            row = locks.trades_lock(owner_id=owner_id, trade_ids=[trade.trade_id]).get(trade.trade_id)
            if row is None:
                raise ValueError(f"trade_id: the owner has no trade {trade.trade_id!r}")
            _switch_check(owner_id=owner_id, bot_id=row.bot_id, action=Action.REDUCE)
            before = result_of(row)
            if _trade_update(row, trade):
                profits_move(owner_id=owner_id, moves=[(before, result_of(row))])
            _orders_insert(row, orders, [intent])

    committed_once(write, lambda: _is_committed(owner_id, token, [intent]))


def _switch_check(*, owner_id: int, bot_id: int, action: Action) -> None:
    """Refuse what the trading switch forbids, here where it counts: an engine may not have heard of it yet."""
    judged = verdict(switch_over(owner_id=owner_id, bot_id=bot_id), action)
    if not judged.allowed:
        raise SwitchedOff(judged.reason)


def trades_apply(*, owner_id: int, token: int, trades: Sequence[TradeRecord]) -> int:
    """Store the newest state and result of each trade; returns how many rows changed.

    Records come in the order they were made, so the last one of a trade counts. A trade that went on never becomes
    OPEN again; a late fill may still move a closed one. Once the lease has a later token than ``token`` nothing is
    stored: its holder has taken the trades up, and states them from the fills itself.
    """
    newest = {trade.trade_id: trade for trade in trades}

    def write() -> int:
        with transaction.atomic():
            if locks.lease_passed_on(owner_id=owner_id, token=token):
                return 0
            rows = locks.trades_lock(owner_id=owner_id, trade_ids=newest.keys())
            moves: list[tuple[Result | None, Result | None]] = []
            for trade_id, row in rows.items():
                before = result_of(row)
                if _trade_update(row, newest[trade_id]):
                    moves.append((before, result_of(row)))
            profits_move(owner_id=owner_id, moves=moves)
            return len(moves)

    return guarded(write)


# --- rows --------------------------------------------------------------------------------------------------------


def _trade_head(trade: TradeRecord) -> dict[str, object]:
    return {
        "trade_id": trade.trade_id,
        "bot_id": trade.bot_id,
        "route": trade.route,
        "base": trade.base,
        "quote": trade.quote,
        "mode": trade.mode,
        "quantity": positive(trade.quantity, field="quantity"),
        "expected_net_bps": money(trade.expected_net_bps, field="expected_net_bps"),
        "expected_profit": money(trade.expected_profit, field="expected_profit"),
        "opened_at": from_ns(trade.opened_ns),
        **_trade_result(trade),
    }


def _trade_result(trade: TradeRecord) -> dict[str, object]:
    """Return the columns that change while a trade goes on."""
    profit = trade.realised_profit
    return {
        "state": trade.state.value,
        "realised_profit": None if profit is None else money(profit, field="realised_profit"),
        "residual_base": money(trade.residual_base, field="residual_base"),
        "fees": {asset: f"{money(fee, field='fees'):f}" for asset, fee in trade.fees.items()},
        "exposure": money(trade.exposure, field="exposure"),
        "repair_ms": trade.repair_ms,
        "reason": trade.reason[:REASON_LENGTH],
        "closed_at": from_ns(trade.closed_ns) if trade.closed_ns else None,
    }


def _trade_update(row: Trade, trade: TradeRecord) -> bool:
    if trade.state is TradeState.OPEN and row.state != TradeState.OPEN:
        return False
    changed = []
    for column, value in _trade_result(trade).items():
        if getattr(row, column) != value:
            setattr(row, column, value)
            changed.append(column)
    if changed:
        row.save(update_fields=changed)
    return bool(changed)


def _order_rows(*, owner_id: int, token: int, trade_id: str, intents: Sequence[OrderIntent]) -> list[Order]:
    """Return unsaved rows, each without its trade and market."""
    now = timezone.now()
    rows = []
    for intent in intents:
        if intent.trade_id != trade_id:
            raise ValueError(f"trade_id: the order names {intent.trade_id!r}, its trade is {trade_id!r}")
        rows.append(
            Order(
                owner_id=owner_id,
                client_order_id=intent.client_order_id,
                account_id=intent.account_id,
                leg=intent.leg,
                attempt=intent.attempt,
                side=intent.side,
                kind=intent.kind.value,
                time_in_force=intent.time_in_force.value,
                reduce_only=intent.reduce_only,
                price=positive(intent.price, field="price"),
                quantity=positive(intent.quantity, field="quantity"),
                state=OrderState.SENDING.value,
                lease_token=token,
                deadline=from_ns(intent.deadline_ns),
                reserve_asset=intent.reserve_asset,
                reserve_amount=money(intent.reserve_amount, field="reserve_amount"),
                created_at=from_ns(intent.created_ns),
                updated_at=now,
            )
        )
    return rows


def _orders_insert(trade: Trade, orders: Sequence[Order], intents: Sequence[OrderIntent]) -> None:
    _owned_check(ExchangeAccount, {intent.account_id for intent in intents}, trade.owner_id, "account_id")
    markets = markets_by_key({intent.market for intent in intents})
    for order, intent in zip(orders, intents, strict=True):
        if intent.market not in markets:
            raise ValueError(f"market: no market {intent.market!r} is known")
        order.trade, order.market = trade, markets[intent.market]
    Order.objects.bulk_create(orders)
    history_add(_first_steps(orders), cause=_cause(orders[0].lease_token), at=orders[0].updated_at)


def _first_steps(orders: Sequence[Order]) -> list[tuple[Order, str, OrderState]]:
    steps = (("", OrderState.PENDING), (OrderState.PENDING.value, OrderState.SENDING))
    return [(order, before, after) for order in orders for before, after in steps]


def _cause(token: int) -> str:
    return f"intent under lease token {token}"


def _owned_check(model: type[Bot] | type[ExchangeAccount], ids: Collection[int], owner_id: int, field: str) -> None:
    found = set(model.objects.filter(pk__in=ids, owner_id=owner_id).order_by().values_list("pk", flat=True))
    if found != set(ids):
        raise ValueError(f"{field}: {sorted(set(ids) - found)} is not of owner {owner_id}")


def _is_committed(owner_id: int, token: int, intents: Sequence[OrderIntent]) -> bool:
    """Return whether the orders are there just as they are to be sent now, and nobody has given them up."""
    wanted = {(intent.client_order_id, intent.side, intent.price, intent.quantity) for intent in intents}
    ids = [intent.client_order_id for intent in intents]
    rows = Order.objects.filter(
        owner_id=owner_id,
        lease_token=token,
        trade__trade_id=intents[0].trade_id,
        client_order_id__in=ids,
        state=OrderState.SENDING.value,
    )
    return set(rows.values_list("client_order_id", "side", "price", "quantity")) == wanted
