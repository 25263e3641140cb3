"""Asking again: what kind of trouble an answer is, how long to wait, how often, and when to stop asking an endpoint.

For questions, cancellations and connections only. A placement is sent once, whatever happens to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec

from trading.ports import Clock

Jitter = Callable[[], float]


class Trouble(StrEnum):
    """What an answer says about asking again."""

    NONE = "none"
    TRANSIENT = "transient"  # may be gone in a moment: no answer, a server error, a clock that is measured anew
    LIMITED = "limited"  # too many requests: not before the exchange says so
    KEY = "key"  # the exchange doesn't take the key, or not from here, or not for this
    PERMANENT = "permanent"  # asked again, it says the same


# RFC 9110 (401, 408), RFC 6585 (429); 418 is Binance's ban. Codes an exchange documents decide before the status.
STATUSES: Mapping[int, Trouble] = {
    401: Trouble.KEY,
    408: Trouble.TRANSIENT,
    418: Trouble.LIMITED,
    429: Trouble.LIMITED,
}
# Errors of client and transport when nothing came back. What is no trouble of the network is a bug, ours or ccxt's:
# it would be the same again. The names are ccxt's, aiohttp's and Python's, looked up along each error's bases.
TRANSPORT = frozenset({"NetworkError", "ClientError", "OSError", "TimeoutError", "CancelledError"})


def trouble_of(http: int, code: str, error: BaseException | None, codes: Mapping[str, Trouble]) -> Trouble:
    """Return what kind of trouble one call ended in, from the answer's status and code (empty: none) and the error.

    ``codes`` is the exchange's own table. Without a status (0) nothing came back and the error's class decides.
    """
    if code in codes:
        return codes[code]
    if http in STATUSES:
        return STATUSES[http]
    if http >= 500:
        return Trouble.TRANSIENT
    if error is None:
        return Trouble.NONE
    if http == 0:
        network = any(base.__name__ in TRANSPORT for base in type(error).__mro__)
        return Trouble.TRANSIENT if network else Trouble.PERMANENT
    # An answer that was cut or is a gateway's page has no code: what the exchange itself would say is not known.
    return Trouble.PERMANENT if code or http >= 400 else Trouble.TRANSIENT


class Backoff:
    """Exponentially growing pauses with full jitter: each is drawn from zero to a ceiling that doubles.

    ``jitter`` gives numbers in [0, 1); so many clients that lost the same exchange don't come back together.
    """

    def __init__(self, first: float, longest: float, jitter: Jitter) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._ceiling = first

    def next(self) -> float:
        """Return the next pause in seconds."""
        ceiling, self._ceiling = self._ceiling, min(self._longest, self._ceiling * 2)
        return ceiling * self._jitter()

    def reset(self) -> None:
        self._ceiling = self._first


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and for how long one question is asked."""

    attempts: int = 3
    seconds: float = 10.0  # from the first attempt: no further one begins later, nor is budget waited for longer
    first_pause: float = 0.25
    longest_pause: float = 2.0


class EndpointBreaker:
    """Stops asking an endpoint that has failed several times in a row, so that its callers get an answer at once.

    Closed: everything passes. Open, for a time that doubles: nothing does. Then half-open: one call probes, and its
    end closes the breaker or opens it again.
    """

    failures_allowed = 5
    first_open_seconds = 5.0
    longest_open_seconds = 60.0

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self._failures = 0
        self._last = ""
        self._open_seconds = self.first_open_seconds
        self._open_until_ns: int | None = None  # None: closed
        self._probing = False

    @property
    def state(self) -> str:
        if self._open_until_ns is None:
            return "closed"
        return "open" if self._clock.monotonic_ns() < self._open_until_ns else "half-open"

    def refusal(self) -> str:
        """Return why nothing may be asked now, empty when it may; the call that may is to report its end."""
        if self._open_until_ns is None:
            return ""
        left = (self._open_until_ns - self._clock.monotonic_ns()) / 1e9
        why = f"{self.name} failed {self._failures} times in a row ({self._last})"
        if left > 0:
            return f"{why}: not asked for {left:.1f} s more"
        if self._probing:
            return f"{why}: one call is finding out whether it is back"
        self._probing = True
        return ""

    def succeeded(self) -> None:
        """The endpoint answered, whatever it said."""
        self._failures = 0
        self._open_seconds = self.first_open_seconds
        self._open_until_ns = None
        self._probing = False

    def failed(self, why: str) -> None:
        self._failures += 1
        self._last = why
        if self._probing:
            self._open_seconds = min(self.longest_open_seconds, self._open_seconds * 2)
        if self._probing or self._failures >= self.failures_allowed:
            self._open_until_ns = self._clock.monotonic_ns() + int(self._open_seconds * 1e9)
        self._probing = False

    def gave_up(self) -> None:
        """The call ended without an answer or a failure, say cancelled: another may probe."""
        self._probing = False


class KeyWatch:
    """Counts refusals of an account's key. One may be an exchange's hiccup; two in a row are not.

    Refused, nothing is sent with the key but a probe now and then: some exchanges lock out who insists.
    """

    refusals_allowed = 1
    probe_seconds = 300.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refusals = 0
        self._probe_at_ns = 0
        self.reason = ""  # why the key counts as invalid; empty while it doesn't

    def refusal(self) -> str:
        """Return why nothing may be sent with the key now; empty when something may."""
        if not self.reason or self._clock.monotonic_ns() >= self._probe_at_ns:
            return ""
        return self.reason

    def accepted(self) -> bool:
        """Note an answer that shows the key is taken; return whether that is news."""
        news, self.reason = bool(self.reason), ""
        self._refusals = 0
        return news

    def try_again(self) -> None:
        """Let requests pass once more; one refusal shuts the door again."""
        self.reason = ""
        self._refusals = self.refusals_allowed

    def refused(self, what: str) -> bool:
        """Note a refusal; return whether the key counts as invalid from now on."""
        self._refusals += 1
        if self._refusals <= self.refusals_allowed:
            return False
        news = not self.reason
        self.reason = (
            f"the exchange refuses this account's requests: {what}; "
            "check the API key, its permissions, its IP list, and the account"
        )
        self._probe_at_ns = self._clock.monotonic_ns() + int(self.probe_seconds * 1e9)
        return news
