"""What must hold, judged from the exchanges' and the database's records alone.

:func:`at_send` and :func:`at_cancel` look at the moment something leaves, :func:`at_end` at the whole history.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from trading.messages import OrderIntent, OrderState, TradeState

if TYPE_CHECKING:
    from tests.simulation.exchange import Execution, SimOrder
    from tests.simulation.venue import SimVenue
    from tests.simulation.world import World

ZERO = Decimal(0)
OPEN = frozenset({"NEW", "PARTIALLY_FILLED"})
TERMINAL = frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.FAILED})
PRICE_BAND = Decimal("0.05")  # no order of ours may be worse than any exchange's true middle by more than this
OLDEST_DECISION = 2.1  # seconds between the decision and the order, with the last step's own time
# A loop that stood still for so long is known to be late, whenever its tick was due; and is for so long afterwards.
STANDSTILL, UNSTEADY = 1.1, 1.0
STREAM_LOSS_HEARD = 0.5  # seconds until a process hears that its stream is lost

S = OrderState
# Written down a second time, on purpose: the engine's own table is what is being judged.
LEGAL = {
    S.PENDING: {S.SENDING, S.FAILED},
    S.SENDING: {S.UNKNOWN, S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED},
    S.UNKNOWN: {S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED, S.DISPUTED},
    S.PLACED: {S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED, S.DISPUTED},
    S.PARTIALLY_FILLED: {S.FILLED, S.CANCELLED, S.DISPUTED},
    S.FILLED: set(),
    S.CANCELLED: {S.FILLED},
    S.FAILED: {S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED},
    S.DISPUTED: {S.PLACED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELLED, S.FAILED},
}


def at_send(world: World, venue: SimVenue, intent: OrderIntent) -> None:
    """A placement leaves now: may it?"""
    client_id = intent.client_order_id
    database = world.database
    token = venue.process.token  # type: ignore[attr-defined]
    if not database.holds(token):
        world.anomaly(f"sent_without_lease: {client_id} under token {token}, the lease has {database.token}")
    stored = database.intents.get(client_id)
    if stored is None:
        world.anomaly(f"sent_without_intent: {client_id} is not durable")
    elif stored != intent:
        world.anomaly(f"sent_other_than_intended: {client_id}")
    if any(send.intent.client_order_id == client_id for send in world.sends):
        world.anomaly(f"sent_twice: {client_id}")
    middles = world.middles.values()
    dear, cheap = max(middles) * (1 + PRICE_BAND), min(middles) * (1 - PRICE_BAND)
    if intent.price > dear if intent.side == "buy" else intent.price < cheap:
        world.anomaly(f"absurd_price: {client_id} {intent.side}s at {intent.price}, beyond {cheap} to {dear}")
    age = world.loop.time() - world.asked_at.get(client_id, 0.0)
    if intent.attempt == 0 and age > OLDEST_DECISION:
        world.anomaly(f"old_decision: {client_id} was decided on {age:.1f} s ago")
    body = venue.process
    woke_ago = world.asked_at.get(client_id, 0.0) - body.woke_at  # type: ignore[attr-defined]
    begins = not any(send.intent.trade_id == intent.trade_id for send in world.sends)  # what has begun goes on
    if begins and body.stood_still > STANDSTILL and 0 < woke_ago < UNSTEADY:  # type: ignore[attr-defined]
        world.anomaly(f"sent_unsteady: {client_id} was decided on {woke_ago:.2f} s after the process had stood still")
    heard_after = STREAM_LOSS_HEARD + venue.link.slow
    if intent.attempt == 0 and world.loop.time() - venue.live_until > OLDEST_DECISION + heard_after:
        world.anomaly(f"sent_deaf: {client_id} though the private stream was not live and swept")
    _earlier_orders_are_known(world, venue, intent)


def _earlier_orders_are_known(world: World, venue: SimVenue, intent: OrderIntent) -> None:
    """Nothing further is sent for a trade while one of its orders may still do something, or did it unknown to us."""
    store = venue.process.store  # type: ignore[attr-defined]
    for send in world.sends:
        other = send.intent
        # What a restored database has forgotten of a trade it knows, nobody can know; it is shown (see `unshown`).
        if other.trade_id != intent.trade_id or _together(other, intent) or other.client_order_id in world.lost:
            continue
        for order in world.exchanges[send.exchange].by_client.get(other.client_order_id, ()):
            if order.status in OPEN and not order.forgotten:
                world.anomaly(f"attempt_while_open: {intent.client_order_id} while {other.client_order_id} works")
            for fill in order.fills:
                if fill.trade_id not in store.known_fills and other.client_order_id not in world.liars:
                    world.anomaly(
                        f"attempt_while_unknown: {intent.client_order_id} though fill {fill.trade_id} of "
                        f"{other.client_order_id} was not known"
                    )


def _together(one: OrderIntent, other: OrderIntent) -> bool:
    """Return whether two orders of a trade were decided on and committed at once."""
    return one.attempt == other.attempt == 0 and one.created_ns == other.created_ns


def at_cancel(world: World, intent: OrderIntent) -> None:
    if intent.client_order_id not in world.database.intents:
        world.anomaly(f"foreign_touched: {intent.client_order_id} is not ours to cancel")


def at_end(world: World) -> None:
    _executed_once(world)
    _nothing_after_a_later_attempt(world)
    _fills_booked_once(world)
    _funds_conserved(world)
    _states_legal(world)
    _outcomes_known(world)
    _trades_stated(world)
    _reservations_ended(world)
    for what in unshown(world):
        world.anomaly(what)
    _taken_back_stays_booked(world)
    _redis_stops_nothing(world)


def unshown(world: World) -> Iterator[str]:
    """Yield what a person has to look at and no difference says: executions taken back, and those of orders that a
    restored database does not know. Nothing is at rest before all of it is shown."""
    database = world.database
    for code, exchange in world.exchanges.items():
        account = world.accounts[code]
        shown = {(found.kind.value, found.key) for found in database.differences.get(account, ())}
        for fill in exchange.taken_back:
            key = f"{fill.trade_id} {world.markets[code].key}"
            # Of what a backup does not know either nothing is left.
            if _is_booked(world, code, fill) and ("taken_back", key) not in shown:
                yield f"taken_back_unseen: {fill.trade_id} was taken back, and no difference says so"
        executed = {fill.client_id for fill in exchange.executions}
        for client_id in sorted((world.lost & executed) - database.intents.keys()):
            if ("unknown_order", client_id) not in shown:
                yield f"lost_unseen: {code} executed {client_id}, which no book knows, and nothing says so"


def _is_booked(world: World, code: str, fill: Execution) -> bool:
    return (world.accounts[code], world.markets[code].key, fill.trade_id) in world.database.fills


def _taken_back_stays_booked(world: World) -> None:
    for code, exchange in world.exchanges.items():
        for fill in exchange.taken_back:
            if not world.restored and not _is_booked(world, code, fill):
                world.anomaly(f"fill_lost: {fill.trade_id} is booked no more, and nobody decided that")


def _redis_stops_nothing(world: World) -> None:
    """An offer while Redis is away is taken, if nothing else is in the way."""
    if world.injected.keys() != {"69_redis_away"} or world.crashed:
        return
    for at in world.redis_edges:
        if not any(at <= send.at <= at + 2.0 for send in world.sends) and not _busy(world, at):
            world.anomaly(f"redis_stops_trading: nothing was sent for an offer at {at:.2f} while it was away")


def _busy(world: World, at: float) -> bool:
    """Whether the bot had a reason to pass an offer over: a trade of its was open, or its last order is younger than
    the book it would trade on."""
    from_ns, to_ns = world.exchange_ns(at - 3.0), world.exchange_ns(at + 1.0)
    return any(
        trade.opened_ns <= to_ns and (not trade.closed_ns or trade.closed_ns >= from_ns)
        for trade in world.database.trades.values()
    )


def _executed_once(world: World) -> None:
    for exchange in world.exchanges.values():
        for client_id, orders in exchange.by_client.items():
            if client_id in world.database.intents and len(orders) > 1:
                world.anomaly(f"executed_twice: {exchange.code} took {client_id} {len(orders)} times")
    for client_id, orders in _orders(world).items():
        if client_id.startswith("simu") and client_id not in world.database.intents and client_id not in world.lost:
            world.anomaly(f"sent_without_intent: {client_id} is on the exchange and not in the database")
        written_off = S.FAILED in world.database.history.get(client_id, ())
        if written_off and any(_matters(order) for order in orders):
            world.anomaly(f"written_off: {client_id} was concluded to be absent and is on the exchange")


def _matters(order: SimOrder) -> bool:
    """Whether an order may not be taken for absent: not one that ended unfilled and is found by its id no more."""
    return bool(order.fills) or not (order.forgotten or order.unfindable)


def _orders(world: World) -> dict[str, list[SimOrder]]:
    return {
        client_id: orders for exchange in world.exchanges.values() for client_id, orders in exchange.by_client.items()
    }


def _nothing_after_a_later_attempt(world: World) -> None:
    """An order taken or filled after a later one of its trade was sent was not at its end then."""
    orders = _orders(world)
    for send in world.sends:
        for earlier in world.sends:
            one, other = earlier.intent, send.intent
            if one.trade_id != other.trade_id or earlier.at >= send.at or _together(one, other):
                continue
            if one.client_order_id in world.lost:
                continue
            if one.client_order_id not in world.liars and any(
                order.accepted_at > send.at or any(fill.at > send.at for fill in order.fills)
                for order in orders.get(one.client_order_id, ())
            ):
                world.anomaly(f"attempt_while_open: {one.client_order_id} went on after {other.client_order_id}")


def _fills_booked_once(world: World) -> None:
    database = world.database
    booked = {(fill.account_id, fill.exchange_trade_id): fill for fill in database.fills.values()}
    for code, exchange in world.exchanges.items():
        account = world.accounts[code]
        for real in exchange.executions:
            fill = booked.pop((account, real.trade_id), None)
            if real.client_id not in database.intents:
                if fill is not None and fill.client_order_id in database.intents:
                    world.anomaly(f"foreign_booked: fill {real.trade_id} is somebody else's")
                continue
            if fill is None and database.states[real.client_id] is S.DISPUTED:
                continue  # what became of it is being asked
            if fill is None:
                world.anomaly(f"fill_lost: {real.trade_id} of {real.client_id} is not booked")
            elif (fill.side, fill.price, fill.quantity) != (real.side, real.price, real.quantity):
                world.anomaly(f"fill_wrong: {real.trade_id} of {real.client_id}")
            elif fill.fee is not None and (fill.fee, fill.fee_asset) != (real.fee, real.fee_asset):
                world.anomaly(f"fee_wrong: {real.trade_id} of {real.client_id}")
    taken_back = {
        (world.accounts[code], fill.trade_id)
        for code, exchange in world.exchanges.items()
        for fill in exchange.taken_back
    }
    for _, trade_id in booked.keys() - taken_back:
        world.anomaly(f"fill_invented: {trade_id} is booked and never happened")


def _funds_conserved(world: World) -> None:
    """Each asset: what there was, what was moved by hand and what every booked fill did is what there is."""
    real = {
        (world.accounts[code], fill.trade_id): fill
        for code, exchange in world.exchanges.items()
        for fill in exchange.executions
    }
    for code, exchange in world.exchanges.items():
        account = world.accounts[code]
        expected = {asset: amount + exchange.moved[asset] for asset, amount in exchange.start.items()}
        ours = [fill for fill in world.database.fills.values() if fill.account_id == account]
        counted = {fill.exchange_trade_id for fill in ours}
        rows = [
            (fill.side, fill.quantity, fill.price, real[account, fill.exchange_trade_id])
            for fill in ours
            if (account, fill.exchange_trade_id) in real
        ]
        rows += [
            (fill.side, fill.quantity, fill.price, fill)
            for fill in exchange.executions
            if fill.trade_id not in counted and world.database.states.get(fill.client_id, S.DISPUTED) is S.DISPUTED
        ]
        for side, quantity, price, execution in rows:
            sign = 1 if side == "buy" else -1
            expected["BTC"] += sign * quantity
            expected["USDT"] -= sign * quantity * price
            expected[execution.fee_asset] -= execution.fee
        for asset, amount in expected.items():
            held = exchange.free[asset] + exchange.used[asset]
            if held != amount:
                world.anomaly(f"funds: {code} holds {held} {asset}, {amount} by what is booked")


def _states_legal(world: World) -> None:
    for client_id, history in world.database.history.items():
        for before, after in pairwise(history):
            if after not in LEGAL[before]:
                world.anomaly(f"illegal_state: {client_id} went from {before} to {after}")


def _outcomes_known(world: World) -> None:
    for client_id, state in world.database.states.items():
        if state not in TERMINAL and state is not S.DISPUTED:
            world.anomaly(f"unresolved: {client_id} ended as {state}")


def _trades_stated(world: World) -> None:
    """Each trade says of its exposure what the exchanges' fills say, and an open one is somebody's to decide."""
    database = world.database
    orders = _orders(world)
    for trade in database.trades.values():
        intents = [intent for intent in database.intents.values() if intent.trade_id == trade.trade_id]
        fills = [fill for intent in intents for order in orders.get(intent.client_order_id, ()) for fill in order.fills]
        if any(database.states[intent.client_order_id] is S.DISPUTED for intent in intents):
            if trade.state is not TradeState.EXPOSED or not trade.reason:
                world.anomaly(f"exposure_unsaid: {trade.trade_id} is {trade.state} with an order in dispute")
            continue
        residual = sum((fill.quantity if fill.side == "buy" else -fill.quantity for fill in fills), ZERO)
        if trade.ticket is not None:  # what it holds is less by the fees that were taken from it
            residual -= sum((fill.fee for fill in fills if fill.fee_asset == trade.base), ZERO)
        if trade.state in {TradeState.OPEN, TradeState.REPAIRING}:
            world.anomaly(f"trade_left: {trade.trade_id} is {trade.state}")
            continue
        if trade.residual_base != residual:
            world.anomaly(f"exposure_wrong: {trade.trade_id} says {trade.residual_base} is unhedged, it is {residual}")
        if trade.state is TradeState.EXPOSED and not trade.reason:
            world.anomaly(f"exposure_unsaid: {trade.trade_id} is exposed without a reason")
        over = {client_id for intent in intents if _overfilled(orders, client_id := intent.client_order_id, intent)}
        if over and trade.state is not TradeState.EXPOSED:
            world.anomaly(f"overfill_unsaid: {trade.trade_id} is {trade.state}, {sorted(over)} filled too much")
        if trade.state is TradeState.FAILED and fills:
            world.anomaly(f"trade_wrong: {trade.trade_id} is FAILED and traded")
        if trade.state is TradeState.CLOSED:
            price = min(world.middles.values())
            if abs(residual) >= Decimal("0.0001") and abs(residual) * price > Decimal("5.5"):
                world.anomaly(f"exposure_hidden: {trade.trade_id} is CLOSED with {residual} unhedged")


def _overfilled(orders: dict[str, list[SimOrder]], client_id: str, intent: OrderIntent) -> bool:
    return sum((order.filled for order in orders.get(client_id, ())), ZERO) > intent.quantity


def _reservations_ended(world: World) -> None:
    body = world.newest
    if body is None or body.engine is None or not body.alive:
        return
    for client_id in body.engine.desk.portfolio.reservations:
        intent = world.database.intents.get(client_id)
        trade = None if intent is None else world.database.trades[intent.trade_id]
        if trade is None or trade.state in {TradeState.CLOSED, TradeState.FAILED}:
            world.anomaly(f"reservation_left: {client_id} still holds money")
