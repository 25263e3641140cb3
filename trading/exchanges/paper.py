"""The paper venue: an account whose orders are filled against the live books, with the exchange's fees and a latency.

Same port as a real account, so that a bot on paper runs the same code. An order meets the book as the exchange has it
when it arrives, which is the one we hold a way later. What it took is remembered while that level stands in the real
book, which knows nothing of it, so paper money can't eat it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_DOWN, Decimal

import msgspec

from trading.instruments import Market, Side, base_quantity, lot_quantity
from trading.marketdata.book import Book, BookSide
from trading.messages import (
    AccountBalance,
    Fill,
    KnownOrder,
    OrderEvent,
    OrderIntent,
    OrderState,
    Outcome,
    PlaceResult,
    StreamState,
    TimeInForce,
)
from trading.ports import Clock, VenueListener

ZERO = Decimal(0)
ONE_WAY_SECONDS = 0.02  # a request's way to the exchange; the answer takes as long
FEE_DIGITS = Decimal("1e-12")
# So long a level that stands is short of what was taken: by then others would have traded there and come anew.
REMEMBERED_SECONDS = 60.0


class _Position(msgspec.Struct):
    """A derivative position: signed quantity in contracts, and its average entry price."""

    quantity: Decimal = ZERO
    entry: Decimal = ZERO


class _Taken(msgspec.Struct, frozen=True):
    """What paper orders took of one level, and the monotonic time of the last of them."""

    quantity: Decimal
    at_ns: int


class PaperVenue:
    """One account's paper money on one exchange.

    ``book_of`` gives the market's book when it is live, else None: then nothing fills.
    """

    # Nothing is ever lost on the way to this venue: what it does not know, it never had.
    absence_seconds = 0.0

    def __init__(
        self,
        account_id: int,
        exchange: str,
        markets: Iterable[Market],
        balances: Mapping[str, Decimal],
        *,
        book_of: Callable[[Market], Book | None],
        clock: Clock,
        one_way_seconds: float = ONE_WAY_SECONDS,
    ) -> None:
        self.account_id = account_id
        self.exchange = exchange
        self._markets = {market.key: market for market in markets}
        self._free = dict(balances)
        self._used: dict[str, Decimal] = {}
        self._positions: dict[str, _Position] = {}
        self._book_of = book_of
        self._clock = clock
        self._one_way = one_way_seconds
        self._orders: dict[str, OrderEvent] = {}
        self._taken: dict[tuple[str, Side], dict[float, _Taken]] = {}  # by price
        self._listener: VenueListener | None = None

    def add_markets(self, markets: Iterable[Market]) -> None:
        """Learn further markets, or new ticks and fees of known ones."""
        self._markets.update((market.key, market) for market in markets)

    # -- the Venue port -----------------------------------------------------------------------------------------

    def recall(self, orders: Sequence[KnownOrder]) -> None:
        """Forget them: paper orders end with their answer."""

    async def start(self, listener: VenueListener) -> None:
        self._listener = listener
        for balance in await self.balances():
            listener(balance)
        listener(StreamState(account_id=self.account_id, state="live", received_ns=self._clock.time_ns()))

    async def close(self) -> None:
        self._listener = None

    def reserve_order(self, client_order_id: str) -> float:
        """Grant at once: nothing is sent, so there is no budget of requests."""
        return 0.0

    def release_order(self, client_order_id: str) -> None:
        """Do nothing: nothing was taken."""

    async def place(self, intent: OrderIntent) -> PlaceResult:
        # What the exchange shows when the order arrives is in our book when the answer is back.
        await self._clock.sleep(2 * self._one_way)
        refusal = self._refusal(intent)
        if refusal is not None:
            return refusal
        event = self._execute(intent)
        self._orders[intent.client_order_id] = event
        self._tell(event)
        self._tell_balances(self._assets_of(self._markets[intent.market]))
        return PlaceResult(
            outcome=Outcome.PLACED,
            exchange_order_id=event.exchange_order_id,
            events=(msgspec.structs.replace(event, source="answer"),),
        )

    async def cancel(self, intent: OrderIntent) -> PlaceResult:
        await self._clock.sleep(2 * self._one_way)
        return PlaceResult(outcome=Outcome.REJECTED, code="NOT_OPEN", message="paper orders never rest on the book")

    async def query(self, intent: OrderIntent) -> OrderEvent | None:
        await self._clock.sleep(2 * self._one_way)
        event = self._orders.get(intent.client_order_id)
        return None if event is None else msgspec.structs.replace(event, source="query")

    async def open_orders(self) -> Sequence[OrderEvent]:
        """Return nothing: paper orders never rest on the book."""
        return ()

    async def trades(self, market: str, since_ns: int) -> Sequence[Fill]:
        return [
            fill
            for event in self._orders.values()
            for fill in event.fills
            if fill.market == market and fill.exchange_ns >= since_ns
        ]

    async def balances(self) -> Sequence[AccountBalance]:
        return [self._balance(asset) for asset in sorted({*self._free, *self._used})]

    # -- matching -----------------------------------------------------------------------------------------------

    def _refusal(self, intent: OrderIntent) -> PlaceResult | None:
        """Return why the exchange would refuse the order as it stands."""
        market = self._markets.get(intent.market)
        if market is None:
            return _rejected("UNKNOWN_MARKET", f"{intent.market}: this exchange has no such market")
        if intent.time_in_force not in {TimeInForce.IOC, TimeInForce.FOK}:
            return _rejected("TIME_IN_FORCE", f"{intent.time_in_force.value}: paper orders are IOC or FOK")
        if intent.client_order_id in self._orders:
            return _rejected("DUPLICATE", f"client order id {intent.client_order_id}: used before")
        if intent.price <= 0 or intent.price % market.tick:
            return _rejected("PRICE", f"price {intent.price}: must be a multiple of the tick {market.tick}")
        if intent.quantity <= 0 or intent.quantity % market.lot or intent.quantity < market.min_amount:
            least = max(market.lot, market.min_amount)
            return _rejected("QUANTITY", f"quantity {intent.quantity}: must be lots of {market.lot}, at least {least}")
        value = _value(market, intent.quantity, intent.price)
        if value < market.min_notional:
            return _rejected("NOTIONAL", f"value {value}: must be at least {market.min_notional} {market.quote}")
        asset, amount = self._cover(market, intent)
        free = self._free.get(asset, ZERO)
        if amount > free:
            return _rejected("BALANCE", f"{free:f} {asset} is free, {amount:f} is needed")
        return None

    def _cover(self, market: Market, intent: OrderIntent) -> tuple[str, Decimal]:
        """Return what must be free for the order: what it pays at its limit, or its full notional as margin."""
        base = base_quantity(market, intent.quantity, intent.price)
        if market.kind == "spot":
            return (market.quote, base * intent.price) if intent.side == "buy" else (market.base, base)
        held = self._positions.get(market.key, _Position()).quantity
        signed = intent.quantity if intent.side == "buy" else -intent.quantity
        opening = abs(held + signed) - abs(held)
        if opening <= 0:
            return _settle(market), ZERO
        return _settle(market), _margin(market, opening, intent.price)

    def _execute(self, intent: OrderIntent) -> OrderEvent:
        market = self._markets[intent.market]
        taken = list(self._match(market, intent))
        filled = sum((quantity for _, quantity in taken), ZERO)
        if intent.time_in_force is TimeInForce.FOK and filled < intent.quantity:
            taken, filled = [], ZERO
        now = self._clock.time_ns()
        fills = []
        for number, (price, quantity) in enumerate(taken):
            self._remember(market, intent.side, price, quantity)
            fee, fee_asset = self._book(market, intent.side, quantity, Decimal(repr(price)))
            fills.append(
                Fill(
                    account_id=self.account_id,
                    market=market.key,
                    exchange_trade_id=f"paper-{intent.client_order_id}-{number}",
                    exchange_order_id=f"paper-{intent.client_order_id}",
                    client_order_id=intent.client_order_id,
                    side=intent.side,
                    price=Decimal(repr(price)),
                    quantity=quantity,
                    fee=fee,
                    fee_asset=fee_asset,
                    liquidity="taker",
                    exchange_ns=now,
                )
            )
        return OrderEvent(
            account_id=self.account_id,
            market=market.key,
            client_order_id=intent.client_order_id,
            exchange_order_id=f"paper-{intent.client_order_id}",
            state=OrderState.FILLED if filled == intent.quantity else OrderState.CANCELLED,
            filled=filled,
            fills=tuple(fills),
            source="stream",
            cause="" if filled == intent.quantity else "the book held no more at the limit",
            exchange_ns=now,
            received_ns=now,
        )

    def _match(self, market: Market, intent: OrderIntent) -> Iterator[tuple[float, Decimal]]:
        """Yield (price, quantity) from the best price to the limit."""
        book = self._book_of(market)
        if book is None:
            return
        remaining = intent.quantity
        side = book.asks if intent.side == "buy" else book.bids
        limit = intent.price
        taken = self._still_taken(market, intent.side, side)
        for price, shown in side.levels():
            exact = Decimal(repr(price))
            if (exact > limit if intent.side == "buy" else exact < limit) or remaining <= 0:
                return
            left = Decimal(repr(shown)) - (taken[price].quantity if price in taken else ZERO)
            quantity = lot_quantity(min(remaining, left), market)
            if quantity > 0:
                yield price, quantity
                remaining -= quantity

    def _still_taken(self, market: Market, side: Side, levels: BookSide) -> Mapping[float, _Taken]:
        """Return what was taken of the levels standing now, by price; forget the rest.

        Where a level shows less than we took, others took or withdrew the difference: what comes on top of it is new.
        """
        known = self._taken.get((market.key, side))
        if not known:
            return {}
        oldest_ns = self._clock.monotonic_ns() - int(REMEMBERED_SECONDS * 1e9)
        shown = {price: Decimal(repr(size)) for price, size in levels.levels() if price in known}
        standing = {
            price: _Taken(min(taken.quantity, shown[price]), taken.at_ns)
            for price, taken in known.items()
            if price in shown and taken.at_ns > oldest_ns
        }
        self._taken[market.key, side] = standing
        return standing

    def _remember(self, market: Market, side: Side, price: float, quantity: Decimal) -> None:
        known = self._taken.setdefault((market.key, side), {})
        before = known[price].quantity if price in known else ZERO
        known[price] = _Taken(before + quantity, self._clock.monotonic_ns())

    # -- money --------------------------------------------------------------------------------------------------

    def _book(self, market: Market, side: Side, quantity: Decimal, price: Decimal) -> tuple[Decimal, str]:
        """Move the money of one execution; return its fee and the fee's asset (what is received, on spot)."""
        base = base_quantity(market, quantity, price)
        if market.kind != "spot":
            return self._book_derivative(market, side, quantity, price)
        value = base * price
        if side == "buy":
            fee, asset = _fee(base * market.taker_fee), market.base
            self._add(market.quote, -value)
            self._add(market.base, base - fee)
        else:
            fee, asset = _fee(value * market.taker_fee), market.quote
            self._add(market.base, -base)
            self._add(market.quote, value - fee)
        return fee, asset

    def _book_derivative(self, market: Market, side: Side, quantity: Decimal, price: Decimal) -> tuple[Decimal, str]:
        """Open, extend, reduce or turn a position; margin is the whole notional at entry."""
        settle = _settle(market)
        position = self._positions.setdefault(market.key, _Position())
        signed = quantity if side == "buy" else -quantity
        before_margin = _margin(market, abs(position.quantity), position.entry) if position.quantity else ZERO
        realised = ZERO
        closing = min(abs(position.quantity), quantity) if position.quantity * signed < 0 else ZERO
        if closing:
            direction = 1 if position.quantity > 0 else -1
            realised = direction * _profit(market, closing, position.entry, price)
        after = position.quantity + signed
        if closing == ZERO:
            position.entry = _mean_entry(market, abs(position.quantity), position.entry, quantity, price)
        elif after * position.quantity < 0:
            position.entry = price
        position.quantity = after
        after_margin = _margin(market, abs(after), position.entry) if after else ZERO
        fee = _fee(_margin(market, quantity, price) * market.taker_fee)
        self._used[settle] = self._used.get(settle, ZERO) + after_margin - before_margin
        self._add(settle, before_margin - after_margin + realised - fee)
        return fee, settle

    def _add(self, asset: str, amount: Decimal) -> None:
        self._free[asset] = self._free.get(asset, ZERO) + amount

    def _assets_of(self, market: Market) -> set[str]:
        return {market.base, market.quote} if market.kind == "spot" else {_settle(market)}

    def _balance(self, asset: str) -> AccountBalance:
        return AccountBalance(
            account_id=self.account_id,
            asset=asset,
            free=self._free.get(asset, ZERO),
            used=self._used.get(asset, ZERO),
            received_ns=self._clock.time_ns(),
        )

    def _tell(self, message: OrderEvent | AccountBalance) -> None:
        if self._listener is not None:
            self._listener(message)

    def _tell_balances(self, assets: Iterable[str]) -> None:
        for asset in sorted(assets):
            self._tell(self._balance(asset))


def _rejected(code: str, message: str) -> PlaceResult:
    return PlaceResult(outcome=Outcome.REJECTED, code=code, message=message)


def _fee(amount: Decimal) -> Decimal:
    return amount.quantize(FEE_DIGITS, rounding=ROUND_DOWN)


def _settle(market: Market) -> str:
    return market.settle or (market.base if market.kind == "inverse" else market.quote)


def _value(market: Market, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the quote value of an order quantity."""
    return quantity * market.contract_size if market.kind == "inverse" else quantity * market.contract_size * price


def _margin(market: Market, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the whole notional in the settlement asset."""
    base = base_quantity(market, quantity, price)
    return base if market.kind == "inverse" else base * price


def _mean_entry(market: Market, held: Decimal, entry: Decimal, added: Decimal, price: Decimal) -> Decimal:
    """Return the entry price of a position that was added to; inverse contracts are of quote, so theirs is harmonic."""
    if not held:
        return price
    if market.kind == "inverse":
        return (held + added) / (held / entry + added / price)
    return (held * entry + added * price) / (held + added)


def _profit(market: Market, quantity: Decimal, entry: Decimal, price: Decimal) -> Decimal:
    """Return what ``quantity`` contracts bought at ``entry`` and sold at ``price`` earn in the settlement asset."""
    if market.kind == "inverse":
        return quantity * market.contract_size * (1 / entry - 1 / price)
    return quantity * market.contract_size * (price - entry)
