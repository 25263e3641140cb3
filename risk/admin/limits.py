"""Limits: operators set them, users see those that bind them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from risk.admin.service_pages import RiskForm, RiskPage, operates
from risk.models import RiskLimit
from risk.rules import LEAST, RULES, figure
from risk.selectors import bots_running_under
from risk.services.limits import limit_create, limit_delete, limit_update

# ASCII only: Decimal() would also read full-width digits and 1_000, which a form should question.
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,4})?", re.ASCII)
_TOO_LARGE = Decimal(1_000_000_000)  # for the column's 15 digits with 6 places
_LEAST = Decimal(LEAST)


class LimitField(forms.DecimalField):
    """A limit as a person types it; what is no plain number is refused with what was given."""

    def to_python(self, value: Any) -> Decimal | None:
        text = str(value).strip() if value is not None else ""
        if text and not _NUMBER.fullmatch(text):
            raise ValidationError(
                f"Enter a plain decimal number such as 0.25, with a point and without thousands marks "
                f"(given {text[:40]!r}).",
                code="invalid",
            )
        number = super().to_python(value)
        if number is None:
            return None
        if abs(number) >= _TOO_LARGE:
            raise ValidationError(f"Must be below {_TOO_LARGE} (given {text[:40]}).", code="max_digits")
        if number % _LEAST:
            raise ValidationError(f"At most 6 decimal places (given {text[:40]}).", code="max_decimal_places")
        return number


class RiskLimitForm(RiskForm):
    """A limit as an operator edits it."""

    value = LimitField(max_digits=15, decimal_places=6, widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = RiskLimit
        fields = ("scope", "owner", "bot", "exchange", "pair", "rule", "value", "note")
        help_texts = {
            "rule": "Exposure, unhedged and orders per minute count all trades of a bot's owner, whatever the scope. "
            "Open trades and daily loss do for everybody and an owner; for a bot, an exchange or a pair they are "
            "each bot's own."
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "rule" in self.fields:
            self.fields["rule"].choices = [(rule.name, rule.described) for rule in RULES.values()]
        if self.instance.pk is not None:
            self.fields["seen_version"].initial = self.instance.version
            self.initial["value"] = figure(self.instance.value)

    def perform(self, actor: Any) -> RiskLimit:
        given = self.cleaned_data
        if self.instance.pk is not None:
            return limit_update(
                actor=actor,
                limit=self.instance,
                value=given["value"],
                note=given["note"],
                seen_version=given["seen_version"],
            )
        subjects = {f"{name}_id": getattr(given[name], "pk", None) for name in ("owner", "bot", "exchange", "pair")}
        return limit_create(
            actor=actor, scope=given["scope"], rule=given["rule"], value=given["value"], note=given["note"], **subjects
        )


@admin.register(RiskLimit)
class RiskLimitAdmin(RiskPage):
    form = RiskLimitForm
    list_display = ("rule", "scope", "subject", "limit", "note", "version", "changed_at")
    list_filter = (("scope", ChoicesDropdownFilter), ("rule", ChoicesDropdownFilter))
    search_fields = ("note", "owner__username", "bot__name", "exchange__code", "pair__base__code")
    autocomplete_fields = ("bot", "exchange", "pair")
    delete_confirmation_template = "admin/risk/delete_bound.html"
    fieldsets = (
        (None, {"fields": ("scope", "owner", "bot", "exchange", "pair", "rule", "value", "note", "seen_version")}),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("owner", "bot", "exchange", "pair")
        if operates(request):
            return rows
        everybody = (RiskLimit.Scope.GLOBAL, RiskLimit.Scope.EXCHANGE, RiskLimit.Scope.PAIR)
        return rows.filter(Q(owner=request.user.pk) | Q(bot__owner=request.user.pk) | Q(scope__in=everybody))

    def get_readonly_fields(self, request: HttpRequest, obj: RiskLimit | None = None) -> Any:
        return ("scope", "owner", "bot", "exchange", "pair", "rule") if obj is not None else ()

    @display(description="For")
    def subject(self, limit: RiskLimit) -> str:
        return limit.source

    @display(description="Limit", ordering="value")
    def limit(self, limit: RiskLimit) -> str:
        rule = RULES.get(limit.rule)
        return rule.text(limit.value) if rule is not None else figure(limit.value)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        limit = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if limit is not None:
            context = {
                "running_bots": bots_running_under(limit),
                "question": f"Remove the limit {limit}, {self.limit(limit)}?",
                "bound": "It is over these running bots, which go on without it at once:",
                "seen": {"seen_version": limit.version},
            }
        return super().delete_view(request, object_id, {**context, **(extra_context or {})})

    def delete_by_service(self, request: HttpRequest, obj: RiskLimit) -> None:
        seen = request.POST.get("seen_version", "")
        limit_delete(
            actor=request.user, limit=obj, seen_version=int(seen) if re.fullmatch(r"[0-9]{1,9}", seen) else None
        )
