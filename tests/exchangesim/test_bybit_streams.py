"""The simulated Bybit's sockets frame by frame: chains of book updates, acknowledgements, private pushes, idling."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from exchangesim.bybit.face import BybitFace
from exchangesim.core.exchange import SimExchange
from exchangesim.core.faults import FaultRegistry
from exchangesim.core.latency import Latency
from exchangesim.core.rules import make_rules
from exchangesim.core.transit import Transit
from tests.exchangesim.bybit_client import bybit_call, bybit_simulator, bybit_socket, command, order, still_book
from tests.exchangesim.raw_socket import RawSocket, RebuiltBook, eventually, raw_socket
from tests.exchangesim.simulator import Credentials, Simulator, running_simulator

__all__ = ["bybit_simulator"]


@pytest.fixture
def credentials(bybit_simulator: Simulator) -> Credentials:
    still_book(bybit_simulator)
    return bybit_simulator.account("bybit", balances={"USDT": "10000", "AAA": "10"})


def subscription(*topics: str, op: str = "subscribe") -> dict[str, Any]:
    return {"op": op, "args": list(topics)}


def freeze(simulator: Simulator, symbol: str, frozen: bool) -> None:
    simulator.call("POST", "/market", {"exchange": "bybit", "symbol": symbol, "frozen": frozen})


async def rest_book(simulator: Simulator, native: str, depth: int) -> dict[str, dict[str, str]]:
    path = f"/v5/market/orderbook?category=spot&symbol={native}&limit={depth}"
    _, answer, _ = await bybit_call(simulator, None, "GET", path)
    return {side: dict(answer["result"][key]) for side, key in (("bids", "b"), ("asks", "a"))}


@pytest.mark.parametrize("depth", [50, 200, 1000])
async def test_book_updates_chain_and_sum_up_to_the_rest_book(bybit_simulator: Simulator, depth: int) -> None:
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send(subscription(f"orderbook.{depth}.BTCUSDT"))
        snapshot = await socket.until(lambda m: m.get("type") == "snapshot")
        book = RebuiltBook(("b", "a"))
        book.apply(snapshot["data"], snapshot=True)
        update, sequence, updates = snapshot["data"]["u"], snapshot["data"]["seq"], 0

        async def follow() -> None:
            nonlocal update, sequence, updates
            message = await socket.until(lambda m: m.get("type") == "delta")
            assert message["data"]["u"] == update + 1
            assert message["data"]["seq"] > sequence
            assert message["cts"] <= message["ts"]
            update, sequence, updates = message["data"]["u"], message["data"]["seq"], updates + 1
            book.apply(message["data"])
            assert not book.is_crossed

        while updates < 8:
            await follow()
        freeze(bybit_simulator, "BTC/USDT", True)
        try:
            while book.sides != await rest_book(bybit_simulator, "BTCUSDT", depth):
                await follow()
        finally:
            freeze(bybit_simulator, "BTC/USDT", False)


async def test_of_a_deep_book_the_best_50_levels_are_kept_exactly() -> None:
    """What leaves the best 50 is taken away, what enters them is told."""
    with running_simulator("--exchanges", "bybit", "--symbols", "BTC/USDT", "--levels", "80") as simulator:
        async with bybit_socket(simulator) as socket:
            await socket.send(subscription("orderbook.50.BTCUSDT"))
            snapshot = await socket.until(lambda m: m.get("type") == "snapshot")
            book = RebuiltBook(("b", "a"))
            book.apply(snapshot["data"], snapshot=True)
            for _ in range(15):
                delta = await socket.until(lambda m: m.get("type") == "delta")
                book.apply(delta["data"])
                assert [len(side) for side in book.sides.values()] == [50, 50]


async def test_every_subscriber_gets_a_snapshot_that_its_updates_continue(bybit_simulator: Simulator) -> None:
    async with bybit_socket(bybit_simulator) as first, bybit_socket(bybit_simulator) as second:
        await first.send(subscription("orderbook.50.ETHUSDT"))
        await first.until(lambda m: m.get("type") == "delta")
        await second.send(subscription("orderbook.50.ETHUSDT"))
        snapshot = await second.until(lambda m: m.get("type") == "snapshot")
        delta = await second.until(lambda m: m.get("type") == "delta")
        assert delta["data"]["u"] == snapshot["data"]["u"] + 1
        assert await first.until(lambda m: m["data"]["u"] == delta["data"]["u"]) == delta


async def test_the_top_of_book_is_always_whole_and_repeated_when_quiet(bybit_simulator: Simulator) -> None:
    still_book(bybit_simulator)
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send(subscription("orderbook.1.AAAUSDT"))
        first = await socket.until(lambda m: m.get("topic") == "orderbook.1.AAAUSDT")
        assert (first["data"]["b"], first["data"]["a"]) == ([["99.9", "1"]], [["100.1", "1"]])
        bybit_simulator.set_book("bybit", "AAA/USDT", bids=[("99.7", "4")], asks=[("100.1", "1")])
        changed = await socket.until(lambda m: m["data"]["b"] == [["99.7", "4"]])
        assert changed["data"]["u"] == first["data"]["u"] + 1
        again = await socket.next()
        assert again["data"] == changed["data"]
        assert {m["type"] for m in socket.seen if "type" in m} == {"snapshot"}


async def test_trades_of_one_taker_come_in_one_message(bybit_simulator: Simulator) -> None:
    still_book(bybit_simulator)
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send(subscription("publicTrade.AAAUSDT"))
        await socket.until(lambda m: m.get("op") == "subscribe")
        bybit_simulator.trade("bybit", "AAA/USDT", "BUY", "2")
        message = await socket.next()
    assert [(row["p"], row["v"], row["S"]) for row in message["data"]] == [("100.1", "1", "Buy"), ("100.2", "1", "Buy")]
    path = "/v5/market/recent-trade?category=spot&symbol=AAAUSDT&limit=2"
    _, answer, _ = await bybit_call(bybit_simulator, None, "GET", path)
    assert [row["execId"] for row in answer["result"]["list"]] == [row["i"] for row in reversed(message["data"])]


async def test_unsubscribing_stops_a_topic(bybit_simulator: Simulator) -> None:
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send(subscription("orderbook.50.BTCUSDT"))
        await socket.until(lambda m: m.get("type") == "delta")
        await socket.send(subscription("orderbook.50.BTCUSDT", op="unsubscribe") | {"req_id": 3})
        answer = await socket.until(lambda m: m.get("op") == "unsubscribe")
        assert answer == {
            "success": True,
            "ret_msg": "",
            "conn_id": answer["conn_id"],
            "req_id": "3",
            "op": "unsubscribe",
        }
        await socket.send(subscription("tickers.BTCUSDT"))
        assert (await socket.next())["op"] == "subscribe"
        assert (await socket.next())["topic"] == "tickers.BTCUSDT"


async def test_a_topic_is_not_subscribed_twice(bybit_simulator: Simulator) -> None:
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send(subscription("publicTrade.AAAUSDT"))
        assert (await socket.next())["success"]
        await socket.send(subscription("publicTrade.AAAUSDT"))
        answer = await socket.next()
    assert (answer["success"], answer["ret_msg"]) == (False, "error:already subscribed,topic:publicTrade.AAAUSDT")


async def test_pings_are_answered_in_the_form_of_each_url(bybit_simulator: Simulator, credentials: Credentials) -> None:
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send({"op": "ping", "req_id": "p"})
        answer = await socket.next()
        assert (answer["success"], answer["ret_msg"], answer["req_id"], answer["op"]) == (True, "pong", "p", "ping")
    async with bybit_socket(bybit_simulator, "private") as socket:
        await socket.send({"op": "ping", "req_id": "p"})
        answer = await socket.next()
        assert (answer["op"], answer["req_id"]) == ("pong", "p")
        assert int(answer["args"][0]) > 0
    async with bybit_socket(bybit_simulator, "trade") as socket:
        await socket.send({"op": "ping"})
        answer = await socket.next()
        assert (answer["op"], answer["retCode"], len(answer["data"])) == ("pong", 0, 1)


async def subscribed(socket: RawSocket, *topics: str) -> None:
    await socket.send(subscription(*topics))
    assert (await socket.until(lambda m: m.get("op") == "subscribe"))["success"]


async def test_an_order_is_told_new_then_each_fill_then_its_end(
    bybit_simulator: Simulator, credentials: Credentials
) -> None:
    async with bybit_socket(bybit_simulator, "private", credentials) as socket:
        await subscribed(socket, "order", "execution", "execution.fast")
        body = order(timeInForce="IOC", price="100.2", qty="4", orderLinkId="e-1")
        await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/create", body)
        await socket.until(lambda m: m.get("data", [{}])[0].get("orderStatus") == "PartiallyFilledCanceled")
        rows = {
            topic: [m["data"][0] for m in socket.seen if m.get("topic") == topic]
            for topic in ("order", "execution", "execution.fast")
        }
    assert [(e["orderStatus"], e["cumExecQty"], e["leavesQty"]) for e in rows["order"]] == [
        ("New", "0", "4"),
        ("PartiallyFilled", "1", "3"),
        ("PartiallyFilled", "3", "1"),
        ("PartiallyFilledCanceled", "3", "0"),
    ]
    assert [(e["execQty"], e["leavesQty"], e["isMaker"]) for e in rows["execution"]] == [
        ("1", "3", False),
        ("2", "1", False),
    ]
    assert [e["execId"] for e in rows["execution.fast"]] == [e["execId"] for e in rows["execution"]]
    assert sum(Decimal(e["execFee"]) for e in rows["execution"]) == Decimal(rows["order"][-1]["cumExecFee"])
    assert rows["order"][-1]["cumFeeDetail"] == {"AAA": "0.003"}
    assert {e["orderLinkId"] for e in rows["order"]} == {"e-1"}
    _, listed, _ = await bybit_call(bybit_simulator, credentials, "GET", "/v5/execution/list?category=spot")
    assert [row["leavesQty"] for row in listed["result"]["list"]] == ["1", "3"]


async def test_category_topics_carry_their_own_name(bybit_simulator: Simulator, credentials: Credentials) -> None:
    async with bybit_socket(bybit_simulator, "private", credentials) as socket:
        await subscribed(socket, "order.spot", "order.linear")
        await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/create", order())
        assert (await socket.next())["topic"] == "order.spot"


async def test_the_wallet_tells_what_changed(bybit_simulator: Simulator, credentials: Credentials) -> None:
    async with bybit_socket(bybit_simulator, "private", credentials) as socket:
        await subscribed(socket, "wallet")
        transfer = {"exchange": "bybit", "api_key": credentials.api_key, "asset": "USDT", "amount": "5"}
        bybit_simulator.call("POST", "/transfers", transfer)
        message = await socket.next()
        (account,) = message["data"]
        assert [(coin["coin"], coin["walletBalance"]) for coin in account["coin"]] == [("USDT", "10005")]
        await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/create", order())
        reserved = (await socket.next())["data"][0]["coin"]
    assert {coin["coin"]: coin["locked"] for coin in reserved} == {"AAA": "0", "USDT": "45"}


async def test_private_events_reach_only_their_account(bybit_simulator: Simulator, credentials: Credentials) -> None:
    stranger = bybit_simulator.account("bybit", balances={"USDT": "1000"})
    async with (
        bybit_socket(bybit_simulator, "private", credentials) as own,
        bybit_socket(bybit_simulator, "private", stranger) as other,
    ):
        for socket in (own, other):
            await subscribed(socket, "order")
        await bybit_call(bybit_simulator, stranger, "POST", "/v5/order/create", order())
        await other.until(lambda m: m.get("topic") == "order")
        await own.send({"op": "ping"})
        await own.until(lambda m: m.get("op") == "pong")
        assert all("topic" not in m for m in own.seen)


async def test_a_lost_answer_leaves_an_order_that_can_be_found(
    bybit_simulator: Simulator, credentials: Credentials
) -> None:
    bybit_simulator.fault("drop_response", operation="order.create", api_key=credentials.api_key)
    try:
        async with bybit_socket(bybit_simulator, "trade", credentials) as socket:
            await socket.send(command("order.create", "1", order(orderLinkId="lost-1")))
            await socket.send({"op": "ping"})
            assert (await socket.next())["op"] == "pong"
    finally:
        bybit_simulator.clear_faults()
    path = "/v5/order/realtime?category=spot&orderLinkId=lost-1"
    _, found, _ = await bybit_call(bybit_simulator, credentials, "GET", path)
    assert found["result"]["list"][0]["orderStatus"] == "New"


async def test_a_gap_fault_breaks_the_chain(bybit_simulator: Simulator) -> None:
    topic = "orderbook.50.BTCUSDT"
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send(subscription(topic))
        last = (await socket.until(lambda m: m.get("type") == "snapshot"))["data"]["u"]
        bybit_simulator.fault("gap", operation=topic, symbol="BTCUSDT", count=1)
        try:
            while True:
                delta = await socket.until(lambda m: m.get("type") == "delta")
                if delta["data"]["u"] != last + 1:
                    break
                last += 1
        finally:
            bybit_simulator.clear_faults()
    assert delta["data"]["u"] == last + 2


async def test_lists_are_paged_newest_first(bybit_simulator: Simulator, credentials: Credentials) -> None:
    placed = []
    for _ in range(5):
        _, answer, _ = await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/create", order())
        placed.append(answer["result"]["orderId"])
    got: list[str] = []
    cursor = ""
    while True:
        path = f"/v5/order/realtime?category=spot&limit=2&cursor={cursor}"
        _, answer, _ = await bybit_call(bybit_simulator, credentials, "GET", path)
        got += [row["orderId"] for row in answer["result"]["list"]]
        cursor = answer["result"]["nextPageCursor"]
        if not cursor:
            break
    assert got == placed[::-1]


# Sockets idle for ten minutes on the exchange; a face of our own, with less patience, runs in this process.


@pytest.fixture
async def impatient() -> AsyncIterator[tuple[BybitFace, str]]:
    rules = make_rules("bybit", "AAA/USDT", price=Decimal(100))
    exchange = SimExchange("bybit", [rules], {"AAA/USDT": Decimal(100)})
    transit = Transit("bybit", faults=FaultRegistry(), latency=Latency(), clock=exchange.clock)
    face = BybitFace(exchange, transit, idle_seconds=0.4)
    exchange.listeners.append(face)
    app = web.Application()
    face.add_routes(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await face.start()
    yield face, f"ws://127.0.0.1:{runner.addresses[0][1]}/v5"
    await face.close()
    await runner.cleanup()


async def test_idle_sockets_are_cut_unless_they_asked_for_longer(impatient: tuple[BybitFace, str]) -> None:
    face, url = impatient
    async with raw_socket(f"{url}/private") as short, raw_socket(f"{url}/private?max_active_time=1m") as long:
        await short.closed()
        await eventually(lambda: len(face.sessions) == 1)
        await long.send({"op": "ping"})
        assert (await long.next())["op"] == "pong"


async def test_subscriptions_leave_nothing_behind(impatient: tuple[BybitFace, str]) -> None:
    face, url = impatient
    async with raw_socket(f"{url}/public/spot") as socket:
        await socket.send(subscription("orderbook.50.AAAUSDT", "tickers.AAAUSDT"))
        await socket.until(lambda m: m.get("topic") == "tickers.AAAUSDT")
        assert face.topics.open() == ["orderbook.50.AAAUSDT", "tickers.AAAUSDT"]
    await eventually(lambda: not face.sessions)
    assert face.topics.open() == []
