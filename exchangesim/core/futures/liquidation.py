"""Liquidation: the exchange closes positions whose margin no longer does, whole and at once.

A real exchange reduces large positions step by step; here an account under cross margin loses all its positions of one
quote asset together, one under isolated margin the position alone. What no one in the book takes, and what the margin
does not cover, the market's own side bears, as an insurance fund would.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from exchangesim.core.accounts import Account
from exchangesim.core.futures.margin import AccountMargin
from exchangesim.core.futures.positions import PLACES, Position
from exchangesim.core.orders import ZERO, CloseReason, NewOrder, Order, OrderType, Side, Status

if TYPE_CHECKING:
    from exchangesim.core.futures.exchange import FuturesExchange

CALL_AT = Decimal("0.8")
"""Margin call when the maintenance margin is this part of the margin balance."""


class Liquidator:
    """Watches the margin of one exchange's accounts."""

    def __init__(self, exchange: FuturesExchange) -> None:
        self._exchange = exchange
        self._called: set[tuple[str, str]] = set()
        """Accounts and assets that have been told."""

    def run(self) -> None:
        """Liquidate whatever is due, and tell who is near it."""
        exchange = self._exchange
        pairs = {
            (position.api_key, exchange.markets[position.native].rules.quote): None
            for position in exchange.positions()
            if position.native in exchange.markets
        }
        self._called &= set(pairs)
        for api_key, asset in pairs:
            account = exchange.accounts[api_key]
            margin = exchange.margin(account, asset)
            for figure in margin.positions:
                own = figure.position.isolated_wallet + figure.unrealized
                if figure.isolated and figure.position.quantity and own <= figure.maintenance:
                    self._liquidate(account, asset, [figure.position], isolated=True)
            if margin.cross_maintenance and margin.cross_balance <= margin.cross_maintenance:
                cross = [figure.position for figure in margin.positions if not figure.isolated]
                self._liquidate(account, asset, cross, isolated=False)
            else:
                self._call(account, asset, margin)

    def _call(self, account: Account, asset: str, margin: AccountMargin) -> None:
        near = margin.cross_maintenance > 0 and margin.cross_maintenance >= CALL_AT * margin.cross_balance
        if near and (account.api_key, asset) not in self._called:
            self._called.add((account.api_key, asset))
            self._exchange.tell_margin_call(account, margin)
        elif not near:
            self._called.discard((account.api_key, asset))

    def _liquidate(self, account: Account, asset: str, positions: list[Position], *, isolated: bool) -> None:
        exchange = self._exchange
        natives = {position.native for position in positions}
        for order in exchange.shelf.open(account):
            if order.native in natives:
                exchange.take_away(account, order, Status.CANCELED, CloseReason.LIQUIDATION)
        for position in positions:
            if position.quantity:
                self._close(account, asset, position, isolated=isolated)
        if not isolated:
            self._cover(account, asset, -account.free(asset))

    def _close(self, account: Account, asset: str, position: Position, *, isolated: bool) -> None:
        exchange = self._exchange
        wallet, margin = account.free(asset), position.isolated_wallet
        notional = abs(position.quantity) * exchange.mark(position.native)
        exchange.liquidate(
            account,
            NewOrder(
                native=position.native,
                side=Side.SELL if position.quantity > 0 else Side.BUY,
                type=OrderType.MARKET,
                quantity=abs(position.quantity),
                client_id=f"autoclose-{exchange.clock.time_ms()}{position.side[0]}{position.native}"[:36],
                reduce_only=True,
                position_side=position.side,
                liquidation=True,
            ),
        )
        # What is left of the margin that stood for the position: the isolated one alone, or the whole wallet.
        left = margin + account.free(asset) - wallet if isolated else account.free(asset)
        rate = exchange.markets[position.native].rules.liquidation_fee
        fee = min((notional * rate).quantize(PLACES, ROUND_HALF_EVEN), max(ZERO, left))
        if fee:
            exchange.charge_liquidation(account, asset, fee, position.native)
        if isolated:
            self._cover(account, asset, -left)

    def _cover(self, account: Account, asset: str, deficit: Decimal) -> None:
        if deficit > 0:
            self._exchange.cover(account, asset, deficit)


def deleverage(exchange: FuturesExchange, account: Account, position: Position, quantity: Decimal) -> Order:
    """Close some of a position to cover what another lost (ADL).

    A real exchange does so at the other's bankruptcy price and outside the book; here the book's prices are taken.
    """
    new = NewOrder(
        native=position.native,
        side=Side.SELL if position.quantity > 0 else Side.BUY,
        type=OrderType.MARKET,
        quantity=quantity,
        client_id="adl_autoclose",
        reduce_only=True,
        position_side=position.side,
        liquidation=True,
    )
    return exchange.liquidate(account, new)
