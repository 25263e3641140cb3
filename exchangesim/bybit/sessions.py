"""Bybit WebSocket sessions: public topics, private topics and order operations, one class per URL."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from exchangesim.bybit import auth
from exchangesim.bybit.errors import BybitError, asked_for
from exchangesim.bybit.rest import TooFrequent
from exchangesim.bybit.topics import UnknownTopic
from exchangesim.core.accounts import Account
from exchangesim.core.text import read_json
from exchangesim.core.transit import Answer, Call, StreamConnection

if TYPE_CHECKING:
    from exchangesim.bybit.face import BybitFace

MAX_SPOT_ARGS = 10
CATEGORISED = ("order", "execution", "execution.fast")
PRIVATE_TOPICS = frozenset(
    {*CATEGORISED, "wallet", "position", "greeks", "dcp"}
    | {f"{topic}.{category}" for topic in CATEGORISED for category in ("spot", "linear", "inverse", "option")}
)
OPERATIONS = {"order.create": "order/create", "order.amend": "order/amend", "order.cancel": "order/cancel"}
"""Operations of the trade URL, and the REST endpoints whose limits they share."""
REMEMBERED_REQUESTS = 10_000

_encode = msgspec.json.encode


class Session:
    """One client's socket."""

    def __init__(self, face: BybitFace, connection: StreamConnection, number: int, idle_seconds: float) -> None:
        self.face, self.connection, self.idle_seconds = face, connection, idle_seconds
        self.id = f"sim{number:017x}-{number % 1000:x}"
        self.account: Account | None = None
        self.topics: set[str] = set()
        self.last_traffic = face.exchange.clock.monotonic()

    def send_market(self, payload: bytes, *, operation: str, symbol: str) -> None:
        self.note_traffic()
        self.connection.send_market(payload, operation=operation, symbol=symbol)

    def reply(self, message: dict[str, Any]) -> None:
        self.note_traffic()
        self.connection.send_answer(_encode(message))

    def note_traffic(self) -> None:
        self.last_traffic = self.face.exchange.clock.monotonic()

    def receive(self, text: str) -> None:
        """Handle one text message of the client."""
        self.note_traffic()
        message = read_json(text)
        if isinstance(message, dict):
            self.operate(message)
        else:
            self.reply({"success": False, "ret_msg": "error:invalid JSON", "conn_id": self.id, "op": ""})

    def operate(self, message: dict[str, Any]) -> None:
        raise NotImplementedError

    def login(self, args: object) -> None:
        """Take the account the signed arguments belong to. Raises BybitError where they are wrong."""
        self.account = auth.login(
            self.face.exchange.accounts,
            args if isinstance(args, list) else [],
            now_ms=self.face.exchange.clock.time_ms(),
        )

    def end(self) -> None:
        """Leave all topics; the socket is gone."""
        self.topics.clear()

    def acknowledge(self, message: dict[str, Any], *, success: bool, text: str) -> None:
        answer: dict[str, Any] = {"success": success, "ret_msg": text, "conn_id": self.id}
        if message.get("req_id") is not None:
            answer["req_id"] = str(message["req_id"])
        self.reply({**answer, "op": str(message.get("op"))})

    def subscription_change(self, message: dict[str, Any]) -> list[str] | None:
        """Return the topics to subscribe to or to leave; None, after an answer, when the request is malformed."""
        args = message.get("args")
        if not isinstance(args, list) or not args or not all(isinstance(arg, str) for arg in args):
            self.acknowledge(message, success=False, text="error:args must be a list of topics")
            return None
        return args


class PublicSession(Session):
    """``/v5/public/spot``."""

    def operate(self, message: dict[str, Any]) -> None:
        operation = message.get("op")
        if operation == "ping":
            self.acknowledge(message, success=True, text="pong")
        elif operation == "subscribe":
            self._subscribe(message)
        elif operation == "unsubscribe":
            names = self.subscription_change(message)
            if names is not None:
                for name in names:
                    self.face.topics.leave(name, self)
                    self.topics.discard(name)
                self.acknowledge(message, success=True, text="")
        else:
            self.acknowledge(message, success=False, text="error:invalid op")

    def end(self) -> None:
        for name in self.topics:
            self.face.topics.leave(name, self)
        super().end()

    def _subscribe(self, message: dict[str, Any]) -> None:
        names = self.subscription_change(message)
        if names is None:
            return
        if len(names) > MAX_SPOT_ARGS:
            self.acknowledge(message, success=False, text=f"args size >{MAX_SPOT_ARGS}")
            return
        for name in names:
            if name in self.topics:
                self.acknowledge(message, success=False, text=f"error:already subscribed,topic:{name}")
                return
            try:
                self.face.topics.check(name)
            except UnknownTopic as unknown:
                self.acknowledge(message, success=False, text=unknown.reason)
                return
        self.acknowledge(message, success=True, text="subscribe")
        for name in dict.fromkeys(names):
            self.topics.add(name)
            self.face.topics.join(name, self)


class PrivateSession(Session):
    """``/v5/private``."""

    def send_event(self, payload: bytes, *, operation: str, symbol: str = "") -> None:
        self.note_traffic()
        self.connection.send_event(
            payload, operation=operation, symbol=symbol, api_key=self.account.api_key if self.account else ""
        )

    def operate(self, message: dict[str, Any]) -> None:
        operation = message.get("op")
        if operation == "ping":
            pong: dict[str, Any] = {"op": "pong", "args": [str(self.face.exchange.clock.time_ms())]}
            if message.get("req_id") is not None:
                pong = {"req_id": str(message["req_id"]), **pong}
            self.reply({**pong, "conn_id": self.id})
        elif operation == "auth":
            self._authenticate(message)
        elif operation in ("subscribe", "unsubscribe"):
            self._change(message)
        else:
            self.acknowledge(message, success=False, text="error:invalid op")

    def _authenticate(self, message: dict[str, Any]) -> None:
        try:
            self.login(message.get("args"))
        except BybitError as error:
            self.acknowledge(message, success=False, text=error.message)
            return
        self.acknowledge(message, success=True, text="")

    def _change(self, message: dict[str, Any]) -> None:
        names = self.subscription_change(message)
        if names is None:
            return
        if self.account is None:
            self.acknowledge(message, success=False, text="Request not authorized")
            return
        unknown = [name for name in names if name not in PRIVATE_TOPICS]
        if unknown:
            self.acknowledge(message, success=False, text=f"error:handler not found,topic:{unknown[0]}")
            return
        if message["op"] == "unsubscribe":
            self.topics.difference_update(names)
        else:
            for whole in CATEGORISED:
                if whole in names and any(name.startswith(f"{whole}.") and name not in CATEGORISED for name in names):
                    self.acknowledge(message, success=False, text=f"error:{whole} and its categories in one request")
                    return
            self.topics.update(names)
        self.acknowledge(message, success=True, text="")


class TradeSession(Session):
    """``/v5/trade``."""

    def __init__(self, face: BybitFace, connection: StreamConnection, number: int, idle_seconds: float) -> None:
        super().__init__(face, connection, number, idle_seconds)
        self._requests: OrderedDict[str, None] = OrderedDict()

    def operate(self, message: dict[str, Any]) -> None:
        operation = str(message.get("op") or "")
        if operation == "ping":
            self._answer(message, 0, "OK", {"op": "pong", "data": [str(self.face.exchange.clock.time_ms())]})
        elif operation == "auth":
            self._authenticate(message)
        elif self.account is None:
            self._answer(message, 10005, "Permission denied, please authenticate first.")
        elif operation in OPERATIONS:
            self._order_operation(operation, message)
        else:
            self._answer(message, 10404, "op type is not found")

    def _authenticate(self, message: dict[str, Any]) -> None:
        if self.account is not None:
            self._answer(message, 20001, "Repeat auth")
            return
        try:
            self.login(message.get("args"))
        except BybitError as error:
            self._answer(message, error.code, error.message)
            return
        self._answer(message, 0, "OK")

    def _order_operation(self, operation: str, message: dict[str, Any]) -> None:
        args = message.get("args")
        if not isinstance(args, list) or len(args) != 1 or not isinstance(args[0], dict):
            self._answer(message, 10001, "Request parameter error: args must hold one order.")
            return
        if not self._is_new(message.get("reqId")):
            self._answer(message, 20006, "reqId is duplicated")
            return
        account, arguments = self.account, args[0]
        assert account is not None
        if account.revoked:
            return  # the connection is being closed

        def refuse(reason: str, _seconds: float) -> Answer:
            error = asked_for(reason)
            request = {} if message.get("reqId") is None else {"reqId": str(message["reqId"])}
            told = {"retCode": error.code, "retMsg": error.message, "op": operation, "data": {}, "connId": self.id}
            return Answer(body=_encode({**request, **told}))

        call = Call(
            operation=operation, symbol=str(arguments.get("symbol") or ""), api_key=account.api_key, refuse=refuse
        )

        def handle() -> Answer:
            self.note_traffic()
            return Answer(body=_encode(self._carry_out(operation, message, account, arguments)))

        self.connection.start_call(call, handle)

    def _carry_out(
        self, operation: str, message: dict[str, Any], account: Account, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        now = self.face.exchange.clock.time_ms()
        header: dict[str, str] = {}
        code, text, data = 0, "OK", {}
        try:
            given = message.get("header")
            given = given if isinstance(given, dict) else {}
            auth.check_window(
                str(given.get("X-BAPI-TIMESTAMP") or ""), str(given.get("X-BAPI-RECV-WINDOW") or ""), now_ms=now
            )
            header |= self.face.rest.allow(OPERATIONS[operation], account).headers()
            desk = self.face.desk
            operate = {"order.create": desk.create, "order.amend": desk.amend, "order.cancel": desk.cancel}[operation]
            data = operate(account, arguments)
        except BybitError as error:
            if isinstance(error, TooFrequent):
                header |= error.allowance.headers()
            code, text = error.code, error.message
        answer = {} if message.get("reqId") is None else {"reqId": str(message["reqId"])}
        return {
            **answer,
            "retCode": code,
            "retMsg": text,
            "op": operation,
            "data": data,
            "retExtInfo": {},
            "header": header | {"Traceid": f"{now:032x}", "Timenow": str(now)},
            "connId": self.id,
        }

    def _is_new(self, request_id: object) -> bool:
        if request_id is None:
            return True
        if str(request_id) in self._requests:
            return False
        self._requests[str(request_id)] = None
        if len(self._requests) > REMEMBERED_REQUESTS:
            self._requests.popitem(last=False)
        return True

    def _answer(self, message: dict[str, Any], code: int, text: str, more: dict[str, Any] | None = None) -> None:
        answer: dict[str, Any] = {} if message.get("reqId") is None else {"reqId": str(message["reqId"])}
        answer |= {"retCode": code, "retMsg": text, "op": str(message.get("op") or ""), **(more or {})}
        self.reply({**answer, "connId": self.id})
