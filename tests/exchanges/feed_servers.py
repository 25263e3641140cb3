"""A small Binance of our own for the feed's tests: REST depth and combined streams on real sockets, with faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from trading.basis import Funding
from trading.config import ExchangeSpec
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.messages import PublicTrade


def market(native_id: str = "BTCUSDT", *, exchange: str = "binance-sim", kind: Any = "spot") -> Market:
    base, quote = native_id.replace("-", "")[:-4], "USDT"
    return Market(exchange=exchange, symbol=f"{base}/{quote}", native_id=native_id, base=base, quote=quote, kind=kind)


class RecordingSink:
    """Keeps what a feed reports, and checks that no inconsistent book is ever reported."""

    def __init__(self) -> None:
        self.books = 0
        self.tops: list[tuple[Any, ...]] = []
        self.trades: list[PublicTrade] = []
        self.statuses: list[tuple[str, str, str]] = []

    def on_book(self, book: Book) -> None:
        assert book.ready
        assert not book.crossed
        self.books += 1

    def on_top(self, *top: Any) -> None:
        self.tops.append(top)

    def on_trade(self, trade: PublicTrade) -> None:
        self.trades.append(trade)

    def on_funding(self, funding: Funding) -> None: ...

    def on_status(self, key: str, status: str, reason: str) -> None:
        self.statuses.append((key, status, reason))

    def status(self, key: str) -> str:
        return next((status for name, status, _ in reversed(self.statuses) if name == key), "")

    def reasons(self, status: str) -> list[str]:
        return [reason for _, name, reason in self.statuses if name == status]


@dataclass
class SymbolBook:
    """One market's true book; ``change`` alters it and returns the diff that says so."""

    update_id: int = 1_000
    bids: dict[str, str] = field(default_factory=dict)
    asks: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in range(1, 51):
            self.bids[f"{100 - step * 0.1:.2f}"] = f"{step}.5"
            self.asks[f"{100 + step * 0.1:.2f}"] = f"{step}.25"

    def change(self, symbol: str, bids: dict[str, str], asks: dict[str, str]) -> dict[str, Any]:
        first = self.update_id + 1
        self.update_id += max(1, len(bids) + len(asks))
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            for price, size in changes.items():
                side[price] = size
                if float(size) == 0:
                    del side[price]
        return {
            "e": "depthUpdate",
            "E": 1_700_000_000_000 + self.update_id,
            "s": symbol,
            "U": first,
            "u": self.update_id,
            "b": [list(level) for level in bids.items()],
            "a": [list(level) for level in asks.items()],
        }

    def levels(self, side: str, limit: int | None = None) -> list[list[str]]:
        levels = self.bids if side == "bids" else self.asks
        ordered = sorted(levels.items(), key=lambda level: float(level[0]), reverse=side == "bids")
        return [list(level) for level in ordered[:limit]]

    def equals(self, book: Book) -> bool:
        return all(
            dict(own.levels()) == {float(price): float(size) for price, size in true.items()}
            for own, true in ((book.bids, self.bids), (book.asks, self.asks))
        )


class BinanceServer:
    """Serves ``/stream`` and ``/api/v3/depth`` on an ephemeral port of 127.0.0.1."""

    def __init__(self, *symbols: str) -> None:
        self.books = {symbol: SymbolBook() for symbol in symbols or ("BTCUSDT",)}
        self.sockets: list[web.WebSocketResponse] = []
        self.subscriptions: dict[web.WebSocketResponse, set[str]] = {}
        self.requests: list[dict[str, Any]] = []
        self.snapshots_served = 0
        self.connections = 0
        self.before_snapshot: Callable[[str], Awaitable[None]] | None = None
        self.snapshot_answers: list[web.Response] = []  # served first, instead of the book
        self.frozen = False  # sockets stay open, nothing is read or written
        self.heartbeats: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> BinanceServer:
        app = web.Application()
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/api/v3/depth", self._depth)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._runner is not None:
            for socket in list(self.sockets):
                if socket._req is not None and socket._req.transport is not None:
                    socket._req.transport.abort()
            await self._runner.cleanup()
            self._runner = None

    def spec(self) -> ExchangeSpec:
        return ExchangeSpec(
            code="binance-sim",
            ccxt_id="binance",
            environment="simulated",
            urls={"rest": f"http://127.0.0.1:{self.port}", "ws": f"ws://127.0.0.1:{self.port}"},
        )

    async def _depth(self, request: web.Request) -> web.Response:
        symbol = request.query["symbol"]
        self.snapshots_served += 1
        if self.snapshot_answers:
            return self.snapshot_answers.pop(0)
        book = self.books[symbol]
        limit = int(request.query["limit"])
        body = {
            "lastUpdateId": book.update_id,
            "bids": book.levels("bids", limit),
            "asks": book.levels("asks", limit),
        }
        if self.before_snapshot is not None:
            await self.before_snapshot(symbol)  # what happens between the snapshot's state and its arrival
        return web.json_response(body)

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.connections += 1
        self.sockets.append(socket)
        self.subscriptions[socket] = set(filter(None, request.query.get("streams", "").split("/")))
        try:
            async for message in socket:
                if self.frozen:
                    continue
                if message.type == WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type == WSMsgType.TEXT:
                    await self._answer(socket, json.loads(message.data))
        finally:
            self.sockets.remove(socket)
            del self.subscriptions[socket]
        return socket

    async def _answer(self, socket: web.WebSocketResponse, request: dict[str, Any]) -> None:
        self.requests.append(request)
        streams = set(request["params"])
        if request["method"] == "SUBSCRIBE":
            self.subscriptions[socket] |= streams
        else:
            self.subscriptions[socket] -= streams
        await socket.send_str(json.dumps({"result": None, "id": request["id"]}))

    def subscribed(self) -> set[str]:
        return set().union(*self.subscriptions.values()) if self.subscriptions else set()

    async def send(self, stream: str, data: Any) -> None:
        if self.frozen:
            return
        text = json.dumps({"stream": stream, "data": data}, separators=(",", ":"))
        for socket, streams in list(self.subscriptions.items()):
            if stream in streams:
                await socket.send_str(text)

    async def change(
        self, symbol: str = "BTCUSDT", *, bids: dict[str, str] | None = None, asks: dict[str, str] | None = None
    ) -> None:
        """Change the book and publish the diff."""
        diff = self.books[symbol].change(symbol, bids or {}, asks or {})
        await self.send(f"{symbol.lower()}@depth@100ms", diff)

    def change_silently(self, symbol: str = "BTCUSDT", **sides: dict[str, str]) -> None:
        """Change the book and lose the diff."""
        self.books[symbol].change(symbol, sides.get("bids", {}), sides.get("asks", {}))

    async def keep_changing(self, interval: float = 0.02) -> None:
        """Alter the best bid's size of every market again and again."""
        turn = 0
        while True:
            turn += 1
            for symbol, book in self.books.items():
                best = book.levels("bids", 1)[0][0]
                await self.change(symbol, bids={best: f"{turn % 97 + 1}.0"})
            await asyncio.sleep(interval)

    def abort(self) -> None:
        """Cut every socket without a close frame."""
        for socket in list(self.sockets):
            assert socket._req is not None
            assert socket._req.transport is not None
            socket._req.transport.abort()


async def until(condition: Callable[[], object], seconds: float = 60.0, say: Callable[[], object] = lambda: "") -> None:
    """Wait for a condition; fail when it has not come true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"waited {seconds} s in vain {say()}"
        await asyncio.sleep(0.005)
