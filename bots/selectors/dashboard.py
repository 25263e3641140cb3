"""What the live dashboard shows of one owner, as stored: money, positions, orders, trades, progress.

Quotes are not stored: :mod:`bots.live_desk` values what is read here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet, Sum
from django.utils import timezone

from bots.fields import MoneySum, exact_sum, plain
from bots.live_desk import MODES, DeskAccount, DeskMoney, Holding
from bots.models import (
    BY_HAND,
    Balance,
    Bot,
    Command,
    Decision,
    Exchange,
    ExchangeAccount,
    Market,
    Order,
    Position,
    ProfitTotal,
    Ticket,
    TradingPair,
)
from bots.selectors.desks import accounts_real
from bots.selectors.fees import fee_totals
from bots.selectors.live import bot_data, opportunity_data, trades_data, trades_shown
from bots.selectors.profits import profits_ever
from bots.selectors.risk import breakers_data, switches_data
from bots.times import unix
from trading.messages import TradeMode, TradeState

ORDERS = 50
ORDERS_READ = 300  # of these the newest of the desk's mode are shown
UNFINISHED_SHOWN = 200
BY_HAND_SHOWN = 20
OPPORTUNITIES = 50
DECISIONS_READ = 500
PROGRESS = 20
# What has ended stays for so long, so that a page that opens a moment later still sees how.
ENDED_SHOWN = timedelta(seconds=60)
OPENS_SHORT = "sell"


def desk_lists(*, owner_id: int, mode: str) -> dict[str, Any]:
    """Return orders, trades, opportunities, breakers, switches, bots and progress of a desk, as messages have them."""
    return {
        "orders": orders_data(orders_shown(owner_id=owner_id, mode=mode)),
        "trades": trades_data(trades_shown(owner_id=owner_id, modes=MODES[mode])),
        "opportunities": _opportunities(owner_id, mode),
        "breakers": [row.data for row in breakers_data(owner_id=owner_id)],
        "switches": [row.data for row in switches_data(owner_id=owner_id)],
        "bots": [bot_data(bot) for bot in Bot.objects.filter(owner_id=owner_id, mode=mode)],
        "progress": progress_data(owner_id=owner_id, mode=mode),
    }


def desk_money(*, owner_id: int, mode: str) -> DeskMoney:
    """Return what an owner has on a desk."""
    modes = MODES[mode]
    everything = desk_accounts(owner_id=owner_id)
    accounts = {key: account for key, account in everything.items() if account.environment in modes}
    rows = Balance.objects.filter(owner_id=owner_id, account__in=accounts)
    held = {
        (account_id, asset): exact_sum([free, used])
        for account_id, asset, free, used in rows.values_list("account", "asset", "free", "used")
    }
    earned = profits_ever(ProfitTotal.objects.filter(owner_id=owner_id))
    money = DeskMoney(
        accounts=accounts,
        quotes=quote_assets(owner_id=owner_id),
        held=held,
        realized={(of, quote): total for of in modes for quote, total in earned.get(of, {}).items()},
        positions=open_positions(owner_id=owner_id, modes=modes),
    )
    costs_read(money, owner_id=owner_id, mode=mode)
    return money


def costs_read(money: DeskMoney, *, owner_id: int, mode: str) -> None:
    """Read into ``money`` what nobody publishes: fees paid, price improvement, questions about orders."""
    modes = MODES[mode]
    money.fees = {of: sums for of, sums in fee_totals(owner_id=owner_id).items() if of in modes}
    rows = (
        Ticket.objects.filter(owner_id=owner_id, trade__mode__in=modes)
        .order_by()
        .values("trade__mode", "market__quote")
    )
    sums = rows.annotate(gained=MoneySum("improvement"), asked=Sum("status_questions"))
    money.improved = {
        (row["trade__mode"], row["market__quote"]): (row["gained"] or Decimal(0), row["asked"] or 0) for row in sums
    }


def desk_accounts(*, owner_id: int) -> dict[int, DeskAccount]:
    """Return an owner's enabled accounts and whose money the figures stored of each are (:func:`accounts_real`)."""
    accounts = list(ExchangeAccount.objects.filter(owner_id=owner_id, enabled=True).select_related("exchange"))
    real = accounts_real(accounts, owner_id=owner_id)
    return {
        account.pk: DeskAccount(
            account_id=account.pk,
            label=account.label,
            exchange=account.exchange.code,
            environment=environment_of(account.exchange) if account.pk in real else TradeMode.PAPER.value,
            state=account.observed_state,
            reason=account.observed_reason,
        )
        for account in accounts
    }


def environment_of(exchange: Exchange) -> str:
    """Return the trade mode of real orders on an exchange."""
    return TradeMode(exchange.environment).value


def quote_assets(*, owner_id: int) -> tuple[str, ...]:
    """Return the assets an owner counts in, the one of most pairs first; without pairs, those of all markets."""
    pairs = TradingPair.objects.filter(bots__owner=owner_id).distinct().values_list("quote_id", flat=True)
    if not (counted := Counter(pairs)):
        markets = Market.objects.filter(exchange__accounts__owner=owner_id, kind=Market.Kind.SPOT, active=True)
        counted = Counter(markets.values_list("quote_id", flat=True))
    return tuple(sorted(counted, key=lambda asset: (-counted[asset], asset))[:8])


def open_positions(*, owner_id: int, modes: Iterable[str]) -> dict[str, Holding]:
    """Return what trades made by hand hold now, by trade id."""
    rows = held_tickets(owner_id=owner_id).filter(trade__mode__in=modes)
    rows = rows.select_related("trade", "account__exchange", "market__exchange").order_by("pk")
    return holdings(list(rows))


def holdings(tickets: Sequence[Ticket]) -> dict[str, Holding]:
    """Return tickets' positions by trade id, with what their exchanges last said of those in contracts.

    Needs ``trade``, ``account.exchange`` and ``market.exchange`` loaded.
    """
    real = [row for row in tickets if row.market.kind != Market.Kind.SPOT and row.trade.mode != TradeMode.PAPER]
    told: dict[tuple[int, int, str], Position] = {}
    if real:
        rows = Position.objects.held().filter(
            account__in={row.account_id for row in real}, market__in={row.market_id for row in real}
        )
        told = {(row.account_id, row.market_id, _side_held(row)): row for row in rows}
    is_real = {row.pk for row in real}
    return {
        row.trade.trade_id: holding(
            row, told.get((row.account_id, row.market_id, side_of(row))) if row.pk in is_real else None
        )
        for row in tickets
    }


def side_of(ticket: Ticket) -> str:
    return "short" if ticket.side == OPENS_SHORT else "long"


def _side_held(row: Position) -> str:
    if row.side != Position.Side.BOTH:
        return row.side
    return "long" if row.quantity > 0 else "short"


def held_tickets(*, owner_id: int) -> QuerySet[Ticket]:
    """Return the trades made by hand that hold something; what a closed one is left with is dust."""
    over = (TradeState.CLOSED.value, TradeState.FAILED.value)
    rows = Ticket.objects.filter(owner_id=owner_id, held__gt=0, is_close_only=False)
    return rows.exclude(trade__state__in=over)


def holding(ticket: Ticket, told: Position | None = None) -> Holding:
    """Return a ticket's position; ``told`` is the exchange's in its contract, which may be more than this ticket's."""
    market, trade = ticket.market, ticket.trade
    facts = {
        "id": trade.trade_id,
        "trade_id": trade.trade_id,
        "environment": trade.mode,
        "account_id": ticket.account_id,
        "account": ticket.account.label,
        "exchange": market.exchange.code,
        "symbol": market.symbol,
        "side": side_of(ticket),
        "quote": market.quote_id,
        "leverage": ticket.leverage if told is None or told.leverage is None else told.leverage,
        "liquidation_price": None if told is None else _text(told.liquidation_price),
        "take_profit": _text(ticket.take_profit),
        "stop_loss": _text(ticket.stop_loss),
        "protected_by": ticket.protected_by,
        "protection_note": ticket.protection_note,
        "opened_at": unix(trade.opened_at),
        "figures_at": None if told is None else unix(told.at),
    }
    return Holding(
        market=f"{market.exchange.code}:{market.symbol}",
        kind=market.kind,
        contract_size=market.contract_size,
        entry=ticket.entry_price,
        size=ticket.held,
        mark=None if told is None else told.mark_price,
        facts=facts,
    )


def orders_shown(*, owner_id: int, mode: str) -> list[Order]:
    """Return the newest orders of a desk, then what is older and by hand, or not finished."""
    modes = MODES[mode]
    rows = Order.objects.filter(owner_id=owner_id).select_related("trade__ticket", "account__exchange", "market")
    newest = [row for row in rows.order_by("-pk")[:ORDERS_READ] if order_environment(row) in modes][:ORDERS]
    known = {row.pk for row in newest}
    by_hand = rows.filter(trade__ticket__isnull=False, trade__mode__in=modes).order_by("-pk")[:BY_HAND_SHOWN]
    kept = {row.pk: row for row in (*by_hand, *rows.unfinished().order_by("-pk")[:UNFINISHED_SHOWN])}
    return newest + [row for key, row in kept.items() if key not in known and order_environment(row) in modes]


def order_environment(order: Order) -> str:
    """Return whose money an order moves; needs ``trade`` and ``account.exchange`` loaded."""
    return order.trade.mode if order.trade is not None else environment_of(order.account.exchange)


def orders_data(orders: Iterable[Order]) -> list[dict[str, Any]]:
    """Return orders as messages have them; needs what :func:`orders_shown` loads."""
    return [
        {
            "id": order.client_order_id,
            "trade_id": "" if order.trade is None else order.trade.trade_id,
            "environment": (environment := order_environment(order)),
            "exchange": order.account.exchange.code,
            "account": order.account.label,
            "symbol": order.market.symbol,
            "type": order.kind,
            "side": order.side,
            "status": order.state,
            "price": f"{plain(order.price):f}",
            "trigger": _text(order.trigger),
            "amount": f"{plain(order.quantity):f}",
            "filled": f"{plain(order.filled):f}",
            "remaining": f"{plain(exact_sum([order.quantity, order.filled.copy_negate()])):f}",
            "average": _text(order.average_price),
            "path": _path(order, environment),
            "by_hand": hasattr(order.trade, "ticket"),
            "at": unix(order.updated_at),
        }
        for order in orders
    ]


def _path(order: Order, environment: str) -> str:
    if environment == TradeMode.PAPER:
        return "paper"
    ticket = getattr(order.trade, "ticket", None)  # no row: not a trade made by hand
    return order.path or ("" if ticket is None else ticket.path)


def _opportunities(owner_id: int, mode: str) -> list[dict[str, Any]]:
    """Return the newest decision of each route of the desk's bots, newest first."""
    rows = Decision.objects.filter(owner_id=owner_id).select_related("bot").order_by("-id")[:DECISIONS_READ]
    newest: dict[tuple[int, str, str], Decision] = {}
    for row in rows:
        if row.bot.mode == mode:
            newest.setdefault((row.bot_id, row.buy_market, row.sell_market), row)
    return [opportunity_data(row) for row in list(newest.values())[:OPPORTUNITIES]]


def progress_data(*, owner_id: int, mode: str) -> list[dict[str, Any]]:
    """Return how far the requests by hand have come that are under way or ended a moment ago, newest first."""
    since = timezone.now() - ENDED_SHOWN
    asked = Command.objects.filter(owner_id=owner_id, kind__in=BY_HAND).select_related("ticket__trade")
    commands = [
        command
        for command in asked.order_by("-pk")[:PROGRESS]
        if command.status == Command.Status.PENDING or (command.finished_at or since) > since
    ]
    tickets = Ticket.objects.filter(
        owner_id=owner_id, trade__mode__in=MODES[mode], trade__state=TradeState.OPEN.value
    ).select_related("trade")[:PROGRESS]
    shown = {ticket.command_id: ticket_progress(ticket) for ticket in tickets}
    closing = [command.payload.get("trade_id") for command in commands if command.kind == Command.Kind.MANUAL_CLOSE]
    closed = {
        ticket.trade.trade_id: ticket
        for ticket in Ticket.objects.filter(owner_id=owner_id, trade__trade_id__in=closing).select_related("trade")
    }
    for command in commands:
        ticket = getattr(command, "ticket", None) or closed.get(command.payload.get("trade_id"))
        if ticket is None and command.payload.get("mode", mode) == mode:
            shown[command.pk] = command_progress(command)
        elif ticket is not None and ticket.trade.mode in MODES[mode]:
            shown[command.pk] = request_progress(command, ticket)
    return list(shown.values())


def ticket_of_request(command: Command) -> Ticket | None:
    """Return the ticket that a request by hand has made, or that it is to close."""
    if command.kind == Command.Kind.MANUAL_TRADE:
        return getattr(command, "ticket", None)
    rows = Ticket.objects.filter(owner_id=command.owner_id, trade__trade_id=command.payload.get("trade_id"))
    return rows.select_related("trade").first()


def request_progress(command: Command, ticket: Ticket | None) -> dict[str, Any]:
    """Return how far a request by hand has come; ``ticket`` is the one it made, or is to close, if there is one."""
    if ticket is None:
        return command_progress(command)
    if ticket.command_id == command.pk:
        return ticket_progress(ticket)
    steps = _steps(ticket, command.pk)
    if not steps or command.status == Command.Status.FAILED:
        return command_progress(command)
    return _progress(ticket, command.pk, steps, steps[-1]["text"])


def ticket_progress(ticket: Ticket) -> dict[str, Any]:
    """Return how far a ticket's entry has come; needs ``trade`` loaded."""
    steps = _steps(ticket, 0)
    text = steps[-1]["text"] if steps else ""
    return _progress(ticket, ticket.command_id or 0, steps, ticket.protection_note or text)


def _progress(ticket: Ticket, command_id: int, steps: list[dict[str, Any]], message: str) -> dict[str, Any]:
    return {
        "trade_id": ticket.trade.trade_id,
        "command_id": command_id,
        "step": steps[-1]["step"] if steps else "connecting",
        "steps": steps,
        "path": ticket.path,
        "message": message or ticket.trade.reason,
    }


def _steps(ticket: Ticket, command_id: int) -> list[dict[str, Any]]:
    """Return the steps of a close of a ticket, or with 0 of its entry."""
    found = [step for step in ticket.progress if step.get("command_id", 0) == command_id]
    return [{name: step[name] for name in ("step", "state", "at", "ms", "text")} for step in found]


def command_progress(command: Command) -> dict[str, Any]:
    """Return how far a request has come of which no step is known: it waits, was refused, or is done long since."""
    step, state = {
        Command.Status.PENDING: ("connecting", "now"),
        Command.Status.DONE: ("done", "done"),
        Command.Status.FAILED: ("failed", "failed"),
    }[Command.Status(command.status)]
    at = command.finished_at or command.created_at
    took = (at - command.created_at).total_seconds() * 1000
    text = command.result if command.status == Command.Status.FAILED else ""
    return {
        "trade_id": str(command.payload.get("trade_id", "")),
        "command_id": command.pk,
        "step": step,
        "steps": [{"step": step, "state": state, "at": unix(at), "ms": round(took, 1), "text": text}],
        "path": "",
        "message": text,
    }


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{plain(amount):f}"
