"""The Celery application. The broker carries hints; what is to be true stands in the database."""

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "arbplatform.settings")

app = Celery("arbplatform")
# For every thread: without it, threads that serve pages would find an application without our broker.
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.worker_init.connect
@signals.beat_init.connect
def _refuse_unsafe_start(**kwargs: Any) -> None:
    from arbplatform.checks import refuse_unsafe_start  # noqa: PLC0415 (needs Django set up)

    refuse_unsafe_start()
