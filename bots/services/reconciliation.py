"""The comparison of accounts with their exchanges, made durable: what the books say, and where they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from decimal import Decimal

from django.db import transaction
from django.db.models import Q

from bots.models import Difference, ExchangeAccount, Fill, Income, LedgerEntry, Order
from bots.services import locks
from bots.services.guard import guarded, retried_once
from bots.services.ledger import equity_book, incomes_book
from bots.services.ledger_sums import checkpoint_move, ledger_balances
from bots.services.unfolding import intents_unfold
from bots.times import from_ns, to_ns
from trading.execution import reconciliation
from trading.execution.reconciliation import (
    LOOK_BACK_NS,
    MARGIN_NS,
    OF_LEDGER,
    DifferenceKind,
    Expected,
    Findings,
    Reconciliation,
)
from trading.messages import AccountIncome, TradeMode

_SEEN = (Difference.State.OPEN, Difference.State.DISMISSED)
_FEES_LOOKED_AT = 200
TEXT_LENGTH = 500
KEY_LENGTH = 64
# More than the engine's own: of what it asks for, everything booked is to be known.
_MARGIN_NS = LOOK_BACK_NS + 2 * MARGIN_NS


def expected_read(
    *,
    owner_id: int,
    account_id: int,
    client_order_ids: Collection[str] = (),
    exchange_order_ids: Collection[str] = (),
) -> Expected:
    """Return what the books say of an account, and which of these orders they know.

    Raises
    ------
    ValueError
        If the account is not the owner's.
    StoreUnavailable
        If the database is away.
    """

    def read() -> Expected:
        intents_unfold(owner_id=owner_id)
        account = ExchangeAccount.objects.filter(pk=account_id, owner_id=owner_id).defer("credentials").first()
        if account is None:
            raise ValueError(f"account_id: {account_id} is not of owner {owner_id}")
        orders = Order.objects.filter(account=account).filter(
            Q(client_order_id__in=client_order_ids) | Q(exchange_order_id__in=exchange_order_ids)
        )
        known = list(orders.order_by().values_list("exchange_order_id", "client_order_id"))
        fills = Fill.objects.filter(account=account).exclude(order__trade__mode=TradeMode.PAPER.value)
        since = account.matched_at or account.opened_at
        booked = fills.filter(at__gte=from_ns(to_ns(since) - _MARGIN_NS)) if since else fills.none()
        dismissed = Difference.objects.filter(account=account, state=Difference.State.DISMISSED)
        unknown = Difference.objects.filter(
            account=account, state=Difference.State.OPEN, kind=DifferenceKind.UNKNOWN_ORDER.value
        )
        return Expected(
            account_id=account_id,
            opened_ns=to_ns(account.opened_at) if account.opened_at else 0,
            since_ns=to_ns(since) if since else 0,
            balances=ledger_balances(account_id=account_id),
            orders={exchange_id: client_id for exchange_id, client_id in known if exchange_id},
            client_ids=frozenset(client_id for _, client_id in known),
            fills={
                (f"{exchange}:{symbol}", trade): to_ns(at)
                for exchange, symbol, trade, at in booked.order_by().values_list(
                    "market__exchange__code", "market__symbol", "exchange_trade_id", "at"
                )
            },
            incomes=frozenset(
                Income.objects.filter(account=account, at__gte=from_ns(to_ns(since) - _MARGIN_NS))
                .order_by()
                .values_list("kind", "transaction_id")
            )
            if since
            else frozenset(),
            fees_pending=len(fills.filter(fee__isnull=True).order_by().values_list("pk")[:_FEES_LOOKED_AT]),
            dismissed=frozenset(dismissed.order_by().values_list("kind", "key")),
            unknown_orders=tuple(unknown.order_by("pk").values_list("key", flat=True)),
        )

    return guarded(read)


def reconciliation_apply(*, owner_id: int, done: Reconciliation) -> int:
    """Store what a comparison found; returns how many differences are new.

    Differences that are open already are brought up to date, those that no longer show are closed (of CLOSED_BY_PEOPLE
    only by a person). Where the books have moved since the comparison, what it says of balances is left out: the next
    one comes soon.
    """

    def write() -> int:
        with transaction.atomic():
            account = locks.account_lock(account_id=done.account_id, owner_id=owner_id)
            findings = _still_true(done, ledger_balances(account_id=account.pk))
            at = from_ns(done.at_ns)
            _incomes_store(account, done.findings.incomes)
            if findings.opening is not None and account.opened_at is None:
                equity_book(account=account, cause=LedgerEntry.Cause.OPENING, amounts=findings.opening, at=at)
                account.opened_at = account.matched_at = at
            if findings.told_apart:
                equity_book(account=account, cause=LedgerEntry.Cause.CORRECTION, amounts=findings.told_apart, at=at)
            new = _rows_store(account, done, findings)
            account.foreign_orders = findings.foreign_orders
            account.reconciled_at = at
            unmatched = any(found.kind in OF_LEDGER for found in findings.differences)
            if findings.balances_compared and not unmatched and not done.left_out:
                account.matched_at = at
            checkpoint_move(account_id=account.pk)
            account.save(update_fields=["foreign_orders", "reconciled_at", "matched_at", "opened_at"])
            return new

    return retried_once(write)


def _incomes_store(account: ExchangeAccount, told: Collection[AccountIncome]) -> None:
    """Keep the lines of a statement that are new, and book them if the ledger is open: before, they open it."""
    stored = Income.objects.filter(account=account, transaction_id__in=[one.transaction_id for one in told])
    known = set(stored.order_by().values_list("kind", "transaction_id"))
    new = {key: one for one in told if (key := (one.kind.value, one.transaction_id)) not in known}
    rows = [
        Income(
            owner_id=account.owner_id, account=account, kind=one.kind.value, transaction_id=one.transaction_id,
            market=one.market[:100], asset=one.asset, amount=one.amount, at=from_ns(one.exchange_ns),
        )
        for one in new.values()
    ]  # fmt: skip
    Income.objects.bulk_create(rows)
    if account.opened_at is not None:
        incomes_book(rows)


def _still_true(done: Reconciliation, ledger: Mapping[str, Decimal]) -> Findings:
    findings = done.findings
    if ledger == done.ledger:
        return findings
    differences = tuple(found for found in findings.differences if found.kind not in OF_LEDGER)
    return Findings(differences=differences, foreign_orders=findings.foreign_orders)


def _rows_store(account: ExchangeAccount, done: Reconciliation, findings: Findings) -> int:
    at = from_ns(done.at_ns)
    rows = {(row.kind, row.key): row for row in Difference.objects.filter(account=account, state__in=_SEEN)}
    new = 0
    for found in findings.differences:
        row = rows.pop((found.kind.value, _key(found)), None)
        if row is not None and row.state == Difference.State.DISMISSED and row.amount != found.amount:
            _close(row)  # it was dismissed as something else
            row = None
        if row is None:
            row = Difference(owner_id=account.owner_id, account=account, first_seen=at)
            new += 1
        _fill_in(row, found)
        row.last_seen = at
        row.save()
    for row in rows.values():
        if row.kind in OF_LEDGER:
            gone = findings.balances_compared and row.asset not in done.left_out
        else:
            gone = row.kind not in reconciliation.CLOSED_BY_PEOPLE
        if gone:
            _close(row)
    return new


def _key(found: reconciliation.Difference) -> str:
    """Return what a difference is found by again; of a key too long for its column a digest tells the rest apart."""
    if len(found.key) <= KEY_LENGTH:
        return found.key
    digest = hashlib.blake2b(found.key.encode(), digest_size=8).hexdigest()
    return f"{found.key[: KEY_LENGTH - len(digest) - 1]}~{digest}"


def _fill_in(row: Difference, found: reconciliation.Difference) -> None:
    row.kind, row.key = found.kind.value, _key(found)
    row.market, row.asset = found.market[:100], found.asset[:64]
    row.ours, row.theirs, row.amount = found.ours, found.theirs, found.amount
    row.cause, row.suggestion = found.cause.value, found.suggestion[:TEXT_LENGTH]


def _close(row: Difference) -> None:
    row.state = Difference.State.RESOLVED
    row.save(update_fields=["state"])
