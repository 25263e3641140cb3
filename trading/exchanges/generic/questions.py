"""What an account's exchange is asked: orders, executions, balances, positions. Each may be asked again."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from trading.exchanges.generic.calls import Calls, Reply, Value
from trading.exchanges.generic.dialect import Dialect, Figures, Names
from trading.exchanges.generic.own_orders import OwnOrders
from trading.exchanges.generic.scrub import Scrubber
from trading.instruments import Market
from trading.messages import AccountBalance, AccountIncome, AccountPosition, Fill, OrderEvent, OrderIntent, OrderState
from trading.ports import Clock


class Questions:
    """One account's."""

    def __init__(
        self,
        client: Any,
        dialect: Dialect,
        calls: Calls,
        names: Names,
        own: OwnOrders,
        clock: Clock,
        scrub: Scrubber,
        *,
        exchange: str,
    ) -> None:
        self._exchange = exchange
        self._client = client
        self._dialect = dialect
        self._calls = calls
        self._names = names
        self._own = own
        self._clock = clock
        self._scrub = scrub

    async def order(self, intent: OrderIntent, market: Market) -> OrderEvent | None:
        """Ask by client order id; None when the exchange has no such order, an UNKNOWN event when no answer proves
        anything."""
        reply = await self._calls.ask("order", lambda: self._dialect.fetch_order(self._client, intent, market))
        if reply.error is None:
            if reply.value is None:
                return None
            self._own.remember(reply.value)
            return self.stamped(reply.value)
        if reply.answer.status and reply.reading.code in self._dialect.not_found:
            return None
        return self.no_answer(intent, reply.reading.message or self._scrub.error(reply.error))

    async def open_orders(self) -> Reply[list[OrderEvent]]:
        """Ask for all open orders of the account, ours or not."""
        return await self._calls.ask("open_orders", lambda: self._dialect.fetch_open_orders(self._client))

    async def owed(self) -> Reply[list[OrderEvent]]:
        """Ask for what the stream has told in part only."""
        return await self._calls.ask("owed", lambda: self._dialect.fetch_owed(self._client))

    async def fills(self, market: Market, since_ms: int) -> Reply[list[Fill]]:
        """Ask for executions in a market since a moment of the exchange's time."""
        own = self._own.ids
        return await self._calls.ask("fills", lambda: self._dialect.fetch_fills(self._client, market, since_ms, own))

    async def balances(self) -> Reply[list[AccountBalance]]:
        """Ask for all balances."""
        return await self._calls.ask("balances", self._balances)

    async def positions(self) -> Reply[list[AccountPosition]]:
        """Ask for the open positions in contracts, by their markets' keys; those of markets we don't follow too."""
        return await self._calls.ask("positions", self._positions)

    async def incomes(self, since_ms: int) -> Reply[list[AccountIncome]]:
        """Ask for the lines of the statement since a moment of the exchange's time."""
        return await self._calls.ask("incomes", lambda: self._dialect.fetch_incomes(self._client, since_ms))

    def balance(self, figures: Figures, at_ns: int) -> AccountBalance:
        """Return one asset's figures as they stood at a moment."""
        return AccountBalance(
            account_id=self._names.account_id,
            asset=figures.asset,
            free=figures.free,
            used=figures.used,
            wallet=figures.wallet,
            received_ns=at_ns,
        )

    def stamped(self, event: OrderEvent) -> OrderEvent:
        """Return an event as received now."""
        return msgspec.structs.replace(event, received_ns=self._clock.time_ns())

    def no_answer(self, intent: OrderIntent, cause: str) -> OrderEvent:
        """Return what is known of an order that was asked about in vain: nothing, and why."""
        return OrderEvent(
            account_id=self._names.account_id,
            market=intent.market,
            client_order_id=intent.client_order_id,
            state=OrderState.UNKNOWN,
            source="query",
            cause=self._scrub(cause),
            received_ns=self._clock.time_ns(),
        )

    async def _balances(self) -> list[AccountBalance]:
        asked_ns = self._clock.time_ns()  # figures pushed meanwhile are newer
        found = {figures.asset: figures for figures in await self._dialect.fetch_balances(self._client)}
        # Exchanges leave out, or list by the hundred, what is zero: of the assets we trade, zero is a figure.
        wanted = self._names.assets()
        kept = [
            figures
            for figures in found.values()
            if figures.asset in wanted or figures.free or figures.used or figures.wallet
        ]
        kept += [Figures(asset, Decimal(0), Decimal(0)) for asset in sorted(wanted - found.keys())]
        return [self.balance(figures, asked_ns) for figures in kept]

    async def _positions(self) -> list[AccountPosition]:
        found = await self._dialect.fetch_positions(self._client)
        return [msgspec.structs.replace(one, market=self._key_of(one.market)) for one in found]

    def _key_of(self, name: str) -> str:
        """Return the key of a market by what the dialect found: a key, or the exchange's name of one not followed."""
        if self._names.market(name) is not None:
            return name
        listed = (self._client.markets_by_id or {}).get(name) or ()
        symbol = next((market["symbol"] for market in listed if market.get(self._dialect.kind)), name)
        return f"{self._exchange}:{symbol}"


def value_of(reply: Reply[Value]) -> Value:
    """Return what was answered; raise the error there was instead."""
    if reply.error is not None:
        raise reply.error
    assert reply.value is not None
    return reply.value
