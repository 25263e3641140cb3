"""Whose money a bot trades with: real accounts only if every yes is given for every leg, else paper for all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from trading.config import MANUAL, AccountConfig, BotConfig, OwnerConfig
from trading.messages import TradeMode
from trading.portfolio import Purse

LIVE = "live"


class Purses(msgspec.Struct, frozen=True, kw_only=True):
    """A bot's purse on each exchange, by exchange code; ``why_paper`` is empty when they are real."""

    by_exchange: Mapping[str, Purse]
    mode: TradeMode
    why_paper: str = ""
    # Of a bot for trades by hand: each account's own, with its exchange. None of them keeps it from the others.
    desk: tuple[tuple[str, Purse], ...] = ()

    @property
    def paper(self) -> bool:
        return self.mode is TradeMode.PAPER


def purses_of(bot: BotConfig, config: OwnerConfig) -> Purses | str:
    """Return what the bot trades with, or in one sentence why it can't run.

    Real orders need a bot in live mode; on live exchanges also the installation's permission and an armed account.
    One leg is never real while another is on paper, and never real money while another is a testnet's: that would be
    a naked position.
    """
    if bot.strategy == MANUAL:
        return _desk_purses(bot, config)
    accounts = {account.account_id: account for account in config.accounts}
    used: dict[str, AccountConfig] = {}
    for exchange in sorted({market.exchange for market in bot.markets}):
        account_id = bot.accounts.get(exchange)
        account = accounts.get(account_id) if account_id is not None else None
        if account is None:
            return f"Bot {bot.name} has no account on {exchange}; choose one or leave its markets out."
        if account.exchange.code != exchange:
            return f"Bot {bot.name} uses account {account.label} for {exchange}, but it is on {account.exchange.code}."
        used[exchange] = account
    why_paper = _why_paper(bot, config, used.values())
    environments = {account.exchange.environment for account in used.values()}
    if not why_paper and LIVE in environments and len(environments) > 1:
        return f"Bot {bot.name} would trade real money against {', '.join(sorted(environments - {LIVE}))} money."
    mode = TradeMode.PAPER if why_paper else _least_real(environments)
    return Purses(
        by_exchange={
            exchange: Purse(account.account_id, mode is TradeMode.PAPER) for exchange, account in used.items()
        },
        mode=mode,
        why_paper=why_paper,
    )


def desk_purse(bot: BotConfig, account: AccountConfig, config: OwnerConfig) -> tuple[Purse, TradeMode] | str:
    """Return whose money a trade by hand on an account moves, or why a live bot has none of it there.

    A live one never turns to paper: who trades by hand has chosen.
    """
    if bot.mode != LIVE:
        return Purse(account.account_id, True), TradeMode.PAPER
    if why_paper := _why_paper(bot, config, [account]):
        return f"Real orders can't be sent: {why_paper}."
    return Purse(account.account_id, False), _least_real({account.exchange.environment})


def _desk_purses(bot: BotConfig, config: OwnerConfig) -> Purses:
    found = []
    for account in config.accounts:
        if account.account_id in bot.desk_accounts and not isinstance(purse := desk_purse(bot, account, config), str):
            found.append((account.exchange.code, purse[0]))
    return Purses(by_exchange={}, mode=TradeMode.LIVE if bot.mode == LIVE else TradeMode.PAPER, desk=tuple(found))


def _least_real(environments: Collection[str]) -> TradeMode:
    """Return whose money real orders move; between a simulated exchange and a testnet, a trade is simulated."""
    return next((mode for mode in (TradeMode.SIMULATED, TradeMode.TESTNET) if mode in environments), TradeMode.LIVE)


def _why_paper(bot: BotConfig, config: OwnerConfig, accounts: Iterable[AccountConfig]) -> str:
    if bot.mode != LIVE:
        return "the bot is in paper mode"
    for account in accounts:
        if account.credentials is None:
            return f"account {account.label} has no credentials"
        if account.exchange.environment != LIVE:
            continue
        if not config.live_allowed:
            return "live orders are not allowed here (ARB_ALLOW_LIVE_ORDERS)"
        if not account.armed_for_live:
            return f"account {account.label} is not armed for live"
    return ""
