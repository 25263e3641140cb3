"""Rebalancing: what the platform or a person proposes, what an approval sets going, and what came of it.

A conversion is carried out as a trade by hand is: a command of its own key, whose ticket ends once it has been worked
and leaves no position. A move is a person's to make; it has ended when both its sides were adopted from the exchanges.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from bots.models import Bot, Command, Difference, ExchangeAccount, Order, OwnerLease, Ticket
from bots.selectors.rebalancing import (
    Pair,
    move_refusal,
    rebalance_open,
    rebalance_pairs,
    rebalance_settings,
)
from bots.services.commands import command_create
from bots.services.ticket_margin import free_of
from bots.services.ticket_request import Request, Wrong, read_request, refused, wrong
from bots.services.tickets import NOT_STARTED, manual_bot
from risk.models import RebalanceRequest, RebalanceSettings
from risk.models.exact import exact_text
from risk.models.rebalancing import REASON_LENGTH
from risk.policy.rebalance_states import RebalanceState as State
from risk.policy.rebalancing import Effect, Kind, Proposal, RebalanceRules, conversion_effect, propose
from risk.services import rebalancing as requests
from risk.services.audit import permission_check
from risk.services.reasons import reason_clean
from trading.execution.reconciliation import DifferenceKind
from trading.instruments import positive
from trading.messages import TradeState

logger = logging.getLogger("arb.rebalancing")

# What a network takes on the way, and what is sent a little differently than was asked, is the same move.
MOVE_TOLERANCE = Decimal("0.1")
PAUSED_BY = (State.REJECTED, State.CANCELLED, State.FAILED)
HUNDRED = Decimal(100)


# --- proposing ----------------------------------------------------------------------------------------------------


def rebalances_propose(*, owner_id: int) -> list[RebalanceRequest]:
    """Propose what the owner's stored balances call for; nothing that is open already or was refused lately.

    Nothing is proposed while no engine runs for the owner: then balances may be of another time.
    """
    settings = rebalance_settings()
    if not settings.enabled or not OwnerLease.objects.filter(owner_id=owner_id, expires_at__gt=Now()).exists():
        return []
    rules, made, pairs = settings.to_policy(), [], rebalance_pairs(owner_id=owner_id)
    _withdraw_needless(owner_id, pairs, rules)
    busy = {
        (account, one.asset)
        for one in rebalance_open(owner_id=owner_id)
        for account in (one.account_id, one.to_account_id)
    }
    paused = _paused(owner_id, settings)
    for pair in pairs:
        # Where something is under way, balances are about to change.
        still = [one for one in pair.holdings if not {(one.account, pair.base), (one.account, pair.quote)} & busy]
        for proposal in propose(pair.base, pair.quote, still, rules, apart=pair.apart):
            values = _values(owner_id, pair, proposal, settings)
            subject = requests.subject_of(**_subject(values))
            if subject in paused:
                continue
            expires_at = timezone.now() + timedelta(hours=float(settings.lifetime_hours))
            try:
                made.append(requests.request_propose(actor=None, values=values, expires_at=expires_at))
            except ValidationError:
                if all(one.subject != subject for one in rebalance_open(owner_id=owner_id)):
                    raise
                logger.info("%s: another worker proposed it a moment ago", subject)
    return made


def _withdraw_needless(owner_id: int, pairs: Iterable[Pair], rules: RebalanceRules) -> None:
    """End proposals of the platform's own whose accounts are within the band by now."""
    known: dict[tuple[int, int | None], bool] = {
        (holding.account, market): bool(propose(pair.base, pair.quote, [holding], rules))
        for pair in pairs
        for holding in pair.holdings
        for market in {one.pk for one in pair.markets.values()}
    }
    for request in rebalance_open(owner_id=owner_id):
        if request.state != State.PROPOSED.value or request.proposed_by_id is not None:
            continue
        accounts = [one for one in (request.account_id, request.to_account_id) if one is not None]
        if any(known.get((account, request.market_id), True) for account in accounts):
            continue
        with transaction.atomic():
            row = requests.request_lock(request.pk)
            if row.state == State.PROPOSED.value:  # not decided on meanwhile
                requests.request_step(row, State.EXPIRED, actor=None, text="The balances no longer call for it.")


def rebalance_propose(*, owner: User, actor: User, data: Mapping[str, Any]) -> RebalanceRequest:
    """Propose by hand. ``data``: kind, account_id, amount (a string), reason; of a conversion symbol and side; of a
    move to_account_id and asset.

    Raises
    ------
    ValidationError
        By field, each with its limit and what was given; without a field if the same is open already.
    """
    permission_check(actor=actor, permission=requests.PROPOSE)
    reason = reason_clean(str(data.get("reason", "")), most=REASON_LENGTH)
    kind = data.get("kind")
    if kind == Kind.CONVERT.value:
        values = _conversion_by_hand(owner, data)
    elif kind == Kind.MOVE.value:
        values = _move_by_hand(owner, data)
    else:
        raise wrong("kind", "Must be move or convert", limit="move, convert", given=str(kind)[:40])
    expires_at = timezone.now() + timedelta(hours=float(rebalance_settings().lifetime_hours))
    return requests.request_propose(
        actor=actor, values={**values, "owner_id": owner.pk, "kind": kind, "reason": reason}, expires_at=expires_at
    )


def _conversion_by_hand(owner: User, data: Mapping[str, Any]) -> dict[str, Any]:
    request = _read(owner, data)
    if request.refusals:
        raise refused(request.refusals)
    assert request.account is not None
    assert request.row is not None
    assert request.market is not None
    assert request.quantity is not None
    effects: list[Effect] = []
    pair, holding = _holding_of(owner.pk, request.account.pk, request.market.base, request.market.quote)
    if holding is not None:
        effects = [conversion_effect(holding, request.side, request.quantity)]
    quote = request.quote
    half = None if quote is None else (quote.ask - quote.bid) / 2 / quote.middle * 10_000
    return {
        "account_id": request.account.pk,
        "market_id": request.row.pk,
        "asset": request.market.base,
        "side": request.side,
        "amount": request.quantity,
        "quote": request.market.quote,
        "value": None if request.notional is None else round(request.notional, 8),
        "price": None if quote is None else quote.middle,
        "half_spread_bps": None if half is None else round(half, 4),
        "cost_bps": round((half or 0) + request.market.taker_fee * 10_000, 4),
        "effects": _effects(effects, {} if pair is None else pair.accounts),
    }


def _move_by_hand(owner: User, data: Mapping[str, Any]) -> dict[str, Any]:
    rows = ExchangeAccount.objects.filter(owner=owner, enabled=True).select_related("exchange")
    found = {name: rows.filter(pk=_id(data.get(name))).first() for name in ("account_id", "to_account_id")}
    for name, row in found.items():
        if row is None:
            raise wrong(name, "Is not an enabled account of yours", given=str(data.get(name))[:40])
    account, to_account = found["account_id"], found["to_account_id"]
    assert account is not None
    assert to_account is not None
    if account.pk == to_account.pk:
        raise wrong("to_account_id", "Must be another account than it comes from", given=str(account.pk))
    asset = str(data.get("asset", ""))
    if why := move_refusal(account=account, to_account=to_account, asset=asset):
        raise wrong("to_account_id", why, given=str(to_account.pk))
    amount = _amount(data.get("amount"))
    if short := _short_of(account, asset, amount):
        raise refused([short])
    values = {"account_id": account.pk, "to_account_id": to_account.pk, "asset": asset, "amount": amount}
    return {**values, "quote": asset}


def _id(given: Any) -> int:
    return given if isinstance(given, int) and not isinstance(given, bool) else 0


def _amount(given: Any) -> Decimal:
    try:
        return positive(str(given), field="amount")
    except ValueError as problem:
        raise wrong("amount", str(problem).removeprefix("amount: ").capitalize()) from None


def _short_of(account: ExchangeAccount, asset: str, amount: Decimal) -> Wrong | None:
    """Return what speaks against sending an amount: that it isn't there, or nothing is known of it."""
    free = free_of(account, asset, mode=Bot.Mode.LIVE)
    if free is None:
        return Wrong("account_id", f"The balance of {account.label} is not known yet: wait for its engine")
    if amount > free:
        message = f"{account.label} has {free.normalize():f} {asset} free"
        return Wrong("amount", message, limit=f"{free.normalize():f}", given=f"{amount.normalize():f}")
    return None


def _values(owner_id: int, pair: Pair, one: Proposal, settings: RebalanceSettings) -> dict[str, Any]:
    own = next(effect for effect in one.effects if effect.account == one.account)
    account = pair.accounts[one.account]
    reason = (
        f"{account} holds {own.before * HUNDRED:.0f} % {pair.base} of what it has for {pair.base}/{pair.quote}; "
        f"the target is {settings.target * HUNDRED:.0f} %, {settings.band * HUNDRED:.0f} % either way."
    )
    return {
        "owner_id": owner_id,
        "kind": one.kind.value,
        "account_id": one.account,
        "to_account_id": one.to_account,
        "market_id": pair.markets[one.account].pk,
        "asset": one.asset,
        "side": one.side,
        "amount": one.amount,
        "value": round(one.value, 8),
        "quote": pair.quote,
        "price": one.price,
        "half_spread_bps": one.half_spread_bps,
        "cost_bps": one.cost_bps,
        "effects": _effects(one.effects, pair.accounts),
        "reason": reason,
    }


def _effects(effects: Any, accounts: Mapping[int, ExchangeAccount]) -> list[dict[str, Any]]:
    return [
        {
            "account_id": one.account,
            "account": str(accounts.get(one.account, one.account)),
            "before": f"{one.before:f}",
            "after": f"{one.after:f}",
        }
        for one in effects
    ]


def _subject(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("kind", "account_id", "to_account_id", "asset", "market_id")}


def _paused(owner_id: int, settings: RebalanceSettings) -> set[str]:
    """Return what people have lately said no to, or what was tried and has failed: it is not proposed again at once.

    What came to nothing before an order was sent is: its engine may just have been starting.
    """
    since = timezone.now() - timedelta(hours=float(settings.pause_hours))
    rows = RebalanceRequest.objects.filter(
        owner_id=owner_id, ended_at__gt=since, state__in=[state.value for state in PAUSED_BY]
    ).exclude(state=State.FAILED.value, trade=None)
    return set(rows.values_list("subject", flat=True))


def _holding_of(owner_id: int, account_id: int, base: str, quote: str) -> tuple[Pair | None, Any]:
    for pair in rebalance_pairs(owner_id=owner_id):
        if (pair.base, pair.quote) == (base, quote):
            for holding in pair.holdings:
                if holding.account == account_id:
                    return pair, holding
    return None, None


# --- deciding -----------------------------------------------------------------------------------------------------


def rebalance_approve(*, request_id: int, actor: User, note: str = "") -> RebalanceRequest:
    """Approve a request, and ask the owner's engine for a conversion at once.

    Raises
    ------
    PermissionDenied
        If it is another user's.
    ValidationError
        If it may not be approved by the actor or any more, or could not be carried out now: then nothing is changed.
    RebalanceRequest.DoesNotExist
        If there is none.
    """
    found = RebalanceRequest.objects.select_related("owner").get(pk=request_id)
    requests.owner_check(actor, found)
    bot = manual_bot(owner=found.owner, mode=Bot.Mode.LIVE) if found.kind == Kind.CONVERT.value else None
    with transaction.atomic():
        row = requests.request_approve(request_id=request_id, actor=actor, note=note)
        if bot is not None:
            _conversion_begin(row, bot, actor)
        elif (short := _short_of(row.account, row.asset, row.amount)) is not None:
            raise _not_now([short])
    return row


def rebalance_reject(*, request_id: int, actor: User, reason: str) -> RebalanceRequest:
    """Reject a request; raises as :func:`rebalance_approve`."""
    return requests.request_reject(request_id=request_id, actor=actor, reason=reason)


def rebalance_cancel(*, request_id: int, actor: User, reason: str) -> RebalanceRequest:
    """Take a request back that nothing has come of yet; raises as :func:`rebalance_approve`."""
    return requests.request_cancel(request_id=request_id, actor=actor, reason=reason)


def rebalance_moved(*, request_id: int, actor: User, reason: str) -> RebalanceRequest:
    """Say that an approved move was made, where the exchanges' books did not show it; raises as
    :func:`rebalance_approve`."""
    permission_check(actor=actor, permission=requests.DECIDE)
    text = reason_clean(reason, most=REASON_LENGTH)
    with transaction.atomic():
        row = requests.request_lock(request_id)
        requests.owner_check(actor, row)
        if row.kind != Kind.MOVE.value:
            raise ValidationError("Only a move is made by a person: a conversion is the engine's.")
        requests.request_step(row, State.DONE, actor=actor, text=f"A person says that it was made: {text}")
    return row


def _conversion_begin(row: RebalanceRequest, bot: Bot, actor: User) -> None:
    """Ask the engine for an approved conversion; its command's key is the request's, so there is one at most."""
    assert row.market is not None
    if bot.desired_state != Bot.Desired.RUNNING:
        raise ValidationError(NOT_STARTED, code="refused")
    request = _read(
        row.owner,
        {
            "account_id": row.account_id, "symbol": row.market.symbol, "side": row.side,
            "amount": exact_text(row.amount),
        },
    )  # fmt: skip
    if request.refusals:
        raise _not_now(request.refusals)
    row.command = command_create(
        owner_id=row.owner_id,
        actor=actor,
        kind=Command.Kind.MANUAL_TRADE,
        payload={
            **request.payload(),
            "is_close_only": True,
            "bot_id": bot.pk,
            "asked": {"rebalance": row.pk},
            "estimate": request.estimate(),
        },
        idempotency_key=f"rebalance-{row.pk}",
    )
    requests.request_step(row, State.RUNNING, actor=None, text="The engine was asked to convert it.")


def _read(owner: User, data: Mapping[str, Any]) -> Request:
    """Read a conversion as a trade by hand on spot with real orders."""
    names = ("account_id", "symbol", "side", "amount")
    asked = {**{name: data.get(name) for name in names}, "mode": Bot.Mode.LIVE.value, "order": "adaptive"}
    request = read_request(owner=owner, data=asked)
    if request.market is not None and request.market.kind != "spot":
        request.refuse("symbol", "Inventory is converted on spot markets only", given=request.market.symbol)
    return request


def _not_now(found: list[Wrong]) -> ValidationError:
    reasons = " ".join(one.text for one in found)
    return ValidationError(f"It can't be carried out now, nothing was changed. {reasons}", code="refused")


# --- what became of it --------------------------------------------------------------------------------------------


def rebalances_follow() -> int:
    """Bring what runs, and moves that are waited for, to where they stand now; returns how many have ended."""
    rows = RebalanceRequest.objects.filter(state__in=[State.RUNNING.value, State.APPROVED.value])
    ended = 0
    for request_id in list(rows.order_by("pk").values_list("pk", flat=True)[:500]):
        with transaction.atomic():
            row = requests.request_lock(request_id)
            if row.state == State.RUNNING.value:
                ended += _conversion_follow(row)
            elif row.state == State.APPROVED.value:
                ended += _move_follow(row)
    return ended


def _conversion_follow(row: RebalanceRequest) -> bool:
    ticket = Ticket.objects.filter(command=row.command_id).select_related("trade").first()
    if ticket is None:
        command = row.command
        if command is None or command.status != Command.Status.FAILED:
            return False
        requests.request_step(row, State.FAILED, actor=None, text=command.result)
        return True
    trade = ticket.trade
    if row.trade_id is None:
        row.trade = trade
        row.save(update_fields=["trade"])
    if trade.state not in {TradeState.CLOSED, TradeState.FAILED}:
        if row.outcome != trade.reason:  # it is exposed, say: a person decides about its order
            row.outcome = trade.reason
            row.save(update_fields=["outcome"])
        return False
    if Order.objects.filter(trade=trade).unfinished().exists():
        return False  # the trade's row was written a moment before its orders'
    filled = sum(trade.orders.values_list("filled", flat=True), Decimal(0))
    row.filled, row.realised_price = filled, ticket.entry_price
    row.improvement, row.fees = ticket.improvement, trade.fees
    if trade.state == TradeState.FAILED or not filled:
        requests.request_step(row, State.FAILED, actor=None, text=trade.reason or "Nothing was filled.")
        return True
    text = f"{exact_text(filled)} of {exact_text(row.amount)} {row.asset} were converted"
    if filled < row.amount and trade.reason:
        text = f"{text}: {trade.reason}"
    requests.request_step(row, State.DONE, actor=None, text=f"{text.rstrip('.')}.")
    return True


def _move_follow(row: RebalanceRequest) -> bool:
    """Look for both sides of a move among the differences that were adopted since it was approved."""
    sent, arrived = row.sent, row.arrived
    if sent is None:
        sent = _adopted(row, row.account_id, -row.amount)
    if sent is not None and arrived is None and row.to_account_id is not None:
        arrived = _adopted(row, row.to_account_id, row.amount)
    if (sent, arrived) == (row.sent, row.arrived) or sent is None:
        return False
    row.sent, row.arrived = sent, arrived
    if arrived is None:
        row.outcome = f"It has left {row.account}; its arrival on {row.to_account} is waited for."
        row.save(update_fields=["sent", "outcome"])
        return False
    row.filled = arrived.amount
    text = f"{exact_text(arrived.amount)} of {exact_text(row.amount)} {row.asset} have arrived on {row.to_account}."
    requests.request_step(row, State.DONE, actor=None, text=text)
    return True


def _adopted(row: RebalanceRequest, account_id: int, amount: Decimal) -> Difference | None:
    """Return an adopted difference of about this amount that no other move has taken."""
    found = Difference.objects.filter(
        account=account_id, asset=row.asset, kind=DifferenceKind.BALANCE.value, state=Difference.State.ADOPTED,
        decided_at__gte=row.approved_at,
    )  # fmt: skip
    moves = RebalanceRequest.objects.filter(owner=row.owner_id, kind=Kind.MOVE.value)
    used = [
        *moves.filter(sent__isnull=False).values_list("sent_id", flat=True),
        *moves.filter(arrived__isnull=False).values_list("arrived_id", flat=True),
    ]
    for difference in found.exclude(pk__in=used).order_by("pk"):
        if difference.amount is not None and abs(difference.amount - amount) <= abs(amount) * MOVE_TOLERANCE:
            return difference
    return None


__all__ = [
    "rebalance_approve", "rebalance_cancel", "rebalance_moved", "rebalance_propose", "rebalance_reject",
    "rebalances_follow", "rebalances_propose",
]  # fmt: skip
