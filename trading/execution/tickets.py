"""An engine's trades by hand: opened and closed as commands ask, and rid of protective orders that protect nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from risk.policy.switch import Action, verdict
from risk.policy.verdict import Verdict
from trading.config import OwnerConfig
from trading.execution.accounts import Accounts
from trading.execution.bots import RunningBot
from trading.execution.breakers import BreakerDesk
from trading.execution.desk import Desk
from trading.execution.fitting import fitted_to_book
from trading.execution.gate import Refusal
from trading.execution.past import StoredTrade
from trading.execution.planner import terms_of
from trading.execution.progress import CONNECTING, Progress
from trading.execution.purses import desk_purse
from trading.execution.states import is_terminal
from trading.execution.ticket import Ticket
from trading.execution.ticket_gate import TicketGate
from trading.execution.ticket_views import progress_view
from trading.execution.trades import Trades
from trading.instruments import Market, limit_price
from trading.messages import PROTECTIVE, OrderEvent, OrderIntent, OrdersBy, TradeMode, TradeRecord, TradeState
from trading.portfolio import Purse
from trading.tasks import end_tasks
from trading.tickets import CAP_BPS, ClosingTerms, TicketTerms

ZERO = Decimal(0)
BPS = Decimal(10_000)
CONNECT_SECONDS = 10.0  # for so long an account and a book that are only starting are waited for
CONNECT_PAUSE = 0.02
# A comparison reads an account twice, three seconds apart if something differs; asking again by hand takes longer.
COMPARED_SECONDS = 8.0
ORPHAN_TRIES, ORPHAN_PAUSE_SECONDS = 3, 1.0


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What came of opening a ticket: its trade's id, or the check that refused and one sentence why."""

    trade_id: str = ""
    check: str = ""
    refusal: str = ""


class Tickets:
    """Opens, closes and looks after the tickets of one engine.

    ``follow`` has a market's data flow. ``read_trade`` asks the store for the trade of an order until it answers.
    ``is_ours`` knows the ids of this owner's orders.
    """

    def __init__(
        self,
        desk: Desk,
        trades: Trades,
        accounts: Accounts,
        breakers: BreakerDesk,
        gate: TicketGate,
        *,
        config: Callable[[], OwnerConfig],
        bot_of: Callable[[int], RunningBot | None],
        purse_fault: Callable[[Purse], tuple[str, bool]],
        follow: Callable[[Market], object],
        read_trade: Callable[[str], Coroutine[Any, Any, StoredTrade | None]],
        is_ours: Callable[[str], bool],
    ) -> None:
        self._desk = desk
        self._trades = trades
        self._accounts = accounts
        self._breakers = breakers
        self._gate = gate
        self._config = config
        self._bot_of = bot_of
        self._purse_fault = purse_fault
        self._follow = follow
        self._read_trade = read_trade
        self._is_ours = is_ours
        self._opening: dict[int, asyncio.Future[Opened]] = {}  # by command
        self._cleaning: set[asyncio.Task[None]] = set()

    # -- asked for by hand ------------------------------------------------------------------------------------------

    async def open(self, bot_id: int, asked: TicketTerms) -> Opened:
        """Open a ticket; return once its first order is durable, or it is clear that nothing is sent.

        The same command again is the same ticket, so long as the ticket is followed.
        """
        if asked.command_id:
            known = next((one for one in self._trades.tickets() if one.asked.command_id == asked.command_id), None)
            if known is not None:
                await known.decided.wait()
                return _opened(known)
            if (opening := self._opening.get(asked.command_id)) is not None:
                return await asyncio.shield(opening)
        future: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
        self._opening[asked.command_id] = future
        try:
            opened = await self._open(bot_id, asked)
            if not opened.trade_id:
                self._publish_failed(asked, opened.refusal)
            future.set_result(opened)
            return opened
        finally:
            self._opening.pop(asked.command_id, None)
            if not future.done():
                future.cancel()

    async def _open(self, bot_id: int, asked: TicketTerms) -> Opened:
        found = self._find(bot_id, asked)
        if isinstance(found, str):
            return Opened(check="request", refusal=found)
        bot, market, purse, mode = found
        desk = self._desk
        record = TradeRecord(
            trade_id=desk.ids.next_trade(),
            bot_id=bot_id,
            route=f"{bot_id}:{market.key}",
            base=market.base,
            quote=market.quote,
            state=TradeState.OPEN,
            mode=mode.value,
            quantity=asked.quantity * market.contract_size if market.kind != "inverse" else asked.quantity,
            expected_net_bps=ZERO,
            expected_profit=ZERO,
            opened_ns=desk.clock.time_ns(),
            ticket=asked,
        )
        label = next(one.label for one in self._config().accounts if one.account_id == asked.account_id)
        terms = msgspec.structs.replace(
            terms_of(bot.config, {market.exchange: purse}, paper=purse.paper), account=label, markets=()
        )
        self._accounts.open(purse, market.exchange)
        self._follow(market)
        why = await self._connected(market, purse)
        if not why and await self._was_compared(purse):
            why = await self._connected(market, purse)  # what was found may keep the account from trading
        why = why or self._no_path(asked, purse)
        if not why and asked.limit_cap <= 0:
            asked, why = self._capped(asked, market)
        asked = self._fitted(asked, market)
        refusal = Refusal("account", why) if why else self._gate.judge(bot, asked, purse, mode)
        if refusal is not None:
            return Opened(check=refusal.check, refusal=_words(refusal))
        is_alone = not self._trades.has_any(market.key, purse)
        ticket = self._trades.ticket(terms, msgspec.structs.replace(record, ticket=asked))
        ticket.beside.is_alone = is_alone
        self._breakers.opened(record.trade_id, self._breakers.keys_at(bot_id, purse.account_id, market))
        bot.counters["trades"] += 1
        bot.open_trades.add(record.trade_id)
        ticket.begin()
        self._trades.run(bot_id, record.trade_id, record.route, ticket.settle())
        await ticket.decided.wait()
        return _opened(ticket)

    def _publish_failed(self, asked: TicketTerms, why: str) -> None:
        """Tell pages of a request that came to nothing: it has no trade, so its command names it."""
        progress = Progress(self._desk.clock)
        progress.step(CONNECTING)
        progress.fail(why)
        view = progress_view("", asked.command_id, progress.steps, "", why)
        self._desk.publisher.publish(self._desk.owner_id, "progress", f"command-{asked.command_id}", view)

    def _no_path(self, asked: TicketTerms, purse: Purse) -> str:
        """Return why its orders can't leave the way that was asked for, or an empty string."""
        if asked.path != "websocket":
            return ""
        path = self._accounts.order_paths.get(purse)
        if path is not None and path.by is OrdersBy.WEBSOCKET:
            return ""
        why = self._accounts.order_path(purse) or "no orders by WebSocket here"
        return f"Account {purse.account_id}: {why}; ask for any way instead."

    def _capped(self, asked: TicketTerms, market: Market) -> tuple[TicketTerms, str]:
        """Return the terms with the worst price the entry may pay now, or why there is none."""
        book = self._desk.fresh_book(market, float("inf"))
        best = 0.0 if book is None else book.asks.best if asked.side == "buy" else book.bids.best
        if best <= 0:
            return asked, f"{market.key} has no price to trade at now."
        reach = Decimal(repr(best)) * CAP_BPS / BPS
        cap = Decimal(repr(best)) + (reach if asked.side == "buy" else -reach)
        return msgspec.structs.replace(asked, limit_cap=limit_price(market, cap, asked.side)), ""

    def _fitted(self, asked: TicketTerms, market: Market) -> TicketTerms:
        """Return the terms with their style fitted to the book there is now."""
        book = self._desk.fresh_book(market, float("inf"))
        return asked if book is None else fitted_to_book(asked, book.asks if asked.side == "buy" else book.bids)

    def _find(self, bot_id: int, asked: TicketTerms) -> tuple[RunningBot, Market, Purse, TradeMode] | str:
        bot = self._bot_of(bot_id)
        if bot is None or bot.stopping:
            return f"Bot {bot_id} does not run: start it first."
        market = self._desk.markets.get(asked.market)
        if market is None:
            return f"{asked.market}: no market of this owner's; synchronise the exchange's markets."
        accounts = {one.account_id: one for one in self._config().accounts}
        account = accounts.get(asked.account_id) if asked.account_id in bot.config.desk_accounts else None
        if account is None or account.exchange.code != market.exchange:
            return f"Account {asked.account_id} is not one that {bot.config.name} trades {asked.market} with."
        purse = desk_purse(bot.config, account, self._config())
        if isinstance(purse, str):
            return purse
        return bot, market, *purse

    async def _connected(self, market: Market, purse: Purse) -> str:
        """Wait while account and book are only starting; return why the account takes no new trade, if it doesn't."""
        clock = self._desk.clock
        until_ns = clock.monotonic_ns() + int(CONNECT_SECONDS * 1e9)
        while True:
            why, is_starting = self._purse_fault(purse)
            waiting = is_starting or (not why and self._desk.fresh_book(market, float("inf")) is None)
            if not waiting or clock.monotonic_ns() >= until_ns or self._desk.halted:
                return f"{why[0].upper()}{why[1:]}." if why else ""
            await clock.sleep(CONNECT_PAUSE)

    async def _was_compared(self, purse: Purse) -> bool:
        """Wait while the account is kept quiet to be compared, for so long at most; whether there was anything to
        wait for."""
        clock = self._desk.clock
        if not self._gate.is_comparing(purse):
            return False
        until_ns = clock.monotonic_ns() + int(COMPARED_SECONDS * 1e9)
        while self._gate.is_comparing(purse) and clock.monotonic_ns() < until_ns and not self._desk.halted:
            await clock.sleep(CONNECT_PAUSE)
        return True

    def close(self, trade_id: str, closing: ClosingTerms) -> str:
        """Bring a ticket's position down; return one sentence why not, or an empty string once that is under way."""
        ticket = self._trades.ticket_of(trade_id)
        if ticket is None:
            return f"No trade {trade_id} made by hand is held here."
        switched = verdict(self._desk.switch_of(ticket.record.bot_id), Action.REDUCE)
        if not switched.allowed:
            return switched.reason
        if closing.quantity is not None:
            keep = max(ticket.position().whole(ticket.market) - closing.quantity, ZERO)
            closing = msgspec.structs.replace(closing, keep=keep)
        if refusal := ticket.close(closing):
            return refusal
        if not ticket.finished:
            self._trades.settle_again(ticket)
        return ""

    # -- protective orders that protect nothing -----------------------------------------------------------------------

    def on_live(self, purse: Purse) -> None:
        """Look at what is open on an account whose stream has come (back) to life."""
        if not purse.paper and self._desk.venues[purse].protects:
            self._clean(self._ask_and_clean(purse))

    def on_open_orders(self, purse: Purse, events: Sequence[OrderEvent]) -> None:
        """Cancel those of an account's open orders that protect a position of ours that is not held."""
        ours = [event for event in events if event.client_order_id]
        if ours and self._desk.venues[purse].protects:
            self._clean(self._clean_up(purse, ours))

    async def close_down(self) -> None:
        """Watch and clean nothing more."""
        await end_tasks(self._cleaning)
        for ticket in self._trades.tickets():
            ticket.protection.unwatch()

    def _clean(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def _ask_and_clean(self, purse: Purse) -> None:
        events = await self._desk.venues[purse].open_orders()
        if events is not None:
            await self._clean_up(purse, events)

    async def _clean_up(self, purse: Purse, events: Iterable[OrderEvent]) -> None:
        for event in events:
            intent = await self._orphan(event.client_order_id)
            if intent is not None:
                await self._cancel(purse, intent)

    async def _orphan(self, client_id: str) -> OrderIntent | None:
        """Return the intent of an open order if it is a protective one whose ticket has no use for it."""
        trade = self._trades.of_order(client_id)
        if isinstance(trade, Ticket):
            order = trade.orders[client_id]
            has_use = not order.settled and not trade.finished
            return order.intent if order.intent.kind in PROTECTIVE and not has_use else None
        if trade is not None or not self._is_ours(client_id):
            return None
        found = await self._read_trade(client_id)
        if found is None or found[0].ticket is None or found[0].state not in {TradeState.CLOSED, TradeState.FAILED}:
            return None  # a stranger is the reconciler's matter, an unfinished trade is taken up with its orders
        intent = next(row[0] for row in found[1] if row[0].client_order_id == client_id)
        return intent if intent.kind in PROTECTIVE else None

    async def _cancel(self, purse: Purse, intent: OrderIntent) -> None:
        self._desk.alarm(f"order {intent.client_order_id} protects nothing that is held: it is cancelled")
        for _ in range(ORPHAN_TRIES):
            answer = await self._desk.venues[purse].cancel(intent)
            for event in answer.events:
                self._trades.on_event(event)
            told = await self._desk.venues[purse].query(intent)
            if told is None:
                return
            self._trades.on_event(told)
            if is_terminal(told.state):
                return
            await self._desk.clock.sleep(ORPHAN_PAUSE_SECONDS)


def _opened(ticket: Ticket) -> Opened:
    if ticket.is_durable:
        return Opened(trade_id=ticket.record.trade_id)
    return Opened(check="order", refusal=ticket.refusal)


def _words(refusal: Refusal) -> str:
    return refusal.why.reason if isinstance(refusal.why, Verdict) else refusal.why
