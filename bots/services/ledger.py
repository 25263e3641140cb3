"""Double entry for fills: what the exchange's account gains, the trading book gives, and the reverse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from bots.fields import exact_product, exact_sum
from bots.models import Difference, ExchangeAccount, Fill, Income, LedgerEntry, LedgerLine, Market, Order
from trading.instruments import holding_of

_CAUSE, _BOOK = LedgerEntry.Cause, LedgerLine.Book
INCOME_CAUSES = {Income.Kind.FUNDING.value: _CAUSE.FUNDING, Income.Kind.INSURANCE.value: _CAUSE.INSURANCE}
# (book, asset, amount)
Line = tuple[str, str, Decimal]


def fill_lines(fill: Fill, market: Market) -> list[Line]:
    """Return the lines of a fill without its fee; they sum to zero per asset.

    Spot exchanges base against quote. A contract exchanges nothing: the holding is booked in contracts under the
    market's symbol, with its side where the account holds both apart, and cash moves by what a fill realises
    (:func:`realised_lines`).
    """
    sign = 1 if fill.side == Order.Side.BUY else -1
    if market.kind != Market.Kind.SPOT:
        return _both_books(holding_of(market.symbol, fill.position_side), sign * fill.quantity, _BOOK.TRADING)
    cost = exact_product(fill.price, fill.quantity)
    return [
        *_both_books(market.base_id, sign * fill.quantity, _BOOK.TRADING),
        *_both_books(market.quote_id, -sign * cost, _BOOK.TRADING),
    ]


def fee_lines(fill: Fill) -> list[Line]:
    """Return the lines of a known fee (a rebate is a negative one)."""
    return _both_books(fill.fee_asset, -fill.fee, _BOOK.FEES) if fill.fee else []


def realised_lines(fill: Fill, market: Market) -> list[Line]:
    """Return the lines of what a fill realised of a position in a contract."""
    if not fill.realized_pnl or market.kind == Market.Kind.SPOT:
        return []
    return _both_books(market.settle_id or market.quote_id, fill.realized_pnl, _BOOK.TRADING)


def _both_books(asset: str, amount: Decimal, counterpart: str) -> list[Line]:
    # A product below 1e-18 is nothing to book.
    return [(_BOOK.ACCOUNT, asset, amount), (counterpart, asset, -amount)] if amount else []


def fills_book(fills: Sequence[tuple[Fill, Market]]) -> None:
    """Book new fills, and fees and what they realised where known, in two inserts. Runs in the transaction that inserts
    the fills."""
    wanted = [(fill, _CAUSE.FILL, fill_lines(fill, market)) for fill, market in fills]
    wanted += [(fill, _CAUSE.FEE, fee_lines(fill)) for fill, _ in fills]
    wanted += [(fill, _CAUSE.REALISED, realised_lines(fill, market)) for fill, market in fills]
    _book(wanted)


def fees_book(fills: Iterable[Fill]) -> None:
    """Book the fees of fills that were booked before their fee was known."""
    _book([(fill, _CAUSE.FEE, fee_lines(fill)) for fill in fills])


def realised_book(fills: Iterable[tuple[Fill, Market]]) -> None:
    """Book what fills realised that were booked before that was known."""
    _book([(fill, _CAUSE.REALISED, realised_lines(fill, market)) for fill, market in fills])


def incomes_book(incomes: Iterable[Income]) -> None:
    """Book lines of an exchange's statement; runs in the transaction that inserts them."""
    _insert(
        [
            (
                LedgerEntry(
                    owner_id=one.owner_id,
                    account_id=one.account_id,
                    income=one,
                    cause=INCOME_CAUSES[one.kind],
                    at=one.at,
                ),
                _both_books(one.asset, one.amount, _BOOK.TRADING),
            )
            for one in incomes
            if one.amount
        ]
    )


def equity_book(
    *,
    account: ExchangeAccount,
    cause: str,
    amounts: Mapping[str, Decimal],
    at: datetime,
    difference: Difference | None = None,
) -> LedgerEntry:
    """Book what an account holds more (or less) by no execution of ours, against equity."""
    entry = LedgerEntry(owner_id=account.owner_id, account=account, cause=cause, at=at, difference=difference)
    _insert([(entry, [line for asset, amount in amounts.items() for line in _both_books(asset, amount, _BOOK.EQUITY)])])
    return entry


def _book(wanted: Sequence[tuple[Fill, str, list[Line]]]) -> None:
    _insert(
        [
            (LedgerEntry(owner_id=fill.owner_id, account_id=fill.account_id, fill=fill, cause=cause, at=fill.at), lines)
            for fill, cause, lines in wanted
            if lines
        ]
    )


def _insert(entries: Sequence[tuple[LedgerEntry, list[Line]]]) -> None:
    """Insert entries with their lines; raises AssertionError if an entry's lines are not zero per asset."""
    for entry, lines in entries:
        sums = {asset: exact_sum(amount for _, other, amount in lines if other == asset) for _, asset, _ in lines}
        if any(sums.values()):
            raise AssertionError(f"ledger entry of fill {entry.fill_id} ({entry.cause}) is not balanced: {sums}")
    LedgerEntry.objects.bulk_create([entry for entry, _ in entries])
    LedgerLine.objects.bulk_create(
        [
            LedgerLine(entry=entry, book=book, asset=asset, amount=amount)
            for entry, lines in entries
            for book, asset, amount in lines
        ]
    )
