"""Everything a live page shows at one moment, and who may see whose."""

from __future__ import annotations

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
from django.utils.crypto import constant_time_compare

from bots import selectors
from bots.live_cache import last_known
from bots.models.base import sees_everything


def owner_group(owner_id: int) -> str:
    """Return the channel-layer group of one owner's updates."""
    return f"live.owner.{owner_id}"


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


def session_is_valid(*, session_key: str | None, user_id: int) -> bool:
    """Return whether the stored session still signs this user in; reads only, so a page never prolongs a session."""
    store = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    backend_path = store.get(BACKEND_SESSION_KEY)
    if str(store.get(SESSION_KEY)) != str(user_id) or backend_path not in settings.AUTHENTICATION_BACKENDS:
        return False
    user: AbstractBaseUser | None = load_backend(backend_path).get_user(user_id)
    if user is None:
        return False
    stored_hash = store.get(HASH_SESSION_KEY, "")
    return any(
        constant_time_compare(stored_hash, valid)
        for valid in (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    )
