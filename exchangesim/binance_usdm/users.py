"""User data: listen keys, the sockets that hear an account by one, and the events they get."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from exchangesim.binance.errors import ApiError
from exchangesim.binance.streams import Listener
from exchangesim.core.accounts import Account
from exchangesim.core.clock import Clock

VALID_SECONDS = 3600.0
_LETTERS = string.ascii_letters + string.digits

encode = msgspec.json.encode


@dataclass(slots=True, eq=False)
class _Key:
    """One account's listen key."""

    text: str
    api_key: str
    until: float
    listeners: dict[Listener, None] = field(default_factory=dict)


class ListenKeys:
    """The listen keys of one exchange. An account has one at a time, valid for an hour after it was last kept alive."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_text: dict[str, _Key] = {}
        self._by_account: dict[str, _Key] = {}

    def open(self, account: Account) -> str:
        """Return the account's key, a new one when it has none, and let it be valid for an hour."""
        key = self._by_account.get(account.api_key)
        if key is None:
            text = "".join(secrets.choice(_LETTERS) for _ in range(64))
            key = self._by_text[text] = self._by_account[account.api_key] = _Key(text, account.api_key, 0.0)
        key.until = self._clock.monotonic() + VALID_SECONDS
        return key.text

    def keep(self, account: Account) -> str:
        """Let the account's key be valid for another hour. Raises -1125 when it has none."""
        if account.api_key not in self._by_account:
            raise ApiError(-1125, "This listenKey does not exist.")
        return self.open(account)

    def drop(self, account: Account) -> None:
        """End the account's key; its sockets stay open and silent."""
        key = self._by_account.pop(account.api_key, None)
        if key is not None:
            del self._by_text[key.text]

    def expire(self, api_key: str | None = None) -> int:
        """End an account's key (``*``: everybody's; None: those whose time is over), and tell its sockets so."""
        now = self._clock.monotonic()
        due = [
            key
            for key in self._by_account.values()
            if (now >= key.until if api_key is None else api_key in ("*", key.api_key))
        ]
        told = 0
        for key in due:
            told += len(key.listeners)
            event = {"e": "listenKeyExpired", "E": self._clock.time_ms(), "listenKey": key.text}
            self._send(key, event, "")
            del self._by_text[key.text], self._by_account[key.api_key]
        return told

    def knows(self, text: str) -> bool:
        return text in self._by_text

    def join(self, listener: Listener, text: str) -> None:
        self._by_text[text].listeners[listener] = None

    def leave(self, listener: Listener) -> None:
        for key in self._by_text.values():
            key.listeners.pop(listener, None)

    def sockets(self, api_key: str) -> list[Listener]:
        """Return who hears an account."""
        key = self._by_account.get(api_key)
        return [] if key is None else list(key.listeners)

    def publish(self, api_key: str, event: Mapping[str, object], symbol: str = "") -> None:
        key = self._by_account.get(api_key)
        if key is not None and key.listeners:
            self._send(key, event, symbol)

    def _send(self, key: _Key, event: Mapping[str, object], symbol: str) -> None:
        raw, name = encode(event), str(event["e"])
        for listener in key.listeners:
            payload = b'{"stream":"%b","data":%b}' % (key.text.encode(), raw) if listener.combined else raw
            listener.connection.send_event(payload, operation=name, symbol=symbol, api_key=key.api_key)
