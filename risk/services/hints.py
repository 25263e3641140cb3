"""Tells hosts at once that something of risk has changed. A hint may be lost: hosts look by themselves as well."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

logger = logging.getLogger("arb.hints")

HINT_TIMEOUT_SECONDS = 2.0
# Every engine host listens here.
RISK_GROUP = "risk"


def risk_hint() -> None:
    """Send ``{"type": "risk.hint"}`` once the present transaction has committed; never raises."""
    transaction.on_commit(lambda: group_tell(RISK_GROUP, {"type": "risk.hint"}, "a change of risk"), robust=True)


def group_tell(group: str, message: dict[str, Any], what: str) -> None:
    """Send a message to a group of the channel layer; one that is away is logged as ``what`` not told."""
    layer = get_channel_layer()
    if layer is None:
        return

    async def send() -> None:
        async with asyncio.timeout(HINT_TIMEOUT_SECONDS):
            await layer.group_send(group, message)

    try:
        async_to_sync(send)()
    except Exception as problem:  # a hint may be lost; each layer raises errors of its own
        logger.warning("hosts were not told of %s (%s); they look by themselves soon", what, problem)
