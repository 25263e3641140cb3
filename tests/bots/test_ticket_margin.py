"""A trade by hand in a contract: the leverage its tiers allow, and where it would be liquidated."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from bots.live_cache import last_known
from bots.models import Bot, Market, Order, Ticket
from bots.services.exchanges import markets_sync
from bots.services.margins import margins_refresh, tiers_store
from bots.services.markets import markets_refresh
from bots.services.ticket_margin import Entry, liquidation_of
from bots.services.tickets import manual_bot, manual_estimate, manual_trade_request
from tests.bots.durable import trade_commit
from tests.bots.world import World, market
from tests.exchanges.venue_rig import spec_of
from tests.exchangesim.simulator import Simulator, every_exchange  # noqa: F401 (a fixture)
from trading.config import Credentials
from trading.margin import tiers_of

D = Decimal
SYMBOL = "BTC/USDT:USDT"
TIERS = tiers_of(
    [
        (D(0), D(300_000), D("0.004"), 125),
        (D(300_000), D(800_000), D("0.005"), 100),
        (D(800_000), D(9e6), D("0.01"), 50),
    ]
)
pytestmark = pytest.mark.django_db


class Place:
    def __init__(self) -> None:
        self.world = World()
        self.anna = self.world.anna
        exchange = self.world.exchanges["alpha"]
        contract = market("alpha", symbol=SYMBOL, kind="linear", settle="USDT", lot=D("0.001"), taker_fee=D("0.0004"))
        markets_sync(exchange=exchange, markets=[market("alpha"), market("alpha", "ETH"), contract])
        self.row = Market.objects.get(symbol=SYMBOL)
        tiers_store(exchange=exchange, found={SYMBOL: TIERS})
        self.account = self.world.account(self.anna, paper_balances={"USDT": "100000"})
        self.quote()

    def quote(self, bid: float = 49990.0, ask: float = 50000.0) -> None:
        told = {"market": f"alpha:{SYMBOL}", "symbol": SYMBOL, "bid": bid, "ask": ask}
        last_known.remember([{"kind": "quote", "key": told["market"], "data": told}])

    def estimate(self, **changes: Any) -> dict[str, Any]:
        wanted = {
            "mode": "paper", "account_id": self.account.pk, "symbol": SYMBOL, "side": "buy", "amount": "1",
            "order": "market", "leverage": 10, **changes,
        }  # fmt: skip
        return manual_estimate(owner=self.anna, data={name: value for name, value in wanted.items() if value})

    def isolate(self) -> None:
        self.account.isolated_markets = [SYMBOL]
        self.account.save()

    def hold(self, side: str, held: str, entry: str, leverage: int | None = None) -> Ticket:
        """Let the owner hold a position of a trade by hand."""
        bot = manual_bot(owner=self.anna, mode="paper")
        trade = self.world.trade(bot, self.world.token(self.anna))
        others = self.world.bot(self.anna, f"of {trade.trade_id}", mode="paper")
        intents = self.world.intents(others, trade)[:1]
        trade_commit(owner_id=self.anna.pk, token=self.world.token(self.anna), trade=trade, intents=intents)
        stored = Order.objects.get(client_order_id=intents[0].client_order_id).trade
        stored.state = "HOLDING"
        stored.save()
        Order.objects.filter(trade=stored).update(state="FILLED")
        return Ticket.objects.create(
            owner=self.anna, trade=stored, account=self.account, market=self.row, side=side, quantity=D(held),
            limit_cap=D(entry), held=D(held), entry_price=D(entry), leverage=leverage,
        )  # fmt: skip


@pytest.fixture
def place() -> Iterator[Place]:
    yield Place()
    last_known.clear()


def test_under_cross_margin_the_whole_balance_stands_behind_it(place: Place) -> None:
    # Long: (2 x 50,000 - (100,000 - 40 of fees)) / (2 x 0.996), up to the tick.
    assert place.estimate(amount="2")["liquidation_price"] == "20.09"
    covered = place.estimate(amount="1")
    assert covered["liquidation_price"] is None, "it can't lose that much"
    assert covered["liquidation_note"] == "none: the account covers any price"
    # Short: (99,980 + 100,000 - 39.99) / 2.008, where two coins are worth less than the first tier's end.
    assert place.estimate(side="sell", amount="2", leverage=3)["liquidation_price"] == "99571.71"


def test_isolated_its_own_margin_does(place: Place) -> None:
    place.isolate()
    assert place.estimate()["liquidation_price"] == "45180.73", "45,000 / 0.996, up to the tick"
    assert place.estimate(side="sell", leverage=10)["liquidation_price"] == "54769.92", "49,990 x 1.1 / 1.004, down"
    unset = place.estimate(leverage=None)
    assert unset["liquidation_price"] is None, "what it would have is the exchange's setting"
    assert unset["liquidation_note"] == "not known"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"stop_loss": "45000"},
            "stop_loss: The stop-loss must be above about 45180.73, where the position would be liquidated",
        ),
        ({"stop_loss_percent": "12"}, "stop_loss_percent: The stop-loss must be above about 45180.73"),
        ({"side": "sell", "stop_loss": "55000"}, "stop_loss: The stop-loss must be below about 54769.92"),
    ],
)
def test_a_stop_loss_beyond_the_liquidation_price_is_refused(place: Place, changes: dict[str, Any], words: str) -> None:
    place.isolate()
    (refusal,) = place.estimate(**changes)["refusals"]
    assert refusal.startswith(words), refusal
    asked = {"mode": "paper", "account_id": place.account.pk, "symbol": SYMBOL, "side": "buy", "amount": "1"}
    with pytest.raises(ValidationError, match="would be liquidated"):
        manual_trade_request(
            owner=place.anna, actor=place.anna, data={**asked, "leverage": 10, **changes}, idempotency_key="late"
        )


def test_a_stop_loss_short_of_it_is_taken(place: Place) -> None:
    place.isolate()
    assert place.estimate(stop_loss="45181")["refusals"] == []
    assert place.estimate(stop_loss_percent="9")["refusals"] == []


def test_what_is_held_there_already_becomes_one_position_with_it(place: Place) -> None:
    place.account.balances.create(owner=place.anna, asset="USDT", free="15000", used="5000", at="2026-11-30T00:00:00Z")
    alone = D(place.estimate()["liquidation_price"])
    place.hold("buy", "1", "50000", leverage=10)
    both = D(place.estimate()["liquidation_price"])
    # A wallet of 20,000 behind two coins: (100,000 - 19,980 - about 5 of the middle) / 2 / 0.996.
    assert abs(both - D("40170.7")) < 5
    assert both > alone
    # It loses 5,000, and binds 500 less: the wallet is 20,000 as before, and the loss counts once.
    place.quote(44990.0, 45000.0)
    place.account.balances.update(free="10500", used="9500")
    lost = D(place.estimate()["liquidation_price"])
    assert abs(lost - (D(95_000) - 20_000) / 2 / D("0.996")) < 20


def test_an_order_needs_its_margin_and_is_told_it(place: Place) -> None:
    place.account.balances.create(owner=place.anna, asset="USDT", free="6000", used="0", at="2026-11-30T00:00:00Z")
    # One coin that may pay 500 too much, and 505 more than the middle: 50,500 / 10, 0.04 % (0.08 % a maker), 505.
    told = place.estimate(amount="1", leverage=10)
    assert (told["margin"], told["refusals"]) == ("5000", [])
    assert place.estimate(amount="1.1", leverage=10)["refusals"][0].startswith("amount: Needs 6154.94 USDT")
    assert place.estimate(amount="0.1", leverage=None)["margin"] == "5000"
    assert place.estimate(symbol="BTC/USDT", amount="0.1", leverage=None)["margin"] is None


def test_what_closes_a_position_is_not_liquidated(place: Place) -> None:
    place.isolate()
    place.hold("buy", "2", "50000", leverage=10)
    closing = place.estimate(side="sell", amount="1")
    assert (closing["liquidation_price"], closing["liquidation_note"]) == (None, "none: it closes a position")


def test_the_market_s_own_tiers_limit_the_leverage(place: Place) -> None:
    most = place.estimate(leverage=126)["refusals"]
    assert most == [f"leverage: Must be 1 to 125, the most {SYMBOL} on Alpha allows (given 126)."]
    (larger,) = place.estimate(amount="7", leverage=125, limit_price=None)["refusals"][:1]
    assert larger.startswith(f"leverage: A position worth 350000 USDT may have a leverage of at most 100 on {SYMBOL}")
    assert "above all tiers" in place.estimate(amount="999", leverage=2)["refusals"][0]
    Market.objects.filter(pk=place.row.pk).update(margin_tiers=[])
    assert "not known yet" in place.estimate(leverage=2)["refusals"][0]
    assert place.estimate(leverage=1)["refusals"] == []
    assert place.estimate(leverage=1)["liquidation_price"] is None


@pytest.mark.django_db(transaction=True)
def test_a_refresh_asks_with_each_account_s_key_and_stores(every_exchange: Simulator) -> None:  # noqa: F811
    world, name = World(), "binanceusdm"
    exchange = world.exchanges["alpha"]
    exchange.ccxt_id, exchange.urls = name, dict(spec_of(every_exchange, name).urls)
    exchange.save()
    assert "lists no linear contracts" in margins_refresh(exchange=exchange)
    assert "added" in markets_refresh(exchange=exchange)
    assert "holders of a key only" in margins_refresh(exchange=exchange)
    keys = every_exchange.account(name)
    account = world.account(world.anna, credentials=Credentials(api_key=keys.api_key, secret=keys.secret))
    told = margins_refresh(exchange=exchange)
    assert told.startswith("Alpha: margin tiers of ")
    assert Market.objects.get(symbol=SYMBOL).tiers[0].leverage == 125
    assert Market.objects.filter(kind="linear", margin_tiers=[]).count() == 0
    account.refresh_from_db()
    assert account.isolated_markets == []
    assert margins_refresh(exchange=exchange) == "Alpha: margin tiers of 0 markets changed."
    world.account(world.ben, label="Nobody's")  # a key the exchange does not know keeps no other from being asked
    assert margins_refresh(exchange=exchange) == "Alpha: margin tiers of 0 markets changed."


def test_in_hedge_mode_only_what_is_on_the_same_side_becomes_one_position_with_it(place: Place) -> None:
    place.isolate()
    alone = place.estimate()["liquidation_price"]
    place.hold("sell", "1", "50000", leverage=10)
    assert place.estimate()["liquidation_note"] == "none: it closes a position", "on paper there is one position"
    account, row = place.account, Market.objects.get(pk=place.row.pk)
    shared = {"mode": "live", "free": D(100_000)}
    entry = Entry("buy", D(1), D(50_000), mark=D(49_995), leverage=10)
    Bot.objects.update(mode="live")
    assert liquidation_of(account, row, row.to_engine(), entry, **shared) == (None, "none: it closes a position")
    account.positions.create(owner=place.anna, market=row, side="short", quantity=D(-1), at="2026-11-30T00:00:00Z")
    assert liquidation_of(account, row, row.to_engine(), entry, **shared) == (D(alone), "")
    more = liquidation_of(account, row, row.to_engine(), entry._replace(side="sell", price=D(50_000)), **shared)
    assert more[0] is not None
    assert more[0] > 50_000, "it becomes one position with the short one that is held"
