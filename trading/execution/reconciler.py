"""Compares every account with its exchange now and then, and on request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from trading.execution.desk import Desk
from trading.execution.holdings import read_holdings
from trading.execution.ids import is_ours
from trading.execution.reconciliation import (
    LOOK_BACK_NS,
    MARGIN_NS,
    OF_LEDGER,
    ZERO,
    DifferenceCause,
    DifferenceKind,
    Executions,
    Expected,
    Findings,
    Reading,
    Reconciliation,
    assets_of,
    compare,
    differing,
    explained_contracts,
)
from trading.execution.waiting import Signal
from trading.messages import Fill, OrderEvent, OrderState
from trading.portfolio import Purse
from trading.ports import LeaseLost, StoreUnavailable, Venue

# Differences that may be a fault of ours; what people do with their account by hand is none.
SERIOUS = frozenset(
    {
        DifferenceCause.UNKNOWN_ORDER,
        DifferenceCause.TAKEN_BACK,
        DifferenceCause.WITHDRAWAL,
        DifferenceCause.LIQUIDATION,
        DifferenceCause.DELEVERAGING,
        DifferenceCause.SETTLEMENT,
        DifferenceCause.UNEXPLAINED,
    }
)
FIRST_SECONDS = 5.0  # after the start: what streams and sweeps bring comes first
RECONCILE_SECONDS = 60.0
RETRY_SECONDS = 1.0
STRANGERS_SECONDS = 5.0
# An account that trades is rarely quiet. Waiting for it to be costs nothing, a comparison costs requests; the next
# round comes anyway.
QUIET_SECONDS, QUIET_PAUSE_SECONDS = 10.0, 0.1
TRIES = 4
# An account that is never quiet by itself takes no new trades while it is compared, after so many rounds in vain; the
# first time it doesn't in any case, so that what a process found when it started is known soon.
PATIENT_ROUNDS = 3
# An exchange's balances may lag behind its executions: amounts count when they are still the same so much later.
CONFIRM_SECONDS = 3.0
UNDER_WAY = "orders are under way"
CLOSED_BY_EXCHANGE = "what the exchange closed by itself was booked meanwhile"
TO_CONFIRM = "balances differ, and do not stay the same"
LONGEST_NS = 24 * 3600 * 10**9  # how far back executions are asked for when the books have not matched for long


class Outcome(msgspec.Struct, frozen=True):
    """What came of looking at one account: compared or not (then why), and how many differences it has."""

    account_id: int
    compared: bool
    differences: int = 0
    why: str = ""


class Reconciler:
    """Looks at the accounts of one engine that have a private stream.

    ``in_flight`` returns the assets that orders without a known outcome may have moved, None while anything else of
    ours is under way on the account. ``activity`` is a number that changes whenever something happens on it.
    ``on_order`` takes what turned out to be news of our orders; ``on_change`` is called when an account's fault may
    have changed, ``on_quiet_over`` when one that had to be quiet may trade again, ``on_difference`` when books and
    exchange have come to differ in what may be a fault of ours, ``on_open_orders`` of ours that the exchange has open,
    ``on_forced`` when executions of the exchange's own orders are in no book, with what the books hold by holding: it
    says whether any of them was booked.
    """

    def __init__(
        self,
        desk: Desk,
        prefix: str,
        *,
        in_flight: Callable[[Purse], frozenset[str] | None],
        activity: Callable[[Purse], object],
        on_order: Callable[[Purse, OrderEvent], None],
        on_change: Callable[[], None],
        on_quiet_over: Callable[[], None],
        on_difference: Callable[[Purse, str], None],
        on_open_orders: Callable[[Purse, Sequence[OrderEvent]], None] = lambda purse, events: None,
        on_forced: Callable[[Purse, Sequence[Fill], Mapping[str, Decimal]], bool] = lambda purse, fills, books: False,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._desk = desk
        self._prefix = prefix
        self._in_flight = in_flight
        self._activity = activity
        self._on_order = on_order
        self._on_change = on_change
        self._on_quiet_over = on_quiet_over
        self._on_difference = on_difference
        self._on_open_orders = on_open_orders
        self._on_forced = on_forced
        self._faults: dict[Purse, str] = {}
        self._strangers: dict[Purse, dict[str, str]] = {}  # orders of ours that no book knows, with their markets
        self._dismissed: set[str] = set()  # those of them that a person has looked at
        self._hurry = False
        self._read_once: set[Purse] = set()  # what the last comparison found is known
        self._wanted: set[Purse] = set()  # to be read as soon as may be
        self._wake = Signal()
        self._amounts: dict[Purse, Mapping[str, Decimal | None]] = {}  # by which balances differed when last looked at
        self._alarmed: dict[Purse, Mapping[str, Decimal | None]] = {}  # by which positions differed, by holding
        self._seen: dict[Purse, tuple[Mapping[str, Decimal], Executions]] = {}  # amounts, and what explained them
        self._put_off: Counter[Purse] = Counter()  # rounds in a row that found no quiet moment
        self._compared: set[Purse] = set()  # at least once
        self._opened: dict[Purse, int] = {}  # when (monotonic) its books were first seen to be open
        self._opening_proven: set[Purse] = set()  # what was taken back before their books were opened is known
        self._known_since: dict[Purse, dict[tuple[str, str], int]] = {}  # (monotonic), by execution booked
        self.quieted: set[Purse] = set()  # takes no new trades, so that it can be compared
        self._one_at_a_time = asyncio.Lock()

    def fault(self, purse: Purse) -> str:
        """Return why an account takes no new trades as far as its orders on the exchange go, or an empty string.

        What the last comparison found, be it another process's, holds until the next: an account that nothing is
        known of yet is read first.
        """
        if purse.paper or purse in self._read_once:
            return self._faults.get(purse, "")
        self._wanted.add(purse)
        self._wake.notify()
        return f"account {purse.account_id}: what the last comparison found is being read"

    def needs_quiet(self, purse: Purse) -> str:
        """Return why an account begins no trade for a moment though nothing is wrong with it, or an empty string."""
        if purse not in self.quieted:
            return ""
        return (
            f"account {purse.account_id}: it is being compared with its exchange, for which it has to be quiet for a "
            f"moment (put off {self._put_off[purse]} times)"
        )

    def is_reading(self, purse: Purse) -> bool:
        """Return whether an account's fault is only that nothing is known of it yet."""
        return not purse.paper and purse not in self._read_once

    def meet_stranger(self, purse: Purse, client_id: str, market: str) -> None:
        """Block an account on whose stream an order of ours has shown up that no book knows; look at it soon."""
        self._strangers.setdefault(purse, {})[client_id] = market
        self._block(purse, ())
        self.look_soon()

    def knows_stranger(self, client_id: str) -> bool:
        """Return whether an order is one that is known to be in no book."""
        return any(client_id in orders for orders in self._strangers.values())

    def look_soon(self) -> None:
        """Look at all accounts as soon as may be: something happened on one that is no doing of ours."""
        self._hurry = True
        self._wake.notify()

    async def run(self) -> None:
        """Look at all accounts every minute until cancelled."""
        clock = self._desk.clock
        look_at = clock.monotonic_ns() + int(FIRST_SECONDS * 1e9)
        retry = 0.0
        while True:
            seconds = (look_at - clock.monotonic_ns()) / 1e9
            if self._wanted:
                seconds = min(seconds, retry)
            await self._wake.wait(clock, seconds)
            retry = 0.0 if await self._read_wanted() else RETRY_SECONDS
            if self._hurry or clock.monotonic_ns() >= look_at:
                self._hurry = False
                outcomes = await self.look()
                put_off = {outcome.account_id for outcome in outcomes if not outcome.compared}
                # An order of ours that no book knows is to stand in one soon: until then only this process knows it.
                waiting = any(purse.account_id in put_off for purse in self._strangers)
                # What a sweep brings is news before its account counts as live.
                seconds = STRANGERS_SECONDS if waiting else RECONCILE_SECONDS if outcomes else FIRST_SECONDS
                look_at = clock.monotonic_ns() + int(seconds * 1e9)

    async def _read_wanted(self) -> bool:
        """Read what the last comparison found of accounts that nothing is known of; False if the store is away."""
        for purse in sorted(self._wanted, key=lambda purse: purse.account_id):
            try:
                expected = await self._desk.store.expected(purse.account_id)
            except (StoreUnavailable, LeaseLost):
                return False
            except Exception as error:  # that account stays as it is, the others are looked at
                self._desk.alarm(
                    f"account {purse.account_id}: its books can't be read: {type(error).__name__}: {error}"
                )
                self._wanted.discard(purse)
                continue
            self._wanted.discard(purse)
            self._read_once.add(purse)
            self._block(purse, expected.unknown_orders)
            self._on_change()
        return True

    async def look(self) -> list[Outcome]:
        """Compare every account that is live now; whatever goes wrong with one stops no other."""
        async with self._one_at_a_time:
            return [await self._look_and_count(purse) for purse in self._purses()]

    def _purses(self) -> list[Purse]:
        live = [purse for purse in self._desk.live_purses if not purse.paper]
        return sorted(live, key=lambda purse: purse.account_id)

    async def _look_and_count(self, purse: Purse) -> Outcome:
        """Compare an account; one that trades all the time is kept from new trades for that long."""
        if self._put_off[purse] >= PATIENT_ROUNDS or purse not in self._compared:
            self.quieted.add(purse)
        try:
            outcome = await self._look_at(purse)
        finally:
            if purse in self.quieted:
                self.quieted.discard(purse)
                self._on_quiet_over()
        self._put_off[purse] = 0 if outcome.compared else self._put_off[purse] + 1
        if outcome.compared:
            self._compared.add(purse)
        return outcome

    async def _look_at(self, purse: Purse) -> Outcome:
        clock = self._desk.clock
        deadline_ns = clock.monotonic_ns() + int(QUIET_SECONDS * 1e9)
        why, tries = UNDER_WAY, 0
        while tries < TRIES and clock.monotonic_ns() < deadline_ns:
            if self._in_flight(purse) is None:
                await clock.sleep(QUIET_PAUSE_SECONDS)
                continue
            tries += 1
            try:
                result = await self._attempt(purse)
            except (StoreUnavailable, LeaseLost) as error:
                return Outcome(purse.account_id, False, why=str(error))
            except Exception as error:
                self._desk.alarm(f"account {purse.account_id} can't be reconciled: {type(error).__name__}: {error}")
                return Outcome(purse.account_id, False, why=f"{type(error).__name__}: {error}")
            if not isinstance(result, str):
                self.counters["reconciliations"] += 1
                return Outcome(purse.account_id, True, len(result.differences))
            why = result
            await clock.sleep(CONFIRM_SECONDS if why == TO_CONFIRM else QUIET_PAUSE_SECONDS)
        self.counters["reconciliations_put_off"] += 1
        return Outcome(purse.account_id, False, why=why)

    async def _attempt(self, purse: Purse) -> Findings | str:
        """Compare one account once; return why it could not be if its figures may not belong together."""
        store, clock = self._desk.store, self._desk.clock
        begun = self._activity(purse)
        left_out = self._in_flight(purse)
        if left_out is None:
            return UNDER_WAY
        await store.flush()
        before = await store.expected(purse.account_id)
        venue = self._desk.venues[purse]
        reading = await self._read(venue, purse, before, left_out)
        if isinstance(reading, str):
            return reading
        reports: Sequence[OrderEvent | Fill] = [*reading.open_orders, *reading.executions.fills]
        await store.flush()
        expected = await store.expected(
            purse.account_id,
            client_order_ids=frozenset(report.client_order_id for report in reports if report.client_order_id),
            exchange_order_ids=frozenset(report.exchange_order_id for report in reports if report.exchange_order_id),
        )
        if (self._activity(purse), self._in_flight(purse)) != (begun, left_out) or expected.balances != before.balances:
            return UNDER_WAY
        findings = compare(
            expected, reading, self._desk.markets, self._ours, left_out, strangers=self._strangers.get(purse, {})
        )
        self._take_news(purse, findings)
        books = {f"{venue.exchange}:{asset}": amount for asset, amount in expected.balances.items()}
        if findings.forced and self._on_forced(purse, findings.forced, books):
            return CLOSED_BY_EXCHANGE
        self._on_open_orders(purse, findings.open_ours)
        if not self._is_confirmed(purse, findings):
            return TO_CONFIRM
        self._judge(purse, expected, findings)
        if findings.balances_compared or findings.opening is not None:
            contracts = explained_contracts(expected, reading, findings, left_out)
            self._desk.holdings.agree(
                purse.account_id, {f"{venue.exchange}:{symbol}": amount for symbol, amount in contracts.items()}
            )
        new = await store.record_reconciliation(
            Reconciliation(
                account_id=purse.account_id,
                findings=findings,
                ledger=expected.balances,
                left_out=left_out,
                at_ns=clock.time_ns(),
            )
        )
        self.counters["incomes"] += len(findings.incomes)
        self._tell_positions(purse, findings)
        if new:
            self.counters["differences"] += new
            self._desk.alarm(f"account {purse.account_id}: {new} new differences between our books and the exchange")
            serious = sorted(
                {one.cause.value.replace("_", " ") for one in findings.differences if one.cause in SERIOUS}
            )
            if serious:
                self._on_difference(purse, ", ".join(serious))
        return findings

    async def _read(self, venue: Venue, purse: Purse, books: Expected, left_out: frozenset[str]) -> Reading | str:
        """Read the account: balances twice, around everything else, so that it all belongs together."""
        begun_ns = self._desk.clock.monotonic_ns()
        first = await read_holdings(venue)
        orders = await venue.open_orders()
        if orders is None or not first:
            return "the exchange does not tell balances, positions and open orders"
        # Before the books are opened everything on the exchange is news: orders of ours among it must be known.
        # Balances that opened them were taken for granted: what had been taken back by then shows in a list alone.
        everything = not books.opened_ns or self._is_opening_open(purse, books)
        amounts = differing(books, first, left_out)
        if everything:
            amounts = {**dict.fromkeys(first, ZERO), **amounts}
        executions = await self._executions(venue, purse, books, amounts, left_out)
        if isinstance(executions, str):
            return executions
        last = await read_holdings(venue)
        if first != last:
            return "balances moved meanwhile"
        self._seen[purse] = amounts, executions
        if everything and books.opened_ns and self._is_old(self._opened.setdefault(purse, begun_ns), begun_ns):
            self._opening_proven.add(purse)
        return Reading(balances=last, exchange=venue.exchange, open_orders=tuple(orders), executions=executions)

    async def _executions(
        self, venue: Venue, purse: Purse, books: Expected, amounts: Mapping[str, Decimal], left_out: frozenset[str]
    ) -> Executions | str:
        """Return what may explain amounts: executions in the markets of their assets, from before the books last
        matched.

        Books that match need none, and amounts that are what they were are explained by what explained them; that
        saves an account of many markets its request budget. Disputed orders are looked for every time, and so is what
        may have been taken back, as long as executions were too young for a list to prove it.
        """
        due = self._due(purse, books)
        explained, seen = self._seen.get(purse, (None, Executions()))
        if not left_out and explained == amounts and (not amounts or books.fills.keys() <= seen.due):
            return seen
        now_ns = self._desk.clock.time_ns()
        since_ns = max(books.since_ns - LOOK_BACK_NS, now_ns - LONGEST_NS) - MARGIN_NS
        assets = {*amounts, *left_out}
        # The statement's lines are few: asked for as far back as the books are not known to match.
        since_match_ns = (books.since_ns or now_ns) - LOOK_BACK_NS - MARGIN_NS
        incomes = await venue.incomes(since_match_ns) if amounts else ()
        if incomes is None:
            return "the exchange does not tell its statement"
        markets: set[str] = set()
        fills: list[Fill] = []
        for market in list(self._desk.markets.values()):
            if market.exchange == venue.exchange and assets.intersection(assets_of(market)):
                found = await venue.trades(market.key, since_ns)
                if found is None:
                    return f"the exchange does not tell the executions in {market.symbol}"
                fills += found
                markets.add(market.key)
        return Executions(
            fills=tuple(fills), markets=frozenset(markets), since_ns=since_ns, due=due, incomes=tuple(incomes)
        )

    def _due(self, purse: Purse, books: Expected) -> frozenset[tuple[str, str]]:
        """Return the executions booked that have been known for MARGIN_NS."""
        now_ns = self._desk.clock.monotonic_ns()
        before = self._known_since.get(purse, {})
        known = self._known_since[purse] = {key: before.get(key, now_ns) for key in books.fills}
        return frozenset(key for key, since_ns in known.items() if self._is_old(since_ns, now_ns))

    def _is_old(self, since_ns: int, now_ns: int) -> bool:
        return now_ns - since_ns >= MARGIN_NS

    def _is_opening_open(self, purse: Purse, books: Expected) -> bool:
        """Return whether no list has been old enough yet to show what was taken back before the books were opened."""
        return purse not in self._opening_proven and books.since_ns - books.opened_ns <= LOOK_BACK_NS

    def _ours(self, client_id: str) -> bool:
        return is_ours(client_id, self._prefix, self._desk.owner_id)

    def _is_confirmed(self, purse: Purse, findings: Findings) -> bool:
        """Return whether balances differ by what they differed by a moment ago, or not at all."""
        amounts = {one.asset: one.amount for one in findings.differences if one.kind in OF_LEDGER}
        before = self._amounts.get(purse, {})
        self._amounts[purse] = amounts
        return all(before.get(asset) == amount for asset, amount in amounts.items())

    def _tell_positions(self, purse: Purse, findings: Findings) -> None:
        """Alarm each position that the books don't explain, once, and again when it changes."""
        known = self._alarmed.get(purse, {})
        exchange = self._desk.venues[purse].exchange
        found = [one for one in findings.differences if one.kind is DifferenceKind.POSITION]
        for one in found:
            if known.get(one.asset) != one.amount:
                self._desk.alarm(
                    f"account {purse.account_id}: the exchange shows a position of {one.theirs:f} in {exchange}:"
                    f"{one.asset}, our books explain {one.ours:f} (likely cause: {one.cause.value.replace('_', ' ')})"
                )
        self._alarmed[purse] = {one.asset: one.amount for one in found}

    def _take_news(self, purse: Purse, findings: Findings) -> None:
        for fill in findings.missing_fills:
            self.counters["missing_fills"] += 1
            self._on_order(
                purse,
                OrderEvent(
                    account_id=purse.account_id,
                    market=fill.market,
                    client_order_id=fill.client_order_id,
                    exchange_order_id=fill.exchange_order_id,
                    state=OrderState.PARTIALLY_FILLED,
                    fills=(fill,),
                    source="query",
                    cause="found by reconciliation",
                    exchange_ns=fill.exchange_ns,
                    received_ns=self._desk.clock.time_ns(),
                ),
            )
        for event in findings.open_ours:
            self._on_order(purse, event)

    def _judge(self, purse: Purse, expected: Expected, findings: Findings) -> None:
        """Block an account that has orders of ours nobody knows, until a person has dismissed each of them."""
        kind = DifferenceKind.UNKNOWN_ORDER
        found = [one.key for one in findings.differences if one.kind is kind]
        self._dismissed |= {key for its_kind, key in expected.dismissed if its_kind == kind.value}
        unknown = (*expected.unknown_orders, *found)
        known = self.fault(purse)
        self._read_once.add(purse)
        self._wanted.discard(purse)
        self._block(purse, unknown)
        if self.fault(purse) != known:
            self._on_change()

    def _block(self, purse: Purse, unknown: Sequence[str]) -> None:
        self._faults.pop(purse, None)
        every = dict.fromkeys((*unknown, *self._strangers.get(purse, {})))
        blocking = [client_id for client_id in every if client_id not in self._dismissed]
        if blocking:
            self._faults[purse] = (
                f"account {purse.account_id}: the exchange has orders of ours that the database does not know "
                f"({len(blocking)}), such as {blocking[0]}"
            )
