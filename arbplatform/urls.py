"""Addresses: the admin, and everything users see."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView


def health(request: HttpRequest) -> HttpResponse:
    """Answer that the web server is up; it asks nobody, so that a slow database doesn't restart the server."""
    return HttpResponse("ok\n", content_type="text/plain")


def favicon(request: HttpRequest) -> HttpResponse:
    """Send browsers that ask here, as the admin makes them, to the icon."""
    return redirect(static("favicon.svg"))


urlpatterns = [
    path("", RedirectView.as_view(url="/live/")),
    path("healthz", health, name="health"),
    path("favicon.ico", favicon),
    path("admin/", admin.site.urls),
    path("", include("bots.urls")),
]
