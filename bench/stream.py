"""An event in the engine to the message in connected dashboards, and what compressing the frames costs.

300 sockets of 100 owners, each owner's engine telling two trades a second, beside 40 markets' quotes and every engine's
health. The server is the platform's own in a process of its own, on the configured channel layer (in memory, or Redis);
the publisher is an engine host's, on a loop of its own; all clients are in a third process. The clock starts when the
engine publishes and stops when the client has the text. Rounds are measured after one that warms up; medians of the
rounds. The server's memory is told after the round that warms up and at the end. Everything is done twice, with frames
compressed (as they are served) and without.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from select import select
from statistics import median
from typing import Any

OWNERS = 100
EACH = 3
RATE = 2.0
SECONDS = 10.0
ROUNDS = 8
TARGET_MS = 300.0
SETTLE_SECONDS = 1.5
# Memory that grows by no more than this share from the end of the round that warms up to the end of the last is flat.
FLAT_SHARE = 0.01
FIGURES = ("p50_ms", "p99_ms", "max_ms")


def run(
    *, owners: int = OWNERS, each: int = EACH, rate: float = RATE, seconds: float = SECONDS, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Return figures with and without compression; raises RuntimeError when a process fails."""
    shape = (owners, each, rate, seconds, rounds)
    compressed, plain = _measure(*shape, compress=True), _measure(*shape, compress=False)
    return {
        "clients": owners * each,
        "owners": owners,
        "messages_per_second": rate,
        "seconds": seconds,
        "rounds": rounds,
        "target_p99_ms": TARGET_MS,
        "cores": os.cpu_count(),
        **compressed,
        "uncompressed": plain,
        "wire_ratio": round(compressed["wire_bytes_per_message"] / plain["wire_bytes_per_message"], 3),
        "cpu_ratio": round(compressed["cpu_us_per_message"] / plain["cpu_us_per_message"], 3),
    }


def _measure(owners: int, each: int, rate: float, seconds: float, rounds: int, *, compress: bool) -> dict[str, Any]:
    pair = Pair(owners, compress=compress)
    try:
        told = json.loads(pair.answer_of("server"))
        pair.say("clients", json.dumps({"port": told["port"], "sessions": told["sessions"], "each": each}))
        if pair.answer_of("clients") != "ready":
            raise RuntimeError("the clients could not open their sockets")
        found = [_round(pair, seconds, rate) for _ in range(rounds + 1)][1:]
    finally:
        pair.end()
    messages = sum(one["count"] for one in found)
    warm, last = found[0]["before"]["rss_mb"], found[-1]["after"]["rss_mb"]
    return {
        "layer": told["layer"],
        "database": told["database"],
        **{name: round(median(one[name] for one in found), 1) for name in FIGURES},
        "messages": messages,
        "lost": sum(one["lost"] for one in found),
        "gaps": sum(one["gaps"] for one in found),
        "closed": found[-1]["ended"],
        "rss_mb_warm": round(warm, 1),
        "rss_mb_end": round(last, 1),
        "memory_is_flat": last - warm <= warm * FLAT_SHARE,
        "cpu_us_per_message": round(sum(one["cpu_s"] for one in found) * 1e6 / max(messages, 1), 1),
        "wire_bytes_per_message": round(sum(one["wire_bytes"] for one in found) / max(messages, 1)),
    }


def _round(pair: Pair, seconds: float, rate: float) -> dict[str, Any]:
    """Publish for a while and return what came of it; ``lost`` counts what a socket of the owner never had."""
    pair.say("server", f"publish {seconds} {rate}")
    published = json.loads(pair.answer_of("server"))
    pair.pause(SETTLE_SECONDS)  # the last messages arrive
    pair.say("clients", "report")
    came = json.loads(pair.answer_of("clients"))
    lost = sum(
        len(set(numbers) - set(seen))
        for owner, numbers in published["published"].items()
        for seen in came["numbers"][owner]
    )
    before, after = published["before"], published["after"]
    if not came["count"]:
        raise RuntimeError(f"nothing arrived within {SETTLE_SECONDS} s; {came['ended']} sockets are closed")
    return {**came, "lost": lost, "before": before, "after": after, "cpu_s": after["cpu_s"] - before["cpu_s"]}


class Pair:
    """The server's process and the clients'. Whichever ends ends the benchmark, whosever answer is waited for."""

    def __init__(self, owners: int, *, compress: bool) -> None:
        self._processes = {
            "server": _start("bench.stream_server", str(owners), "compress" if compress else "plain"),
            "clients": _start("bench.stream_clients"),
        }

    def say(self, name: str, line: str) -> None:
        """Send a line; a process that is gone is found by who waits for its answer."""
        inlet = self._processes[name].stdin
        assert inlet is not None
        with suppress(BrokenPipeError):
            inlet.write(line + "\n")
            inlet.flush()

    def answer_of(self, name: str) -> str:
        """Return the next line of one of them.

        Raises
        ------
        RuntimeError
            If one of them failed or ended, with its reason.
        """
        while True:
            for speaker, line in self._lines(None):
                if speaker == name:
                    return line

    def pause(self, seconds: float) -> None:
        """Wait, unless one of them ends. Raises RuntimeError as :meth:`answer_of` does."""
        self._lines(seconds)

    def end(self) -> None:
        """Let both end, the clients first."""
        self.say("server", "end")
        for process in reversed(self._processes.values()):
            _end(process)

    def _lines(self, seconds: float | None) -> list[tuple[str, str]]:
        """Return what was said within ``seconds``; neither says a line it was not asked for, but its failure."""
        # The server first: when it fails, the clients do so as well.
        by_outlet = {process.stdout: name for name, process in self._processes.items()}
        ready, _, _ = select(list(by_outlet), [], [], seconds)
        found = []
        for outlet in (outlet for outlet in by_outlet if outlet in ready):
            line = outlet.readline().strip() if outlet is not None else ""
            name = by_outlet[outlet]
            if not line:
                raise RuntimeError(f"the {name} of the benchmark ended with code {self._processes[name].wait()}")
            if line.startswith('{"failed"'):
                raise RuntimeError(f"the {name} of the benchmark failed: {json.loads(line)['failed']}")
            found.append((name, line))
        return found


def _start(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def table(result: dict[str, Any]) -> str:
    """Return the result as text lines."""
    lines = [
        f"{result['clients']} dashboards of {result['owners']} owners, {result['messages_per_second']:g} messages "
        f"a second each, layer {result['layer']}, medians of {result['rounds']} rounds of {result['seconds']:g} s",
        f"{'':14}" + "".join(f"{name:>10}" for name in ("p50 ms", "p99 ms", "max ms", "lost", "messages", "us CPU",
                                                        "bytes", "MB warm", "MB end")),
    ]  # fmt: skip
    for name, one in (("compressed", result), ("not", result["uncompressed"])):
        values = (
            *(one[figure] for figure in FIGURES), one["lost"], one["messages"], one["cpu_us_per_message"],
            one["wire_bytes_per_message"], one["rss_mb_warm"], one["rss_mb_end"],
        )  # fmt: skip
        flat = "flat" if one["memory_is_flat"] else "grows"
        lines.append(f"{name:14}" + "".join(f"{value:>10}" for value in values) + f"  memory {flat}")
    lines.append(
        f"compression: x {result['wire_ratio']} bytes, x {result['cpu_ratio']} CPU of the server a message; "
        f"target p99 {result['target_p99_ms']:g} ms, none lost, memory flat (within {FLAT_SHARE:.0%})"
    )
    return "\n".join(lines)
