"""Exchanges, pairs and markets: shared rows that operators keep."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display

from bots.admin.base import ChoicesFilter, PlatformAdmin, ReadOnlyAdmin, ScopedRelatedFilter, ServiceAdmin, ServiceForm
from bots.admin.display import ENVIRONMENTS, age, amount, state
from bots.models import Exchange, Market, TradingPair
from bots.services.exchanges import exchange_create, exchange_update
from bots.services.markets import markets_request


class ExchangeForm(ServiceForm):
    class Meta:
        model = Exchange
        fields = ("code", "name", "ccxt_id", "environment", "urls", "enabled")

    def perform(self, actor: Any) -> Exchange:
        values = dict(self.cleaned_data)
        if self.instance.pk is None:
            exchange = exchange_create(actor=actor, **values)
            markets_request(exchange=exchange, actor=actor)
            return exchange
        values.pop("code", None)
        return exchange_update(exchange=Exchange.objects.get(pk=self.instance.pk), actor=actor, **values)


@admin.register(Exchange)
class ExchangeAdmin(ServiceAdmin):
    owner_path = None
    form = ExchangeForm
    ordering = ("code",)  # a query that groups has no default order
    list_display = ("name", "code", "ccxt_id", "environment_badge", "enabled", "market_count", "markets_age")
    list_filter = (("environment", ChoicesFilter), "enabled")
    search_fields = ("code", "name", "ccxt_id")
    actions = ("markets_load",)
    change_form_outer_before_template = "admin/bots/exchange/buttons.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(listed=Count("markets", filter=Q(markets__active=True)))

    def get_readonly_fields(self, request: HttpRequest, obj: Exchange | None = None) -> Any:
        # The code is part of every market's key, so it stays.
        return ("code", "markets_note", "markets_age") if obj is not None else ()

    def get_fields(self, request: HttpRequest, obj: Exchange | None = None) -> Any:
        fields = ExchangeForm.Meta.fields
        return (*fields, ("markets_note", "markets_age")) if obj is not None else fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # its history refers to it: disable it instead

    @display(description="Environment", ordering="environment")
    def environment_badge(self, exchange: Exchange) -> SafeString:
        return state(exchange, "environment", ENVIRONMENTS)

    @display(description="Active markets", ordering="listed")
    def market_count(self, exchange: Exchange) -> int:
        return exchange.listed

    @display(description="Markets loaded", ordering="markets_asked_at")
    def markets_age(self, exchange: Exchange) -> Any:
        return age(exchange.markets_asked_at)

    @admin.action(description="Load the markets of the selected exchanges", permissions=["change"])
    def markets_load(self, request: HttpRequest, queryset: Any) -> None:
        for exchange in queryset:
            self._load(request, exchange)

    @method_decorator(require_POST)
    def markets_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self._load(request, self.get_or_404(request, object_id))
        return self.back_to(request)

    def _load(self, request: HttpRequest, exchange: Exchange) -> None:
        markets_request(exchange=exchange, actor=request.user)
        self.message_user(request, f"The markets of {exchange} are being loaded.", messages.SUCCESS)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.markets_view)
        return [path("<path:object_id>/markets/", view, name="bots_exchange_markets"), *super().get_urls()]


@admin.register(TradingPair)
class TradingPairAdmin(PlatformAdmin):
    owner_path = None
    list_display = ("__str__", "base", "quote")
    list_filter = (("quote", ScopedRelatedFilter),)
    search_fields = ("base__code", "quote__code")
    autocomplete_fields = ("base", "quote")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        # People type the pair as it is written.
        return super().get_search_results(request, queryset, search_term.replace("/", " "))


@admin.register(Market)
class MarketAdmin(ReadOnlyAdmin):
    """Markets come from the exchanges; editing one here would be undone by the next synchronisation."""

    owner_path = None
    list_display = (
        "symbol", "exchange", "kind", "tick_size", "lot_size", "least", "fees", "active", "synced",
    )  # fmt: skip
    list_filter = (("exchange", ScopedRelatedFilter), ("kind", ChoicesFilter), "active", ("quote", ScopedRelatedFilter))
    search_fields = ("symbol", "native_id")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("exchange")

    @display(description="Tick", ordering="tick")
    def tick_size(self, market: Market) -> str:
        return amount(market.tick)

    @display(description="Lot", ordering="lot")
    def lot_size(self, market: Market) -> str:
        return amount(market.lot)

    @display(description="Minimum notional", ordering="min_notional")
    def least(self, market: Market) -> str:
        return amount(market.min_notional, market.quote_id)

    @display(description="Fees, taker / maker")
    def fees(self, market: Market) -> str:
        return f"{amount(market.taker_fee * 10_000)} / {amount(market.maker_fee * 10_000)} bps"

    @display(description="Synchronised", ordering="synced_at")
    def synced(self, market: Market) -> Any:
        return age(market.synced_at)
