"""How a call of the REST or WebSocket API is described, checked and carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exchangesim.binance.auth import Authenticator
from exchangesim.binance.errors import ApiError, asked_for
from exchangesim.binance.limits import BinanceLimits
from exchangesim.binance.parameters import Parameters
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call as received, before anything was checked."""

    address: str
    given: Mapping[str, str]
    api_key: str | None = None
    payload: str = ""
    """What the signature signs."""
    signature: str | None = None
    session: Account | None = None
    """The account a WebSocket session is logged on as: its calls need no key and no signature."""


Handler = Callable[[Account, Parameters], Any]
PublicHandler = Callable[[Parameters], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A call. ``permission`` None is public; ``rest`` or ``ws`` may be empty where an API does not have it."""

    rest: str = ""
    ws: str = ""
    permission: str | None = None
    weight: int | Callable[[Parameters], int] = 1
    public: PublicHandler | None = None
    private: Handler | None = None
    order: bool = False
    """Places an order: order counts are reported with the answer."""
    signed: bool = True
    """False: the key alone will do."""


class CallTable:
    """The calls of one exchange, and the way every call goes: limits, key, time, signature, parameters."""

    lenient = False
    """Parameters that no call reads are ignored instead of refused."""

    def __init__(self, exchange: SimExchange, limits: BinanceLimits) -> None:
        self.limits = limits
        self.authenticator = Authenticator(exchange)
        self.operations: list[Operation] = []
        self.by_ws: dict[str, Operation] = {}

    def offer(self, operations: list[Operation]) -> None:
        """Set the calls there are."""
        self.operations = operations
        self.by_ws = {operation.ws: operation for operation in operations if operation.ws}

    def asked_for(self, reason: str, seconds: float, now_ms: int) -> ApiError:
        """Return the refusal a fault asks for."""
        return asked_for(reason, seconds, now_ms)

    def carry_out(self, operation: Operation, request: Request) -> tuple[Any, Account | None]:
        """Check and do a call; returns its value and the account. Raises ApiError."""
        parameters = Parameters(request.given, lenient=self.lenient)
        weight = operation.weight if isinstance(operation.weight, int) else operation.weight(Parameters(request.given))
        self.limits.spend(request.address, weight)
        if operation.public is not None:
            value = operation.public(parameters)
            parameters.refuse_unread()
            return value, None
        assert operation.permission is not None
        assert operation.private is not None
        if operation.signed:
            account = self.authenticate(request, parameters, operation.permission)
        else:
            account = self.authenticator.account(request.api_key)
            self.authenticator.permit(account, operation.permission)
            parameters.ignore("apiKey")
        value = operation.private(account, parameters)
        if operation.permission == "read":  # calls that act do it themselves, before they act
            parameters.refuse_unread()
        return value, account

    def authenticate(self, request: Request, parameters: Parameters, permission: str) -> Account:
        """Return the account a signed (or logged-on) request is for. Raises ApiError."""
        if request.session is not None and request.api_key is None:
            account = request.session
        else:
            account = self.authenticator.account(request.api_key)
            parameters.need("signature")
            assert request.signature is not None
            self.authenticator.verify(account, request.payload, request.signature)
        self.authenticator.permit(account, permission)
        parameters.ignore("apiKey")
        self.authenticator.check_time(parameters)
        return account
