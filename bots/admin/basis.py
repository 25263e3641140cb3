"""Pairs of spot and a perpetual: read only, but for the button that closes one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display

from bots.admin.base import ReadOnlyAdmin, ScopedRelatedFilter
from bots.admin.display import EMPTY, GOOD, age, amount, badge, link, moment, named_values, rounded
from bots.admin.tickets import CLOSABLE, close_ask, close_button
from bots.models import BasisPosition
from trading.messages import TradeState


@admin.register(BasisPosition)
class BasisPositionAdmin(ReadOnlyAdmin):
    list_display = (
        "number", "owner", "markets", "trade_state", "held_amount", "entry_edge", "funding_amount", "exit_edge",
        "seen", "created", "close_button",
    )  # fmt: skip
    list_filter = (
        ("perp__exchange", ScopedRelatedFilter), ("trade__bot", ScopedRelatedFilter), "created_at",
        ("owner", ScopedRelatedFilter),
    )  # fmt: skip
    search_fields = ("trade__trade_id", "spot__symbol", "trade__bot__name")
    date_hierarchy = "created_at"
    fieldsets = (
        (None, {"fields": (("trade_link", "owner"), ("markets", "trade_state"), "trade_reason")}),
        (
            "Stands",
            {
                "fields": (
                    ("held_amount", "funding_amount"),
                    ("spot_entry", "perp_entry"),
                    ("entry_edge", "exit_edge", "seen"),
                    ("outside_amount", "why_closed"),
                )
            },
        ),
        ("Entered on", {"fields": ("rate", "rule_values")}),
    )
    readonly_fields = (
        "trade_link", "markets", "trade_state", "trade_reason", "held_amount", "funding_amount", "spot_entry",
        "perp_entry", "entry_edge", "exit_edge", "seen", "outside_amount", "why_closed", "rate", "rule_values",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        related = ("trade__bot", "owner", "spot__exchange", "perp__exchange")
        return super().get_queryset(request).select_related(*related)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.close)
        return [path("<path:object_id>/close/", view, name="bots_basisposition_close"), *super().get_urls()]

    @method_decorator(require_POST)
    def close(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask the engine to close a pair, both legs at once."""
        pair = self.get_object(request, object_id)
        if not isinstance(pair, BasisPosition) or not self.has_view_permission(request, pair):
            raise PermissionDenied
        close_ask(request, pair.trade, order="market", what=f"{pair.spot.symbol} against {pair.perp.symbol}")
        return HttpResponseRedirect(reverse("admin:bots_basisposition_changelist"))

    @display(description="No.", ordering="pk")
    def number(self, pair: BasisPosition) -> str:
        return f"#{pair.pk}"

    @display(description="Trade")
    def trade_link(self, pair: BasisPosition) -> Any:
        return link(pair.trade)

    @display(description="Markets", ordering="spot__symbol")
    def markets(self, pair: BasisPosition) -> SafeString:
        spot, perp = pair.spot, pair.perp
        return format_html(
            "{} <small>{}</small><br>{} <small>{}</small>",
            spot.symbol, spot.exchange.code, perp.symbol, perp.exchange.code,
        )  # fmt: skip

    @display(description="State", ordering="trade__state")
    def trade_state(self, pair: BasisPosition) -> Any:
        return badge(pair.trade.get_state_display(), GOOD if pair.trade.state == TradeState.HOLDING else "")

    @display(description="How it stands")
    def trade_reason(self, pair: BasisPosition) -> str:
        return pair.trade.reason or EMPTY

    @display(description="Held", ordering="held")
    def held_amount(self, pair: BasisPosition) -> Any:
        return amount(pair.held, pair.trade.base)

    @display(description="Spot entry")
    def spot_entry(self, pair: BasisPosition) -> Any:
        return amount(pair.spot_price)

    @display(description="Perpetual's entry")
    def perp_entry(self, pair: BasisPosition) -> Any:
        return amount(pair.perp_price)

    @display(description="Entry edge, bps", ordering="entry_bps")
    def entry_edge(self, pair: BasisPosition) -> Any:
        return rounded(pair.entry_bps)

    @display(description="Exit edge, bps", ordering="exit_bps")
    def exit_edge(self, pair: BasisPosition) -> Any:
        return rounded(pair.exit_bps)

    @display(description="Funding", ordering="funding")
    def funding_amount(self, pair: BasisPosition) -> SafeString:
        word = "estimated" if pair.is_estimated else ""
        return format_html("{} <small>{}</small>", rounded(pair.funding, pair.trade.quote, sign=True), word)

    @display(description="Exit edge seen", ordering="exit_at")
    def seen(self, pair: BasisPosition) -> Any:
        return age(pair.exit_at)

    @display(description="Closed by others")
    def outside_amount(self, pair: BasisPosition) -> Any:
        return amount(pair.outside) if pair.outside else EMPTY

    @display(description="Being closed, because")
    def why_closed(self, pair: BasisPosition) -> str:
        return pair.closing["cause"] if pair.closing else EMPTY

    @display(description="Funding rate then")
    def rate(self, pair: BasisPosition) -> str:
        return f"{pair.funding_rate * 10_000:.2f} bps an interval"

    @display(description="Rules")
    def rule_values(self, pair: BasisPosition) -> Any:
        return named_values(pair.rules)

    @display(description="Created", ordering="created_at")
    def created(self, pair: BasisPosition) -> Any:
        return moment(pair.created_at)

    @display(description="")
    def close_button(self, pair: BasisPosition) -> SafeString | str:
        if pair.trade.state not in CLOSABLE:
            return ""
        return close_button(reverse("admin:bots_basisposition_close", args=[pair.pk]))
