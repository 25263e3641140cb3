"""The ASGI application: pages over HTTP, live updates over WebSocket (same origin and signed in only)."""

import os
from importlib import import_module

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "arbplatform.settings")
django.setup(set_prefix=False)

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.conf import settings  # noqa: E402

from arbplatform.checks import refuse_unsafe_start  # noqa: E402
from arbplatform.handler import OneVisitHandler  # noqa: E402
from bots.heap import set_heap_aside  # noqa: E402
from bots.routing import websocket_urlpatterns  # noqa: E402

refuse_unsafe_start()  # an ASGI server started directly runs no system checks

application = ProtocolTypeRouter(
    {
        "http": OneVisitHandler(),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)

import_module(settings.ROOT_URLCONF)  # what the first request would load
set_heap_aside()
