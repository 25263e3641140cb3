"""Who asks: a browser by its session (with CSRF token), or a program by a token of its user's."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from bots import live_snapshot
from bots.api.problems import Refused
from bots.services.api_tokens import api_token_find, token_digest

WRONG_TOKENS = 20  # from one address
WRONG_SECONDS = 60.0
KNOWN_SECONDS = 600.0
MAX_REMEMBERED = 10_000


class WrongTokens:
    """Keeps an address that sends wrong tokens from making the database look for more of them.

    Tokens that were right lately are looked for all the same: whoever shares the address (behind a proxy everybody
    does) goes on. Bounded; of this process only. Guessing is hopeless anyway, a token has 256 random bits.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()  # by address: since when, how many
        self._right: OrderedDict[str, float] = OrderedDict()  # by digest: when

    def wait(self, address: str, digest: str) -> float:
        """Return for how many seconds this token from this address is not looked for; 0 if it is."""
        now = self._monotonic()
        since, count = self._wrong.get(address, (now, 0))
        if count < WRONG_TOKENS or now - since >= WRONG_SECONDS:
            return 0.0
        if now - self._right.get(digest, -KNOWN_SECONDS) < KNOWN_SECONDS:
            return 0.0
        return since + WRONG_SECONDS - now

    def found(self, digest: str) -> None:
        """Remember a token that was right."""
        _remember(self._right, digest, self._monotonic())

    def not_found(self, address: str, digest: str) -> None:
        """Count a token that was wrong."""
        self._right.pop(digest, None)  # revoked since
        now = self._monotonic()
        since, count = self._wrong.get(address, (now, 0))
        _remember(self._wrong, address, (now, 1) if now - since >= WRONG_SECONDS else (since, count + 1))

    def clear(self) -> None:
        self._wrong.clear()
        self._right.clear()


def _remember(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > MAX_REMEMBERED:
        known.popitem(last=False)


wrong_tokens = WrongTokens()


class TokenAuth(HttpBearer):
    """``Authorization: Bearer <token>``. A header that is there decides: no session stands in for a wrong token."""

    def __call__(self, request: HttpRequest) -> User | None:
        header = request.headers.get("Authorization")
        if not header:
            return None
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Refused(401, "Authorization: must be Bearer <token>.", headers=CHALLENGE)
        return self.authenticate(request, secret.strip())

    def authenticate(self, request: HttpRequest, token: str) -> User:
        address, digest = request.META.get("REMOTE_ADDR") or "", token_digest(token)
        if wait := wrong_tokens.wait(address, digest):
            seconds = int(wait) + 1
            raise Refused(
                429, f"Too many wrong tokens from this address: wait {seconds} s.",
                headers={"Retry-After": str(seconds)},
            )  # fmt: skip
        found = api_token_find(token)
        if found is None:
            wrong_tokens.not_found(address, digest)
            raise Refused(401, "The token is not valid: it is unknown, revoked or expired.", headers=CHALLENGE)
        wrong_tokens.found(digest)
        return found.owner


class SessionAuth(APIKeyCookie):
    """The session cookie; whatever changes something needs the CSRF token as well (header ``X-CSRFToken``)."""

    def __init__(self, cookie: str) -> None:
        self.param_name = cookie
        super().__init__(csrf=True)

    def __call__(self, request: HttpRequest) -> User | None:
        user = request.user
        if not isinstance(user, User) or not user.is_authenticated:
            return None  # an expired session is told to sign in, not that its CSRF token is missing
        if check_csrf(request):
            raise Refused(403, "The CSRF token is missing or wrong: send it as the header X-CSRFToken, or reload.")
        return user

    def authenticate(self, request: HttpRequest, key: str | None) -> User | None:
        raise NotImplementedError("asked as a whole")


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="arb", error="invalid_token"'}


def user_of(request: HttpRequest) -> User:
    """Return who asks; only for operations that are authenticated."""
    user: User = request.auth  # type: ignore[attr-defined]
    return user


def owner_of(request: HttpRequest, requested: int | None) -> User:
    """Return whose desk is meant: one's own, or for operators the one asked for.

    Raises PermissionDenied.
    """
    user = user_of(request)
    owner = live_snapshot.find_owner(user=user, requested=None if requested is None else str(requested))
    if owner is None:
        raise PermissionDenied("owner: only operators may ask for the desk of another user, and it must exist.")
    return owner
