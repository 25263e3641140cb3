"""A ticket in the database: written with its trade, changed with it, and read back as it was."""

from __future__ import annotations

import pytest
from msgspec import structs

from bots.models import Bot, Command, Order, Ticket, Trade
from bots.services.commands import command_create
from bots.services.tickets import manual_bot
from bots.services.trades import open_trades, trade_of, trades_apply
from risk.policy.switch import TradingState
from risk.services.switch import switch_set
from tests.bots.durable import protection_commit, repair_commit, trade_commit
from tests.bots.world import D, World
from trading.execution.ids import client_order_id
from trading.messages import OrderIntent, OrderKind, TimeInForce, TradeRecord, TradeState
from trading.ports import SwitchedOff
from trading.tickets import ClosingTerms, TicketStanding, TicketStep, TicketTerms, WorkingStyle

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Place:
    """anna's ticket: bought on alpha, not protected yet."""

    def __init__(self) -> None:
        self.world = World()
        self.owner = self.world.anna
        self.account = self.world.account(self.owner)
        self.bot: Bot = manual_bot(owner=self.owner, mode="live")
        self.token = self.world.lease(self.owner)
        self.command: Command = command_create(
            owner_id=self.owner.pk, actor=self.owner, kind=Command.Kind.MANUAL_TRADE, payload={}
        )
        self.asked = TicketTerms(
            market="alpha:BTC/USDT",
            account_id=self.account.pk,
            side="buy",
            quantity=D("0.5"),
            style=WorkingStyle(kind="market", buy_seconds=7.5),
            limit_cap=D("60500"),
            take_profit=D("61000"),
            stop_loss=D("59000"),
            command_id=self.command.pk,
        )
        self.record: TradeRecord = self.world.trade(
            self.bot, self.token, route=f"{self.bot.pk}:alpha:BTC/USDT", ticket=self.asked
        )
        self.entry = self.intent(0, price=D(60000))
        self.commit = {"owner_id": self.owner.pk, "token": self.token}

    def intent(self, leg: int, **changes: object) -> OrderIntent:
        values: dict[str, object] = {
            "client_order_id": client_order_id(self.record.trade_id, leg, 0),
            "trade_id": self.record.trade_id,
            "account_id": self.account.pk,
            "market": "alpha:BTC/USDT",
            "leg": leg,
            "attempt": 0,
            "side": "buy" if leg == 0 else "sell",
            "quantity": D("0.5"),
            "deadline_ns": self.record.opened_ns + 10**10,
            "created_ns": self.record.opened_ns,
            **changes,
        }
        return OrderIntent(**values)  # type: ignore[arg-type]

    def protection(self) -> list[OrderIntent]:
        ids = [client_order_id(self.record.trade_id, leg, 0) for leg in (2, 3)]
        return [
            self.intent(
                2, kind=OrderKind.TAKE_PROFIT, time_in_force=TimeInForce.GTC, price=D(61000), trigger=D(61000),
                linked=ids[1],
            ),
            self.intent(
                3, kind=OrderKind.STOP_LOSS, time_in_force=TimeInForce.GTC, price=D(58410), trigger=D(59000),
                linked=ids[0],
            ),
        ]  # fmt: skip


@pytest.fixture
def place() -> Place:
    return Place()


def test_it_is_read_back_as_it_was_written(place: Place) -> None:
    trade_commit(**place.commit, trade=place.record, intents=[place.entry])
    standing = TicketStanding(
        held=D("0.4995"),
        entry_price=D(60000),
        protected_by="exchange",
        improvement=D("1.25"),
        path="websocket",
        progress=(
            TicketStep(step="connecting", state="done", at=1.5, ms=2.25),
            TicketStep(step="placing order", state="now", at=2.5, command_id=8),
        ),
        closing=ClosingTerms(keep=D("0.1"), style=WorkingStyle(kind="market"), cause="asked", command_id=8),
        carried_out=(8,),
    )
    holding = structs.replace(place.record, state=TradeState.HOLDING, standing=standing)
    protection_commit(**place.commit, trade=place.record, intents=place.protection())
    assert trades_apply(**place.commit, trades=[holding]) == 1
    ((record, orders),) = open_trades(owner_id=place.owner.pk)
    assert record.ticket == place.asked
    assert record.standing == standing
    assert record.state is TradeState.HOLDING
    assert [intent for intent, _, _ in orders] == [place.entry, *place.protection()]
    assert trade_of(owner_id=place.owner.pk, client_order_id=place.protection()[0].client_order_id)[0] == record


def test_both_protective_orders_are_written_or_none(place: Place) -> None:
    trade_commit(**place.commit, trade=place.record, intents=[place.entry])
    first, second = place.protection()
    broken = structs.replace(second, market="alpha:NO/SUCH")
    with pytest.raises(ValueError, match="NO/SUCH"):
        protection_commit(**place.commit, trade=place.record, intents=[first, broken])
    assert Order.objects.count() == 1


def test_a_command_leads_to_one_ticket(place: Place) -> None:
    trade_commit(**place.commit, trade=place.record, intents=[place.entry])
    trade_commit(**place.commit, trade=place.record, intents=[place.entry])  # its answer was lost
    assert Ticket.objects.get().command == place.command
    other = place.world.trade(place.bot, place.token, ticket=place.asked)
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        trade_commit(
            **place.commit,
            trade=other,
            intents=[
                structs.replace(
                    place.entry, trade_id=other.trade_id, client_order_id=client_order_id(other.trade_id, 0, 0)
                )
            ],
        )
    assert Trade.objects.count() == 1


def test_reduce_only_lets_a_position_be_closed_but_not_entered(place: Place) -> None:
    trade_commit(**place.commit, trade=place.record, intents=[place.entry])
    switch_set(
        actor=place.world.operator, scope="global", state=TradingState.REDUCE_ONLY, reason="a test", seen_version=0
    )
    again = place.intent(0, attempt=1, price=D(60000), client_order_id=client_order_id(place.record.trade_id, 0, 1))
    with pytest.raises(SwitchedOff):
        repair_commit(**place.commit, trade=place.record, intent=again)
    protection_commit(**place.commit, trade=place.record, intents=place.protection())
    repair_commit(**place.commit, trade=place.record, intent=place.intent(1, price=D(58000)))
    assert Order.objects.count() == 4


def test_another_owners_account_is_refused(place: Place) -> None:
    foreign = place.world.account(place.world.ben, label="Bens")
    record = structs.replace(place.record, ticket=structs.replace(place.asked, account_id=foreign.pk))
    with pytest.raises(ValueError, match="is not of owner"):
        trade_commit(**place.commit, trade=record, intents=[place.entry])
    assert not Trade.objects.exists()
