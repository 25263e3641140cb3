"""What the pages of rows that the platform writes have in common: nobody edits them, and they answer what they show."""

from __future__ import annotations

import logging
import re
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

logger = logging.getLogger("arb.admin")

OPERATE_ALL = "bots.operate_all"
EMPTY = "–"
# Colours of the labels.
GOOD, BAD, WAITING, BUSY = "success", "danger", "warning", "info"
# What a filter's links ask of its column.
_COMPARISONS = frozenset({"exact", "in", "isnull", "gte", "lt", "year", "month", "day", "id__exact"})
# ASCII only: Decimal() would also read full-width and Arabic digits, which a form should question.
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,4})?", re.ASCII)
_DIGITS, _PLACES = 9, 6


def sees_everything(request: HttpRequest) -> bool:
    """Tell whether the user works on every owner's rows."""
    return bool(request.user.has_perm(OPERATE_ALL))


def label(text: str, colour: str = "") -> SafeString:
    """Return a coloured label."""
    return mark_safe(render_to_string("unfold/helpers/label.html", {"text": text, "variant": colour}))  # noqa: S308 - a template's


def plain(value: Decimal) -> str:
    """Return a number without trailing zeros and without an exponent."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def span(seconds: float) -> str:
    """Return "12 s", "3 min", "5 h" or "2 d"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


class NumberField(forms.CharField):
    """A number typed by a person; its messages name the limit and what was given. ``whole`` takes no fraction."""

    widget = UnfoldAdminTextInputWidget

    def __init__(self, *, whole: bool = False, **options: Any) -> None:
        self.whole = whole
        super().__init__(**options)

    def to_python(self, value: Any) -> Any:
        text = str(value).strip() if value is not None else ""
        if text in self.empty_values:
            return None
        if not _NUMBER.fullmatch(text):
            raise ValidationError(
                f"Enter a plain number such as {'3' if self.whole else '0.25'}, with a point and without thousands "
                f"marks (given {text[:40]!r}).",
                code="invalid",
            )
        number = Decimal(text)
        if not abs(number) < 10**_DIGITS:
            raise ValidationError(f"Must be below 1e{_DIGITS} (given {text[:40]}).", code="max_digits")
        places = 0 if self.whole else _PLACES
        if number != round(number, places):
            raise ValidationError(f"At most {places} decimal places (given {text[:40]}).", code="max_decimal_places")
        return int(number) if self.whole else number

    def prepare_value(self, value: Any) -> Any:
        return plain(value) if isinstance(value, Decimal) and value.is_finite() else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(initial) != self.to_python(data))
        except ValidationError:
            return True


class WrittenAdmin(ModelAdmin):
    """A page of rows that the platform writes; the user sees those of :meth:`get_queryset`."""

    list_per_page = 50
    list_filter_submit = False
    show_full_result_count = False
    empty_value_display = EMPTY

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow what the page itself offers. Django allows every column of a related row too, which would answer
        questions about an operator's."""
        offered = {item[0] if isinstance(item, tuple) else item for item in self.get_list_filter(request)}
        for name in offered | {"pk", "id"}:
            if lookup == name or lookup.removeprefix(f"{name}__") in _COMPARISONS:
                return True
        return False

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        logger.warning("user %s asked for %s %r, which is not theirs to see", request.user.pk, opts.label, object_id)
        raise Http404(f"There is no {opts.verbose_name} {object_id[:40]!r} that you may see.")
