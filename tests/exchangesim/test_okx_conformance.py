"""Every OKX spot answer and event of which there is a real example has its keys and types in the simulator too.

Two examples cannot be made here: algo (trigger) orders do not exist on the simulated spot exchange, so neither does
the answer to cancelling one (http_cancel_algo_order_response) nor to placing one (http_place_algo_order_rejected).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.exchangesim.okx_client import okx_call, okx_simulator, okx_socket, order, still_book
from tests.exchangesim.real_examples import Allowed, below, compare
from tests.exchangesim.simulator import Credentials, Simulator
from tests.recordings import recording

__all__ = ["okx_simulator"]
pytestmark = pytest.mark.recordings

IMPOSSIBLE = {"http_cancel_algo_order_response.json", "http_place_algo_order_rejected.json"}
NEWER = "added to the documentation after the example was taken"
CONTRACT = "the example is of a contract or margin account; the simulator trades spot with cash"
UNFILLED = "the example shows a zero, the documentation an empty text, for an order without fills"

ORDER_EXTRA = below("data[].", "tradeQuoteCcy", NEWER)
ORDER_UNLIKE = below("data[].", "ccy lever", CONTRACT)
EVENT_EXTRA = {
    "arg.uid": NEWER,
    **ORDER_EXTRA,
    **below(
        "data[].",
        "amendResult amendSource code fillFee fillFeeCcy fillFwdPx fillIdxPx fillMarkPx fillMarkVol fillNotionalUsd "
        "fillPnl fillPxUsd fillPxVol lastPx msg notionalUsd reqId",
        "documented for the stream; the example carries only what REST has too",
    ),
}
ACCOUNT_EXTRA = {
    "arg.uid": NEWER,
    "eventType": NEWER,
    "curPage": NEWER,
    "lastPage": NEWER,
}


@pytest.fixture
def credentials(okx_simulator: Simulator) -> Credentials:
    still_book(okx_simulator)
    return okx_simulator.account("okx", balances={"USDT": "10000", "AAA": "10"})


@pytest.fixture
async def events(okx_simulator: Simulator, credentials: Credentials) -> AsyncIterator[list[Any]]:
    """Every private message of one IOC order that fills partly, one order that fills and one that rests."""
    async with okx_socket(okx_simulator, "private", credentials) as socket:
        channels = [{"channel": "orders", "instType": "SPOT"}, {"channel": "account"}]
        await socket.send({"op": "subscribe", "args": channels})
        for _ in channels:
            await socket.until(lambda m: m.get("event") == "channel-conn-count")
        orders = [
            order(ordType="ioc", side="sell", px="99.9", sz="3", clOrdId="ioc1"),
            order(ordType="market", sz="0.5", tgtCcy="base_ccy", clOrdId="market1"),
            order(clOrdId="rest1"),
        ]
        for number, one in enumerate(orders):
            await socket.send({"id": str(number), "op": "order", "args": [one]})
            await socket.until(lambda m, number=number: m.get("id") == str(number))
        yield socket.seen


def pushed(events: list[Any], channel: str, **fields: str) -> Any:
    """Return the first push of a channel whose first row has these fields."""
    for message in events:
        rows = message.get("data")
        if message.get("arg", {}).get("channel") == channel and rows:
            row = rows[0]
            if all(row.get(name) == value for name, value in fields.items()):
                return message
    raise AssertionError(f"no {channel} push with {fields}")


def test_only_algo_orders_are_left_out() -> None:
    compared = {
        "http_get_account_balance.json",
        "http_get_instruments_spot.json",
        "http_get_order_book.json",
        "http_get_orders_pending.json",
        "http_get_trade_fee_response.json",
        "http_place_order_response.json",
        "ws_account.json",
        "ws_bbo_tbt.json",
        "ws_books_snapshot.json",
        "ws_books_update.json",
        "ws_orders.json",
        "ws_orders_ioc.json",
    }
    assert {path.name for path in recording("order_json/okx").iterdir()} == compared | IMPOSSIBLE


async def test_instruments(okx_simulator: Simulator) -> None:
    _, ours = await okx_call(okx_simulator, None, "GET", "/api/v5/public/instruments?instType=SPOT")
    compare(
        "okx/http_get_instruments_spot.json", ours, Allowed(below("data[].", "instIdCode tradeQuoteCcyList", NEWER))
    )


async def test_order_book(okx_simulator: Simulator) -> None:
    _, ours = await okx_call(okx_simulator, None, "GET", "/api/v5/market/books?instId=AAA-USDT&sz=3")
    compare("okx/http_get_order_book.json", ours, Allowed({"data[].seqId": NEWER}))


async def test_account_balance(okx_simulator: Simulator, credentials: Credentials) -> None:
    _, ours = await okx_call(okx_simulator, credentials, "GET", "/api/v5/account/balance")
    extra = {"data[].availEq": NEWER} | below(
        "data[].details[].", "coinUsdPrice colBorrAutoConversion collateralRestrict", NEWER
    )
    compare("okx/http_get_account_balance.json", ours, Allowed(extra))


async def test_pending_orders(okx_simulator: Simulator, credentials: Credentials) -> None:
    await okx_call(okx_simulator, credentials, "POST", "/api/v5/trade/order", order(clOrdId="rest2"))
    _, ours = await okx_call(okx_simulator, credentials, "GET", "/api/v5/trade/orders-pending")
    unlike = ORDER_UNLIKE | below("data[].", "avgPx fillPx fillTime tradeId", UNFILLED)
    compare("okx/http_get_orders_pending.json", ours, Allowed(ORDER_EXTRA, unlike=unlike))


async def test_trade_fee(okx_simulator: Simulator, credentials: Credentials) -> None:
    path = "/api/v5/account/trade-fee?instType=SPOT&instId=AAA-USDT"
    _, ours = await okx_call(okx_simulator, credentials, "GET", path)
    compare("okx/http_get_trade_fee_response.json", ours)


async def test_placed_order(okx_simulator: Simulator, credentials: Credentials) -> None:
    """The example is the row alone, without what surrounds it."""
    _, ours = await okx_call(okx_simulator, credentials, "POST", "/api/v5/trade/order", order(clOrdId="placed1"))
    compare("okx/http_place_order_response.json", ours["data"][0], Allowed({"ts": NEWER}))


async def test_book_channels(okx_simulator: Simulator) -> None:
    still_book(okx_simulator)
    async with okx_socket(okx_simulator) as socket:
        channels = [{"channel": name, "instId": "AAA-USDT"} for name in ("books", "bbo-tbt")]
        await socket.send({"op": "subscribe", "args": channels})
        await socket.until(lambda m: m.get("arg", {}).get("channel") == "bbo-tbt" and "data" in m)
        okx_simulator.set_book("okx", "AAA/USDT", bids=[("99.7", "4")], asks=[("100.4", "1")])
        await socket.until(lambda m: m.get("action") == "update")
        compare("okx/ws_bbo_tbt.json", pushed(socket.seen, "bbo-tbt"))
        snapshot, update = (m for m in socket.seen if "action" in m)
    compare("okx/ws_books_snapshot.json", snapshot)
    compare("okx/ws_books_update.json", update)


async def test_account_channel(events: list[Any]) -> None:
    compare("okx/ws_account.json", pushed(events, "account"), Allowed(ACCOUNT_EXTRA))


async def test_filled_market_order_event(events: list[Any]) -> None:
    unlike = ORDER_UNLIKE | {"data[].tgtCcy": "spot market orders tell the unit of their size; contracts have none"}
    compare("okx/ws_orders.json", pushed(events, "orders", state="filled"), Allowed(EVENT_EXTRA, unlike=unlike))


async def test_partly_filled_ioc_order_event(events: list[Any]) -> None:
    unlike = {
        "data[].ccy": "the example names a margin currency for a cash order, which the documentation excludes",
        "data[].stpMode": "the example leaves out the mode that the exchange applies by default",
    }
    compare(
        "okx/ws_orders_ioc.json",
        pushed(events, "orders", state="partially_filled"),
        Allowed(EVENT_EXTRA, unlike=unlike),
    )
