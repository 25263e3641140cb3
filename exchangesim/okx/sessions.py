"""OKX WebSocket sessions: login, subscriptions, order operations and the text ping, on one of three URLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from exchangesim.core.accounts import Account
from exchangesim.core.limits import Window
from exchangesim.core.market import SimMarket
from exchangesim.core.text import read_json
from exchangesim.core.transit import Answer, Call, StreamConnection
from exchangesim.okx import auth
from exchangesim.okx.channels import BUSINESS, PUBLIC, Channel
from exchangesim.okx.desk import MAX_BATCH
from exchangesim.okx.errors import OkxError, asked_for

if TYPE_CHECKING:
    from exchangesim.okx.face import OkxFace

PRIVATE_CHANNELS = ("orders", "account", "fills")
BUSINESS_CHANNELS = ("orders-algo",)
SERIES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION", "ANY")
SUBSCRIPTIONS_PER_HOUR = 480
OPERATIONS = {
    "order": 1,
    "batch-orders": MAX_BATCH,
    "cancel-order": 1,
    "batch-cancel-orders": MAX_BATCH,
    "amend-order": 1,
}
"""Operations of the private URL, and how many arguments each takes."""

Arg = dict[str, Any]
_encode = msgspec.json.encode


class Session:
    """One client's socket. ``url`` is ``public``, ``private`` or ``business``."""

    def __init__(self, face: OkxFace, connection: StreamConnection, url: str, number: int) -> None:
        self.face, self.connection, self.url = face, connection, url
        self.id = f"{number:08x}"
        self.account: Account | None = None
        self.private: dict[tuple[str, ...], Arg] = {}
        """Private subscriptions, by what they filter."""
        self.last_traffic = face.exchange.clock.monotonic()
        """When something last went either way; silence is cut."""
        self._public: set[tuple[str, str]] = set()
        self._changes = Window(face.exchange.clock, limit=SUBSCRIPTIONS_PER_HOUR, seconds=3600, aligned=False)

    # Sending

    def send_market(self, payload: bytes, *, operation: str, symbol: str) -> None:
        self._note_traffic()
        self.connection.send_market(payload, operation=operation, symbol=symbol)

    def send_event(self, payload: bytes, *, operation: str, symbol: str = "") -> None:
        self._note_traffic()
        self.connection.send_event(
            payload, operation=operation, symbol=symbol, api_key=self.account.api_key if self.account else ""
        )

    def reply(self, message: dict[str, Any]) -> None:
        self._note_traffic()
        self.connection.send_answer(_encode(message))

    def refuse(self, error: OkxError) -> None:
        self.reply({"event": "error", "code": error.code, "msg": error.message, "connId": self.id})

    def _note_traffic(self) -> None:
        self.last_traffic = self.face.exchange.clock.monotonic()

    # Receiving

    def receive(self, text: str) -> None:
        """Handle one text message of the client."""
        self._note_traffic()
        if text == "ping":
            self.connection.send_answer(b"pong")
            return
        message = read_json(text)
        try:
            if not isinstance(message, dict) or not isinstance(message.get("args"), list) or not message["args"]:
                raise OkxError("60012", f"Invalid request: {text[:500]}")
            if not all(isinstance(arg, dict) for arg in message["args"]):
                raise OkxError("60012", f"Invalid request: {text[:500]}")
            self._operate(message, text)
        except OkxError as error:
            self.refuse(error)

    def end(self) -> None:
        """Leave all channels; the socket is gone."""
        for name, native in self._public:
            self.face.channels.leave(name, native, self)
        self._public.clear()
        self.private.clear()

    def _operate(self, message: dict[str, Any], text: str) -> None:
        operation, args = str(message.get("op")), message["args"]
        if operation == "login":
            self.account = auth.login(self.face.exchange.accounts, args[0], now_ms=self.face.exchange.clock.time_ms())
            self.reply({"event": "login", "code": "0", "msg": "", "connId": self.id})
        elif operation in ("subscribe", "unsubscribe"):
            if not self._changes.spend("").allowed and self.face.limits:
                raise OkxError("60014", "Requests too frequent")
            change = self._subscribe if operation == "subscribe" else self._unsubscribe
            for arg in args:
                try:
                    change(arg, message.get("id"))
                except OkxError as error:
                    self.refuse(error)
        elif operation in OPERATIONS and self.url == "private":
            self._order_operation(operation, message, args)
        else:
            raise OkxError("60012", f"Invalid request: {text[:500]}")

    # Subscriptions

    def _subscribe(self, arg: Arg, request_id: object) -> None:
        channel = str(arg.get("channel") or "")
        kind = self._kind(channel)
        if kind is not None:
            market = self._market(arg)
            self._acknowledge("subscribe", arg, request_id)
            self._public.add((channel, market.native))
            self.face.channels.join(kind, market, self)
            return
        key = self._private_key(arg)
        self.private[key] = {name: value for name, value in arg.items() if isinstance(value, str)}
        self._acknowledge("subscribe", arg, request_id)
        count = sum(key[0] in {k[0] for k in other.private} for other in self.face.sessions_of(self.owner))
        self.reply({"event": "channel-conn-count", "channel": channel, "connCount": str(count), "connId": self.id})
        if channel == "account":
            self.face.send_account(self, self.private[key])

    def _unsubscribe(self, arg: Arg, request_id: object) -> None:
        channel = str(arg.get("channel") or "")
        if self._kind(channel) is not None:
            market = self._market(arg)
            self.face.channels.leave(channel, market.native, self)
            self._public.discard((channel, market.native))
        else:
            self.private.pop(self._private_key(arg), None)
        self._acknowledge("unsubscribe", arg, request_id)

    def _acknowledge(self, event: str, arg: Arg, request_id: object) -> None:
        message: dict[str, Any] = {"event": event, "arg": arg, "connId": self.id}
        self.reply(message if request_id is None else {"id": str(request_id), **message})

    def _kind(self, channel: str) -> type[Channel] | None:
        return {"public": PUBLIC, "business": BUSINESS}.get(self.url, {}).get(channel)

    def _market(self, arg: Arg) -> SimMarket:
        market = self.face.exchange.markets.get(str(arg.get("instId") or ""))
        if market is None:
            raise self._unknown(arg)
        return market

    def _private_key(self, arg: Arg) -> tuple[str, ...]:
        """Return what a private subscription filters by. Raises OkxError for channels that are not of this URL."""
        channel = str(arg.get("channel") or "")
        if channel not in {"private": PRIVATE_CHANNELS, "business": BUSINESS_CHANNELS}.get(self.url, ()):
            raise self._unknown(arg)
        if self.account is None:
            raise OkxError("60011", "Please log in")
        if channel in ("orders", "orders-algo") and arg.get("instType") not in SERIES:
            raise self._unknown(arg)
        native = str(arg.get("instId") or "")
        if native and native not in self.face.exchange.markets:
            raise self._unknown(arg)
        return channel, str(arg.get("instType") or ""), native, str(arg.get("ccy") or "")

    def _unknown(self, arg: Arg) -> OkxError:
        given = ",".join(f"{name}:{value}" for name, value in arg.items())
        return OkxError(
            "60018",
            f"Wrong URL or {given[:300]} doesn't exist. Please use the correct URL, channel and parameters referring "
            "to API document.",
        )

    # Orders

    @property
    def owner(self) -> Account:
        assert self.account is not None
        return self.account

    def _order_operation(self, operation: str, message: Mapping[str, Any], args: list[Arg]) -> None:
        if self.account is None:
            raise OkxError("60011", "Please log in")
        if self.account.revoked:
            return  # the connection is being closed
        if len(args) > OPERATIONS[operation]:
            raise OkxError("60013", "Invalid args")
        request_id = str(message.get("id") or "")
        deadline = message.get("expTime")
        call = Call(
            operation=operation,
            symbol=str(args[0].get("instId") or self._native_of(args[0])),
            api_key=self.account.api_key,
            refuse=lambda reason, _seconds: Answer(
                body=_encode(
                    {
                        "id": request_id,
                        "op": operation,
                        "code": (error := asked_for(reason)).code,
                        "msg": error.message,
                        "data": [],
                    }
                )
            ),
        )

        def handle() -> Answer:
            now_us = self.face.exchange.clock.time_us()
            answer: dict[str, Any] = {"id": request_id, "op": operation}
            if deadline is not None and str(deadline).isdigit() and int(str(deadline)) * 1000 < now_us:
                answer |= {
                    "code": "50036",
                    "msg": "The expTime can't be earlier than the current system time. Please adjust it.",
                    "data": [],
                }
            else:
                rows = self._carry_out(operation, args)
                failed = sum(row["sCode"] != "0" for row in rows)
                code = "0" if not failed else "1" if failed == len(rows) else "2"
                answer |= {"code": code, "msg": "", "data": rows}
            times = {"inTime": str(now_us), "outTime": str(self.face.exchange.clock.time_us())}
            self._note_traffic()
            return Answer(body=_encode(answer | times))

        self.connection.start_call(call, handle)

    def _carry_out(self, operation: str, args: list[Arg]) -> list[dict[str, Any]]:
        desk, batch = self.face.desk, operation.startswith("batch")
        if operation in ("order", "batch-orders"):
            return desk.place(self.owner, args, batch=batch)
        if operation in ("cancel-order", "batch-cancel-orders"):
            return desk.cancel(self.owner, args, batch=batch)
        return desk.amend(self.owner, args)

    def _native_of(self, arg: Arg) -> str:
        try:
            return self.face.desk.market(arg).native
        except OkxError:
            return ""
