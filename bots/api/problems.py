"""What is refused is answered as problem details (RFC 9457): one sentence, and for each field its limit and what came.

``{"type", "title", "status", "detail", "errors": [{"field", "limit", "given", "message"}]}``
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import Any

import msgspec
from django.core.exceptions import PermissionDenied, RequestDataTooBig, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError
from ninja.errors import ValidationError as InputError

from bots.services.answers import KeyReused

logger = logging.getLogger("arb.api")

MAX_BODY_BYTES = 16_384
JSON_TYPES = ("application/json", "")  # a header that is not there says nothing else
MAX_GIVEN = 80
MAX_ERRORS = 20

# What is wrong in itself is the client's to correct (400); what is right but cannot be now is a conflict (409).
TYPES: Mapping[int, str] = {
    400: "urn:arb:invalid",
    401: "urn:arb:not-signed-in",
    403: "urn:arb:not-allowed",
    404: "urn:arb:not-found",
    405: "urn:arb:method",
    409: "urn:arb:conflict",
    413: "urn:arb:too-large",
    415: "urn:arb:not-json",
    429: "urn:arb:too-many",
    500: "urn:arb:failed",
}


class FieldError(msgspec.Struct):
    """What is wrong with one field; ``limit`` is what it must keep to, ``given`` what came, empty where unknown."""

    field: str
    message: str
    limit: str = ""
    given: str = ""


class Problem(msgspec.Struct):
    """The body of every answer that refuses; ``detail`` is one sentence."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class Refused(Exception):
    """Ends a request with a problem."""

    def __init__(
        self, status: int, detail: str, *, errors: Iterable[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, list(errors), headers or {}


def problem_response(
    status: int, detail: str, errors: Iterable[FieldError] = (), headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return the answer that says what is wrong."""
    problem = Problem(
        type=TYPES.get(status, "about:blank"),
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=list(errors)[:MAX_ERRORS],
    )
    response = HttpResponse(msgspec.json.encode(problem), content_type="application/problem+json", status=status)
    for name, value in (headers or {}).items():
        response[name] = value
    response["Cache-Control"] = "no-store"
    return response


def answered(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Refuse a body that is too large or isn't JSON before anything reads it, and a method the address doesn't know."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            if len(request.body) > MAX_BODY_BYTES:
                raise RequestDataTooBig
        except RequestDataTooBig:
            return problem_response(413, f"A request has at most {MAX_BODY_BYTES:,} bytes.")
        except UnreadablePostError:
            return problem_response(400, "The request ended before its body was read.")
        # What looks for a CSRF token would read it as a form.
        if request.method == "POST" and request.content_type not in JSON_TYPES:
            wrong = FieldError("Content-Type", "Must be application/json.", JSON_TYPES[0], _given(request.content_type))
            return problem_response(415, "A body is JSON: send it with Content-Type: application/json.", [wrong])
        response = view(request, *args, **kwargs)
        if response.status_code == 405:
            allowed = response.headers.get("Allow", "")
            detail = f"{request.method} is not a method of this address; it takes {allowed}."
            return problem_response(405, detail, headers={"Allow": allowed})
        return response

    return wrapped


def unknown_address(request: HttpRequest) -> HttpResponse:
    """Answer an address under ``/api/`` that there is not."""
    return problem_response(404, "There is no such address; /api/docs lists those there are.")


def add_handlers(api: NinjaAPI) -> None:
    """Make an API answer everything it refuses as problems."""
    handlers: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
        Refused: lambda _, refusal: problem_response(refusal.status, refusal.detail, refusal.errors, refusal.headers),
        InputError: _on_input,
        ValidationError: _on_validation,
        PermissionDenied: lambda _, refusal: problem_response(403, _sentence(str(refusal) or "You may not do this")),
        AuthenticationError: _on_nobody,
        HttpError: lambda _, error: problem_response(error.status_code, _sentence(str(error))),
        Http404: lambda _, error: problem_response(404, _sentence(str(error) or "There is no such thing")),
        KeyReused: _on_key_reused,
        Exception: _on_failure,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def _on_nobody(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    detail = "Sign in first, or send a valid token as Authorization: Bearer <token>."
    return problem_response(401, detail, headers={"WWW-Authenticate": 'Bearer realm="arb"'})


def _on_key_reused(request: HttpRequest, error: KeyReused) -> HttpResponse:
    wrong = FieldError(
        field="Idempotency-Key", message="It was used for another request: use a new one.", given=_given(str(error))
    )
    return problem_response(409, "The idempotency key was used for another request: use a new one.", [wrong])


def _on_failure(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem_response(500, "The request failed on the server; its log says why.")


def _on_input(request: HttpRequest, invalid: InputError) -> HttpResponse:
    errors = [_input_error(error) for error in invalid.errors]
    return problem_response(400, _summary(errors), errors)


def _input_error(error: Mapping[str, Any]) -> FieldError:
    source, *where = error["loc"]
    # The body's own name in the function is nobody's field.
    names = [str(part) for part in (where[1:] if source == "body" else where)]
    context = error.get("ctx", {})
    limit = next((str(context[name]) for name in _LIMITS if name in context), "")
    message = str(error["msg"]).removeprefix("Value error, ")
    return FieldError(
        field=".".join(names) or source, message=_sentence(message), limit=limit, given=_given(error.get("input"))
    )


# Where pydantic says which bound was broken.
_LIMITS = ("limit", "ge", "gt", "le", "lt", "min_length", "max_length", "expected", "pattern")


def _on_validation(request: HttpRequest, refusal: ValidationError) -> HttpResponse:
    by_field = refusal.error_dict if hasattr(refusal, "error_dict") else {"": refusal.error_list}
    errors = [_field_error(field, error) for field, found in by_field.items() for error in found]
    fields = [error for error in errors if error.field]
    status = 400 if fields else 409
    return problem_response(status, _summary(errors), fields)


def _field_error(field: str, error: ValidationError) -> FieldError:
    params = error.params if isinstance(error.params, Mapping) else {}
    return FieldError(
        field="" if field == "__all__" else field,
        message=" ".join(error.messages),
        limit=str(params.get("limit", "")),
        given=_given(params.get("given", "")),
    )


def _summary(errors: list[FieldError]) -> str:
    first = errors[0]
    text = f"{first.field}: {first.message}" if first.field else first.message
    if len(errors) > 1:
        text = f"{text.rstrip('.')} (and {len(errors) - 1} more)."
    return text


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _given(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""  # the whole body says nothing about a field that is missing
    return str(value)[:MAX_GIVEN]
