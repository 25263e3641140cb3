"""Circuit breakers: what stands still and why, its history, and the operators' trip, reset and extend."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from risk.admin.base import (
    BAD,
    BUSY,
    EMPTY,
    GOOD,
    WAITING,
    NumberField,
    WrittenAdmin,
    label,
    sees_everything,
    span,
)
from risk.models import BreakerEvent, CircuitBreaker
from risk.models.breakers import OWNED, choices
from risk.policy.breakers import SECOND_NS, Breaker, BreakerRules, BreakerState, Scope, settled, utc
from risk.selectors import breaker_rules
from risk.services.breaker_operations import OPERATE, breaker_extend, breaker_open, breaker_reset, breaker_trip

SHOWN_EVENTS = 100
AT_ONCE = 100
_OWNED = [scope.value for scope in OWNED]
COLOURS = {
    BreakerState.CLOSED: GOOD, BreakerState.OPEN: BAD, BreakerState.HALF_OPEN: WAITING, BreakerState.PROBING: WAITING,
    BreakerState.RAMPING: BUSY,
}  # fmt: skip
STATE_NAMES = dict(choices(BreakerState))


def _text(title: str, help_text: str = "") -> forms.CharField:
    widget = UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"})
    return forms.CharField(label=title, required=False, max_length=600, help_text=help_text, widget=widget)


class _OrderForm(forms.Form):
    """What an operator says with an order; the services check it, and their sentences are then in the form."""

    title = ""
    explanation = ""
    done = ""

    def order(self, actor: Any, row: CircuitBreaker, seen_version: int) -> Breaker:
        raise NotImplementedError

    def refuse(self, problem: ValidationError) -> None:
        if not hasattr(problem, "error_dict"):
            self.add_error(None, problem)
            return
        for field, errors in problem.error_dict.items():
            self.add_error(field if field in self.fields else None, errors)


class TripForm(_OrderForm):
    title = "Trip"
    explanation = "No new trade goes through while it is open. What is open already is still repaired."
    done = "tripped"
    seconds = NumberField(label="Seconds", required=False, help_text="1 to 604800; empty: as the settings say.")
    reason = _text("Reason", "Kept with your name.")

    def order(self, actor: Any, row: CircuitBreaker, seen_version: int) -> Breaker:
        given = self.cleaned_data
        return breaker_trip(
            actor=actor, breaker=row, reason=given["reason"], seconds=given["seconds"], seen_version=seen_version
        )


class ExtendForm(_OrderForm):
    title = "Extend"
    explanation = "The cool-down goes on for so much longer; one that is over goes on from now."
    done = "extended"
    seconds = NumberField(label="Seconds", required=False, help_text="1 to 604800, to end within seven days.")
    reason = _text("Reason", "Kept with your name.")

    def order(self, actor: Any, row: CircuitBreaker, seen_version: int) -> Breaker:
        given = self.cleaned_data
        return breaker_extend(
            actor=actor, breaker=row, reason=given["reason"], seconds=given["seconds"], seen_version=seen_version
        )


class ResetForm(_OrderForm):
    title = "Reset"
    explanation = "It closes: trades go through at once and at their full size, without a probe."
    done = "reset"
    reason = _text("Reason", "Kept with your name.")

    def order(self, actor: Any, row: CircuitBreaker, seen_version: int) -> Breaker:
        return breaker_reset(
            actor=actor, breaker=row, reason=self.cleaned_data["reason"], seen_version=seen_version
        )  # fmt: skip


class OpenForm(_OrderForm):
    title = "Trip a circuit breaker by hand"
    explanation = TripForm.explanation
    scope = forms.ChoiceField(
        label="Of what", required=False, choices=choices(Scope), widget=UnfoldAdminSelectWidget, initial=Scope.EXCHANGE
    )
    key = _text(
        "Which", "The id of an owner, a bot or an account, an exchange's code, BTC/USDT or binance:BTC/USDT."
    )  # fmt: skip
    seconds = NumberField(label="Seconds", required=False, help_text="1 to 604800; empty: as the settings say.")
    reason = _text("Reason", "Kept with your name.")


ORDERS: dict[str, type[_OrderForm]] = {"trip": TripForm, "extend": ExtendForm, "reset": ResetForm}


@admin.register(CircuitBreaker)
class CircuitBreakerAdmin(WrittenAdmin):
    list_display = ("what", "owner", "state_label", "size", "why", "until", "trips", "since")
    list_filter = (("scope", ChoicesDropdownFilter), ("state", ChoicesDropdownFilter))
    search_fields = ("key", "reason")
    actions = ("breakers_trip", "breakers_extend", "breakers_reset")
    actions_list = ("breaker_open_view",)
    actions_detail = ("breaker_trip_view", "breaker_extend_view", "breaker_reset_view")
    change_form_outer_after_template = "admin/risk/circuitbreaker/history.html"
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("what", "state_label", "size"),
                    "why",
                    ("until", "since"),
                    ("trips", "trigger_name"),
                    ("holder", "clean_trades"),
                    ("owner", "version"),
                )
            },
        ),
    )
    readonly_fields = ("what", "state_label", "size", "why", "until", "since", "trigger_name")

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("owner")
        return rows if sees_everything(request) else rows.filter(~Q(scope__in=_OWNED) | Q(owner=request.user.pk))

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [name for name in self.list_display if name != "owner" or sees_everything(request)]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        # Read once for the page, not once a row.
        rules = breaker_rules()
        for row in page.result_list:
            row.rules = rules[Scope(row.scope)]
        return page

    # --- columns ----------------------------------------------------------------------------------------------------

    @display(description="Of", ordering="scope")
    def what(self, row: CircuitBreaker) -> SafeString:
        return format_html('<span class="whitespace-nowrap">{}</span> {}', row.get_scope_display(), row.key)

    @display(description="State", ordering="state")
    def state_label(self, row: CircuitBreaker) -> SafeString:
        present = _present(row)
        return label(STATE_NAMES[present.state], COLOURS[present.state])

    @display(description="Size")
    def size(self, row: CircuitBreaker) -> str:
        rules = getattr(row, "rules", None) or breaker_rules()[Scope(row.scope)]
        return share(_present(row), rules)

    @display(description="Reason")
    def why(self, row: CircuitBreaker) -> str:
        return row.reason or EMPTY

    @display(description="Until", ordering="until_ns")
    def until(self, row: CircuitBreaker) -> SafeString | str:
        until_ns = _present(row).until_ns
        if until_ns is None:
            return EMPTY
        left = span(max(until_ns - time.time_ns(), 0) / SECOND_NS)
        return format_html('<span class="whitespace-nowrap">{}, {} left</span>', utc(until_ns), left)

    @display(description="Since", ordering="since_ns")
    def since(self, row: CircuitBreaker) -> SafeString | str:
        since_ns = _present(row).since_ns
        return format_html('<span class="whitespace-nowrap">{}</span>', utc(since_ns)) if since_ns else EMPTY

    @display(description="Trigger")
    def trigger_name(self, row: CircuitBreaker) -> str:
        return row.trigger.replace("_", " ") or EMPTY

    # --- history ------------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        context = dict(extra_context or {})
        if row is not None:
            context["breaker_history"] = history_table(row, request)
            context["breaker_history_address"] = (
                f"{reverse('admin:risk_breakerevent_changelist')}?breaker__id__exact={row.pk}"
            )
        return super().change_view(request, object_id, form_url, context)

    # --- orders -------------------------------------------------------------------------------------------------------

    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(request.user.has_perm(OPERATE))

    @admin.action(description="Trip the selected circuit breakers", permissions=["operate"])
    def breakers_trip(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        return _to_order("trip", queryset)

    @admin.action(description="Extend the selected circuit breakers", permissions=["operate"])
    def breakers_extend(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        return _to_order("extend", queryset)

    @admin.action(description="Reset the selected circuit breakers", permissions=["operate"])
    def breakers_reset(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        return _to_order("reset", queryset)

    @action(description="Trip", url_path="trip", permissions=["operate"])
    def breaker_trip_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return _to_order("trip", self._one(request, object_id))

    @action(description="Extend", url_path="extend", permissions=["operate"])
    def breaker_extend_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return _to_order("extend", self._one(request, object_id))

    @action(description="Reset", url_path="reset", permissions=["operate"])
    def breaker_reset_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return _to_order("reset", self._one(request, object_id))

    @action(description="Trip by hand", url_path="open", permissions=["operate"])
    def breaker_open_view(self, request: HttpRequest) -> HttpResponse:
        form = OpenForm(request.POST if request.method == "POST" else None)
        if form.is_bound and form.is_valid():
            given = form.cleaned_data
            try:
                opened = breaker_open(
                    actor=request.user,
                    scope=given["scope"],
                    key=given["key"],
                    reason=given["reason"],
                    seconds=given["seconds"],
                )
            except ValidationError as problem:
                form.refuse(problem)
            else:
                self.message_user(request, f"The circuit breaker of {opened.name} is tripped.", messages.SUCCESS)
                return HttpResponseRedirect(reverse("admin:risk_circuitbreaker_changelist"))
        return self._order_page(request, form, ())

    def order_view(self, request: HttpRequest, order: str) -> HttpResponse:
        """Ask for a reason and carry an order out on all the breakers named, or on none of them."""
        if order not in ORDERS:
            raise Http404(f"There is no order {order[:40]!r}.")
        if not self.has_operate_permission(request):
            raise PermissionDenied
        given: QueryDict = request.POST if request.method == "POST" else request.GET
        form = ORDERS[order](request.POST if request.method == "POST" else None)
        keys = {int(key) if _is_id(key) else 0 for key in given.getlist("breaker")[: AT_ONCE + 1]}
        chosen = self.get_queryset(request).filter(pk__in=keys).order_by("pk")
        listing = reverse("admin:risk_circuitbreaker_changelist")
        if not 0 < len(keys) <= AT_ONCE or chosen.count() != len(keys):
            text = f"Choose 1 to {AT_ONCE} circuit breakers of this list (given {len(keys)})."
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(listing)
        if form.is_bound and form.is_valid():
            try:
                # Always in the order of their keys, so that of two operators one waits and neither is undone.
                with transaction.atomic():
                    rows = list(chosen)
                    for row in rows:
                        form.order(request.user, row, _version(given.get(f"version-{row.pk}", "")))
            except ValidationError as problem:
                form.refuse(problem)
            else:
                names = ", ".join(str(row) for row in rows[:5]) + (" and more" if len(rows) > 5 else "")
                self.message_user(request, f"Circuit breaker {form.done}: {names}.", messages.SUCCESS)
                one = len(rows) == 1
                target = reverse("admin:risk_circuitbreaker_change", args=[rows[0].pk]) if one else listing
                return HttpResponseRedirect(target)
        return self._order_page(request, form, chosen.all())

    def get_urls(self) -> list[Any]:
        order = self.admin_site.admin_view(self.order_view)
        return [path("order/<str:order>/", order, name="risk_circuitbreaker_order"), *super().get_urls()]

    def _one(self, request: HttpRequest, object_id: str) -> list[CircuitBreaker]:
        row = self.get_object(request, object_id)
        if row is None:
            self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        return [row]

    def _order_page(self, request: HttpRequest, form: _OrderForm, rows: Iterable[CircuitBreaker]) -> HttpResponse:
        rows = list(rows)
        table = {
            "headers": ["Circuit breaker", "State", "Size", "Until", "Reason"],
            "rows": [
                [self.what(row), self.state_label(row), self.size(row), self.until(row), self.why(row)] for row in rows
            ],
        }
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": form.title,
            "form": form,
            "rows": rows,
            "table": table,
        }
        return TemplateResponse(request, "admin/risk/circuitbreaker/order.html", context)


@admin.register(BreakerEvent)
class BreakerEventAdmin(WrittenAdmin):
    """The whole history of all breakers."""

    list_display = ("moment", "what", "event", "step_text", "reason", "by", "figures_text")
    list_filter = (
        ("event", ChoicesDropdownFilter),
        ("to_state", ChoicesDropdownFilter),
        ("breaker__scope", ChoicesDropdownFilter),
    )
    search_fields = ("reason", "breaker__key")
    fields = ("moment", "what", "event", "step_text", "reason", "by", "holder", "figures_text", "version")
    readonly_fields = ("moment", "what", "step_text", "by", "figures_text")

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("breaker", "actor")
        if sees_everything(request):
            return rows
        return rows.filter(~Q(breaker__scope__in=_OWNED) | Q(breaker__owner=request.user.pk))

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return lookup == "breaker__id__exact" or super().lookup_allowed(lookup, value, request)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [name for name in self.list_display if name not in _hidden(request)]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for name in self.fields if name not in _hidden(request)]

    @display(description="At", ordering="at")
    def moment(self, event: BreakerEvent) -> SafeString:
        return _moment(event)

    @display(description="Of", ordering="breaker__scope")
    def what(self, event: BreakerEvent) -> SafeString:
        address = reverse("admin:risk_circuitbreaker_change", args=[event.breaker_id])
        return format_html(
            '<a class="text-primary-600 dark:text-primary-500" href="{}">{} {}</a>',
            address, event.breaker.get_scope_display(), event.breaker.key,
        )  # fmt: skip

    @display(description="Step")
    def step_text(self, event: BreakerEvent) -> SafeString:
        return _step(event)

    @display(description="By")
    def by(self, event: BreakerEvent) -> str:
        return _by(event, sees_names=True)

    @display(description="Figures")
    def figures_text(self, event: BreakerEvent) -> str:
        return _figures(event)


def share(breaker: Breaker, rules: BreakerRules) -> str:
    """Return how much of a trade's size goes through."""
    if breaker.state is BreakerState.CLOSED:
        return "100 %"
    if breaker.state is not BreakerState.RAMPING:
        return "one probe" if breaker.state is BreakerState.PROBING else "none"
    return f"{rules.steps[min(breaker.step, len(rules.steps) - 1)] * 100:g} %"


def history_table(row: CircuitBreaker, request: HttpRequest) -> dict[str, Any]:
    """Return a breaker's last events, newest first, as a table. Others' figures and names are the operators' to see."""
    everything = sees_everything(request)
    headers = ["At", "Event", "Step", "Until", "Reason", "By"] + (["Figures"] if everything else [])
    rows = []
    for event in row.events.select_related("actor")[:SHOWN_EVENTS]:
        until = utc(event.until_ns) if event.until_ns is not None else EMPTY
        cells = [
            _moment(event), event.get_event_display(), _step(event), until, event.reason or EMPTY,
            _by(event, sees_names=everything),
        ]  # fmt: skip
        rows.append(cells + ([_figures(event)] if everything else []))
    return {"headers": headers, "rows": rows}


def _hidden(request: HttpRequest) -> set[str]:
    return set() if sees_everything(request) else {"by", "figures_text"}


def _present(row: CircuitBreaker) -> Breaker:
    return settled(row.to_policy(), time.time_ns())


def _moment(event: BreakerEvent) -> SafeString:
    text = event.at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return format_html('<span class="whitespace-nowrap">{}</span>', text)


def _step(event: BreakerEvent) -> SafeString:
    before, to = event.get_from_state_display(), event.get_to_state_display()
    text = f"still {to}" if before == to else f"{before} → {to}"
    if event.to_state == BreakerState.RAMPING.value:
        text += f", step {event.step + 1}"
    return format_html('<span class="whitespace-nowrap">{}</span>', text)


def _by(event: BreakerEvent, *, sees_names: bool) -> str:
    if event.actor is None:
        return "the platform"
    return str(event.actor) if sees_names else "an operator"


def _figures(event: BreakerEvent) -> str:
    return ", ".join(f"{name} {value}" for name, value in event.figures.items()) or EMPTY


def _to_order(order: str, rows: Any) -> HttpResponseRedirect:
    query = QueryDict(mutable=True)
    query.setlist("breaker", [str(row.pk) for row in rows[: AT_ONCE + 1]])
    return HttpResponseRedirect(f"{reverse('admin:risk_circuitbreaker_order', args=[order])}?{query.urlencode()}")


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _version(text: str) -> int:
    """Return the version a page was made of; one that cannot be read is older than any."""
    return int(text) if _is_id(text) else -1
