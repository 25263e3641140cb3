"""The benchmark's exchange, in a process of its own: REST depth and market list, and frames as fast as they are taken.

Prints ``{"rest": port, "ws": port}`` when it listens and ends when its standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from aiohttp import web
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench.frames import Frames, make_frames


class Session(WSListener):
    """One client's socket: answers subscriptions, sends a first diff a market, then everything when told to."""

    def __init__(self, server: BenchServer, combined: bool) -> None:
        self.server = server
        self.combined = combined  # /stream wraps payloads, /ws sends them bare
        self.transport: WSTransport | None = None
        self.can_write = asyncio.Event()
        self.can_write.set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=1 << 20)
        self.server.sessions.append(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.transport = None
        self.server.sessions.remove(self)

    def pause_writing(self) -> None:
        self.can_write.clear()

    def resume_writing(self) -> None:
        self.can_write.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            request = json.loads(frame.get_payload_as_bytes())
            transport.send(WSMsgType.TEXT, json.dumps({"result": None, "id": request["id"]}).encode())
            for data in self.server.payloads(self.server.frames.first, self.combined):
                transport.send(WSMsgType.TEXT, data)

    async def send_all(self) -> None:
        for sent, data in enumerate(self.server.payloads(self.server.frames.diffs, self.combined)):
            if self.transport is None:
                return
            self.transport.send(WSMsgType.TEXT, data)
            await self.can_write.wait()
            if sent % 256 == 255:
                await asyncio.sleep(0)


class BenchServer:
    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.sessions: list[Session] = []
        self.sending: list[asyncio.Future[None]] = []
        self.bare: dict[int, tuple[bytes, ...]] = {}

    def payloads(self, frames: tuple[bytes, ...], combined: bool) -> tuple[bytes, ...]:
        if combined:
            return frames
        if id(frames) not in self.bare:
            self.bare[id(frames)] = tuple(frame[frame.index(b'"data":') + 7 : -1] for frame in frames)
        return self.bare[id(frames)]

    def listener(self, request: WSUpgradeRequest) -> Session:
        # ccxt tells spot by "/stream" in its URL and opens .../stream/ws; the payloads there are bare.
        return Session(
            self, combined=not request.path.split(b"?")[0].rstrip(b"/").endswith(b"/ws") and b"/ws/" not in request.path
        )

    async def depth(self, request: web.Request) -> web.Response:
        return web.Response(body=self.frames.snapshots[request.query["symbol"]], content_type="application/json")

    async def go(self, request: web.Request) -> web.Response:
        for session in self.sessions:
            self.sending.append(asyncio.ensure_future(session.send_all()))
        return web.Response(text="ok")

    async def exchange_info(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"timezone": "UTC", "serverTime": 0, "symbols": [_symbol(s) for s in self.frames.symbols]}
        )

    async def serve(self) -> None:
        app = web.Application()
        app.router.add_get("/api/v3/depth", self.depth)
        app.router.add_get("/api/v3/exchangeInfo", self.exchange_info)
        app.router.add_get("/go", self.go)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        rest = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        server = await ws_create_server(self.listener, "127.0.0.1", 0)
        print(json.dumps({"rest": rest, "ws": server.sockets[0].getsockname()[1]}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        server.close()
        await runner.cleanup()


def _symbol(symbol: str) -> dict[str, Any]:
    """Describe a market as /api/v3/exchangeInfo does, with the fields ccxt reads."""
    base, quote = symbol[:-4], symbol[-4:]
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markets", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--levels", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    frames = make_frames(options.markets, options.messages, levels=options.levels, seed=options.seed)
    asyncio.run(BenchServer(frames).serve())


if __name__ == "__main__":
    main()
