"""ccxt clients as this platform makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import ccxt
import pytest

from trading.clock import SystemClock
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.ccxt_client import MIN_TIMEOUT_MS, make_client, measure_offset
from trading.exchanges.generic.dialect import Dialect, Names, decimal
from trading.exchanges.generic.scrub import Scrubber
from trading.messages import TimeInForce

KEYS = Credentials(api_key="canary-key", secret="canary-secret", passphrase="canary-pass")
EXCHANGES = ["binance", "okx", "bybit", "kraken", "gate", "kucoin", "coinbase"]


def spec(ccxt_id: str, environment: str = "simulated", **urls: str) -> ExchangeSpec:
    return ExchangeSpec(code=f"{ccxt_id}-x", ccxt_id=ccxt_id, environment=environment, urls=urls)


def addresses(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [address for inner in value.values() for address in addresses(inner)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("ccxt_id", EXCHANGES)
def test_orders_are_neither_throttled_nor_repeated(ccxt_id: str) -> None:
    client = make_client(spec(ccxt_id), KEYS)
    assert client.enableRateLimit is False
    assert client.options["maxRetriesOnFailure"] == 0
    assert client.timeout >= MIN_TIMEOUT_MS
    assert client.number is str


@pytest.mark.parametrize("ccxt_id", EXCHANGES)
def test_no_address_leads_to_the_real_exchange(ccxt_id: str) -> None:
    client = make_client(spec(ccxt_id, rest="http://127.0.0.1:9001", ws="ws://127.0.0.1:9002"), KEYS)
    found = addresses(client.urls["api"])
    assert found
    assert {urlsplit(address).netloc for address in found} <= {"127.0.0.1:9001", "127.0.0.1:9002"}


def test_binance_spot_sockets_keep_what_ccxt_knows_spot_by() -> None:
    client = make_client(spec("binance", rest="http://127.0.0.1:9001", ws="ws://127.0.0.1:9001"))
    assert client.urls["api"]["ws"]["spot"] == "ws://127.0.0.1:9001/stream/ws"
    assert client.urls["api"]["ws"]["ws-api"]["spot"] == "ws://127.0.0.1:9001/ws-api/v3"
    assert client.urls["api"]["private"] == "http://127.0.0.1:9001/api/v3"
    assert "/stream" not in client.urls["api"]["ws"]["linear"]


async def test_an_exchange_that_does_not_tell_its_time_is_taken_to_have_ours() -> None:
    client = make_client(spec("cryptocom", rest="http://127.0.0.1:1", ws="ws://127.0.0.1:1"), KEYS)
    assert await measure_offset(client, SystemClock()) == 0


def test_a_testnet_is_not_the_real_exchange() -> None:
    client = make_client(spec("binance", "testnet"))
    assert "testnet" in client.urls["api"]["private"]


@pytest.mark.parametrize(
    ("ccxt_id", "urls", "says"),
    [
        ("nowhere", {}, "nowhere"),
        ("okx", {"rest": "127.0.0.1:9001"}, "urls.rest must look like http://"),
        ("okx", {"rest": "ws://127.0.0.1:9001"}, "urls.rest"),
        ("okx", {"ws": "http://127.0.0.1:9001"}, "urls.ws must look like ws://"),
        ("okx", {"rest": "http://user:pass@127.0.0.1:9001"}, "urls.rest"),
        ("okx", {"rest": "http://127.0.0.1:9001/?a=b"}, "urls.rest"),
    ],
)
def test_a_wrong_exchange_is_one_clear_sentence(ccxt_id: str, urls: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=r".*") as refused:
        make_client(spec(ccxt_id, **urls))
    assert says in str(refused.value)


def test_a_timeout_below_the_exchanges_own_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout_ms"):
        make_client(spec("okx"), timeout_ms=10_000)


def test_no_secret_survives_a_text() -> None:
    scrub = Scrubber(KEYS)
    text = (
        'binance GET https://api/x?timestamp=1&signature=abcdef {"args":["canary-key"],"sign":"xyz"} '
        "canary-secret canary-pass apiKey=foreign"
    )
    cleaned = scrub.error(ValueError(text))
    for secret in ("canary", "abcdef", "xyz", "foreign"):
        assert secret not in cleaned
    assert cleaned.startswith("ValueError: binance GET https://api/x")
    assert len(scrub.error(ValueError("x" * 10_000))) < 400


@pytest.mark.parametrize(
    "options",
    [{"maxRetriesOnFailure": 1}, {"defaultMaxRetriesOnFailure": 1}, {"order": {"maxRetriesOnFailure": 1}}],
)
def test_a_client_that_would_send_orders_again_is_not_made(options: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="maxRetriesOnFailure must be 0"):
        make_client(spec("binance"), KEYS, options=options)


async def test_no_request_is_repeated_by_the_transport() -> None:
    """A GET over a connection the peer closes meanwhile is one request: on some exchanges it is an order."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        first = True
        while await reader.readuntil(b"\r\n\r\n"):
            seen += 1
            if not first:
                break
            first = False
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = make_client(spec("deribit", rest=url, ws=url.replace("http", "ws")))
    try:
        await client.fetch(f"{url}/one", "GET")
        with pytest.raises(ccxt.NetworkError):
            await client.fetch(f"{url}/two", "GET")
        assert seen == 2
    finally:
        await client.close()
        server.close()


@pytest.mark.parametrize(("ccxt_id", "takes"), [("bitopro", False), ("kraken", True), ("krakenfutures", True)])
def test_an_exchange_that_says_it_has_no_ioc_orders_is_believed(ccxt_id: str, takes: bool) -> None:
    client = make_client(spec(ccxt_id), KEYS)
    assert Dialect(Names(1)).takes(client, TimeInForce.IOC) is takes
    assert Dialect(Names(1)).takes(client, TimeInForce.GTC)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1E+999999", "1E-999999", "0E-999999", "1e20", 0.1, True, "x"])
def test_figures_no_exchange_means_are_none(text: object) -> None:
    assert decimal(text) is None


@pytest.mark.parametrize("text", ["0", "0.00000000", "-0.1", "1E-18", "99999999999999999999", 7])
def test_figures_an_exchange_may_mean_are_exact(text: object) -> None:
    assert decimal(text) == Decimal(str(text))


@pytest.mark.parametrize("wrong", [{"price": "NaN"}, {"amount": "-1"}, {"price": "1E+999999"}, {"amount": None}])
def test_an_execution_that_is_no_execution_is_refused(wrong: Mapping[str, Any]) -> None:
    trade = {"id": "1", "order": "2", "symbol": "BTC/USDT", "side": "buy", "price": "100", "amount": "1"}
    with pytest.raises(ValueError, match=r"price|amount"):
        Dialect(Names(1)).unified_fill({**trade, **wrong}, "")
