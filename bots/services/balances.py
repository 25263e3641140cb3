"""The exchange's balances, newest figures win."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import transaction

from bots.models import Balance, ExchangeAccount
from bots.services.guard import retried_once
from bots.times import from_ns
from trading.instruments import money
from trading.messages import AccountBalance

logger = logging.getLogger("arb.store")


def balances_apply(*, owner_id: int, balances: Sequence[AccountBalance]) -> int:
    """Store the newest figures of each (account, asset); older ones than stored change nothing. Returns rows changed.

    A figure that is not an amount is logged and left out.
    """
    newest: dict[tuple[int, str], AccountBalance] = {}
    for balance in balances:
        key = (balance.account_id, balance.asset)
        if key not in newest or balance.received_ns >= newest[key].received_ns:
            newest[key] = balance
    return retried_once(lambda: _apply(owner_id, newest))


def _apply(owner_id: int, newest: dict[tuple[int, str], AccountBalance]) -> int:
    with transaction.atomic():
        accounts = set(
            ExchangeAccount.objects.filter(owner_id=owner_id, pk__in={account for account, _ in newest})
            .order_by()
            .values_list("pk", flat=True)
        )
        stored = {
            (row.account_id, row.asset): row
            for row in Balance.objects.select_for_update(no_key=True)
            .filter(account__in=accounts, asset__in={asset for _, asset in newest})
            .order_by("pk")
        }
        inserts, updates = [], []
        for key, balance in newest.items():
            if balance.account_id not in accounts:
                logger.error("balance of account %s is not stored: not of owner %s", balance.account_id, owner_id)
                continue
            at = from_ns(balance.received_ns)
            try:
                free, used = money(balance.free, field="free"), money(balance.used, field="used")
            except ValueError as problem:
                logger.error("%s of account %s is not stored: %s", balance.asset, balance.account_id, problem)
                continue
            row = stored.get(key)
            if row is None:
                inserts.append(Balance(owner_id=owner_id, account_id=key[0], asset=key[1], free=free, used=used, at=at))
            elif row.at <= at:
                row.free, row.used, row.at = free, used, at
                updates.append(row)
        Balance.objects.bulk_create(inserts)
        Balance.objects.bulk_update(updates, ["free", "used", "at"])
        return len(inserts) + len(updates)
