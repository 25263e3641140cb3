"""Addresses of the pages and their data."""

from django.contrib.auth.views import LogoutView
from django.urls import include, path

from bots import api, risk_api, views

urlpatterns = [
    path("live/", views.live, name="live"),
    path("live/bots/<int:bot_id>/<str:action>/", views.bot_action, name="bot-action"),
    path("why/", views.why, name="why"),
    path("api/live/snapshot", api.live_snapshot_get, name="live-snapshot"),
    path("api/live/", include(risk_api.urlpatterns)),
    path("sign-in/", views.SignInView.as_view(), name="sign-in"),
    path("sign-out/", LogoutView.as_view(next_page="sign-in"), name="sign-out"),
]
