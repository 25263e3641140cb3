"""Realised slippage by pair, exchange and hour: expected and realised side by side, and what is learned from it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AllValuesCheckboxFilter
from unfold.decorators import display

from risk.admin.base import EMPTY, GOOD, WAITING, WrittenAdmin, label
from risk.models import SlippageStat
from risk.models.slippage_stat import bps, rollup_of
from risk.selectors import market_lessons


@admin.register(SlippageStat)
class SlippageStatAdmin(WrittenAdmin):
    """Whose legs they were is not kept, so users see the same as operators. Figures are basis points a leg."""

    list_display = (
        "hour_text", "pair", "exchange", "legs", "before", "after", "surprise_text", "before_send_text",
        "in_flight_text", "depth_text", "fee_text", "lesson",
    )  # fmt: skip
    list_filter = (("exchange", AllValuesCheckboxFilter), ("pair", AllValuesCheckboxFilter), "hour")
    search_fields = ("pair", "exchange")
    date_hierarchy = "hour"
    fieldsets = (
        (None, {"fields": (("pair", "exchange"), ("hour_text", "legs"))}),
        (
            "Expected and realised, basis points a leg",
            {"fields": (("before", "after"), ("surprise_text", "uncertainty"))},
        ),
        (
            "Where it arose, basis points a leg",
            {"fields": (("before_send_text", "in_flight_text"), ("depth_text", "fee_text"))},
        ),
        (
            "What is learned of this pair on this exchange now",
            {"fields": (("lesson_legs", "lesson_surprise"), ("lesson_edge", "lesson_factor"))},
        ),
    )
    readonly_fields = (
        "hour_text", "before", "after", "surprise_text", "uncertainty", "before_send_text", "in_flight_text",
        "depth_text", "fee_text", "lesson_legs", "lesson_surprise", "lesson_edge", "lesson_factor",
    )  # fmt: skip

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return lookup in {"hour__day", "hour__month", "hour__year"} or super().lookup_allowed(lookup, value, request)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        # Read once for the page, not once a row.
        found = market_lessons()
        for row in page.result_list:
            row.lesson_now = found.get(_market(row))
        return page

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            row.lesson_now = market_lessons().get(_market(row))
        return row

    @display(description="Hour", ordering="hour")
    def hour_text(self, row: SlippageStat) -> SafeString:
        return format_html('<span class="whitespace-nowrap">{}</span>', f"{row.hour:%Y-%m-%d %H:%M} UTC")

    @display(description="Before (expected)")
    def before(self, row: SlippageStat) -> str:
        return _mean(row.expected, row)

    @display(description="After (realised)")
    def after(self, row: SlippageStat) -> str:
        return _mean(row.realised, row)

    @display(description="Surprise", ordering="surprise")
    def surprise_text(self, row: SlippageStat) -> str:
        return _mean(row.surprise, row)

    @display(description="Standard error of the surprise")
    def uncertainty(self, row: SlippageStat) -> str:
        if row.legs < 2:
            return "one leg has none"
        return f"{rollup_of(row.legs, row.surprise, row.squares).standard_error_bps:.2f}"

    @display(description="Before sending")
    def before_send_text(self, row: SlippageStat) -> str:
        return _mean(row.before_send, row)

    @display(description="In flight")
    def in_flight_text(self, row: SlippageStat) -> str:
        return _mean(row.in_flight, row)

    @display(description="Depth")
    def depth_text(self, row: SlippageStat) -> str:
        return _mean(row.depth, row)

    @display(description="Fee")
    def fee_text(self, row: SlippageStat) -> str:
        return _mean(row.fee, row)

    @display(description="Learned now")
    def lesson(self, row: SlippageStat) -> SafeString | str:
        now = _lesson(row)
        if now is None:
            return "too long ago"
        edge, factor = now.learned.extra_edge_bps, now.learned.threshold_factor
        text = f"+{edge:.2f} bps, × {factor:.2f}" if now.suffices else f"{now.rollup.count} legs: too few"
        return label(text, GOOD if now.suffices else WAITING)

    @display(description="Legs")
    def lesson_legs(self, row: SlippageStat) -> str:
        now = _lesson(row)
        if now is None:
            return "none in the days looked back on"
        return f"{now.rollup.count}, {'enough' if now.suffices else 'too few'} to learn from"

    @display(description="Average surprise")
    def lesson_surprise(self, row: SlippageStat) -> str:
        now = _lesson(row)
        if now is None:
            return EMPTY
        error = now.rollup.standard_error_bps
        spread = f" ± {error:.2f}" if now.rollup.count > 1 else ""
        return f"{now.rollup.mean_bps:.2f}{spread} bps"

    @display(description="Edge demanded on top")
    def lesson_edge(self, row: SlippageStat) -> str:
        now = _lesson(row)
        return EMPTY if now is None else f"{now.learned.extra_edge_bps:.2f} bps"

    @display(description="Factor on the allowed slippage")
    def lesson_factor(self, row: SlippageStat) -> str:
        now = _lesson(row)
        return EMPTY if now is None else f"{now.learned.threshold_factor:.2f}"


def _market(row: SlippageStat) -> str:
    return f"{row.exchange}:{row.pair}"


def _lesson(row: SlippageStat) -> Any:
    return getattr(row, "lesson_now", None)


def _mean(units: int, row: SlippageStat) -> str:
    return f"{bps(units, row.legs):.2f}" if row.legs else EMPTY
