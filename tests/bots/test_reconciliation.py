"""Differences between books and exchanges: one row while one shows, adopted once, never by somebody else."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.urls import reverse
from msgspec import structs

from bots.models import Command, Difference, ExchangeAccount, Fill, Income, LedgerCheckpoint, LedgerEntry, LedgerLine
from bots.selectors import ledger_unbalanced
from bots.services import ledger_sums
from bots.services.accounts import account_observe, accounts_idle
from bots.services.differences import difference_adopt, difference_dismiss, reconcile_request
from bots.services.events import events_apply
from bots.services.exchanges import markets_sync
from bots.services.ledger_sums import ledger_balances
from bots.services.reconciliation import expected_read, reconciliation_apply
from bots.services.trades import trades_apply
from tests.bots.durable import trade_commit
from tests.bots.world import market
from tests.engine.worlds import spot
from trading.execution import reconciliation
from trading.execution.reconciliation import DifferenceKind, Findings, Reading, Reconciliation, compare
from trading.messages import AccountIncome, IncomeKind, OrderState, TradeState

SWAP = "BTC/USDT:USDT"
pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal
State = Difference.State
MARKET = spot("alpha")
MARKETS = {MARKET.key: MARKET}
NONE_ASKED = reconciliation.Executions()


class Bench:
    """One owner's account, compared with whatever the exchange is made to say."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.owner = world.anna
        self.bot = world.bot(world.anna)
        self.account = ExchangeAccount.objects.get(owner=world.anna, exchange__code="alpha")

    def trade(self, mode: str = "simulated", orders: dict[str, Any] | None = None):
        token = self.world.token(self.owner)
        trade = self.world.trade(self.bot, token, mode=mode)
        intents = self.world.intents(self.bot, trade, **(orders or {}))
        trade_commit(owner_id=self.owner.pk, token=token, trade=trade, intents=intents)
        return intents

    def fill(self, mode: str = "simulated") -> None:
        """Buy 0.5 BTC at 60000 for a fee of 30 USDT."""
        intent = self.trade(mode)[0]
        event = self.world.event(intent, OrderState.FILLED, self.world.fill(intent))
        events_apply(owner_id=self.owner.pk, batch=[(event, "FILLED")])

    def contracts(
        self,
        side: str = "buy",
        quantity: str = "0.5",
        mode: str = "simulated",
        state: str = "CLOSED",
        realised: str | None = None,
        position_side: str = "",
    ):
        """Let a trade buy or sell contracts for a fee of 3 USDT, and end."""
        perpetual = market("alpha", symbol=SWAP, native_id="BTCUSDT_P", kind="linear", settle="USDT")
        markets_sync(
            exchange=self.world.exchanges["alpha"], markets=[market("alpha"), market("alpha", "ETH"), perpetual]
        )
        token = self.world.token(self.owner)
        trade = self.world.trade(self.bot, token, mode=mode)
        (intent, _) = self.world.intents(self.bot, trade, market=perpetual.key, quantity=D(quantity), side=side)
        trade_commit(owner_id=self.owner.pk, token=token, trade=trade, intents=[intent])
        gain = None if realised is None else D(realised)
        fill = self.world.fill(intent, fee=D(3), realized_pnl=gain, position_side=position_side)
        event = self.world.event(intent, OrderState.FILLED, fill)
        events_apply(owner_id=self.owner.pk, batch=[(event, "FILLED")])
        ended = structs.replace(trade, state=TradeState(state), closed_ns=time.time_ns(), realised_profit=D(0))
        trades_apply(owner_id=self.owner.pk, token=token, trades=[ended])
        return event

    def look(
        self,
        _left_out: tuple[str, ...] = (),
        _executions: reconciliation.Executions | None = None,
        _incomes: tuple[AccountIncome, ...] = (),
        **theirs: str,
    ) -> int:
        """Compare with an exchange that holds ``theirs``; return how many differences are new."""
        expected = expected_read(owner_id=self.owner.pk, account_id=self.account.pk)
        reading = Reading(
            balances={asset: D(text) for asset, text in theirs.items()},
            exchange="alpha",
            executions=structs.replace(_executions or NONE_ASKED, incomes=_incomes),
        )
        left_out = frozenset(_left_out)
        done = Reconciliation(
            account_id=self.account.pk,
            findings=compare(expected, reading, MARKETS, lambda client_id: False, left_out),
            ledger=expected.balances,
            left_out=left_out,
            at_ns=time.time_ns(),
        )
        new = reconciliation_apply(owner_id=self.owner.pk, done=done)
        self.account.refresh_from_db()
        return new

    def ledger(self) -> dict[str, Decimal]:
        return ledger_balances(account_id=self.account.pk)

    def rows(self) -> list[tuple[str, str, Decimal]]:
        return list(Difference.objects.order_by("pk").values_list("key", "state", "amount"))


@pytest.fixture
def bench(world) -> Bench:
    return Bench(world)


def test_the_first_comparison_opens_the_ledger_so_that_it_is_the_exchanges_figure(bench) -> None:
    bench.fill()
    assert bench.ledger() == {"BTC": D("0.5"), "USDT": D("-30030")}
    assert bench.look(BTC="0.5", USDT="1000.25", ETH="0.000000000000000001") == 0
    assert bench.ledger() == {"BTC": D("0.5"), "USDT": D("1000.25"), "ETH": D("1e-18")}
    assert LedgerEntry.objects.filter(cause=LedgerEntry.Cause.OPENING).count() == 1
    assert bench.account.opened_at == bench.account.matched_at
    assert ledger_unbalanced() == []
    bench.look(BTC="0.5", USDT="1000.25", ETH="0.000000000000000001")
    assert Difference.objects.count() == 0


def test_paper_money_is_not_in_the_books_that_are_compared(bench) -> None:
    bench.fill("paper")
    assert bench.ledger() == {}
    bench.look(USDT="5")
    assert bench.ledger() == {"USDT": D(5)}


def test_what_is_filled_after_the_opening_keeps_the_books_equal(bench) -> None:
    bench.look(USDT="100000")
    bench.fill()
    bench.look(USDT="69970", BTC="0.5")
    assert Difference.objects.count() == 0
    assert bench.account.matched_at == bench.account.reconciled_at


def test_a_difference_has_one_row_follows_the_figures_and_closes_itself(bench) -> None:
    bench.look(USDT="100")
    assert bench.look(USDT="105") == 1
    assert bench.look(USDT="106") == 0
    assert bench.rows() == [("USDT", State.OPEN, D(6))]
    matched = bench.account.matched_at
    assert matched < bench.account.reconciled_at
    bench.look(USDT="100")
    assert bench.rows() == [("USDT", State.RESOLVED, D(6))]
    assert bench.account.matched_at == bench.account.reconciled_at


def test_assets_left_out_keep_their_open_rows(bench) -> None:
    bench.look(USDT="100")
    bench.look(USDT="105")
    bench.look(_left_out=("USDT",), USDT="100")
    assert bench.rows() == [("USDT", State.OPEN, D(5))]


def test_adopting_books_the_amount_once_and_says_who_and_why(bench) -> None:
    bench.look(USDT="100")
    bench.look(USDT="105")
    row = Difference.objects.get()
    assert difference_adopt(difference=row, actor=bench.owner, reason="my  transfer") is True
    assert difference_adopt(difference=row, actor=bench.owner, reason="my transfer") is False
    assert bench.ledger() == {"USDT": D(105)}
    entry = LedgerEntry.objects.get(difference=row)
    assert entry.cause == LedgerEntry.Cause.DEPOSIT
    assert ledger_unbalanced() == []
    row.refresh_from_db()
    assert (row.state, row.decided_by, row.reason) == (State.ADOPTED, bench.owner, "my transfer")
    (log,) = LogEntry.objects.filter(object_id=str(row.pk), change_message__startswith="Adopted")
    assert log.user == bench.owner
    assert "from 100 to 105 USDT. Reason: my transfer" in log.change_message
    bench.look(USDT="105")
    assert bench.rows() == [("USDT", State.ADOPTED, D(5))]
    assert bench.account.matched_at == bench.account.reconciled_at


@pytest.mark.parametrize(
    ("theirs", "cause"), [("90", "withdrawal"), ("110", "deposit"), ("100.00000001", "correction")]
)
def test_what_is_adopted_is_booked_under_its_cause(bench, theirs, cause) -> None:
    bench.look(USDT="100")
    bench.look(USDT=theirs)
    difference_adopt(difference=Difference.objects.get(), actor=bench.owner)
    assert LedgerEntry.objects.get(difference__isnull=False).cause == cause
    assert bench.ledger() == {"USDT": D(theirs)}


def test_a_comparison_made_before_an_adoption_does_not_open_it_again(bench) -> None:
    bench.look(USDT="100")
    bench.look(USDT="105")
    expected = expected_read(owner_id=bench.owner.pk, account_id=bench.account.pk)
    findings = compare(expected, Reading(balances={"USDT": D(105)}), {}, lambda client_id: False)
    difference_adopt(difference=Difference.objects.get(), actor=bench.owner)
    done = Reconciliation(
        account_id=bench.account.pk, findings=findings, ledger=expected.balances, left_out=frozenset(),
        at_ns=time.time_ns(),
    )  # fmt: skip
    assert reconciliation_apply(owner_id=bench.owner.pk, done=done) == 0
    assert bench.rows() == [("USDT", State.ADOPTED, D(5))]


def test_a_dismissed_difference_stays_closed_while_it_is_the_same(bench) -> None:
    bench.look(USDT="100")
    bench.look(USDT="105")
    row = Difference.objects.get()
    with pytest.raises(ValidationError, match="Say why"):
        difference_dismiss(difference=row, actor=bench.owner, reason="  ")
    assert difference_dismiss(difference=row, actor=bench.owner, reason="a gift") is True
    assert difference_dismiss(difference=row, actor=bench.owner, reason="a gift") is False
    with pytest.raises(ValidationError, match="dismissed already by anna"):
        difference_adopt(difference=row, actor=bench.owner)
    assert bench.look(USDT="105") == 0
    assert bench.look(USDT="107") == 1
    assert bench.rows() == [("USDT", State.RESOLVED, D(5)), ("USDT", State.OPEN, D(7))]


def test_fault_39_an_execution_that_was_taken_back_has_a_row_until_a_person_has_looked(bench) -> None:
    bench.look(USDT="100000")
    intent = bench.trade()[0]
    made_ns = time.time_ns()
    fill = bench.world.fill(intent, exchange_ns=made_ns)
    events_apply(owner_id=bench.owner.pk, batch=[(bench.world.event(intent, OrderState.FILLED, fill), "FILLED")])
    assert bench.ledger() == {"BTC": D("0.5"), "USDT": D("69970")}
    executions = reconciliation.Executions(
        markets=frozenset({fill.market}),
        since_ns=made_ns - 2 * reconciliation.MARGIN_NS,
        due=frozenset({(fill.market, fill.exchange_trade_id)}),
    )
    assert bench.look(USDT="100000", _executions=executions) == 3
    balances = Difference.objects.filter(kind="balance")
    assert {row.cause for row in Difference.objects.all()} == {"taken_back"}
    with pytest.raises(ValidationError, match="Only a difference of balances"):
        difference_adopt(difference=Difference.objects.get(kind="taken_back"), actor=bench.owner)
    for row in balances:
        assert difference_adopt(difference=row, actor=bench.owner) is True
    assert bench.ledger() == {"USDT": D(100000)}
    assert ledger_unbalanced() == []
    assert bench.look(USDT="100000") == 0
    (left,) = Difference.objects.filter(
        state=State.OPEN
    )  # what is not listed now may have been taken back all the same
    assert difference_dismiss(difference=left, actor=bench.owner, reason="the exchange has written") is True
    assert bench.look(USDT="100000", _executions=executions) == 0
    assert not Difference.objects.filter(state=State.OPEN).exists()


def test_paper_executions_are_not_expected_of_the_exchange(bench) -> None:
    bench.look(USDT="100000")
    intent = bench.trade("paper")[0]
    event = bench.world.event(intent, OrderState.FILLED, bench.world.fill(intent, exchange_ns=time.time_ns()))
    events_apply(owner_id=bench.owner.pk, batch=[(event, "FILLED")])
    assert expected_read(owner_id=bench.owner.pk, account_id=bench.account.pk).fills == {}


def unknown_order(account: ExchangeAccount, key: str = "stray") -> Reconciliation:
    found = reconciliation.Difference(
        kind=DifferenceKind.UNKNOWN_ORDER, key=key, cause=reconciliation.DifferenceCause.UNKNOWN_ORDER, suggestion="."
    )
    return Reconciliation(
        account_id=account.pk, findings=Findings(differences=(found,)), ledger={}, left_out=frozenset(),
        at_ns=time.time_ns(),
    )  # fmt: skip


def test_an_unknown_order_cannot_be_adopted_and_dismissing_it_is_told_to_the_engine(bench) -> None:
    bench.world.lease(bench.owner)
    reconciliation_apply(owner_id=bench.owner.pk, done=unknown_order(bench.account))
    row = Difference.objects.get()
    with pytest.raises(ValidationError, match="Only a difference of balances"):
        difference_adopt(difference=row, actor=bench.owner)
    bench.look(USDT="1")  # it shows no more, and still nobody has looked at it
    expected = expected_read(owner_id=bench.owner.pk, account_id=bench.account.pk)
    assert expected.unknown_orders == ("stray",)
    difference_dismiss(difference=row, actor=bench.owner, reason="an old backup")
    expected = expected_read(owner_id=bench.owner.pk, account_id=bench.account.pk)
    assert (expected.dismissed, expected.unknown_orders) == ({("unknown_order", "stray")}, ())
    assert Command.objects.filter(kind=Command.Kind.RECONCILE, status="pending").count() == 1


def test_differences_whose_keys_begin_alike_beyond_the_columns_length_have_a_row_each(bench) -> None:
    keys = ["k" * 64, *("k" * 64 + end for end in ("-one", "-two"))]
    what = {"kind": DifferenceKind.FOREIGN_ORDER, "cause": reconciliation.DifferenceCause.FOREIGN_ORDER}
    strangers = [reconciliation.Difference(key=key, suggestion="", **what) for key in keys]

    def look(*found: reconciliation.Difference) -> int:
        findings = Findings(differences=found)
        done = Reconciliation(
            account_id=bench.account.pk, findings=findings, ledger={}, left_out=frozenset(), at_ns=time.time_ns()
        )
        return reconciliation_apply(owner_id=bench.owner.pk, done=done)

    assert look(*strangers) == 3
    assert look(*strangers) == 0
    assert Difference.objects.filter(state=State.OPEN).count() == 3
    look(*strangers[:2])
    assert Difference.objects.filter(state=State.OPEN).count() == 2


def test_the_books_say_which_orders_and_fills_they_know(bench) -> None:
    bench.look(USDT="100000")
    intent = bench.trade()[0]
    fill = bench.world.fill(intent, exchange_ns=time.time_ns(), fee=None, fee_asset="")
    event = bench.world.event(intent, OrderState.PARTIALLY_FILLED, fill, exchange_order_id="x-77")
    events_apply(owner_id=bench.owner.pk, batch=[(event, "PARTIALLY_FILLED")])
    expected = expected_read(
        owner_id=bench.owner.pk, account_id=bench.account.pk, client_order_ids=["other"], exchange_order_ids=["x-77"]
    )
    assert expected.orders == {"x-77": intent.client_order_id}
    assert expected.client_ids == {intent.client_order_id}
    assert expected.fills == {("alpha:BTC/USDT", fill.exchange_trade_id): fill.exchange_ns // 1000 * 1000}
    assert expected.fees_pending == 1


def test_another_owners_account_is_not_read_and_not_written(bench) -> None:
    with pytest.raises(ValueError, match="is not of owner"):
        expected_read(owner_id=bench.world.ben.pk, account_id=bench.account.pk)
    with pytest.raises(ExchangeAccount.DoesNotExist):
        reconciliation_apply(owner_id=bench.world.ben.pk, done=unknown_order(bench.account))


def test_nobody_else_decides(bench) -> None:
    bench.look(USDT="100")
    bench.look(USDT="105")
    row = Difference.objects.get()
    for act in (difference_adopt, difference_dismiss):
        with pytest.raises(PermissionDenied):
            act(difference=row, actor=bench.world.ben, reason="mine now")
    with pytest.raises(PermissionDenied):
        reconcile_request(owner_id=bench.owner.pk, actor=bench.world.ben)
    assert bench.ledger() == {"USDT": D(100)}


def test_a_comparison_is_asked_for_only_where_an_engine_runs(bench) -> None:
    with pytest.raises(ValidationError, match="No engine runs"):
        reconcile_request(owner_id=bench.owner.pk, actor=bench.owner)
    bench.world.lease(bench.owner)
    assert reconcile_request(owner_id=bench.owner.pk, actor=bench.owner).status == "pending"


# --- positions -----------------------------------------------------------------------------------------------------


def test_fills_of_finished_trades_explain_a_position_to_whoever_reads_the_books(bench) -> None:
    bench.look(USDT="1000")
    bench.contracts("buy", "0.5")
    bench.contracts("sell", "0.2", state="EXPOSED")
    bench.contracts("buy", "7", mode="paper")
    expected = expected_read(owner_id=bench.owner.pk, account_id=bench.account.pk)
    assert expected.balances == {"USDT": D(994), SWAP: D("0.3")}
    assert bench.look(**{"USDT": "994", SWAP: "0.3"}) == 0


def test_a_position_that_differs_has_a_row_and_accepting_it_explains_it(bench, anna) -> None:
    bench.look(USDT="1000")
    bench.contracts("buy", "0.5")
    assert bench.look(USDT="997") == 1
    (row,) = Difference.objects.all()
    assert (row.kind, row.key, row.asset, row.market) == ("position", SWAP, SWAP, f"alpha:{SWAP}")
    assert (row.ours, row.theirs, row.amount, row.cause) == (D("0.5"), D(0), D("-0.5"), "unexplained")
    html = anna.get(page(row, "change")).content.decode()
    assert SWAP in html
    assert page(row, "adopt") in html
    assert bench.account.matched_at < bench.account.reconciled_at
    assert difference_adopt(difference=row, actor=bench.owner, reason="closed by hand") is True
    assert bench.ledger() == {"USDT": D(997)}
    assert ledger_unbalanced() == []
    assert bench.look(USDT="997") == 0
    assert bench.rows() == [(SWAP, State.ADOPTED, D("-0.5"))]
    assert bench.account.matched_at == bench.account.reconciled_at


def test_a_position_that_shows_no_more_closes_its_row_and_a_disputed_market_keeps_it(bench) -> None:
    bench.look(USDT="1000")
    bench.look(**{"USDT": "1000", SWAP: "2"})
    bench.look(_left_out=(SWAP,), USDT="1000")
    assert bench.rows() == [(SWAP, State.OPEN, D(2))]
    bench.look(USDT="1000")
    assert bench.rows() == [(SWAP, State.RESOLVED, D(2))]


def test_what_an_exchange_closed_is_booked_as_that(bench) -> None:
    bench.look(**{"USDT": "1000", SWAP: "2"})
    found = reconciliation.Difference(
        kind=DifferenceKind.POSITION, key=SWAP, asset=SWAP, cause=reconciliation.DifferenceCause.LIQUIDATION,
        suggestion=".", ours=D(2), theirs=D(0), amount=D(-2),
    )  # fmt: skip
    done = Reconciliation(
        account_id=bench.account.pk, findings=Findings(differences=(found,), balances_compared=True),
        ledger=bench.ledger(), left_out=frozenset(), at_ns=time.time_ns(),
    )  # fmt: skip
    reconciliation_apply(owner_id=bench.owner.pk, done=done)
    assert difference_adopt(difference=Difference.objects.get(), actor=bench.owner) is True
    assert LedgerEntry.objects.get(difference__isnull=False).cause == "forced"


# --- what contracts earn and pay -----------------------------------------------------------------------------------


def funding(number: int = 1, amount: str = "-2.5", **changes: Any) -> AccountIncome:
    values: dict[str, Any] = {
        "account_id": 0, "kind": IncomeKind.FUNDING, "transaction_id": f"tran-{number}", "asset": "USDT",
        "amount": D(amount), "market": f"alpha:{SWAP}", "exchange_ns": time.time_ns(),
    }  # fmt: skip
    return AccountIncome(**(values | changes))


def test_what_a_fill_realised_is_booked_once_in_the_settle_asset(bench) -> None:
    bench.look(USDT="1000")
    bench.contracts("buy", "0.5", realised="0")
    event = bench.contracts("sell", "0.5", realised="-12.25")
    events_apply(owner_id=bench.owner.pk, batch=[(event, "FILLED")])
    assert bench.ledger() == {"USDT": D("981.75")}
    assert LedgerEntry.objects.filter(cause=LedgerEntry.Cause.REALISED).count() == 1
    assert ledger_unbalanced() == []
    assert bench.look(USDT="981.75") == 0


def test_what_a_fill_realised_may_be_told_after_it(bench) -> None:
    bench.look(USDT="1000")
    event = bench.contracts("sell", "0.5")
    assert bench.ledger() == {"USDT": D(997), SWAP: D("-0.5")}
    (fill,) = event.fills
    for realised in ("4", "5"):  # the first word counts
        told = structs.replace(event, fills=(structs.replace(fill, realized_pnl=D(realised)),))
        events_apply(owner_id=bench.owner.pk, batch=[(told, "FILLED")])
    assert bench.ledger() == {"USDT": D(1001), SWAP: D("-0.5")}
    assert Fill.objects.get().realized_pnl == D(4)


def test_funding_is_booked_with_the_comparison_that_finds_it_and_never_again(bench) -> None:
    bench.look(USDT="1000")
    first, second = funding(), funding(2, "1.25")
    assert bench.look(USDT="997.5", _incomes=(first,)) == 0
    assert bench.ledger() == {"USDT": D("997.5")}
    assert bench.account.matched_at == bench.account.reconciled_at
    for _ in range(2):
        assert bench.look(USDT="998.75", _incomes=(first, second)) == 0
    rows = Income.objects.order_by("pk")
    assert [(row.owner, row.transaction_id, row.amount) for row in rows] == [
        (bench.owner, "tran-1", D("-2.5")), (bench.owner, "tran-2", D("1.25")),
    ]  # fmt: skip
    entries = LedgerEntry.objects.filter(income__isnull=False).order_by("pk")
    assert [(entry.cause, entry.income.transaction_id) for entry in entries] == [
        ("funding", "tran-1"), ("funding", "tran-2"),
    ]  # fmt: skip
    assert ledger_unbalanced() == []
    expected = expected_read(owner_id=bench.owner.pk, account_id=bench.account.pk)
    assert expected.incomes == {("funding", "tran-1"), ("funding", "tran-2")}


def test_a_comparison_that_is_stored_twice_books_its_lines_once(bench) -> None:
    bench.look(USDT="1000")
    done = Reconciliation(
        account_id=bench.account.pk, findings=Findings(incomes=(funding(), funding())), ledger=bench.ledger(),
        left_out=frozenset(), at_ns=time.time_ns(),
    )  # fmt: skip
    for _ in range(2):
        reconciliation_apply(owner_id=bench.owner.pk, done=done)
    assert bench.ledger() == {"USDT": D("997.5")}


def test_funding_explains_what_is_left_of_a_difference_only_by_its_own_amount(bench) -> None:
    bench.look(USDT="1000")
    assert bench.look(USDT="1090", _incomes=(funding(),)) == 1
    (row,) = Difference.objects.all()
    assert (row.ours, row.theirs, row.amount, row.cause) == (D("997.5"), D(1090), D("92.5"), "deposit")
    difference_adopt(difference=row, actor=bench.owner)
    assert bench.ledger() == {"USDT": D(1090)}


def test_funding_of_before_the_opening_is_part_of_it(bench) -> None:
    before = funding()
    bench.look(USDT="1000", _incomes=(before,))
    assert bench.ledger() == {"USDT": D(1000)}
    assert not hasattr(Income.objects.get(), "ledger_entry")
    old = funding(7, exchange_ns=time.time_ns() - 10 * reconciliation.MARGIN_NS)  # listed late
    assert bench.look(USDT="1000", _incomes=(before, old)) == 0
    assert bench.ledger() == {"USDT": D(1000)}
    assert LedgerLine.objects.filter(entry__income__isnull=False).count() == 0


def test_statement_lines_have_a_page_of_their_own_rows(bench, anna, ben) -> None:
    bench.look(USDT="1000", _incomes=(funding(1),))
    bench.look(USDT="995", _incomes=(funding(2, "-5"),))
    address = reverse("admin:bots_income_changelist")
    html = anna.get(address).content.decode()
    assert "tran-1" in html
    assert "in the opening balance" in html
    assert ben.get(address).context["cl"].queryset.count() == 0
    entries = anna.get(reverse("admin:bots_ledgerentry_changelist")).content.decode()
    assert "Funding -5 USDT" in entries


# --- pages ---------------------------------------------------------------------------------------------------------


def page(row: Difference, name: str) -> str:
    return reverse(f"admin:bots_difference_{name}", args=[row.pk])


def test_the_page_adopts_with_one_click_and_tells_the_second(bench, anna) -> None:
    bench.look(USDT="100")
    bench.look(USDT="105")
    row = Difference.objects.get()
    html = anna.get(page(row, "change")).content.decode()
    assert "Looks like a deposit of 5 USDT" in html
    assert page(row, "adopt") in html
    assert anna.get(page(row, "adopt")).status_code == 405
    first = anna.post(page(row, "adopt"), follow=True).content.decode()
    second = anna.post(page(row, "adopt"), follow=True).content.decode()
    assert "is adopted." in first
    assert "was adopted already." in second
    assert bench.ledger() == {"USDT": D(105)}
    assert page(row, "adopt") not in second


def test_the_page_of_another_is_not_found_and_not_acted_on(bench, ben, operator) -> None:
    bench.look(USDT="100")
    bench.look(USDT="105")
    row = Difference.objects.get()
    for name in ("adopt", "dismiss"):
        assert ben.post(page(row, name), {"reason": "x"}).status_code == 404
    row.refresh_from_db()
    assert row.state == State.OPEN
    assert operator.post(page(row, "dismiss"), {"reason": "seen"}, follow=True).status_code == 200
    row.refresh_from_db()
    assert (row.state, row.decided_by) == (State.DISMISSED, bench.world.operator)


def test_the_dashboard_and_sidebar_count_what_is_open_for_the_one_who_looks(bench, anna, ben) -> None:
    bench.look(USDT="100")
    bench.look(USDT="105")
    cards = {card["title"]: card["value"] for card in anna.get(reverse("admin:index")).context["cards"]}
    assert cards["Differences"] == 1
    cards = {card["title"]: card["value"] for card in ben.get(reverse("admin:index")).context["cards"]}
    assert cards["Differences"] == 0
    assert "/bots/difference/?state__exact=open" in anna.get(reverse("admin:index")).content.decode()


def test_the_account_page_shows_its_stream_why_it_is_blocked_and_when_it_was_compared(bench, anna) -> None:
    bench.look(USDT="100")
    reconciliation_apply(owner_id=bench.owner.pk, done=unknown_order(bench.account))
    assert account_observe(account_id=bench.account.pk, state="blocked", reason="an order of ours nobody knows") is True
    assert (
        account_observe(account_id=bench.account.pk, state="blocked", reason="an order of ours nobody knows") is False
    )
    account_observe(account_id=bench.account.pk, state="blocked", reason="x", swept_ns=time.time_ns())
    for name, args in (("changelist", []), ("change", [bench.account.pk])):
        html = anna.get(reverse(f"admin:bots_exchangeaccount_{name}", args=args)).content.decode()
        assert "Blocked" in html
        assert ">x<" in html.replace("\n", "").replace(" ", "")
        assert "Last compared" in html
    accounts_idle(owner_id=bench.owner.pk)
    bench.account.refresh_from_db()
    assert (bench.account.observed_state, bench.account.observed_reason) == ("idle", "")
    assert bench.account.swept_at is not None


def test_the_account_page_asks_for_a_comparison(bench, anna, ben) -> None:
    address = reverse("admin:bots_exchangeaccount_reconcile", args=[bench.account.pk])
    assert address in anna.get(reverse("admin:bots_exchangeaccount_change", args=[bench.account.pk])).content.decode()
    assert "No engine runs" in anna.post(address, follow=True).content.decode()
    bench.world.lease(bench.owner)
    assert "is asked for" in anna.post(address, follow=True).content.decode()
    assert ben.post(address).status_code == 404
    assert Command.objects.filter(kind=Command.Kind.RECONCILE).count() == 1


# --- sums ----------------------------------------------------------------------------------------------------------


def test_sums_that_go_on_from_a_checkpoint_are_those_of_all_lines(bench, monkeypatch) -> None:
    monkeypatch.setattr(ledger_sums, "SETTLED", timedelta(0))
    bench.look(USDT="1000000.000000000000000001")
    for number in range(4):
        bench.fill()
        bench.fill("paper")
        bench.contracts("buy", "0.25")
        everything = ledger_sums._sums(bench.account.pk, after=0)
        assert bench.ledger() == everything
        assert everything["BTC"] == D("0.5") * (number + 1)
        assert everything[SWAP] == D("0.25") * (number + 1)
        with transaction.atomic():
            ledger_sums.checkpoint_move(account_id=bench.account.pk)
        assert bench.ledger() == everything
    mark = LedgerCheckpoint.objects.get()
    assert 0 < mark.line < mark.next_line


def test_a_checkpoint_waits_until_what_is_before_it_must_be_committed(bench) -> None:
    bench.fill()
    for _ in range(3):
        with transaction.atomic():
            ledger_sums.checkpoint_move(account_id=bench.account.pk)
    assert LedgerCheckpoint.objects.get().line == 0


LONG, SHORT = f"{SWAP} long", f"{SWAP} short"


def test_fills_of_either_side_of_a_contract_are_booked_under_their_side(bench) -> None:
    bench.look(USDT="1000")
    bench.contracts("buy", "0.5", position_side="long")
    bench.contracts("sell", "0.5", position_side="short")
    assert bench.ledger() == {"USDT": D(994), LONG: D("0.5"), SHORT: D("-0.5")}
    assert list(Fill.objects.order_by("pk").values_list("position_side", flat=True)) == ["long", "short"]
    assert ledger_unbalanced() == []
    assert bench.look(USDT="994", **{LONG: "0.5", SHORT: "-0.5"}) == 0


def test_a_difference_of_both_sides_that_comes_to_nothing_has_a_row_for_each_and_each_is_adopted_alone(
    bench,
) -> None:
    bench.look(USDT="1000", **{LONG: "0.5", SHORT: "-0.5"})
    assert bench.look(USDT="1000", **{LONG: "0.2", SHORT: "-0.2"}) == 2
    assert bench.rows() == [(LONG, "open", D("-0.3")), (SHORT, "open", D("0.3"))]
    row = Difference.objects.get(key=SHORT)
    assert (row.market, row.asset, row.ours, row.theirs) == (f"alpha:{SWAP}", SHORT, D("-0.5"), D("-0.2"))
    difference_adopt(difference=row, actor=bench.owner)
    assert bench.ledger() == {"USDT": D(1000), LONG: D("0.5"), SHORT: D("-0.2")}
    assert bench.look(USDT="1000", **{LONG: "0.2", SHORT: "-0.2"}) == 0
    assert bench.rows() == [(LONG, "open", D("-0.3")), (SHORT, "adopted", D("0.3"))]
    assert bench.account.matched_at < bench.account.reconciled_at, "the books do not match yet"


def test_books_of_before_sides_were_kept_are_told_apart_once_without_a_difference(bench) -> None:
    bench.look(USDT="1000", **{SWAP: "-0.4"})  # as one: 0.5 long, and 0.9 short
    bench.contracts("buy", "0.1", position_side="long")
    for _ in range(2):
        assert bench.look(USDT="997", **{LONG: "0.6", SHORT: "-0.9"}) == 0
        assert bench.ledger() == {"USDT": D(997), LONG: D("0.6"), SHORT: D("-0.9")}
    corrected = LedgerEntry.objects.filter(cause=LedgerEntry.Cause.CORRECTION)
    assert corrected.count() == 1
    assert ledger_unbalanced() == []
    assert bench.rows() == []


def test_books_of_before_that_do_not_come_to_the_same_are_differences_for_a_person(bench) -> None:
    bench.look(USDT="1000", **{SWAP: "-0.4"})
    assert bench.look(USDT="1000", **{LONG: "0.5", SHORT: "-0.5"}) == 3
    assert bench.rows() == [(SWAP, "open", D("0.4")), (LONG, "open", D("0.5")), (SHORT, "open", D("-0.5"))]
    assert bench.ledger() == {"USDT": D(1000), SWAP: D("-0.4")}
