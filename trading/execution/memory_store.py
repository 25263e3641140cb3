"""The Store port in memory: the same rules as the database's, for tests, replay and the bench.

Whatever it is told is kept as it would be in tables, so that a second engine can take over from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from risk.policy.breakers import Breaker, BreakerNews, Scope, after
from risk.policy.gate import Key
from risk.policy.rulebook import DEFAULTS, ScopeRules
from risk.policy.switch import NORMAL, Action, verdict
from trading.execution.reconciliation import (
    CLOSED_BY_PEOPLE,
    OF_LEDGER,
    Difference,
    DifferenceKind,
    Expected,
    Reconciliation,
    effects,
)
from trading.execution.states import is_terminal
from trading.instruments import Market
from trading.messages import (
    FINISHED_TRADES,
    AccountBalance,
    AccountIncome,
    AccountPositions,
    Decision,
    DecisionKey,
    Fill,
    KnownOrder,
    LegSlippageRecord,
    OrderEvent,
    OrderIntent,
    OrderState,
    TradeRecord,
    TradeState,
)
from trading.ports import LeaseLost, StoreUnavailable, SwitchedOff
from trading.tickets import ENTRY_LEG


class MemoryStore:
    """Durable truth of one owner, as long as the process lives.

    ``lease_held`` False refuses commits as a lost lease does; ``available`` False as a database that is down does.
    """

    def __init__(self, decisions_kept: int = 10_000) -> None:
        self.trades: dict[str, TradeRecord] = {}
        self.trade_history: dict[str, list[TradeState]] = {}
        self.intents: dict[str, OrderIntent] = {}
        self.states: dict[str, OrderState] = {}
        self.events: dict[str, list[OrderEvent]] = {}
        self.history: dict[str, list[OrderState]] = {}
        self.fills: dict[tuple[int, str, str], Fill] = {}
        self.decisions: list[Decision] = []
        self.counts: Counter[DecisionKey] = Counter()
        self.balances: dict[tuple[int, str], AccountBalance] = {}
        self.positions: dict[int, AccountPositions] = {}  # by account
        self.slippage: dict[str, LegSlippageRecord] = {}  # by client order id
        self.opened: dict[int, Mapping[str, Decimal]] = {}  # by account, what its ledger was opened with
        self.incomes: dict[tuple[int, str, str], AccountIncome] = {}  # by account, kind and transaction id
        self._in_opening: set[tuple[int, str, str]] = set()  # of them, those from before the ledger was opened
        self.markets: dict[str, Market] = {}  # what executions mean for balances; unknown ones move nothing but fees
        self.differences: dict[int, tuple[Difference, ...]] = {}
        self.dismissed: dict[int, frozenset[tuple[str, str]]] = {}
        self.breakers: dict[Key, Breaker] = {}
        self.breaker_rules: Mapping[Scope, ScopeRules] = DEFAULTS
        self._told: set[tuple[Key, str]] = set()  # what breakers were told of, by event id
        self._matched: dict[int, int] = {}
        self._opened_ns: dict[int, int] = {}
        self.switch = NORMAL  # over every bot
        self.lease_held = True
        self.available = True
        self._decisions_kept = decisions_kept

    def _check(self) -> None:
        if not self.lease_held:
            raise LeaseLost("the owner's lease is held by another token")
        self._check_available()

    def _check_available(self) -> None:
        if not self.available:
            raise StoreUnavailable("the store is switched off")

    def _check_switch(self, action: Action) -> None:
        judged = verdict(self.switch, action)
        if not judged.allowed:
            raise SwitchedOff(judged.reason)

    def _insert(self, intent: OrderIntent) -> None:
        if intent.client_order_id in self.intents:
            raise ValueError(f"client_order_id: {intent.client_order_id} exists already")
        self.intents[intent.client_order_id] = intent
        self.states[intent.client_order_id] = OrderState.SENDING
        self.history[intent.client_order_id] = [OrderState.PENDING, OrderState.SENDING]
        self.events[intent.client_order_id] = []

    async def commit_trade(self, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision | None) -> None:
        self._check()
        self._check_switch(Action.OPEN)
        if trade.trade_id in self.trades:
            raise ValueError(f"trade_id: {trade.trade_id} exists already")
        for intent in intents:
            if intent.client_order_id in self.intents:
                raise ValueError(f"client_order_id: {intent.client_order_id} exists already")
        self.record_trade(trade)
        for intent in intents:
            self._insert(intent)
        if decision is not None:
            self.record_decision(decision)

    async def commit_repair(self, trade: TradeRecord, intent: OrderIntent) -> None:
        self._check()
        opens = trade.ticket is not None and intent.leg == ENTRY_LEG
        self._check_switch(Action.OPEN if opens else Action.REDUCE)
        self._insert(intent)
        self.record_trade(trade)

    async def commit_protection(self, trade: TradeRecord, intents: Sequence[OrderIntent]) -> None:
        self._check()
        self._check_switch(Action.REDUCE)
        for intent in intents:
            self._insert(intent)
        self.record_trade(trade)

    def record_event(self, event: OrderEvent, state: str) -> None:
        client_id = event.client_order_id
        for fill in event.fills:
            key = (fill.account_id, fill.market, fill.exchange_trade_id)
            known = self.fills.get(key)
            if known is None or (known.fee is None and fill.fee is not None):
                self.fills[key] = fill
        if event.made is not None and client_id not in self.intents:
            self._insert(event.made)
        if client_id not in self.intents:
            return
        self.events[client_id].append(event)
        if self.states[client_id] != state:
            self.history[client_id].append(OrderState(state))
        self.states[client_id] = OrderState(state)

    def record_trade(self, trade: TradeRecord) -> None:
        self.trades[trade.trade_id] = trade
        self.trade_history.setdefault(trade.trade_id, []).append(trade.state)

    def record_decision(self, decision: Decision) -> None:
        self.decisions.append(decision)
        if len(self.decisions) > self._decisions_kept:
            del self.decisions[: self._decisions_kept // 2]

    def record_later_profit(self, trade_id: str, profit: float) -> None:
        for place, decision in enumerate(self.decisions):
            if decision.trade_id == trade_id:
                self.decisions[place] = msgspec.structs.replace(decision, later_profit=profit)

    def record_counts(self, counts: Mapping[DecisionKey, int]) -> None:
        self.counts.update(counts)

    def record_balance(self, balance: AccountBalance) -> None:
        self.balances[balance.account_id, balance.asset] = balance

    def record_positions(self, positions: AccountPositions) -> None:
        self.positions[positions.account_id] = positions

    def record_slippage(self, record: LegSlippageRecord) -> None:
        self.slippage[record.client_order_id] = record

    async def open_trades(
        self,
    ) -> Sequence[tuple[TradeRecord, Sequence[tuple[OrderIntent, str, Sequence[OrderEvent]]]]]:
        return [self._stored(trade) for trade in self.trades.values() if self._is_unfinished(trade)]

    def _stored(
        self, trade: TradeRecord
    ) -> tuple[TradeRecord, Sequence[tuple[OrderIntent, str, Sequence[OrderEvent]]]]:
        orders = [
            (intent, self.states[client_id], tuple(self.events[client_id]))
            for client_id, intent in self.intents.items()
            if intent.trade_id == trade.trade_id
        ]
        return trade, orders

    def _is_unfinished(self, trade: TradeRecord) -> bool:
        return trade.state not in FINISHED_TRADES or any(
            not is_terminal(self.states[client_id])
            for client_id, intent in self.intents.items()
            if intent.trade_id == trade.trade_id
        )

    async def trade_of(
        self, client_order_id: str
    ) -> tuple[TradeRecord, Sequence[tuple[OrderIntent, str, Sequence[OrderEvent]]]] | None:
        self._check_available()
        intent = self.intents.get(client_order_id)
        return None if intent is None else self._stored(self.trades[intent.trade_id])

    async def known_orders(self) -> Sequence[KnownOrder]:
        self._check_available()
        return [self._known(client_id) for client_id in self.intents]

    def _known(self, client_id: str) -> KnownOrder:
        intent, events = self.intents[client_id], self.events[client_id]
        return KnownOrder(
            account_id=intent.account_id,
            market=intent.market,
            client_order_id=client_id,
            exchange_order_id=next((event.exchange_order_id for event in events if event.exchange_order_id), ""),
            since_ns=intent.created_ns,
        )

    async def flush(self) -> None:
        """Everything is as durable as it gets."""

    async def expected(
        self,
        account_id: int,
        *,
        client_order_ids: frozenset[str] = frozenset(),
        exchange_order_ids: frozenset[str] = frozenset(),
    ) -> Expected:
        self._check_available()
        return self.books_of(account_id, client_order_ids, exchange_order_ids)

    def books_of(
        self, account_id: int, client_order_ids: frozenset[str], exchange_order_ids: frozenset[str]
    ) -> Expected:
        own = {
            event.exchange_order_id: client_id
            for client_id, events in self.events.items()
            for event in events
            if event.account_id == account_id and event.exchange_order_id in exchange_order_ids
        }
        return Expected(
            account_id=account_id,
            opened_ns=self._opened_ns.get(account_id, 0),
            since_ns=self._matched.get(account_id, 0),
            balances=self._ledger(account_id),
            orders=own,
            client_ids=frozenset(own.values()) | (client_order_ids & self.intents.keys()),
            fills={key[1:]: fill.exchange_ns for key, fill in self.fills.items() if key[0] == account_id},
            incomes=frozenset(key[1:] for key in self.incomes if key[0] == account_id),
            dismissed=self.dismissed.get(account_id, frozenset()),
            unknown_orders=tuple(
                found.key
                for found in self.differences.get(account_id, ())
                if found.kind is DifferenceKind.UNKNOWN_ORDER
                and (found.kind.value, found.key) not in self.dismissed.get(account_id, ())
            ),
        )

    def _ledger(self, account_id: int) -> dict[str, Decimal]:
        balances = dict(self.opened.get(account_id, {}))
        for fill in self.fills.values():
            if fill.account_id == account_id:
                for asset, change in effects(fill, self.markets.get(fill.market)).items():
                    balances[asset] = balances.get(asset, Decimal(0)) + change
        for key, income in self.incomes.items():
            if income.account_id == account_id and key not in self._in_opening:
                balances[income.asset] = balances.get(income.asset, Decimal(0)) + income.amount
        return {asset: amount for asset, amount in balances.items() if amount}

    async def move_breaker(self, news: BreakerNews) -> Breaker:
        self._check_available()
        return self.breaker_moved(news)

    def breaker_moved(self, news: BreakerNews) -> Breaker:
        key = (news.scope, news.key)
        breaker = self.breakers.get(key, Breaker(scope=news.scope, key=news.key))
        if news.event_id and (key, news.event_id) in self._told:
            return breaker
        self._told.add((key, news.event_id))
        self.breakers[key] = after(
            breaker, news.event, self.breaker_rules[news.scope].breaker, news.at_ns,
            reason=news.reason, trigger=news.trigger, seconds=news.seconds, holder=news.holder,
        )  # fmt: skip
        return self.breakers[key]

    async def record_reconciliation(self, done: Reconciliation) -> int:
        self._check_available()
        return self.reconciled(done)

    def reconciled(self, done: Reconciliation) -> int:
        account, findings = done.account_id, done.findings
        known = {(found.kind, found.key) for found in self.differences.get(account, ())}
        for income in findings.incomes:
            key = (account, income.kind.value, income.transaction_id)
            if key not in self.incomes:
                self.incomes[key] = income
                if account not in self.opened:
                    self._in_opening.add(key)
        opened = self.opened.get(account, {})
        if findings.told_apart:
            assets = {*opened, *findings.told_apart}
            self.opened[account] = {
                asset: opened.get(asset, Decimal(0)) + findings.told_apart.get(asset, Decimal(0)) for asset in assets
            }
        if findings.opening is not None and account not in self.opened:
            self.opened[account] = findings.opening
            self._opened_ns[account] = self._matched[account] = done.at_ns
        elif findings.balances_compared and not any(found.kind in OF_LEDGER for found in findings.differences):
            self._matched[account] = done.at_ns
        still = [
            found
            for found in self.differences.get(account, ())
            if found.kind in CLOSED_BY_PEOPLE and found not in findings.differences
        ]
        self.differences[account] = (*findings.differences, *still)
        return sum((found.kind, found.key) not in known for found in findings.differences)

    @property
    def unresolved(self) -> list[str]:
        """Client order ids whose order is not terminal."""
        return [client_id for client_id, state in self.states.items() if not is_terminal(state)]
