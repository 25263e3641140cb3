"""Compare an account as the exchange shows it with what our books say. Pure: figures in, findings out.

What an exchange tells in several answers may not belong together; whoever reads it makes sure that nothing moved
between (:mod:`trading.execution.reconciler`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal, localcontext
from enum import StrEnum

import msgspec

from trading.instruments import POSITION_SIDES, Market, contract_of, holding_of
from trading.messages import AccountIncome, Fill, Forced, OrderEvent

ZERO = Decimal(0)
# Exchanges keep eight places; products of price and quantity may have more.
ROUNDING = Decimal("0.00000001")
MARGIN_NS = 60 * 10**9  # exchanges' clocks differ, and executions are listed late
# How far before the last match executions are asked for: one that is taken back later than this is not recognised, and
# shows as a difference of balances only.
LOOK_BACK_NS = 600 * 10**9
EXACT = Context(prec=60)


class DifferenceKind(StrEnum):
    BALANCE = "balance"
    POSITION = "position"  # in a contract
    FOREIGN_ORDER = "foreign_order"
    UNKNOWN_ORDER = "unknown_order"
    TAKEN_BACK = "taken_back"


# Those of the ledger: a person may adopt them, which books what makes up for them.
OF_LEDGER = frozenset({DifferenceKind.BALANCE, DifferenceKind.POSITION})
# What a person closes: that a later comparison has nothing to say of it proves nothing.
CLOSED_BY_PEOPLE = frozenset({DifferenceKind.UNKNOWN_ORDER, DifferenceKind.TAKEN_BACK})


class DifferenceCause(StrEnum):
    """What most likely led to a difference."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    MANUAL_TRADE = "manual_trade"
    FOREIGN_ORDER = "foreign_order"
    UNKNOWN_ORDER = "unknown_order"
    FEE = "fee"
    ROUNDING = "rounding"
    TAKEN_BACK = "taken_back"
    LIQUIDATION = "liquidation"
    DELEVERAGING = "deleveraging"
    SETTLEMENT = "settlement"
    UNEXPLAINED = "unexplained"


FORCED = {
    Forced.LIQUIDATION: (
        DifferenceCause.LIQUIDATION,
        "The exchange liquidated what the margin could not hold",
    ),
    Forced.DELEVERAGING: (DifferenceCause.DELEVERAGING, "The exchange closed a position to cover another's loss (ADL)"),
    Forced.SETTLEMENT: (DifferenceCause.SETTLEMENT, "The exchange settled a contract that was delisted or delivered"),
}


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What our books say of one account.

    ``balances`` are the ledger's, by asset; a contract is a holding too, under its market's symbol, and with its side
    where the account holds both apart (:func:`~trading.instruments.holding_of`). ``orders`` maps
    exchange order ids to client order ids and ``client_ids`` has the client order ids known, both of those asked for;
    ``fills`` maps (market, exchange trade id) to the moment of the execution, of those booked since LOOK_BACK_NS before
    ``since_ns``, the moment before which the books are known to have matched; ``incomes`` are (kind, transaction id) of
    the statement's lines known since then. ``opened_ns`` is 0 while the ledger has no opening balance. ``dismissed``
    are (kind, key) of differences that a person said are none; ``unknown_orders`` are orders of ours that a comparison
    found, no book knows and nobody has dismissed.
    """

    account_id: int
    opened_ns: int = 0
    since_ns: int = 0
    balances: Mapping[str, Decimal] = {}
    orders: Mapping[str, str] = {}
    client_ids: frozenset[str] = frozenset()
    fills: Mapping[tuple[str, str], int] = {}
    incomes: frozenset[tuple[str, str]] = frozenset()
    fees_pending: int = 0
    dismissed: frozenset[tuple[str, str]] = frozenset()
    unknown_orders: tuple[str, ...] = ()


class Executions(msgspec.Struct, frozen=True, kw_only=True):
    """The executions an exchange listed in some markets (keys), all of them since a moment of the wall clock, and the
    lines of its statement, where it was asked for them.

    ``due`` are executions booked, (market, exchange trade id), that have been known for MARGIN_NS: however far the list
    lags behind, it must have those of them that are young enough.
    """

    fills: tuple[Fill, ...] = ()
    markets: frozenset[str] = frozenset()
    since_ns: int = 0
    due: frozenset[tuple[str, str]] = frozenset()
    incomes: tuple[AccountIncome, ...] = ()


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange says of one account: totals by asset, open orders, and executions where they were asked for.

    A position in a contract is in ``balances`` under its holding's name, in the market's own unit, negative when short.
    """

    balances: Mapping[str, Decimal]
    exchange: str = ""
    open_orders: tuple[OrderEvent, ...] = ()
    executions: Executions = Executions()


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference, keyed by account, kind and key; ``amount`` is theirs less ours."""

    kind: DifferenceKind
    key: str
    cause: DifferenceCause
    suggestion: str
    market: str = ""
    asset: str = ""
    ours: Decimal | None = None
    theirs: Decimal | None = None
    amount: Decimal | None = None


def differing(expected: Expected, balances: Mapping[str, Decimal], left_out: frozenset[str]) -> Mapping[str, Decimal]:
    """Return theirs less ours by asset, where they differ and the ledger is open."""
    with localcontext(EXACT):
        amounts = {asset: amount for asset, _, _, amount in _amounts(expected, balances, left_out)}
    return amounts if expected.opened_ns else {}


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison found.

    ``missing_fills`` are executions of our orders that are not booked, ``open_ours`` open orders of ours: both are
    news, to be fed through the ordinary path. ``forced`` are executions of the exchange's own orders that no book has.
    ``incomes`` are lines of the statement that are new: to be booked if the ledger was open, else they are in what
    opens it. ``opening`` is that (None: nothing is to be opened). ``told_apart`` is to be booked so that what the
    ledger holds of a contract as one, and the exchange as two sides that come to the same, is of these sides.
    ``balances_compared`` is False where executions were missing: then balances are looked at the next time.
    """

    missing_fills: tuple[Fill, ...] = ()
    forced: tuple[Fill, ...] = ()
    open_ours: tuple[OrderEvent, ...] = ()
    opening: Mapping[str, Decimal] | None = None
    incomes: tuple[AccountIncome, ...] = ()
    told_apart: Mapping[str, Decimal] = {}
    differences: tuple[Difference, ...] = ()
    foreign_orders: int = 0
    balances_compared: bool = False


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """One account's comparison, to be stored. ``ledger`` is what the books said when it was made: where they say
    something else by now, that asset's figures are out of date and left out. ``left_out`` are assets not compared."""

    account_id: int
    findings: Findings
    ledger: Mapping[str, Decimal]
    left_out: frozenset[str]
    at_ns: int


def compare(
    expected: Expected,
    reading: Reading,
    markets: Mapping[str, Market],
    is_ours: Callable[[str], bool],
    left_out: frozenset[str] = frozenset(),
    *,
    strangers: Mapping[str, str] | None = None,
) -> Findings:
    """Return how the exchange's account differs from the books.

    ``is_ours`` says whether a client order id is one this installation makes for this owner. ``left_out`` are assets
    that an order without a known outcome may have moved: their balances explain nothing yet. ``strangers`` are orders
    of ours, with their markets, that were met before and no book knows.
    """
    missing: list[Fill] = []
    foreign: list[Fill] = []
    unknown: list[Fill] = []
    unbooked = {client_id: _unknown_order(client_id, market) for client_id, market in (strangers or {}).items()}
    for fill in reading.executions.fills:
        if (fill.market, fill.exchange_trade_id) in expected.fills:
            continue
        client_id = _client_id(expected, fill.client_order_id, fill.exchange_order_id, is_ours)
        if client_id in expected.client_ids:
            missing.append(msgspec.structs.replace(fill, client_order_id=client_id))
        elif client_id:
            unknown.append(fill)
            unbooked.setdefault(client_id, _unknown_order(client_id, fill.market))
        elif fill.exchange_ns >= _looked_at_since(expected):
            foreign.append(fill)
    open_ours: list[OrderEvent] = []
    found: list[Difference] = []
    for event in reading.open_orders:
        client_id = _client_id(expected, event.client_order_id, event.exchange_order_id, is_ours)
        if client_id in expected.client_ids:
            open_ours.append(msgspec.structs.replace(event, client_order_id=client_id))
        elif client_id:
            unbooked[client_id] = _unknown_order(client_id, event.market)
        else:
            found.append(_foreign_order(event))
    foreign_orders = len(found)
    taken_back = _taken_back(expected, reading.executions)
    found += [_taken(market, trade_id) for market, trade_id in taken_back]
    touched = frozenset(asset for key, _ in taken_back if key in markets for asset in assets_of(markets[key]))
    incomes = _new_incomes(expected, reading.executions.incomes)
    opening = None
    told_apart: Mapping[str, Decimal] = {}
    compared = bool(expected.opened_ns) and not missing
    with localcontext(EXACT):
        if compared:
            told_apart = _told_apart(expected.balances, reading.balances, left_out)
            balances = _added(expected.balances, told_apart)
            expected = msgspec.structs.replace(expected, balances=_with(balances, incomes))
            others = _Others(
                by_hand=_effects(foreign, markets),
                unknown=_effects(unknown, markets),
                forced=_forced(foreign, markets),
                taken_back=touched,
                fees_pending=expected.fees_pending,
            )
            found += _balances(expected, reading, others, left_out)
        elif not expected.opened_ns and not missing and not left_out:
            opening = {asset: amount for asset, _, _, amount in _amounts(expected, reading.balances, left_out)}
    return Findings(
        missing_fills=tuple(missing),
        forced=tuple(fill for fill in foreign if fill.forced) if expected.opened_ns else (),
        open_ours=tuple(open_ours),
        opening=opening,
        incomes=incomes,
        told_apart=told_apart,
        differences=(*unbooked.values(), *found),
        foreign_orders=foreign_orders,
        balances_compared=compared,
    )


def _looked_at_since(expected: Expected) -> int:
    """Return the moment from which on what is not ours may explain a difference."""
    return max(expected.opened_ns, expected.since_ns - MARGIN_NS)


def _new_incomes(expected: Expected, listed: Iterable[AccountIncome]) -> tuple[AccountIncome, ...]:
    """Return the lines to be booked that the books don't know; what is well before their opening is in it."""
    return tuple(
        one
        for one in listed
        if (one.kind.value, one.transaction_id) not in expected.incomes
        and one.exchange_ns >= expected.opened_ns - MARGIN_NS
    )


def _with(amounts: Mapping[str, Decimal], incomes: Iterable[AccountIncome]) -> Mapping[str, Decimal]:
    total = dict(amounts)
    for one in incomes:
        total[one.asset] = total.get(one.asset, ZERO) + one.amount
    return total


def _added(amounts: Mapping[str, Decimal], more: Mapping[str, Decimal]) -> Mapping[str, Decimal]:
    return {asset: amounts.get(asset, ZERO) + more.get(asset, ZERO) for asset in {**amounts, **more}}


def _told_apart(
    ours: Mapping[str, Decimal], theirs: Mapping[str, Decimal], left_out: frozenset[str]
) -> dict[str, Decimal]:
    """Return what moves a contract that the books hold as one to the two sides the exchange shows.

    Books from before they knew sides, and executions that a person has told of without one, are like that. Only the sum
    of what they hold can be compared, so where it differs everything stays as it is.
    """
    moved: dict[str, Decimal] = {}
    for symbol, amount in ours.items():
        sides = [holding_of(symbol, side) for side in POSITION_SIDES]
        if not amount or not is_contract(symbol) or contract_of(symbol) != symbol or symbol in theirs:
            continue
        if left_out.intersection((symbol, *sides)):
            continue
        apart = {name: theirs.get(name, ZERO) - ours.get(name, ZERO) for name in sides}
        if sum(apart.values()) == amount:
            moved |= {symbol: -amount, **apart}
    return {name: amount for name, amount in moved.items() if amount}


def _client_id(expected: Expected, client_id: str, exchange_id: str, is_ours: Callable[[str], bool]) -> str:
    """Return an order's client id if it is one of ours by its form or by our books, else an empty string."""
    return client_id if is_ours(client_id) else expected.orders.get(exchange_id, "")


def _amounts(
    expected: Expected, balances: Mapping[str, Decimal], left_out: frozenset[str]
) -> Iterable[tuple[str, Decimal, Decimal, Decimal]]:
    """Yield (asset, ours, theirs, theirs less ours) where they differ."""
    for asset in sorted({*expected.balances, *balances} - left_out):
        ours, theirs = expected.balances.get(asset, ZERO), balances.get(asset, ZERO)
        if ours != theirs:
            yield asset, ours, theirs, theirs - ours


class _Others(msgspec.Struct, frozen=True, kw_only=True):
    """What may have moved an account besides the fills booked: effects by asset, of whose executions they are.

    ``forced`` has what an exchange's own orders closed, by asset: why, and by how much.
    """

    by_hand: Mapping[str, Decimal]
    unknown: Mapping[str, Decimal]
    forced: Mapping[str, tuple[str, Decimal]]
    taken_back: frozenset[str]
    fees_pending: int


def is_contract(asset: str) -> bool:
    """Return whether a holding is one in a contract: only those, named after their market's symbol, have a slash."""
    return "/" in asset


def assets_of(market: Market) -> tuple[str, ...]:
    """Return the holdings that an execution in a market may move, as the ledger names them."""
    if market.kind == "spot":
        return (market.base, market.quote)
    sides = (holding_of(market.symbol, side) for side in POSITION_SIDES)
    return (market.symbol, *sides, market.base, market.quote)


def explained_contracts(
    expected: Expected, reading: Reading, findings: Findings, left_out: frozenset[str]
) -> dict[str, Decimal]:
    """Return what is explained of contracts, by holding, once balances were compared or books opened: what the
    exchange shows less what differs; the books' own figure where an order in dispute may have moved it."""
    held = {name: amount for name, amount in reading.balances.items() if is_contract(name)}
    for found in findings.differences:
        if found.kind is DifferenceKind.POSITION and found.amount is not None:
            held[found.asset] = held.get(found.asset, ZERO) - found.amount
    return held | {name: expected.balances.get(name, ZERO) for name in left_out if is_contract(name)}


def _balances(
    expected: Expected,
    reading: Reading,
    others: _Others,
    left_out: frozenset[str],
) -> list[Difference]:
    found = []
    for asset, ours, theirs, amount in _amounts(expected, reading.balances, left_out):
        cause, suggestion = _cause(asset, amount, others)
        contract = is_contract(asset)
        found.append(
            Difference(
                kind=DifferenceKind.POSITION if contract else DifferenceKind.BALANCE,
                key=asset,
                asset=asset,
                market=f"{reading.exchange}:{contract_of(asset)}" if contract else "",
                ours=ours,
                theirs=theirs,
                amount=amount,
                cause=cause,
                suggestion=suggestion,
            )
        )
    return found


def _cause(asset: str, amount: Decimal, others: _Others) -> tuple[DifferenceCause, str]:
    """Return what most likely led to a difference in an asset, and what to do about it."""
    by_hand, strange = others.by_hand.get(asset, ZERO), others.unknown.get(asset, ZERO)
    if strange:
        return (
            DifferenceCause.UNKNOWN_ORDER,
            f"Executions of orders that only an older database knows explain {strange:f} {asset}; "
            "look at those orders first, then adopt the difference.",
        )
    if asset in others.taken_back:
        return (
            DifferenceCause.TAKEN_BACK,
            "The exchange no longer lists executions of ours in this asset: if it took them back, adopt its balance, "
            "which books the lines that make up for them.",
        )
    if asset in others.forced:
        why, moved = others.forced[asset]
        cause, words = FORCED[Forced(why)]
        rest = "" if by_hand == amount else f", {amount - by_hand:f} is left: look at the exchange's history"
        return cause, f"{words}: {moved:f} {asset}{rest}. Look at the trade that held it, then adopt this."
    if by_hand == amount:
        return DifferenceCause.MANUAL_TRADE, "Executions that are not ours explain all of it: adopt it."
    if by_hand:
        return (
            DifferenceCause.MANUAL_TRADE,
            f"Executions that are not ours explain {by_hand:f} {asset}, {amount - by_hand:f} is left: "
            "look at the exchange's history before adopting it.",
        )
    if is_contract(asset):
        return (
            DifferenceCause.UNEXPLAINED,
            "No execution that the exchange lists explains it: somebody else may trade here, or executions are "
            "missing. Look at the exchange's history before adopting it.",
        )
    if abs(amount) <= ROUNDING:
        return DifferenceCause.ROUNDING, "The exchange rounds what it books: adopt it."
    if others.fees_pending and amount < 0:
        return (
            DifferenceCause.FEE,
            f"{others.fees_pending} executions of ours have no fee yet, which may be this: wait for them before "
            "adopting it.",
        )
    if amount > 0:
        return DifferenceCause.DEPOSIT, f"Looks like a deposit of {amount:f} {asset}: adopt it if it is one."
    return DifferenceCause.WITHDRAWAL, f"Looks like a withdrawal of {-amount:f} {asset}: adopt it if it is one."


def effects(fill: Fill, market: Market | None) -> Mapping[str, Decimal]:
    """Return what an execution changes in the account, by asset.

    A contract changes its holding, and the settle asset by what it realised; the fee comes with either.
    """
    changes: dict[str, Decimal] = {}
    with localcontext(EXACT):
        signed = fill.quantity if fill.side == "buy" else -fill.quantity
        if market is not None and market.kind == "spot":
            changes = {market.base: signed, market.quote: -signed * fill.price}
        elif market is not None:
            changes = {holding_of(market.symbol, fill.position_side): signed}
            if fill.realized_pnl:
                changes[market.settle or market.quote] = fill.realized_pnl
        if fill.fee is not None:
            changes[fill.fee_asset] = changes.get(fill.fee_asset, ZERO) - fill.fee
    return changes


def _effects(fills: Iterable[Fill], markets: Mapping[str, Market]) -> Mapping[str, Decimal]:
    total: dict[str, Decimal] = {}
    for fill in fills:
        for asset, change in effects(fill, markets.get(fill.market)).items():
            total[asset] = total.get(asset, ZERO) + change
    return total


def _forced(fills: Iterable[Fill], markets: Mapping[str, Market]) -> Mapping[str, tuple[str, Decimal]]:
    """Return what the exchange's own orders moved, by asset, with why (of several the newest)."""
    found: dict[str, tuple[str, Decimal]] = {}
    for fill in sorted((fill for fill in fills if fill.forced), key=lambda fill: fill.exchange_ns):
        for asset, change in effects(fill, markets.get(fill.market)).items():
            found[asset] = (fill.forced, found.get(asset, ("", ZERO))[1] + change)
    return found


def _taken_back(expected: Expected, listed: Executions) -> list[tuple[str, str]]:
    """Return the executions booked that the exchange should have listed and did not: (market, exchange trade id).

    Only those well inside the span that was asked about, and known for a while by then: a list that lags behind takes
    nothing back. For how long is not told from their moments, which are of the exchange's clock and not of ours.
    """
    told = {(fill.market, fill.exchange_trade_id) for fill in listed.fills}
    since_ns = listed.since_ns + MARGIN_NS
    return [
        key
        for key, made_ns in sorted(expected.fills.items())
        if key[0] in listed.markets and key in listed.due and since_ns <= made_ns and key not in told
    ]


def _taken(market: str, trade_id: str) -> Difference:
    return Difference(
        kind=DifferenceKind.TAKEN_BACK,
        key=f"{trade_id} {market}",
        market=market,
        cause=DifferenceCause.TAKEN_BACK,
        suggestion=(
            f"The exchange no longer lists our execution {trade_id}: it was taken back or corrected. Look at the "
            "account's history there, adopt the differences of its balances if there are any, then dismiss this. What "
            "was hedged for it stays hedged."
        ),
    )


def _unknown_order(client_id: str, market: str) -> Difference:
    return Difference(
        kind=DifferenceKind.UNKNOWN_ORDER,
        key=client_id,
        market=market,
        cause=DifferenceCause.UNKNOWN_ORDER,
        suggestion=(
            "This installation made this id, and its database does not know the order: was an older backup restored? "
            "The account takes no new trades until somebody has looked at it on the exchange and dismissed this."
        ),
    )


def _foreign_order(event: OrderEvent) -> Difference:
    return Difference(
        kind=DifferenceKind.FOREIGN_ORDER,
        key=event.exchange_order_id or event.client_order_id,
        market=event.market,
        cause=DifferenceCause.FOREIGN_ORDER,
        suggestion="An open order that is not ours. It is shown and never touched; it may use up this account's money.",
    )
