"""Venues of one owner's real accounts, and when they no longer fit the configuration."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from importlib import import_module

from trading.config import AccountConfig, OwnerConfig
from trading.exchanges.addresses import Addresses
from trading.exchanges.registry import venue_for
from trading.instruments import Market
from trading.ports import Clock, Venue

logger = logging.getLogger("arb.engine")


class AccountVenues:
    """Makes a venue for each account that has credentials, once."""

    def __init__(self, clock: Clock, addresses: Addresses) -> None:
        self._clock = clock
        self._addresses = addresses
        self._made: dict[int, tuple[AccountConfig, Venue]] = {}

    async def prepare(self, config: OwnerConfig) -> None:
        """Import what venues need on a thread: it takes a second, which the event loop hasn't got."""
        if any(account.credentials is not None for account in config.accounts):
            await asyncio.to_thread(import_module, "trading.exchanges.generic.venue")

    def update(self, config: OwnerConfig) -> Mapping[int, Venue]:
        """Return the venues of ``config``'s accounts; an account whose venue can't be made is logged and left out."""
        markets: dict[str, dict[str, Market]] = {}
        for market in (*config.markets, *(market for bot in config.bots for market in bot.markets)):
            markets.setdefault(market.exchange, {})[market.key] = market
        for account in config.accounts:
            if account.credentials is None or account.account_id in self._made:
                continue
            try:
                venue = venue_for(
                    account,
                    markets.get(account.exchange.code, {}).values(),
                    self._clock,
                    addresses=self._addresses,
                    jitter=random.random,
                )
            except ValueError as problem:
                logger.error("account %s can't be used: %s", account.label, problem)
                continue
            self._made[account.account_id] = (account, venue)
        return {account_id: venue for account_id, (_, venue) in self._made.items()}

    def outdated(self, config: OwnerConfig) -> str:
        """Return why a venue that was made can't go on: its credentials or its exchange's addresses have changed."""
        for account in config.accounts:
            made = self._made.get(account.account_id)
            if made is None:
                continue
            if made[0].credentials != account.credentials:
                return f"the credentials of account {account.label} have changed"
            if made[0].exchange != account.exchange:
                return f"the addresses of exchange {account.exchange.code} have changed"
        return ""
