"""API tokens: made by their owner, shown once, revoked by the owner or an operator."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display

from bots.admin.base import ScopedRelatedFilter, ServiceAdmin, ServiceForm
from bots.admin.display import BAD, GOOD, age, badge
from bots.models import ApiToken
from bots.services.api_tokens import api_token_create, api_token_revoke


class ApiTokenForm(ServiceForm):
    """A new token of one's own. What was made is in ``secret`` until the page that shows it is answered."""

    secret = ""

    class Meta:
        model = ApiToken
        fields = ("name", "expires_at")

    def perform(self, actor: Any) -> ApiToken:
        token, self.secret = api_token_create(owner=actor, actor=actor, **self.cleaned_data)
        return token


@admin.register(ApiToken)
class ApiTokenAdmin(ServiceAdmin):
    form = ApiTokenForm
    list_display = ("name", "owner", "prefix", "standing", "created", "used", "expires_at")
    list_filter = (("owner", ScopedRelatedFilter),)
    search_fields = ("name", "prefix", "owner__username")
    actions = ("tokens_revoke",)
    change_form_outer_before_template = "admin/bots/apitoken/buttons.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner")

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        if obj is None:
            return ("name", "expires_at")
        return ("name", "owner", "prefix", "standing", "created", "used", "expires_at", "revoked_at")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        return () if obj is None else self.get_fields(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # revoked, so that what it did stays explained

    @display(description="State")
    def standing(self, token: ApiToken) -> SafeString:
        if token.revoked_at is not None:
            return badge("Revoked", BAD)
        return badge("Valid", GOOD) if token.is_valid() else badge("Expired")

    @display(description="Created", ordering="created_at")
    def created(self, token: ApiToken) -> Any:
        return age(token.created_at)

    @display(description="Last used", ordering="last_used_at")
    def used(self, token: ApiToken) -> Any:
        return age(token.last_used_at)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        obj.secret = form.secret

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the token in the answer itself: a redirect would have to carry it along."""
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": obj.name, "token": obj}
        response = TemplateResponse(request, "admin/bots/apitoken/created.html", context)
        add_never_cache_headers(response)
        return response

    @admin.action(description="Revoke the selected tokens", permissions=["change"])
    def tokens_revoke(self, request: HttpRequest, queryset: Any) -> None:
        revoked = sum(api_token_revoke(token=token, actor=request.user) for token in queryset)
        self.message_user(request, f"{revoked} revoked.")

    @method_decorator(require_POST)
    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        token = self.get_or_404(request, object_id)
        try:
            revoked = api_token_revoke(token=token, actor=request.user)
        except ValidationError as problem:
            self.message_user(request, " ".join(problem.messages), level="error")
        else:
            self.message_user(request, f"{token.name} is revoked." if revoked else f"{token.name} was revoked before.")
        return self.back_to(request)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/revoke/", view(self.revoke_view), name="bots_apitoken_revoke"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context = {
            "show_save": False, "show_save_and_continue": False, "show_save_and_add_another": False,
            **(extra_context or {}),
        }  # fmt: skip
        return super().change_view(request, object_id, form_url, context)
