"""Secrets never reach a log line."""

from __future__ import annotations

import io
import logging

import pytest

from arbplatform.logs import LineFormatter, RedactSecrets, RefusalsInOneLine, redact

SECRET = "s3cr3tvalue0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"GET /api/v3/order?symbol=BTCUSDT&signature={SECRET}",
        f"headers {{'X-MBX-APIKEY': '{SECRET}', 'Accept': '*/*'}}",
        f'{{"apiKey": "{SECRET}", "x": 1}}',
        f"OK-ACCESS-PASSPHRASE: {SECRET}",
        f"X-BAPI-SIGN={SECRET}",
        f"password = '{SECRET}'",
        f"postgres://arb:{SECRET}@db:5432/arb",
        f"redis://:{SECRET}@cache:6379/0",
        f"Authorization: Bearer {SECRET}",
        f"listenKey={SECRET}",
        f"Cookie: arb_session={SECRET}; x=1",
    ],
)
def test_a_secret_is_taken_out(text: str) -> None:
    assert SECRET not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    ["BTC/USDT bid 100.5 ask 100.6", "signal 15 received", "design: tokens per second 5", "postgres://db:5432/arb"],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_arguments_and_tracebacks_are_redacted() -> None:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(LineFormatter())
    handler.addFilter(RedactSecrets())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError(f"bad answer to api_key={SECRET}")
    except ValueError:
        logger.exception("request with %s failed", {"secret": SECRET})
    assert SECRET not in output.getvalue()
    assert "ValueError: bad answer" in output.getvalue()


@pytest.mark.parametrize("status", [403, 500])
def test_a_refused_request_is_one_line_and_a_failed_one_has_its_traceback(status: int) -> None:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(LineFormatter())
    handler.addFilter(RefusalsInOneLine())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise PermissionError
    except PermissionError:
        logger.warning("Forbidden: /admin/", exc_info=True, extra={"status_code": status})
    assert ("Traceback" in output.getvalue()) == (status == 500)
