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

from bots import live_snapshot
from bots.models import Bot
from bots.models.base import sees_everything
from bots.services.bots import bot_start, bot_stop

MAX_OWNERS = 500


class SignInView(LoginView):
    """Sign-in with a look of its own; the admin's form accepts staff only."""

    next_page = reverse_lazy("live")


@never_cache
@require_GET
@login_required(login_url=reverse_lazy("sign-in"))
def live(request: HttpRequest) -> HttpResponse:
    """Show the live desk: one's own, or for operators the one asked for by ``owner`` (a user id)."""
    requested = request.GET.get("owner")
    owner = live_snapshot.find_owner(user=request.user, requested=requested)
    if owner is None:
        raise PermissionDenied
    owners = []
    if sees_everything(request.user):
        owners = list(desk_owners())
        if requested is None and owners and owner not in owners:
            return redirect(f"{request.path}?owner={owners[0].pk}")
        if owner not in owners:
            owners.insert(0, owner)
    return render(request, "live/live.html", {"owner": owner, "owners": owners, "mode": settings.ARB_SHAPE})


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
