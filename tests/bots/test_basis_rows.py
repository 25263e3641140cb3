"""A pair in the database: written with its trade, changed with it, and read back as it was; and its bot."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from msgspec import structs

from bots.models import BasisPosition, Bot, Command, Order, Trade
from bots.services.bots import bot_check, bot_start, bot_update
from bots.services.engine import engine_config
from bots.services.exchanges import markets_sync
from bots.services.tickets import manual_close_request, ticket_closing_of
from bots.services.trades import open_trades, trade_of, trades_apply
from risk.policy.switch import TradingState
from risk.services.switch import switch_set
from tests.bots.durable import protection_commit, trade_commit
from tests.bots.world import D, World, market
from trading.basis import BASIS, BasisRules, BasisStanding, BasisTerms, Closing
from trading.execution.ids import client_order_id
from trading.messages import OrderIntent, TradeState
from trading.ports import SwitchedOff

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

PERP = "beta:BTC/USDT:USDT"
RULES = BasisRules(min_entry_bps=12.5, exit_bps=-3.25, funding_hours=8.0, leverage=3, close_orphan=False)


class Place:
    """anna's bot with spot on alpha and a perpetual on beta, and a pair that is about to be entered."""

    def __init__(self) -> None:
        self.world = World()
        self.owner = self.world.anna
        perpetual = market(
            "beta", symbol="BTC/USDT:USDT", native_id="BTCUSDT", settle="USDT", kind="linear", lot=D("0.001")
        )
        listed = [market("beta"), market("beta", "ETH"), perpetual]
        markets_sync(exchange=self.world.exchanges["beta"], markets=listed)
        self.bot: Bot = self.world.bot(self.owner, strategy=BASIS)
        self.token = self.world.lease(self.owner)
        self.commit = {"owner_id": self.owner.pk, "token": self.token}
        self.accounts = {one.exchange.code: one.pk for one in self.bot.accounts.select_related("exchange")}
        self.terms = BasisTerms(spot="alpha:BTC/USDT", perp=PERP, rules=RULES, funding_rate=1.25e-4)
        self.record = self.world.trade(
            self.bot,
            self.token,
            route=f"{self.bot.pk}:alpha:BTC/USDT>{PERP}",
            basis=self.terms,
            pair=BasisStanding(),
        )

    def intent(self, leg: int, **changes: Any) -> OrderIntent:
        key = self.terms.perp if leg % 2 else self.terms.spot
        values: dict[str, Any] = {
            "client_order_id": client_order_id(self.record.trade_id, leg, 0),
            "trade_id": self.record.trade_id,
            "account_id": self.accounts[key.partition(":")[0]],
            "market": key,
            "leg": leg,
            "attempt": 0,
            "side": "buy" if leg in {0, 3} else "sell",
            "price": D(60_000),
            "quantity": D("0.5"),
            "reduce_only": leg == 3,
            "deadline_ns": self.record.opened_ns + 10**10,
            "created_ns": self.record.opened_ns,
        }
        return OrderIntent(**(values | changes))

    def enter(self) -> None:
        trade_commit(**self.commit, trade=self.record, intents=[self.intent(0), self.intent(1)])


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_pair_is_read_back_as_it_was_written(place: Place) -> None:
    place.enter()
    standing = BasisStanding(
        held=D("0.4995"),
        spot_price=D("60000.5"),
        perp_price=D("60500"),
        entry_bps=D("53.125"),
        funding=D("-1.5"),
        funding_ns=place.record.opened_ns + 5_000,
        is_estimated=True,
        exit_bps=D("-4.25"),
        exit_ns=place.record.opened_ns + 6_000,
        closing=Closing(cause="its owner closed it", must=True, command_id=8),
        outside=D("0.1"),
        outside_price=D("60600"),
        outside_spot=D("60100"),
        carried_out=(8,),
    )
    holding = structs.replace(place.record, state=TradeState.HOLDING, pair=standing)
    assert trades_apply(**place.commit, trades=[holding]) == 1
    ((record, orders),) = open_trades(owner_id=place.owner.pk)
    assert (record.basis, record.pair, record.state) == (place.terms, standing, TradeState.HOLDING)
    assert (record.ticket, record.standing) == (None, None)
    assert [intent for intent, _, _ in orders] == [place.intent(0), place.intent(1)]
    found = trade_of(owner_id=place.owner.pk, client_order_id=orders[1][0].client_order_id)
    assert found is not None
    assert found[0] == record


def test_a_standing_with_nothing_known_is_read_back_too(place: Place) -> None:
    place.enter()
    ((record, _),) = open_trades(owner_id=place.owner.pk)
    assert record.pair == BasisStanding()


def test_the_closing_legs_are_written_together_or_not_at_all(place: Place) -> None:
    place.enter()
    closing = structs.replace(place.record, pair=BasisStanding(closing=Closing(cause="its margin is thin", must=True)))
    broken = place.intent(3, market="beta:NO/SUCH")
    with pytest.raises(ValueError, match="NO/SUCH"):
        protection_commit(**place.commit, trade=closing, intents=[place.intent(2), broken])
    assert Order.objects.count() == 2
    assert BasisPosition.objects.get().closing is None, "what was not sent is not being closed"
    protection_commit(**place.commit, trade=closing, intents=[place.intent(2), place.intent(3)])
    assert list(Order.objects.order_by("leg").values_list("leg", "reduce_only")) == [
        (0, False), (1, False), (2, False), (3, True),
    ]  # fmt: skip
    assert BasisPosition.objects.get().closing == {"cause": "its margin is thin", "must": True, "command_id": 0}


def test_a_market_that_is_not_known_keeps_all_of_it_from_being_written(place: Place) -> None:
    terms = structs.replace(place.terms, perp="beta:NO/SUCH")
    with pytest.raises(ValueError, match="NO/SUCH"):
        trade_commit(
            **place.commit, trade=structs.replace(place.record, basis=terms), intents=[place.intent(0), place.intent(1)]
        )
    assert (Trade.objects.count(), BasisPosition.objects.count(), Order.objects.count()) == (0, 0, 0)


def test_reduce_only_lets_a_pair_be_closed_and_none_be_entered(place: Place) -> None:
    place.enter()
    switch_set(actor=None, scope="global", state=TradingState.REDUCE_ONLY, reason="a test", seen_version=0)
    protection_commit(**place.commit, trade=place.record, intents=[place.intent(2), place.intent(3)])
    other = place.world.trade(place.bot, place.token, basis=place.terms, pair=BasisStanding())
    intents = [
        structs.replace(
            place.intent(leg), trade_id=other.trade_id, client_order_id=client_order_id(other.trade_id, leg, 0)
        )
        for leg in (0, 1)
    ]
    with pytest.raises(SwitchedOff):
        trade_commit(**place.commit, trade=other, intents=intents)
    assert BasisPosition.objects.count() == 1


# -- its bot -------------------------------------------------------------------------------------------------------


def test_the_engine_is_given_the_bot_s_rules_and_both_markets(place: Place) -> None:
    bot_update(
        bot=place.bot, actor=place.owner, min_net_edge_bps=D("12.5"), basis_exit_bps=D("-3.25"),
        basis_min_funding_bps=D("-0.5"), basis_funding_hours=D(8), basis_slippage_bps=D("1.5"),
        basis_max_hold_hours=D(24), basis_leverage=3, basis_min_liquidation_bps=D(800), basis_close_orphan=False,
    )  # fmt: skip
    bot_start(bot=place.bot, actor=place.owner)
    (config,) = engine_config(owner_id=place.owner.pk).bots
    assert config.strategy == BASIS
    assert {market.key for market in config.markets} >= {"alpha:BTC/USDT", PERP}
    assert config.basis == BasisRules(
        min_entry_bps=12.5, exit_bps=-3.25, min_funding_bps=-0.5, funding_hours=8.0, slippage_bps=1.5,
        max_hold_hours=24.0, leverage=3, min_liquidation_bps=800.0, close_orphan=False,
    )  # fmt: skip
    assert config.min_net_edge_bps == 12.5


def test_a_held_pair_has_its_accounts_and_markets_watched_after_its_bot_stopped(place: Place) -> None:
    place.enter()
    trades_apply(**place.commit, trades=[structs.replace(place.record, state=TradeState.HOLDING)])
    config = engine_config(owner_id=place.owner.pk)
    assert config.bots == ()
    assert {account.account_id for account in config.accounts} == set(place.accounts.values())
    assert {market.key for market in config.markets} == {place.terms.spot, place.terms.perp}


def test_a_bot_without_a_perpetual_does_not_start(place: Place) -> None:
    markets_sync(exchange=place.world.exchanges["beta"], markets=[market("beta"), market("beta", "ETH")])
    with pytest.raises(ValidationError, match="has a spot market and a linear perpetual"):
        bot_check(bot=place.bot)


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"basis_exit_bps": "1001"}, "basis_exit_bps", "1000"),
        ({"basis_exit_bps": "nan"}, "basis_exit_bps", ""),
        ({"basis_min_funding_bps": "-101"}, "basis_min_funding_bps", "-100"),
        ({"basis_funding_hours": "-1"}, "basis_funding_hours", "0"),
        ({"basis_funding_hours": "169"}, "basis_funding_hours", "at most the longest holding time of 168"),
        ({"basis_max_hold_hours": "0"}, "basis_max_hold_hours", "0.01"),
        ({"basis_slippage_bps": "-0.1"}, "basis_slippage_bps", "0"),
        ({"basis_leverage": 0}, "basis_leverage", "1"),
        ({"basis_leverage": 21}, "basis_leverage", "20"),
        ({"basis_min_liquidation_bps": "49"}, "basis_min_liquidation_bps", "50"),
    ],
)
def test_bad_parameters_are_refused_by_field_and_nothing_is_saved(
    place: Place, values: dict[str, Any], field: str, words: str
) -> None:
    before = Bot.objects.filter(pk=place.bot.pk).values().get()
    with pytest.raises(ValidationError) as refused:
        bot_update(bot=place.bot, actor=place.owner, **values)
    assert set(refused.value.message_dict) == {field}
    assert words in refused.value.message_dict[field][0]
    assert Bot.objects.filter(pk=place.bot.pk).values().get() == before


# -- what its owner sees and asks for ------------------------------------------------------------------------------


def holding(place: Place) -> BasisPosition:
    place.enter()
    standing = BasisStanding(held=D("0.5"), entry_bps=D("53.125"), funding=D("1.5"), exit_bps=D("-4.25"))
    record = structs.replace(place.record, state=TradeState.HOLDING, pair=standing, reason="holds 0.5 BTC")
    trades_apply(**place.commit, trades=[record])
    return BasisPosition.objects.get()


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_its_page_shows_both_edges_and_the_funding_to_its_owner_only(place: Place) -> None:
    pair = holding(place)
    pages = reverse("admin:bots_basisposition_changelist"), reverse("admin:bots_basisposition_change", args=[pair.pk])
    for page in pages:
        text = signed_in(place.owner).get(page).content.decode()
        for shown in ("53.125", "1.5 USDT", "-4.25", "BTC/USDT:USDT"):
            assert shown in text, (page, shown)
    bot_page = reverse("admin:bots_bot_change", args=[place.bot.pk])
    assert "holds 0.5 BTC" in signed_in(place.owner).get(bot_page).content.decode()
    stranger = signed_in(place.world.ben)
    assert "53.125" not in stranger.get(pages[0]).content.decode()
    assert stranger.get(pages[1]).status_code in {302, 403, 404}


def test_its_button_asks_the_engine_to_close_it_once(place: Place) -> None:
    pair = holding(place)
    address = reverse("admin:bots_basisposition_close", args=[pair.pk])
    for _ in range(2):
        answer = signed_in(place.owner).post(address, {"key": "one"}, follow=True)
        assert "was asked for" in answer.content.decode()
    command = Command.objects.get(kind=Command.Kind.MANUAL_CLOSE)
    trade_id, closing = ticket_closing_of(command)
    assert (trade_id, closing.quantity, closing.command_id) == (place.record.trade_id, None, command.pk)
    assert signed_in(place.world.ben).post(address).status_code in {302, 403, 404}
    assert Command.objects.filter(kind=Command.Kind.MANUAL_CLOSE).count() == 1


@pytest.mark.parametrize(
    ("state", "amount", "words"),
    [(TradeState.CLOSED, None, "holds nothing to close"), (TradeState.HOLDING, "0.1", "closed whole")],
)
def test_a_pair_is_closed_whole_and_only_while_it_is_held(
    place: Place, state: TradeState, amount: str | None, words: str
) -> None:
    holding(place)
    Trade.objects.update(state=state)
    data = {"trade_id": place.record.trade_id, "order": "market"} | ({"amount": amount} if amount else {})
    with pytest.raises(ValidationError, match=words):
        manual_close_request(owner=place.owner, actor=place.owner, data=data, idempotency_key="one")
    assert not Command.objects.filter(kind=Command.Kind.MANUAL_CLOSE).exists()
