"""CPU per order book message, from socket to updated book: our Binance feed, ccxt.pro, and the bare decode.

    python -m bench.feeds [--json] [--messages N] [--repeats 5]

All three take the same frames from one server in a process of its own; each client is a process of its own, and the
three take turns, so that a busy machine disturbs them alike. Figures are CPU time of the client, medians over the
repeats; compare ratios, not microseconds, between machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from bench.frames import make_frames

CLIENTS = ("floor", "ours", "ccxt")
MARKETS = 50
LEVELS = 10
SEED = 7


def run(*, messages: int = 40_000, repeats: int = 5, markets: int = MARKETS, levels: int = LEVELS) -> dict[str, Any]:
    """Return medians, extremes and ratios; raises RuntimeError with the client's words when a client fails."""
    shape = [f"--markets={markets}", f"--messages={messages}", f"--levels={levels}", f"--seed={SEED}"]
    figures: dict[str, list[dict[str, float]]] = {client: [] for client in CLIENTS}
    with _server(shape) as server:
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        for _ in range(repeats):
            for client in CLIENTS:
                figures[client].append(_measure(client, ports, shape))
    frames = make_frames(markets, messages, levels=levels, seed=SEED)
    result: dict[str, Any] = {
        "markets": markets,
        "messages": messages,
        "repeats": repeats,
        "bytes_per_message": round(sum(map(len, frames.diffs)) / messages),
        "changes_per_message": round(frames.changes / (messages + markets), 1),
    }
    for client in CLIENTS:
        micros = [figure["us"] for figure in figures[client]]
        result[f"{client}_us"] = round(statistics.median(micros), 2)
        result[f"{client}_us_min"] = round(min(micros), 2)
        result[f"{client}_us_max"] = round(max(micros), 2)
        result[f"{client}_messages_per_second"] = round(
            statistics.median(figure["messages_per_second"] for figure in figures[client])
        )
    for name in ("ccxt", "floor"):
        ratios = [ours["us"] / other["us"] for ours, other in zip(figures["ours"], figures[name], strict=True)]
        result[f"ratio_to_{name}"] = round(result["ours_us"] / result[f"{name}_us"], 3)
        result[f"ratio_to_{name}_min"] = round(min(ratios), 3)
        result[f"ratio_to_{name}_max"] = round(max(ratios), 3)
    return result


def _server(shape: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.feed_server", *shape],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _measure(client: str, ports: dict[str, int], shape: Sequence[str]) -> dict[str, float]:
    addresses = [f"--rest=http://127.0.0.1:{ports['rest']}", f"--ws=ws://127.0.0.1:{ports['ws']}"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.feed_clients", client, *addresses, *shape],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the {client} client failed: {done.stderr.strip().splitlines()[-1:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['markets']} markets, {result['messages']} messages of {result['bytes_per_message']} bytes and "
        f"{result['changes_per_message']} changes, medians of {result['repeats']}",
        f"{'':8} {'us/message':>10} {'min':>8} {'max':>8} {'messages/s':>12}",
    ]
    lines += [
        f"{client:8} {result[f'{client}_us']:10.2f} {result[f'{client}_us_min']:8.2f} "
        f"{result[f'{client}_us_max']:8.2f} {result[f'{client}_messages_per_second']:12,}"
        for client in CLIENTS
    ]
    lines += [
        f"ours to {name}: {result[f'ratio_to_{name}']:.3f} "
        f"({result[f'ratio_to_{name}_min']:.3f} .. {result[f'ratio_to_{name}_max']:.3f})"
        for name in ("ccxt", "floor")
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench feeds", description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--messages", type=int, default=40_000, help="messages a client takes in each repeat")
    parser.add_argument("--repeats", type=int, default=5, help="how often each client runs")
    parser.add_argument("--markets", type=int, default=MARKETS, help="markets the messages are spread over")
    parser.add_argument("--levels", type=int, default=LEVELS, help="most changed levels a side of a message")
    options = parser.parse_args(arguments)
    for name in ("messages", "repeats", "markets", "levels"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1 (given {getattr(options, name)})")
    result = run(messages=options.messages, repeats=options.repeats, markets=options.markets, levels=options.levels)
    print(json.dumps(result) if options.json else table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
