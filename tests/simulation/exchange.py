"""A spot exchange as a model: its books, orders, fills and balances, and the client ids it takes a second time.

It knows nothing of the engine. What it keeps is the truth that a history is judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

D = Decimal
ZERO, ONE = D(0), D(1)
OPEN = frozenset({"NEW", "PARTIALLY_FILLED"})
FEE_DIGITS = D("1e-10")


@dataclass(slots=True)
class Execution:
    """One fill. ``fee`` is what was really taken; the exchange names it from ``fee_known_at`` on."""

    trade_id: str
    order_id: str
    client_id: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    at: float
    fee_known_at: float = 0.0


@dataclass(slots=True)
class SimOrder:
    """An order on the exchange. ``status`` is in the exchange's words."""

    order_id: str
    client_id: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    accepted_at: float
    status: str = "NEW"
    fills: list[Execution] = field(default_factory=list)
    rests: bool = False  # it was asked to; any other ends by itself
    shown_quantity: Decimal = ZERO  # what it asks for on the book; less than was sent where the exchange cut it
    held: Decimal = ZERO  # of the asset it pays with, while it is open
    unfindable: bool = False  # by its client id, once it has ended
    forgotten: bool = False  # the exchange restored an older state that does not know it

    @property
    def filled(self) -> Decimal:
        return sum((fill.quantity for fill in self.fills), ZERO)


@dataclass(slots=True)
class Report:
    """What the private stream or an answer says of an order at one moment."""

    order_id: str
    client_id: str
    symbol: str
    status: str
    filled: Decimal | None
    executions: tuple[Execution, ...]
    at: float


@dataclass(slots=True)
class Request:
    """A placement as it arrives. ``turn`` is what this exchange does with it beyond the ordinary."""

    client_id: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    sent_at: float
    turn: Turn | None = None
    rests: bool = False


@dataclass(slots=True)
class Turn:
    """What the exchange itself does to one order.

    ``most`` is the share of the quantity its book can fill, ``rests`` leaves the rest working as if it had been asked
    to, ``over`` fills more than was ordered, ``late`` fills (a share) after it was reported cancelled, ``cut`` takes
    the quantity in coarser lots, ``vanish_at`` is when an older state is restored that does not know the order.
    """

    most: Decimal | None = None
    rests: bool = False
    over: Decimal = ZERO
    late: Decimal | None = None
    late_after: float = 0.5
    cut: Decimal = ZERO
    vanish_after: float = 0.0
    fee_factor: Decimal = ONE
    fee_asset: str = ""
    fee_after: float = 0.0
    fills_by: float = 0.0  # a resting order fills by itself after so long
    pieces: int = 1  # a fill comes in so many executions


class Refused(Exception):
    """The exchange's definite no: (code, message)."""


class Exchange:
    """One exchange with one account of ours.

    ``now`` tells its time, ``later`` calls back after so many seconds, ``tell`` is its private stream.
    """

    def __init__(
        self,
        code: str,
        balances: dict[str, Decimal],
        *,
        now: Callable[[], float],
        later: Callable[..., object],
        lot: Decimal,
        min_notional: Decimal,
        fee: Decimal,
    ) -> None:
        self.code = code
        self.now = now
        self.later = later
        self.lot, self.min_notional, self.fee = lot, min_notional, fee
        self.start = dict(balances)
        self.free = dict(balances)
        self.used = dict.fromkeys(balances, ZERO)
        self.moved: dict[str, Decimal] = dict.fromkeys(balances, ZERO)  # by hand: deposits, withdrawals
        self.bids: list[list[Decimal]] = []
        self.asks: list[list[Decimal]] = []
        self.orders: list[SimOrder] = []
        self.by_client: dict[str, list[SimOrder]] = {}
        self.executions: list[Execution] = []
        self.taken_back: list[Execution] = []
        self.tell: Callable[[Report], None] = lambda report: None
        self.refusing: tuple[str, str] | None = None  # every placement, and why
        self.hide_seconds = 0.0  # for so long questions do not see a new order
        self.fills_hidden_seconds = 0.0  # for so long they do not see a new fill
        self.forgets_closed = False  # a closed order is found by its client id no more
        self.nameless = False  # executions are listed without the client id
        self.blind_until = 0.0  # until then a replica that has fallen behind answers
        self._blinked: set[str] = set()
        self._count = 0
        self.on_late: Callable[[int], None] = lambda change: None

    # -- what the account asks for

    def place(self, request: Request, window: float) -> SimOrder:
        """Take an order; raise Refused. A client id is refused only while an OPEN order has it."""
        if self.now() - request.sent_at > window:
            raise Refused("-1021", "Timestamp for this request is outside of the recvWindow.")
        if self.refusing is not None:
            raise Refused(*self.refusing)
        if any(order.status in OPEN for order in self.by_client.get(request.client_id, ())):
            raise Refused("-2010", "Duplicate order sent.")
        if request.quantity <= 0 or request.quantity % self.lot or request.quantity * request.price < self.min_notional:
            raise Refused("-1013", "Filter failure")
        base, quote = request.symbol.split("/")
        asset, amount = (quote, request.quantity * request.price) if request.side == "buy" else (base, request.quantity)
        if self.free[asset] < amount:
            raise Refused("-2010", "Account has insufficient balance for requested action.")
        turn = request.turn or Turn()
        order = self._take(request.client_id, request.symbol, request.side, request.price, request.quantity)
        order.rests = request.rests
        if turn.cut:
            order.shown_quantity = (order.quantity / turn.cut).to_integral_value(rounding=ROUND_DOWN) * turn.cut
        self._report(order, ())
        most = order.shown_quantity if turn.most is None else self._lots(order.shown_quantity * turn.most)
        self._match(order, most, turn)
        if turn.over:
            self._execute(order, order.price, turn.over, turn)
        self._settle_remainder(order, turn)
        if turn.late is not None:
            self.on_late(1)
            self.later(turn.late_after, self._fill_late, order, self._lots(order.quantity * turn.late), turn)
        if turn.vanish_after:
            self.on_late(1)
            self.later(turn.vanish_after, self._vanish, order)
        return order

    def cancel(self, client_id: str) -> None:
        """Cancel an open order; raise Refused when there is none."""
        for order in self.by_client.get(client_id, ()):
            if order.status in OPEN and not order.forgotten:
                self._end(order, "CANCELED")
                return
        raise Refused("-2011", "Unknown order sent.")

    def find(self, client_id: str) -> SimOrder | None:
        """Return the newest order with a client id, if the part of the exchange that answers questions has it yet."""
        if self.blinks(client_id):
            return None
        found = [
            order
            for order in self.by_client.get(client_id, ())
            if not order.forgotten and (order.status in OPEN or not order.unfindable)
        ]
        return found[-1] if found and self.now() - found[-1].accepted_at >= self.hide_seconds else None

    def open(self) -> Iterator[SimOrder]:
        return (order for order in self.orders if order.status in OPEN and not order.forgotten)

    @property
    def is_blind(self) -> bool:
        """Whether lists are shown by a replica that has fallen behind, and shows nothing."""
        return self.now() < self.blind_until

    def blinks(self, client_id: str) -> bool:
        """Return whether an order is asked about for the first time while that replica answers; the next time it
        knows."""
        if not self.is_blind or client_id in self._blinked:
            return False
        self._blinked.add(client_id)
        return True

    def visible(self, fill: Execution) -> bool:
        return self.now() - fill.at >= self.fills_hidden_seconds

    def report(self, order: SimOrder) -> Report:
        """Return an order as a question shows it."""
        shown = tuple(fill for fill in order.fills if self.visible(fill))
        return Report(order.order_id, order.client_id, order.symbol, order.status, order.filled, shown, self.now())

    # -- what happens by itself

    def by_hand(self, symbol: str, side: str, quantity: Decimal, client_id: str) -> None:
        """Trade for the account's owner, as if on the exchange's own page."""
        side_book = self.asks if side == "buy" else self.bids
        if side_book:
            order = self._take(client_id, symbol, side, side_book[0][0], quantity)
            self._report(order, ())
            self._execute(order, side_book[0][0], quantity, Turn())
            self._settle_remainder(order, Turn())

    def rest_by_hand(self, symbol: str, side: str, price: Decimal, quantity: Decimal, client_id: str) -> None:
        """Let the account's owner leave an order on the book."""
        self._report(self._take(client_id, symbol, side, price, quantity), ())

    def take_back(self, fill: Execution) -> None:
        """Take an execution back, as an exchange does with trades at a wrong price: its money goes back, and it is
        listed no more. Nobody is told."""
        base, quote = fill.symbol.split("/")
        sign = 1 if fill.side == "buy" else -1
        self.free[base] -= sign * fill.quantity
        self.free[quote] += sign * fill.quantity * fill.price
        self.free[fill.fee_asset] += fill.fee
        self.executions.remove(fill)
        self.taken_back.append(fill)

    def transfer(self, asset: str, amount: Decimal) -> None:
        self.free[asset] += amount
        self.moved[asset] += amount

    def fill_rest(self, order: SimOrder) -> None:
        """Let an open order fill to its end."""
        if order.status in OPEN and not order.forgotten:
            self._execute(order, order.price, order.shown_quantity - order.filled, Turn())

    def resting(self) -> list[SimOrder]:
        """Return what rests on the book because it was asked to."""
        return [order for order in self.orders if order.rests and order.status in OPEN and not order.forgotten]

    def meet(self, order: SimOrder, share: Decimal) -> None:
        """Let others trade with an order at rest: whoever's price has reached it, and a taker of a share of it."""
        self._match(order, order.shown_quantity - order.filled, Turn())
        quantity = self._lots((order.shown_quantity - order.filled) * share)
        if quantity > 0 and order.status in OPEN:
            self._execute(order, order.price, quantity, Turn())

    # -- inside

    def _lots(self, quantity: Decimal) -> Decimal:
        return (quantity / self.lot).to_integral_value(rounding=ROUND_DOWN) * self.lot

    def _take(self, client_id: str, symbol: str, side: str, price: Decimal, quantity: Decimal) -> SimOrder:
        self._count += 1
        order = SimOrder(f"{self.code}{self._count}", client_id, symbol, side, price, quantity, self.now())
        order.shown_quantity = quantity
        order.unfindable = self.forgets_closed
        self.orders.append(order)
        self.by_client.setdefault(client_id, []).append(order)
        asset = self._pays(order)
        order.held = quantity * price if side == "buy" else quantity
        self.free[asset] -= order.held
        self.used[asset] += order.held
        return order

    @staticmethod
    def _pays(order: SimOrder) -> str:
        base, quote = order.symbol.split("/")
        return quote if order.side == "buy" else base

    def _match(self, order: SimOrder, most: Decimal, turn: Turn) -> None:
        levels = self.asks if order.side == "buy" else self.bids
        left = most
        for level in levels:
            price, size = level
            if left <= 0 or (price > order.price if order.side == "buy" else price < order.price):
                break
            quantity = self._lots(min(left, size))
            if quantity <= 0:
                continue
            level[1] = size - quantity
            left -= quantity
            for piece in self._pieces(quantity, turn.pieces):
                self._execute(order, price, piece, turn)
        levels[:] = [level for level in levels if level[1] > 0]

    def _pieces(self, quantity: Decimal, pieces: int) -> Iterator[Decimal]:
        part = self._lots(quantity / pieces)
        for _ in range(pieces - 1):
            if part:
                yield part
                quantity -= part
        yield quantity

    def _execute(self, order: SimOrder, price: Decimal, quantity: Decimal, turn: Turn) -> None:
        """Fill a part: move the money, the fee from what is received (or from another asset), and tell."""
        base, quote = order.symbol.split("/")
        receives, gets = (base, quantity) if order.side == "buy" else (quote, quantity * price)
        pays, gives = (quote, quantity * price) if order.side == "buy" else (base, quantity)
        fee_asset = turn.fee_asset or receives
        fee = gets * self.fee * turn.fee_factor if not turn.fee_asset else quantity * price * self.fee / D(500)
        fee = fee.quantize(FEE_DIGITS, rounding=ROUND_DOWN)
        released = min(order.held, quantity * order.price if order.side == "buy" else quantity)
        order.held -= released
        self.used[pays] -= released
        self.free[pays] += released - gives
        self.free[receives] += gets
        self.free[fee_asset] -= fee
        fill = Execution(
            f"{self.code}t{len(self.executions) + len(self.taken_back) + 1}",
            order.order_id, order.client_id, order.symbol, order.side,
            price, quantity, fee, fee_asset, self.now(), self.now() + turn.fee_after,
        )  # fmt: skip
        order.fills.append(fill)
        self.executions.append(fill)
        if order.status in OPEN:
            order.status = "FILLED" if order.filled >= order.shown_quantity else "PARTIALLY_FILLED"
        self._report(order, (fill,))
        if order.status == "FILLED":
            self._release(order)

    def _settle_remainder(self, order: SimOrder, turn: Turn) -> None:
        if order.status not in OPEN:
            return
        if not turn.rests and not order.rests:
            self._end(order, "EXPIRED")
        elif turn.fills_by:
            self.on_late(1)
            self.later(turn.fills_by, self._fill_rest, order)

    def _fill_rest(self, order: SimOrder) -> None:
        self.on_late(-1)
        self.fill_rest(order)

    def _fill_late(self, order: SimOrder, quantity: Decimal, turn: Turn) -> None:
        """Fill after the order was reported as ended: the two came out of different machines."""
        self.on_late(-1)
        quantity = min(quantity, order.quantity - order.filled)
        if quantity > 0 and order.status not in OPEN:
            self._execute(order, order.price, quantity, turn)

    def _vanish(self, order: SimOrder) -> None:
        self.on_late(-1)
        if order.status in OPEN and not order.fills:
            order.forgotten = True
            self._release(order)

    def _end(self, order: SimOrder, status: str) -> None:
        order.status = status
        self._release(order)
        self._report(order, ())

    def _release(self, order: SimOrder) -> None:
        asset = self._pays(order)
        self.used[asset] -= order.held
        self.free[asset] += order.held
        order.held = ZERO

    def _report(self, order: SimOrder, executions: tuple[Execution, ...]) -> None:
        self.tell(
            Report(order.order_id, order.client_id, order.symbol, order.status, order.filled, executions, self.now())
        )
