"""Tokens of the HTTP API: made once, shown once, taken back at any time."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from hashlib import sha256

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from bots.models import ApiToken
from bots.services.audit import ADDITION, audit_record, owner_check
from bots.services.validation import refuse, save_checked
from bots.services.written import Written

MARK = "arb_"  # so that a token found in a file is known for what it is
SHOWN = len(MARK) + 6
MAX_TOKENS = 50
# Between two writes of when a token was last used.
USE_WRITTEN = timedelta(minutes=1)
_BY_DIGEST = Written(lambda digest: ApiToken.objects.select_related("owner").filter(digest=digest).order_by(), str)


def token_digest(secret: str) -> str:
    """Return the hash a token is stored and found by. A token is 256 random bits: it needs no slow hash."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def api_token_create(
    *, owner: User, actor: User | None, name: str, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """Make a token; return its row and the token itself, which is not kept.

    Raises ValidationError, and PermissionDenied for another user's: a token acts in its owner's name.
    """
    if actor is not None and actor.pk != owner.pk:
        raise PermissionDenied("A token acts in its owner's name, so only they make it.")
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        raise refuse(f"Must be in the future (given {expires_at:%Y-%m-%d %H:%M} UTC).", field="expires_at")
    with transaction.atomic():
        valid = ApiToken.objects.filter(owner=owner, revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=now))
        if valid.count() >= MAX_TOKENS:
            raise refuse(f"A user may have at most {MAX_TOKENS} valid tokens: revoke one first.")
        secret = MARK + secrets.token_urlsafe(32)
        token = ApiToken(
            owner=owner, name=name, digest=token_digest(secret), prefix=secret[:SHOWN], expires_at=expires_at
        )
        save_checked(token)
        audit_record(actor=actor, subject=token, message="Created.", flag=ADDITION)
    return token, secret


def api_token_revoke(*, token: ApiToken, actor: User | None) -> bool:
    """Take a token back; False when it had been before."""
    owner_check(actor=actor, owner_id=token.owner_id)
    with transaction.atomic():
        changed = ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
        if changed:
            audit_record(actor=actor, subject=token, message="Revoked.")
    return bool(changed)


def api_token_find(secret: str) -> ApiToken | None:
    """Return the valid token that this is, its owner loaded; None if there is none or its owner is not active."""
    token = next(iter(_BY_DIGEST(token_digest(secret))), None)
    now = timezone.now()
    if token is None or not token.is_valid(now) or not token.owner.is_active:
        return None
    if token.last_used_at is None or now - token.last_used_at >= USE_WRITTEN:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token
