"""The live page's snapshot over HTTP."""

from __future__ import annotations

import time

import msgspec
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from bots import live_snapshot
from bots.live_cache import ensure_listening


@never_cache
@require_GET
async def live_snapshot_get(request: HttpRequest) -> HttpResponse:
    """Answer the live page's snapshot as one frame, for polling when the socket cannot be had.

    Query: ``owner`` (user id; operators only, others see their own). 401 without a session, 403 for another's desk.
    """
    user = await request.auser()
    if not user.is_authenticated:
        return json_response({"error": "Sign in first: this address needs a session."}, status=401)
    owner = await sync_to_async(live_snapshot.find_owner)(user=user, requested=request.GET.get("owner"))
    if owner is None:
        return json_response({"error": "owner: only operators may see the desk of another user."}, status=403)
    ensure_listening()
    data = await database_sync_to_async(live_snapshot.snapshot)(owner_id=owner.pk)
    return json_response({"type": "snapshot", "data": data, "timestamp": time.time(), "sequence": 0})


def json_response(data: object, *, status: int = 200) -> HttpResponse:
    """Return ``data`` as JSON; decimals become strings, like in every message of the live page."""
    return HttpResponse(msgspec.json.encode(data), content_type="application/json", status=status)
