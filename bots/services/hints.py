"""Wakes an owner's engine. A hint may be lost: what is to be true stands in the database."""

from __future__ import annotations

import asyncio
import logging

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

logger = logging.getLogger("arb.hints")

HINT_TIMEOUT_SECONDS = 2.0


# Every engine host listens here: also an owner who has no engine yet is heard by whoever can start one.
ENGINE_GROUP = "engines"


def engine_hint(owner_id: int) -> None:
    """Tell the engine of ``owner_id`` to look at the database, once the present transaction has committed.

    Sends ``{"type": "engine.hint", "owner_id": ...}``. Never raises: with the channel layer away the engine finds
    the change when it next renews its lease.
    """
    transaction.on_commit(lambda: _send(owner_id), robust=True)


def _send(owner_id: int) -> None:
    layer = get_channel_layer()
    if layer is None:
        return

    async def send() -> None:
        async with asyncio.timeout(HINT_TIMEOUT_SECONDS):
            await layer.group_send(ENGINE_GROUP, {"type": "engine.hint", "owner_id": owner_id})

    try:
        async_to_sync(send)()
    except Exception as problem:  # a hint may be lost; each layer raises errors of its own
        logger.warning("the engine of owner %s was not woken (%s); it looks by itself soon", owner_id, problem)
