"""Bots: what their owners want of them. The engine makes it so and reports what it sees."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from bots.models import UNFINISHED_TRADES, Bot, Command, Exchange, ExchangeAccount, Market, TradingPair
from bots.selectors.desks import desk_accounts
from bots.services import locks
from bots.services.audit import ADDITION, DELETION, audit_record, owner_check
from bots.services.commands import command_create
from bots.services.hints import engine_hint
from bots.services.tradability import bot_routes
from bots.services.unfolding import intents_settle
from bots.services.validation import assign, refuse, save_checked
from trading.arbitrage.basis import pair_refusal

logger = logging.getLogger("arb.bots")

PARAMETERS = frozenset(
    {
        "min_net_edge_bps", "max_edge_bps", "max_trade_notional", "max_book_age_ms", "max_open_trades", "cooldown_ms",
        "price_tolerance_bps", "order_timeout_ms", "leg_policy", "repair_tolerance_bps", "completion_seconds",
        "unwind_tolerance_bps", "unwind_seconds", "max_repair_loss", "require_open_wallets",
        "basis_exit_bps", "basis_min_funding_bps", "basis_funding_hours", "basis_slippage_bps", "basis_max_hold_hours",
        "basis_leverage", "basis_min_liquidation_bps", "basis_close_orphan",
        "adaptive_completion", "limit_buy_seconds", "limit_sell_seconds",
    }
)  # fmt: skip
_SETTABLE = PARAMETERS | {"name", "strategy", "mode"}
MAX_BOTS_PER_OWNER = 200


def bot_create(
    *,
    owner: User,
    actor: User | None,
    name: str,
    pairs: Iterable[TradingPair],
    accounts: Iterable[ExchangeAccount],
    mode: str = Bot.Mode.PAPER,
    **parameters: object,
) -> Bot:
    """Create a stopped bot; raises ValidationError and then saves nothing."""
    owner_check(actor=actor, owner_id=owner.pk)
    if Bot.objects.filter(owner=owner).count() >= MAX_BOTS_PER_OWNER:
        raise refuse(f"An owner may have at most {MAX_BOTS_PER_OWNER} bots: delete one first.")
    with transaction.atomic():
        bot = Bot(owner=owner, name=name, mode=mode)
        assign(bot, parameters, _SETTABLE)
        _strategy_check(bot)
        save_checked(bot)
        _relations_set(bot, pairs=list(pairs), accounts=list(accounts))
        audit_record(actor=actor, subject=bot, message=f"Created ({mode}).", flag=ADDITION)
    return bot


def bot_update(
    *,
    bot: Bot,
    actor: User | None,
    pairs: Iterable[TradingPair] | None = None,
    accounts: Iterable[ExchangeAccount] | None = None,
    **values: object,
) -> Bot:
    """Change a bot; a running one takes the change over at once, or is refused if it could not run with it."""
    owner_check(actor=actor, owner_id=bot.owner_id)
    with transaction.atomic():
        changed = assign(bot, values, _SETTABLE)
        if "strategy" in changed:
            _strategy_check(bot)
        if changed:
            save_checked(bot)
        new_pairs = None if pairs is None else list(pairs)
        new_accounts = None if accounts is None else list(accounts)
        changed += _relations_set(bot, pairs=new_pairs, accounts=new_accounts)
        if not changed:
            return bot
        if bot.desired_state == Bot.Desired.RUNNING:
            bot_check(bot=bot)
        audit_record(actor=actor, subject=bot, message=f"Changed {', '.join(changed)}.")
        engine_hint(bot.owner_id)
    return bot


def _strategy_check(bot: Bot) -> None:
    if bot.strategy == Bot.Strategy.MANUAL:
        raise refuse("A bot for trades by hand is made by the first of them: choose another.", field="strategy")


def _relations_set(
    bot: Bot, *, pairs: Collection[TradingPair] | None, accounts: Collection[ExchangeAccount] | None
) -> list[str]:
    changed = []
    if accounts is not None:
        accounts_check(owner_id=bot.owner_id, accounts=accounts)
        if set(bot.accounts.values_list("pk", flat=True)) != {account.pk for account in accounts}:
            bot.accounts.set(accounts)
            changed.append("accounts")
    if pairs is not None and set(bot.pairs.values_list("pk", flat=True)) != {pair.pk for pair in pairs}:
        bot.pairs.set(pairs)
        changed.append("pairs")
    return changed


def accounts_check(*, owner_id: int, accounts: Collection[ExchangeAccount]) -> None:
    """Refuse accounts of another owner, and two on one exchange (the bot could not tell whose balance it spends).

    Raises ValidationError on the field ``accounts``.
    """
    if any(account.owner_id != owner_id for account in accounts):
        raise refuse("Choose accounts of the bot's owner only.", field="accounts")
    for exchange, count in Counter(account.exchange for account in accounts).items():
        if count > 1:
            raise refuse(f"Choose one account on {exchange} (given {count}).", field="accounts")


def bot_check(*, bot: Bot) -> None:
    """Refuse a bot that could not trade, with the first reason and its cure.

    Raises ValidationError.
    """
    if bot.strategy == Bot.Strategy.MANUAL:
        _desk_check(bot)
        return
    accounts = list(bot.accounts.select_related("exchange"))
    accounts_check(owner_id=bot.owner_id, accounts=accounts)
    pairs = list(bot.pairs.all())
    if not accounts or not pairs:
        missing = "an account" if not accounts else "a pair"
        raise refuse(f"{bot.name} cannot start: it needs at least {missing}.")
    for account in accounts:
        _account_check(bot, account)
    if bot.strategy == Bot.Strategy.BASIS:
        _pairs_check(bot)
        return
    exchanges = [account.exchange for account in accounts]
    listed = Counter(Market.objects.filter(exchange__in=exchanges, active=True).values_list("base_id", "quote_id"))
    if not any(listed[pair.base_id, pair.quote_id] >= 2 for pair in pairs):
        raise refuse(
            f"{bot.name} cannot start: none of its pairs has two markets on its exchanges. "
            "Add an account on another exchange or another pair, or synchronise the markets."
        )


def _pairs_check(bot: Bot) -> None:
    """Refuse a spot-against-perpetual bot without a spot market and a perpetual of one pair."""
    markets = bot_routes(bot).markets
    if not any(not pair_refusal(spot, perp) for spot in markets for perp in markets):
        raise refuse(
            f"{bot.name} cannot start: none of its pairs has a spot market and a linear perpetual on its exchanges. "
            "Add an account on the exchange that lacks, or another pair, or synchronise the markets."
        )


def _desk_check(bot: Bot) -> None:
    """Refuse a bot for trades by hand without an account; each trade's own account is checked with the trade."""
    if not desk_accounts(owner_id=bot.owner_id, mode=bot.mode).exists():
        wanted = "enabled account with credentials" if bot.mode == Bot.Mode.LIVE else "enabled account"
        raise refuse(f"{bot.name} cannot start: its owner has no {wanted}; add one first.")


def _account_check(bot: Bot, account: ExchangeAccount) -> None:
    exchange = account.exchange
    start = f"{bot.name} cannot start: "
    if not account.enabled:
        raise refuse(f"{start}its account {account.label} is disabled.")
    if not exchange.enabled:
        raise refuse(f"{start}its exchange {exchange} is disabled.")
    if bot.mode != Bot.Mode.LIVE:
        return
    if not account.has_credentials:
        raise refuse(f"{start}its account {account.label} has no credentials, which live mode needs.")
    if exchange.environment == Exchange.Environment.LIVE:
        if not settings.ARB_ALLOW_LIVE_ORDERS:
            raise refuse(f"{start}this installation sends no live orders (ARB_ALLOW_LIVE_ORDERS=1 allows them).")
        if not account.armed_for_live:
            raise refuse(f"{start}its account {account.label} is not armed for live.")


def bot_start(*, bot: Bot, actor: User | None, idempotency_key: str | None = None) -> bool:
    """Want a bot to run. Returns False when it was wanted already: a second click has no second effect.

    Raises
    ------
    ValidationError
        If it could not run, with the reason and the cure.
    """
    owner_check(actor=actor, owner_id=bot.owner_id)
    bot_check(bot=bot)
    return _desire(bot, Bot.Desired.RUNNING, Command.Kind.BOT_START, actor, idempotency_key)


def bot_stop(*, bot: Bot, actor: User | None, idempotency_key: str | None = None) -> bool:
    """Want a bot to stop: it opens no more trades, those that are open are brought to their end."""
    owner_check(actor=actor, owner_id=bot.owner_id)
    return _desire(bot, Bot.Desired.STOPPED, Command.Kind.BOT_STOP, actor, idempotency_key)


def _desire(bot: Bot, state: str, kind: str, actor: User | None, idempotency_key: str | None) -> bool:
    with transaction.atomic():
        row = locks.bot_lock(bot_id=bot.pk)
        if row.desired_state == state:
            bot.desired_state = state
            return False
        row.desired_state = bot.desired_state = state
        row.desired_at = bot.desired_at = timezone.now()
        row.save(update_fields=["desired_state", "desired_at"])
        command_create(
            owner_id=row.owner_id, actor=actor, kind=kind, payload={"bot_id": row.pk}, idempotency_key=idempotency_key
        )
        audit_record(actor=actor, subject=row, message="Started." if state == Bot.Desired.RUNNING else "Stopped.")
    return True


def bot_delete(*, bot: Bot, actor: User | None) -> None:
    """Delete a stopped bot that never traded; one with trades stays, so that its history stands.

    Raises ValidationError.
    """
    owner_check(actor=actor, owner_id=bot.owner_id)
    with transaction.atomic():
        intents_settle(owner_id=bot.owner_id)
        row = locks.bot_lock(bot_id=bot.pk)
        if row.desired_state == Bot.Desired.RUNNING or row.trades.filter(state__in=UNFINISHED_TRADES).exists():
            raise refuse(f"{row.name} is running: stop it and wait for its trades to end before deleting it.")
        if row.trades.exists():
            raise refuse(f"{row.name} has {row.trades.count()} trades, which are kept: leave it stopped instead.")
        audit_record(actor=actor, subject=row, message="Deleted.", flag=DELETION)
        row.delete()
        engine_hint(row.owner_id)


def bot_observe(*, bot_id: int, state: str, reason: str = "") -> bool:
    """Record what the engine sees of a bot; returns whether that is new."""
    if state not in Bot.Observed.values:
        raise ValidationError(f"observed state: one of {', '.join(Bot.Observed.values)} (given {state!r}).")
    limit = Bot._meta.get_field("observed_reason").max_length
    values = {"observed_state": state, "observed_reason": reason[:limit]}
    changed = Bot.objects.filter(pk=bot_id).exclude(**values).update(**values, observed_at=timezone.now())
    return bool(changed)
