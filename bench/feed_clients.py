"""The three clients the feed benchmark compares, each run in a process of its own that imports no other.

``floor`` receives with picows and decodes with msgspec into typed structs, and keeps nothing; ``ours`` is the Binance
feed as the engine runs it; ``ccxt`` is ccxt.pro's watch_order_book_for_symbols. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.frames import Frames, make_frames

TIMEOUT_SECONDS = 300.0


class Stopwatch:
    """CPU time of this process between two points; garbage of the preparation is collected before."""

    def start(self) -> None:
        gc.collect()
        self.begin = time.process_time()
        self.wall = time.perf_counter()

    def stop(self, messages: int) -> dict[str, float]:
        cpu = time.process_time() - self.begin
        wall = time.perf_counter() - self.wall
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"us": cpu / messages * 1e6, "messages_per_second": messages / wall, "rss_mb": rss}


async def measure(go: str, frames: Frames, finished: Callable[[], bool]) -> dict[str, float]:
    """Ask the server to send everything and wait until all of it is dealt with."""
    watch = Stopwatch()
    async with aiohttp.ClientSession() as session:
        watch.start()
        async with session.get(go) as response:
            await response.read()
        deadline = time.perf_counter() + TIMEOUT_SECONDS
        while not finished():
            if time.perf_counter() > deadline:
                raise TimeoutError("the client did not get through the messages in time")
            await asyncio.sleep(0.01)
    return watch.stop(len(frames.diffs))


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + 60
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError("the client was not ready within 60 s")
        await asyncio.sleep(0.01)


def check_tops(frames: Frames, top: Callable[[str], tuple[float, float]]) -> None:
    """Every book must end where the exchange's did: a fast wrong book does not count."""
    wrong = [symbol for symbol in frames.symbols if top(symbol) != frames.final_tops[symbol]]
    if wrong:
        raise AssertionError(f"{len(wrong)} books are wrong at the end, {wrong[0]} among them")


# The floor


class FloorDepth(msgspec.Struct, gc=False):
    U: int
    u: int
    b: list[tuple[float, float]]
    a: list[tuple[float, float]]


class FloorFrame(msgspec.Struct, gc=False):
    data: FloorDepth


class FloorListener(WSListener):
    def __init__(self) -> None:
        self.decode = msgspec.json.Decoder(FloorFrame, strict=False).decode
        self.received = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            payload = frame.get_payload_as_bytes()
            if payload[:9] != b'{"result"':
                self.decode(payload)
                self.received += 1


async def floor(rest: str, ws: str, frames: Frames) -> dict[str, float]:
    transport, made = await ws_connect(FloorListener, f"{ws}/stream")
    listener: Any = made
    transport.send(WSMsgType.TEXT, b'{"method":"SUBSCRIBE","params":[],"id":1}')
    await until(lambda: listener.received == len(frames.first))
    figures = await measure(f"{rest}/go", frames, lambda: listener.received == len(frames.first) + len(frames.diffs))
    transport.disconnect()
    return figures


# Ours


class NoSink:
    def on_book(self, book: object) -> None: ...

    def on_top(self, *top: object) -> None: ...

    def on_trade(self, trade: object) -> None: ...

    def on_funding(self, funding: object) -> None: ...

    def on_status(self, *status: object) -> None: ...


async def ours(rest: str, ws: str, frames: Frames) -> dict[str, float]:
    from trading.clock import SystemClock  # noqa: PLC0415
    from trading.config import ExchangeSpec  # noqa: PLC0415
    from trading.exchanges.registry import feed_for  # noqa: PLC0415
    from trading.instruments import Market  # noqa: PLC0415

    spec = ExchangeSpec(code="bench", ccxt_id="binance", environment="simulated", urls={"rest": rest, "ws": ws})
    feed = feed_for(spec, NoSink(), SystemClock())
    books = {
        symbol: feed.add(
            Market(exchange="bench", symbol=symbol, native_id=symbol, base=symbol[:-4], quote="USDT", kind="spot")
        )
        for symbol in frames.symbols
    }
    task = asyncio.ensure_future(feed.run())
    await until(lambda: all(book.ready for book in books.values()))
    figures = await measure(
        f"{rest}/go",
        frames,
        lambda: all(book.update_id == frames.last_ids[symbol] for symbol, book in books.items()),
    )
    counters = feed.counters()
    assert not counters["sequence_gaps"]
    assert not counters["bad_messages"]
    check_tops(frames, lambda symbol: (books[symbol].bids.best, books[symbol].asks.best))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return figures


# ccxt.pro


async def ccxt(rest: str, ws: str, frames: Frames) -> dict[str, float]:
    import ccxt.pro  # noqa: PLC0415

    client = ccxt.pro.binance(
        {
            "enableRateLimit": False,
            "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False},
        }
    )
    client.urls["api"]["public"] = client.urls["api"]["v1"] = f"{rest}/api/v3"
    client.urls["api"]["ws"]["spot"] = f"{ws}/stream/ws"
    symbols = [f"{symbol[:-4]}/USDT" for symbol in frames.symbols]
    try:
        await client.load_markets()

        async def watch() -> None:
            while True:
                await client.watch_order_book_for_symbols(symbols)

        task = asyncio.ensure_future(watch())

        def at(ids: dict[str, int]) -> bool:
            if task.done():
                task.result()
            return all(
                client.orderbooks.get(symbol) is not None and client.orderbooks[symbol].get("nonce") == ids[native]
                for symbol, native in zip(symbols, frames.symbols, strict=True)
            )

        await until(lambda: at(frames.first_ids))
        figures = await measure(f"{rest}/go", frames, lambda: at(frames.last_ids))
        by_native = dict(zip(frames.symbols, symbols, strict=True))

        def top(symbol: str) -> tuple[float, float]:
            book = client.orderbooks[by_native[symbol]]
            return book["bids"][0][0], book["asks"][0][0]

        check_tops(frames, top)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        await client.close()
    return figures


CLIENTS: dict[str, Callable[[str, str, Frames], Awaitable[dict[str, float]]]] = {
    "floor": floor,
    "ours": ours,
    "ccxt": ccxt,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=sorted(CLIENTS))
    parser.add_argument("--rest", required=True)
    parser.add_argument("--ws", required=True)
    parser.add_argument("--markets", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--levels", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    frames = make_frames(options.markets, options.messages, levels=options.levels, seed=options.seed)
    figures = asyncio.run(CLIENTS[options.client](options.rest, options.ws, frames))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
