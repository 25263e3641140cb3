"""How the API reads bodies and answers: what is asked for is carried out once, what is found is listed by pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Header, Query
from ninja.errors import HttpError
from ninja.parser import Parser

from bots.services.answers import answer_once

Row = TypeVar("Row", bound=Model)

MAX_KEY = 64
MAX_ID = 2**63 - 1
REPEATED = "Idempotency-Replayed"


IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY,
        pattern="^[!-~]([ -~]*[!-~])?$",  # printable ASCII, no spaces around it
        description="A value of your own for each thing you want done, such as a UUID. The same request with the same "
        "key again gets the first answer and does nothing more.",
    ),
]
Owner = Annotated[
    int | None, Query(ge=1, le=MAX_ID, description="Another user's id; operators only. Without it: your own.")
]
Limit = Annotated[int, Query(ge=1, le=500, description="At most so many, newest first.")]
Before = Annotated[
    int | None, Query(ge=1, le=MAX_ID, description="`next` of the page before this one: only what is older.")
]


class StrictParser(Parser):
    """Reads bodies as JSON and nothing else: no NaN, no nesting without end, an object at the top."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        try:
            body = msgspec.json.decode(request.body)
        except (ValueError, RecursionError):
            raise HttpError(400, "The body is not JSON.") from None
        if not isinstance(body, dict):
            raise HttpError(400, "The body must be one JSON object.")
        return body


def json_answer(data: Any, *, status: int = 200) -> HttpResponse:
    """Return ``data`` as JSON that nobody keeps; it may be a dict or a message type."""
    response = HttpResponse(msgspec.json.encode(data), content_type="application/json", status=status)
    response["Cache-Control"] = "no-store"
    return response


def once(
    request: HttpRequest, *, owner: User, key: str, content: Any, perform: Callable[[], tuple[int, dict[str, Any]]]
) -> HttpResponse:
    """Answer a request that changes something; see :func:`answer_once`. ``content`` is what was asked, as JSON."""
    asked = msgspec.json.encode([request.method, request.path, content], order="sorted").decode()
    answer = answer_once(owner_id=owner.pk, key=key, content=asked, perform=perform)
    response = json_answer(answer.data, status=answer.status)
    if answer.is_repeated:
        response[REPEATED] = "true"
    return response


def page(
    rows: QuerySet[Row], *, limit: int, before: int | None, show: Callable[[Sequence[Row]], Sequence[Any]]
) -> HttpResponse:
    """Answer one page of rows, newest first: ``items``, and ``next`` to be given as ``before``, null at the end."""
    older = rows if before is None else rows.filter(pk__lt=before)
    found = list(older.order_by("-pk")[: limit + 1])
    shown = found[:limit]
    more = shown[-1].pk if len(found) > limit else None
    return json_answer({"items": show(shown), "next": more})
