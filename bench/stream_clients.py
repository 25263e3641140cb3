"""The clients of the stream benchmark: dashboards' sockets, all in this one process.

Started by bench.stream. Takes one line of JSON with the server's address, the sessions and how many sockets each opens;
prints ``ready`` once all have their snapshot, then for each line on standard input one line of JSON: what came since.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect

MARK = re.compile(r"bench:(\d+):(\d+)")
CONNECTING = 8  # at a time
SESSION_COOKIE = "arb_session"


class Head(msgspec.Struct):
    """What is read of every frame."""

    type: str
    sequence: int


class Counted(ClientConnection):
    """A connection that counts what came over the wire."""

    received = 0

    def data_received(self, data: bytes) -> None:
        Counted.received += len(data)
        super().data_received(data)


class Clients:
    """All sockets, and what they were sent since the last report."""

    def __init__(self) -> None:
        self.waits: list[float] = []  # milliseconds from publishing to having the message
        self.numbers: dict[int, list[list[int]]] = {}  # by owner, of each of its sockets
        self.frames = 0
        self.text_bytes = 0
        self.gaps = 0
        self.ready = 0

    async def follow(self, address: str, origin: str, owner: int, session: str, gate: asyncio.Semaphore) -> None:
        """Hold one socket open."""
        seen: list[int] = []
        self.numbers.setdefault(owner, []).append(seen)
        last, is_ready = 0, False
        headers = {"Cookie": f"{SESSION_COOKIE}={session}"}
        async with gate:
            socket = await connect(
                address, origin=origin, additional_headers=headers, create_connection=Counted, open_timeout=300
            )
            await socket.recv()
        async for text in socket:
            now = time.time_ns()
            head = msgspec.json.decode(text, type=Head)
            if last and head.sequence != last + 1:
                self.gaps += 1
            last = head.sequence
            self.frames += 1
            self.text_bytes += len(text)
            if head.type == "snapshot" and not is_ready:
                is_ready = True
                self.ready += 1
            for number, at in MARK.findall(text):
                seen.append(int(number))
                self.waits.append((now - int(at)) / 1e6)

    def report(self) -> dict[str, Any]:
        """Return what came since the last report, and forget it."""
        waits = sorted(self.waits)
        told = {
            "count": len(waits),
            "p50_ms": waits[len(waits) // 2] if waits else None,
            "p99_ms": waits[int(len(waits) * 0.99)] if waits else None,
            "max_ms": waits[-1] if waits else None,
            "frames": self.frames,
            "text_bytes": self.text_bytes,
            "wire_bytes": Counted.received,
            "gaps": self.gaps,
            "numbers": {owner: [list(one) for one in sockets] for owner, sockets in self.numbers.items()},
        }
        self.waits, self.frames, self.text_bytes, self.gaps, Counted.received = [], 0, 0, 0, 0
        for sockets in self.numbers.values():
            for one in sockets:
                one.clear()
        return told


async def main() -> None:
    loop = asyncio.get_running_loop()
    asked = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    origin = f"http://127.0.0.1:{asked['port']}"
    address = f"ws://127.0.0.1:{asked['port']}/ws/live-dashboard?mode=paper"
    clients, gate = Clients(), asyncio.Semaphore(CONNECTING)
    tasks = [
        asyncio.create_task(clients.follow(address, origin, one["owner"], one["session"], gate))
        for one in asked["sessions"]
        for _ in range(asked["each"])
    ]
    while clients.ready < len(tasks):
        for task in tasks:
            if task.done():
                task.result()  # raises what ended it
        await asyncio.sleep(0.1)
    print("ready", flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        ended = sum(task.done() for task in tasks)
        print(json.dumps({**clients.report(), "ended": ended}), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
