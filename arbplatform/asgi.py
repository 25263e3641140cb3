"""The ASGI application: pages over HTTP, live updates over WebSocket (same origin and signed in only)."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "arbplatform.settings")
django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from arbplatform.checks import refuse_unsafe_start  # noqa: E402
from bots.routing import websocket_urlpatterns  # noqa: E402

refuse_unsafe_start()  # an ASGI server started directly runs no system checks

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
