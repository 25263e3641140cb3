"""How message types come into the OpenAPI document: the same types that are sent describe themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from bots.api.problems import Problem

REF = "#/components/schemas/{name}"
PROBLEMS = {
    401: "Not signed in, or the token is not valid.",
    403: "Another user's, or the CSRF token is missing.",
    404: "There is no such thing of yours.",
    429: "Too many wrong tokens.",
}
CHANGING = {
    400: "What was given is wrong; `errors` says which field, its limit and what came.",
    409: "It cannot be now, or the idempotency key was used for another request.",
    413: "The body is too large.",
    415: "The body is not called JSON.",
}


def answers(kind: type[msgspec.Struct], *, status: int = 200, changes: bool = False) -> dict[str, Any]:
    """Return an operation's arguments that describe what it answers, and the problems it may answer instead."""
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=REF)
    described = {status: {"description": "As asked.", "content": {"application/json": {"schema": schema}}}}
    problems = {400: CHANGING[400], **PROBLEMS, **(CHANGING if changes else {})}
    (problem,), _ = msgspec.json.schema_components([Problem], ref_template=REF)
    for code, text in sorted(problems.items()):
        described[code] = {"description": text, "content": {"application/problem+json": {"schema": problem}}}
    _used.append(kind)
    return {"response": {status: None}, "openapi_extra": {"responses": described}}


def components() -> dict[str, Any]:
    """Return the schemas of all types that operations answer."""
    _, found = msgspec.json.schema_components([*_used, Problem], ref_template=REF)
    return found


_used: list[type[msgspec.Struct]] = []
