"""Where our own orders have been: books that may still show what we have taken, or are about to take.

A book reaches us some milliseconds after the exchange changed it. Until the side an order of ours took from has been
received anew, its levels may be our own doing, and whoever trades on them trades against nothing.
"""

from __future__ import annotations

import msgspec

from trading.instruments import Side

# A book that did not change after our order ended is believed again after this long: then nothing is on its way.
FORGET_NS = 2_000_000_000


class Footprint(msgspec.Struct, frozen=True):
    """The side of a book that orders of this kind take from; paper orders leave no trace in the real one."""

    market: str
    side: Side  # of the order
    paper: bool


class Footprints:
    """Orders on their way, and when the last one ended, by the side they take from. One event loop uses it."""

    def __init__(self) -> None:
        self._underway: dict[str, Footprint] = {}
        self._counts: dict[Footprint, int] = {}
        self._ended: dict[Footprint, int] = {}

    def begin(self, client_order_id: str, footprint: Footprint) -> None:
        """Note an order that is about to leave. Noting it again changes nothing."""
        if client_order_id not in self._underway:
            self._underway[client_order_id] = footprint
            self._counts[footprint] = self._counts.get(footprint, 0) + 1

    def end(self, client_order_id: str, now_ns: int) -> None:
        """Note that an order is settled at the monotonic time ``now_ns``: later books know what it did."""
        footprint = self._underway.pop(client_order_id, None)
        if footprint is None:
            return
        self._counts[footprint] -= 1
        self._ended[footprint] = now_ns

    def forget(self, client_order_id: str) -> None:
        """Note that an order was never sent."""
        footprint = self._underway.pop(client_order_id, None)
        if footprint is not None:
            self._counts[footprint] -= 1

    def refusal(self, footprint: Footprint, book_ns: int, now_ns: int) -> str:
        """Say why a book received at ``book_ns`` may show our own doing; empty when it doesn't. Monotonic times."""
        if self._counts.get(footprint):
            return f"an order of ours is on its way to {footprint.market}"
        ended = self._ended.get(footprint)
        if ended is None or book_ns > ended or now_ns - ended > FORGET_NS:
            return ""
        return f"the book of {footprint.market} is older than the end of our last order there"
