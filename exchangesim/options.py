"""The simulator's command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

EXCHANGES = ("binance", "okx", "bybit")
"""Those that run unless others are asked for."""
FUTURES = ("binanceusdm",)
ALL_EXCHANGES = (*EXCHANGES, *FUTURES)
DEFAULT_SYMBOLS = "BTC/USDT,ETH/USDT,SOL/USDT,BTC/USDC"
_SYMBOL = re.compile(r"^([A-Z0-9]{1,15})/([A-Z0-9]{2,15})(?:=([0-9.]{1,20}))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What one run of the simulator is to do."""

    exchanges: tuple[str, ...] = EXCHANGES
    symbols: tuple[str, ...] = tuple(DEFAULT_SYMBOLS.split(","))
    symbols_given: bool = False
    start_prices: dict[str, float] = field(default_factory=dict)
    """Dollar prices of base assets, from ``BASE/QUOTE=price``."""
    ports: dict[str, int] = field(default_factory=dict)
    """By exchange name and ``control``; 0 or absent takes any free port."""
    seed: int = 1
    state: Path | None = None
    latency_ms: float = 0.0
    taker_bps: Decimal = Decimal(4)
    maker_bps: Decimal = Decimal(2)
    interval: float = 0.1
    levels: int = 25
    funding_hours: float = 8.0
    limits: bool = True
    play: tuple[tuple[str, Path], ...] = ()
    speed: float = 1.0
    loop: bool = True
    time_limit: float | None = None
    parent_pid: int | None = None
    control_token_file: Path | None = None


def parse_options(arguments: list[str] | None = None) -> Options:
    """Read the command line; a wrong value ends the program with one sentence and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m exchangesim",
        description="Simulated exchanges that speak the real wire protocols, on 127.0.0.1. Prints one JSON line with "
        "all addresses when ready, and runs until SIGINT or SIGTERM.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--exchanges",
        type=_exchanges,
        default=EXCHANGES,
        metavar="NAME,...",
        help=f"which of {', '.join(ALL_EXCHANGES)}; the last has a perpetual contract for every market in USDT",
    )
    add(
        "--symbols",
        type=_symbols,
        default=None,
        metavar="BASE/QUOTE[=PRICE],...",
        help=f"markets, {DEFAULT_SYMBOLS} unless given; PRICE is where a synthetic price starts",
    )
    add("--port-base", type=_port, default=0, help="control takes this port, the exchanges the next ones; 0: any free")
    for name in ALL_EXCHANGES:
        add(f"--{name}-port", type=_port, default=None, help=f"port of {name}; 0: any free")
    add("--control-port", type=_port, default=None, help="port of the control interface; 0: any free")
    add(
        "--control-token-file",
        type=Path,
        default=None,
        metavar="FILE",
        help="file with the control interface's bearer token; else EXCHANGESIM_CONTROL_TOKEN, else one is made and "
        "printed with the addresses",
    )
    add("--seed", type=int, default=1, help="the same seed gives the same synthetic market and faults")
    add("--state", type=Path, default=None, metavar="DIR", help="keep accounts and orders here across restarts")
    add("--latency-ms", type=_number(0, 60_000), default=0.0, help="delay each way, of calls, events and market data")
    add("--taker-bps", type=_decimal(0, 1000), default=Decimal(4), help="taker fee in basis points")
    add("--maker-bps", type=_decimal(0, 1000), default=Decimal(2), help="maker fee in basis points")
    add("--interval", type=_number(0.005, 60), default=0.1, help="seconds between two synthetic quotes of a market")
    add("--levels", type=_whole(5, 500), default=25, help="levels a side of a synthetic book")
    add("--funding-hours", type=_number(0.001, 24), default=8.0, help="hours between two fundings of contracts")
    add("--no-limits", action="store_true", help="count requests, but refuse none for their number")
    add(
        "--play",
        type=_play,
        action="append",
        default=[],
        metavar="EXCHANGE=FILE",
        help="play a recording's books as this exchange's market (may be given several times)",
    )
    add("--speed", type=_number(0.001, 1_000_000), default=1.0, help="play recordings this many times faster")
    add(
        "--once", action="store_true", help="stop a recording at its end (its last book stays) instead of starting over"
    )
    add("--time-limit", type=_number(0.1, 10_000_000), default=None, metavar="SECONDS", help="stop after so long")
    add("--parent-pid", type=_whole(1, 2**31), default=None, metavar="PID", help="stop when this process is gone")
    given = parser.parse_args(arguments)

    symbols, starts = given.symbols or _symbols(DEFAULT_SYMBOLS)
    ports: dict[str, int] = {}
    for offset, name in enumerate(("control", *ALL_EXCHANGES)):
        own = getattr(given, f"{name}_port")
        ports[name] = own if own is not None else (given.port_base + offset if given.port_base else 0)
    for name, _ in given.play:
        if name not in given.exchanges:
            parser.error(f"argument --play: {name} is not among the --exchanges {','.join(given.exchanges)}")
    return Options(
        exchanges=given.exchanges,
        symbols=symbols,
        symbols_given=given.symbols is not None,
        start_prices=starts,
        ports=ports,
        seed=given.seed,
        state=given.state,
        latency_ms=given.latency_ms,
        taker_bps=given.taker_bps,
        maker_bps=given.maker_bps,
        interval=given.interval,
        levels=given.levels,
        funding_hours=given.funding_hours,
        limits=not given.no_limits,
        play=tuple(given.play),
        speed=given.speed,
        loop=not given.once,
        time_limit=given.time_limit,
        parent_pid=given.parent_pid,
        control_token_file=given.control_token_file,
    )


def _exchanges(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in ALL_EXCHANGES:
            raise argparse.ArgumentTypeError(f"there is no exchange {name!r}; there are {', '.join(ALL_EXCHANGES)}")
    if not names:
        raise argparse.ArgumentTypeError("name at least one exchange")
    return names


def _symbols(text: str) -> tuple[tuple[str, ...], dict[str, float]]:
    names: list[str] = []
    starts: dict[str, float] = {}
    for part in text.split(","):
        found = _SYMBOL.match(part.strip())
        if found is None:
            raise argparse.ArgumentTypeError(f"{part!r} is not like BTC/USDT or FOO/USDT=1.25")
        base, quote, price = found.groups()
        if base == quote:
            raise argparse.ArgumentTypeError(f"{part!r} has the same asset on both sides")
        if price is not None:
            starts[base] = _number(1e-9, 1e9)(price)
        if f"{base}/{quote}" not in names:
            names.append(f"{base}/{quote}")
    return tuple(names), starts


def _play(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not path or name not in EXCHANGES:
        raise argparse.ArgumentTypeError(f"{text!r} is not like binance=FILE; exchanges are {', '.join(EXCHANGES)}")
    return name, Path(path)


def _port(text: str) -> int:
    return _whole(0, 65_535 - len(ALL_EXCHANGES))(text)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def _decimal(low: int, high: int) -> Callable[[str], Decimal]:
    def parse(text: str) -> Decimal:
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite() or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
        return value

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return parse
