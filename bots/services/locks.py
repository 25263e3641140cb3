"""Row locks, all in one place, always in this order: lease, account, journaled intent, trades, orders, differences;
each by primary key.

Running totals (``services.profits``) are locked by being changed, after trades and before orders.

On SQLite every transaction begins as the only writer, and FOR UPDATE is left out by Django.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db.models.functions import Now

from bots.models import Bot, Difference, ExchangeAccount, JournaledIntent, Order, OwnerLease, Trade
from trading.ports import LeaseLost


def lease_lock(*, owner_id: int, token: int) -> None:
    """Hold the owner's lease until the end of the transaction.

    The lock keeps anybody from taking the lease over between this check and the commit, which is what makes the
    token a fence; it costs a renewal that runs at the same moment a wait of one short transaction.

    Raises
    ------
    LeaseLost
        If ``token`` is not the present one or has expired by the database's clock.
    """
    held = OwnerLease.objects.select_for_update(no_key=True).filter(
        owner_id=owner_id, token=token, expires_at__gt=Now()
    )
    if not list(held.values_list("pk")):
        raise LeaseLost(f"owner {owner_id}: the lease with token {token} has expired or was taken over")


def lease_passed_on(*, owner_id: int, token: int) -> bool:
    """Return whether somebody has taken the owner's lease since ``token``, holding what says so until the end.

    Waits for a taker that is just at it: what is written then stands before what the new holder reads.
    """
    tokens = OwnerLease.objects.select_for_update(no_key=True).filter(owner_id=owner_id).values_list("token", flat=True)
    return any(present > token for present in tokens)


def lease_hold(*, owner_id: int) -> None:
    """Keep intents of an owner from becoming durable, and anybody from taking the lease, until the end."""
    list(OwnerLease.objects.select_for_update(no_key=True).filter(owner_id=owner_id).values_list("pk"))


def intent_lock(*, owner_id: int, client_order_id: str) -> JournaledIntent | None:
    """Lock a journaled intent by its first order and return it; None if the journal does not have it."""
    rows = JournaledIntent.objects.select_for_update().filter(owner_id=owner_id, client_order_id=client_order_id)
    return rows.first()


def trades_lock(*, owner_id: int, trade_ids: Collection[str]) -> dict[str, Trade]:
    """Lock an owner's trades and return them by trade id."""
    rows = Trade.objects.select_for_update(no_key=True).filter(owner_id=owner_id, trade_id__in=trade_ids)
    return {row.trade_id: row for row in rows.order_by("pk")}


def orders_lock(*, owner_id: int, client_order_ids: Collection[str]) -> dict[str, Order]:
    """Lock an owner's orders and return them by client order id."""
    rows = Order.objects.select_for_update(no_key=True).filter(owner_id=owner_id, client_order_id__in=client_order_ids)
    return {row.client_order_id: row for row in rows.order_by("pk")}


def bot_lock(*, bot_id: int) -> Bot:
    """Lock one bot and return it; raises Bot.DoesNotExist."""
    bot: Bot = Bot.objects.select_for_update(no_key=True).get(pk=bot_id)
    return bot


def account_lock(*, account_id: int, owner_id: int) -> ExchangeAccount:
    """Lock one account of an owner and return it without its credentials; raises ExchangeAccount.DoesNotExist."""
    rows = ExchangeAccount.objects.select_for_update(no_key=True).filter(owner_id=owner_id)
    account: ExchangeAccount = rows.defer("credentials").get(pk=account_id)
    return account


def difference_lock(*, difference_id: int) -> Difference:
    """Lock one difference and its account, and return it; raises Difference.DoesNotExist."""
    account_id = Difference.objects.values_list("account_id", flat=True).get(pk=difference_id)
    list(ExchangeAccount.objects.select_for_update(no_key=True).filter(pk=account_id).values_list("pk"))
    row: Difference = Difference.objects.select_for_update(no_key=True).get(pk=difference_id)
    return row
