"""A venue of linear perpetual contracts: what ``SimExchange`` does, with positions and margin instead of two balances.

Accounts have one wallet per quote asset, held as the balance of that asset (nothing of it is ever locked). ``tick``
brings mark prices up to date, funds positions when it is time, and liquidates accounts; whoever runs the exchange calls
it about every second, and it is called when a price is set by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec

from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.futures.algo_orders import AlgoOrder
from exchangesim.core.futures.algos import Algos
from exchangesim.core.futures.brackets import brackets_of, most_notional
from exchangesim.core.futures.liquidation import Liquidator
from exchangesim.core.futures.margin import AccountMargin, Resting, account_margin
from exchangesim.core.futures.positions import PLACES, Position, Settings
from exchangesim.core.futures.prices import ContractPrices
from exchangesim.core.futures.settlement import FuturesSettlement
from exchangesim.core.listener import ExchangeListener
from exchangesim.core.market import SimMarket
from exchangesim.core.matching import cost_of, reachable
from exchangesim.core.orders import (
    ZERO,
    CloseReason,
    NewOrder,
    Order,
    OrderType,
    PositionSide,
    Reject,
    Rejected,
    Side,
    Status,
    TimeInForce,
)
from exchangesim.core.rules import SymbolRules
from exchangesim.core.settlement import Settlement
from exchangesim.core.state import Counter

HOUR_MS = 3_600_000
KEPT_RATES = 1000  # of each contract


class FuturesListener(ExchangeListener):
    """What a face of contracts may hear beside orders and books."""

    def on_margin(
        self, account: Account, reason: str, positions: tuple[Position, ...], change: Decimal, time_ms: int
    ) -> None:
        """A wallet or positions changed. ``reason`` is ``ORDER``, ``FUNDING_FEE``, ``DEPOSIT``, ``WITHDRAW``,
        ``MARGIN_TRANSFER``, ``MARGIN_TYPE_CHANGE`` or ``INSURANCE_CLEAR``; ``change`` is what the wallet changed by
        other than profit and commission."""

    def on_leverage(self, account: Account, native: str, leverage: int, time_ms: int) -> None: ...

    def on_margin_call(self, account: Account, margin: AccountMargin, time_ms: int) -> None:
        """An account has little more than its maintenance margin left."""

    def on_algo(self, account: Account, algo: AlgoOrder) -> None:
        """A conditional order has another status."""

    def on_mark(self, market: SimMarket) -> None:
        """The mark price was brought up to date (it may be what it was)."""


class FundingRate(msgspec.Struct, frozen=True):
    """One funding as it happened."""

    native: str
    time_ms: int
    rate: Decimal
    mark: Decimal


class FuturesExchange(SimExchange):
    """See the module's text."""

    settlement_class: type[Settlement] = FuturesSettlement
    _settlement: FuturesSettlement

    def __init__(
        self,
        name: str,
        rules: Iterable[SymbolRules],
        prices: Mapping[str, Decimal],
        *,
        index: Callable[[SimMarket], Decimal | None] | None = None,
        funding_hours: float = 8,
        **others: Any,
    ) -> None:
        """``index`` gives a contract's index price; without one the book's middle stands in. ``others`` are
        ``SimExchange``'s."""
        super().__init__(name, rules, prices, **others)
        self._index = index or (lambda _: None)
        self.funding_ms = max(1, round(funding_hours * HOUR_MS))
        self._entry_ids = self._counter("entry", 1)
        self.prices = {native: ContractPrices(market) for native, market in self.markets.items()}
        self._positions = {
            key: msgspec.convert(kept, Position) for key, kept in self.store.facts(name, "position:").items()
        }
        self._settings = {
            key: msgspec.convert(kept, Settings) for key, kept in self.store.facts(name, "settings:").items()
        }
        self._rates = {
            native: msgspec.convert(kept, list[FundingRate])
            for native, kept in self.store.facts(name, "funding:").items()
        }
        self.next_funding_ms = self._funding_after(self.clock.time_ms())
        self._liquidator = Liquidator(self)
        self.algos = Algos(self)

    # Positions and margin

    def settings(self, account: Account) -> Settings:
        """Return the account's settings; change them through the methods below only."""
        return self._settings.setdefault(account.api_key, Settings())

    @staticmethod
    def position_key(position: Position) -> str:
        return f"{position.api_key}:{position.native}:{position.side}"

    def position(self, account: Account, native: str, side: PositionSide) -> Position:
        """Return a position of the account, an empty one when there is none."""
        position = Position(api_key=account.api_key, native=native, side=side)
        return self._positions.setdefault(self.position_key(position), position)

    def positions(self, account: Account | None = None, native: str | None = None) -> list[Position]:
        """Return positions that are open."""
        return [
            position
            for position in self._positions.values()
            if position.quantity
            and (account is None or position.api_key == account.api_key)
            and (native is None or position.native == native)
        ]

    def mark(self, native: str) -> Decimal:
        return self.prices[native].mark

    def margin(self, account: Account, asset: str, new: Resting | None = None) -> AccountMargin:
        """Return the account's margin in a quote asset, with an order added to its open ones if given."""
        resting = [
            Resting.of(order)
            for order in self.shelf
            if order.api_key == account.api_key and not order.reduce_only and self._quote(order.native) == asset
        ]
        return account_margin(
            account.free(asset),
            [p for p in self.positions(account) if self._quote(p.native) == asset],
            resting if new is None else [*resting, new],
            self.settings(account),
            {native: market.rules for native, market in self.markets.items()},
            self.mark,
        )

    def set_leverage(self, account: Account, native: str, leverage: int) -> None:
        """Raises Rejected: POSITION_LIMIT when the position is too large for it, INSUFFICIENT_BALANCE when the margin
        would not do."""
        settings, rules = self.settings(account), self.markets[native].rules
        before = settings.leverage(native)
        held = max((abs(p.quantity) * self.mark(native) for p in self.positions(account, native)), default=ZERO)
        if held > most_notional(rules.base, leverage):
            raise Rejected(Reject.POSITION_LIMIT, f"A position of {held:f} is too large for leverage {leverage}.")
        if native in settings.isolated and held and leverage < before:
            raise Rejected(Reject.INSUFFICIENT_BALANCE, "An isolated position's leverage cannot be reduced.")
        settings.leverages[native] = leverage
        margin = self.margin(account, rules.quote)
        if leverage < before and margin.cross_balance < margin.positions_initial + margin.orders_initial:
            settings.leverages[native] = before
            raise Rejected(Reject.INSUFFICIENT_BALANCE, f"The margin does not do for leverage {leverage}.")
        self._keep_settings(account)
        for listener in self._futures_listeners():
            listener.on_leverage(account, native, leverage, self.clock.time_ms())

    def set_isolated(self, account: Account, native: str, isolated: bool) -> None:
        """Raises Rejected: ORDER_CLOSED when orders are open, POSITION_SIDE when positions are."""
        self._demand_nothing_open(account, native)
        isolated_set = self.settings(account).isolated
        if isolated:
            isolated_set.add(native)
        else:
            isolated_set.discard(native)
        self._keep_settings(account)

    def set_hedged(self, account: Account, hedged: bool) -> None:
        """Raises Rejected: ORDER_CLOSED when orders are open, POSITION_SIDE when positions are."""
        self._demand_nothing_open(account, None)
        self.settings(account).hedged = hedged
        self._keep_settings(account)

    def add_margin(self, account: Account, native: str, side: PositionSide, amount: Decimal) -> None:
        """Give an isolated position more margin, or (negative) take some away. Raises Rejected."""
        position, quote = self.position(account, native, side), self._quote(native)
        margin = self.margin(account, quote)
        found = next((figure for figure in margin.positions if figure.position is position), None)
        if found is None or not found.isolated or not position.quantity:
            raise Rejected(Reject.POSITION_SIDE, "There is no such isolated position.")
        spare = min(position.isolated_wallet, position.isolated_wallet + found.unrealized) - found.initial
        if amount > margin.available or -amount > max(ZERO, spare):
            raise Rejected(Reject.INSUFFICIENT_BALANCE, f"{amount:f} {quote} cannot be moved.", asset=quote)
        now = self.clock.time_ms()
        position.isolated_wallet += amount
        position.updated_ms = now
        self._settlement.keep(position)
        self._settlement.move(account, quote, ZERO, "MARGIN_TRANSFER", native=native, now=now)
        self.tell_margin(account, "MARGIN_TRANSFER", (position,), ZERO, now)
        self._settlement.commit()

    def transfer(self, account: Account, asset: str, delta: Decimal) -> None:
        free = self.margin(account, asset).available
        free = min(free, account.free(asset))
        if free + delta < 0:
            raise Rejected(Reject.INSUFFICIENT_BALANCE, f"{free:f} {asset} free, cannot take {-delta}.", asset=asset)
        now = self.clock.time_ms()
        self._settlement.move(account, asset, delta, "TRANSFER", now=now)
        self.tell_margin(account, "DEPOSIT" if delta > 0 else "WITHDRAW", (), delta, now)
        self._settlement.commit()

    # Orders

    def place(self, account: Account, new: NewOrder) -> Order:
        if new.native in self.markets:
            new = self.fitted(account, new)
        return super().place(account, new)

    def check(self, account: Account, new: NewOrder) -> SimMarket:
        market = super().check(account, new)
        if new.time_in_force is TimeInForce.FOK and new.quantity is not None:
            opposite = market.book.side(new.side.opposite)
            if reachable(opposite, new.price if new.type is OrderType.LIMIT else None) < new.quantity:
                raise Rejected(Reject.UNFILLABLE, "The order cannot be filled at once.")
        return market

    def fitted(self, account: Account, new: NewOrder) -> NewOrder:
        """Return the order as the account's position mode and positions take it: one that closes is reduce-only, and
        no larger than what is left to reduce. Raises Rejected: POSITION_SIDE, REDUCE_ONLY."""
        side = new.position_side
        if self.settings(account).hedged != (side is not PositionSide.BOTH):
            raise Rejected(Reject.POSITION_SIDE, f"Position side {side} does not fit the account's position mode.")
        closes = (side is PositionSide.LONG and new.side is Side.SELL) or (
            side is PositionSide.SHORT and new.side is Side.BUY
        )
        if not new.reduce_only and not closes:
            return new
        left = self.position(account, new.native, side).reducible(new.side) - sum(
            (order.remaining for order in self._reducing(account.api_key, new.native, side, new.side)), ZERO
        )
        if left <= 0:
            raise Rejected(Reject.REDUCE_ONLY, "There is no position that the order could reduce.")
        quantity = new.quantity if new.quantity is None else min(new.quantity, left)
        return replace(new, reduce_only=True, quantity=quantity)

    def needed(self, account: Account, new: NewOrder, market: SimMarket) -> Decimal:
        quote = market.rules.quote
        if new.reduce_only or new.liquidation:
            return ZERO
        assert new.quantity is not None
        mark = self.mark(new.native)
        if new.type is OrderType.LIMIT and new.price is not None:
            notional = new.price * new.quantity
        else:
            notional = cost_of(market.book.side(new.side.opposite), new.quantity) or mark * new.quantity
        before = self.margin(account, quote)
        after = self.margin(account, quote, Resting(new.native, new.side, new.position_side, notional))
        leverage = self.settings(account).leverage(new.native)
        for figure in after.positions:
            size = max(abs(figure.notional + figure.bid_notional), abs(figure.notional - figure.ask_notional))
            grows = size > abs(figure.notional)
            if figure.position.native == new.native and grows and size > most_notional(market.rules.base, leverage):
                raise Rejected(Reject.POSITION_LIMIT, f"A position of {size:f} is too large for leverage {leverage}.")
        bound = after.orders_initial - before.orders_initial
        if bound > 0:
            # Bought above the mark price or sold below it, the difference is lost at once.
            sign = 1 if new.side is Side.BUY else -1
            needed = bound + max(ZERO, sign * (notional - mark * new.quantity))
            if needed > before.available:
                raise Rejected(
                    Reject.INSUFFICIENT_BALANCE,
                    f"The order needs {needed:f} {quote} of margin and {before.available:f} is available.",
                    asset=quote,
                )
        return ZERO

    def _rest_or_end(self, account: Account, market: SimMarket, order: Order, now: int) -> None:
        if order.liquidation and order.is_open:
            # What nobody takes goes to the exchange itself.
            self._settlement.execute(market, order, self.mark(order.native), order.remaining, now)
            return
        super()._rest_or_end(account, market, order, now)

    def _finish(self, market: SimMarket, now: int) -> None:
        for position in self._settlement.touched():
            self._fit_reducing(position, now)
        super()._finish(market, now)
        self.algos.follow()

    def _reducing(self, api_key: str, native: str, side: PositionSide, order_side: Side) -> list[Order]:
        return [
            order
            for order in self.shelf
            if order.reduce_only
            and (order.api_key, order.native, order.position_side, order.side) == (api_key, native, side, order_side)
        ]

    def _fit_reducing(self, position: Position, now: int) -> None:
        """Cut reduce-only orders down to the position they reduce, the newest first."""
        for side in Side:
            left = position.reducible(side)
            for order in self._reducing(position.api_key, position.native, position.side, side):
                account, own = self.accounts[order.api_key], self.markets[order.native].book.side(side)
                if left <= 0:
                    own.remove_if_there(order)
                    self._settlement.end(account, order, Status.EXPIRED, CloseReason.NOTHING_TO_REDUCE, now)
                elif order.remaining > left:
                    order.quantity = order.filled + left
                    own.changed.add(order.price)
                    self._settlement.keep_order(account, order, now)
                left -= min(left, order.remaining)

    # Time

    def tick(self) -> None:
        """Bring mark prices up to date; fund and liquidate where it is due."""
        now = self.clock.time_ms()
        if now >= self.next_funding_ms:
            for native in self.markets:
                self._step(native, self.next_funding_ms)
                self.fund(native)
            self.next_funding_ms = self._funding_after(now)
        for native, market in self.markets.items():
            self._step(native, now)
            for listener in self._futures_listeners():
                listener.on_mark(market)
            self.algos.on_mark(native, self.mark(native))
        self._liquidator.run()

    def fund(self, native: str) -> None:
        """Let the contract's positions pay or receive funding now."""
        prices, quote, now = self.prices[native], self._quote(native), self.clock.time_ms()
        rate, mark = prices.rate, prices.mark
        for position in self.positions(native=native):
            account = self.accounts[position.api_key]
            payment = (position.quantity * mark * rate).quantize(PLACES, ROUND_HALF_EVEN)
            if native in self.settings(account).isolated:
                position.isolated_wallet -= payment
                self._settlement.keep(position)
            self._settlement.move(account, quote, -payment, "FUNDING_FEE", native=native, now=now)
            self._settlement.take_from_market(quote, -payment)
            self.tell_margin(account, "FUNDING_FEE", (position,), -payment, now)
        self._settlement.commit()
        rates = self._rates.setdefault(native, [])
        rates.append(FundingRate(native, now, rate, mark))
        del rates[:-KEPT_RATES]
        self.store.commit(self.name, facts=[(f"funding:{native}", rates)])
        prices.fund()

    def funding_rates(self, native: str) -> tuple[FundingRate, ...]:
        """Return the contract's past funding rates, oldest first."""
        return tuple(self._rates.get(native, ()))

    def set_mark(self, native: str, price: Decimal | None) -> None:
        """Hold mark and index price where they are set, or (None) let them follow the market again."""
        self.prices[native].fixed_mark = price
        self.tick()

    def set_rate(self, native: str, rate: Decimal | None) -> None:
        """Hold the funding rate, or (None) let it follow the premium again."""
        self.prices[native].fixed_rate = rate
        self.tick()

    def _step(self, native: str, now: int) -> None:
        prices, market = self.prices[native], self.markets[native]
        prices.step(now, self._index(market), max(0, self.next_funding_ms - now), self.funding_ms)
        market.band_price = prices.mark

    def _funding_after(self, now: int) -> int:
        return now - now % self.funding_ms + self.funding_ms

    # For the liquidator

    def liquidate(self, account: Account, new: NewOrder) -> Order:
        """Close a position by an order of the exchange's own, which no check applies to."""
        return self._accept(account, self.markets[new.native], new)

    def take_away(self, account: Account, order: Order, status: Status, reason: CloseReason) -> None:
        """End an open order for a reason of the exchange's."""
        market, now = self.markets[order.native], self.clock.time_ms()
        market.book.side(order.side).remove_if_there(order)
        self._settlement.end(account, order, status, reason, now)
        self._finish(market, now)

    def charge_liquidation(self, account: Account, asset: str, fee: Decimal, native: str) -> None:
        now = self.clock.time_ms()
        self._settlement.charge(account, asset, fee, "INSURANCE_CLEAR", native=native, now=now)
        self.tell_margin(account, "INSURANCE_CLEAR", (), -fee, now)
        self._settlement.commit()

    def cover(self, account: Account, asset: str, deficit: Decimal) -> None:
        """Let the market's own side bear what an account lost beyond its margin."""
        now = self.clock.time_ms()
        self._settlement.move(account, asset, deficit, "INSURANCE_CLEAR", now=now)
        self._settlement.take_from_market(asset, deficit)
        self.tell_margin(account, "INSURANCE_CLEAR", (), deficit, now)
        self._settlement.commit()

    # For the conditional orders

    def counter(self, name: str, first: int) -> Counter:
        return self._counter(name, first)

    @property
    def last_trade_id(self) -> int:
        return self._trade_ids.last

    def keep_algo(self, algo: AlgoOrder) -> None:
        """Let what is under way make a conditional order durable too."""
        self._settlement.keep_algo(algo)

    def tell_algo(self, account: Account, algo: AlgoOrder) -> None:
        for listener in self._futures_listeners():
            listener.on_algo(account, algo)

    # Inside

    def tell_margin(
        self, account: Account, reason: str, positions: tuple[Position, ...], change: Decimal, now: int
    ) -> None:
        for listener in self._futures_listeners():
            listener.on_margin(account, reason, positions, change, now)

    def tell_margin_call(self, account: Account, margin: AccountMargin) -> None:
        for listener in self._futures_listeners():
            listener.on_margin_call(account, margin, self.clock.time_ms())

    def next_entry_id(self) -> int:
        return self._entry_ids.take()

    def _futures_listeners(self) -> list[FuturesListener]:
        return [listener for listener in self.listeners if isinstance(listener, FuturesListener)]

    def _quote(self, native: str) -> str:
        return self.markets[native].rules.quote

    def _keep_settings(self, account: Account) -> None:
        kept = asdict(self.settings(account))
        self.store.commit(self.name, facts=[(f"settings:{account.api_key}", kept)])

    def _demand_nothing_open(self, account: Account, native: str | None) -> None:
        if self.shelf.open(account, native):
            raise Rejected(Reject.ORDER_CLOSED, "There are open orders.")
        if self.positions(account, native):
            raise Rejected(Reject.POSITION_SIDE, "There are open positions.")


def leverage_allowed(rules: SymbolRules, leverage: int) -> bool:
    return 1 <= leverage <= brackets_of(rules.base)[0].leverage
