"""Asking again: kinds of trouble, pauses, breakers and keys, on virtual time."""

from __future__ import annotations

import aiohttp
import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.worlds import VirtualClock
from trading.exchanges.retries import Backoff, EndpointBreaker, KeyWatch, Trouble, trouble_of

CODES = {"-1": Trouble.TRANSIENT, "-2": Trouble.KEY, "-3": Trouble.LIMITED}


@pytest.mark.parametrize(
    ("http", "code", "error", "expected"),
    [
        (200, "", None, Trouble.NONE),
        (200, "", ccxt.ExchangeError("no JSON"), Trouble.TRANSIENT),
        (200, "-9", ccxt.InvalidOrder("no"), Trouble.PERMANENT),
        (400, "-9", ccxt.OrderNotFound("no"), Trouble.PERMANENT),
        (400, "-1", ccxt.ExchangeError("busy"), Trouble.TRANSIENT),
        (401, "-2", ccxt.DDoSProtection("what ccxt makes of a revoked key"), Trouble.KEY),
        (200, "-3", ccxt.ExchangeError("slow down"), Trouble.LIMITED),
        (429, "", ccxt.RateLimitExceeded("slow down"), Trouble.LIMITED),
        (418, "", ccxt.DDoSProtection("banned"), Trouble.LIMITED),
        (403, "", ccxt.ExchangeNotAvailable("a firewall's page"), Trouble.PERMANENT),
        (408, "", ccxt.RequestTimeout("slow"), Trouble.TRANSIENT),
        (502, "", ccxt.ExchangeNotAvailable("gateway"), Trouble.TRANSIENT),
        (503, "-9", ccxt.ExchangeError("whatever it says"), Trouble.TRANSIENT),
        (0, "", ccxt.RequestTimeout("nothing came"), Trouble.TRANSIENT),
        (0, "", ccxt.OnMaintenance("away"), Trouble.TRANSIENT),
        (0, "", aiohttp.ClientPayloadError("cut"), Trouble.TRANSIENT),
        (0, "", ConnectionResetError(), Trouble.TRANSIENT),
        (0, "", KeyError("a bug"), Trouble.PERMANENT),
        (0, "", ccxt.ArgumentsRequired("a bug"), Trouble.PERMANENT),
    ],
)
def test_kinds_of_trouble(http: int, code: str, error: BaseException | None, expected: Trouble) -> None:
    assert trouble_of(http, code, error, CODES) is expected


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=30))
def test_pauses_are_drawn_below_a_ceiling_that_doubles_and_ends(draws: list[float]) -> None:
    numbers = iter(draws)
    backoff = Backoff(0.25, 4.0, lambda: next(numbers))
    for number, draw in enumerate(draws):
        pause = backoff.next()
        ceiling = min(4.0, 0.25 * 2**number)
        assert pause == pytest.approx(draw * ceiling)
        assert 0 <= pause < ceiling
    backoff.reset()
    backoff._jitter = lambda: 1.0
    assert backoff.next() == 0.25


async def test_a_breaker_opens_probes_and_closes() -> None:
    clock = VirtualClock()
    breaker = EndpointBreaker("order", clock)
    for _ in range(EndpointBreaker.failures_allowed - 1):
        assert breaker.refusal() == ""
        breaker.failed("HTTP 503")
    assert breaker.state == "closed"
    breaker.failed("HTTP 503")
    assert breaker.state == "open"
    assert "order failed 5 times in a row (HTTP 503)" in breaker.refusal()
    await clock.advance(5.1)
    assert breaker.state == "half-open"
    assert breaker.refusal() == ""
    assert "one call is finding out" in breaker.refusal()
    breaker.failed("HTTP 503")
    await clock.advance(5.1)
    assert breaker.state == "open"  # twice as long as before
    await clock.advance(5.1)
    assert breaker.refusal() == ""
    breaker.gave_up()
    assert breaker.refusal() == ""
    breaker.succeeded()
    assert (breaker.state, breaker.refusal()) == ("closed", "")


async def test_a_breaker_never_stays_open_for_long() -> None:
    clock = VirtualClock()
    breaker = EndpointBreaker("order", clock)
    for _ in range(5):
        breaker.failed("HTTP 503")
    for _ in range(10):
        await clock.advance(EndpointBreaker.longest_open_seconds + 0.1)
        assert breaker.refusal() == ""
        breaker.failed("HTTP 503")


def test_failures_with_answers_between_them_open_nothing() -> None:
    breaker = EndpointBreaker("order", VirtualClock())
    for _ in range(20):
        for _ in range(EndpointBreaker.failures_allowed - 1):
            breaker.failed("HTTP 503")
        breaker.succeeded()
    assert breaker.state == "closed"


async def test_a_key_refused_twice_in_a_row_is_invalid_and_probed_now_and_then() -> None:
    clock = VirtualClock()
    key = KeyWatch(clock)
    assert not key.refused("-2015")
    assert not key.accepted()
    assert not key.refused("-2015")
    assert key.refusal() == ""
    assert key.refused("-2015 Invalid API-key")
    assert "-2015 Invalid API-key" in key.refusal()
    await clock.advance(KeyWatch.probe_seconds + 0.1)
    assert key.refusal() == ""
    assert not key.refused("-2015")  # no news
    assert key.refusal()
    assert key.accepted()
    assert (key.reason, key.refusal()) == ("", "")


def test_a_key_on_trial_is_invalid_at_the_first_refusal() -> None:
    key = KeyWatch(VirtualClock())
    key.refused("x")
    key.refused("x")
    key.try_again()
    assert key.refusal() == ""
    assert key.refused("x")


def test_a_key_is_probed_rarely_enough_not_to_be_locked_out() -> None:
    # Kraken locks out for about 15 minutes after repeated bad keys (docs.kraken.com, errors: EGeneral).
    assert KeyWatch.probe_seconds >= 60
