"""The simulated OKX's sockets frame by frame: chains of book updates, acknowledgements, private pushes, silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from aiohttp import web

from exchangesim.core.exchange import SimExchange
from exchangesim.core.faults import FaultRegistry
from exchangesim.core.latency import Latency
from exchangesim.core.rules import make_rules
from exchangesim.core.transit import Transit
from exchangesim.okx.face import OkxFace
from tests.exchangesim.okx_client import (
    okx_call,
    okx_client,
    okx_simulator,
    okx_socket,
    order,
    still_book,
)
from tests.exchangesim.raw_socket import RawSocket, RebuiltBook, eventually, raw_socket
from tests.exchangesim.simulator import Credentials, Simulator, running_simulator

__all__ = ["okx_simulator"]


@pytest.fixture
def credentials(okx_simulator: Simulator) -> Credentials:
    still_book(okx_simulator)
    return okx_simulator.account("okx", balances={"USDT": "10000", "AAA": "10"})


def subscription(channel: str, native: str = "AAA-USDT", op: str = "subscribe") -> dict[str, Any]:
    return {"op": op, "args": [{"channel": channel, "instId": native}]}


def freeze(simulator: Simulator, symbol: str, frozen: bool) -> None:
    simulator.call("POST", "/market", {"exchange": "okx", "symbol": symbol, "frozen": frozen})


async def rest_book(simulator: Simulator, native: str, depth: int = 400) -> dict[str, dict[str, str]]:
    _, answer = await okx_call(simulator, None, "GET", f"/api/v5/market/books?instId={native}&sz={depth}")
    row = answer["data"][0]
    return {side: {price: size for price, size, *_ in row[side]} for side in ("bids", "asks")}


async def test_book_updates_chain_and_sum_up_to_the_rest_book(okx_simulator: Simulator) -> None:
    async with okx_socket(okx_simulator) as socket:
        await socket.send(subscription("books", "BTC-USDT"))
        snapshot = await socket.until(lambda m: m.get("action") == "snapshot")
        row = snapshot["data"][0]
        assert row["prevSeqId"] == -1
        book = RebuiltBook()
        book.apply(row, snapshot=True)
        sequence, updates = row["seqId"], 0

        async def follow() -> None:
            nonlocal sequence, updates
            message = await socket.until(lambda m: m.get("action") == "update")
            update = message["data"][0]
            assert update["prevSeqId"] == sequence
            assert update["seqId"] > sequence
            sequence, updates = update["seqId"], updates + 1
            book.apply(update)
            assert not book.is_crossed

        while updates < 15:
            await follow()
        freeze(okx_simulator, "BTC/USDT", True)
        try:
            while book.sides != await rest_book(okx_simulator, "BTC-USDT"):
                await follow()
        finally:
            freeze(okx_simulator, "BTC/USDT", False)


async def test_every_subscriber_gets_a_snapshot_that_its_updates_continue(okx_simulator: Simulator) -> None:
    async with okx_socket(okx_simulator) as first, okx_socket(okx_simulator) as second:
        await first.send(subscription("books", "ETH-USDT"))
        await first.until(lambda m: m.get("action") == "update")
        await second.send(subscription("books", "ETH-USDT"))
        snapshot = await second.until(lambda m: m.get("action") == "snapshot")
        update = await second.until(lambda m: m.get("action") == "update")
        assert update["data"][0]["prevSeqId"] == snapshot["data"][0]["seqId"]
        same = await first.until(lambda m: m["data"][0]["seqId"] == update["data"][0]["seqId"])
        assert same == update


async def test_short_books_are_whole_and_sent_when_they_change(okx_simulator: Simulator) -> None:
    still_book(okx_simulator)
    async with okx_socket(okx_simulator) as socket:
        await socket.send({"op": "subscribe", "args": [subscription(c)["args"][0] for c in ("books5", "bbo-tbt")]})
        five = await socket.until(lambda m: m.get("arg", {}).get("channel") == "books5" and "data" in m)
        assert [row[:2] for row in five["data"][0]["asks"]] == [["100.1", "1"], ["100.2", "2"], ["100.5", "5"]]
        best = await socket.until(lambda m: m.get("arg", {}).get("channel") == "bbo-tbt" and "data" in m)
        assert [row[:2] for row in best["data"][0]["bids"]] == [["99.9", "1"]]
        okx_simulator.set_book("okx", "AAA/USDT", bids=[("99.7", "4")], asks=[("100.1", "1")])
        best = await socket.until(lambda m: m["arg"]["channel"] == "bbo-tbt")
        assert [row[:2] for row in best["data"][0]["bids"]] == [["99.7", "4"]]
        five = await socket.until(lambda m: m["arg"]["channel"] == "books5")
        assert [row[:2] for row in five["data"][0]["asks"]] == [["100.1", "1"]]


async def test_trades_are_aggregated_by_price_or_told_one_by_one(
    okx_simulator: Simulator, credentials: Credentials
) -> None:
    await okx_call(okx_simulator, credentials, "POST", "/api/v5/trade/order", order(side="sell", px="100.1", sz="1"))
    async with okx_socket(okx_simulator) as public, okx_socket(okx_simulator, "business") as business:
        await public.send(subscription("trades"))
        await business.send(subscription("trades-all"))
        await public.until(lambda m: m.get("event") == "subscribe")
        await business.until(lambda m: m.get("event") == "subscribe")
        okx_simulator.trade("okx", "AAA/USDT", "BUY", "3")  # 1 of the market and 1 of ours at 100.1, 1 at 100.2
        merged = [(await public.next())["data"][0] for _ in range(2)]
        single = [(await business.next())["data"][0] for _ in range(3)]
    assert [(row["px"], row["sz"], row["count"], row["side"]) for row in merged] == [
        ("100.1", "2", "2", "buy"),
        ("100.2", "1", "1", "buy"),
    ]
    assert [(row["px"], row["sz"]) for row in single] == [("100.1", "1"), ("100.1", "1"), ("100.2", "1")]
    assert merged[0]["tradeId"] == single[1]["tradeId"]
    _, answer = await okx_call(okx_simulator, None, "GET", "/api/v5/market/trades?instId=AAA-USDT&limit=3")
    assert [row["tradeId"] for row in answer["data"]] == [row["tradeId"] for row in reversed(single)]


async def test_unsubscribing_stops_a_channel(okx_simulator: Simulator) -> None:
    async with okx_socket(okx_simulator) as socket:
        await socket.send(subscription("books", "BTC-USDT"))
        await socket.until(lambda m: m.get("action") == "update")
        await socket.send(subscription("books", "BTC-USDT", "unsubscribe"))
        await socket.until(lambda m: m.get("event") == "unsubscribe")
        await socket.send(subscription("tickers", "BTC-USDT"))
        await socket.until(lambda m: m.get("arg", {}).get("channel") == "tickers" and "data" in m)
        last = [m for m in socket.seen if m.get("event") == "unsubscribe"]
        after = socket.seen[socket.seen.index(last[0]) + 1 :]
        assert all(m["arg"]["channel"] == "tickers" for m in after)


async def test_acknowledgements_echo_the_subscription(okx_simulator: Simulator) -> None:
    async with okx_socket(okx_simulator) as socket:
        await socket.send({"id": "s1", **subscription("tickers")})
        answer = await socket.next()
    assert answer == {
        "id": "s1",
        "event": "subscribe",
        "arg": {"channel": "tickers", "instId": "AAA-USDT"},
        "connId": answer["connId"],
    }


async def test_text_pings_are_answered(okx_simulator: Simulator) -> None:
    for url in ("public", "private", "business"):
        async with okx_socket(okx_simulator, url) as socket:
            await socket.send("ping")
            assert await socket.next() == "pong"


async def private_socket(socket: RawSocket, *channels: dict[str, str]) -> None:
    await socket.send({"op": "subscribe", "args": list(channels)})
    for _ in channels:
        await socket.until(lambda m: m.get("event") == "channel-conn-count")


async def test_an_order_is_told_live_then_each_fill_then_its_end(
    okx_simulator: Simulator, credentials: Credentials
) -> None:
    async with okx_socket(okx_simulator, "private", credentials) as socket:
        await private_socket(
            socket, {"channel": "orders", "instType": "SPOT"}, {"channel": "fills", "instId": "AAA-USDT"}
        )
        await socket.send({"id": "1", "op": "order", "args": [order(ordType="ioc", px="100.2", sz="4", clOrdId="e1")]})
        await socket.until(lambda m: m.get("data", [{}])[0].get("state") == "canceled")
        events = [m["data"][0] for m in socket.seen if m.get("arg", {}).get("channel") == "orders" and "data" in m]
        fills = [m["data"][0] for m in socket.seen if m.get("arg", {}).get("channel") == "fills" and "data" in m]
    assert [(e["state"], e["accFillSz"], e["fillSz"]) for e in events] == [
        ("live", "0", "0"),
        ("partially_filled", "1", "1"),
        ("partially_filled", "3", "2"),
        ("canceled", "3", "0"),
    ]
    assert [(e["tradeId"] != "", e["execType"]) for e in events] == [
        (False, ""),
        (True, "T"),
        (True, "T"),
        (False, ""),
    ]
    assert [(f["tradeId"], f["fillSz"]) for f in fills] == [(e["tradeId"], e["fillSz"]) for e in events[1:3]]
    assert sum(Decimal(e["fillFee"]) for e in events[1:3]) == Decimal(events[-1]["fee"]) == Decimal("-0.003")
    assert {e["fillFeeCcy"] for e in events[1:3]} == {"AAA"}
    assert {e["clOrdId"] for e in events} == {"e1"}


async def test_the_account_channel_starts_whole_and_then_tells_what_changed(
    okx_simulator: Simulator, credentials: Credentials
) -> None:
    async with okx_socket(okx_simulator, "private", credentials) as socket:
        await private_socket(socket, {"channel": "account"})
        whole = await socket.until(lambda m: m.get("eventType") == "snapshot")
        assert {d["ccy"] for d in whole["data"][0]["details"]} == {"USDT", "AAA"}
        okx_simulator.call(
            "POST",
            "/transfers",
            {"exchange": "okx", "api_key": credentials.api_key, "asset": "USDT", "amount": "5"},
        )
        changed = await socket.until(lambda m: m.get("eventType") == "event_update")
    assert [(d["ccy"], d["cashBal"]) for d in changed["data"][0]["details"]] == [("USDT", "10005")]


async def test_private_events_reach_only_their_account(okx_simulator: Simulator, credentials: Credentials) -> None:
    stranger = okx_simulator.account("okx", balances={"USDT": "1000"})
    async with (
        okx_socket(okx_simulator, "private", credentials) as own,
        okx_socket(okx_simulator, "private", stranger) as other,
    ):
        for socket in (own, other):
            await private_socket(socket, {"channel": "orders", "instType": "ANY"})
        await other.send({"id": "1", "op": "order", "args": [order()]})
        await other.until(lambda m: m.get("op") == "order")
        await own.send("ping")
        await own.until(lambda m: m == "pong")
        assert all("data" not in m for m in own.seen if isinstance(m, dict))


async def test_an_amendment_is_told_as_such(okx_simulator: Simulator, credentials: Credentials) -> None:
    async with okx_socket(okx_simulator, "private", credentials) as socket:
        await private_socket(socket, {"channel": "orders", "instType": "SPOT"})
        await socket.send({"id": "1", "op": "order", "args": [order(clOrdId="am1")]})
        await socket.until(lambda m: m.get("op") == "order")
        amendment = {"instId": "AAA-USDT", "clOrdId": "am1", "newPx": "91", "reqId": "r1"}
        await socket.send({"id": "2", "op": "amend-order", "args": [amendment]})
        answer = await socket.until(lambda m: m.get("op") == "amend-order")
        (event,) = [m for m in socket.seen if m.get("data", [{}])[0].get("amendResult") == "0"]
    assert answer["data"][0]["reqId"] == "r1"
    assert (event["data"][0]["px"], event["data"][0]["state"]) == ("91", "live")


async def watch_forever(client: Any) -> None:
    while True:
        await client.watch_order_book("BTC/USDT")


@pytest.mark.parametrize("kind", ["gap", "disconnect"])
async def test_faults_of_market_data_break_the_chain_or_the_socket(okx_simulator: Simulator, kind: str) -> None:
    async with okx_client(okx_simulator) as client:
        await client.watch_order_book("BTC/USDT")
        okx_simulator.fault(kind, stage="market", operation="books", symbol="BTC-USDT", count=1)
        try:
            with pytest.raises(ccxt.NetworkError):
                await watch_forever(client)
            book = await client.watch_order_book("BTC/USDT")
        finally:
            okx_simulator.clear_faults()
        assert book["bids"]


async def test_a_lost_answer_leaves_an_order_that_can_be_found(
    okx_simulator: Simulator, credentials: Credentials
) -> None:
    okx_simulator.fault("drop_response", operation="order", api_key=credentials.api_key)
    try:
        async with okx_socket(okx_simulator, "private", credentials) as socket:
            await socket.send({"id": "1", "op": "order", "args": [order(clOrdId="lost1")]})
            await socket.send("ping")
            assert await socket.next() == "pong"
    finally:
        okx_simulator.clear_faults()
    path = "/api/v5/trade/order?instId=AAA-USDT&clOrdId=lost1"
    _, found = await okx_call(okx_simulator, credentials, "GET", path)
    assert found["data"][0]["state"] == "live"


async def test_of_a_deep_book_the_best_400_levels_are_kept_exactly() -> None:
    """What leaves the best 400 is taken away, what enters them is told."""
    with running_simulator("--exchanges", "okx", "--symbols", "BTC/USDT", "--levels", "450") as simulator:
        async with okx_socket(simulator) as socket:
            await socket.send(subscription("books", "BTC-USDT"))
            snapshot = await socket.until(lambda m: m.get("action") == "snapshot")
            book = RebuiltBook()
            book.apply(snapshot["data"][0], snapshot=True)
            for _ in range(10):
                update = await socket.until(lambda m: m.get("action") == "update")
                book.apply(update["data"][0])
                assert [len(side) for side in book.sides.values()] == [400, 400]


# Silence is thirty seconds on the exchange; a face of our own, with less patience, runs in this process.


@pytest.fixture
async def impatient() -> AsyncIterator[tuple[OkxFace, str]]:
    rules = make_rules("okx", "AAA/USDT", price=Decimal(100))
    exchange = SimExchange("okx", [rules], {"AAA/USDT": Decimal(100)})
    transit = Transit("okx", faults=FaultRegistry(), latency=Latency(), clock=exchange.clock)
    face = OkxFace(exchange, transit, silence_seconds=0.4)
    exchange.listeners.append(face)
    app = web.Application()
    face.add_routes(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await face.start()
    yield face, f"ws://127.0.0.1:{runner.addresses[0][1]}/ws/v5/public"
    await face.close()
    await runner.cleanup()


async def test_silent_sockets_are_cut(impatient: tuple[OkxFace, str]) -> None:
    face, url = impatient
    async with raw_socket(url) as socket:
        assert await socket.closed() == (4004, "No data received in 30s.")
    assert face.sessions == set()


async def test_pings_and_pushes_keep_a_socket_open(impatient: tuple[OkxFace, str]) -> None:
    face, url = impatient
    async with raw_socket(url) as pinging, raw_socket(url) as listening:
        await listening.send(subscription("books"))
        silent = asyncio.create_task(_closed_alone(url))
        prices = iter(range(1, 1000))
        while not silent.done():
            await pinging.send("ping")
            assert await pinging.next() == "pong"
            face.exchange.apply_levels("AAA-USDT", [(Decimal(50 + next(prices)), Decimal(1))], [], replace=True)
            await listening.until(lambda m: m.get("action") == "update")
        assert await silent == 4004
        await pinging.send("ping")
        assert await pinging.next() == "pong"


async def _closed_alone(url: str) -> int | None:
    async with raw_socket(url) as socket:
        return (await socket.closed())[0]


async def test_subscriptions_leave_nothing_behind(impatient: tuple[OkxFace, str]) -> None:
    face, url = impatient
    async with raw_socket(url) as socket:
        await socket.send(subscription("books"))
        await socket.until(lambda m: m.get("action") == "snapshot")
        assert len(face.channels.open()) == 1
    await eventually(lambda: not face.sessions)
    assert face.channels.open() == []
