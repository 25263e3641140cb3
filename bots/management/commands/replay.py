"""``./arb replay``: what a recording of real markets would have earned."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from trading.arbitrage.routes import AssetEquivalence
from trading.clock import SystemClock
from trading.instruments import positive
from trading.marketdata.recording import NotARecording
from trading.marketdata.replay import ReplayOptions, replay
from trading.marketdata.replay_report import replay_json, replay_table
from trading.marketdata.replay_sources import open_sources

DESCRIPTION = """\
Run recordings through the decoders, books and detector that trade live, in the order the messages were received.

For every ordered pair of markets with the same base and quote asset: how long both were there (overlap), in how many
episodes and for how long the best prices alone were in profit before fees, the best edge, and the trades a bot would
have taken at the given fee from the depth the books showed, with their net. No quantity is taken twice.

For every cycle of three spot markets of one exchange that turns an asset into more of itself (USDT>BTC>BCH>USDT): the
same figures of the product of its three best prices, and their median over all replayed quotes of the exchange. Also
before fees, of which a cycle pays three; nothing is traded on cycles.

NAME is <exchange>:<ccxt symbol>:  binance:BTC/USDT   binanceusdm:BTC/USDT:USDT   binancecoinm:BTC/USD:BTC
FILE is a gzip file of "<received ns> <json>" lines, a file of ./arb record, or cryptofeed's .jsonl.zst.
Recordings of binance, okx and bybit are read by our own decoders, with their sequence checks; those of bitget, kucoin
and poloniex by ccxt's handlers, as the live feed of these exchanges does, with the checks that ccxt makes.
"""

EXAMPLES = """\
examples:
  ./arb replay --market binance:BTC/USDT=spot.gz --market binanceusdm:BTC/USDT:USDT=usdm.gz --fee-bps 4
  ./arb replay --file BYBIT.jsonl.zst --fee-bps 1 --json

exit code: 0 when something was replayed (files read only in part are named in the notes), 2 for input that cannot be.
"""


class Command(BaseCommand):
    help = DESCRIPTION
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, epilog=EXAMPLES, **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--market", action="append", default=[], type=_named, metavar="NAME=FILE", help="one market of a recording"
        )
        parser.add_argument(
            "--file", action="append", default=[], metavar="FILE", help="every market of a recording that names them"
        )
        parser.add_argument(
            "--fee-bps", type=float, default=10.0, help="fee on each leg's notional, in basis points (default: 10)"
        )
        parser.add_argument(
            "--min-edge-bps", type=float, default=0.0, help="net edge a trade must have (default: 0, anything above)"
        )
        parser.add_argument(
            "--max-notional", type=_amount, default=None, help="most a trade may buy, in quote (default: what is there)"
        )
        parser.add_argument(
            "--treat-as-equal",
            action="append",
            default=[],
            metavar="USD=USDT",
            help="compare markets whose quote assets differ by name; their own exchange rate then counts as profit",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            limits = {} if options["max_notional"] is None else {"max_notional": options["max_notional"]}
            wanted = ReplayOptions(
                fee_bps=options["fee_bps"],
                min_edge_bps=options["min_edge_bps"],
                equal=AssetEquivalence.parse(options["treat_as_equal"]),
                **limits,
            )
            sources = open_sources(options["market"], options["file"])
        except ValueError as error:
            raise CommandError(str(error), returncode=2) from None
        try:
            report = asyncio.run(replay(sources, wanted, SystemClock()))
        except NotARecording as error:
            raise CommandError(str(error), returncode=2) from None
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=130) from None
        self.stdout.write(replay_json(report) if options["json"] else replay_table(report, wanted.fee_bps))


def _named(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise ArgumentTypeError(f"must look like binance:BTC/USDT=FILE (given {text[:80]!r})")
    return name, file


def _amount(text: str) -> Decimal:
    try:
        return positive(text, field="max-notional")
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
