"""Booking of matches in contracts: positions, realised profit, fees and funding, in one wallet per asset.

The market's own side is booked as on spot: it receives and gives base and quote. What it holds at the mark price,
users' wallets with their unrealised profit, and the fees taken always add up to what users brought.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from exchangesim.core.accounts import Account
from exchangesim.core.futures.algo_orders import AlgoOrder
from exchangesim.core.futures.positions import PLACES, Position, share
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import (
    ZERO,
    ExecutionType,
    Fill,
    Order,
    PublicTrade,
    Reject,
    Rejected,
    Side,
)
from exchangesim.core.settlement import Settlement
from exchangesim.core.state import Entry

if TYPE_CHECKING:
    from exchangesim.core.futures.exchange import FuturesExchange


class FuturesSettlement(Settlement):
    """See the module's text."""

    _exchange: FuturesExchange

    def __init__(self, exchange: FuturesExchange) -> None:
        super().__init__(exchange)
        self._positions: dict[str, Position] = {}
        self._entries: list[Entry] = []
        self._algos: dict[int, AlgoOrder] = {}

    def touched(self) -> list[Position]:
        """Return the positions that the operation has changed so far."""
        return list(self._positions.values())

    def execute(self, market: SimMarket, order: Order, price: Decimal, quantity: Decimal, now: int) -> Fill:
        """Book a trade of an order with the market's own side beyond all rules; no margin is asked for."""
        trade = PublicTrade(
            id=self._exchange.next_trade_id(),
            aggregate_id=self._exchange.next_aggregate_id(),
            price=price,
            quantity=quantity,
            taker_side=order.side,
            time_ms=now,
        )
        self._trades.append(trade)
        self._book(market, None, order.side.opposite, trade, maker=True)
        self._book(market, order, order.side, trade, maker=False)
        if order.last_fill is None or order.last_fill.trade_id != trade.id:
            raise Rejected(Reject.REDUCE_ONLY, "There is no position that the order could reduce.")
        return order.last_fill

    def undo(self, order: Order, fill: Fill, now: int) -> None:
        raise Rejected(Reject.ORDER_CLOSED, "Executions of contracts are not taken back.")

    def move(
        self, account: Account, asset: str, amount: Decimal, kind: str, *, native: str = "", trade_id: int = 0, now: int
    ) -> None:
        """Change an account's wallet and note it in its statement."""
        account.credit(asset, amount)
        account.updated_ms = now
        self._accounts[account.api_key] = account
        self._entries.append(
            Entry(
                id=self._exchange.next_entry_id(),
                api_key=account.api_key,
                native=native,
                kind=kind,
                asset=asset,
                amount=amount,
                time_ms=now,
                trade_id=trade_id,
            )
        )

    def take_from_market(self, asset: str, amount: Decimal) -> None:
        """Let the market's own side pay an amount (or, negative, receive it)."""
        self.market_flow[asset] = self.market_flow.get(asset, ZERO) - amount

    def charge(self, account: Account, asset: str, amount: Decimal, kind: str, *, native: str, now: int) -> None:
        """Take a fee that is no trade's."""
        self.move(account, asset, -amount, kind, native=native, now=now)
        self.fees[asset] = self.fees.get(asset, ZERO) + amount

    def keep_order(self, account: Account, order: Order, now: int) -> None:
        """Note that an order has changed without telling anybody."""
        order.updated_ms = now
        self._orders[order.id], self._accounts[account.api_key] = order, account

    def keep_algo(self, algo: AlgoOrder) -> None:
        """Note that a conditional order has changed."""
        self._algos[algo.id] = algo

    def keep(self, position: Position) -> None:
        """Note that a position has changed."""
        self._positions[self._exchange.position_key(position)] = position

    def _changed_facts(self) -> list[tuple[str, object]]:
        facts: list[tuple[str, object]] = [
            (f"position:{key}", replace(position)) for key, position in self._positions.items()
        ]
        self._positions.clear()
        if self._fills or self._entries:
            facts += [("fees", self.fees), ("market_flow", self.market_flow)]
        return facts

    def _changed_algos(self) -> list[AlgoOrder]:
        algos, self._algos = self._algos, {}
        return list(algos.values())

    def _new_entries(self) -> list[Entry]:
        entries, self._entries = self._entries, []
        return entries

    def _book(self, market: SimMarket, order: Order | None, side: Side, trade: PublicTrade, *, maker: bool) -> None:
        if order is None:
            super()._book(market, None, side, trade, maker=maker)
            return
        account, rules = self._exchange.accounts[order.api_key], market.rules
        position = self._exchange.position(account, order.native, order.position_side)
        if order.reduce_only:
            # Another order may have reduced the position within the same sweep: what is too much, the market takes.
            usable = min(trade.quantity, position.reducible(side))
            if usable < trade.quantity:
                rest = replace(trade, quantity=trade.quantity - usable)
                super()._book(market, None, side, rest, maker=maker)
                if not usable:
                    return
                trade = replace(trade, quantity=usable)
        rate = rules.maker_fee if maker else rules.taker_fee
        terms = self._exchange.irregular.fee(order)
        if terms is not None:
            rate *= terms.times
        fee = (trade.price * trade.quantity * rate).quantize(PLACES, ROUND_HALF_EVEN)
        held = abs(position.quantity)
        change = position.trade(side, trade.quantity, trade.price, fee)
        settings = self._exchange.settings(account)
        if change.reduced:
            position.isolated_wallet -= share(position.isolated_wallet, change.reduced, held)
        if change.opened and order.native in settings.isolated:
            margin = change.opened * trade.price / settings.leverage(order.native)
            position.isolated_wallet += margin.quantize(PLACES, ROUND_HALF_EVEN)
        position.updated_ms = trade.time_ms
        self.keep(position)
        where = {"native": order.native, "trade_id": trade.id, "now": trade.time_ms}
        if change.realized:
            self.move(account, rules.quote, change.realized, "REALIZED_PNL", **where)  # type: ignore[arg-type]
        if fee:
            self.move(account, rules.quote, -fee, "COMMISSION", **where)  # type: ignore[arg-type]
            self.fees[rules.quote] = self.fees.get(rules.quote, ZERO) + fee
        fill = Fill(
            trade_id=trade.id,
            order_id=order.id,
            client_id=order.client_id,
            api_key=order.api_key,
            native=order.native,
            side=side,
            price=trade.price,
            quantity=trade.quantity,
            fee=fee,
            fee_asset=rules.quote,
            maker=maker,
            time_ms=trade.time_ms,
            realized=change.realized,
            position_side=order.position_side,
        )
        self._exchange.tell_margin(account, "ORDER", (position,), ZERO, trade.time_ms)
        self._note(account, order, fill, ExecutionType.LIQUIDATED if order.liquidation else ExecutionType.TRADE)
