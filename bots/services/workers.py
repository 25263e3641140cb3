"""Calls a worker to something that may as well be done later, or again. With the broker away nobody is called."""

from __future__ import annotations

import logging

from celery import current_app
from kombu.exceptions import OperationalError

logger = logging.getLogger("arb.tasks")

REQUEST_EXPIRES_SECONDS = 600.0


def worker_call(task: str, row_id: int) -> None:
    """Send a task about one row. Never raises for a broker that is away: the next regular run does it."""
    try:
        current_app.send_task(task, args=[row_id], expires=REQUEST_EXPIRES_SECONDS)
    except OperationalError as problem:
        logger.warning("%s was not asked for, about %s: the broker is away (%s)", task, row_id, problem)
