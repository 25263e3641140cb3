"""Everything a live page shows at one moment, and who may see whose."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.contrib.auth.models import AbstractBaseUser, AbstractUser
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from bots import selectors
from bots.live_cache import last_known
from bots.models.base import sees_everything

Asked = tuple[str | None, int]  # session key, user


def snapshot(*, owner_id: int) -> dict[str, Any]:
    """Return the `snapshot` of docs/live-messages.md: this process's last known market data, the rest as stored."""
    return {
        "quotes": last_known.latest("quote"),
        "feeds": last_known.latest("feed"),
        **selectors.live_snapshot(owner_id=owner_id),
    }


def find_owner(*, user: AbstractUser, requested: str | None) -> AbstractUser | None:
    """Return whose desk ``user`` looks at, or None if it isn't theirs to see.

    Users see their own; operators may ask for anybody's by user id.
    """
    if requested is None or requested == str(user.pk):
        return user
    if not sees_everything(user) or not requested.isascii() or not requested.isdecimal() or len(requested) > 18:
        return None
    return get_user_model().objects.filter(pk=int(requested)).first()


def sessions_valid(asked: Collection[Asked]) -> set[Asked]:
    """Return which of these stored sessions still sign their users in.

    Two queries, however many are asked for. Reads only, so a page never prolongs a session.
    """
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    stored = store.get_model_class().objects.in_bulk([key for key, _ in asked if key])
    users = get_user_model()._default_manager.in_bulk({user_id for _, user_id in asked})
    now = timezone.now()
    standing = {key: store.decode(one.session_data) for key, one in stored.items() if one.expire_date > now}
    return {
        (key, user_id) for key, user_id in asked if key in standing and _signs_in(standing[key], users.get(user_id))
    }


def _signs_in(session: Mapping[str, Any], user: AbstractBaseUser | None) -> bool:
    """Return whether a session is this user's, by a login that still counts."""
    path = session.get(BACKEND_SESSION_KEY)
    if user is None or str(session.get(SESSION_KEY)) != str(user.pk) or path not in settings.AUTHENTICATION_BACKENDS:
        return False
    if not load_backend(path).user_can_authenticate(user):
        return False
    stored_hash = session.get(HASH_SESSION_KEY, "")
    return any(
        constant_time_compare(stored_hash, valid)
        for valid in (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    )
