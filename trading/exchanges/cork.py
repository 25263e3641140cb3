"""Several writes to one socket, sent as one: the kernel holds what is written between two calls (TCP_CORK, Linux).

Two small frames written one after the other leave as two packets, and the first wakes its reader, who may well run
before we write the second. Elsewhere than on Linux the writes just follow one another.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

_OPTION: int | None = getattr(socket, "TCP_CORK", None)


class Cork:
    """A second handle to a transport's socket: event loops give no access to the options of the first."""

    def __init__(self, transport: Any) -> None:
        self._socket: socket.socket | None = None
        found = transport.get_extra_info("socket")
        if _OPTION is not None and found is not None:
            with contextlib.suppress(OSError):
                self._socket = socket.socket(fileno=os.dup(found.fileno()))

    def hold(self) -> None:
        self._set(1)

    def release(self) -> None:
        self._set(0)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _set(self, value: int) -> None:
        if self._socket is not None and _OPTION is not None:
            with contextlib.suppress(OSError):  # the connection is lost: that is told elsewhere
                self._socket.setsockopt(socket.IPPROTO_TCP, _OPTION, value)
