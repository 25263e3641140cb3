"""Content security policy: our pages run no inline script; the admin gets what its own scripts need, and no more."""

from __future__ import annotations

from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponseBase
from django.urls import NoReverseMatch, reverse

POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# The admin's theme evaluates Alpine expressions written in its templates and sets style attributes.
ADMIN_REPLACEMENTS = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}


class PolicyMiddleware(CSPMiddleware):
    """Send :data:`POLICY`, relaxed under the admin's address; decorators of django-csp still win."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only and parts.replace is None and request.path_info.startswith(admin_prefix()):
            parts.replace = ADMIN_REPLACEMENTS
        return parts


def admin_prefix() -> str:
    """Return the admin's address as it is routed now."""
    try:
        return reverse("admin:index")
    except NoReverseMatch:
        return "/admin/"
