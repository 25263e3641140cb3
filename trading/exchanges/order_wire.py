"""What the order connections of all exchanges have in common: messages out, and what comes back of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from trading.exchanges.connection import ConnectionSettings
from trading.exchanges.protection import Exits
from trading.instruments import Market
from trading.messages import OrderIntent

# Dead peers are noticed after ``silence_timeout``; half of it without a word and we ping.
SILENCE_SECONDS = 10.0


class Answered(msgspec.Struct, frozen=True):
    """An answer to a request, in the form the exchange's REST endpoint would give it, so that one table judges both."""

    identity: str
    status: int
    body: str
    headers: Mapping[str, str] = {}
    ending: str = ""  # why the connection the answer came on is about to end; empty when it isn't
    order: Mapping[str, Any] | None = None  # ccxt's reading of it, where ccxt carried the request


class LoggedOn(msgspec.Struct, frozen=True):
    """How logging on ended: taken when ``refusal`` is empty."""

    refusal: str = ""


class Ending(msgspec.Struct, frozen=True):
    """The exchange is about to close this connection; another one is to be had."""

    reason: str


News = Answered | LoggedOn | Ending | None


class OrderWire(Protocol):
    """The order messages of one account on one exchange. Building one neither waits nor asks."""

    url: str
    settings: ConnectionSettings
    lives_seconds: float | None  # for how long the exchange keeps a connection; None: it says nothing of it
    protects: bool  # whether protective orders are placed and cancelled over this connection

    def logon(self, identity: str) -> bytes | None:
        """Return the message that logs a new connection on; None when every request is signed instead."""

    def place(self, intent: OrderIntent, market: Market, identity: str) -> bytes:
        """Return a placement, to be answered under ``identity``; raise ValueError for one that can't be written."""

    def cancel(self, intent: OrderIntent, market: Market, identity: str) -> bytes: ...

    def protect(self, exits: Exits, market: Market, identity: str) -> bytes:
        """Return the placement of protective orders; raise ValueError where they don't go over this connection."""

    def read(self, message: bytes) -> News:
        """Return what a message says, None when it says nothing of orders; raise ValueError when it is garbage."""


def settings(ping: bytes | None = None) -> ConnectionSettings:
    """Return how an order connection behaves: kept warm by pings, silent otherwise, back soon when it is lost."""
    return ConnectionSettings(
        silence_timeout=SILENCE_SECONDS, ping=ping, first_backoff=0.25, max_backoff=30.0, carries_data=False
    )


BLANK = "\0"


class Form:
    """A text with blanks that are filled in anew each time."""

    __slots__ = ("_pieces",)

    def __init__(self, text: str) -> None:
        texts = text.split(BLANK)
        self._pieces = [BLANK] * (2 * len(texts) - 1)
        self._pieces[::2] = texts

    def filled(self, values: Sequence[str]) -> bytes:
        """Return the text with its values, as they are, in the order of the blanks; raise ValueError unless they are as
        many."""
        pieces = self._pieces.copy()
        pieces[1::2] = values
        return "".join(pieces).encode()


def plain_text(text: str, field: str) -> str:
    """Return a text that may stand between quotes as it is; raise ValueError for one that may not."""
    if not text.isascii() or not (text.isalnum() or text.replace("-", "").replace("_", "").isalnum()):
        raise ValueError(f"{field}: may hold letters, digits, - and _ only (given {text[:40]!r})")
    return text
