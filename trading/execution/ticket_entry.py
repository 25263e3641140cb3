"""The entry of one ticket: its quantity worked once, within the time and the price that were asked for."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from risk.policy.switch import verdict
from trading.execution.fitting import words
from trading.execution.progress import PLACING_ORDER
from trading.execution.result import ZERO
from trading.instruments import lot_quantity
from trading.messages import TradeState
from trading.tickets import ENTRY_LEG

if TYPE_CHECKING:
    from trading.execution.ticket import Ticket


class Entry:
    """``is_over`` says that no more is entered: it has been worked, by this process or by one before."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self.is_over = ticket.record.state is not TradeState.OPEN or self._is_too_late()

    def _is_too_late(self) -> bool:
        """Return whether the time it was to be worked in is over."""
        ticket = self._ticket
        seconds = ticket.asked.style.seconds(ticket.asked.side)
        return ticket.desk.clock.time_ns() > ticket.record.opened_ns + int(seconds * 1e9)

    async def work(self) -> None:
        """Enter what is not entered yet."""
        ticket = self._ticket
        asked = ticket.asked
        how = words(asked.style, asked.side, liquidity=asked.liquidity)
        ticket.report.step(PLACING_ORDER, how)
        left = lot_quantity(asked.quantity - self._entered(), ticket.market)
        if left > 0 and (why := await self._leveraged()):
            ticket.note = why
            left = ZERO
        if left > 0:
            if not asked.is_close_only:
                ticket.protection.watch()
            worked = await ticket.workings.work(
                ticket.market,
                ticket.purse,
                asked.side,
                left,
                asked.style,
                leg=ENTRY_LEG,
                note=how,
                reduce_only=asked.is_close_only and ticket.market.kind != "spot",
                cap=asked.limit_cap,
                why_stop=self._why_stop,
            )
            ticket.count(worked)
        self.is_over = True

    def _entered(self) -> Decimal:
        orders = self._ticket.orders.values()
        return sum((order.filled for order in orders if order.intent.leg == ENTRY_LEG), ZERO)

    async def _leveraged(self) -> str:
        """Let the exchange hold the position with the leverage asked for; return why it doesn't."""
        ticket = self._ticket
        if ticket.asked.leverage is None or ticket.asked.is_close_only or ticket.market.kind == "spot":
            return ""
        return await ticket.desk.venues[ticket.purse].set_leverage(ticket.market.key, ticket.asked.leverage)

    def _why_stop(self) -> str:
        ticket = self._ticket
        switched = verdict(ticket.desk.switch_of(ticket.record.bot_id))
        if not switched.allowed:
            return switched.reason
        if not ticket.is_durable:  # who has asked waits for a word
            return ticket.refused or ticket.placing.last_note
        return ""
