"""WebSocket addresses."""

from django.urls import path

from bots.consumers import LiveConsumer
from bots.dashboard_consumer import DashboardConsumer

websocket_urlpatterns = [
    path("ws/live/", LiveConsumer.as_asgi()),
    path("ws/live-dashboard", DashboardConsumer.as_asgi()),
]
