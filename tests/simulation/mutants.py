"""The engine with one safety rule taken away: every such engine must be caught by the checks.

A mutant that survives says that a check or a scenario is too weak, and that is what has to be improved.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import msgspec

from tests.simulation import database as model
from tests.simulation import venue as wire
from tests.simulation.runs import outcomes
from trading import engine as engines
from trading.exchanges.shares import Shares
from trading.execution import ids, past, reconciliation, resolver, saga, sender, states
from trading.execution import order as orders
from trading.execution.accounts import Accounts
from trading.execution.ids import Ids, trade_id
from trading.execution.lag import LoopLag
from trading.execution.opening import Opening
from trading.execution.placing import Placing
from trading.execution.reconciler import Reconciler
from trading.execution.trades import Trades
from trading.messages import OrderEvent, OrderIntent, OrderState, Outcome
from trading.ports import StoreUnavailable

MOST_HISTORIES = 1500  # a mutant alive after so many has survived

Patches = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """``faults`` are what the histories are made of besides the ordinary mixture, so that it shows sooner."""

    name: str
    rule: str
    patches: Patches
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How long a mutant lived. ``anomaly`` is empty when it survived."""

    mutant: Mutant
    histories: int
    seed: int
    anomaly: str


MUTANTS: list[Mutant] = []


def mutant(name: str, rule: str, *faults: str) -> Callable[[Patches], Patches]:
    def register(patches: Patches) -> Patches:
        MUTANTS.append(Mutant(name, rule, patches, faults))
        return patches

    return register


def _set_committing(stack: ExitStack, committing: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Let entries wait for something else than for the end of their commit."""
    original = Opening._durable

    async def durable(self: Any, *args: Any) -> Any:
        *before, commit, measures = args
        return await original(self, *before, committing(self, commit), measures)

    _set(stack, Opening, "_durable", durable)


def _set(stack: ExitStack, owner: object, name: str, value: object) -> None:
    stack.enter_context(patch.object(owner, name, value))


@mutant("unknown_is_failed", "what is not proven is UNKNOWN, never FAILED", "01_answer_lost", "05_timeout_but_live")
def _(stack: ExitStack) -> None:
    original = sender.Sender._book_answer

    def book(self: Any, intent: OrderIntent, answer: Any) -> None:
        if answer.outcome is Outcome.UNKNOWN:
            answer = msgspec.structs.replace(answer, outcome=Outcome.REJECTED)
        original(self, intent, answer)

    _set(stack, sender.Sender, "_book_answer", book)


@mutant("resent_after_timeout", "never re-send: a client id is free again once its order closed", "16_id_taken_again")
def _(stack: ExitStack) -> None:
    original = wire.SimVenue.place

    async def place(self: Any, intent: OrderIntent) -> Any:
        answer = await original(self, intent)
        return await original(self, intent) if answer.outcome is Outcome.UNKNOWN else answer

    _set(stack, wire.SimVenue, "place", place)


@mutant("absent_at_first_not_found", "absence takes two not-founds", "17_questions_lag")
def _(stack: ExitStack) -> None:
    _set(stack, resolver, "NOT_FOUNDS_FOR_PROOF", 1)


@mutant("absent_before_the_window", "absence takes the request's window to have passed", "03_request_late")
def _(stack: ExitStack) -> None:
    _set(stack, wire.SimVenue, "absence_seconds", 1.0)


@mutant("silence_is_absence", "a question without an answer proves nothing", "11_banned", "35_key_revoked")
def _(stack: ExitStack) -> None:
    original = wire.SimVenue.query

    async def query(self: Any, intent: OrderIntent) -> OrderEvent | None:
        event = await original(self, intent)
        return None if event is not None and event.state is OrderState.UNKNOWN else event

    async def is_absent(self: Any, report: Any) -> bool:
        return True

    _set(stack, wire.SimVenue, "query", query)
    _set(stack, resolver.Resolution, "_is_absent", is_absent)


@mutant("absent_by_question_alone", "absence takes executions and balances to agree", "17_questions_lag")
def _(stack: ExitStack) -> None:
    async def is_absent(self: Any, report: Any) -> bool:
        return True

    _set(stack, resolver.Resolution, "_is_absent", is_absent)


@mutant("no_sweep", "every reconnect of a private stream is followed by a sweep", "43_stream_mute")
def _(stack: ExitStack) -> None:
    async def sweep(self: Any, since_ns: int) -> bool:
        return True

    _set(stack, wire.SimVenue, "_sweep", sweep)
    _set(stack, Trades, "wake", lambda self, purse: None)


@mutant("trades_deaf", "an account whose stream is not live and swept takes no new trades", "44_key_of_stream_expired")
def _(stack: ExitStack) -> None:
    _set(stack, Accounts, "fault", lambda self, purse: "")


@mutant("late_fills_ignored", "late fills are booked from every terminal state", "20_fill_after_cancelled")
def _(stack: ExitStack) -> None:
    original = orders.Order.apply

    def apply(self: Any, event: OrderEvent) -> Any:
        if self.settled:
            return orders.Change(self.state, self.state)
        return original(self, event)

    _set(stack, orders.Order, "apply", apply)


@mutant("fills_counted_twice", "a fill counts once, by its id", "22_fill_twice")
def _(stack: ExitStack) -> None:
    original = orders.Order._book

    def book(self: Any, fills: Sequence[Any]) -> Any:
        known = len(self.fills)
        return original(
            self,
            [
                msgspec.structs.replace(fill, exchange_trade_id=f"{fill.exchange_trade_id}#{known}")
                if fill.exchange_trade_id in self.fills
                else fill
                for fill in fills
            ],
        )

    _set(stack, orders.Order, "_book", book)


@mutant("sending_is_void_after_restart", "an order found SENDING may have been sent", "57_killed_anywhere")
def _(stack: ExitStack) -> None:
    original = past.take_up

    def take_up(config: Any, record: Any, rows: Any, markets: Any) -> Any:
        void = [
            (intent, OrderState.PENDING.value if state == OrderState.SENDING else state, events)
            for intent, state, events in rows
        ]
        return original(config, record, void, markets)

    _set(stack, past, "take_up", take_up)


@mutant("restart_forgets", "an engine takes up what the last one left", "57_killed_anywhere")
def _(stack: ExitStack) -> None:
    async def open_trades(self: Any) -> list[Any]:
        return []

    _set(stack, model.SimStore, "open_trades", open_trades)


@mutant("lease_not_checked", "nothing is sent without the lease's token", "59_two_engines", "60_paused_engine_wakes")
def _(stack: ExitStack) -> None:
    _set(stack, model.Database, "fenced", lambda self, token: False)
    _set(stack, model.Lease, "is_held", lambda self: True)
    _set(stack, engines.Engine, "halt", lambda self, reason: None)


@mutant("repair_while_unknown", "no new attempt while an order's outcome is not known", "01_answer_lost")
def _(stack: ExitStack) -> None:
    async def resolve_all(self: Any) -> None:
        await self.desk.clock.sleep(0)

    _set(stack, saga.Saga, "_resolve_all", resolve_all)
    _set(stack, saga.Saga, "blocked", "")


@mutant("exposure_from_intents", "exposure is recomputed from fills", "26_expired_with_part")
def _(stack: ExitStack) -> None:
    original = saga.Saga.tally

    def tally(self: Any) -> Any:
        real = original(self)
        live = [order.intent for order in self.orders.values() if order.state is not OrderState.FAILED]
        bought = sum((intent.quantity for intent in live if intent.side == "buy"), Decimal(0))
        sold = sum((intent.quantity for intent in live if intent.side == "sell"), Decimal(0))
        return msgspec.structs.replace(real, bought=bought, sold=sold)

    _set(stack, saga.Saga, "tally", tally)


@mutant("sent_before_commit", "the intent is durable before the order leaves", "57_killed_anywhere")
def _(stack: ExitStack) -> None:
    def committing(self: Any, original: Coroutine[Any, Any, None]) -> Awaitable[None]:
        self._background = asyncio.get_running_loop().create_task(original)
        return asyncio.sleep(0)

    _set_committing(stack, committing)


@mutant("sent_without_database", "no durable intent, no order", "63_database_down_before")
def _(stack: ExitStack) -> None:
    async def committing(self: Any, original: Coroutine[Any, Any, None]) -> None:
        try:
            await original
        except StoreUnavailable:
            return

    _set_committing(stack, committing)


@mutant("doubtful_commit_forgotten", "what became durable though given up is void, and said so", "65_commit_unknown")
def _(stack: ExitStack) -> None:
    _set(stack, model.SimStore, "_void", lambda self, trade, intents: None)


@mutant("ids_without_token", "ids carry the lease's token: no two engines make the same", "72_deployment")
def _(stack: ExitStack) -> None:
    _set(stack, ids, "trade_id", lambda prefix, owner, token, sequence: trade_id(prefix, owner, 1, sequence))


@mutant("doubtful_ids_again", "an id is used for one order as it is stored", "65_commit_unknown")
def _(stack: ExitStack) -> None:
    def next_attempt(self: Any, leg: int) -> int:
        orders = self._trade.orders.values()
        return 1 + max([-1, *(order.intent.attempt for order in orders if order.intent.leg == leg)])

    _set(stack, Placing, "next_attempt", next_attempt)


@mutant("ages_by_the_wall", "durations are monotonic: a clock's step proves nothing", "71_clock_steps")
def _(stack: ExitStack) -> None:
    def age(self: Any) -> float:
        return max(0.0, (self.desk.clock.time_ns() - self.order.intent.created_ns) / 1e9)

    _set(stack, resolver.Resolution, "_age", age)


@mutant(
    "old_decisions_sent", "a decision older than two seconds is not sent", "61_loop_stalls", "60_paused_engine_wakes"
)
def _(stack: ExitStack) -> None:
    _set(stack, sender, "OLDEST_DECISION_SECONDS", 1e9)


@mutant("foreign_orders_cancelled", "orders that are not ours are never touched", "37_by_hand")
def _(stack: ExitStack) -> None:
    original = engines.Engine._on_order_event

    def on_order_event(self: Any, purse: Any, event: OrderEvent) -> None:
        original(self, purse, event)
        if event.state is OrderState.PLACED and not event.client_order_id.startswith("simu"):
            fake = OrderIntent(
                client_order_id=event.client_order_id, trade_id="", account_id=event.account_id, market=event.market,
                leg=0, attempt=0, side="buy", price=Decimal(1), quantity=Decimal(1), deadline_ns=0, created_ns=0,
            )  # fmt: skip
            self._background = asyncio.get_running_loop().create_task(self.desk.venues[purse].cancel(fake))

    _set(stack, engines.Engine, "_on_order_event", on_order_event)


@mutant("states_regress", "no state goes back because messages arrive out of order", "24_out_of_order")
def _(stack: ExitStack) -> None:
    def next_state(_: OrderState, reported: OrderState) -> OrderState:
        return reported

    _set(stack, orders, "next_state", next_state)
    _set(stack, model, "next_state", next_state)


@mutant("missing_fills_unasked", "a quantity the exchange names is waited for in fills", "23_fill_without_id")
def _(stack: ExitStack) -> None:
    _set(stack, orders.Order, "settled", property(lambda self: states.is_terminal(self.state)))


@mutant("unknown_order_is_unfilled", "'unknown order' to a cancellation proves nothing", "18_cancel_race")
def _(stack: ExitStack) -> None:
    original = resolver.Resolution._ask

    async def ask(self: Any, report: Any) -> None:
        if self._overdue() and (await self._cancel()).outcome is Outcome.REJECTED:
            event = self._own_event(OrderState.CANCELLED, "unknown order")
            report(msgspec.structs.replace(event, filled=self.order.filled))
            return
        await original(self, report)

    _set(stack, resolver.Resolution, "_ask", ask)


@mutant("overfill_unsaid", "more filled than ordered stops the trade and asks", "27_overfill")
def _(stack: ExitStack) -> None:
    _set(stack, orders.Order, "overfilled", property(lambda self: False, lambda self, value: None))


@mutant("never_disputed", "what cannot be proven in time is put before an operator", "38_state_restored")
def _(stack: ExitStack) -> None:
    original = saga.Saga.on_event

    def on_event(self: Any, event: OrderEvent) -> None:
        if event.state is not OrderState.DISPUTED:
            original(self, event)

    _set(stack, saga.Saga, "on_event", on_event)


@mutant("taken_back_unseen", "an execution the exchange lists no more is a difference", "39_taken_back")
def _(stack: ExitStack) -> None:
    _set(stack, reconciliation, "_taken_back", lambda expected, listed: [])


@mutant("unsteady_trades", "a loop that stood still begins no trade until it keeps time", "61_loop_stalls")
def _(stack: ExitStack) -> None:
    _set(stack, LoopLag, "fault", lambda self: "")


def _manual(client_id: str, market: str) -> reconciliation.Difference:
    cause = reconciliation.DifferenceCause.MANUAL_TRADE
    kind = reconciliation.DifferenceKind.FOREIGN_ORDER
    return reconciliation.Difference(kind=kind, key=client_id, market=market, cause=cause, suggestion="")


@mutant(
    "strangers_unseen", "an order of ours that no book knows is shown, and blocks its account", "68_backup_restored"
)
def _(stack: ExitStack) -> None:
    _set(stack, Reconciler, "meet_stranger", lambda self, purse, client_id, market: None)
    _set(stack, reconciliation, "_unknown_order", _manual)


@mutant("repairs_under_old_tokens", "a later engine's orders have ids of its own token", "68_backup_restored")
def _(stack: ExitStack) -> None:
    _set(stack, Ids, "for_orders_of", lambda self, trade: trade)


@mutant("trades_only_with_redis", "what is away for pages and shared counts stops no trade", "69_redis_away")
def _(stack: ExitStack) -> None:
    _set(stack, Shares, "_deactivate", staticmethod(lambda slices: None))


@contextmanager
def applied(one: Mutant) -> Iterator[None]:
    """Run with a safety rule taken away."""
    with ExitStack() as stack:
        one.patches(stack)
        yield


def hunt(one: Mutant, first: int = 1, most: int = MOST_HISTORIES) -> Verdict:
    """Run a mutant until a history catches it that the whole engine passes: each of its faults in turn, and none."""
    scenes = [*one.faults, None]
    for number in range(most):
        seed, scene = first + number // len(scenes), scenes[number % len(scenes)]
        with applied(one):
            anomalies = _anomalies(seed, scene)
        if anomalies and not _anomalies(seed, scene):
            return Verdict(one, number + 1, seed, anomalies[0])
    return Verdict(one, most, 0, "")


def _anomalies(seed: int, scene: str | None) -> list[str]:
    (outcome,) = outcomes(seed, 1, scene)
    return outcome.anomalies


def hunt_all(first: int = 1) -> tuple[list[Verdict], float]:
    """Hunt every mutant; return what became of them, and the seconds it took."""
    started = time.perf_counter()
    return [hunt(one, first) for one in MUTANTS], time.perf_counter() - started


def figures(verdicts: Sequence[Verdict], seconds: float) -> dict[str, Any]:
    return {
        "mutants": len(verdicts),
        "killed": sum(1 for verdict in verdicts if verdict.anomaly),
        "survivors": [verdict.mutant.name for verdict in verdicts if not verdict.anomaly],
        "seconds": round(seconds, 1),
        "verdicts": [
            {
                "mutant": verdict.mutant.name,
                "rule": verdict.mutant.rule,
                "histories": verdict.histories,
                "seed": verdict.seed,
                "anomaly": verdict.anomaly,
            }
            for verdict in verdicts
        ],
    }


def table(verdicts: Sequence[Verdict], seconds: float) -> str:
    """Return a report for people."""
    lines = [
        f"{verdict.mutant.name:30} {'killed' if verdict.anomaly else 'SURVIVED'} after {verdict.histories:4} histories"
        f"  {verdict.anomaly.partition(':')[0]}"
        for verdict in verdicts
    ]
    killed = sum(1 for verdict in verdicts if verdict.anomaly)
    return "\n".join([*lines, "", f"{killed} of {len(verdicts)} mutants killed in {seconds:.0f} s"])
