"""The live dashboard over HTTP, for programs and for pages that have no socket."""

from __future__ import annotations

from typing import Annotated

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router

from bots import live_cache
from bots.api.answers import Owner, json_answer
from bots.api.auth import owner_of
from bots.api.openapi import answers
from bots.live_dashboard import dashboard
from bots.live_desk_schema import Dashboard, DeskMode, json_schema

router = Router(tags=["dashboard"])
Mode = Annotated[DeskMode, Query(description="`paper`, or `live`: simulated, testnet and live, each named.")]


@router.get("/dashboard", **answers(Dashboard))
def dashboard_get(request: HttpRequest, mode: Mode, owner: Owner = None) -> HttpResponse:
    """Return everything a desk shows at this moment."""
    of = owner_of(request, owner)
    async_to_sync(_listen)(of.pk)
    data, _ = dashboard(owner_id=of.pk, mode=mode)
    return json_answer(data)


@router.get("/live-dashboard/schema", auth=None)
def stream_schema(request: HttpRequest) -> HttpResponse:
    """Return the JSON Schema of every message of the WebSocket `/ws/live-dashboard`."""
    return json_answer(json_schema())


async def _listen(owner_id: int) -> None:
    live_cache.follow_owner(owner_id)
