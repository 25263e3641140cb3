"""Calls to one account's exchange: budget, retries, breakers and what the answers say of limits, clock and key.

A placement goes through :meth:`Calls.once`, everything else through :meth:`Calls.ask`, which may ask again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from trading.exchanges.budget import Budget
from trading.exchanges.ccxt_client import CURRENT_ANSWER, HttpAnswer
from trading.exchanges.generic.dialect import Dialect, Incomplete, Reading
from trading.exchanges.generic.scrub import Scrubber
from trading.exchanges.retries import Backoff, EndpointBreaker, Jitter, KeyWatch, Policy, Trouble, trouble_of
from trading.ports import Clock

Value = TypeVar("Value")

POLICY = Policy()
DEFAULT_PAUSE_SECONDS = 10.0  # after a 429 or 418 that names no time
LONGEST_PAUSE_SECONDS = 3 * 86_400.0  # Binance's longest ban; a longer one is a misread header
FORBIDDEN = 403
PUBLIC = frozenset({"time"})  # operations whose answers say nothing of the key


class NotAsked(Exception):
    """A request that was not sent; the text says why."""


class Reply(msgspec.Struct, Generic[Value]):
    """How asking ended: the last attempt's raw answer and reading, and a value or an error."""

    value: Value | None
    error: BaseException | None
    answer: HttpAnswer
    reading: Reading
    trouble: Trouble


class Calls:
    """One account's calls. ``on_key`` is told why the key counts as invalid, or an empty text when it is taken again;
    ``on_clock`` that an answer doubts our clock."""

    def __init__(
        self,
        dialect: Dialect,
        budget: Budget,
        clock: Clock,
        scrub: Scrubber,
        *,
        jitter: Jitter,
        on_key: Callable[[str], None],
        on_clock: Callable[[], None],
    ) -> None:
        self.budget = budget
        self._dialect = dialect
        self._clock = clock
        self._scrub = scrub
        self._jitter = jitter
        self._on_key = on_key
        self._on_clock = on_clock
        self._breakers: dict[str, EndpointBreaker] = {}
        # Apart, because a key may be allowed to read and not to trade.
        self.reading_key = KeyWatch(clock)
        self.trading_key = KeyWatch(clock)
        self.retried = 0
        dialect.next_page = self._next_page

    def breaker(self, operation: str) -> EndpointBreaker:
        known = self._breakers.get(operation)
        if known is None:
            known = self._breakers[operation] = EndpointBreaker(operation, self._clock)
        return known

    async def ask(
        self,
        operation: str,
        call: Callable[[], Awaitable[Value]],
        *,
        method: str | None = None,
        policy: Policy = POLICY,
    ) -> Reply[Value]:
        """Make a call that may be repeated, until it is answered, asking again is useless or the policy is used up.

        ``method`` is the HTTP method of the request looked at, the dialect's own for questions if not given. Never
        raises; a call that was not made ends in NotAsked.
        """
        method = self._dialect.asks_by if method is None else method
        backoff = Backoff(policy.first_pause, policy.longest_pause, self._jitter)
        end_ns = self._clock.monotonic_ns() + int(policy.seconds * 1e9)
        reply: Reply[Value] | None = None
        for attempt in range(policy.attempts):
            left = (end_ns - self._clock.monotonic_ns()) / 1e9
            if attempt and left <= 0:
                break
            why = await self._obstacle(operation, max(left, 0.0))
            if why:
                return reply or Reply(None, NotAsked(why), HttpAnswer(method), Reading(), Trouble.PERMANENT)
            self.retried += attempt > 0
            reply = await self.once(operation, HttpAnswer(method), call)
            if reply.trouble not in {Trouble.TRANSIENT, Trouble.LIMITED}:
                break
            if reply.trouble is Trouble.TRANSIENT and attempt + 1 < policy.attempts:
                await self._clock.sleep(backoff.next())
        assert reply is not None
        return reply

    async def once(self, operation: str, answer: HttpAnswer, call: Callable[[], Awaitable[Value]]) -> Reply[Value]:
        """Make one call whose raw answer is kept in ``answer``; raise only when we are to stop."""
        breaker = self.breaker(operation)
        error: BaseException | None = None
        value: Value | None = None
        token = CURRENT_ANSWER.set(answer)
        try:
            value = await call()
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                breaker.gave_up()
                raise  # the caller books an order as unknown
            error = cancelled
        except Exception as problem:
            error = problem
        finally:
            CURRENT_ANSWER.reset(token)
        reading = self._dialect.read(answer.body) if answer.body else Reading()
        trouble = trouble_of(answer.status, reading.code, error, self._dialect.troubles)
        if isinstance(error, Incomplete | LookupError):  # the answer came, and lacks something
            trouble = Trouble.PERMANENT
        if any(text in reading.message for text in self._dialect.restricted):
            trouble = Trouble.KEY
        self._learn(operation, answer, reading, trouble, error)
        return Reply(value, error, answer, reading, trouble)

    async def _next_page(self, operation: str) -> None:
        wait = await self.budget.wait_question(self._dialect.cost(f"{operation}_page"), POLICY.seconds)
        if wait > 0:
            raise NotAsked(f"the request budget is used up for {wait:.1f} s")

    async def _obstacle(self, operation: str, seconds: float) -> str:
        """Return why an operation can't be asked; empty once its budget is taken, for which ``seconds`` are waited."""
        if operation not in PUBLIC and (why := self.reading_key.refusal()):
            return why
        breaker = self.breaker(operation)
        if why := breaker.refusal():
            return why
        try:
            wait = await self.budget.wait_question(self._dialect.cost(operation), seconds)
        except asyncio.CancelledError:
            breaker.gave_up()
            raise
        if wait > 0:
            breaker.gave_up()
            return f"the request budget is used up for {wait:.1f} s"
        return ""

    def _learn(
        self, operation: str, answer: HttpAnswer, reading: Reading, trouble: Trouble, error: BaseException | None
    ) -> None:
        if trouble is Trouble.LIMITED:  # whoever goes on asking is banned
            self.budget.pause(self._seconds_to_wait(answer, reading))
        for name, used in self._dialect.used(answer.headers).items():
            self.budget.correct(name, used)
        if reading.code and reading.code in self._dialect.clock_codes:
            self._on_clock()
        if trouble is Trouble.TRANSIENT:
            self.breaker(operation).failed(self._describe(answer, reading, error))
        else:
            self.breaker(operation).succeeded()
        if operation not in PUBLIC:
            self._learn_of_key(operation, answer, reading, trouble)

    def _learn_of_key(self, operation: str, answer: HttpAnswer, reading: Reading, trouble: Trouble) -> None:
        trades = operation in {"place", "cancel", "leverage"}
        watch = self.trading_key if trades else self.reading_key
        # A firewall's page has no code. It proves nothing of the order, but whoever goes on sending is banned.
        if trouble is Trouble.KEY or (trades and answer.status == FORBIDDEN and not reading.code):
            if watch.refused(self._describe(answer, reading, None)):
                self._on_key(watch.reason)
            return
        # "No such order" is said to a key that is taken, too. Any other refusal ends a row of them, but once the key
        # counts as invalid it takes an answer to prove it good: a wrong parameter may be seen before the key is.
        answered = 200 <= answer.status < 300 and trouble is Trouble.NONE
        if answered or reading.code in self._dialect.not_found:
            if watch.accepted() and not self.key_refused:
                self._on_key("")
        elif trouble is Trouble.PERMANENT and reading.code and not watch.reason:
            watch.accepted()

    def _seconds_to_wait(self, answer: HttpAnswer, reading: Reading) -> float:
        """Return how long a limited answer tells to wait, by its header, its text or what the exchange documents."""
        told = [_retry_after(answer.headers), self._dialect.told_to_wait(answer, reading, self._clock.time_ns())]
        known = [seconds for seconds in told if seconds is not None]
        return min(max(known, default=DEFAULT_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

    @property
    def key_refused(self) -> str:
        """Why the key counts as invalid; empty while it doesn't."""
        return self.reading_key.reason or self.trading_key.reason

    def _describe(self, answer: HttpAnswer, reading: Reading, error: BaseException | None) -> str:
        if reading.code or reading.message:
            return self._scrub(f"{reading.code} {reading.message}".strip())
        return f"HTTP {answer.status}" if answer.status else self._scrub.error(error)


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    """Return the seconds a limited answer asks to wait (RFC 9110: whole seconds; dates are not sent by exchanges)."""
    for name, value in headers.items():
        if name.lower() == "retry-after" and str(value).isdigit():
            return float(value)
    return None
