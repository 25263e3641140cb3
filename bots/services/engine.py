"""What an owner's engine is told to run. The only place where credentials are decrypted."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet

from bots import vault
from bots.models import UNFINISHED_ORDERS, Bot, ExchangeAccount, Market, Order, Trade
from bots.selectors import midnight_utc, profit_days, profits_since, trades_left_exposed, trades_unfinished
from bots.selectors.desks import desk_accounts, desk_markets
from bots.services.bots import bot_observe
from bots.services.evidence import past_results
from bots.services.installation import installation_get
from bots.services.risk_picture import risk_picture
from bots.services.tradability import BotRoutes, bot_routes
from bots.services.unfolding import intents_unfold
from risk.selectors import limit_bounds, limits_apply, pairs_allowed
from trading.basis import BasisRules
from trading.config import AccountConfig, BotConfig, OwnerConfig
from trading.execution.pricing import WorkingStyle
from trading.instruments import money
from trading.messages import TradeMode, WorstCase

logger = logging.getLogger("arb.engine")

RECORD_TRADES = 1000  # an owner's newest, from which routes have their record of trades won and lost


def engine_config(*, owner_id: int, token: int = 0, starting: bool = False) -> OwnerConfig:
    """Return the accounts and the bots that should run for an owner, limits applied.

    ``starting`` adds what only an engine that begins asks for: the day so far and the newest results.

    A bot whose accounts cannot be used (disabled, or credentials that no key opens) is left out and told why in its
    observed state; the others run. What is journaled of the owner's orders is unfolded first.
    """
    intents_unfold(owner_id=owner_id)
    bots = list(
        Bot.objects.filter(owner_id=owner_id, owner__is_active=True, desired_state=Bot.Desired.RUNNING)
        .prefetch_related("accounts__exchange", "pairs")
        .order_by("pk")
    )
    usable: dict[int, AccountConfig] = {}
    problems: dict[int, str] = {}
    used = {bot.pk: _accounts_of(bot) for bot in bots}
    for account in {account.pk: account for accounts in used.values() for account in accounts}.values():
        try:
            usable[account.pk] = _account_config(account)
        except vault.CredentialsUnreadable as problem:
            problems[account.pk] = f"Account {account.label}: {problem}."
        except _Disabled as problem:
            problems[account.pk] = str(problem)
    left, records = trades_left_exposed(owner_id=owner_id), _records(owner_id)
    exposed: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for trade in left:
        exposed[trade.bot_id][trade.trade_id] = trade.reason
    configs = []
    for bot in bots:
        reasons = [problems[account.pk] for account in used[bot.pk] if account.pk in problems]
        if reasons and bot.strategy != Bot.Strategy.MANUAL:  # which trades with its other accounts
            if bot_observe(bot_id=bot.pk, state=Bot.Observed.BLOCKED, reason=reasons[0]):
                logger.warning("bot %s is not run: %s", bot.pk, reasons[0])
            continue
        accounts = [account for account in used[bot.pk] if account.pk in usable]
        configs.append(_bot_config(bot, accounts, exposed.get(bot.pk, {}), records.get(bot.pk, {})))
    wanted = {account_id for config in configs for account_id in (*config.accounts.values(), *config.desk_accounts)}
    wanted |= _accounts_unfinished(owner_id, usable)
    return OwnerConfig(
        owner_id=owner_id,
        id_prefix=installation_get().id_prefix,
        lease_token=token,
        accounts=tuple(usable[account_id] for account_id in sorted(wanted)),
        bots=tuple(configs),
        live_allowed=settings.ARB_ALLOW_LIVE_ORDERS,
        max_loop_lag_seconds=settings.ARB_MAX_LOOP_LAG_SECONDS,
        risk=risk_picture(owner_id),
        today=profit_days(owner_id=owner_id) if starting else {},
        results=past_results(owner_id=owner_id) if starting else (),
        left_exposed=tuple(_worst_case(trade) for trade in left),
        markets=tuple(
            row.to_engine()
            for row in Market.objects.filter(orders__in=_orders_unfinished(owner_id))
            .select_related("exchange")
            .order_by("pk")
            .distinct()
        ),
    )


def _orders_unfinished(owner_id: int) -> QuerySet[Order]:
    """Return the orders an engine takes up: its own unfinished ones, and all of trades that are not at their end."""
    return Order.objects.filter(owner_id=owner_id).filter(
        Q(trade__in=trades_unfinished().filter(owner_id=owner_id)) | Q(state__in=UNFINISHED_ORDERS)
    )


def _accounts_unfinished(owner_id: int, usable: dict[int, AccountConfig]) -> set[int]:
    """Add the accounts of unfinished trades and orders, be their bots stopped or disabled: watched to the end.

    Returns their ids; one that cannot be read is logged and left out.
    """
    rows = ExchangeAccount.objects.filter(orders__in=_orders_unfinished(owner_id))
    found = set()
    for account in rows.select_related("exchange").order_by("pk").distinct():
        try:
            usable.setdefault(account.pk, _account_config(account, even_disabled=True))
            found.add(account.pk)
        except vault.CredentialsUnreadable as problem:
            logger.error("orders of account %s cannot be watched: %s", account.pk, problem)
    return found


class _Disabled(Exception):
    """Why an account may not trade."""


def _account_config(account: ExchangeAccount, *, even_disabled: bool = False) -> AccountConfig:
    if not account.enabled and not even_disabled:
        raise _Disabled(f"Account {account.label} is disabled.")
    if not account.exchange.enabled and not even_disabled:
        raise _Disabled(f"Exchange {account.exchange} is disabled.")
    return AccountConfig(
        account_id=account.pk,
        label=account.label,
        exchange=account.exchange.to_engine(),
        credentials=vault.unseal(account.pk, account.credentials) if account.credentials else None,
        armed_for_live=account.armed_for_live,
        paper_balances={asset: money(amount, field=asset) for asset, amount in account.paper_balances.items()},
    )


def _worst_case(trade: Trade) -> WorstCase:
    """Return what an exposed trade holds at its worst: its residual, and what orders may fill yet, at the dearest."""
    orders = list(trade.orders.all())
    low = high = trade.residual_base
    for order in orders:
        if order.state in UNFINISHED_ORDERS:
            rest = (order.quantity - order.filled) * order.market.contract_size
            low, high = (low, high + rest) if order.side == "buy" else (low - rest, high)
    return WorstCase(
        trade_id=trade.trade_id,
        base=trade.base,
        quote=trade.quote,
        notional=max(abs(low), abs(high))
        * max((order.average_price or order.price for order in orders), default=Decimal(0)),
        exchanges=tuple(sorted({order.market.exchange.code for order in orders})),
        accounts=tuple(sorted({order.account_id for order in orders})),
        paper=trade.mode == TradeMode.PAPER,
    )


def _records(owner_id: int) -> dict[int, dict[str, tuple[int, int]]]:
    """Return how many of the owner's last trades each bot's routes have won and lost; what came out even was won."""
    rows = Trade.objects.filter(owner_id=owner_id, realised_profit__isnull=False).order_by("-id")
    found: defaultdict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
    for bot_id, route, profit in rows.values_list("bot_id", "route", "realised_profit")[:RECORD_TRADES]:
        markets = route.partition(":")[2]
        won, lost = found[bot_id].get(markets, (0, 0))
        is_won = profit is not None and profit >= 0
        found[bot_id][markets] = (won + is_won, lost + (not is_won))
    return found


def _accounts_of(bot: Bot) -> list[ExchangeAccount]:
    """Return what a bot trades with: its own accounts, or by hand all that its owner may."""
    if bot.strategy == Bot.Strategy.MANUAL:
        return list(desk_accounts(owner_id=bot.owner_id, mode=bot.mode))
    return list(bot.accounts.all())


def _basis_rules(bot: Bot) -> BasisRules:
    return BasisRules(
        min_entry_bps=float(bot.min_net_edge_bps),
        exit_bps=float(bot.basis_exit_bps),
        min_funding_bps=float(bot.basis_min_funding_bps),
        funding_hours=float(bot.basis_funding_hours),
        slippage_bps=float(bot.basis_slippage_bps),
        max_hold_hours=float(bot.basis_max_hold_hours),
        leverage=bot.basis_leverage,
        min_liquidation_bps=float(bot.basis_min_liquidation_bps),
        close_orphan=bot.basis_close_orphan,
    )


def _bot_config(
    bot: Bot, used: Sequence[ExchangeAccount], exposed: Mapping[str, str], record: Mapping[str, tuple[int, int]]
) -> BotConfig:
    by_hand = bot.strategy == Bot.Strategy.MANUAL
    accounts = {account.exchange.code: account.pk for account in used}
    if by_hand:
        markets = desk_markets(owner_id=bot.owner_id, mode=bot.mode)
        routes = BotRoutes(tuple(market.to_engine() for market in markets), {}, {})
    else:
        routes = bot_routes(bot)
    parameters: dict[str, Any] = {
        "min_net_edge_bps": float(bot.min_net_edge_bps),
        "max_edge_bps": float(bot.max_edge_bps),
        "max_trade_notional": bot.max_trade_notional,
        "max_book_age_ms": float(bot.max_book_age_ms),
        "max_open_trades": bot.max_open_trades,
        "cooldown_ms": float(bot.cooldown_ms),
        "price_tolerance_bps": float(bot.price_tolerance_bps),
        "leg_policy": bot.leg_policy,
        "repair_tolerance_bps": float(bot.repair_tolerance_bps),
        "completion_seconds": float(bot.completion_seconds),
        "unwind_tolerance_bps": float(bot.unwind_tolerance_bps),
        "unwind_seconds": float(bot.unwind_seconds),
        "max_repair_loss": bot.max_repair_loss,
        "adaptive_completion": bot.adaptive_completion,
        "working": WorkingStyle(buy_seconds=float(bot.limit_buy_seconds), sell_seconds=float(bot.limit_sell_seconds)),
        "order_timeout_ms": float(bot.order_timeout_ms),
        "basis": _basis_rules(bot),
        "realised_today": profits_since(bot.profits.all(), midnight_utc()),
        "exposed": exposed,
        "record": record,
        "untradable": routes.untradable,
        "unproven": routes.unproven,
    }
    config = BotConfig(
        bot_id=bot.pk,
        name=bot.name,
        mode=bot.mode,
        strategy=bot.strategy,
        markets=routes.markets,
        accounts={} if by_hand else accounts,
        desk_accounts=tuple(sorted(account.pk for account in used)) if by_hand else (),
        **parameters,
    )
    pairs = {f"{market.base}/{market.quote}" for market in routes.markets}
    bounds = limit_bounds(owner_id=bot.owner_id, bot_id=bot.pk, exchanges=accounts.keys(), pairs=pairs)
    return limits_apply(config, bounds, pairs_allowed(owner_id=bot.owner_id, bot_id=bot.pk))
