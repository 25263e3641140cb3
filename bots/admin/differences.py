"""Differences between our books and the exchanges: to be looked at, adopted or dismissed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display

from bots.admin.base import ChoicesFilter, ReadOnlyAdmin, ScopedRelatedFilter
from bots.admin.display import DIFFERENCE_STATES, EMPTY, age, amount, link, moment, rounded, state
from bots.models import Difference
from bots.services.differences import SETTLE, difference_adopt, difference_dismiss
from trading.execution.reconciliation import OF_LEDGER


@admin.register(Difference)
class DifferenceAdmin(ReadOnlyAdmin):
    list_display = (
        "what", "owner", "account_link", "ours_amount", "theirs_amount", "difference", "cause_text",
        "state_badge", "first", "last",
    )  # fmt: skip
    list_filter = (
        ("state", ChoicesFilter), ("kind", ChoicesFilter), ("cause", ChoicesFilter), ("account", ScopedRelatedFilter),
        ("account__exchange", ScopedRelatedFilter), ("owner", ScopedRelatedFilter),
    )  # fmt: skip
    search_fields = ("key", "market", "asset", "account__label")
    change_form_outer_before_template = "admin/bots/difference/buttons.html"
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("what", "state_badge"),
                    ("account", "owner"),
                    ("market", "asset"),
                    ("ours_amount", "theirs_amount", "difference"),
                    ("cause_text", "suggestion"),
                    ("first", "last"),
                )
            },
        ),
        ("Decision", {"fields": (("decided", "decided_moment"), "reason", "entry")}),
    )
    readonly_fields = (
        "what", "state_badge", "ours_amount", "theirs_amount", "difference", "cause_text", "first", "last", "decided",
        "decided_moment", "entry",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("owner", "account__exchange", "decided_by")

    # --- columns ---------------------------------------------------------------------------------------------------

    @display(description="Difference", ordering="kind")
    def what(self, row: Difference) -> SafeString:
        return format_html('<span class="whitespace-nowrap">{}</span> {}', row.get_kind_display(), row.key)

    @display(description="Account", ordering="account__label")
    def account_link(self, row: Difference) -> Any:
        return link(row.account)

    @display(description="Our ledger")
    def ours_amount(self, row: Difference) -> str:
        return amount(row.ours, row.asset)

    @display(description="The exchange")
    def theirs_amount(self, row: Difference) -> str:
        return amount(row.theirs, row.asset)

    @display(description="Theirs less ours", ordering="amount")
    def difference(self, row: Difference) -> Any:
        return rounded(row.amount, row.asset, sign=True)

    @display(description="Likely cause", ordering="cause")
    def cause_text(self, row: Difference) -> str:
        return row.get_cause_display()

    @display(description="State", ordering="state")
    def state_badge(self, row: Difference) -> SafeString:
        return state(row, "state", DIFFERENCE_STATES)

    @display(description="First seen", ordering="first_seen")
    def first(self, row: Difference) -> Any:
        return age(row.first_seen)

    @display(description="Last seen", ordering="last_seen")
    def last(self, row: Difference) -> Any:
        return age(row.last_seen)

    @display(description="Decided by")
    def decided(self, row: Difference) -> str:
        # As text: the one who decided may be one whose page the reader may not open.
        return str(row.decided_by or EMPTY)

    @display(description="Decided at")
    def decided_moment(self, row: Difference) -> Any:
        return moment(row.decided_at)

    @display(description="Ledger entry")
    def entry(self, row: Difference) -> Any:
        return link(getattr(row, "ledger_entry", None))

    # --- adopt and dismiss -------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_or_404(request, object_id)
        may = row.state == Difference.State.OPEN and request.user.has_perm(SETTLE)
        context = {
            "may_settle": may,
            "may_adopt": may and row.kind in OF_LEDGER,
            **(extra_context or {}),
        }
        return super().change_view(request, object_id, form_url, context)

    @method_decorator(require_POST)
    def adopt_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act(request, object_id, difference_adopt, "adopted")

    @method_decorator(require_POST)
    def dismiss_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act(request, object_id, difference_dismiss, "dismissed")

    def _act(self, request: HttpRequest, object_id: str, service: Callable[..., bool], done: str) -> HttpResponse:
        row = self.get_or_404(request, object_id)
        if not request.user.has_perm(SETTLE):
            raise PermissionDenied
        try:
            changed = service(difference=row, actor=request.user, reason=request.POST.get("reason", ""))
        except ValidationError as problem:
            self.message_user(request, " ".join(problem.messages), messages.ERROR)
        else:
            text = f"{row} is {done}." if changed else f"{row} was {done} already."
            self.message_user(request, text, messages.SUCCESS if changed else messages.INFO)
        return HttpResponseRedirect(reverse("admin:bots_difference_change", args=[row.pk]))

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/adopt/", view(self.adopt_view), name="bots_difference_adopt"),
            path("<path:object_id>/dismiss/", view(self.dismiss_view), name="bots_difference_dismiss"),
            *super().get_urls(),
        ]
