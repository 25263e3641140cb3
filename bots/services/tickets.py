"""Trades by hand: what a person asks for is checked against the market, then a command that the engine carries out.

What depends on the moment (limits, breakers, switches, prices, balances) is judged again by the engine, which alone
sends orders. A key used again with the same content is the same command; with other content it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from bots.models import BasisPosition, Bot, Command, Ticket, Trade
from bots.services.audit import audit_record, owner_check
from bots.services.bots import bot_start
from bots.services.commands import command_create, command_known
from bots.services.ticket_request import ORDERS, as_written, read_request, refused, wrong
from bots.services.unfolding import intents_unfold
from trading.execution.pricing import WorkingStyle
from trading.instruments import lot_quantity, positive
from trading.messages import TradeState
from trading.tickets import ClosingTerms, TicketTerms

NAMES = {Bot.Mode.PAPER: "Manual paper", Bot.Mode.LIVE: "Manual live"}
# What a bot for trades by hand begins with; its owner may change it like any bot's.
DESK_PARAMETERS = {"max_trade_notional": 10_000, "max_open_trades": 20, "max_book_age_ms": 10_000}
# A trade by hand that waited so long for an engine is not made: its price is gone.
OLDEST_REQUEST = timedelta(seconds=30)
NOT_STARTED = (
    "Start trading by hand first, on the trading page or by POST /api/manual-trade/start: real orders want their "
    "owner's yes."
)


def manual_bot(*, owner: User, mode: str) -> Bot:
    """Return the owner's bot for trades by hand in a mode; it is made when it is first asked for.

    Raises
    ------
    ValidationError
        If the mode is not one.
    """
    if mode not in NAMES:
        raise wrong("mode", "Must be paper or live.", limit="paper, live", given=mode)
    found = Bot.objects.filter(owner=owner, strategy=Bot.Strategy.MANUAL, mode=mode)
    if (known := found.first()) is not None:
        return known
    name = NAMES[Bot.Mode(mode)]
    number = 1
    while Bot.objects.filter(owner=owner, name=name).exists():  # somebody's own bot has it
        number += 1
        name = f"{NAMES[Bot.Mode(mode)]} {number}"
    try:
        with transaction.atomic():
            bot = Bot.objects.create(owner=owner, name=name, mode=mode, strategy=Bot.Strategy.MANUAL, **DESK_PARAMETERS)
            audit_record(actor=None, subject=bot, message=f"Created for trades by hand ({mode}).")
    except IntegrityError:  # another request made it a moment ago
        return found.get()
    return bot


def manual_trade_request(*, owner: User, actor: User | None, data: Mapping[str, Any], idempotency_key: str) -> Command:
    """Ask for a trade by hand; the engine makes it, once.

    ``data``: mode, account_id, symbol, side (buy, sell, long, short), amount (the market's unit), order (adaptive,
    market); optional limit_price, timeout_seconds, leverage, take_profit or take_profit_percent, stop_loss or
    stop_loss_percent, path (auto, websocket). Amounts and prices are strings. What it was expected to cost stays with
    the command (:func:`estimate_of`).

    Raises
    ------
    ValidationError
        By field, each with its limit and what was given.
    """
    owner_check(actor=actor, owner_id=owner.pk)
    _key_check(idempotency_key)
    kind, asked = Command.Kind.MANUAL_TRADE, _plain(data)
    request = read_request(owner=owner, data=data)
    bot_id = None if request.refusals else request.running_bot
    if bot_id is None:
        # Whatever speaks against it now: what was asked for before is answered as it was then.
        if (known := _known(owner, kind, asked, idempotency_key)) is not None:
            return known
        if request.refusals:
            raise refused(request.refusals)
        bot = manual_bot(owner=owner, mode=request.mode)
        if bot.desired_state != Bot.Desired.RUNNING:
            if request.mode != Bot.Mode.PAPER:
                raise wrong("mode", NOT_STARTED, given="live")
            bot_start(bot=bot, actor=actor)
        bot_id = bot.pk
    payload = {**request.payload(), "bot_id": bot_id, "asked": asked, "estimate": request.estimate()}
    return command_create(owner_id=owner.pk, actor=actor, kind=kind, payload=payload, idempotency_key=idempotency_key)


def manual_close_request(*, owner: User, actor: User | None, data: Mapping[str, Any], idempotency_key: str) -> Command:
    """Ask for a trade by hand, or a pair, to be closed; ``data``: trade_id, order (adaptive, market), optional amount.

    A pair is closed whole, both legs at once.

    Raises
    ------
    ValidationError
        By field, each with its limit and what was given.
    """
    owner_check(actor=actor, owner_id=owner.pk)
    _key_check(idempotency_key)
    kind, asked = Command.Kind.MANUAL_CLOSE, _plain(data)
    if (known := _known(owner, kind, asked, idempotency_key)) is not None:
        return known
    create = partial(command_create, owner_id=owner.pk, actor=actor, kind=kind, idempotency_key=idempotency_key)
    trade_id, order = str(data.get("trade_id", "")), str(data.get("order") or "adaptive")
    if order not in ORDERS:
        raise wrong("order", "Must be adaptive or market.", limit="adaptive, market", given=order)
    pair = BasisPosition.objects.filter(owner=owner, trade__trade_id=trade_id).select_related("trade").first()
    if pair is not None:
        _closable(pair.trade)
        if data.get("amount") is not None:
            raise wrong("amount", "A pair is closed whole: leave it out.", given=str(data["amount"])[:40])
        return create(payload={"trade_id": trade_id, "order": order, "quantity": None, "asked": asked})
    rows = Ticket.objects.filter(owner=owner, trade__trade_id=trade_id)
    ticket = rows.select_related("trade", "market__exchange").first()
    if ticket is None:
        raise wrong("trade_id", "No trade made by hand has this id.", given=trade_id[:64])
    _closable(ticket.trade)
    quantity = data.get("amount")
    if quantity is not None:
        market = ticket.market.to_engine()
        try:
            amount = as_written(str(quantity), field="amount")
        except ValueError as problem:
            raise wrong("amount", f"{problem}.".removeprefix("amount: "), given=str(quantity)[:40]) from None
        if lot_quantity(amount, market) != amount:
            raise wrong(
                "amount", f"Must be whole lots of {market.lot:f}.", limit=f"{market.lot:f}", given=str(quantity)
            )
        if amount > ticket.held:
            raise wrong("amount", f"At most the {ticket.held:f} held.", limit=f"{ticket.held:f}", given=str(quantity))
    text = None if quantity is None else str(quantity)
    return create(payload={"trade_id": trade_id, "order": order, "quantity": text, "asked": asked})


def estimate_of(command: Command) -> dict[str, Any] | None:
    """Return what a trade by hand was expected to cost when it was asked for, as :func:`manual_estimate` does."""
    estimate = command.payload.get("estimate")
    return None if estimate is None else {**estimate, "refusals": []}


def _closable(trade: Trade) -> None:
    if trade.state not in {TradeState.OPEN, TradeState.HOLDING, TradeState.REPAIRING}:
        raise wrong("trade_id", f"The trade is {trade.state}: it holds nothing to close.", given=trade.trade_id)


def manual_estimate(*, owner: User, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a trade would cost at the newest quotes, and what would keep it from being made.

    price, notional, fee, margin, slippage_bps (from the middle), liquidation_price, path, environment, refusals
    (sentences).
    Figures without a quote are None.
    """
    request = read_request(owner=owner, data=data)
    refusals = [one.text for one in request.refusals]
    if not refusals and request.mode == Bot.Mode.LIVE and request.running_bot is None:
        refusals.append(f"mode: {NOT_STARTED}")
    return {**request.estimate(), "refusals": refusals}


# --- for the engine's host ---------------------------------------------------------------------------------------


def ticket_terms_of(command: Command) -> tuple[int, TicketTerms]:
    """Return the bot and the terms that a command asks the engine for."""
    asked = command.payload
    return int(asked["bot_id"]), TicketTerms(
        market=asked["market"],
        account_id=int(asked["account_id"]),
        side=asked["side"],
        quantity=positive(asked["quantity"], field="quantity"),
        style=_style(asked["order"], asked.get("timeout_seconds")),
        adapts="style" if asked.get("timeout_seconds") is None else "price",
        limit_cap=positive(asked["limit_price"], field="limit_price") if asked.get("limit_price") else Decimal(0),
        take_profit=positive(asked["take_profit"], field="take_profit") if asked.get("take_profit") else None,
        stop_loss=positive(asked["stop_loss"], field="stop_loss") if asked.get("stop_loss") else None,
        leverage=asked.get("leverage"),
        path=asked.get("path") or "auto",
        command_id=command.pk,
        is_close_only=bool(asked.get("is_close_only")),
    )


def ticket_closing_of(command: Command) -> tuple[str, ClosingTerms]:
    """Return the trade that a command wants closed, and how."""
    asked = command.payload
    return asked["trade_id"], ClosingTerms(
        quantity=positive(asked["quantity"], field="quantity") if asked.get("quantity") else None,
        style=_style(asked["order"], None),
        cause="its owner closed it",
        command_id=command.pk,
    )


def request_too_old(command: Command) -> str:
    """Say why a trade asked for too long ago is not made any more; empty if it is young enough."""
    age = timezone.now() - command.created_at
    if age <= OLDEST_REQUEST:
        return ""
    return f"It waited {age.total_seconds():.0f} s for the engine; at most {OLDEST_REQUEST.seconds} s: ask again."


def ticket_of_command(command: Command) -> str:
    """Return the id of the trade that a command has led to by now; empty if none."""
    intents_unfold(owner_id=command.owner_id)
    known = Ticket.objects.filter(command=command).values_list("trade__trade_id", flat=True).first()
    return known or ""


def _style(order: str, seconds: int | None) -> WorkingStyle:
    style = WorkingStyle(kind="market" if order == "market" else "adaptive")
    if seconds is None:
        return style
    return WorkingStyle(kind=style.kind, buy_seconds=float(seconds), sell_seconds=float(seconds))


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked for as it can be compared."""
    return {str(name): value if isinstance(value, int) else str(value) for name, value in sorted(data.items())}


def _key_check(key: str) -> None:
    if not 1 <= len(key) <= 64:
        raise wrong("idempotency_key", "Must have 1 to 64 characters.", limit="1 to 64", given=f"{len(key)} characters")


def _known(owner: User, kind: str, asked: Mapping[str, Any], key: str) -> Command | None:
    return command_known(owner_id=owner.pk, kind=kind, payload={"asked": asked}, idempotency_key=key)


__all__ = [
    "estimate_of", "manual_bot", "manual_close_request", "manual_estimate", "manual_trade_request", "request_too_old",
    "ticket_closing_of", "ticket_of_command", "ticket_terms_of",
]  # fmt: skip
