"""The paper venue: an account whose orders are filled against the live books, with the exchange's fees and a latency.

Same port as a real account, so that a bot on paper runs the same code. An order meets the book as the exchange has it
when it arrives, which is the one we hold a way later. What it took is remembered while that level stands in the real
book, which knows nothing of it, so paper money can't eat it twice. What rests fills as trading.exchanges.paper_resting
says, at its own limit and for the maker's fee, and its money is set aside until then. It does not outlive its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec

from trading.exchanges.paper_margin import due
from trading.exchanges.paper_money import PaperMoney, settle_of, value_of
from trading.exchanges.paper_resting import RestingPaper, met_by_trade, own_side, shown_at
from trading.exchanges.protection import NOTHING, not_native
from trading.execution.states import MAY_REST
from trading.instruments import Market, Side, lot_quantity
from trading.marketdata.book import Book, BookSide
from trading.messages import (
    AccountBalance,
    AccountIncome,
    AccountPosition,
    Fill,
    Forced,
    KnownOrder,
    OrderEvent,
    OrderIntent,
    OrderKind,
    OrderState,
    Outcome,
    PlaceResult,
    PublicTrade,
    StreamState,
    TimeInForce,
)
from trading.ports import Clock, VenueListener, Watch
from trading.tasks import end_tasks

ZERO = Decimal(0)
ONE_WAY_SECONDS = 0.02  # a request's way to the exchange; the answer takes as long
# So long a level that stands is short of what was taken: by then others would have traded there and come anew.
REMEMBERED_SECONDS = 60.0


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
    protects = NOTHING

    def __init__(
        self,
        account_id: int,
        exchange: str,
        markets: Iterable[Market],
        balances: Mapping[str, Decimal],
        *,
        book_of: Callable[[Market], Book | None],
        clock: Clock,
        watch: Watch | None = None,
        mark_of: Callable[[Market], Decimal | None] = lambda market: None,
        one_way_seconds: float = ONE_WAY_SECONDS,
    ) -> None:
        """Without ``watch`` nothing tells when a resting order fills, or a price is reached: then only IOC and FOK
        orders are taken, and nothing is liquidated. ``mark_of`` tells what a contract's positions are valued by.
        """
        self.account_id = account_id
        self.exchange = exchange
        self._markets = {market.key: market for market in markets}
        self._money = PaperMoney(balances)
        self._book_of = book_of
        self._clock = clock
        self._one_way = one_way_seconds
        self._orders: dict[str, OrderEvent] = {}
        self._taken: dict[tuple[str, Side], dict[float, _Taken]] = {}  # by price
        self._listener: VenueListener | None = None
        self._watch = watch
        self._mark_of = mark_of
        self._liquidated: set[str] = set()  # contracts in which a position was
        self._resting: dict[str, dict[str, RestingPaper]] = {}  # by market, by client id, oldest first
        self._unwatch: dict[str, Callable[[], None]] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._begun_ns = clock.time_ns()

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
        for unwatch in self._unwatch.values():
            unwatch()
        self._unwatch.clear()
        await end_tasks(self._telling)

    def reserve_order(self, client_order_id: str) -> float:
        """Grant at once: nothing is sent, so there is no budget of requests."""
        return 0.0

    def release_order(self, client_order_id: str) -> None:
        """Do nothing: nothing was taken."""

    def prepare(self, intent: OrderIntent) -> None:
        """Do nothing: nothing is written."""

    def write(self, intent: OrderIntent) -> None:
        """Do nothing: a paper order fills when its answer would be back."""

    async def place(self, intent: OrderIntent) -> PlaceResult:
        # What the exchange shows when the order arrives is in our book when the answer is back.
        await self._clock.sleep(2 * self._one_way)
        refusal = self._refusal(intent)
        if refusal is not None:
            return refusal
        event = self._execute(intent)
        self._orders[intent.client_order_id] = event
        if event.state in {OrderState.PLACED, OrderState.PARTIALLY_FILLED}:
            self._rest(intent, intent.quantity - sum((fill.quantity for fill in event.fills), ZERO))
        self._follow(self._markets[intent.market])
        self._tell(event)
        self._tell_balances(self._assets_of(self._markets[intent.market]))
        return PlaceResult(
            outcome=Outcome.PLACED,
            exchange_order_id=event.exchange_order_id,
            events=(msgspec.structs.replace(event, source="answer"),),
        )

    async def protect(self, take_profit: OrderIntent | None, stop_loss: OrderIntent | None) -> tuple[PlaceResult, ...]:
        return not_native(self.exchange, take_profit, stop_loss)

    def has_leverage(self, market: str, leverage: int) -> bool:
        return self._money.leverage(market) == leverage

    async def set_leverage(self, market: str, leverage: int) -> str:
        known = self._markets.get(market)
        if known is None or known.kind == "spot":
            return "" if known is not None and leverage == 1 else f"{market}: no contract of this exchange's"
        if why := self._money.set_leverage(known, leverage):
            return why
        self._tell_balances([settle_of(known)])
        return ""

    async def cancel(self, intent: OrderIntent) -> PlaceResult:
        await self._clock.sleep(2 * self._one_way)
        one = self._resting.get(intent.market, {}).get(intent.client_order_id)
        if one is None:
            return _rejected("NOT_OPEN", f"client order id {intent.client_order_id}: no such open order")
        event = self._end(one)
        self._tell(event)
        self._tell_balances(self._assets_of(one.market))
        return PlaceResult(
            outcome=Outcome.PLACED,
            exchange_order_id=event.exchange_order_id,
            events=(msgspec.structs.replace(event, source="answer"),),
        )

    def _end(self, one: RestingPaper) -> OrderEvent:
        """Let what rests of an order rest no more; return what is to be told of that."""
        self._money.hold(one.asset, -one.held)
        self._rest_no_more(one)
        now = self._clock.time_ns()
        before = self._orders[one.intent.client_order_id]
        event = msgspec.structs.replace(before, state=OrderState.CANCELLED, exchange_ns=now, received_ns=now)
        self._orders[one.intent.client_order_id] = event
        return event

    async def query(self, intent: OrderIntent) -> OrderEvent | None:
        await self._clock.sleep(2 * self._one_way)
        event = self._orders.get(intent.client_order_id)
        if event is not None:
            return msgspec.structs.replace(event, source="query")
        if intent.time_in_force not in MAY_REST or intent.created_ns >= self._begun_ns:
            return None
        return OrderEvent(
            account_id=self.account_id,
            market=intent.market,
            client_order_id=intent.client_order_id,
            state=OrderState.CANCELLED,
            filled=ZERO,
            source="query",
            cause="paper orders that rest end with their process",
            received_ns=self._clock.time_ns(),
        )

    async def open_orders(self) -> Sequence[OrderEvent]:
        return [
            msgspec.structs.replace(self._orders[client_id], source="query")
            for orders in self._resting.values()
            for client_id in orders
        ]

    async def trades(self, market: str, since_ns: int) -> Sequence[Fill]:
        return [
            fill
            for event in self._orders.values()
            for fill in event.fills
            if fill.market == market and fill.exchange_ns >= since_ns
        ]

    async def balances(self) -> Sequence[AccountBalance]:
        return [self._balance(asset) for asset in sorted({*self._money.free, *self._money.used})]

    async def positions(self) -> Sequence[AccountPosition]:
        return ()

    async def incomes(self, since_ns: int) -> Sequence[AccountIncome]:
        """Tell nothing: paper money is not funded, a trade that holds a perpetual estimates it from the rates."""
        return ()

    # -- matching -----------------------------------------------------------------------------------------------

    def _refusal(self, intent: OrderIntent) -> PlaceResult | None:
        """Return why the exchange would refuse the order as it stands."""
        market = self._markets.get(intent.market)
        if market is None:
            return _rejected("UNKNOWN_MARKET", f"{intent.market}: this exchange has no such market")
        if intent.kind is not OrderKind.LIMIT:
            return _rejected("KIND", f"{intent.kind.value}: paper orders are limit orders")
        if intent.time_in_force in MAY_REST and self._watch is None:
            return _rejected("TIME_IN_FORCE", f"{intent.time_in_force.value}: nothing here follows what rests")
        if intent.client_order_id in self._orders:
            return _rejected("DUPLICATE", f"client order id {intent.client_order_id}: used before")
        if intent.reduce_only and market.key in self._liquidated and not self._money.held(market.key):
            return _rejected("REDUCE_ONLY", f"{market.key}: the position was liquidated, there is nothing to reduce")
        if intent.price <= 0 or intent.price % market.tick:
            return _rejected("PRICE", f"price {intent.price}: must be a multiple of the tick {market.tick}")
        if intent.quantity <= 0 or intent.quantity % market.lot or intent.quantity < market.min_amount:
            least = max(market.lot, market.min_amount)
            return _rejected("QUANTITY", f"quantity {intent.quantity}: must be lots of {market.lot}, at least {least}")
        value = value_of(market, intent.quantity, intent.price)
        if value < market.min_notional:
            return _rejected("NOTIONAL", f"value {value}: must be at least {market.min_notional} {market.quote}")
        asset, amount = self._money.cover(market, intent)
        free = self._money.free.get(asset, ZERO)
        if amount > free:
            return _rejected("BALANCE", f"{free:f} {asset} is free, {amount:f} is needed")
        if intent.time_in_force is TimeInForce.POST_ONLY and self._is_marketable(market, intent):
            return _rejected("POST_ONLY", f"price {intent.price}: the order would match at once")
        return None

    def _is_marketable(self, market: Market, intent: OrderIntent) -> bool:
        book = self._book_of(market)
        if book is None:
            return False
        best = Decimal(repr(book.asks.best if intent.side == "buy" else book.bids.best))
        return best > 0 and (best <= intent.price if intent.side == "buy" else best >= intent.price)

    def _execute(self, intent: OrderIntent) -> OrderEvent:
        market = self._markets[intent.market]
        taken = list(self._match(market, intent))
        filled = sum((quantity for _, quantity in taken), ZERO)
        if intent.time_in_force is TimeInForce.FOK and filled < intent.quantity:
            taken, filled = [], ZERO
        fills = []
        for number, (price, quantity) in enumerate(taken):
            self._remember(market, intent.side, price, quantity)
            fills.append(self._fill(market, intent, number, Decimal(repr(price)), quantity, "taker"))
        rests = intent.time_in_force in MAY_REST
        state = OrderState.FILLED if filled == intent.quantity else OrderState.CANCELLED
        if rests and state is OrderState.CANCELLED:
            state = OrderState.PARTIALLY_FILLED if fills else OrderState.PLACED
        now = self._clock.time_ns()
        return OrderEvent(
            account_id=self.account_id,
            market=market.key,
            client_order_id=intent.client_order_id,
            exchange_order_id=f"paper-{intent.client_order_id}",
            state=state,
            filled=filled,
            fills=tuple(fills),
            source="stream",
            cause="" if filled == intent.quantity or rests else "the book held no more at the limit",
            exchange_ns=now,
            received_ns=now,
        )

    def _fill(
        self, market: Market, intent: OrderIntent, number: int, price: Decimal, quantity: Decimal, liquidity: str
    ) -> Fill:
        """Book one execution."""
        rate = market.maker_fee if liquidity == "maker" else market.taker_fee
        fee, fee_asset = self._money.book(market, intent.side, quantity, price, rate)
        return Fill(
            account_id=self.account_id,
            market=market.key,
            exchange_trade_id=f"paper-{intent.client_order_id}-{number}",
            exchange_order_id=f"paper-{intent.client_order_id}",
            client_order_id=intent.client_order_id,
            side=intent.side,
            price=price,
            quantity=quantity,
            fee=fee,
            fee_asset=fee_asset,
            liquidity=liquidity,
            exchange_ns=self._clock.time_ns(),
        )

    # -- what rests ---------------------------------------------------------------------------------------------

    def _rest(self, intent: OrderIntent, left: Decimal) -> None:
        """Let what an order did not find at once stand at its limit, its money set aside."""
        market, book = self._markets[intent.market], self._book_of(self._markets[intent.market])
        asset, held = self._money.cover(market, msgspec.structs.replace(intent, quantity=left))
        self._money.hold(asset, held)
        ahead = ZERO if book is None else shown_at(own_side(book, intent.side), intent.price)
        orders = self._resting.setdefault(market.key, {})
        orders[intent.client_order_id] = RestingPaper(intent, market, left, ahead, asset, held)
        self._follow(market)

    def _rest_no_more(self, one: RestingPaper) -> None:
        del self._resting[one.market.key][one.intent.client_order_id]
        self._follow(one.market)

    def _follow(self, market: Market) -> None:
        """Follow a market while something rests in it, or is held."""
        key = market.key
        wanted = bool(self._resting.get(key)) or (market.kind != "spot" and bool(self._money.held(key)))
        if wanted and key not in self._unwatch and self._watch is not None:
            self._unwatch[key] = self._watch(
                market, lambda: self._on_book(market), lambda trade: self._on_trade(market, trade)
            )
        elif not wanted and key in self._unwatch:
            self._unwatch.pop(key)()

    def _on_book(self, market: Market) -> None:
        book = self._book_of(market)
        if book is None:
            return
        for one in list(self._resting.get(market.key, {}).values()):
            wanted = msgspec.structs.replace(one.intent, quantity=one.left)
            for price, quantity in list(self._match(market, wanted)):
                self._remember(market, one.side, price, quantity)
                self._fill_resting(one, quantity)
            one.shrink_queue(book)
        self._liquidate()

    # -- liquidation --------------------------------------------------------------------------------------------

    def _liquidate(self) -> None:
        """Close, at its liquidation price, what the exchange would not let stand; what rests there goes first."""
        while (found := due(self._money, self._markets, self._mark_of)) is not None:
            market, price = found
            for one in list(self._resting.get(market.key, {}).values()):
                self._later(self._end(one))
            held = self._money.held(market.key)
            intent = OrderIntent(
                client_order_id=f"autoclose-paper-{self._begun_ns}-{len(self._orders)}",
                trade_id="",
                account_id=self.account_id,
                market=market.key,
                leg=0,
                attempt=0,
                side="sell" if held > 0 else "buy",
                kind=OrderKind.LIQUIDATION,
                price=price,
                quantity=abs(held),
                reduce_only=True,
                deadline_ns=0,
                created_ns=0,
            )
            fill = self._fill(market, intent, 0, price, intent.quantity, "taker")
            now = self._clock.time_ns()
            event = OrderEvent(
                account_id=self.account_id,
                market=market.key,
                client_order_id=intent.client_order_id,
                exchange_order_id=f"paper-{intent.client_order_id}",
                state=OrderState.FILLED,
                filled=intent.quantity,
                fills=(msgspec.structs.replace(fill, forced=Forced.LIQUIDATION.value),),
                source="stream",
                exchange_ns=now,
                received_ns=now,
            )
            self._orders[intent.client_order_id] = event
            self._liquidated.add(market.key)
            self._follow(market)
            self._later(event)

    def _on_trade(self, market: Market, trade: PublicTrade) -> None:
        for one, quantity in met_by_trade(list(self._resting.get(market.key, {}).values()), trade):
            self._fill_resting(one, quantity)

    def _fill_resting(self, one: RestingPaper, quantity: Decimal) -> None:
        """Fill a part of what rests, at its limit; the news arrives a way later."""
        released = one.held if quantity == one.left else one.held * quantity / one.left
        one.held -= released
        one.left -= quantity
        self._money.hold(one.asset, -released)
        client_id = one.intent.client_order_id
        before = self._orders[client_id]
        fill = self._fill(one.market, one.intent, len(before.fills), one.intent.price, quantity, "maker")
        fills = (*before.fills, fill)
        now = self._clock.time_ns()
        event = msgspec.structs.replace(
            before,
            state=OrderState.PARTIALLY_FILLED if one.left else OrderState.FILLED,
            filled=sum((each.quantity for each in fills), ZERO),
            fills=fills,
            exchange_ns=now,
            received_ns=now,
        )
        self._orders[client_id] = event
        if not one.left:
            self._rest_no_more(one)
        self._follow(one.market)
        self._later(event)

    def _later(self, event: OrderEvent) -> None:
        """Tell what happened at the exchange a way later."""
        task = asyncio.get_running_loop().create_task(self._tell_later(event))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_later(self, event: OrderEvent) -> None:
        await self._clock.sleep(self._one_way)
        self._tell(event)
        self._tell_balances(self._assets_of(self._markets[event.market]))

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

    def _assets_of(self, market: Market) -> set[str]:
        return {market.base, market.quote} if market.kind == "spot" else {settle_of(market)}

    def _balance(self, asset: str) -> AccountBalance:
        return AccountBalance(
            account_id=self.account_id,
            asset=asset,
            free=self._money.free.get(asset, ZERO),
            used=self._money.used.get(asset, ZERO),
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
