"""Bots: which there are, and that they start or stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from ninja import Path, Router, Schema
from pydantic import ConfigDict

from bots.api.answers import MAX_ID, IdempotencyKey, Owner, json_answer, once
from bots.api.auth import owner_of, user_of
from bots.api.openapi import answers
from bots.models import Bot, Command
from bots.selectors.live import bot_data
from bots.services.answers import command_key
from bots.services.audit import owner_check
from bots.services.bots import bot_start, bot_stop
from bots.services.tickets import manual_bot

router = Router(tags=["bots"])
manual_router = Router(tags=["manual trades"])
BotId = Annotated[int, Path(ge=1, le=MAX_ID)]


class ManualStart(Schema):
    """The mode in which trades by hand are to be carried out."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["paper", "live"]


class BotShown(msgspec.Struct):
    """A bot: what is wanted of it, what is seen of it and why."""

    id: int
    name: str
    strategy: str
    mode: str
    desired: str
    observed: str
    reason: str
    pairs: list[str]
    accounts: list[int]


class BotList(msgspec.Struct):
    items: list[BotShown]


class BotWanted(msgspec.Struct):
    """What is wanted of a bot from now on. ``changed`` is false when that was so before; then there is no command."""

    id: int
    desired: str
    observed: str
    changed: bool
    command_id: int | None


@router.get("", **answers(BotList))
def bot_list(request: HttpRequest, owner: Owner = None) -> HttpResponse:
    """List an owner's bots."""
    rows = Bot.objects.filter(owner=owner_of(request, owner)).prefetch_related("pairs", "accounts").order_by("pk")
    return json_answer(BotList([_shown(bot) for bot in rows]))


@router.post("/{bot_id}/start", **answers(BotWanted, status=202, changes=True))
def bot_start_post(request: HttpRequest, bot_id: BotId, key: IdempotencyKey) -> HttpResponse:
    """Want a bot to run. 409 with the reason if it could not."""
    bot = _bot_of(request, bot_id)
    return _desire(request, bot.owner, key, bot_start, lambda: bot)


@router.post("/{bot_id}/stop", **answers(BotWanted, status=202, changes=True))
def bot_stop_post(request: HttpRequest, bot_id: BotId, key: IdempotencyKey) -> HttpResponse:
    """Want a bot to stop: it opens no more trades, those that are open are brought to their end."""
    bot = _bot_of(request, bot_id)
    return _desire(request, bot.owner, key, bot_stop, lambda: bot)


@manual_router.post("/start", **answers(BotWanted, status=202, changes=True))
def manual_start_post(
    request: HttpRequest, data: ManualStart, key: IdempotencyKey, owner: Owner = None
) -> HttpResponse:
    """Want trades by hand to be carried out in a mode; for live that is the owner's yes. Answers the bot that stands
    for them, which is made if there is none."""
    of = owner_of(request, owner)
    owner_check(actor=user_of(request), owner_id=of.pk)
    return _desire(request, of, key, bot_start, lambda: manual_bot(owner=of, mode=data.mode), data.model_dump())


def _bot_of(request: HttpRequest, bot_id: int) -> Bot:
    bot = Bot.objects.for_user(user_of(request)).select_related("owner").filter(pk=bot_id).first()
    if bot is None:
        raise Http404(f"There is no bot {bot_id} of yours.")
    return bot


def _desire(
    request: HttpRequest, owner: User, key: str, service: Any, find: Callable[[], Bot], content: Any = None
) -> HttpResponse:
    def perform() -> tuple[int, dict[str, Any]]:
        bot, name = find(), command_key(owner.pk, key)
        changed = service(bot=bot, actor=user_of(request), idempotency_key=name)
        command = Command.objects.filter(idempotency_key=name).values_list("pk", flat=True).first() if changed else None
        bot.refresh_from_db()
        return 202, msgspec.to_builtins(
            BotWanted(bot.pk, bot.desired_state, bot.observed_state, changed=changed, command_id=command)
        )

    return once(request, owner=owner, key=key, content=content, perform=perform)


def _shown(bot: Bot) -> BotShown:
    return BotShown(
        **bot_data(bot),
        strategy=bot.strategy,
        pairs=[str(pair) for pair in bot.pairs.all()],
        accounts=sorted(account.pk for account in bot.accounts.all()),
    )
