"""Paths that differ from the real ones when an exchange is reached at overridden addresses."""

from __future__ import annotations

from collections.abc import Mapping

# ccxt takes a Binance socket for spot only if "/stream" is in its address: the real host name has it, a local address
# gets it from the path.
PATHS: Mapping[str, str] = {"ws.spot": "/stream/ws", "ws.margin": "/stream/ws"}
