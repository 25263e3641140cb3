"""``./arb record``: write what live feeds receive, for ``./arb replay``."""

from __future__ import annotations

import asyncio
import json
import math
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from bots.models import Exchange
from trading.clock import SystemClock
from trading.config import ExchangeSpec
from trading.exchanges.registry import FOLDERS

MAX_SECONDS = 7 * 86_400
SCHEMES = {"rest": ("http", "https"), "ws": ("ws", "wss")}


class Command(BaseCommand):
    help = (
        "Record the market data of one exchange, byte for byte as its feed receives it, to a file that ./arb replay "
        "reads: ./arb replay --file FILE. Only public data is asked for; no account is needed. Ctrl-C ends early and "
        "keeps what was recorded."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--exchange",
            required=True,
            metavar="CODE",
            help=f"code of an exchange set up here, or one of {', '.join(sorted(FOLDERS))}",
        )
        parser.add_argument(
            "--symbols", required=True, type=_symbols, metavar="A/B,...", help="ccxt symbols, such as BTC/USDT,ETH/USDT"
        )
        parser.add_argument("--seconds", type=_seconds, default=60.0, help="how long (default: 60)")
        parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file to write; must not exist")
        parser.add_argument("--rest", metavar="URL", help="REST address of another host, such as a simulated exchange")
        parser.add_argument("--ws", metavar="URL", help="WebSocket address of the same")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        from trading.marketdata.recorder import record  # noqa: PLC0415 (ccxt; --help needs none)

        spec = _spec(options["exchange"], options["rest"], options["ws"])
        try:
            summary = asyncio.run(record(spec, options["symbols"], options["seconds"], options["out"], SystemClock()))
        except KeyboardInterrupt:
            raise CommandError(f"interrupted; {options['out']} holds what came until then", returncode=130) from None
        except (ValueError, OSError) as error:
            raise CommandError(_sentence(error, options["out"]), returncode=2) from None
        if options["json"]:
            self.stdout.write(json.dumps(msgspec.to_builtins(summary)))
            return
        self.stdout.write(
            f"{summary.path}: {summary.frames} messages and {summary.snapshots} snapshots of "
            f"{', '.join(summary.markets)} in {summary.seconds:.1f} s.\n"
            f"Replay it with: ./arb replay --file {summary.path}"
        )
        for note in summary.notes:
            self.stdout.write(note)


def _spec(code: str, rest: str | None, ws: str | None) -> ExchangeSpec:
    urls = {name: _host(name, url) for name, url in (("rest", rest), ("ws", ws)) if url}
    if len(urls) == 1:
        raise CommandError("--rest and --ws belong together: give both or none", returncode=2)
    try:
        row = None if urls else Exchange.objects.filter(code=code).first()
    except DatabaseError:
        row = None  # no database yet: recording needs none
    if row is not None:
        return row.to_engine()
    if code not in FOLDERS:
        raise CommandError(
            f"--exchange: no exchange is set up here as {code[:40]!r}, and it is none of {', '.join(sorted(FOLDERS))}",
            returncode=2,
        )
    return ExchangeSpec(code=code, ccxt_id=code, environment="simulated" if urls else "live", urls=urls)


def _host(name: str, url: str) -> str:
    """Return scheme and host; the paths below them are the exchange's own."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES[name] or not parts.netloc:
        raise CommandError(
            f"--{name}: must start with {' or '.join(f'{scheme}://' for scheme in SCHEMES[name])} (given {url[:60]!r})",
            returncode=2,
        )
    return f"{parts.scheme}://{parts.netloc}"


def _sentence(error: Exception, out: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"--out: {out} cannot be written ({error.strerror})"
    return str(error)


def _symbols(text: str) -> list[str]:
    symbols = [symbol.strip() for symbol in text.split(",") if symbol.strip()]
    if not symbols or not all("/" in symbol for symbol in symbols):
        raise ArgumentTypeError(f"must look like BTC/USDT,ETH/USDT (given {text[:60]!r})")
    return symbols


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_SECONDS:
        raise ArgumentTypeError(f"must be above 0 and at most {MAX_SECONDS} (given {text[:40]!r})")
    return seconds
