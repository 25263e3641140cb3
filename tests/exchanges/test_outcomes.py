"""Outcome tables: only what an exchange documents as a refusal is one."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

import ccxt
import pytest

from trading.exchanges.binance import outcomes as binance
from trading.exchanges.binance_usdm import outcomes as binance_usdm
from trading.exchanges.bybit import outcomes as bybit
from trading.exchanges.coinbase import outcomes as coinbase
from trading.exchanges.gate import outcomes as gate
from trading.exchanges.generic import outcomes as generic
from trading.exchanges.generic.dialect import Names, Reading
from trading.exchanges.generic.dialects import dialect_class
from trading.exchanges.kraken import outcomes as kraken
from trading.exchanges.kucoin import outcomes as kucoin
from trading.exchanges.okx import outcomes as okx
from trading.exchanges.outcomes import OutcomeRow, Table
from trading.exchanges.retries import Trouble
from trading.messages import Outcome

TABLES = {
    "binance": binance.TABLE,
    "binanceusdm": binance_usdm.TABLE,
    "okx": okx.TABLE,
    "bybit": bybit.TABLE,
    "kraken": kraken.TABLE,
    "coinbase": coinbase.TABLE,
    "kucoin": kucoin.TABLE,
    "gate": gate.TABLE,
    "generic": generic.TABLE,
}
TROUBLES = {
    "binance": binance.TROUBLES,
    "binanceusdm": binance_usdm.TROUBLES,
    "okx": okx.TROUBLES,
    "bybit": bybit.TROUBLES,
    "kraken": kraken.TROUBLES,
    "coinbase": coinbase.TROUBLES,
    "kucoin": kucoin.TROUBLES,
    "gate": gate.TROUBLES,
}
ROWS = [(name, row) for name, table in TABLES.items() for row in table.rows]
# Words of an exchange, or of who collected its codes, for "no idea" and "the earlier one lives".
UNSURE = re.compile(
    r"time ?d? ?out|internal|system error|server error|\bbusy\b|duplicat|service|unavailable|unknown|network|offline"
    r"|mainten|try again|processing",
    re.IGNORECASE,
)
# Codes whose words are such and which refuse all the same, with the reason.
SURE = {
    "binance": {
        "-1014": "unknown order composition: the request is wrong",
        "-1103": "unknown parameter",
        "-1020": "unsupported operation",
        "-1112": "no orders on the book: documented among the request's issues",
    },
    "binanceusdm": {
        "-1014": "unknown order composition: the request is wrong",
        "-1103": "unknown parameter",
        "-1020": "unsupported operation",
        "-2023": "documented: the user is being liquidated, nothing else is taken",
        "-1122": "the symbol's status is wrong",
        "-4400": "a rule of trading is broken: only reductions are taken",
        "-4118": "the margin does not suffice",
    },
    "okx": {"51120": "the quantity is too small"},
    "bybit": {
        **dict.fromkeys(("170197", "170198", "170199", "170200"), "the quantity is too large"),
    },
    "kraken": {
        "EService:Market in post_only mode": "documented: only maker orders are taken",
        "EService:Market in cancel_only mode": "documented: only cancellations are taken",
    },
    "coinbase": {},
    "kucoin": {},
    "gate": {},
}


# Of Binance's exceptions in ccxt, those of other markets than USD-M's: some codes mean something else there.
OTHER_SECTIONS = ("spot", "inverse", "option", "portfolioMargin")


def codes_of_ccxt(name: str) -> dict[str, type[BaseException]]:
    """Every code and text in ccxt's exceptions of an exchange, with its class."""
    found: dict[str, type[BaseException]] = {}

    def collect(value: Mapping[str, Any]) -> None:
        for key, inner in value.items():
            if isinstance(inner, Mapping):
                if name != "binanceusdm" or key not in OTHER_SECTIONS:
                    collect(inner)
            elif isinstance(inner, type):
                found[key] = inner

    collect(getattr(ccxt, name)().exceptions)
    return found


def words_of_ccxt(name: str) -> dict[str, str]:
    """What ccxt's source says beside a code."""
    source = inspect.getsource(getattr(ccxt, "binance" if name == "binanceusdm" else name))
    return dict(re.findall(r"^\s*'([^']+)': [A-Za-z]+,\s*# (.*)$", source, re.MULTILINE))


def reading_of(name: str, code: str) -> Reading:
    """A code as the exchange's dialect reads it from a body."""
    number = code.lstrip("-").isdigit()
    if name.startswith("binance") and not number:
        # ccxt keys some by their text; its comment has the whole answer.
        whole = words_of_ccxt(name).get(code, "")
        return dialect_class(name)(Names(1)).read(
            whole if whole.startswith("{") else json.dumps({"code": -2010, "msg": code})
        )
    bodies: dict[str, object] = {
        "binance": {"code": int(code) if number else 0, "msg": ""},
        "binanceusdm": {"code": int(code) if number else 0, "msg": ""},
        "okx": {"code": code, "msg": "", "data": []},
        "bybit": {"retCode": int(code) if number else 1, "retMsg": code, "result": {}},
        "kraken": {"error": [code]},
        "coinbase": {"error": code, "message": ""},
        "kucoin": {"code": code, "msg": ""} if number else {"code": "400100", "msg": code},
        "gate": {"label": code, "message": ""},
    }
    return dialect_class(name)(Names(1)).read(json.dumps(bodies[name]))


@pytest.mark.parametrize(
    ("name", "row"), ROWS, ids=[f"{name}-{row.code or row.http or row.text}" for name, row in ROWS]
)
def test_each_row_decides_what_it_names(name: str, row: OutcomeRow) -> None:
    outcome, meaning = TABLES[name].judge(row.http or 400, row.code or "", row.text or "")
    assert (outcome, meaning) == (row.outcome, row.meaning)


@pytest.mark.parametrize("name", list(TROUBLES))
def test_no_code_that_means_no_idea_is_a_refusal(name: str) -> None:
    words = words_of_ccxt(name)
    codes = codes_of_ccxt(name)
    assert len(codes) > 20
    for code, kind in codes.items():
        reading = reading_of(name, code)
        outcome, _ = TABLES[name].judge(200, reading.code, reading.message)
        if outcome is not Outcome.REJECTED or code in SURE[name] or reading.code in SURE[name]:
            continue
        trouble = TROUBLES[name].get(reading.code)
        # ccxt counts limits and clocks among what may be tried again; those are refusals nevertheless.
        if issubclass(kind, ccxt.OperationFailed) and trouble is not Trouble.LIMITED:
            assert issubclass(kind, ccxt.InvalidNonce | ccxt.DDoSProtection | ccxt.RateLimitExceeded), (
                code,
                kind.__name__,
            )
        text = f"{code} {words.get(code, '')}"
        if trouble in {Trouble.LIMITED, Trouble.KEY}:
            continue
        assert not UNSURE.search(text), (code, text)


@pytest.mark.parametrize("name", list(TROUBLES))
def test_what_is_worth_asking_again_is_no_refusal_but_for_clocks(name: str) -> None:
    dialect = dialect_class(name)
    for code, trouble in TROUBLES[name].items():
        outcome, _ = TABLES[name].judge(200, code, "")
        if trouble is Trouble.TRANSIENT and code not in dialect.clock_codes:
            assert outcome is Outcome.UNKNOWN, code


@pytest.mark.parametrize("name", list(TROUBLES))
def test_every_dialect_uses_its_own_tables(name: str) -> None:
    dialect = dialect_class(name)
    assert dialect.table is TABLES[name]
    assert dialect.troubles is TROUBLES[name]
    assert dialect.timeout_ms() >= dialect.backend_seconds * 1000 + 1000
    assert dialect.absence_seconds() >= dialect.window_seconds + dialect.backend_seconds + 1


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
@pytest.mark.parametrize("http", [500, 502, 503, 504])
def test_a_server_error_is_unknown_whatever_it_says(table: Table, http: int) -> None:
    for code in {"", *(row.code or "" for row in table.rows)}:
        assert table.judge(http, code, "")[0] is Outcome.UNKNOWN


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
@pytest.mark.parametrize(("http", "code"), [(200, ""), (400, ""), (400, "987654"), (403, ""), (404, ""), (0, "")])
def test_what_no_row_names_is_unknown(table: Table, http: int, code: str) -> None:
    assert table.judge(http, code, "<html>")[0] is Outcome.UNKNOWN


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_no_row_says_placed_and_every_row_has_its_source(table: Table) -> None:
    for row in table.rows:
        assert row.outcome in {Outcome.REJECTED, Outcome.UNKNOWN}
        assert row.source
        assert row.meaning


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_no_row_is_hidden_by_an_earlier_one(table: Table) -> None:
    for row in table.rows:
        first = next(one for one in table.rows if one.matches(row.http or 400, row.code or "", row.text or ""))
        assert first.outcome is row.outcome


@pytest.mark.parametrize(
    ("table", "http", "code", "message", "expected"),
    [
        (binance.TABLE, 400, "-2010", "Account has insufficient balance for requested action.", Outcome.REJECTED),
        (binance.TABLE, 400, "-2010", "Duplicate order sent.", Outcome.UNKNOWN),
        (binance.TABLE, 400, "-1007", "Timeout waiting for response from backend server.", Outcome.UNKNOWN),
        (binance.TABLE, 400, "-1006", "", Outcome.UNKNOWN),
        (binance.TABLE, 400, "-1021", "Timestamp for this request is outside of the recvWindow.", Outcome.REJECTED),
        (binance.TABLE, 400, "-2015", "", Outcome.REJECTED),
        (binance.TABLE, 429, "-1003", "", Outcome.REJECTED),
        (binance.TABLE, 418, "", "", Outcome.REJECTED),
        (binance_usdm.TABLE, 400, "-2019", "Margin is insufficient.", Outcome.REJECTED),
        (binance_usdm.TABLE, 400, "-2022", "ReduceOnly Order is rejected.", Outcome.REJECTED),
        (binance_usdm.TABLE, 400, "-4061", "", Outcome.REJECTED),
        (binance_usdm.TABLE, 400, "-4116", "ClientOrderId is duplicated.", Outcome.UNKNOWN),
        (binance_usdm.TABLE, 400, "-1007", "", Outcome.UNKNOWN),
        (binance_usdm.TABLE, 408, "-1007", "", Outcome.UNKNOWN),
        (binance_usdm.TABLE, 503, "-1008", "", Outcome.UNKNOWN),
        (okx.TABLE, 200, "51008", "", Outcome.REJECTED),
        (okx.TABLE, 200, "51016", "", Outcome.UNKNOWN),
        (okx.TABLE, 200, "51149", "", Outcome.UNKNOWN),
        (okx.TABLE, 200, "50004", "", Outcome.UNKNOWN),
        (okx.TABLE, 429, "50011", "", Outcome.REJECTED),
        (bybit.TABLE, 200, "170131", "", Outcome.REJECTED),
        (bybit.TABLE, 200, "170141", "", Outcome.UNKNOWN),
        (bybit.TABLE, 200, "170007", "", Outcome.UNKNOWN),
        (bybit.TABLE, 200, "10000", "", Outcome.UNKNOWN),
        (okx.TABLE, 200, "51011", "", Outcome.UNKNOWN),
        (bybit.TABLE, 200, "10014", "", Outcome.UNKNOWN),
        (kraken.TABLE, 200, "EService:Unavailable", "", Outcome.UNKNOWN),
        (kraken.TABLE, 200, "EOrder:Insufficient funds", "", Outcome.REJECTED),
        (coinbase.TABLE, 200, "UNKNOWN_FAILURE_REASON", "", Outcome.UNKNOWN),
        (coinbase.TABLE, 200, "INSUFFICIENT_FUND", "", Outcome.REJECTED),
        (kucoin.TABLE, 200, "200004", "", Outcome.REJECTED),
        (kucoin.TABLE, 200, "400100", "clientOid exists", Outcome.UNKNOWN),
        (gate.TABLE, 400, "BALANCE_NOT_ENOUGH", "", Outcome.REJECTED),
        (gate.TABLE, 400, "ORDER_EXISTS", "", Outcome.UNKNOWN),
        (generic.TABLE, 429, "", "", Outcome.REJECTED),
    ],
)
def test_known_answers(table: Table, http: int, code: str, message: str, expected: Outcome) -> None:
    assert table.judge(http, code, message)[0] is expected
