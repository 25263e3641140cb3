"""The leases a host holds: renewed on a thread of their own, given up by our own clock before they expire.

Every figure is a share of LEASE_SECONDS (4 s), counted from the moment before the database was asked:

======  ==========================================================================================================
0.25    1 s: renewed from here on, tried again every 0.5 s. A database or a thread that stands still for less than
        about two seconds costs nothing.
0.8     3.2 s: the fence. Nothing is sent any more, whatever the database would say; 0.8 s are left for what two clocks
        drift apart and for a pause between the check and the socket.
1.0     4 s: the database lets another host in. It looks every 0.25 s and starts an engine in well under a second, so
        a killed host's owners are traded for again about 4 s after the kill, 5 s at most on a busy machine.
======  ==========================================================================================================

A pause that falls into the microseconds between the last check and the socket, and outlasts the margin, is left to the
exchanges: a signed order carries its time and is refused once its window has passed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from django.db import connections

from bots.engine_host.database import reconnecting
from bots.services.leases import LEASE_SECONDS, lease_release, lease_take, leases_renew
from trading.ports import Clock, StoreUnavailable

logger = logging.getLogger("arb.lease")

FENCE_SHARE = 0.8
RENEW_SHARE = 0.25
RETRY_SECONDS = 0.5


class Lease:
    """The right to send orders for one owner, until :attr:`fenced_at_ns` by the monotonic clock."""

    def __init__(self, owner_id: int, token: int, fenced_at_ns: int, clock: Clock) -> None:
        self.owner_id = owner_id
        self.token = token
        self.fenced_at_ns = fenced_at_ns
        self.renew_at_ns = 0
        self.lost = ""  # why, once it is
        self._clock = clock

    def is_held(self) -> bool:
        """Whether orders may be sent now, for any thread. True is a promise of the clock: no database is asked."""
        return not self.lost and self._clock.monotonic_ns() < self.fenced_at_ns


class LeaseKeeper:
    """Take, renew and release leases under one holder name.

    Renewal runs on its own thread: a busy event loop neither loses a lease nor hides that it is lost.
    """

    def __init__(
        self,
        *,
        holder: str,
        clock: Clock,
        on_lost: Callable[[Lease], None],
        seconds: float = LEASE_SECONDS,
    ) -> None:
        """``on_lost`` is called on the keeper's thread, once a lease."""
        self.holder = holder
        self._clock = clock
        self._on_lost = on_lost
        self._seconds = seconds
        self._held: dict[int, Lease] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Renew no more; leases still held run out unless they are released."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, owner_id: int) -> Lease | None:
        """Take an owner's lease, or return None while somebody holds it. Blocks; call it on a database thread."""
        asked_ns = self._clock.monotonic_ns()
        token = lease_take(owner_id=owner_id, holder=self.holder, ttl_seconds=self._seconds)
        if token is None:
            return None
        lease = Lease(owner_id, token, 0, self._clock)
        self._prolong(lease, asked_ns)
        with self._lock:
            self._held[owner_id] = lease
        return lease

    def release(self, lease: Lease) -> None:
        """Give a lease back so that another host may take it at once. Blocks; call it on a database thread."""
        with self._lock:
            if self._held.get(lease.owner_id) is lease:
                del self._held[lease.owner_id]
        if not lease.lost:
            lease.lost = "released"
            lease_release(owner_id=lease.owner_id, holder=self.holder, token=lease.token)

    def _prolong(self, lease: Lease, asked_ns: int) -> None:
        lease.fenced_at_ns = asked_ns + int(self._seconds * FENCE_SHARE * 1e9)
        lease.renew_at_ns = asked_ns + int(self._seconds * RENEW_SHARE * 1e9)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(min(RETRY_SECONDS, self._seconds * RENEW_SHARE / 2)):
                now = self._clock.monotonic_ns()
                with self._lock:
                    due = [lease for lease in self._held.values() if now >= lease.renew_at_ns]
                if due:
                    self._renew(due)
        finally:
            connections.close_all()

    def _renew(self, leases: Sequence[Lease]) -> None:
        """Prolong leases that are due, all with one statement: a host has many owners, and a commit costs the disk."""
        asked_ns = self._clock.monotonic_ns()
        tokens = {lease.owner_id: lease.token for lease in leases}
        try:
            kept = reconnecting(lambda: leases_renew(holder=self.holder, tokens=tokens, ttl_seconds=self._seconds))
        except StoreUnavailable as problem:
            for lease in leases:
                if not lease.is_held():
                    self._lose(lease, f"it could not be renewed in time ({problem})")
            return
        for lease in leases:
            if lease.owner_id in kept:
                self._prolong(lease, asked_ns)
            else:
                self._lose(lease, "it has expired or was taken over")

    def _lose(self, lease: Lease, why: str) -> None:
        with self._lock:
            if self._held.get(lease.owner_id) is not lease:
                return  # released meanwhile
            del self._held[lease.owner_id]
        lease.lost = why
        logger.warning("owner %s: the lease with token %s is lost: %s", lease.owner_id, lease.token, why)
        self._on_lost(lease)
