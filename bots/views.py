"""The pages users see, and what their buttons do."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from bots import live_snapshot, selectors
from bots.models import Bot
from bots.models.base import sees_everything
from bots.services.bots import bot_start, bot_stop
from risk.services.breaker_operations import OPERATE
from risk.services.switch import SET

MAX_OWNERS = 500


class SignInView(LoginView):
    """Sign-in with a look of its own; the admin's form accepts staff only."""

    next_page = reverse_lazy("live")


@never_cache
@require_GET
@login_required(login_url=reverse_lazy("sign-in"))
def live(request: HttpRequest) -> HttpResponse:
    """Show the live desk: one's own, or for operators the one asked for by ``owner`` (a user id)."""
    owner, owners = whose(request)
    if owner is None:
        return redirect(f"{request.path}?owner={owners[0].pk}")
    may = {
        "breakers": request.user.has_perm(OPERATE),
        "switch": request.user.has_perm(SET),
        "everybody": sees_everything(request.user),
    }
    own = owner.pk == request.user.pk  # who alone closes what is held
    context = {"owner": owner, "owners": owners, "own": own, "mode": settings.ARB_SHAPE, "may": may}
    return render(request, "live/live.html", context)


@never_cache
@require_GET
@login_required(login_url=reverse_lazy("sign-in"))
def why(request: HttpRequest) -> HttpResponse:
    """Show why so few trades were made: of one's own bots, or for operators of those asked for by ``owner``.

    ``period`` is one of :data:`selectors.PERIODS`, ``bot`` the id of one of the owner's bots.
    """
    owner, owners = whose(request)
    if owner is None:
        return redirect(f"{request.path}?owner={owners[0].pk}")
    period = request.GET.get("period", "today")
    if period not in selectors.PERIODS:
        raise Http404("There is no such period.")
    bots = list(Bot.objects.filter(owner=owner).order_by("name"))
    bot = None
    if wanted := request.GET.get("bot"):
        bot = next((one for one in bots if str(one.pk) == wanted), None)
        if bot is None:
            raise Http404("There is no such bot on this desk.")
    report = selectors.why_report(owner_id=owner.pk, start=selectors.period_start(period), bot=bot)
    context = {
        "owner": owner, "owners": owners, "bots": bots, "bot": bot, "period": period, "periods": selectors.PERIODS,
        "report": report,
    }  # fmt: skip
    return render(request, "why/why.html", context)


def whose(request: HttpRequest) -> tuple[Any, list[Any]]:
    """Return whose desk is asked for (by ``owner``, a user id) and whose an operator may choose.

    None for an operator who has asked for nobody's and has no bots: then the first of the others is to be shown.
    """
    requested = request.GET.get("owner")
    owner = live_snapshot.find_owner(user=request.user, requested=requested)
    if owner is None:
        raise PermissionDenied
    owners = []
    if sees_everything(request.user):
        owners = list(desk_owners())
        if requested is None and owners and owner not in owners:
            return None, owners
        if owner not in owners:
            owners.insert(0, owner)
    return owner, owners


def desk_owners() -> QuerySet[Any]:
    """Return the users who have bots, for the operators' choice of desk."""
    users = get_user_model().objects
    return users.filter(pk__in=Bot.objects.values("owner_id")).order_by(get_user_model().USERNAME_FIELD)[:MAX_OWNERS]


BOT_ACTIONS = {"start": bot_start, "stop": bot_stop}


@require_POST
def bot_action(request: HttpRequest, bot_id: int, action: str) -> HttpResponse:
    """Start or stop a bot. Answers JSON: what is wanted of it now, or one sentence why not."""
    if not request.user.is_authenticated:
        return JsonResponse({"error": "Your session has ended; sign in again."}, status=401)
    if action not in BOT_ACTIONS:
        raise Http404
    bot = Bot.objects.for_user(request.user).filter(pk=bot_id).first()
    if bot is None:
        return JsonResponse({"error": "There is no such bot on a desk of yours; reload the page."}, status=404)
    try:
        BOT_ACTIONS[action](bot=bot, actor=request.user)
    except (ValidationError, PermissionDenied) as refusal:
        messages = getattr(refusal, "messages", None) or [str(refusal) or "You may not do this."]
        return JsonResponse({"error": " ".join(messages)}, status=409)
    bot.refresh_from_db()
    return JsonResponse({"desired": bot.desired_state, "observed": bot.observed_state})
