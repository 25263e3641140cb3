"""Addresses of the pages and their data."""

from django.contrib.auth.views import LogoutView
from django.urls import include, path

from bots import desk_views, risk_api, views
from bots.api import live, site

urlpatterns = [
    path("live/", views.live, name="live"),
    path("live/bots/<int:bot_id>/<str:action>/", views.bot_action, name="bot-action"),
    path("why/", views.why, name="why"),
    path("desk/", desk_views.desk, name="desk"),
    path("desk/trade/", desk_views.trade, name="desk-trade"),
    path("desk/rebalancing/", desk_views.rebalancing, name="desk-rebalancing"),
    path("desk/markets/", desk_views.markets, name="desk-markets"),
    path("api/live/snapshot", live.live_snapshot_get, name="live-snapshot"),
    path("api/live/", include(risk_api.urlpatterns)),
    path("api/", include(site.urlpatterns)),
    path("sign-in/", views.SignInView.as_view(), name="sign-in"),
    path("sign-out/", LogoutView.as_view(next_page="sign-in"), name="sign-out"),
]
