"""What every trade of one engine works with: store, money, venues, markets, prices, clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

import msgspec

from risk.policy.switch import NORMAL, SwitchState
from trading.execution.explained import Explained
from trading.execution.footprints import Footprint, Footprints
from trading.execution.holdings import Holdings
from trading.execution.ids import Ids
from trading.execution.ladder import Ladder
from trading.execution.latency import Stages
from trading.execution.pricing import WorkingStyle
from trading.execution.resting import RestingOrders
from trading.execution.tally import Tally
from trading.execution.waiting import Signal
from trading.instruments import Market, Side
from trading.marketdata.book import Book
from trading.marketdata.hub import MarketState
from trading.messages import OrderIntent, Outcome
from trading.portfolio import Portfolio, Purse
from trading.ports import Clock, Publisher, Store, Venue, Watch

LIVE = "live"
ANSWER_WEIGHT = 0.2  # of the newest answer in the smoothed time
MINUTE_NS = 60 * 10**9
MARK_NS = 10 * 10**9  # a mark price that is older than this is none
ERROR_WEIGHT = 0.05  # of the newest answer in the smoothed share of errors


class TradeTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a trade takes over from its bot when it is opened; later changes of the bot don't touch it.

    ``purses`` says whose money pays on each exchange, by exchange code.
    """

    bot_name: str
    paper: bool
    purses: Mapping[str, Purse]
    max_book_age_ms: float
    price_tolerance_bps: float
    order_timeout_ms: float
    ladder: Ladder
    # What may hedge a leg besides the trade's own markets: keys of all the bot's markets.
    markets: tuple[str, ...] = ()
    account: str = ""  # label of the account of a ticket
    # How a missing leg is worked before the ladder completes it at the market's price; None: it is not.
    completion: WorkingStyle | None = None
    leverage: int | None = None  # of a linear contract's margin; None: as if it were one


class Desk:
    """Shared by an engine and its trades.

    ``halted`` is set for good once the lease is lost, ``may_send`` says at any moment whether it may have passed on:
    nothing is sent then.
    """

    def __init__(
        self,
        *,
        owner_id: int,
        ids: Ids,
        store: Store,
        publisher: Publisher,
        clock: Clock,
        state_of: Callable[[Market], MarketState | None],
        tradable: Callable[[MarketState, float], bool],
        watch: Watch,
        on_alarm: Callable[[str], None],
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        self.owner_id = owner_id
        self.ids = ids
        self.store = store
        self.publisher = publisher
        self.clock = clock
        self.portfolio = Portfolio()
        self.explained = Explained()
        self.footprints = Footprints()
        self.resting = RestingOrders()
        self.status_questions = 0  # how often an exchange was asked about an order of ours
        self.watch = watch
        self.stages = Stages()
        self.tally = Tally()
        self.markets: dict[str, Market] = {}
        self.venues: dict[Purse, Venue] = {}
        self.live_purses: set[Purse] = set()
        self.answer_seconds: dict[Purse, float] = {}  # to placements, smoothed
        self._sent: deque[int] = deque()  # when (monotonic) orders left, of the last minute
        self._promised: set[str] = set()  # orders of trades that were decided, until they leave or are given up
        self.answered = Signal()  # that one of them has changed
        self.error_share: dict[Purse, float] = {}  # of placements whose outcome stayed unknown at first, smoothed
        self.on_answer: Callable[[OrderIntent, Outcome, float], None] = lambda intent, outcome, seconds: None
        self.halted = ""
        self.stopping = False  # nothing new is begun, and nothing is left resting
        self.switch_of: Callable[[int], SwitchState] = lambda bot_id: NORMAL
        self.market_state = state_of  # what is known of a market that is followed, else None
        self.tradable = tradable  # whether it may be traded on now, with data of at most so many milliseconds
        self.alarm = on_alarm
        self.holdings = Holdings(clock)
        self.may_send = may_send

    def note_answer(self, purse: Purse, intent: OrderIntent, outcome: Outcome, seconds: float) -> None:
        """Count how long an account's exchange took to answer a placement, and what it answered."""
        known = self.answer_seconds.get(purse, seconds)
        self.answer_seconds[purse] = known + ANSWER_WEIGHT * (seconds - known)
        share = self.error_share.get(purse, 0.0)
        self.error_share[purse] = share + ERROR_WEIGHT * ((outcome is Outcome.UNKNOWN) - share)
        self.answered.notify()
        if not purse.paper:
            self.on_answer(intent, outcome, seconds)

    def promise(self, intents: Iterable[OrderIntent]) -> None:
        """Count orders from their decision on: another trade is decided before they have left."""
        self._promised.update(intent.client_order_id for intent in intents)

    def note_sent(self, client_order_id: str) -> None:
        """Count an order that leaves."""
        self._promised.discard(client_order_id)
        self._sent.append(self.clock.monotonic_ns())

    def orders_last_minute(self, now_ns: int) -> int:
        """Return how many orders left within the minute before ``now_ns`` (monotonic), or are about to."""
        sent = self._sent
        while sent and sent[0] <= now_ns - MINUTE_NS:
            sent.popleft()
        return len(sent) + len(self._promised)

    def release_budget(self, intent: OrderIntent) -> None:
        """Give back the request budget of an order that will not be sent."""
        self._promised.discard(intent.client_order_id)
        for purse, venue in self.venues.items():
            if purse.account_id == intent.account_id:
                venue.release_order(intent.client_order_id)

    def fresh_book(self, market: Market, max_age_ms: float) -> Book | None:
        """Return the market's book if it may be traded on now: live, following, uncrossed and young enough."""
        state = self.market_state(market)
        return state.book if state is not None and self.tradable(state, max_age_ms) else None

    def own_trace(self, market: Market, side: Side, purse: Purse) -> str:
        """Say why an order of this side would meet a book that may show our own doing; empty when it doesn't."""
        state = self.market_state(market)
        if state is None:
            return ""
        footprint = Footprint(market.key, side, purse.paper)
        return self.footprints.refusal(footprint, state.book_monotonic_ns, self.clock.monotonic_ns())

    def mid(self, market: Market) -> float | None:
        """Return the mid price of a live market."""
        state = self.market_state(market)
        if state is None or state.status != LIVE or state.bid <= 0 or state.ask <= 0:
            return None
        return (state.bid + state.ask) / 2

    def middle(self, market: Market) -> Decimal | None:
        """Return the mid price of a live market as money is reckoned with."""
        mid = self.mid(market)
        return None if mid is None else Decimal(repr(mid))

    def mark(self, market: Market) -> Decimal | None:
        """Return what a position in a market is valued by: the exchange's mark price while it tells one, else the
        middle of the book."""
        state = self.market_state(market)
        funding = None if state is None else state.funding
        if funding is not None and funding.mark > 0 and self.clock.time_ns() - funding.received_ns <= MARK_NS:
            return Decimal(repr(funding.mark))
        return self.middle(market)

    def value(self, asset: str, quote: str) -> Decimal | None:
        """Return the price of ``asset`` in ``quote`` from a live market of ours, or None."""
        for market in self.markets.values():
            if (market.base, market.quote, market.kind) == (asset, quote, "spot"):
                mid = self.mid(market)
                if mid is not None:
                    return Decimal(repr(mid))
        return None
