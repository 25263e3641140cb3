"""How the admin looks: its name, its sidebar by task, its landing page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import reverse_lazy


def _may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def _page(title: str, icon: str, model: str) -> dict[str, Any]:
    """Return a sidebar entry for a model's list, shown to those who may view it."""
    app, name = model.split(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": _may(f"{app}.view_{name}"),
    }


def _counted(title: str, icon: str, model: str, state: str, badge: str) -> dict[str, Any]:
    """Return a sidebar entry for rows in a state that waits for somebody, with their count."""
    address = _page(title, icon, model)["link"]
    return {
        **_page(title, icon, model),
        "link": lambda request: f"{address}?state__exact={state}",
        "badge": f"bots.admin.dashboard.{badge}_badge",
        "badge_variant": "info",
    }


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Arbitrage platform",
    "SITE_HEADER": "Arbitrage platform",
    "SITE_SYMBOL": "swap_horiz",
    "SITE_URL": "/live/",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": True,
    "DASHBOARD_CALLBACK": "bots.admin.dashboard.dashboard",
    "COLORS": {
        "primary": {
            "50": "oklch(97.7% .013 236.62)",
            "100": "oklch(95.1% .026 236.824)",
            "200": "oklch(90.1% .058 230.902)",
            "300": "oklch(82.8% .111 230.318)",
            "400": "oklch(74.6% .16 232.661)",
            "500": "oklch(68.5% .169 237.323)",
            "600": "oklch(58.8% .158 241.966)",
            "700": "oklch(50% .134 242.749)",
            "800": "oklch(44.3% .11 240.79)",
            "900": "oklch(39.1% .09 240.876)",
            "950": "oklch(29.3% .066 243.157)",
        }
    },
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "Trading",
                "separator": True,
                "items": [
                    {"title": "Live page", "icon": "monitoring", "link": "/live/"},
                    {"title": "Why no trades?", "icon": "filter_alt", "link": "/why/"},
                    _page("Bots", "smart_toy", "bots.bot"),
                    _page("Accounts", "key", "bots.exchangeaccount"),
                    _page("Balances", "account_balance_wallet", "bots.balance"),
                    _page("Positions", "stacked_line_chart", "bots.position"),
                    _page("Trades", "swap_horiz", "bots.trade"),
                    _page("Basis positions", "compare_arrows", "bots.basisposition"),
                    _page("Orders", "receipt_long", "bots.order"),
                    _page("Fills", "done_all", "bots.fill"),
                    _counted("Disputed orders", "gavel", "bots.order", "DISPUTED", "disputed"),
                    _counted("Differences", "difference", "bots.difference", "open", "differences"),
                    _counted("Rebalancing", "sync_alt", "risk.rebalancerequest", "PROPOSED", "rebalancing"),
                    _page("Decisions", "rule", "bots.decision"),
                    _page("Ledger", "menu_book", "bots.ledgerentry"),
                    _page("Funding", "payments", "bots.income"),
                ],
            },
            {
                "title": "Markets",
                "separator": True,
                "items": [
                    _page("Exchanges", "storefront", "bots.exchange"),
                    _page("Markets", "candlestick_chart", "bots.market"),
                    _page("Pairs", "link", "bots.tradingpair"),
                    _page("Assets", "toll", "bots.asset"),
                    _page("Assets on exchanges", "fingerprint", "bots.listedasset"),
                ],
            },
            {
                "title": "Risk",
                "separator": True,
                "items": [
                    _page("Circuit breakers", "electrical_services", "risk.circuitbreaker"),
                    _page("Breakers' history", "history_toggle_off", "risk.breakerevent"),
                    _page("Breakers' settings", "tune", "risk.breakersettings"),
                    _page("Trading switch", "power_settings_new", "risk.tradingswitch"),
                    _page("Limits", "speed", "risk.risklimit"),
                    _page("Allowed pairs", "checklist", "risk.allowedpair"),
                    _page("Slippage", "call_made", "risk.slippagestat"),
                    _page("Sizing", "straighten", "risk.sizingsettings"),
                    _page("Scoring", "balance", "risk.scoringsettings"),
                    _page("Allowed slippage", "trending_down", "risk.slippagesettings"),
                    _page("Rebalancing settings", "tune", "risk.rebalancesettings"),
                ],
            },
            {
                "title": "System",
                "separator": True,
                "collapsible": True,
                "items": [
                    _page("Commands", "terminal", "bots.command"),
                    _page("API tokens", "vpn_key", "bots.apitoken"),
                    _page("Leases", "lock_clock", "bots.ownerlease"),
                    _page("Installation", "fingerprint", "bots.installation"),
                    _page("Audit log", "history", "admin.logentry"),
                    _page("Users", "person", "auth.user"),
                    _page("Groups", "group", "auth.group"),
                    _page("Schedules", "schedule", "django_celery_beat.periodictask"),
                ],
            },
        ],
    },
}
