"""Exchange accounts and their credentials. Nothing here gives a secret back."""

from __future__ import annotations

import re

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from bots import vault
from bots.models import UNFINISHED_ORDERS, Exchange, ExchangeAccount, Order
from bots.services.audit import ADDITION, DELETION, audit_record, owner_check
from bots.services.hints import engine_hint
from bots.services.margins import margins_request
from bots.services.unfolding import intents_settle
from bots.services.validation import assign, refuse, save_checked
from bots.services.wallets import wallets_request
from bots.times import from_ns
from trading.config import Credentials

_SETTABLE = frozenset({"label", "paper_balances", "enabled"})
_SECRET = re.compile(r"[\x21-\x7e]+")
_PEM = re.compile(r"-----BEGIN (?P<kind>[A-Z ]+)-----(?P<body>[A-Za-z0-9+/=\s]+)-----END (?P=kind)-----")
PEM_LINE = 64  # RFC 7468, 2
MAX_KEY, MAX_SECRET = 256, 4096


def account_create(
    *,
    owner: User,
    actor: User | None,
    exchange: Exchange,
    label: str,
    credentials: Credentials | None = None,
    paper_balances: dict[str, str] | None = None,
    enabled: bool = True,
) -> ExchangeAccount:
    """Create an account, with credentials or for paper only; raises ValidationError and then saves nothing."""
    owner_check(actor=actor, owner_id=owner.pk)
    with transaction.atomic():
        account = ExchangeAccount(
            owner=owner, exchange=exchange, label=label, paper_balances=paper_balances or {}, enabled=enabled
        )
        save_checked(account)
        audit_record(actor=actor, subject=account, message=f"Created on {exchange.code}.", flag=ADDITION)
        if credentials is not None:
            credentials_set(account=account, actor=actor, credentials=credentials)
    return account


def account_update(*, account: ExchangeAccount, actor: User | None, **values: object) -> ExchangeAccount:
    """Change an account's label, paper balances or whether it is enabled."""
    owner_check(actor=actor, owner_id=account.owner_id)
    with transaction.atomic():
        changed = assign(account, values, _SETTABLE)
        if changed:
            save_checked(account)
            audit_record(actor=actor, subject=account, message=f"Changed {', '.join(changed)}.")
            engine_hint(account.owner_id)
    return account


def credentials_set(*, account: ExchangeAccount, actor: User | None, credentials: Credentials) -> ExchangeAccount:
    """Store credentials, encrypted for this account alone. The account is disarmed: a new key is a new risk.

    Raises
    ------
    ValidationError
        If a part is missing or has spaces inside, or another account holds the same key (two senders of one key
        exhaust each other's limits and nonces). No message repeats what was given.
    """
    owner_check(actor=actor, owner_id=account.owner_id)
    clean = _credentials_clean(credentials)
    print_of_key = vault.fingerprint(clean.api_key)
    taken = refuse("This API key is already used by another account: make a new key for this one.", field="api_key")
    if ExchangeAccount.objects.filter(key_fingerprint=print_of_key).exclude(pk=account.pk).exists():
        raise taken
    account.credentials = vault.seal(account.pk, clean)
    account.key_fingerprint = print_of_key
    account.key_last4 = clean.api_key[-4:]
    account.credentials_set_at = timezone.now()
    account.permissions_seen = []
    account.armed_for_live = False
    try:
        with transaction.atomic():
            account.save(
                update_fields=[
                    "credentials", "key_fingerprint", "key_last4", "credentials_set_at", "permissions_seen",
                    "armed_for_live",
                ]
            )  # fmt: skip
            audit_record(actor=actor, subject=account, message="Set credentials; disarmed.")
            wallets_request(exchange_id=account.exchange_id)
            margins_request(exchange_id=account.exchange_id)
    except IntegrityError:
        raise taken from None
    engine_hint(account.owner_id)
    return account


def _pem(secret: str) -> str:
    """Return a private key with its lines as they belong; a field of one line loses their breaks. Else as given."""
    found = _PEM.fullmatch(secret)
    if found is None:
        return secret
    body = "".join(found["body"].split())
    lines = [body[start : start + PEM_LINE] for start in range(0, len(body), PEM_LINE)]
    return "\n".join((f"-----BEGIN {found['kind']}-----", *lines, f"-----END {found['kind']}-----", ""))


def _credentials_clean(credentials: Credentials) -> Credentials:
    """Trim what was pasted and refuse what cannot be a key."""
    parts = {
        "api_key": (credentials.api_key.strip(), MAX_KEY, True),
        "secret": (_pem(credentials.secret.strip()), MAX_SECRET, True),
        "passphrase": (credentials.passphrase.strip(), MAX_KEY, False),
    }
    errors = {}
    for field, (value, limit, required) in parts.items():
        label = field.replace("_", " ")
        # A PEM secret (Ed25519, RSA) has lines; the rest is one word of printable ASCII.
        body = value if field != "secret" or not value.startswith("-----BEGIN ") else "".join(value.split())
        if not value and required:
            errors[field] = f"The {label} is missing."
        elif len(value) > limit:
            errors[field] = f"The {label} may have at most {limit} characters (given {len(value)})."
        elif value and not _SECRET.fullmatch(body):
            errors[field] = f"The {label} contains spaces or characters that no exchange uses: paste it again."
    if not errors and parts["api_key"][0] == parts["secret"][0]:
        errors["secret"] = "The secret is the same as the API key: paste the secret here."  # noqa: S105
    if len(parts["api_key"][0]) < 8 and "api_key" not in errors:
        errors["api_key"] = f"The api key must have at least 8 characters (given {len(parts['api_key'][0])})."
    if errors:
        raise ValidationError(errors)
    return Credentials(api_key=parts["api_key"][0], secret=parts["secret"][0], passphrase=parts["passphrase"][0])


def credentials_clear(*, account: ExchangeAccount, actor: User | None) -> ExchangeAccount:
    """Forget an account's credentials and disarm it; from then on it can only trade on paper."""
    owner_check(actor=actor, owner_id=account.owner_id)
    if not account.has_credentials:
        return account
    with transaction.atomic():
        account.credentials = account.key_fingerprint = account.credentials_set_at = None
        account.key_last4, account.permissions_seen, account.armed_for_live = "", [], False
        account.save()
        audit_record(actor=actor, subject=account, message="Removed credentials; disarmed.")
        engine_hint(account.owner_id)
    return account


def credentials_rotate() -> int:
    """Encrypt every account's credentials with the newest of ARB_FIELD_KEYS; returns how many.

    Raises
    ------
    CredentialsUnreadable
        If one cannot be read with the keys there are; then nothing is changed.
    """
    with transaction.atomic():
        rows = ExchangeAccount.objects.select_for_update().filter(credentials__isnull=False).order_by("pk")
        resealed = [(row.pk, vault.reseal(row.pk, row.credentials or "")) for row in rows]
        for pk, ciphertext in resealed:
            ExchangeAccount.objects.filter(pk=pk).update(credentials=ciphertext)
    return len(resealed)


def account_arm(*, account: ExchangeAccount, actor: User | None, armed: bool = True) -> ExchangeAccount:
    """Allow, or stop allowing, an account to send orders to a live exchange (the second of three yeses)."""
    owner_check(actor=actor, owner_id=account.owner_id)
    if armed and not account.has_credentials:
        raise refuse(f"{account.label} has no credentials: set them before arming it for live.")
    if armed and account.exchange.environment == Exchange.Environment.LIVE and not settings.ARB_ALLOW_LIVE_ORDERS:
        raise refuse(
            "This installation sends no live orders: start it with ARB_ALLOW_LIVE_ORDERS=1 before arming an account."
        )
    if account.armed_for_live != armed:
        with transaction.atomic():
            account.armed_for_live = armed
            account.save(update_fields=["armed_for_live"])
            audit_record(actor=actor, subject=account, message="Armed for live." if armed else "Disarmed.")
            engine_hint(account.owner_id)
    return account


def account_delete(*, account: ExchangeAccount, actor: User | None) -> None:
    """Delete an account that never traded; one with a history is disabled instead, so that the ledger stands.

    Raises
    ------
    ValidationError
        If it has orders that are not finished: they name it.
    """
    owner_check(actor=actor, owner_id=account.owner_id)
    orders = Order.objects.filter(account=account)
    with transaction.atomic():
        intents_settle(owner_id=account.owner_id)
        waiting = list(orders.filter(state__in=UNFINISHED_ORDERS).values_list("client_order_id", flat=True)[:5])
        if waiting:
            names = ", ".join(waiting)
            raise refuse(f"{account.label} has orders that are not finished: {names}. Stop its bots first.")
        history = (orders, account.fills, account.ledger_entries, account.incomes, account.differences)
        if any(rows.exists() for rows in history):
            credentials_clear(account=account, actor=actor)
            account_update(account=account, actor=actor, enabled=False)
            return
        audit_record(actor=actor, subject=account, message="Deleted.", flag=DELETION)
        account.balances.all().delete()
        account.positions.all().delete()
        account.delete()
        engine_hint(account.owner_id)


def account_observe(*, account_id: int, state: str, reason: str = "", swept_ns: int = 0) -> bool:
    """Record what the engine sees of an account; returns whether its state is new."""
    if state not in ExchangeAccount.Observed.values:
        raise ValidationError(f"observed state: one of {', '.join(ExchangeAccount.Observed.values)} (given {state!r}).")
    rows = ExchangeAccount.objects.filter(pk=account_id)
    if swept_ns:
        rows.exclude(swept_at=from_ns(swept_ns)).update(swept_at=from_ns(swept_ns))
    limit = ExchangeAccount._meta.get_field("observed_reason").max_length
    values = {"observed_state": state, "observed_reason": reason[:limit]}
    return bool(rows.exclude(**values).update(**values, observed_at=timezone.now()))


def accounts_idle(*, owner_id: int) -> None:
    """Record that no engine uses an owner's accounts any more."""
    idle = ExchangeAccount.Observed.IDLE
    rows = ExchangeAccount.objects.filter(owner_id=owner_id).exclude(observed_state=idle)
    rows.update(observed_state=idle, observed_reason="", observed_at=timezone.now())
