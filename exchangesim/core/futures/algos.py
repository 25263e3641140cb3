"""The service that keeps conditional orders, watches prices for them, and makes orders of them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from exchangesim.core.accounts import Account
from exchangesim.core.checks import check_tick
from exchangesim.core.futures.algo_orders import AlgoOrder, AlgoStatus, NewAlgo
from exchangesim.core.listener import ExchangeListener
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import (
    Execution,
    NewOrder,
    Order,
    OrderType,
    PositionSide,
    PublicTrade,
    Reject,
    Rejected,
)
from exchangesim.core.triggers import LAST, Triggers

if TYPE_CHECKING:
    from exchangesim.core.futures.exchange import FuturesExchange

MARK = "mark"
TAG = "algo"
"""Under this tag an order keeps the id of the conditional order that it was."""
PROTECT = Decimal("0.05")
"""How far last and mark price may be apart for a protected order to be triggered."""
FIRST_ID = 3_000_000_000_000_001


class Algos(ExchangeListener):
    """The conditional orders of one exchange. It hears the exchange before the face does."""

    def __init__(self, exchange: FuturesExchange) -> None:
        self._exchange = exchange
        self._ids = exchange.counter("algo", FIRST_ID)
        self._triggers: Triggers[AlgoOrder] = Triggers(self._fire)
        self._open: dict[int, AlgoOrder] = {}
        self._working: dict[int, AlgoOrder] = {}
        """Triggered and not finished, by the id of their order."""
        self._trades: list[tuple[SimMarket, tuple[PublicTrade, ...]]] = []
        self._ended: list[AlgoOrder] = []
        exchange.listeners.insert(0, self)
        for algo in exchange.store.algos(exchange.name, open_only=True):
            if algo.native in exchange.markets:
                self._take_up(algo)

    # What accounts do

    def check(self, account: Account, new: NewAlgo) -> SimMarket:
        """Raises Rejected for terms that no conditional order may have."""
        exchange = self._exchange
        if "trade" not in account.permissions:
            raise Rejected(Reject.PERMISSION, "This key may not trade.")
        market = exchange.markets.get(new.native)
        if market is None:
            raise Rejected(Reject.UNKNOWN_SYMBOL, f"There is no market {new.native!r}.")
        rules = market.rules
        check_tick("trigger price", new.trigger_price, rules)
        if new.price is not None:
            check_tick("price", new.price, rules)
        if new.quantity is not None and (new.quantity <= 0 or new.quantity > rules.max_quantity):
            raise Rejected(Reject.BAD_QUANTITY, f"quantity {new.quantity} is not above 0 and to {rules.max_quantity}.")
        if new.quantity is not None and new.quantity % rules.lot:
            raise Rejected(Reject.QUANTITY_LOT, f"quantity {new.quantity} is not a multiple of the lot {rules.lot}.")
        if exchange.settings(account).hedged != (new.position_side is not PositionSide.BOTH):
            raise Rejected(Reject.POSITION_SIDE, "The position side does not fit the account's position mode.")
        own = self.open_orders(account)
        if new.client_id and any(algo.client_id == new.client_id for algo in own):
            raise Rejected(Reject.DUPLICATE_CLIENT_ID, f"Client algo id {new.client_id!r} is taken.")
        if sum(algo.native == new.native for algo in own) >= rules.max_open_orders:
            raise Rejected(Reject.TOO_MANY_CONDITIONAL, f"Too many conditional orders are open in {new.native}.")
        if new.close_position:
            self._check_close(account, new, own)
        if new.trigger.reached(self._price(market, new.source)):
            raise Rejected(Reject.WOULD_TRIGGER, f"The trigger price {new.trigger_price} is reached already.")
        return market

    def place(self, account: Account, new: NewAlgo) -> AlgoOrder:
        """Accept a conditional order, and let it wait. Raises Rejected."""
        self.check(account, new)
        now, number = self._exchange.clock.time_ms(), self._ids.take()
        algo = AlgoOrder(
            id=number,
            client_id=new.client_id or f"algo{number:018d}",
            api_key=account.api_key,
            terms=new,
            created_ms=now,
            updated_ms=now,
        )
        self._arm(algo)
        self._commit(algo)
        return algo

    def cancel(self, account: Account, *, algo_id: int | None = None, client_id: str | None = None) -> AlgoOrder:
        """Raises Rejected: ORDER_NOT_FOUND, or ORDER_CLOSED when it waits no more."""
        algo = self.find(account, algo_id=algo_id, client_id=client_id)
        if algo is None:
            raise Rejected(Reject.ORDER_NOT_FOUND, "There is no such conditional order.")
        if not algo.waits:
            raise Rejected(Reject.ORDER_CLOSED, f"The conditional order is {algo.status}.")
        self._end(algo, AlgoStatus.CANCELED)
        return algo

    def find(self, account: Account, *, algo_id: int | None = None, client_id: str | None = None) -> AlgoOrder | None:
        """Return the account's conditional order by id, or the newest by client id."""
        exchange = self._exchange
        found: AlgoOrder | None = None
        if algo_id is not None:
            found = self._open.get(algo_id) or exchange.store.algo(exchange.name, algo_id)
        elif client_id:
            own = (
                algo for algo in self._open.values() if (algo.api_key, algo.client_id) == (account.api_key, client_id)
            )
            found = next(own, None) or exchange.store.algo_by_client_id(exchange.name, account.api_key, client_id)
        return found if found is not None and found.api_key == account.api_key else None

    def open_orders(self, account: Account, native: str | None = None) -> list[AlgoOrder]:
        """Return the account's conditional orders that wait, oldest first."""
        return [
            algo
            for algo in self._open.values()
            if algo.waits and algo.api_key == account.api_key and native in (None, algo.native)
        ]

    def of_order(self, order: Order) -> AlgoOrder | None:
        """Return the conditional order that an order was, as it goes on."""
        if TAG not in order.tags:
            return None
        return self._working.get(order.id) or next((a for a in self._ended if a.order_id == order.id), None)

    # What the exchange tells

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        self._trades.append((market, trades))

    def on_order(self, account: Account, order: Order, execution: Execution) -> None:
        algo = self._working.get(order.id)
        if TAG in order.tags and algo is None:
            algo = self._triggering(int(order.tags[TAG]))
        if algo is None:
            return
        if algo.status is AlgoStatus.TRIGGERING:
            algo.status, algo.order_id = AlgoStatus.TRIGGERED, order.id
            algo.updated_ms = execution.time_ms
            self._working[order.id] = algo
            self._exchange.keep_algo(algo)  # with the order, in one transaction
            self._exchange.tell_algo(account, algo)
        algo.filled, algo.average = order.filled, order.average or algo.average
        if not order.is_open:
            del self._working[order.id]
            self._ended.append(algo)

    def follow(self) -> None:
        """Act on what an operation brought about, once it is over."""
        while self._ended:
            algo = self._ended.pop(0)
            algo.status, algo.updated_ms = AlgoStatus.FINISHED, self._exchange.clock.time_ms()
            self._commit(algo)
        for algo in [algo for algo in self._open.values() if algo.waits and algo.terms.close_position]:
            if not self._closable(self._exchange.accounts[algo.api_key], algo.terms):
                self._end(algo, AlgoStatus.EXPIRED)
        while self._trades:
            market, trades = self._trades.pop(0)
            self._triggers.on_trades(market.native, trades)

    def on_mark(self, native: str, price: Decimal) -> None:
        self._triggers.observe(native, price, MARK)

    # Inside

    def _take_up(self, algo: AlgoOrder) -> None:
        """Go on with a conditional order that an earlier process left."""
        if algo.waits:
            self._arm(algo)
            return
        order = self._exchange.shelf.any(algo.order_id)
        if order is not None and order.is_open:
            self._working[order.id] = algo
        else:
            algo.status = AlgoStatus.FINISHED
            self._exchange.store.commit(self._exchange.name, algos=[algo])

    def _arm(self, algo: AlgoOrder) -> None:
        self._open[algo.id] = algo
        self._triggers.arm(algo, self._exchange.last_trade_id)

    def _triggering(self, number: int) -> AlgoOrder | None:
        algo = self._open.get(number)
        return algo if algo is not None and algo.status is AlgoStatus.TRIGGERING else None

    def _fire(self, algo: AlgoOrder) -> None:
        exchange, terms = self._exchange, algo.terms
        account, market = exchange.accounts[algo.api_key], exchange.markets[algo.native]
        last, mark = market.last_price, exchange.mark(algo.native)
        if terms.protected and abs(last - mark) > PROTECT * mark:
            self._end(algo, AlgoStatus.EXPIRED, "Price protection")
            return
        algo.status = AlgoStatus.TRIGGERING
        algo.triggered_ms = algo.updated_ms = exchange.clock.time_ms()
        exchange.tell_algo(account, algo)
        try:
            exchange.place(account, self._order(account, algo))
        except Rejected as rejected:
            reason = "Reduce Only reject" if rejected.reason is Reject.REDUCE_ONLY else rejected.detail
            self._end(algo, AlgoStatus.REJECTED, reason)
            return
        finally:
            self._open.pop(algo.id, None)

    def _order(self, account: Account, algo: AlgoOrder) -> NewOrder:
        terms = algo.terms
        quantity = terms.quantity
        if quantity is None:
            position = self._exchange.position(account, terms.native, terms.position_side)
            quantity = position.reducible(terms.side)
            if not quantity:
                raise Rejected(Reject.REDUCE_ONLY, "There is no position to close.")
        return NewOrder(
            native=terms.native,
            side=terms.side,
            type=OrderType.MARKET if terms.price is None else OrderType.LIMIT,
            price=terms.price,
            quantity=quantity,
            time_in_force=terms.time_in_force,
            post_only=terms.post_only,
            client_id=algo.client_id,
            reduce_only=terms.reduce_only or terms.close_position,
            position_side=terms.position_side,
            tags={TAG: str(algo.id)},
        )

    def _end(self, algo: AlgoOrder, status: AlgoStatus, reason: str = "") -> None:
        self._open.pop(algo.id, None)
        self._triggers.disarm(algo)
        algo.status, algo.reason = status, reason
        algo.updated_ms = self._exchange.clock.time_ms()
        self._commit(algo)

    def _commit(self, algo: AlgoOrder) -> None:
        exchange = self._exchange
        exchange.store.commit(exchange.name, algos=[algo])
        exchange.tell_algo(exchange.accounts[algo.api_key], algo)

    def _price(self, market: SimMarket, source: str) -> Decimal:
        return market.last_price if source == LAST else self._exchange.mark(market.native)

    def _check_close(self, account: Account, new: NewAlgo, own: list[AlgoOrder]) -> None:
        for algo in own:
            terms = algo.terms
            same = (terms.native, terms.side, terms.position_side, terms.takes_profit) == (
                new.native,
                new.side,
                new.position_side,
                new.takes_profit,
            )
            if terms.close_position and same:
                raise Rejected(Reject.CLOSE_POSITION_TAKEN, f"Conditional order {algo.id} closes the position already.")
        if not self._closable(account, new):
            raise Rejected(Reject.NO_POSITION, "There is neither a position to close nor an order that may open one.")

    def _closable(self, account: Account, terms: NewAlgo) -> bool:
        """Tell whether there is a position that the terms would close, or an order that may open one."""
        exchange = self._exchange
        if exchange.position(account, terms.native, terms.position_side).reducible(terms.side):
            return True
        return any(
            order.side is terms.side.opposite and order.position_side is terms.position_side and not order.reduce_only
            for order in exchange.shelf.open(account, terms.native)
        )
