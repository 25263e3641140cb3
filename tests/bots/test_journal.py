"""An intent is durable as one row of the journal; whoever has to know of its orders first makes them rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, connections, transaction
from msgspec import structs

from bots.models import Bot, Decision, ExchangeAccount, JournaledIntent, Order, OrderEvent, Ticket, Trade
from bots.selectors import engine_owners
from bots.services import locks
from bots.services.accounts import account_delete
from bots.services.bots import bot_delete
from bots.services.engine import engine_config
from bots.services.leases import lease_release, lease_take
from bots.services.reconciliation import expected_read
from bots.services.stored import known_orders, open_trades, trade_of
from bots.services.tickets import ticket_of_command
from bots.services.trades import protection_commit, repair_commit, trade_commit, trades_apply
from bots.services.unfolding import intent_unfold, intents_unfold
from tests.bots.test_basis_rows import Place as PairPlace
from tests.bots.test_ticket_rows import Place as TicketPlace
from tests.bots.world import START_NS, D, World
from trading.basis import BasisStanding
from trading.execution.ids import client_order_id
from trading.messages import OrderIntent, TradeRecord, TradeState
from trading.tickets import TicketStanding, TicketStep

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Given:
    """anna's bot, and a trade of it that is in the journal and not unfolded."""

    def __init__(self) -> None:
        self.world = World()
        self.owner = self.world.anna
        self.bot = self.world.bot(self.owner)
        self.token = self.world.lease(self.owner)
        self.commit = {"owner_id": self.owner.pk, "token": self.token}
        self.trade = self.world.trade(self.bot, self.token)
        self.intents = self.world.intents(self.bot, self.trade)

    def enter(self, **changes: Any) -> None:
        trade_commit(**self.commit, trade=self.trade, intents=self.intents, **changes)

    def further(self, attempt: int = 1, **changes: Any) -> OrderIntent:
        name = client_order_id(self.trade.trade_id, 0, attempt)
        return structs.replace(self.intents[0], **{"attempt": attempt, "client_order_id": name, **changes})

    def other(self) -> tuple[TradeRecord, list[OrderIntent]]:
        trade = self.world.trade(self.bot, self.token)
        return trade, self.world.intents(self.bot, trade)


@pytest.fixture
def given() -> Given:
    return Given()


READERS: dict[str, Callable[[Given], object]] = {
    "configuration": lambda given: engine_config(owner_id=given.owner.pk),
    "open_trades": lambda given: open_trades(owner_id=given.owner.pk),
    "known_orders": lambda given: known_orders(owner_id=given.owner.pk),
    "trade_of": lambda given: trade_of(
        owner_id=given.owner.pk, client_order_id=given.intents[1].client_order_id
    ),
    "comparison": lambda given: expected_read(
        owner_id=given.owner.pk,
        account_id=given.intents[0].account_id,
        client_order_ids={given.intents[0].client_order_id},
    ).client_ids,
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_who_has_to_know_of_orders_finds_those_of_the_journal(given: Given, reader: str) -> None:
    given.enter()
    assert not Order.objects.exists()
    assert READERS[reader](given)
    assert set(Order.objects.values_list("client_order_id", "state", "lease_token")) == {
        (intent.client_order_id, "SENDING", given.token) for intent in given.intents
    }
    assert not JournaledIntent.objects.exists()


def test_an_owner_with_nothing_but_an_intent_in_the_journal_needs_an_engine(given: Given) -> None:
    given.enter()
    assert engine_owners() == []
    lease_release(owner_id=given.owner.pk, holder="host-1", token=given.token)
    assert engine_owners() == [given.owner.pk]


def test_who_takes_the_lease_has_the_orders_under_the_token_of_before(given: Given) -> None:
    given.enter()
    repair_commit(**given.commit, trade=given.trade, intent=given.further())
    lease_release(owner_id=given.owner.pk, holder="host-1", token=given.token)
    token = lease_take(owner_id=given.owner.pk, holder="host-2")
    ((record, orders),) = open_trades(owner_id=given.owner.pk)
    assert record == given.trade
    assert sorted(intent.client_order_id for intent, _, _ in orders) == sorted(
        [*(intent.client_order_id for intent in given.intents), given.further().client_order_id]
    )
    assert {state for _, state, _ in orders} == {"SENDING"}
    assert set(Order.objects.values_list("lease_token", flat=True)) == {given.token}
    assert token is not None
    assert token > given.token


def test_unfolded_twice_is_unfolded_once(given: Given) -> None:
    given.enter(decision=given.world.decision(given.bot, trade_id=given.trade.trade_id))
    for expected in (True, False):
        assert intent_unfold(owner_id=given.owner.pk, client_order_id=given.intents[0].client_order_id) is expected
    assert intents_unfold(owner_id=given.owner.pk) == 0
    counts = (Trade.objects.count(), Order.objects.count(), OrderEvent.objects.count(), Decision.objects.count())
    assert counts == (1, 2, 4, 1)


def test_of_two_that_unfold_at_once_one_does_it(given: Given) -> None:
    given.enter()
    barrier, done = threading.Barrier(2), []

    def unfold() -> None:
        barrier.wait(60)
        try:
            done.append(intents_unfold(owner_id=given.owner.pk))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=unfold) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [0, 1]
    assert Order.objects.count() == 2


def test_the_moment_in_the_history_is_that_of_the_commit(given: Given) -> None:
    given.enter()
    at = JournaledIntent.objects.get().created_at
    intents_unfold(owner_id=given.owner.pk)
    assert set(OrderEvent.objects.values_list("at", flat=True)) == {at}


def test_the_same_commit_again_is_known_in_the_journal_and_as_rows(given: Given) -> None:
    for _ in range(2):
        given.enter()
        given.enter()
        assert Order.objects.count() + 2 * JournaledIntent.objects.count() == 2
        intents_unfold(owner_id=given.owner.pk)
    assert Order.objects.count() == 2


@pytest.mark.parametrize("unfolded", [False, True])
@pytest.mark.parametrize("clash", ["trade", "id", "attempt"])
def test_what_another_intent_has_is_refused_before_it_is_journaled(given: Given, clash: str, unfolded: bool) -> None:
    given.enter()
    if unfolded:
        intents_unfold(owner_id=given.owner.pk)
    trade, intents = given.other()
    commit, named = trade_commit, {"trade": trade}
    if clash == "trade":
        named = {"trade": given.trade}
        intents = [structs.replace(intent, trade_id=given.trade.trade_id) for intent in intents]
    elif clash == "id":
        intents[1] = structs.replace(intents[1], client_order_id=given.intents[1].client_order_id)
    else:
        commit, named = protection_commit, {"trade": given.trade}
        intents = [given.further(), given.further(client_order_id="x", attempt=0)]
    with pytest.raises(IntegrityError, match="duplicate intent"):
        commit(**given.commit, **named, intents=intents)
    assert JournaledIntent.objects.count() == (not unfolded)
    intents_unfold(owner_id=given.owner.pk)
    assert Order.objects.count() == 2


@pytest.mark.parametrize("unfolded", [False, True])
def test_a_command_leads_to_one_entry_journaled_or_not(unfolded: bool) -> None:
    place = TicketPlace()
    trade_commit(**place.commit, trade=place.record, intents=[place.entry])
    if unfolded:
        intents_unfold(owner_id=place.owner.pk)
    other = place.world.trade(place.bot, place.token, ticket=place.asked)
    name = client_order_id(other.trade_id, 0, 0)
    entry = structs.replace(place.entry, trade_id=other.trade_id, client_order_id=name)
    with pytest.raises(IntegrityError, match="duplicate intent"):
        trade_commit(**place.commit, trade=other, intents=[entry])
    assert ticket_of_command(place.command) == place.record.trade_id
    assert Ticket.objects.count() == 1


def test_a_further_intent_may_follow_before_the_entry_is_unfolded(given: Given) -> None:
    given.enter()
    repairing = structs.replace(given.trade, state=TradeState.REPAIRING)
    repair_commit(**given.commit, trade=repairing, intent=given.further())
    assert intents_unfold(owner_id=given.owner.pk) == 2
    assert Trade.objects.get().state == "REPAIRING"
    assert sorted(Order.objects.values_list("leg", "attempt")) == [(0, 0), (0, 1), (1, 0)]


def test_a_further_intent_of_a_trade_that_is_not_the_owners_is_refused(given: Given) -> None:
    with pytest.raises(ValueError, match="the owner has no trade"):
        repair_commit(**given.commit, trade=given.trade, intent=given.further())
    bens = given.world.bot(given.world.ben)
    token = given.world.lease(given.world.ben, "host-2")
    given.enter()
    stolen = structs.replace(given.trade, bot_id=bens.pk)
    account = bens.accounts.get(exchange__code="alpha").pk
    with pytest.raises(ValueError, match="the owner has no trade"):
        repair_commit(owner_id=given.world.ben.pk, token=token, trade=stolen, intent=given.further(account_id=account))
    assert JournaledIntent.objects.count() == 1


def test_a_bot_that_an_intent_needs_is_not_deleted(given: Given) -> None:
    given.enter()
    with pytest.raises(ValidationError, match="is running"):
        bot_delete(bot=given.bot, actor=given.owner)
    assert Bot.objects.filter(pk=given.bot.pk).exists()
    assert intents_unfold(owner_id=given.owner.pk) + Order.objects.count() > 0


def test_an_account_that_an_intent_needs_is_not_deleted(given: Given) -> None:
    given.enter()
    account = ExchangeAccount.objects.get(pk=given.intents[1].account_id)
    with pytest.raises(ValidationError, match=f"not finished: {given.intents[1].client_order_id}"):
        account_delete(account=account, actor=given.owner)
    assert ExchangeAccount.objects.filter(pk=account.pk).exists()


def test_an_intent_that_comes_after_its_bot_or_account_was_deleted_is_refused(given: Given) -> None:
    account = ExchangeAccount.objects.get(pk=given.intents[1].account_id)
    given.bot.accounts.remove(account)
    account_delete(account=account, actor=given.owner)
    with pytest.raises(ValueError, match="account_id"):
        given.enter()
    bot_delete(bot=given.bot, actor=given.owner)
    with pytest.raises(ValueError, match="bot_id"):
        given.enter()
    assert not JournaledIntent.objects.exists()


@pytest.mark.services
@pytest.mark.parametrize("what", ["bot", "account"])
def test_an_intent_that_waited_while_its_bot_or_account_was_deleted_is_refused(given: Given, what: str) -> None:
    """The statement sees the database as it was when it began, but not what it refers to."""
    account = ExchangeAccount.objects.get(pk=given.intents[1].account_id)
    refused: list[str] = []

    def enter() -> None:
        try:
            given.enter()
        except ValueError as problem:
            refused.append(str(problem))
        finally:
            connections.close_all()

    waiting = threading.Thread(target=enter)
    with transaction.atomic():
        locks.lease_hold(owner_id=given.owner.pk)
        waiting.start()
        until_somebody_waits()
        if what == "bot":
            bot_delete(bot=given.bot, actor=given.owner)
        else:
            given.bot.accounts.remove(account)
            account_delete(account=account, actor=given.owner)
    waiting.join(60)
    assert len(refused) == 1
    assert refused[0].startswith(f"{what}_id")
    assert not JournaledIntent.objects.exists()


def until_somebody_waits() -> None:
    """Wait until another connection waits for a lock of this one's."""
    until = time.monotonic() + 60
    with connection.cursor() as cursor:
        while time.monotonic() < until:
            cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))")
            if cursor.fetchone():
                return
            time.sleep(0.02)
    raise AssertionError("nobody came to wait")


@pytest.mark.parametrize(
    ("whose", "change", "words"),
    [
        ("trade", {"route": "r" * 161}, "route: at most 160"),
        ("trade", {"base": "B" * 33}, "base: at most 32"),
        ("trade", {"mode": "play"}, "mode: one of"),
        ("trade", {"repair_ms": -1}, "repair_ms: must be 0 to"),
        ("trade", {"repair_ms": 2**31}, "repair_ms: must be 0 to"),
        ("trade", {"residual_base": D("NaN")}, "residual_base"),
        ("trade", {"fees": {"USDT": D("1e30")}}, "fees"),
        ("trade", {"reason": "a\0b"}, "NUL"),
        ("trade", {"opened_ns": 10**30}, "out of range"),
        ("order", {"client_order_id": "x" * 37}, "client_order_id: at most 36"),
        ("order", {"client_order_id": ""}, "client_order_id: one word"),
        ("order", {"attempt": 2**15}, "attempt: must be 0 to 32767"),
        ("order", {"leg": -1}, "leg: must be 0 to 32767"),
        ("order", {"side": "hold"}, "side: one of"),
        ("order", {"reserve_amount": D(-1)}, "reserve_amount: may not be negative"),
        ("order", {"reserve_asset": "A" * 33}, "reserve_asset: at most 32"),
        ("order", {"linked": "x" * 37}, "linked: at most 36"),
        ("order", {"trigger": D(0)}, "trigger"),
        ("order", {"deadline_ns": 10**30}, "out of range"),
    ],
)
def test_what_no_row_could_hold_is_refused_before_it_is_journaled(
    given: Given, whose: str, change: dict[str, Any], words: str
) -> None:
    if whose == "trade":
        given.trade = structs.replace(given.trade, **change)
    else:
        given.intents[1] = structs.replace(given.intents[1], **change)
    with pytest.raises(ValueError, match=words):
        given.enter()
    assert not JournaledIntent.objects.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "p" * 17}, "path: at most 16"),
        ({"protected_by": "p" * 17}, "protected_by: at most 16"),
        ({"held": D(-1)}, "held: may not be negative"),
        ({"fallback_quantity": D("-0.5")}, "fallback_quantity: may not be negative"),
        ({"status_questions": -1}, "status_questions: must be 0 to"),
        ({"progress": (TicketStep(step="connecting", state="now", at=float("nan")),)}, "can't be stored"),
    ],
)
@pytest.mark.parametrize("kind", ["entry", "further"])
def test_a_standing_that_no_ticket_could_hold_is_refused(kind: str, change: dict[str, Any], words: str) -> None:
    place = TicketPlace()
    bad = structs.replace(place.record, standing=TicketStanding(**change))
    if kind == "entry":
        with pytest.raises(ValueError, match=words):
            trade_commit(**place.commit, trade=bad, intents=[place.entry])
    else:
        trade_commit(**place.commit, trade=place.record, intents=[place.entry])
        with pytest.raises(ValueError, match=words):
            protection_commit(**place.commit, trade=bad, intents=place.protection())
    assert JournaledIntent.objects.count() == (kind == "further")


def test_terms_that_no_ticket_could_hold_are_refused() -> None:
    place = TicketPlace()
    for change in ({"leverage": 2**15}, {"path": "pigeon"}, {"quantity": D(0)}, {"limit_cap": D("Infinity")}):
        bad = structs.replace(place.record, ticket=structs.replace(place.asked, **change))
        with pytest.raises(ValueError, match=next(iter(change))):
            trade_commit(**place.commit, trade=bad, intents=[place.entry])
    assert not JournaledIntent.objects.exists()


def test_a_pair_that_no_row_could_hold_is_refused() -> None:
    place = PairPlace()
    for terms, standing in (
        ({"funding_rate": float("nan")}, {}),
        ({}, {"held": D(-1)}),
        ({}, {"outside": D(-1)}),
        ({}, {"entry_bps": D("1e30")}),
    ):
        bad = structs.replace(place.record, basis=structs.replace(place.terms, **terms), pair=BasisStanding(**standing))
        with pytest.raises(ValueError, match=next(iter(standing), "can't be stored")):
            trade_commit(**place.commit, trade=bad, intents=[place.intent(0), place.intent(1)])
    assert not JournaledIntent.objects.exists()


def test_the_widest_values_that_are_taken_can_be_unfolded(given: Given) -> None:
    wide = D("9999999999999999999.999999999999999999")
    given.trade = structs.replace(
        given.trade, route="r" * 160, base="B" * 32, quote="Q" * 32, quantity=wide, expected_net_bps=-wide,
        expected_profit=wide, residual_base=-wide, fees={"F" * 32: wide}, reason="\u2028\"\\' \U0001f600" * 200,
        exposure=wide, repair_ms=2**31 - 1, score=float("nan"),
    )  # fmt: skip
    given.intents = [
        structs.replace(
            intent, client_order_id=str(number) * 36, leg=2**15 - 1, attempt=number, price=wide, quantity=wide,
            reserve_amount=wide, reserve_asset="R" * 32, trigger=D("1e-18"), linked="l" * 36,
        )
        for number, intent in enumerate(given.intents)
    ]  # fmt: skip
    given.enter()
    assert intents_unfold(owner_id=given.owner.pk) == 1
    ((record, orders),) = open_trades(owner_id=given.owner.pk)
    assert (record.quantity, record.residual_base, record.fees) == (wide, -wide, {"F" * 32: wide})
    assert [intent for intent, _, _ in orders] == given.intents


def test_a_decision_with_figures_that_are_no_numbers_is_stored_without_them(given: Given) -> None:
    nothing = float("nan")
    decision = given.world.decision(given.bot, trade_id=given.trade.trade_id, gross_bps=nothing, net_profit=-nothing)
    given.enter(decision=decision)
    assert intents_unfold(owner_id=given.owner.pk) == 1
    row = Decision.objects.get()
    assert (row.gross_bps, row.profit, row.net_bps, row.taken) == (0.0, 0.0, 4.2, True)
    assert (row.later_profit, row.score) == (None, None)


def test_a_decision_about_another_trade_is_refused(given: Given) -> None:
    for changes in ({"trade_id": "another"}, {"trade_id": given.trade.trade_id, "base": "B" * 33}):
        with pytest.raises(ValueError, match="decision: is about"):
            given.enter(decision=given.world.decision(given.bot, **changes))
    assert not JournaledIntent.objects.exists()


def test_a_result_that_was_stored_meanwhile_is_moved_by_the_difference(given: Given) -> None:
    given.enter()
    intents_unfold(owner_id=given.owner.pk)
    closed = structs.replace(given.trade, state=TradeState.CLOSED, closed_ns=START_NS, realised_profit=D(5))
    trades_apply(**given.commit, trades=[closed])
    worse = structs.replace(closed, state=TradeState.REPAIRING, realised_profit=D(3))
    repair_commit(**given.commit, trade=worse, intent=given.further())
    intents_unfold(owner_id=given.owner.pk)
    assert Trade.objects.get().realised_profit == D(3)
    assert set(given.bot.profits.values_list("profit", flat=True)) == {D(3)}
