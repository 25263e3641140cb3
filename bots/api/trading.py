"""Trades made by hand: asked for, estimated, closed, followed."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

import msgspec
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from ninja import Path, Router, Schema
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from bots import live_cache
from bots.api.answers import MAX_ID, IdempotencyKey, Owner, json_answer, once
from bots.api.auth import owner_of, user_of
from bots.api.openapi import answers
from bots.api.problems import FieldError, Refused
from bots.live_dashboard import SILENT_SECONDS
from bots.live_desk_schema import DeskMode, Progress
from bots.models import BY_HAND, Command
from bots.selectors.dashboard import request_progress, ticket_of_request
from bots.services import tickets
from bots.services.answers import command_key
from trading.instruments import positive

router = Router(tags=["manual trades"])
websocket_router = Router(tags=["manual trades"])

MAX_TIMEOUT_SECONDS = 600
# An engine tells how its accounts' orders leave once a second.
HEALTH_WAIT_SECONDS = 2.5


def _written(value: Any) -> Any:
    """Refuse a JSON number: it may have been rounded on its way."""
    if isinstance(value, float | int):
        raise ValueError('write it as a string, such as "0.01"')
    return value


def _amount(text: str) -> str:
    try:
        return f"{positive(text, field='it'):f}"
    except ValueError as problem:
        raise ValueError(str(problem).removeprefix("it: ")) from None


Amount = Annotated[str, BeforeValidator(_written), Field(max_length=64, examples=["0.01"]), AfterValidator(_amount)]
Symbol = Annotated[str, Field(min_length=1, max_length=64, examples=["BTC/USDT"])]
Id = Annotated[int, Field(ge=1, le=MAX_ID, strict=True)]
OrderStyle = Literal["adaptive", "market"]


class ManualTrade(Schema):
    """A trade to be made. Protection is given as prices, or in percent from the price the entry is expected to pay when
    it is asked for (that of the estimate); not both. What it then pays moves no level."""

    model_config = ConfigDict(extra="forbid")

    mode: DeskMode
    account_id: Id
    symbol: Symbol
    side: Literal["buy", "sell", "long", "short"]
    amount: Annotated[Amount, Field(description="In the market's own unit: base on spot, contracts on derivatives.")]
    order: Annotated[OrderStyle, Field(description="`market` is an IOC with a price cap.")] = "adaptive"
    limit_price: Annotated[Amount | None, Field(description="The worst price the entry may pay.")] = None
    leverage: Annotated[
        int | None, Field(ge=1, le=1000, strict=True, description="Of a contract: at most what its tiers allow.")
    ] = None
    take_profit_percent: Amount | None = None
    take_profit: Amount | None = None
    stop_loss_percent: Amount | None = None
    stop_loss: Amount | None = None
    timeout_seconds: Annotated[
        int | None, Field(ge=1, le=MAX_TIMEOUT_SECONDS, strict=True, description="Of an adaptive order.")
    ] = None


class ManualClose(Schema):
    """A position to be closed, or some of it."""

    model_config = ConfigDict(extra="forbid")

    trade_id: Annotated[str, Field(min_length=1, max_length=64)]
    order: OrderStyle = "adaptive"
    amount: Annotated[Amount | None, Field(description="Without it: all of it.")] = None


class Accepted(msgspec.Struct):
    """A command that waits for the engine; ask for it by its id, or follow the stream's `progress`."""

    command_id: int
    status: str
    idempotency_key: str
    estimate: dict[str, Any] | None


class Followed(msgspec.Struct):
    """How far a request by hand has come; ``status`` is its command's: pending, done or failed."""

    command_id: int
    kind: str
    status: str
    result: str
    trade_id: str
    progress: Progress


class Estimate(msgspec.Struct):
    """What a trade would cost now; ``refusals`` says what would keep it from being made.

    ``margin`` is what a contract's position binds (its value, by the leverage), null for any other trade.
    ``liquidation_price`` is about where a contract's position would be liquidated by the exchange's margin tiers; null
    where nothing can be liquidated, or too little is known: then ``liquidation_note`` says which.
    """

    price: str | None
    notional: str | None
    fee: str | None
    margin: str | None
    slippage_bps: float | None
    liquidation_price: str | None
    liquidation_note: str
    path: str
    environment: str
    refusals: list[str]


@router.post("", **answers(Accepted, status=202, changes=True))
def manual_trade_post(
    request: HttpRequest, data: ManualTrade, key: IdempotencyKey, owner: Owner = None
) -> HttpResponse:
    """Ask for a trade; it leaves by WebSocket where the account's connection stands, else by REST."""
    return _asked(request, owner_of(request, owner), key, {**_given(data), "path": "auto"})


@websocket_router.post("/manual-trade-ws", **answers(Accepted, status=202, changes=True))
def manual_trade_ws_post(
    request: HttpRequest, data: ManualTrade, key: IdempotencyKey, owner: Owner = None
) -> HttpResponse:
    """Ask for a trade that leaves by WebSocket or not at all. 409 while the account's connection does not stand."""
    of = owner_of(request, owner)
    return _asked(
        request, of, key, {**_given(data), "path": "websocket"}, check=lambda: _socket_check(of, data.account_id)
    )


@router.post("/close", **answers(Accepted, status=202, changes=True))
def manual_close_post(
    request: HttpRequest, data: ManualClose, key: IdempotencyKey, owner: Owner = None
) -> HttpResponse:
    """Ask for a position to be closed."""
    of, given = owner_of(request, owner), _given(data)

    def perform() -> tuple[int, dict[str, Any]]:
        command = tickets.manual_close_request(
            owner=of, actor=user_of(request), data=given, idempotency_key=command_key(of.pk, key)
        )
        return 202, _accepted(command, key, None)

    return once(request, owner=of, key=key, content=given, perform=perform)


@router.post("/estimate", **answers(Estimate, changes=True))
def manual_estimate_post(
    request: HttpRequest, data: ManualTrade, key: IdempotencyKey, owner: Owner = None
) -> HttpResponse:
    """Estimate a trade at the newest quotes. Nothing is done, so the answer is a new one each time."""
    return json_answer(tickets.manual_estimate(owner=owner_of(request, owner), data={**_given(data), "path": "auto"}))


@router.get("/{command_id}", **answers(Followed))
def manual_trade_get(
    request: HttpRequest, command_id: Annotated[int, Path(ge=1, le=MAX_ID)], owner: Owner = None
) -> HttpResponse:
    """Return how far a request has come."""
    commands = Command.objects.filter(owner=owner_of(request, owner), kind__in=BY_HAND)
    command = commands.select_related("ticket__trade").filter(pk=command_id).first()
    if command is None:
        raise Http404(f"There is no trade by hand {command_id} of yours.")
    progress = msgspec.convert(request_progress(command, ticket_of_request(command)), Progress)
    return json_answer(Followed(command.pk, command.kind, command.status, command.result, progress.trade_id, progress))


def _asked(request: HttpRequest, owner: User, key: str, given: dict[str, Any], check: Any = None) -> HttpResponse:
    async_to_sync(hear_quotes)(owner.pk)

    def perform() -> tuple[int, dict[str, Any]]:
        if check is not None:
            check()
        command = tickets.manual_trade_request(
            owner=owner, actor=user_of(request), data=given, idempotency_key=command_key(owner.pk, key)
        )
        return 202, _accepted(command, key, tickets.estimate_of(command))

    return once(request, owner=owner, key=key, content=given, perform=perform)


def _accepted(command: Command, key: str, estimate: dict[str, Any] | None) -> dict[str, Any]:
    return msgspec.to_builtins(Accepted(command.pk, command.status, key, estimate), str_keys=True, builtin_types=())


def _given(data: Schema) -> dict[str, Any]:
    return data.model_dump(exclude_none=True)


def _socket_check(owner: User, account_id: int) -> None:
    """Refuse unless the owner's engine said a moment ago that the account's orders leave by WebSocket."""
    path, why = async_to_sync(_order_path)(owner.pk, account_id)
    if path != "websocket":
        message = f"Its orders do not leave by WebSocket now ({why}); use /api/manual-trade for any way."
        raise Refused(
            409, f"account_id: {message}",
            errors=[FieldError("account_id", message, limit="websocket", given=path or str(account_id))],
        )  # fmt: skip


async def hear_quotes(owner_id: int) -> None:
    """Listen for quotes, and to the owner's engine; see :func:`bots.live_cache.quotes_heard`."""
    live_cache.follow_owner(owner_id)
    await live_cache.quotes_heard()


async def _order_path(owner_id: int, account_id: int) -> tuple[str, str]:
    live_cache.follow_owner(owner_id)
    until = time.monotonic() + HEALTH_WAIT_SECONDS
    while True:
        for told in live_cache.last_known.latest("health"):
            if told["owner_id"] == owner_id and time.time() - told["at"] < SILENT_SECONDS:
                for one in told["accounts"]:
                    if one["account_id"] == account_id and one["environment"] != "paper":
                        return one["path"], one["path_reason"] or one["reason"] or f"it is {one['state']}"
                return "", "the engine does not trade on this account with real orders"
        if time.monotonic() >= until:
            return "", "the owner's engine does not run"
        await asyncio.sleep(0.1)
