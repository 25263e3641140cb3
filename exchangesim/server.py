"""The simulator as a process: builds exchanges and faces, opens ports, drives markets, and stops cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import itertools
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from exchangesim.control import Control
from exchangesim.core.clock import Clock
from exchangesim.core.faults import FaultRegistry
from exchangesim.core.futures.exchange import FuturesExchange
from exchangesim.core.futures.quoter import ContractQuoter
from exchangesim.core.irregular import Irregular
from exchangesim.core.latency import Latency
from exchangesim.core.market import SimMarket
from exchangesim.core.playback import Player, RecordingError, open_recording
from exchangesim.core.rules import SymbolRules, make_rules
from exchangesim.core.state import StateError, Store
from exchangesim.core.synthetic import Quoter, SyntheticSettings, SyntheticWorld
from exchangesim.core.transit import Transit
from exchangesim.face import Face
from exchangesim.options import Options
from exchangesim.venues import Venue

# exchange -> module and class of its face, imported when the exchange is asked for
FACES: dict[str, tuple[str, str]] = {
    "binance": ("exchangesim.binance.face", "BinanceFace"),
    "okx": ("exchangesim.okx.face", "OkxFace"),
    "bybit": ("exchangesim.bybit.face", "BybitFace"),
    "binanceusdm": ("exchangesim.binance_usdm.face", "BinanceUsdmFace"),
}
HOST = "127.0.0.1"
SAVE_SECONDS = 5.0
PRUNE_EVERY = 24  # saves
TOKEN_VARIABLE = "EXCHANGESIM_CONTROL_TOKEN"  # noqa: S105  (the variable's name)

log = logging.getLogger("exchangesim")


class StartError(Exception):
    """The simulator cannot start; the text is one sentence for the operator."""


class Simulator:
    """All exchanges of one process. ``start``, then ``run`` until ``stop`` is called, then ``close``."""

    def __init__(self, options: Options) -> None:
        """Build everything but the ports. Raises StartError."""
        self.options = options
        try:
            self.store = Store(options.state)
        except StateError as error:
            raise StartError(str(error)) from None
        kept = self.store.fact("*", "synthetic_prices")
        self.world = SyntheticWorld(
            options.seed,
            settings=SyntheticSettings(interval=options.interval, levels=options.levels),
            starts=options.start_prices,
            prices={k: float(v) for k, v in kept.items()} if isinstance(kept, dict) else None,
        )
        self.faults = FaultRegistry(options.seed)
        self.venues: dict[str, Venue] = {}
        self.faces: dict[str, Face] = {}
        self.players: list[Player] = []
        for name in options.exchanges:
            self._build(name)
        self._stop = asyncio.Event()
        self._runners: list[web.AppRunner] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.exit_code = 0

    def _build(self, name: str) -> None:
        options = self.options
        recordings = []
        for played, path in options.play:
            if played == name:
                try:
                    recordings.append(open_recording(path, name))
                except RecordingError as error:
                    raise StartError(str(error)) from None
        prices: dict[str, Decimal] = {}
        for recording in recordings:
            for symbol, price in recording.prices.items():
                if symbol in prices:
                    raise StartError(f"--play {name}={recording.path}: {symbol} is already played from another file.")
                prices[symbol] = price
        played_symbols = set(prices)
        face_class = _face_class(name)
        contracts = issubclass(face_class.exchange_class, FuturesExchange)
        if not recordings or options.symbols_given:
            for symbol in _contracts(options.symbols) if contracts else options.symbols:
                if symbol not in prices:
                    prices[symbol] = self._start_price(symbol)
        rules: list[SymbolRules] = [
            make_rules(name, symbol, price=price, taker_bps=options.taker_bps, maker_bps=options.maker_bps)
            for symbol, price in prices.items()
        ]
        for recording in recordings:
            rules = [recording.adapt(rule) for rule in rules]
        clock = Clock()
        own: dict[str, Any] = {}
        if contracts:
            own = {"index": self._index_price, "funding_hours": options.funding_hours}
        exchange = face_class.exchange_class(
            name, rules, prices, store=self.store, clock=clock, irregular=Irregular(name, self.faults), **own
        )
        latency = Latency()
        latency.update(**{f"{way}_ms": options.latency_ms for way in ("request", "response", "event", "market")})
        quoters = {
            market.native: self.world.add(exchange, market, ContractQuoter if contracts else Quoter)
            for market in exchange.markets.values()
            if market.rules.symbol not in played_symbols
        }
        self.players += [
            Player(exchange, recording, speed=options.speed, loop=options.loop) for recording in recordings
        ]
        transit = Transit(name, faults=self.faults, latency=latency, clock=clock, reads=exchange.reads)
        face = face_class(exchange, transit, limits=options.limits)
        exchange.listeners.append(face)
        self.faces[name] = face
        self.venues[name] = Venue(exchange=exchange, latency=latency, quoters=quoters, face=face)

    def _start_price(self, symbol: str) -> Decimal:
        try:
            return self.world.price(symbol)
        except KeyError as error:
            raise StartError(
                f"--symbols {symbol}: no price is known for {error.args[0]}; give one, as {symbol}=1.25."
            ) from None

    def _index_price(self, market: SimMarket) -> Decimal | None:
        """Return the fair price of a contract's base asset, which every exchange's quotes are drawn to."""
        return self.world.price(market.rules.symbol)

    async def start(self) -> dict[str, object]:
        """Open the ports and start the markets; returns what to print as the ready line. Raises StartError."""
        addresses: dict[str, dict[str, str]] = {}
        for name, face in self.faces.items():
            app = web.Application(client_max_size=1 << 20)
            face.add_routes(app)
            port = await self._listen(app, name)
            addresses[name] = face.addresses(f"{HOST}:{port}")
        ready: dict[str, object] = {"control": "", "exchanges": addresses}
        token, made = _control_token(self.options.control_token_file)
        port = await self._listen(Control(token, self.venues, self.faults, ready).app(), "control")
        ready["control"] = f"http://{HOST}:{port}"
        self.world.step()  # a first book before the first client
        for player in self.players:
            player.prepare()
        for face in self.faces.values():
            await face.start()
        self._tasks.append(asyncio.create_task(self.world.run()))
        self._tasks += [asyncio.create_task(player.run()) for player in self.players]
        self._tasks.append(asyncio.create_task(self._maintain()))
        for task in self._tasks:
            task.add_done_callback(self._ended)
        return {**ready, "control_token": token} if made else ready

    async def run(self) -> None:
        """Return when told to stop, when the time limit is over or when the parent is gone."""
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self._stop.wait())]
        if self.options.parent_pid is not None:
            waits.append(asyncio.create_task(_parent_gone(self.options.parent_pid)))
        _, pending = await asyncio.wait(waits, timeout=self.options.time_limit, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()

    def stop(self) -> None:
        self._stop.set()

    async def close(self) -> None:
        """Stop markets, sockets and ports, and write what is left to write."""
        for task in self._tasks:
            task.remove_done_callback(self._ended)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for face in self.faces.values():
            await face.close()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        self._save_prices()
        self.store.close()

    async def _listen(self, app: web.Application, name: str) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handle_signals=False)
        await runner.setup()
        port = self.options.ports.get(name, 0)
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
            raise StartError(f"Port {port} for {name} {why}; give another, or 0 for any free one.") from None
        self._runners.append(runner)
        bound: int = runner.addresses[0][1]
        return bound

    async def _maintain(self) -> None:
        for turn in itertools.count(1):
            await asyncio.sleep(SAVE_SECONDS)
            self._save_prices()
            if turn % PRUNE_EVERY == 0:
                for name in self.venues:
                    self.store.prune(name)

    def _save_prices(self) -> None:
        self.store.commit("*", facts=[("synthetic_prices", self.world.snapshot())])

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("A market stopped; the simulator stops.", exc_info=task.exception())
            self.exit_code = 1
            self.stop()


async def serve(options: Options) -> int:
    """Run a simulator until it is told to stop; returns the exit code."""
    simulator: Simulator | None = None
    try:
        simulator = Simulator(options)
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, simulator.stop)
        ready = await simulator.start()
    except StartError as error:
        sys.stderr.write(f"exchangesim: {error}\n")
        if simulator is not None:
            await simulator.close()
        return 2
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    await simulator.run()
    await simulator.close()
    return simulator.exit_code


def _contracts(symbols: Iterable[str]) -> list[str]:
    """Return the linear contracts on markets in USDT."""
    return [f"{symbol}:USDT" for symbol in symbols if symbol.endswith("/USDT")]


def _face_class(name: str) -> type[Face]:
    module, class_name = FACES[name]
    face: type[Face] = getattr(importlib.import_module(module), class_name)
    return face


def _control_token(path: Path | None) -> tuple[str, bool]:
    """Return the control token, and whether it was made here (and so must be told)."""
    if path is None:
        token = os.environ.get(TOKEN_VARIABLE, "")
        return (token, False) if token else (secrets.token_urlsafe(24), True)
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"--control-token-file {path} cannot be read ({error}).") from None
    if len(token) < 16:
        raise StartError(f"--control-token-file {path} must hold a token of at least 16 characters.")
    return token, False


async def _parent_gone(pid: int) -> None:
    own_parent = os.getppid() == pid
    while True:
        if own_parent:
            if os.getppid() != pid:
                return
        else:
            with contextlib.suppress(PermissionError):  # it lives, as somebody else's
                try:
                    os.kill(pid, 0)
                except ProcessLookupError:
                    return
        await asyncio.sleep(0.25)
