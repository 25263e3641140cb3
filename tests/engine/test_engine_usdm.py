"""A trade by hand in a contract, end to end: the whole engine against the simulated Binance USD-M futures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest
import pytest_asyncio

from tests.engine.worlds import Pages
from tests.exchanges.venue_rig import WAIT_SECONDS, spec_of
from tests.exchangesim.simulator import Simulator, running_simulator
from trading.clock import SystemClock
from trading.config import MANUAL, AccountConfig, BotConfig, Credentials, OwnerConfig
from trading.engine import Engine
from trading.exchanges.binance_usdm.venue import BinanceUsdmDialect
from trading.exchanges.budget import Window
from trading.exchanges.markets import load_markets
from trading.exchanges.registry import feed_factory, venue_for
from trading.execution.memory_store import MemoryStore
from trading.execution.reconciliation import Difference, DifferenceCause, DifferenceKind
from trading.execution.ticket import Ticket
from trading.marketdata.hub import MarketHub
from trading.messages import IncomeKind, OrderKind, OrderState, TradeState
from trading.portfolio import Purse
from trading.tickets import ClosingTerms, TicketTerms, WorkingStyle

D = Decimal
NAME, SYMBOL = "binanceusdm", "BTC/USDT:USDT"
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Stage:
    """An engine with a desk for trades by hand on one account, which may hold both sides of a contract apart."""

    def __init__(self, simulator: Simulator, *, hedged: bool = False) -> None:
        self.simulator = simulator
        self.hedged = hedged
        self.store = MemoryStore()
        self.pages = Pages()
        self.alarms: list[str] = []
        self.asked_size = "5"  # of the best ask

    async def start(self) -> None:
        clock, spec = SystemClock(), spec_of(self.simulator, NAME)
        self.keys = self.simulator.account(NAME, balances={"USDT": "100000"})
        if self.hedged:
            self.simulator.hedge(self.keys)
        secrets = Credentials(api_key=self.keys.api_key, secret=self.keys.secret)
        listed = await load_markets(spec, kinds=frozenset({"linear"}))
        self.market = next(market for market in listed if market.symbol == SYMBOL)
        self.account = AccountConfig(account_id=1, label="main", exchange=spec, credentials=secrets)
        self.bot = BotConfig(
            bot_id=1,
            name="Manual live",
            mode="live",
            strategy=MANUAL,
            desk_accounts=(1,),
            markets=(self.market,),
            accounts={},
            max_trade_notional=D(100_000),
            max_open_trades=5,
            max_book_age_ms=60_000.0,
        )
        self.store.markets = {self.market.key: self.market}
        self.simulator.set_mark(NAME, SYMBOL, "50000")
        self.hub = MarketHub(clock, feed_factory({spec.code: spec}, clock))
        self.breathing = asyncio.ensure_future(self._breathe())
        await self.run(1)

    async def run(self, token: int) -> None:
        """Let an engine run under a lease of this token."""
        clock = SystemClock()
        config = OwnerConfig(
            owner_id=7,
            id_prefix="test",
            lease_token=token,
            accounts=(self.account,),
            bots=(self.bot,),
            live_allowed=False,
            max_loop_lag_seconds=5.0,  # of a machine that runs other tests as well
        )
        venues = {1: venue_for(self.account, [self.market], clock)}
        self.engine = Engine(config, self.hub, venues, self.store, self.pages, clock, on_alarm=self.alarms.append)
        self.task = asyncio.ensure_future(self.engine.run())
        await self.until(lambda: [bot.observed for bot in self.engine.status().bots] == ["running"])

    async def _breathe(self) -> None:
        """Keep the book moving behind its best prices: a feed needs changes to know that it follows."""
        size = 0
        while True:
            size = size % 9 + 1
            bids, asks = [("49990", "5"), ("49000", str(size))], [("50000", self.asked_size), ("51000", str(size))]
            await asyncio.to_thread(self.simulator.set_book, NAME, SYMBOL, bids=bids, asks=asks)
            await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not condition():
                    if self.task.done():
                        await self.task
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.engine.status()}\n{self.store.trades}\n{self.alarms}") from None

    async def compared(self) -> dict[str, Difference]:
        """Compare the account with its exchange now; return the differences by asset or contract."""
        await self.until(lambda: self.engine.desk.live_purses)
        (outcome,) = await self.engine.reconcile()
        assert outcome.compared, outcome
        return {one.key: one for one in self.store.differences[1]}

    async def adopt(self) -> None:
        """Take what the exchange shows into the books, as a person does with each difference."""
        for one in (await self.compared()).values():
            opened = dict(self.store.opened[1])
            opened[one.asset] = opened.get(one.asset, D(0)) + (one.amount or D(0))
            self.store.opened[1] = opened
        assert await self.compared() == {}

    async def leave(self, wallet: str) -> None:
        """Have so much of the wallet left."""
        self.simulator.transfer(self.keys, "USDT", f"-{self.wallet() - D(wallet)}")
        await self.adopt()

    def wallet(self) -> Decimal:
        return D(self.simulator.balances(self.keys)["USDT"]["total"])

    def ledger(self) -> dict[str, Decimal]:
        return dict(self.store.books_of(1, frozenset(), frozenset()).balances)

    async def hold(self, **changes: object) -> str:
        """Open a position by hand and return its trade."""
        opened = await self.engine.open_ticket(1, self.asked(**changes))
        assert opened.trade_id, opened
        await self.until(lambda: self.store.trades[opened.trade_id].state is TradeState.HOLDING)
        return opened.trade_id

    async def end(self) -> None:
        await self.engine.stop(5)
        await self.task

    async def stop(self) -> None:
        self.breathing.cancel()
        await self.end()
        await self.hub.close()

    def asked(self, **changes: object) -> TicketTerms:
        settings: dict[str, object] = {
            "market": self.market.key,
            "account_id": 1,
            "side": "buy",
            "quantity": D("0.5"),
            "style": WorkingStyle(kind="market"),
            "limit_cap": D("50500"),
            "take_profit": D("51000"),
            "stop_loss": D("49000"),
            "leverage": 5,
            **changes,
        }
        return TicketTerms(**settings)  # type: ignore[arg-type]


@pytest_asyncio.fixture(loop_scope="module")
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    # So many comparisons within a minute are more than the exchange would answer.
    monkeypatch.setattr(BinanceUsdmDialect, "windows", {"weight": Window(1e6, 60), "orders": Window(1e6, 10)})
    monkeypatch.setattr(BinanceUsdmDialect, "used", lambda self, headers: {})
    with running_simulator("--exchanges", NAME, "--no-limits") as simulator:
        stage = Stage(simulator)
        await stage.start()
        yield stage
        await stage.stop()


async def test_a_long_with_leverage_is_protected_by_the_exchange_and_ends_with_its_take_profit(stage: Stage) -> None:
    assert await stage.compared() == {}  # it opens the books
    opened = await stage.engine.open_ticket(1, stage.asked())
    assert opened.trade_id, opened
    await stage.until(lambda: stage.store.trades[opened.trade_id].state is TradeState.HOLDING)
    standing = stage.store.trades[opened.trade_id].standing
    assert standing is not None
    assert (standing.held, standing.entry_price, standing.protected_by) == (D("0.5"), D(50_000), "exchange")
    ticket = stage.engine.trades.ticket_of(opened.trade_id)
    assert ticket is not None
    holdings = stage.engine.desk.holdings
    await stage.until(lambda: holdings.of(ticket.purse, stage.market.key, "long"))
    told = holdings.of(ticket.purse, stage.market.key, "long")
    assert told is not None
    assert (told.quantity, told.leverage) == (D("0.5"), 5)
    stage.simulator.set_mark(NAME, SYMBOL, "51000")
    await stage.until(lambda: stage.store.trades[opened.trade_id].state is TradeState.CLOSED)
    ended = {order.intent.kind: order.state for order in ticket.orders.values()}
    assert ended[OrderKind.TAKE_PROFIT] is OrderState.FILLED
    assert ended[OrderKind.STOP_LOSS] is OrderState.CANCELLED
    assert stage.simulator.positions(NAME, api_key=stage.keys.api_key) == []
    booked = {fill.exchange_trade_id: fill for fill in stage.store.fills.values()}
    executed = {row["trade_id"]: row for row in stage.simulator.fills(NAME, api_key=stage.keys.api_key)}
    assert booked.keys() == executed.keys()
    gained = sum((fill.quantity * fill.price * (1 if fill.side == "sell" else -1) for fill in booked.values()), D(0))
    fees = sum((fill.fee for fill in booked.values() if fill.fee is not None), D(0))
    assert fees == sum(D(row["fee"]) for row in executed.values())
    wallet = D(stage.simulator.balances(stage.keys)["USDT"]["total"])
    assert wallet == D(100_000) + gained - fees
    assert await stage.compared() == {}
    assert stage.ledger() == {"USDT": wallet}


async def test_a_leverage_the_exchange_refuses_sends_no_order(stage: Stage) -> None:
    stage.simulator.set_mark(NAME, SYMBOL, "50000")
    opened = await stage.engine.open_ticket(1, stage.asked(leverage=126))
    assert not opened.trade_id
    assert "126" in opened.refusal
    assert stage.simulator.orders(NAME, api_key=stage.keys.api_key) == []


async def test_an_order_reserves_its_margin_and_no_more(stage: Stage) -> None:
    stage.simulator.set_mark(NAME, SYMBOL, "50000")
    stage.simulator.transfer(stage.keys, "USDT", "-94000")
    purse = Purse(1, False)
    free = stage.engine.desk.portfolio.free
    await stage.until(lambda: free(purse, "USDT") == 6000)
    # Half a coin for at most 25,250: a fourth of that, 5 bps of fees, and the 252.5 above the middle of 49,995.
    refused = await stage.engine.open_ticket(1, stage.asked(leverage=4, take_profit=None, stop_loss=None))
    assert "the leg needs 6577.62500" in refused.refusal, refused
    opened = await stage.engine.open_ticket(1, stage.asked(leverage=5, take_profit=None, stop_loss=None))
    assert opened.trade_id, opened
    await stage.until(lambda: stage.store.trades[opened.trade_id].state is TradeState.HOLDING)
    ticket = stage.engine.trades.ticket_of(opened.trade_id)
    assert ticket is not None
    (order,) = ticket.orders.values()
    assert order.intent.reserve_amount == D("0.5") * 50_500 * (D("0.2") + stage.market.taker_fee) + D("252.5")
    await stage.until(lambda: 900 < free(purse, "USDT") <= 1000)  # 5,000 are bound, and a fee was paid
    assert await stage.engine.close_ticket(opened.trade_id, ClosingTerms(style=WorkingStyle(kind="market"))) == ""
    await stage.until(lambda: stage.store.trades[opened.trade_id].state is TradeState.CLOSED)
    await stage.until(lambda: free(purse, "USDT") > 5900)


async def test_a_held_position_and_its_funding_are_explained_to_the_next_engine_too(stage: Stage) -> None:
    await stage.compared()
    await stage.hold(take_profit=None, stop_loss=None)
    stage.simulator.set_mark(NAME, SYMBOL, "50400")  # a gain that is not realised is nobody's money yet
    stage.simulator.fund(NAME, SYMBOL, "0.001")
    assert await stage.compared() == {}
    (paid,) = stage.store.incomes.values()
    assert (paid.amount, paid.asset, paid.market) == (D("-25.2"), "USDT", stage.market.key)
    assert stage.ledger() == {"USDT": stage.wallet(), SYMBOL: D("0.5")}
    await stage.end()
    stage.simulator.fund(NAME, SYMBOL, "0.002")  # while nobody listens
    await stage.run(2)
    assert await stage.compared() == {}
    assert len(stage.store.incomes) == 2
    assert stage.ledger() == {"USDT": stage.wallet(), SYMBOL: D("0.5")}


async def test_what_a_reconnect_sweeps_again_is_booked_once(stage: Stage) -> None:
    await stage.compared()
    await stage.hold(take_profit=None, stop_loss=None)
    stage.simulator.fund(NAME, SYMBOL, "0.001")
    assert await stage.compared() == {}
    before = stage.ledger()
    for _ in range(2):
        swept = stage.engine.accounts.swept.copy()
        assert stage.simulator.disturb(NAME, "expire", stage.keys.api_key) >= 1
        await stage.until(lambda swept=swept: stage.engine.accounts.swept != swept)
        assert await stage.compared() == {}
    assert stage.ledger() == before
    assert before["USDT"] == stage.wallet()


async def test_a_trade_by_somebody_else_is_a_difference_of_the_position_and_of_the_wallet(stage: Stage) -> None:
    await stage.compared()
    await stage.hold(take_profit=None, stop_loss=None)
    stage.simulator.place_by_hand(stage.keys, SYMBOL, "SELL", "0.2", "49000")
    found = await stage.compared()
    assert {key: (one.kind, one.cause) for key, one in found.items()} == {
        SYMBOL: (DifferenceKind.POSITION, DifferenceCause.MANUAL_TRADE),
        "USDT": (DifferenceKind.BALANCE, DifferenceCause.MANUAL_TRADE),
    }
    assert found[SYMBOL].amount == D("-0.2")
    assert found["USDT"].theirs == stage.wallet()
    stage.store.opened[1] = {**stage.store.opened[1], SYMBOL: D("-0.2")}  # as adopting does
    stage.store.opened[1]["USDT"] += found["USDT"].amount  # type: ignore[index]
    assert await stage.compared() == {}


async def test_a_liquidated_position_ends_its_ticket_with_the_loss_and_without_a_difference(stage: Stage) -> None:
    await stage.compared()
    trade = await stage.hold(take_profit=D("60000"), stop_loss=None)
    await stage.leave("6000")
    before = stage.wallet()
    stage.simulator.set_mark(NAME, SYMBOL, "38000")
    await stage.until(lambda: stage.store.trades[trade].state is TradeState.CLOSED)
    record = stage.store.trades[trade]
    assert record.reason.startswith("0.5 liquidated by the exchange at price 49990")
    assert stage.pages.latest[7, "progress", trade]["message"] == record.reason
    assert any("liquidated" in alarm and f"trade {trade} held it" in alarm for alarm in stage.alarms)
    made = [intent for intent in stage.store.intents.values() if intent.kind is OrderKind.LIQUIDATION]
    assert [(one.side, one.quantity, one.trade_id, one.leg) for one in made] == [("sell", D("0.5"), trade, 35)]
    profits = [intent for intent in stage.store.intents.values() if intent.kind is OrderKind.TAKE_PROFIT]
    assert [stage.store.states[intent.client_order_id] for intent in profits] == [OrderState.CANCELLED]
    assert await stage.compared() == {}
    (cost,) = stage.store.incomes.values()  # of the liquidation, told by the statement alone
    assert (cost.kind, cost.amount < 0) == (IncomeKind.INSURANCE, True)
    assert record.realised_profit is not None
    paid = [fill.fee for fill in stage.store.fills.values() if fill.side == "buy"]  # before
    assert stage.wallet() - before == record.realised_profit + sum(filter(None, paid)) + cost.amount
    assert stage.ledger() == {"USDT": stage.wallet()}


async def test_a_liquidation_that_nobody_heard_ends_the_ticket_of_the_next_engine(stage: Stage) -> None:
    await stage.compared()
    trade = await stage.hold(take_profit=None, stop_loss=None)
    await stage.leave("6000")
    await stage.end()
    stage.simulator.set_mark(NAME, SYMBOL, "38000")
    stage.simulator.set_mark(NAME, SYMBOL, "50000")
    await stage.run(2)
    await stage.until(lambda: stage.store.trades[trade].state is TradeState.CLOSED)
    assert "liquidated by the exchange" in stage.store.trades[trade].reason
    assert await stage.compared() == {}
    assert stage.ledger() == {"USDT": stage.wallet()}


async def test_a_liquidation_of_more_than_a_ticket_held_is_for_a_person(stage: Stage) -> None:
    await stage.compared()
    trade = await stage.hold(take_profit=None, stop_loss=None)
    stage.simulator.place_by_hand(stage.keys, SYMBOL, "BUY", "0.2", "50500")
    await stage.adopt()
    await stage.leave("8400")
    stage.simulator.set_mark(NAME, SYMBOL, "38000")
    await stage.until(lambda: any("liquidated" in alarm for alarm in stage.alarms))
    await stage.until(lambda: len(stage.store.differences[1]) == 2)  # nobody asks for it
    found = {one.key: one for one in stage.store.differences[1]}
    assert {key: (one.kind, one.cause) for key, one in found.items()} == {
        SYMBOL: (DifferenceKind.POSITION, DifferenceCause.LIQUIDATION),
        "USDT": (DifferenceKind.BALANCE, DifferenceCause.LIQUIDATION),
    }
    assert (found[SYMBOL].amount, found["USDT"].theirs) == (D("-0.7"), stage.wallet())
    assert stage.store.trades[trade].state is TradeState.HOLDING  # what became of it is for a person to say


async def test_a_deleveraged_ticket_shrinks_and_what_protects_it_shrinks_with_it(stage: Stage) -> None:
    await stage.compared()
    trade = await stage.hold()
    stage.simulator.deleverage(stage.keys, SYMBOL, "0.2")
    ticket = stage.engine.trades.ticket_of(trade)
    assert ticket is not None
    await stage.until(lambda: ticket.holds and ticket.protection.stands(D("0.3")))
    record = stage.store.trades[trade]
    assert record.reason == "0.2 closed by the exchange to cover another's loss (ADL) at price 49990"
    assert record.standing is not None
    assert (record.standing.held, record.standing.protected_by) == (D("0.3"), "exchange")
    assert {order.intent.quantity for order in ticket.protection.orders()} == {D("0.3")}
    assert any("(ADL)" in alarm for alarm in stage.alarms)
    assert await stage.compared() == {}
    assert stage.ledger() == {"USDT": stage.wallet(), SYMBOL: D("0.3")}
    stage.simulator.set_mark(NAME, SYMBOL, "51000")
    await stage.until(lambda: stage.store.trades[trade].state is TradeState.CLOSED)
    assert "the take-profit filled 0.3" in stage.store.trades[trade].reason
    assert stage.simulator.positions(NAME, api_key=stage.keys.api_key) == []


class TestProtectionLeavesBesideTheEntry:
    """Take-profit and stop-loss are at the exchange before it has answered for the entry."""

    async def _open(self, stage: Stage, *states: TradeState, **changes: object) -> Ticket:
        purse = Purse(1, False)
        await stage.until(lambda: stage.engine.desk.holdings.told_ns(purse))
        opened = await stage.engine.open_ticket(1, stage.asked(**changes))
        assert opened.trade_id, opened
        await stage.until(lambda: stage.store.trades[opened.trade_id].state in states)
        ticket = stage.engine.trades.ticket_of(opened.trade_id)
        assert ticket is not None
        return ticket

    async def _rests(self, stage: Stage) -> dict[OrderKind, Decimal]:
        """Return what the exchange says is open, by kind; every one of them is ours."""
        told = await stage.engine.desk.venues[Purse(1, False)].open_orders()
        assert told is not None
        intents = [stage.store.intents[event.client_order_id] for event in told]
        return {intent.kind: intent.quantity for intent in intents}

    async def test_one_commit_and_one_turn(self, stage: Stage) -> None:
        ticket = await self._open(stage, TradeState.HOLDING)
        assert [step.text for step in ticket.standing.progress if step.step == "placing protection"] == [
            "sent beside the order"
        ]
        assert await self._rests(stage) == {OrderKind.TAKE_PROFIT: D("0.5"), OrderKind.STOP_LOSS: D("0.5")}
        assert len(ticket.orders) == 3
        assert all(order.intent.attempt == 0 for order in ticket.orders.values())

    async def test_what_filled_in_part_is_protected_in_its_size(self, stage: Stage) -> None:
        stage.asked_size = "0.2"
        await stage.until(lambda: stage.simulator.market(NAME, SYMBOL)["asks"][0][1] in {"0.2", "0.200"})
        ticket = await self._open(stage, TradeState.HOLDING, limit_cap=D(50_000))
        assert ticket.standing.held == D("0.2")
        assert ticket.standing.protected_by == "exchange"
        assert await self._rests(stage) == {OrderKind.TAKE_PROFIT: D("0.2"), OrderKind.STOP_LOSS: D("0.2")}

    async def test_an_entry_that_is_refused_leaves_no_orphan(self, stage: Stage) -> None:
        stage.simulator.set_rules(NAME, SYMBOL, min_quantity="1")  # which the engine has not heard of
        ticket = await self._open(stage, TradeState.FAILED)
        assert await self._rests(stage) == {}
        assert stage.simulator.positions(NAME, api_key=stage.keys.api_key) == []
        assert {order.state for order in ticket.orders.values()} == {OrderState.FAILED, OrderState.CANCELLED}

    async def test_what_is_refused_beside_it_is_placed_after_its_fill(self, stage: Stage) -> None:
        stage.simulator.fault(
            "error", exchange=NAME, operation="POST /fapi/v1/algoOrder", count=2,
            parameters={"status": 400, "body": '{"code":-2022,"msg":"ReduceOnly Order is rejected."}'},
        )  # fmt: skip
        ticket = await self._open(stage, TradeState.HOLDING)
        assert ticket.standing.protected_by == "exchange"
        assert await self._rests(stage) == {OrderKind.TAKE_PROFIT: D("0.5"), OrderKind.STOP_LOSS: D("0.5")}
        assert len(ticket.orders) == 5

    async def test_answers_that_are_lost_are_found_out(self, stage: Stage) -> None:
        stage.simulator.fault(
            "drop_response", exchange=NAME, operation="POST /fapi/v1/algoOrder", count=2, parameters={"how": "reset"}
        )
        ticket = await self._open(stage, TradeState.HOLDING)
        assert len(ticket.orders) == 3, "never sent again"
        assert await self._rests(stage) == {OrderKind.TAKE_PROFIT: D("0.5"), OrderKind.STOP_LOSS: D("0.5")}

    async def test_a_level_that_is_reached_at_once_ends_flat(self, stage: Stage) -> None:
        stage.simulator.latency(NAME, event_ms=300)  # the stop-loss may be triggered before the entry's fill is told
        ticket = await self._open(stage, *TradeState)
        placed = {order.intent.kind: order for order in ticket.orders.values()}
        await stage.until(lambda: placed[OrderKind.STOP_LOSS].state is OrderState.PLACED)
        stage.simulator.set_mark(NAME, SYMBOL, "48900")
        await stage.until(lambda: ticket.record.state is TradeState.CLOSED)
        await stage.until(lambda: stage.simulator.positions(NAME, api_key=stage.keys.api_key) == [])
        assert await self._rests(stage) == {}
