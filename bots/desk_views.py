"""The pages of the trading desk: the live dashboard and the panel for trading by hand."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from bots import selectors
from bots.models import Bot, ExchangeAccount
from bots.selectors.desks import desk_accounts
from bots.views import whose
from risk.services.rebalancing import PROPOSE

MODES = {"paper": "Paper", "live": "Live"}
MAX_SEARCH = 64


@never_cache
@require_GET
@login_required(login_url=reverse_lazy("sign-in"))
def desk(request: HttpRequest) -> HttpResponse:
    """Show the live dashboard of one ``mode``: one's own, or for operators the one of ``owner`` (a user id)."""
    return _page(request, "desk/desk.html", live_first=lambda bots: bots.exists())


@never_cache
@require_GET
@login_required(login_url=reverse_lazy("sign-in"))
def trade(request: HttpRequest) -> HttpResponse:
    """Show the panel for trading by hand. Only the owner trades; an operator sees another's positions.

    Without ``mode`` it is paper, unless the owner has started trading live by hand.
    """
    started = {"strategy": Bot.Strategy.MANUAL, "desired_state": Bot.Desired.RUNNING}
    return _page(request, "desk/trade.html", live_first=lambda bots: bots.filter(**started).exists())


@never_cache
@require_GET
@login_required(login_url=reverse_lazy("sign-in"))
def rebalancing(request: HttpRequest) -> HttpResponse:
    """Show requests to rebalance: one's own, or for operators those of ``owner`` (a user id)."""
    owner, owners = whose(request)
    if owner is None:
        return redirect(f"{request.path}?owner={owners[0].pk}")
    may_propose = request.user.is_staff and request.user.has_perm(PROPOSE)
    context = {"owner": owner, "owners": owners, "mode": settings.ARB_SHAPE, "may_propose": may_propose}
    return render(request, "desk/rebalancing.html", context)


def _page(request: HttpRequest, template: str, *, live_first: Callable[[QuerySet[Bot]], bool]) -> HttpResponse:
    owner, owners = whose(request)
    if owner is None:
        return redirect(f"{request.path}?{urlencode({**request.GET.dict(), 'owner': owners[0].pk})}")
    mode = request.GET.get("mode")
    if mode is None:
        mode = "live" if live_first(Bot.objects.filter(owner=owner, mode=Bot.Mode.LIVE)) else "paper"
    if mode not in MODES:
        raise Http404("There is no such mode: it is paper or live.")
    context = {
        "owner": owner,
        "owners": owners,
        "own": owner.pk == request.user.pk,
        "mode": settings.ARB_SHAPE,
        "trading_mode": mode,
        "trading_modes": MODES,
        "live_allowed": settings.ARB_ALLOW_LIVE_ORDERS,
        "accounts": desk_accounts(owner_id=owner.pk, mode=mode),
        "manual_bot": Bot.objects.filter(owner=owner, mode=mode, strategy=Bot.Strategy.MANUAL).first(),
    }
    return render(request, template, context)


@never_cache
@require_GET
def markets(request: HttpRequest) -> HttpResponse:
    """Answer the markets of one of the user's accounts (``account``, its id) that are like ``search``."""
    if not request.user.is_authenticated:
        return _refusal("Your session has ended; sign in again.", 401)
    account = ExchangeAccount.objects.filter(owner_id=request.user.pk, pk=_id(request.GET.get("account"))).first()
    if account is None:
        return _refusal("account: there is no such account of yours.", 404)
    found = selectors.manual_markets(account=account, search=request.GET.get("search", "")[:MAX_SEARCH].strip())
    return JsonResponse({"markets": found})


def _refusal(sentence: str, status: int) -> HttpResponse:
    return JsonResponse({"error": sentence}, status=status)


def _id(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) <= 18 else None
