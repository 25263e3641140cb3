"""Requests to rebalance: listed, proposed, decided on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from ninja import Path, Query, Router, Schema
from pydantic import AfterValidator, ConfigDict, Field

from bots.api.answers import MAX_ID, Before, IdempotencyKey, Limit, Owner, json_answer, once, page
from bots.api.auth import owner_of, user_of
from bots.api.openapi import answers
from bots.api.trading import Amount, Id
from bots.live_cache import quotes_heard
from bots.models.base import sees_everything
from bots.selectors.rebalancing import rebalance_data, rebalance_may, rebalance_rows
from bots.services.rebalancing import (
    rebalance_approve,
    rebalance_cancel,
    rebalance_moved,
    rebalance_propose,
    rebalance_reject,
)
from risk.models import RebalanceRequest
from risk.models.rebalancing import OPEN_STATES, REASON_LENGTH

router = Router(tags=["rebalancing"])


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("may not contain unprintable characters")
    return text


Text = Annotated[str, Field(max_length=REASON_LENGTH), AfterValidator(_printable)]
Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
RequestId = Annotated[int, Path(ge=1, le=MAX_ID)]
OnlyOpen = Annotated[bool, Query(description="Only what has not ended.")]


class Proposal(Schema):
    """What is to be done: of a conversion `symbol` and `side`, of a move `to_account_id` and `asset`."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["convert", "move"]
    account_id: Annotated[Id, Field(description="Where it is converted, or sent from.")]
    amount: Annotated[Amount, Field(description="Of the market's base, or of the asset.")]
    reason: Text
    symbol: Annotated[Name | None, Field(examples=["BTC/USDT"])] = None
    side: Literal["buy", "sell"] | None = None
    to_account_id: Id | None = None
    asset: Annotated[Name | None, Field(examples=["BTC"])] = None


class Note(Schema):
    """A word that is kept with the approval."""

    model_config = ConfigDict(extra="forbid")

    note: Text = ""


class Reason(Schema):
    """Why; it is kept with your name."""

    model_config = ConfigDict(extra="forbid")

    reason: Text


class Effect(msgspec.Struct):
    """Share of base of what an account holds for the pair, from 0 to 1."""

    account_id: int
    account: str
    before: str
    after: str


class Step(msgspec.Struct):
    """One step of its history; `by` is empty for the platform."""

    from_state: str
    to_state: str
    by: str
    text: str
    at: float


class Rebalance(msgspec.Struct):
    """A request and how it stands. ``may`` are the decisions that are yours now: approve, reject, cancel, moved.

    ``cost_bps`` is what it was estimated to cost, null of a move: the network's fee is not known. ``filled``,
    ``realised_price``, ``improvement`` and ``fees`` are what a conversion came to.
    """

    id: int
    kind: str
    state: str
    account_id: int
    account: str
    to_account_id: int | None
    to_account: str
    symbol: str
    environment: str
    asset: str
    side: str
    amount: str
    value: str | None
    quote: str
    price: str | None
    half_spread_bps: str | None
    cost_bps: str | None
    effects: list[Effect]
    reason: str
    proposed_by: str
    is_own: bool
    may: list[str]
    created_at: float
    expires_at: float
    ended_at: float | None
    outcome: str
    trade_id: str
    filled: str | None
    realised_price: str | None
    improvement: str | None
    fees: dict[str, str]
    history: list[Step]


class RebalancePage(msgspec.Struct):
    items: list[Rebalance]
    next: int | None


@router.get("", **answers(RebalancePage))
def rebalance_list(
    request: HttpRequest, limit: Limit = 50, before: Before = None, only_open: OnlyOpen = False, owner: Owner = None
) -> HttpResponse:
    """List requests, newest first."""
    user = user_of(request)
    rows = rebalance_rows(owner_id=owner_of(request, owner).pk)
    if only_open:
        rows = rows.filter(state__in=OPEN_STATES)

    def show(found: Sequence[RebalanceRequest]) -> list[dict[str, Any]]:
        return [_shown(row, user) for row in found]

    return page(rows, limit=limit, before=before, show=show)


@router.post("", **answers(Rebalance, status=201, changes=True))
def rebalance_post(request: HttpRequest, data: Proposal, key: IdempotencyKey, owner: Owner = None) -> HttpResponse:
    """Propose something. Another person has to approve it."""
    of, user, given = owner_of(request, owner), user_of(request), data.model_dump(exclude_none=True)
    async_to_sync(quotes_heard)()

    def perform() -> tuple[int, dict[str, Any]]:
        return 201, _answer(rebalance_propose(owner=of, actor=user, data=given).pk, user)

    return once(request, owner=of, key=key, content=given, perform=perform)


@router.get("/{request_id}", **answers(Rebalance))
def rebalance_get(request: HttpRequest, request_id: RequestId) -> HttpResponse:
    """Return one request."""
    user = user_of(request)
    return json_answer(_answer(_found(request_id, user).pk, user))


@router.post("/{request_id}/approve", **answers(Rebalance, changes=True))
def rebalance_approve_post(
    request: HttpRequest, request_id: RequestId, data: Note, key: IdempotencyKey
) -> HttpResponse:
    """Approve a request; the engine is asked for a conversion at once. 409 with the reason if it can't be now."""
    async_to_sync(quotes_heard)()
    return _decide(request, request_id, key, rebalance_approve, data)


@router.post("/{request_id}/reject", **answers(Rebalance, changes=True))
def rebalance_reject_post(
    request: HttpRequest, request_id: RequestId, data: Reason, key: IdempotencyKey
) -> HttpResponse:
    """Reject a request that nobody has decided on."""
    return _decide(request, request_id, key, rebalance_reject, data)


@router.post("/{request_id}/cancel", **answers(Rebalance, changes=True))
def rebalance_cancel_post(
    request: HttpRequest, request_id: RequestId, data: Reason, key: IdempotencyKey
) -> HttpResponse:
    """Take a request back that nothing has come of yet."""
    return _decide(request, request_id, key, rebalance_cancel, data)


@router.post("/{request_id}/moved", **answers(Rebalance, changes=True))
def rebalance_moved_post(
    request: HttpRequest, request_id: RequestId, data: Reason, key: IdempotencyKey
) -> HttpResponse:
    """Say that an approved move was made, where the exchanges' books don't show it."""
    return _decide(request, request_id, key, rebalance_moved, data)


def _decide(
    request: HttpRequest, request_id: int, key: str, service: Callable[..., RebalanceRequest], data: Schema
) -> HttpResponse:
    user, given = user_of(request), data.model_dump()
    row = _found(request_id, user)

    def perform() -> tuple[int, dict[str, Any]]:
        service(request_id=row.pk, actor=user, **given)
        return 200, _answer(row.pk, user)

    return once(request, owner=row.owner, key=key, content=given, perform=perform)


def _found(request_id: int, user: User) -> RebalanceRequest:
    rows = RebalanceRequest.objects.select_related("owner")
    row = (rows if sees_everything(user) else rows.filter(owner=user)).filter(pk=request_id).first()
    if row is None:
        raise Http404(f"There is no rebalancing request {request_id} of yours.")
    return row


def _answer(request_id: int, user: User) -> dict[str, Any]:
    return _shown(rebalance_rows().get(pk=request_id), user)


def _shown(row: RebalanceRequest, user: User) -> dict[str, Any]:
    data = {**rebalance_data(row), "may": rebalance_may(row, user), "is_own": row.proposed_by_id == user.pk}
    shown = msgspec.to_builtins(msgspec.convert(data, Rebalance))
    assert isinstance(shown, dict)
    return shown
