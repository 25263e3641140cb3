"""The admin's landing page: what is running, what it earned, what needs somebody."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from bots.admin.display import BOT_STATES, TRADE_STATES, age, link, rounded, route, state
from bots.models import Bot, Difference, Order, ProfitTotal, Trade, sees_everything
from bots.selectors import profits_since
from risk.models import RebalanceRequest

ROWS = 10
DISPUTED = "?state__exact=DISPUTED"
OPEN = "?state__exact=open"


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the cards of a user's own rows, or of everybody's for operators; ten indexed queries."""
    day = timezone.now() - timedelta(hours=24)
    bots = Bot.objects.for_user(request.user)
    trades = Trade.objects.for_user(request.user)
    orders = Order.objects.for_user(request.user).unfinished()
    exposed = trades.filter(state=Trade.State.EXPOSED).count()
    running = bots.filter(observed_state=Bot.Observed.RUNNING).count()
    troubled = bots.filter(observed_state__in=[Bot.Observed.BLOCKED, Bot.Observed.FAILED]).count()
    profits = profits_since(ProfitTotal.objects.for_user(request.user), day)
    unresolved = orders.count()
    disputed = disputed_count(request)
    differences = differences_count(request)

    cards = [
        _card("Bots running", f"{running} of {bots.count()}", f"{troubled} in trouble", "bot", alarm=bool(troubled)),
        _card("Trades, 24 h", trades.filter(opened_at__gte=day).count(), "opened", "trade"),
        *(
            _card(
                f"Profit, 24 h, {quote}, {mode}",
                rounded(total, sign=True),
                "after fees",
                "trade",
                f"?mode__exact={mode}",
            )
            for mode, sums in profits.items()
            for quote, total in sums.items()
        ),
        _card("Unresolved orders", unresolved, "not in a final state", "order"),
        _card("Disputed orders", disputed, "wait for a decision", "order", DISPUTED, alarm=disputed > 0),
        _card("Differences", differences, "between books and exchanges", "difference", OPEN, alarm=differences > 0),
        _card(
            "Exposed trades", exposed, "hold something unhedged", "trade", "?state__exact=EXPOSED", alarm=exposed > 0
        ),
    ]
    scope = "everybody" if sees_everything(request.user) else request.user.get_username()
    return {
        **context,
        "title": "Overview",
        "cards": cards,
        "cards_scope": scope,
        "bot_table": _bot_table(bots.select_related("owner").order_by("observed_state", "name")[:ROWS]),
        "trade_table": _trade_table(trades.select_related("bot", "owner").order_by("-id")[:ROWS]),
    }


def disputed_count(request: HttpRequest) -> int:
    """Return how many of a user's orders wait for a decision."""
    return Order.objects.for_user(request.user).disputed().count()


def differences_count(request: HttpRequest) -> int:
    """Return how many differences between a user's books and the exchanges are open."""
    return Difference.objects.for_user(request.user).filter(state=Difference.State.OPEN).count()


def disputed_badge(request: HttpRequest) -> str:
    """Return the sidebar's count of disputed orders."""
    return str(disputed_count(request))


def differences_badge(request: HttpRequest) -> str:
    """Return the sidebar's count of open differences."""
    return str(differences_count(request))


def rebalancing_badge(request: HttpRequest) -> str:
    """Return the sidebar's count of proposals to rebalance that wait for a decision."""
    rows = RebalanceRequest.objects.filter(state=RebalanceRequest.State.PROPOSED)
    return str((rows if sees_everything(request.user) else rows.filter(owner=request.user.pk)).count())


def _bot_table(bots: Iterable[Bot]) -> dict[str, Any]:
    rows = [
        [link(bot), bot.owner, state(bot, "observed_state", BOT_STATES), bot.observed_reason, age(bot.observed_at)]
        for bot in bots
    ]
    return {"headers": ["Bot", "Owner", "State", "Why", "Since"], "rows": rows}


def _trade_table(trades: Iterable[Trade]) -> dict[str, Any]:
    rows = [
        [link(trade), trade.bot, route(trade.route), state(trade, "state", TRADE_STATES),
         rounded(trade.realised_profit, trade.quote, sign=True), age(trade.opened_at)]
        for trade in trades
    ]  # fmt: skip
    return {"headers": ["Trade", "Bot", "Route", "State", "Profit", "Age"], "rows": rows}


def _card(title: str, value: object, note: str, page: str, query: str = "", *, alarm: bool = False) -> dict[str, Any]:
    address = reverse(f"admin:bots_{page}_changelist") + query
    return {"title": title, "value": value, "note": note, "href": address, "alarm": alarm}
