"""Ask exchanges what their coins are and which wallets are open, and keep what they answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

import msgspec
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from bots import vault
from bots.models import Asset, Bot, Exchange, ExchangeAccount, ListedAsset, Market
from bots.services.audit import audit_record, permission_check
from bots.services.hints import engine_hint
from bots.services.validation import assign, refuse, save_checked
from bots.services.workers import worker_call
from risk.policy.tradability import Network
from trading.config import Credentials
from trading.exchanges.wallets import load_coins

logger = logging.getLogger("arb.exchanges")

TASK = "bots.tasks.wallets_refresh"


def wallets_request(*, exchange_id: int) -> None:
    """Have a worker ask an exchange for its coins, once the present transaction has committed."""
    transaction.on_commit(lambda: worker_call(TASK, exchange_id), robust=True)


def wallets_refresh(*, exchange: Exchange) -> str:
    """Ask an exchange for its coins, with the key of one of its accounts; return one sentence about how it went.

    What an exchange does not answer stays as it was last told, with its age.
    """
    try:
        found = asyncio.run(load_coins(exchange.to_engine(), _credentials(exchange)))
    except (ConnectionError, ValueError) as problem:
        logger.warning("%s", problem)
        return str(problem)
    if not found:
        return f"{exchange}: it tells its coins to holders of a key only, and there is no account with one."
    changed = listings_store(exchange=exchange, found=found)
    return f"{exchange}: {len(found)} coins, {changed} changed."


def listings_store(*, exchange: Exchange, found: Mapping[str, tuple[Network, ...]]) -> int:
    """Write what an exchange told of the coins that its markets trade; return how many changed.

    Engines whose bots trade there are woken if one did.
    """
    traded = Market.objects.filter(exchange=exchange, listed=True).values_list("base_id", "quote_id")
    codes = {code for pair in traded for code in pair} & found.keys()
    now = timezone.now()
    with transaction.atomic():
        # The exchange's row is the lock: two answers of one exchange take turns.
        Exchange.objects.select_for_update(no_key=True).get(pk=exchange.pk)
        stored = {row.asset_id: row for row in ListedAsset.objects.filter(exchange=exchange, asset__in=codes)}
        added: list[ListedAsset] = []
        read: list[ListedAsset] = []
        changed = 0
        for code in sorted(codes):
            networks = list(msgspec.to_builtins(found[code]))
            row = stored.get(code) or ListedAsset(exchange=exchange, asset_id=code)
            changed += row.pk is None or row.networks != networks
            row.networks, row.read_at = networks, now
            (added if row.pk is None else read).append(row)
        ListedAsset.objects.bulk_create(added, batch_size=200)
        ListedAsset.objects.bulk_update(read, ["networks", "read_at"], batch_size=100)
        if changed:
            _wake(Bot.objects.filter(accounts__exchange=exchange))
    return changed


def listing_rule(*, actor: User | None, listing: ListedAsset, ruling: str, note: str = "") -> ListedAsset:
    """Say what a code means at one exchange: the asset, another coin, or nothing; audited, and obeyed at once.

    Raises ValidationError for an unknown ruling, or one without a reason.
    """
    permission_check(actor=actor, permission="bots.change_listedasset")
    if ruling and not note.strip():
        raise refuse("Say why, and where it was looked up.", field="note")
    with transaction.atomic():
        row = ListedAsset.objects.select_for_update(of=("self",)).select_related("exchange").get(pk=listing.pk)
        changed = assign(row, {"ruling": ruling, "note": note}, frozenset({"ruling", "note"}))
        save_checked(row)
        if changed:
            said = f"Said to be: {row.get_ruling_display()}." + (f" {note}" if note else "")
            audit_record(actor=actor, subject=row, message=said)
            _wake(Bot.objects.filter(accounts__exchange=row.exchange))
    return row


def asset_confirm(*, actor: User | None, asset: Asset, confirmed: bool, name: str, note: str) -> Asset:
    """Confirm, or no longer, that all exchanges mean one coin by a code; audited, and obeyed at once."""
    permission_check(actor=actor, permission="bots.change_asset")
    with transaction.atomic():
        row = Asset.objects.select_for_update(of=("self",)).get(pk=asset.pk)
        changed = assign(
            row, {"confirmed": confirmed, "name": name, "note": note}, frozenset({"confirmed", "name", "note"})
        )
        save_checked(row)
        if changed:
            audit_record(actor=actor, subject=row, message=f"Changed {', '.join(changed)}.")
        if "confirmed" in changed:
            _wake(Bot.objects.filter(pairs__base=row) | Bot.objects.filter(pairs__quote=row))
    return row


def _credentials(exchange: Exchange) -> Credentials | None:
    accounts = (
        ExchangeAccount.objects.filter(exchange=exchange, enabled=True).filter(credentials__isnull=False).order_by("pk")
    )
    for account in accounts:
        try:
            return vault.unseal(account.pk, account.credentials)
        except vault.CredentialsUnreadable:
            continue
    return None


def _wake(bots: Iterable[Bot]) -> None:
    for owner_id in {bot.owner_id for bot in bots if bot.desired_state == Bot.Desired.RUNNING}:
        engine_hint(owner_id)
