"""Bots: form, list with start and stop, and what each of them does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_POST
from unfold.decorators import display

from bots.admin.base import ChoicesFilter, ScopedRelatedFilter, ServiceAdmin, ServiceForm
from bots.admin.display import BOT_STATES, GOOD, MODES, age, link, rounded, state
from bots.models import UNFINISHED_TRADES, BasisPosition, Bot, Trade, sees_everything
from bots.selectors import profits_since
from bots.services.bots import PARAMETERS, bot_create, bot_delete, bot_start, bot_stop, bot_update
from bots.services.tradability import bot_routes
from risk.rules import RULES
from risk.selectors import limit_bounds, limits_binding, pairs_allowed

_BUTTON = "border border-base-200 cursor-pointer font-medium px-2 py-1 rounded-default text-xs dark:border-base-700"


class BotForm(ServiceForm):
    """A bot as its owner edits it."""

    class Meta:
        model = Bot
        fields = ("owner", "name", "strategy", "mode", "pairs", "accounts", *sorted(PARAMETERS))

    def perform(self, actor: Any) -> Bot:
        values = dict(self.cleaned_data)
        owner = values.pop("owner", None) or actor
        if self.instance.pk is None:
            return bot_create(owner=owner, actor=actor, **values)
        # The row as stored: the form's own instance already carries what was typed.
        return bot_update(bot=Bot.objects.get(pk=self.instance.pk), actor=actor, **values)


@admin.register(Bot)
class BotAdmin(ServiceAdmin):
    form = BotForm
    list_display = (
        "name", "owner", "observed", "desired", "mode_badge", "pair_count", "account_list", "trade_count", "profit",
        "seen", "buttons",
    )  # fmt: skip
    list_filter = (
        ("observed_state", ChoicesFilter),
        ("desired_state", ChoicesFilter),
        ("mode", ChoicesFilter),
        ("accounts__exchange", ScopedRelatedFilter),
        ("owner", ScopedRelatedFilter),
    )
    search_fields = ("name", "owner__username")
    autocomplete_fields = ("pairs", "accounts")
    actions = ("bots_start", "bots_stop")
    readonly_fields = (
        "observed", "observed_reason", "pairs_held", "routes_left_out", "seen", "desired", "limits_that_bind",
        "created_at", "updated_at",
    )  # fmt: skip
    change_form_outer_before_template = "admin/bots/bot/buttons.html"
    fieldsets = (
        (None, {"fields": ("owner", "name", ("strategy", "mode"), "pairs", "accounts")}),
        ("State", {"fields": (("observed", "desired", "seen"), "observed_reason", "pairs_held", "routes_left_out")}),
        (
            "What to trade",
            {
                "fields": (
                    ("min_net_edge_bps", "max_edge_bps"),
                    ("max_trade_notional", "max_open_trades"),
                    "require_open_wallets",
                )
            },
        ),
        (
            "How to trade",
            {
                "fields": (
                    ("leg_policy", "price_tolerance_bps"),
                    ("max_book_age_ms", "order_timeout_ms"),
                    ("limit_buy_seconds", "limit_sell_seconds"),
                    "cooldown_ms",
                )
            },
        ),
        (
            "When legs fill unequally",
            {
                "fields": (
                    ("repair_tolerance_bps", "completion_seconds"),
                    ("unwind_tolerance_bps", "unwind_seconds"),
                    ("adaptive_completion", "max_repair_loss"),
                )
            },
        ),
        (
            "Spot against a perpetual",
            {
                "description": "For that strategy. The minimum net edge is its entry edge, the maximum trade notional "
                "its largest size.",
                "fields": (
                    ("basis_exit_bps", "basis_slippage_bps"),
                    ("basis_min_funding_bps", "basis_funding_hours"),
                    ("basis_max_hold_hours", "basis_leverage"),
                    ("basis_min_liquidation_bps", "basis_close_orphan"),
                ),
            },
        ),
        ("Limits", {"fields": ("limits_that_bind",)}),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        trades = Trade.objects.filter(bot=OuterRef("pk")).order_by().values("bot").annotate(count=Count("pk"))
        unfinished = trades.filter(state__in=UNFINISHED_TRADES)
        return (
            super()
            .get_queryset(request)
            .select_related("owner")
            .prefetch_related("pairs", "accounts__exchange")
            .annotate(trades_all=Subquery(trades.values("count")), trades_open=Subquery(unfinished.values("count")))
        )

    def get_fieldsets(self, request: HttpRequest, obj: Bot | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            fieldsets = tuple(item for item in fieldsets if item[0] not in {"State", "Limits"})
        if sees_everything(request.user):
            return fieldsets
        own = (None, {"fields": tuple(name for name in fieldsets[0][1]["fields"] if name != "owner")})
        return (own, *fieldsets[1:])

    def get_readonly_fields(self, request: HttpRequest, obj: Bot | None = None) -> Any:
        return (*self.readonly_fields, "owner") if obj is not None else self.readonly_fields

    # --- columns -----------------------------------------------------------------------------------------------

    @display(description="Observed", ordering="observed_state")
    def observed(self, bot: Bot) -> SafeString:
        return state(bot, "observed_state", BOT_STATES)

    @display(description="Pairs held")
    def pairs_held(self, bot: Bot) -> SafeString | str:
        """List the spot-against-perpetual trades it holds: entry edge, funding, and what closing would earn."""
        pairs = BasisPosition.objects.filter(trade__bot=bot, trade__state__in=UNFINISHED_TRADES)
        rows = [(link(pair.trade), pair.trade.reason) for pair in pairs.select_related("trade")]
        return format_html_join("", "<div>{}: {}</div>", rows) if rows else "none"

    @display(description="Routes not traded")
    def routes_left_out(self, bot: Bot) -> SafeString | str:
        routes = bot_routes(bot)
        rows = [(route.replace(">", " to "), why) for route, why in routes.untradable.items()]
        rows += [(route.replace(">", " to "), f"Not with real money. {why}") for route, why in routes.unproven.items()]
        return format_html_join("", "<div><b>{}</b>: {}</div>", rows) if rows else "none"

    @display(description="Limits that bind")
    def limits_that_bind(self, bot: Bot) -> SafeString:
        """List what holds for the bot, rule by rule, and whose limit or setting it is."""
        exchanges = [account.exchange.code for account in bot.accounts.all()]
        bounds = limit_bounds(
            owner_id=bot.owner_id, bot_id=bot.pk, exchanges=exchanges, pairs=[str(pair) for pair in bot.pairs.all()]
        )
        own = {name: getattr(bot, name, None) for name in RULES}
        rows = [
            (
                f"{binding.rule.label} ({binding.where})" if binding.where else binding.rule.label,
                binding.rule.text(binding.value),
                binding.source,
            )
            for binding in limits_binding(bounds, own)
        ]
        if allowed := pairs_allowed(owner_id=bot.owner_id, bot_id=bot.pk):
            rows.append(("Allowed pairs", ", ".join(sorted(allowed.pairs)) or "none", allowed.source))
        return format_html_join("", "<div><b>{}</b>: {} <small>({})</small></div>", rows)

    @display(description="Desired", ordering="desired_state")
    def desired(self, bot: Bot) -> SafeString:
        return state(bot, "desired_state", {"running": GOOD})

    @display(description="Mode", ordering="mode")
    def mode_badge(self, bot: Bot) -> SafeString:
        return state(bot, "mode", MODES)

    @display(description="Pairs")
    def pair_count(self, bot: Bot) -> int:
        return len(bot.pairs.all())

    @display(description="Exchanges")
    def account_list(self, bot: Bot) -> str:
        return ", ".join(str(account.exchange) for account in bot.accounts.all())

    @display(description="Trades")
    def trade_count(self, bot: Bot) -> SafeString | str:
        if not bot.trades_all:
            return "0"
        text = f"{bot.trades_all} ({bot.trades_open} open)" if bot.trades_open else str(bot.trades_all)
        address = f"{reverse('admin:bots_trade_changelist')}?bot__id__exact={bot.pk}"
        return format_html('<a href="{}">{}</a>', address, text)

    @display(description="Profit, 24 h")
    def profit(self, bot: Bot) -> SafeString | str:
        profits = profits_since(bot.profits.all(), timezone.now() - timedelta(hours=24))
        figures = [
            (rounded(total, quote, sign=True), mode) for mode, sums in profits.items() for quote, total in sums.items()
        ]
        return format_html_join(mark_safe("<br>"), "{} <small>{}</small>", figures) or rounded(None)

    @display(description="Seen", ordering="observed_at")
    def seen(self, bot: Bot) -> Any:
        return age(bot.observed_at)

    @display(description="")
    def buttons(self, bot: Bot) -> SafeString:
        # A submit button of the list's own form: one click, a POST, with its CSRF token.
        verb = "stop" if bot.desired_state == Bot.Desired.RUNNING else "start"
        return format_html(
            '<button type="submit" formmethod="post" formaction="{}" class="{}" title="{} {}">{}</button>',
            reverse(f"admin:bots_bot_{verb}", args=[bot.pk]), _BUTTON, verb.capitalize(), bot.name, verb.capitalize(),
        )  # fmt: skip

    # --- start and stop ------------------------------------------------------------------------------------------

    @admin.action(description="Start the selected bots", permissions=["change"])
    def bots_start(self, request: HttpRequest, queryset: Any) -> None:
        for bot in queryset:
            self._act(request, bot, bot_start, "started")

    @admin.action(description="Stop the selected bots", permissions=["change"])
    def bots_stop(self, request: HttpRequest, queryset: Any) -> None:
        for bot in queryset:
            self._act(request, bot, bot_stop, "stopped")

    @method_decorator(require_POST)
    def start_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self._act(request, self.get_or_404(request, object_id), bot_start, "started")
        return self.back_to(request)

    @method_decorator(require_POST)
    def stop_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self._act(request, self.get_or_404(request, object_id), bot_stop, "stopped")
        return self.back_to(request)

    def _act(self, request: HttpRequest, bot: Bot, service: Callable[..., bool], done: str) -> None:
        if not self.has_change_permission(request, bot):
            raise PermissionDenied
        try:
            changed = service(bot=bot, actor=request.user)
        except ValidationError as problem:
            self.message_user(request, " ".join(problem.messages), messages.ERROR)
            return
        text = f"{bot.name} is being {done}." if changed else f"{bot.name} was {done} already."
        self.message_user(request, text, messages.SUCCESS if changed else messages.INFO)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/start/", view(self.start_view), name="bots_bot_start"),
            path("<path:object_id>/stop/", view(self.stop_view), name="bots_bot_stop"),
            *super().get_urls(),
        ]

    def delete_by_service(self, request: HttpRequest, obj: Bot) -> None:
        bot_delete(bot=obj, actor=request.user)
