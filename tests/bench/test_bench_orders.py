"""The order benchmark's own conduct: every client's orders arrive, each is timed, and what is told is told whole."""

from __future__ import annotations

import json

from bench import orders
from bench.order_relay import Frames, _seen


def test_every_client_is_measured_and_the_tables_rows_are_theirs() -> None:
    figures = orders.run(orders=3, repeats=1)
    assert json.loads(json.dumps(figures)) == figures
    assert list(figures["to_wire_us"]["polling"]) == list(orders.QUICK)
    for found in (figures["to_wire_us"]["sleeping"], figures["leg_gap_us"]):
        assert list(found) == list(orders.CLIENTS)
    assert all(value > 0 for found in figures["to_wire_us"].values() for value in found.values())
    assert all(value >= 0 for value in figures["leg_gap_us"].values())
    assert list(figures["to_wire_ratio_to_ccxt_ws"]) == list(orders.READERS)
    # The throttle of ccxt as it comes is a matter of a quarter of a second, whatever the machine.
    assert figures["leg_gap_us"]["default_ccxt_ws"] > 100_000
    assert all(f"| {name} |" in orders.table(figures) for name in orders.CLIENTS)


def test_the_relay_reads_frames_however_they_are_cut() -> None:
    body = b'{"method":"order.place","params":{"newClientOrderId":"bench000000042"}}' + b" " * 100
    mask = b"\x01\x02\x03\x04"
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
    stream = b"GET / HTTP/1.1\r\n\r\n" + b"\x81\xfe" + len(body).to_bytes(2, "big") + mask + masked
    for step in (1, 7, len(stream)):
        _seen.clear()
        frames = Frames()
        for at, start in enumerate(range(0, len(stream), step)):
            frames.feed(stream[start : start + step], at)
        assert _seen == {"bench000000042": (len(stream) - 1) // step}
    _seen.clear()
