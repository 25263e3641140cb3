"""How fast an order leaves, and how far apart two legs on one exchange arrive: this platform against ccxt.pro.

    python -m bench.orders [--json] [--orders 100] [--repeats 5]

``to_wire_us`` is the time from the call to the return of the write on the socket, ``leg_gap_us`` the time between the
reads that bring the first and the second of two orders sent together, at the other end of the socket. ``ours`` is the
whole of the venue's way (checks, budget, request, signature), ``ccxt_ws`` and ``ccxt_rest`` are ccxt.pro with its
throttle off, those that begin with ``default_`` ccxt.pro as it comes. All send the same order with the same HMAC key to
one simulated Binance, in one process and on one event loop (asyncio's own, where each write can be timed). Each of them
is given its arguments ready made. They take turns with every order, each after the same pause in which nothing goes on;
figures are medians of the repeats' medians.

The time to the wire is measured twice (:mod:`bench.order_relay` says how): with a reader at the other end that is
``sleeping``, so that the write pays for waking it, and with one that is ``polling``, as if what is written were left to
a network card.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import ccxt.pro

from trading.clock import SystemClock
from trading.config import AccountConfig, Credentials, ExchangeSpec
from trading.exchanges.budget import Budget, Window
from trading.exchanges.ccxt_client import override_urls
from trading.exchanges.generic.venue import CcxtVenue, build_venue
from trading.exchanges.markets import load_markets
from trading.messages import OrderIntent, OrderPath, OrdersBy, TimeInForce

QUICK = ("ours", "ccxt_ws", "ccxt_rest")
THROTTLED = ("default_ccxt_ws", "default_ccxt_rest")  # who reads at the other end is nothing to them
CLIENTS = (*QUICK, *THROTTLED)
READERS = ("polling", "sleeping")
PRICE, QUANTITY = "45000", "0.01"  # below the market: an IOC order that finds nothing and moves no balance
THROTTLED_ORDERS = 6  # a client that waits a quarter of a second before each order is asked for fewer
WARM_UP = 5
PAUSE_SECONDS = 0.005  # before each measurement: what the last order still brings is over
Call = Callable[[], Awaitable[object]]
# Makes the calls that send orders of these client ids, one alone or the two legs of a trade.
Prepare = Callable[[Sequence[str]], list[Call]]
_ids = count(1)


class Writes:
    """When bytes were last handed to a socket."""

    def __init__(self) -> None:
        self.last_ns = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note every write of asyncio's transports; our connection's are noted by :meth:`of`."""
        originals = {name: getattr(_SelectorSocketTransport, name) for name in ("write", "writelines")}

        def noting(original: Callable[..., None]) -> Callable[..., None]:
            def write(transport: object, data: object) -> None:
                original(transport, data)
                self.last_ns = time.monotonic_ns()

            return write

        for name, original in originals.items():
            setattr(_SelectorSocketTransport, name, noting(original))
        try:
            yield
        finally:
            for name, original in originals.items():
                setattr(_SelectorSocketTransport, name, original)

    def of(self, connection: Any) -> None:
        """Note the writes of our own connection, which go to the socket without asyncio's transport."""
        send = connection.send_now

        def noting(messages: Sequence[bytes]) -> bool:
            written: bool = send(messages)
            self.last_ns = time.monotonic_ns()
            return written

        connection.send_now = noting


class Relay:
    """The process that stands between the clients and the exchange."""

    def __init__(self, rest: str, ws: str) -> None:
        ports = [str(urlsplit(url).port) for url in (rest, ws)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.order_relay", *ports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.rest, self.ws = json.loads(self._line())

    def wait(self, reader: str) -> None:
        """Let it wait for the next order, polling or sleeping; return once it does."""
        self._ask(reader)

    def seen(self) -> dict[str, int]:
        """Return when each order since the last call was read, in monotonic nanoseconds by its client id."""
        found: dict[str, int] = json.loads(self._ask("seen"))
        return found

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def run(*, orders: int = 100, repeats: int = 5) -> dict[str, Any]:
    """Return medians and ratios; ``orders`` single orders and as many pairs a client and repeat."""
    from tests.exchangesim.simulator import running_simulator  # noqa: PLC0415  (not where only figures are wanted)

    with running_simulator("--exchanges", "binance", "--no-limits") as simulator:
        keys = simulator.account("binance", balances={"USDT": "100000000", "BTC": "1000"})
        simulator.set_book("binance", "BTC/USDT", bids=[("49990", "1")], asks=[("50000", "1")])
        relay = Relay(simulator.rest["binance"], simulator.ws["binance"])
        try:
            spec = ExchangeSpec(
                code="binance-sim",
                ccxt_id="binance",
                environment="simulated",
                urls={"rest": f"http://127.0.0.1:{relay.rest}", "ws": f"ws://127.0.0.1:{relay.ws}"},
            )
            credentials = Credentials(api_key=keys.api_key, secret=keys.secret)
            return asyncio.run(_run(relay, spec, credentials, orders, repeats))
        finally:
            relay.stop()


async def _run(relay: Relay, spec: ExchangeSpec, credentials: Credentials, orders: int, repeats: int) -> dict[str, Any]:
    writes = Writes()
    wires: dict[str, dict[str, list[float]]] = {reader: defaultdict(list) for reader in READERS}
    gaps: dict[str, list[float]] = defaultdict(list)
    load = os.getloadavg()[0]
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(writes.watched())
        clients = await _clients(stack, spec, credentials, writes)
        for name, prepare in clients.items():
            for _ in range(1 if name in THROTTLED else WARM_UP):
                await asyncio.gather(*(call() for call in prepare([_next_id(), _next_id()])))
        quick = {name: clients[name] for name in QUICK}
        throttled = {name: clients[name] for name in THROTTLED}
        for _ in range(repeats):
            for reader in READERS:
                await _take_turns(quick, orders, partial(_to_wire, writes, relay, reader), wires[reader])
            await _take_turns(quick, orders, partial(_leg_gap, relay), gaps)
            await _take_turns(
                throttled, THROTTLED_ORDERS, partial(_to_wire, writes, relay, "sleeping"), wires["sleeping"]
            )
            await _take_turns(throttled, THROTTLED_ORDERS, partial(_leg_gap, relay), gaps)
    return {
        "orders": orders,
        "repeats": repeats,
        "load": round(load, 1),
        "to_wire_us": {reader: _medians(found) for reader, found in wires.items()},
        "leg_gap_us": _medians(gaps),
        "to_wire_ratio_to_ccxt_ws": {
            reader: round(statistics.median(found["ours"]) / statistics.median(found["ccxt_ws"]), 3)
            for reader, found in wires.items()
        },
        "to_wire_us_spread": {reader: _spreads(found) for reader, found in wires.items()},
        "leg_gap_us_spread": _spreads(gaps),
    }


async def _take_turns(
    clients: Mapping[str, Prepare],
    times: int,
    measure: Callable[[Prepare], Awaitable[float]],
    into: Mapping[str, list[float]],
) -> None:
    """Measure one client after the other so many times; add the median of each to what it has."""
    turns = [[await measure(prepare) for prepare in clients.values()] for _ in range(times)]
    for name, values in zip(clients, zip(*turns, strict=True), strict=True):
        into[name].append(statistics.median(values))


async def _to_wire(writes: Writes, relay: Relay, reader: str, prepare: Prepare) -> float:
    """Send one order; return the microseconds from the call to its last write."""
    (call,) = prepare([_next_id()])
    relay.wait(reader)
    await asyncio.sleep(PAUSE_SECONDS)
    began = time.monotonic_ns()
    await call()
    return (writes.last_ns - began) / 1000


async def _leg_gap(relay: Relay, prepare: Prepare) -> float:
    """Send two orders together; return the microseconds between their reads at the other end."""
    names = [_next_id(), _next_id()]
    first, second = prepare(names)
    relay.wait("sleeping")
    await asyncio.sleep(PAUSE_SECONDS)
    await asyncio.gather(first(), second())
    seen = relay.seen()
    return abs(seen[names[1]] - seen[names[0]]) / 1000


async def _clients(
    stack: contextlib.AsyncExitStack, spec: ExchangeSpec, credentials: Credentials, writes: Writes
) -> dict[str, Prepare]:
    clients = {"ours": await stack.enter_async_context(_venue(spec, credentials, writes))}
    for name, settings in (("", {"enableRateLimit": False}), ("default_", {})):
        client = ccxt.pro.binance(
            {
                "apiKey": credentials.api_key,
                "secret": credentials.secret,
                "options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}},
                **settings,
            }
        )
        override_urls(client, spec)
        client.has["fetchCurrencies"] = False
        stack.push_async_callback(client.close)
        await client.load_markets()
        clients[f"{name}ccxt_ws"] = _ccxt(client.create_order_ws)
        clients[f"{name}ccxt_rest"] = _ccxt(client.create_order)
    return {name: clients[name] for name in CLIENTS}


@contextlib.asynccontextmanager
async def _venue(spec: ExchangeSpec, credentials: Credentials, writes: Writes) -> AsyncIterator[Prepare]:
    market = next(one for one in await load_markets(spec) if one.symbol == "BTC/USDT")
    clock = SystemClock()
    account = AccountConfig(account_id=1, label="bench", exchange=spec, credentials=credentials)
    venue: CcxtVenue = build_venue(account, [market], clock)
    ready = asyncio.Event()

    def listen(message: object) -> None:
        if isinstance(message, OrderPath) and message.by is OrdersBy.WEBSOCKET:
            ready.set()

    await venue.start(listen)
    await ready.wait()
    # As strict in its accounting as ever, but this runs faster than an exchange would allow.
    windows = {name: Window(limit=1e9, seconds=one.seconds) for name, one in venue.dialect.windows.items()}
    venue._calls.budget = Budget(windows, clock)
    socket = venue._orders._socket
    assert socket is not None
    assert socket._current is not None
    writes.of(socket._current.connection)

    def intent_of(name: str) -> OrderIntent:
        now = clock.time_ns()
        return OrderIntent(
            client_order_id=name,
            trade_id=name,
            account_id=1,
            market=market.key,
            leg=0,
            attempt=0,
            side="buy",
            time_in_force=TimeInForce.IOC,
            price=Decimal(PRICE),
            quantity=Decimal(QUANTITY),
            deadline_ns=now,
            created_ns=now,
        )

    async def send(intent: OrderIntent) -> None:
        result = await venue.place(intent)
        if result.path != "websocket" or result.outcome != "PLACED":
            raise RuntimeError(f"the order was not taken by WebSocket: {result.outcome} {result.code} {result.message}")

    def prepare(names: Sequence[str]) -> list[Call]:
        if len(names) > 1:  # as the engine does: no leg leaves before the budget of all is had
            for name in names:
                venue.reserve_order(name)
        return [partial(send, intent_of(name)) for name in names]

    try:
        yield prepare
    finally:
        await venue.close()


def _ccxt(create: Callable[..., Awaitable[object]]) -> Prepare:
    def prepare(names: Sequence[str]) -> list[Call]:
        order = ("BTC/USDT", "limit", "buy", float(QUANTITY), float(PRICE))
        return [partial(create, *order, {"newClientOrderId": name, "timeInForce": "IOC"}) for name in names]

    return prepare


def _next_id() -> str:
    return f"bench{next(_ids):09d}"


def _medians(found: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values), 1) for name, values in found.items()}


def _spreads(found: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: [round(min(values), 1), round(max(values), 1)] for name, values in found.items()}


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as the Markdown table of docs/execution.md."""
    polling, sleeping = (figures["to_wire_us"][reader] for reader in READERS)
    rows = [
        f"Medians of {figures['repeats']} repeats with {figures['orders']} orders each, microseconds, at a load of "
        f"{figures['load']}.",
        "",
        "| client | call to wire, reader polling | call to wire, reader sleeping | second leg behind the first |",
        "|---|---:|---:|---:|",
    ]
    for name in CLIENTS:
        quick = f"{polling[name]:,.1f}" if name in polling else "-"
        rows.append(f"| {name} | {quick} | {sleeping[name]:,.1f} | {figures['leg_gap_us'][name]:,.1f} |")
    ratios = figures["to_wire_ratio_to_ccxt_ws"]
    told = ", ".join(f"{ratios[reader]:.0%} with the reader {reader}" for reader in READERS)
    return "\n".join([*rows, "", f"Ours to the wire, of ccxt_ws: {told}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    figures = run(orders=options.orders, repeats=options.repeats)
    print(json.dumps(figures) if options.json else table(figures))


if __name__ == "__main__":
    main()
