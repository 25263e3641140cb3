"""ccxt.pro clients as this platform uses them, and the only place that makes them.

* The throttle is off (it delays a second order by up to 250 ms); a budget of ours stands in front.
* Nothing is ever re-sent: ``maxRetriesOnFailure`` re-posts orders, so it is asserted to be 0.
* The timeout is above the exchange's backend timeout (each dialect's figure), else its answer loses the race.
* Numbers are strings, so no price or quantity passes through a float.
* Raw answers are kept per call: what an answer proves is decided by our tables, not by exception classes.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import ccxt.pro

from trading.config import Credentials, ExchangeSpec
from trading.exchanges.binance.urls import PATHS as BINANCE_PATHS
from trading.ports import Clock

MIN_TIMEOUT_MS = 15_000
KEEP_ALIVE_MS = 5_000  # a dead peer is noticed after two to three of these; ccxt's own default reaches minutes
CLOCK_SAMPLES = 3
# ccxt id -> package that knows what the exchange makes of orders.
FOLDERS: Mapping[str, str] = MappingProxyType(
    {name: name for name in ("binance", "okx", "bybit", "kraken", "coinbase", "kucoin", "gate")}
    | {"binanceusdm": "binance_usdm"}
)


class HttpAnswer:
    """What came back for one call, whatever the library made of it.

    ``sent`` says whether the request was handed to the socket; ``status`` is 0 while nothing came back. Without a
    ``method`` every request of the call counts, the last one decides. With ``naming`` no request that could be an order
    leaves unless it has that text in it. ``path`` is how an order or a cancellation left: ``websocket`` or ``rest``.
    """

    __slots__ = ("body", "headers", "method", "naming", "path", "sent", "status")

    def __init__(self, method: str = "", *, naming: str = "") -> None:
        self.method = method
        self.naming = naming
        self.path = ""
        self.sent = False
        self.status = 0
        self.body = ""
        self.headers: Mapping[str, str] = {}

    def takes(self, method: str) -> bool:
        """Return whether a request of this method is the one looked at."""
        return self.method in {"", method}


class NamelessOrder(Exception):
    """An order that would leave without our client order id: if its answer were lost, nobody could find it again."""


# The call this task is making. A context variable, because several calls of one client run at the same time.
CURRENT_ANSWER: ContextVar[HttpAnswer | None] = ContextVar("current_answer", default=None)


class _Tapped:
    """Mixed into a ccxt.pro class: notes each call's raw answer, and shows stream messages before ccxt handles them."""

    on_stream: Callable[[object], bool] | None = None

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        answer = CURRENT_ANSWER.get()
        if answer is not None and answer.naming and method != "GET" and not _names(answer.naming, url, headers, body):
            raise NamelessOrder("ccxt leaves our client order id out of this exchange's orders: none is sent")
        if answer is not None and answer.takes(method):
            answer.sent = True
            answer.status, answer.body, answer.headers = 0, "", {}
        self.open()  # type: ignore[attr-defined]
        # aiohttp repeats GET and PUT when the peer has closed an idle connection; some exchanges' orders are such.
        self.session._retry_connection = False  # type: ignore[attr-defined]
        return await super().fetch(url, method, headers, body)  # type: ignore[misc]

    def on_rest_response(
        self, code: int, reason: str, url: str, method: str, headers: Any, body: str, *rest: Any
    ) -> str:
        answer = CURRENT_ANSWER.get()
        if answer is not None and answer.takes(method):
            answer.status, answer.body, answer.headers = code, body, dict(headers)
        return str(super().on_rest_response(code, reason, url, method, headers, body, *rest))  # type: ignore[misc]

    def handle_message(self, client: Any, message: Any) -> None:
        tap = self.on_stream
        if tap is None or not tap(message):
            super().handle_message(client, message)  # type: ignore[misc]


def _names(text: str, url: str, headers: Any, body: Any) -> bool:
    """Return whether a request has a text in it, also where an exchange wants its parameters in base64."""
    parts = [url, body if isinstance(body, str) else "", *map(str, (headers or {}).values())]
    if any(text in part for part in parts):
        return True
    for part in parts:
        with contextlib.suppress(ValueError):
            if text.encode() in base64.b64decode(part, validate=True):
                return True
    return False


_CLASSES: dict[str, type[Any]] = {}


def _class_of(ccxt_id: str) -> type[Any]:
    known = _CLASSES.get(ccxt_id)
    if known is None:
        base = getattr(ccxt.pro, ccxt_id, None)
        if base is None or ccxt_id not in ccxt.pro.exchanges:
            raise ValueError(f"ccxt_id: ccxt.pro has no exchange {ccxt_id!r}; see ccxt.pro.exchanges for its names")
        known = _CLASSES[ccxt_id] = type(f"Tapped_{ccxt_id}", (_Tapped, base), {})
    return known


def folder_of(ccxt_id: str) -> str:
    """Return the package that knows what an exchange makes of orders: its own folder, or the generic one."""
    return FOLDERS.get(ccxt_id, "generic")


def make_client(
    spec: ExchangeSpec,
    credentials: Credentials | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    timeout_ms: int = MIN_TIMEOUT_MS,
) -> Any:
    """Return a ccxt.pro client for an exchange; the caller closes it with ``await client.close()``.

    Raises
    ------
    ValueError
        If ccxt doesn't know the exchange, it has no testnet, or a URL override is not of the form it must have.
    """
    if timeout_ms < MIN_TIMEOUT_MS:
        raise ValueError(f"timeout_ms: must be at least {MIN_TIMEOUT_MS} (given {timeout_ms})")
    settings: dict[str, Any] = {
        "enableRateLimit": False,
        "timeout": timeout_ms,
        "number": str,
        "newUpdates": True,
        "options": {"adjustForTimeDifference": False, "maxRetriesOnFailure": 0, **(options or {})},
    }
    if credentials is not None:
        settings["apiKey"] = credentials.api_key
        settings["secret"] = credentials.secret
        settings["password"] = credentials.passphrase
    client = _class_of(spec.ccxt_id)(settings)
    if spec.environment == "testnet":
        if not client.urls.get("test"):
            raise ValueError(f"exchange {spec.code}: {spec.ccxt_id} has no testnet")
        client.set_sandbox_mode(True)
    if spec.urls:
        override_urls(client, spec)
    client.has["fetchCurrencies"] = False  # a private call on most exchanges, and nothing here needs it
    client.streaming["keepAlive"] = KEEP_ALIVE_MS
    if unsafe := unsafe_to_order(client, timeout_ms):
        raise AssertionError(unsafe)
    return client


def unsafe_to_order(client: Any, timeout_ms: int) -> str:
    """Return why no order may be sent through a client: it would send it again by itself, or not wait for the answer.

    ccxt repeats any request that ends in an OperationFailed, timeouts among them, as often as an option says: the
    client's own or that of one endpoint, under either of two names.
    """
    scopes = [client.options, *(value for value in client.options.values() if isinstance(value, Mapping))]
    names = ("maxRetriesOnFailure", "defaultMaxRetriesOnFailure")
    if any(scope.get(name) for scope in scopes for name in names) or getattr(client, "maxRetriesOnFailure", None):
        return "the client would send orders again by itself: maxRetriesOnFailure must be 0 everywhere in its options"
    if client.timeout < timeout_ms:
        return f"the client's timeout of {client.timeout} ms is below the {timeout_ms} ms the exchange may take"
    return ""


def override_urls(client: Any, spec: ExchangeSpec) -> None:
    """Point every address of the client at ``spec.urls``, keeping the paths but Binance's exceptions."""
    rest = _base(spec, "rest", {"http", "https"})
    ws = _base(spec, "ws", {"ws", "wss"})
    exceptions: Mapping[str, str] = BINANCE_PATHS if folder_of(spec.ccxt_id) == "binance" else {}
    hostname = getattr(client, "hostname", None) or ""

    def rewrite(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rewrite(f"{name}.{key}" if name else key, inner) for key, inner in value.items()}
        if not isinstance(value, str):
            return value
        parts = urlsplit(value.replace("{hostname}", hostname))
        base = ws if parts.scheme in {"ws", "wss"} else rest
        if base is None:
            return value
        path = exceptions.get(name, parts.path)
        return urlunsplit((base[0], base[1], path, parts.query, ""))

    client.urls["api"] = rewrite("", client.urls["api"])


def _base(spec: ExchangeSpec, name: str, schemes: set[str]) -> tuple[str, str] | None:
    text = spec.urls.get(name, "")
    if not text:
        return None
    parts = urlsplit(text)
    # A path is ignored: each address keeps the exchange's own.
    if parts.scheme not in schemes or not parts.netloc or parts.query or "@" in parts.netloc:
        example = "http://127.0.0.1:9001" if "http" in schemes else "ws://127.0.0.1:9001"
        raise ValueError(f"exchange {spec.code}: urls.{name} must look like {example} (given {text[:60]!r})")
    return parts.scheme, parts.netloc


def never_left(error: BaseException) -> bool:
    """Return whether an error proves that not one byte of the request was sent: no connection was made."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return True
        cause = cause.__cause__
    return False


async def measure_offset(client: Any, clock: Clock) -> int:
    """Return exchange time minus ours in milliseconds, from the quickest of some round trips, and sign with it.

    Of an exchange that doesn't tell its time, it is taken for ours.
    """
    if not client.has.get("fetchTime"):
        return 0
    best: tuple[int, int] | None = None
    for _ in range(CLOCK_SAMPLES):
        began, before = clock.monotonic_ns(), clock.time_ns()
        exchange_ms = int(await client.fetch_time())
        taken = clock.monotonic_ns() - began
        offset = exchange_ms - (before + taken // 2) // 1_000_000
        if best is None or taken < best[0]:
            best = (taken, offset)
    assert best is not None
    client.options["timeDifference"] = -best[1]  # ccxt: local time minus the exchange's
    return best[1]
