"""The WebSocket API: calls, session logon and user data streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from exchangesim.binance.auth import BAD_KEY, is_public_key
from exchangesim.binance.errors import ApiError
from exchangesim.binance.operations import CallTable, Request
from exchangesim.binance.parameters import Parameters
from exchangesim.core.accounts import Account
from exchangesim.core.transit import Answer, Call, StreamConnection, Transit
from exchangesim.face import SocketAction

PING_SECONDS = 20.0
CONNECT_WEIGHT = 2
SESSION_WEIGHT = 2
MAX_SUBSCRIPTIONS = 1000

encode = msgspec.json.encode
# Numbers keep their text: what is signed is what was written.
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=str).decode


class Session:
    """One WebSocket API connection: who is logged on, and which accounts' events it hears."""

    def __init__(self, connection: StreamConnection, *, rates: bool, connected_ms: int) -> None:
        self.connection, self.rates, self.connected_ms = connection, rates, connected_ms
        self.account: Account | None = None
        self.authorized_ms: int | None = None
        self.subscriptions: dict[int, str] = {}
        """API key by subscription id."""
        self.logon_subscription: int | None = None
        self.keys: set[str] = set()
        """API keys that have been used on it."""
        self.next_subscription = 0


class UserStreams:
    """Which sessions hear which account."""

    def __init__(self) -> None:
        self._by_key: dict[str, list[tuple[Session, int]]] = {}

    def subscribe(self, session: Session, api_key: str) -> int:
        """Return the new subscription's id. Raises -2035 when the session already hears the account."""
        if api_key in session.subscriptions.values():
            raise ApiError(-2035, "User Data Stream subscription already active.")
        if len(session.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise ApiError(-2042, "Maximum subscription ID reached for this connection.")
        number = session.next_subscription
        session.next_subscription += 1
        session.subscriptions[number] = api_key
        self._by_key.setdefault(api_key, []).append((session, number))
        return number

    def end(self, session: Session, number: int, now_ms: int | None = None) -> None:
        """End a subscription, telling the session of it when ``now_ms`` is given."""
        api_key = session.subscriptions.pop(number)
        self._by_key[api_key].remove((session, number))
        if now_ms is not None:
            self._send(session, number, api_key, encode({"e": "eventStreamTerminated", "E": now_ms}), "", "")

    def publish(self, api_key: str, event: Mapping[str, object], symbol: str = "") -> None:
        heard = self._by_key.get(api_key)
        if heard:
            raw, name = encode(event), str(event["e"])
            for session, number in heard:
                self._send(session, number, api_key, raw, name, symbol)

    def _send(self, session: Session, number: int, api_key: str, raw: bytes, name: str, symbol: str) -> None:
        payload = b'{"subscriptionId":%d,"event":%b}' % (number, raw)
        session.connection.send_event(payload, operation=name, symbol=symbol, api_key=api_key)


SessionCall = Callable[[Session, Request, Parameters], object]


class WebSocketApi:
    """Serves WebSocket API sockets."""

    path = "/ws-api/v3"

    def __init__(self, calls: CallTable, transit: Transit, users: UserStreams) -> None:
        self._calls, self._transit, self._users = calls, transit, users
        self._open: set[Session] = set()
        self.session_calls: dict[str, SessionCall] = {
            "session.logon": self._logon,
            "session.logout": self._logout,
            "session.status": lambda session, _request, _parameters: self._status(session),
            "session.subscriptions": lambda session, _request, _parameters: [
                {"subscriptionId": number} for number in session.subscriptions
            ],
            "userDataStream.subscribe": self._subscribe,
            "userDataStream.subscribe.signature": self._subscribe_signature,
            "userDataStream.unsubscribe": self._unsubscribe,
        }

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get(self.path, self._serve)

    async def close(self) -> None:
        for session in list(self._open):
            session.connection.abort()

    def disturb(self, action: SocketAction, api_key: str) -> int:
        """See ``Face.disturb``."""
        sessions = [session for session in self._open if api_key == "*" or api_key in session.keys]
        now = self._transit.clock.time_ms()
        for session in sessions:
            if action == "cut":
                session.connection.abort()
            elif action == "close":
                session.connection.start_closing(1001)
            elif action == "notice":
                session.connection.send_answer(encode({"event": {"e": "serverShutdown", "E": now}}))
            else:
                for number in list(session.subscriptions):
                    self._users.end(session, number, now)
        return len(sessions)

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        try:
            self._calls.limits.spend(http.remote or "", CONNECT_WEIGHT)
        except ApiError as error:
            return web.Response(
                body=encode(error.body()), status=error.status, headers={"Retry-After": str(error.retry_after)}
            )
        socket = web.WebSocketResponse(compress=False, max_msg_size=256 * 1024)
        await socket.prepare(http)
        connection = StreamConnection(self._transit, socket, http)
        session = Session(
            connection,
            rates=http.query.get("returnRateLimits", "true") != "false",
            connected_ms=self._transit.clock.time_ms(),
        )
        self._open.add(session)
        try:
            await connection.serve(lambda text: self._receive(session, text), ping_seconds=PING_SECONDS)
        finally:
            self._open.discard(session)
            for number in list(session.subscriptions):
                self._users.end(session, number)
        return socket

    def _receive(self, session: Session, text: str) -> None:
        try:
            message = _decode(text)
        except msgspec.MsgspecError:
            error = ApiError(-1135, "Invalid JSON Request")
            session.connection.send_answer(encode({"id": None, "status": 400, "error": error.body()}))
            return
        method, given = message.get("method"), message.get("params", {})
        identity = message.get("id")
        if not isinstance(method, str) or not isinstance(given, dict):
            error = missing_field("method" if not isinstance(method, str) else "params")
            session.connection.send_answer(encode({"id": identity, "status": 400, "error": error.body()}))
            return
        name = method.removeprefix("v3/")
        request = self._request(session, given)
        session.keys.add(_key(session, request))
        call = Call(
            operation=name,
            symbol=request.given.get("symbol", ""),
            api_key=_key(session, request),
            refuse=lambda reason, seconds: Answer(body=encode({"id": identity} | self._asked(reason, seconds))),
        )
        session.connection.start_call(call, lambda: Answer(body=self._answer(session, name, identity, request, given)))

    def _asked(self, reason: str, seconds: float) -> dict[str, object]:
        return _refusal(self._calls.asked_for(reason, seconds, self._transit.clock.time_ms()))

    def _request(self, session: Session, given: Mapping[str, Any]) -> Request:
        texts = {name: _text(value) for name, value in given.items() if value is not None}
        texts.pop("returnRateLimits", None)
        signed = {name: _text(value) for name, value in given.items() if name != "signature" and value is not None}
        return Request(
            address=session.connection.remote,
            given=texts,
            api_key=texts.get("apiKey"),
            payload="&".join(f"{name}={signed[name]}" for name in sorted(signed)),
            signature=texts.get("signature"),
            session=session.account,
        )

    def _answer(
        self, session: Session, method: str, identity: object, request: Request, given: Mapping[str, Any]
    ) -> bytes:
        answer: dict[str, object] = {"id": identity}
        account: Account | None = None
        order = False
        try:
            if method in self.session_calls:
                self._calls.limits.spend(request.address, SESSION_WEIGHT)
                answer |= {
                    "status": 200,
                    "result": self.session_calls[method](session, request, Parameters(request.given)),
                }
            else:
                operation = self._calls.by_ws.get(method)
                if operation is None:
                    raise ApiError(-1000, f"Unknown method '{method}'.")
                order = operation.order
                value, account = self._calls.carry_out(operation, request)
                answer |= {"status": 200, "result": value}
        except ApiError as error:
            answer |= _refusal(error)
        rates = given.get("returnRateLimits", session.rates)
        if rates is not False:
            key = account.api_key if account is not None and order else None
            answer["rateLimits"] = self._calls.limits.rows(request.address, key)
        return encode(answer)

    # Sessions

    def _logon(self, session: Session, request: Request, parameters: Parameters) -> dict[str, object]:
        parameters.need("apiKey")
        authenticator = self._calls.authenticator
        account = authenticator.account(request.api_key)
        if not is_public_key(account.secret):
            raise ApiError(-4056, "HMAC_SHA256 API key is not supported.")
        account = self._calls.authenticate(request, parameters, "read")
        self._end_logon(session)
        session.account, session.authorized_ms = account, self._transit.clock.time_ms()
        return self._status(session)

    def _logout(self, session: Session, _request: Request, _parameters: Parameters) -> dict[str, object]:
        self._end_logon(session)
        session.account = session.authorized_ms = None
        return self._status(session)

    def _end_logon(self, session: Session) -> None:
        if session.logon_subscription is not None:
            self._users.end(session, session.logon_subscription, self._transit.clock.time_ms())
            session.logon_subscription = None

    def _status(self, session: Session) -> dict[str, object]:
        return {
            "apiKey": session.account.api_key if session.account is not None else None,
            "authorizedSince": session.authorized_ms,
            "connectedSince": session.connected_ms,
            "returnRateLimits": session.rates,
            "serverTime": self._transit.clock.time_ms(),
            "userDataStream": bool(session.subscriptions),
        }

    def _subscribe(self, session: Session, _request: Request, _parameters: Parameters) -> dict[str, object]:
        if session.account is None:
            raise ApiError(*BAD_KEY, status=401)
        session.logon_subscription = self._users.subscribe(session, session.account.api_key)
        return {"subscriptionId": session.logon_subscription}

    def _subscribe_signature(self, session: Session, request: Request, parameters: Parameters) -> dict[str, object]:
        parameters.need("apiKey")
        account = self._calls.authenticate(request, parameters, "read")
        return {"subscriptionId": self._users.subscribe(session, account.api_key)}

    def _unsubscribe(self, session: Session, _request: Request, parameters: Parameters) -> dict[str, object]:
        wanted = parameters.integer("subscriptionId")
        numbers = list(session.subscriptions) if wanted is None else [wanted]
        for number in numbers:
            if number not in session.subscriptions:
                raise ApiError(-2036, "User Data Stream subscription not active.")
            self._users.end(session, number, self._transit.clock.time_ms())
            if number == session.logon_subscription:
                session.logon_subscription = None
        return {}


def _refusal(error: ApiError) -> dict[str, object]:
    body = error.body()
    if error.data is not None:
        body["data"] = error.data
    return {"status": error.status, "error": body}


def missing_field(name: str) -> ApiError:
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def _key(session: Session, request: Request) -> str:
    if request.api_key is not None:
        return request.api_key
    return session.account.api_key if session.account is not None else ""


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return encode(value).decode() if isinstance(value, list | dict) else str(value)
