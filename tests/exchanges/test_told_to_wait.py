"""How long a limited answer tells to wait, in each exchange's own way."""

from __future__ import annotations

import json

import pytest

from trading.exchanges.binance.venue import BinanceDialect
from trading.exchanges.bybit.venue import BybitDialect
from trading.exchanges.ccxt_client import HttpAnswer
from trading.exchanges.generic.dialect import Dialect, Names
from trading.exchanges.okx.venue import OkxDialect

NOW_MS = 1_760_000_000_000


def told(made: type[Dialect], body: object, headers: dict[str, str] | None = None) -> float | None:
    dialect = made(Names(1))
    answer = HttpAnswer("GET")
    answer.body, answer.headers = json.dumps(body), headers or {}
    return dialect.told_to_wait(answer, dialect.read(answer.body), NOW_MS * 1_000_000)


def banned(until_ms: int) -> dict[str, object]:
    text = f"Way too much request weight used; IP banned until {until_ms}. Please use WebSocket Streams."
    return {"code": -1003, "msg": text}


@pytest.mark.parametrize(("ahead_ms", "seconds"), [(120_000, 120.0), (200, 1.0), (-5_000, 1.0)])
def test_binance_says_in_its_text_until_when_an_address_is_banned(ahead_ms: int, seconds: float) -> None:
    assert told(BinanceDialect, banned(NOW_MS + ahead_ms)) == seconds


def test_binance_without_such_a_text_leaves_it_to_the_header() -> None:
    assert told(BinanceDialect, {"code": -1003, "msg": "Too many requests."}) is None


@pytest.mark.parametrize(("ahead_ms", "seconds"), [(2_500, 2.5), (10, 1.0)])
def test_bybit_says_in_a_header_when_its_window_ends_by_the_clock_of_its_answer(ahead_ms: int, seconds: float) -> None:
    its_ms = NOW_MS + 3_600_000  # an hour from ours
    headers = {"X-Bapi-Limit-Reset-Timestamp": str(its_ms + ahead_ms)}
    assert told(BybitDialect, {"retCode": 10006, "retMsg": "Too many visits!", "time": its_ms}, headers) == seconds


@pytest.mark.parametrize("code", [10009, 10018])
def test_bybits_bans_of_an_address_last_ten_minutes(code: int) -> None:
    assert told(BybitDialect, {"retCode": code, "retMsg": "Exceeded the IP Rate Limit.", "time": NOW_MS}) == 600.0


def test_bybit_without_the_header_and_okx_tell_nothing() -> None:
    assert told(BybitDialect, {"retCode": 10006, "retMsg": "Too many visits!", "time": NOW_MS}) is None
    assert told(OkxDialect, {"code": "50011", "msg": "Too Many Requests", "data": []}) is None
