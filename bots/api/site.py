"""The API as a whole: its routers, who may ask, and its description at ``/api/docs``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import URLPattern, path, re_path
from ninja import NinjaAPI
from ninja.errors import ValidationError as InputError
from ninja.errors import ValidationErrorContext
from ninja.openapi.schema import OpenAPISchema

from bots.api import bots, desk, reads, rebalancing, trading
from bots.api.answers import StrictParser
from bots.api.auth import SessionAuth, TokenAuth
from bots.api.openapi import components
from bots.api.problems import add_handlers, answered, unknown_address

DESCRIPTION = """
Sign in with the session cookie (and the header `X-CSRFToken` for whatever changes something), or with a token made in
the admin: `Authorization: Bearer <token>`. Everything is your own; operators may name another user by `owner`.

Every POST needs the header `Idempotency-Key`: the same request with the same key is carried out once and answered
alike. Whatever is refused is answered as `application/problem+json`. Amounts and prices are strings, instants Unix
seconds. The stream beside this is the WebSocket `/ws/live-dashboard`; its messages are at
`/api/live-dashboard/schema`.
"""


class PlatformAPI(NinjaAPI):
    """django-ninja with our types in its document and what was given in its errors."""

    def validation_error_from_error_contexts(self, error_contexts: list[ValidationErrorContext[Any]]) -> InputError:
        told = super().validation_error_from_error_contexts(error_contexts)
        given = [error for context in error_contexts for error in context.pydantic_validation_error.errors()]
        for error, original in zip(told.errors, given, strict=True):
            error["input"] = original["input"]
        return told

    def get_openapi_schema(self, *args: Any, **kwargs: Any) -> OpenAPISchema:
        schema = super().get_openapi_schema(*args, **kwargs)
        schema["components"]["schemas"].update(components())
        return schema


site = PlatformAPI(
    title="Arbitrage platform",
    version="1",
    description=DESCRIPTION,
    urls_namespace="api",
    auth=[TokenAuth(), SessionAuth(settings.SESSION_COOKIE_NAME)],
    parser=StrictParser(),
)
add_handlers(site)
site.add_router("/bots", bots.router)
site.add_router("/manual-trade", bots.manual_router)  # before the one that takes any word for an id
site.add_router("/manual-trade", trading.router)
site.add_router("/rebalancing", rebalancing.router)
site.add_router("", trading.websocket_router)
site.add_router("", desk.router)
site.add_router("", reads.router)


def api_urls() -> tuple[list[Any], str]:
    """Return the addresses under ``/api/``, each answering problems also for what ninja itself does not."""
    patterns, _, namespace = site.urls
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            pattern.callback = answered(pattern.callback)
    return [*patterns, re_path("^.*$", answered(unknown_address))], namespace


urlpatterns = [path("", (*api_urls(), "api"))]
