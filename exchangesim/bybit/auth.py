"""Bybit signatures: hex of HMAC-SHA256 over timestamp, key, window and payload, and a window of the caller's choice."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256

from exchangesim.bybit.errors import BybitError, bad_request
from exchangesim.core.accounts import Account, account_of
from exchangesim.core.text import same

DEFAULT_WINDOW_MS = 5_000
AHEAD_MS = 1_000


def sign(secret: str, text: str) -> str:
    """Return the signature of a text as Bybit clients compute it."""
    return hmac.new(secret.encode(), text.encode(), sha256).hexdigest()


def check_window(timestamp: str, window: str, *, now_ms: int) -> None:
    """Refuse a request unless now - window <= timestamp < now + 1000. Raises BybitError."""
    stamp, length = _whole(timestamp), _whole(window) if window else DEFAULT_WINDOW_MS
    if stamp is None or length is None:
        raise bad_request("X-BAPI-TIMESTAMP and X-BAPI-RECV-WINDOW must be whole milliseconds.")
    if not now_ms - length <= stamp < now_ms + AHEAD_MS:
        raise BybitError(
            10002,
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{stamp}],server_timestamp[{now_ms}],recv_window[{length}]",
        )


def authenticate(accounts: Mapping[str, Account], headers: Mapping[str, str], *, payload: str, now_ms: int) -> Account:
    """Return the account of a signed REST request. ``payload`` is the query or the body as sent. Raises BybitError."""
    key, timestamp, given, window = (
        headers.get(f"X-BAPI-{name}", "") for name in ("API-KEY", "TIMESTAMP", "SIGN", "RECV-WINDOW")
    )
    if not key or not timestamp or not given:
        raise bad_request("X-BAPI-API-KEY, X-BAPI-TIMESTAMP and X-BAPI-SIGN are needed.")
    account = account_of(accounts, key)
    if account is None:
        raise BybitError(10003, "API key is invalid.")
    check_window(timestamp, window, now_ms=now_ms)
    wanted = sign(account.secret, f"{timestamp}{key}{window}{payload}")
    if not same(wanted, given.lower()):
        raise BybitError(10004, "Error sign, please check your signature generation algorithm.")
    return account


def login(accounts: Mapping[str, Account], arguments: list[object], *, now_ms: int) -> Account:
    """Return the account of a WebSocket ``auth`` with arguments key, expiry and signature. Raises BybitError."""
    if len(arguments) != 3:
        raise BybitError(10001, "Params Error")
    key, expires, given = (str(argument) for argument in arguments)
    expiry = _whole(expires)
    if expiry is None or expiry <= now_ms:
        raise BybitError(10001, "Params Error: expires must be later than now")
    account = account_of(accounts, key)
    if account is None:
        raise BybitError(10003, "Invalid apikey")
    if not same(sign(account.secret, f"GET/realtime{expires}"), given.lower()):
        raise BybitError(10004, "Invalid sign")
    return account


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 16 else None
