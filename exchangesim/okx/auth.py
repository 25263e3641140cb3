"""OKX signatures: base64 of HMAC-SHA256 over timestamp, method, path and body, and a window of 30 seconds."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256

from exchangesim.core.accounts import Account, account_of
from exchangesim.core.text import same
from exchangesim.okx.errors import OkxError

WINDOW_MS = 30_000
LOGIN_PATH = "GET/users/self/verify"


def sign(secret: str, text: str) -> str:
    """Return the signature of a text as OKX clients compute it."""
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), sha256).digest()).decode()


def authenticate(
    accounts: Mapping[str, Account],
    headers: Mapping[str, str],
    *,
    method: str,
    path: str,
    body: str,
    now_ms: int,
) -> Account:
    """Return the account of a signed REST request. ``path`` is path and query exactly as sent. Raises OkxError."""
    given = {}
    for name, code in (("KEY", "50103"), ("SIGN", "50106"), ("TIMESTAMP", "50107"), ("PASSPHRASE", "50104")):
        given[name] = headers.get(f"OK-ACCESS-{name}", "")
        if not given[name]:
            raise OkxError(code, f"Request header OK-ACCESS-{name} cannot be empty", status=401)
    stamp = _milliseconds(given["TIMESTAMP"])
    if stamp is None:
        raise OkxError("50112", "Invalid OK-ACCESS-TIMESTAMP", status=401)
    if abs(now_ms - stamp) > WINDOW_MS:
        raise OkxError("50102", "Timestamp request expired", status=401)
    account = account_of(accounts, given["KEY"])
    if account is None:
        raise OkxError("50111", "Invalid OK-ACCESS-KEY", status=401)
    if not same(account.passphrase, given["PASSPHRASE"]):
        raise OkxError("50105", "Request header OK-ACCESS-PASSPHRASE incorrect", status=401)
    wanted = sign(account.secret, f"{given['TIMESTAMP']}{method}{path}{body}")
    if not same(wanted, given["SIGN"]):
        raise OkxError("50113", "Invalid Sign", status=401)
    return account


def login(accounts: Mapping[str, Account], arguments: Mapping[str, object], *, now_ms: int) -> Account:
    """Return the account of a WebSocket login. Raises OkxError."""
    key, sign_, stamp, passphrase = (
        str(arguments.get(name) or "") for name in ("apiKey", "sign", "timestamp", "passphrase")
    )
    for value, code, name in (
        (key, "60001", "OK-ACCESS-KEY"),
        (sign_, "60002", "OK-ACCESS-SIGN"),
        (passphrase, "60003", "OK-ACCESS-PASSPHRASE"),
    ):
        if not value:
            raise OkxError(code, f'"{name}" cannot be empty')
    seconds = _number(stamp)
    if seconds is None:
        raise OkxError("60004", "Invalid timestamp")
    if abs(now_ms - seconds * 1000) > WINDOW_MS:
        raise OkxError("60006", "Timestamp request expired")
    account = account_of(accounts, key)
    if account is None:
        raise OkxError("60005", "Invalid apiKey")
    if not same(account.passphrase, passphrase):
        raise OkxError("60024", "Wrong passphrase")
    if not same(sign(account.secret, f"{stamp}{LOGIN_PATH}"), sign_):
        raise OkxError("60007", "Invalid sign")
    return account


def _milliseconds(text: str) -> float | None:
    """Read a header timestamp: ISO 8601, or Unix seconds with decimals."""
    seconds = _number(text)
    if seconds is not None:
        return seconds * 1000
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    except (ValueError, OverflowError):
        return None


def _number(text: str) -> float | None:
    digits = text.replace(".", "", 1)
    return float(text) if len(text) <= 20 and digits.isascii() and digits.isdigit() else None
