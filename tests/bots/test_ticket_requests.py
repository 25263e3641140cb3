"""What is asked for by hand: each mistake is named by its field, with the limit and what was given."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from bots.live_cache import last_known
from bots.models import Bot, Command
from bots.services.bots import bot_start, bot_stop
from bots.services.tickets import (
    manual_bot,
    manual_close_request,
    manual_estimate,
    manual_trade_request,
    ticket_terms_of,
)
from tests.bots.world import World

pytestmark = pytest.mark.django_db


class Place:
    def __init__(self) -> None:
        self.world = World()
        self.anna = self.world.anna
        self.account = self.world.account(self.anna, paper_balances={"USDT": "100000", "BTC": "1"})
        quote = {"market": "alpha:BTC/USDT", "symbol": "BTC/USDT", "bid": 59980.0, "ask": 60000.0}
        last_known.remember([{"kind": "quote", "key": "alpha:BTC/USDT", "data": quote}])

    def data(self, **changes: Any) -> dict[str, Any]:
        wanted = {
            "mode": "paper", "account_id": self.account.pk, "symbol": "BTC/USDT", "side": "buy", "amount": "0.01",
            **changes,
        }  # fmt: skip
        return {name: value for name, value in wanted.items() if value is not None}

    def ask(self, key: str = "one", **changes: Any) -> Command:
        return manual_trade_request(owner=self.anna, actor=self.anna, data=self.data(**changes), idempotency_key=key)


@pytest.fixture
def place() -> Any:
    yield Place()
    last_known.clear()


def test_a_paper_request_starts_its_own_bot_and_waits_for_the_engine(place: Place) -> None:
    command = place.ask(take_profit_percent="2", stop_loss_percent="1")
    assert (command.kind, command.status) == ("manual_trade", "pending")
    bot = Bot.objects.get(strategy="manual")
    assert (bot.name, bot.mode, bot.desired_state) == ("Manual paper", "paper", "running")
    payload = command.payload
    # In percent of the price in the spread: 59980 and three quarters of 20.
    assert (payload["take_profit"], payload["stop_loss"]) == ("61194.9", "59395.05")
    assert (payload["bot_id"], payload["quantity"], payload["side"]) == (bot.pk, "0.01", "buy")


def test_an_adaptive_request_lets_the_engine_fit_its_style_but_for_times_that_were_given(place: Place) -> None:
    _, plain = ticket_terms_of(place.ask(key="a"))
    _, timed = ticket_terms_of(place.ask(key="b", timeout_seconds=40))
    _, market = ticket_terms_of(place.ask(key="c", order="market"))
    assert (plain.style.kind, plain.adapts) == ("adaptive", "style")
    assert (timed.style.buy_seconds, timed.adapts) == (40.0, "price")
    assert market.style.kind == "market", "which is not fitted to anything"


def test_the_same_key_is_one_request_and_another_key_another(place: Place) -> None:
    first = place.ask(key="a")
    quote = {"market": "alpha:BTC/USDT", "symbol": "BTC/USDT", "bid": 50000.0, "ask": 50001.0}
    last_known.remember([{"kind": "quote", "key": "alpha:BTC/USDT", "data": quote}])
    assert place.ask(key="a") == first, "whatever the price has done since"
    assert place.ask(key="b") != first, "two tabs are two trades"
    with pytest.raises(ValidationError, match="used for another request"):
        place.ask(key="a", amount="0.02")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"mode": "demo"}, "mode", "paper or live"),
        ({"side": "up"}, "side", "buy, sell, long or short"),
        ({"side": "short"}, "side", "can't be sold short"),
        ({"symbol": "DOGE/USDT"}, "symbol", "lists no such market"),
        ({"account_id": 424242}, "account_id", "not an account of yours"),
        ({"amount": "0.0123456"}, "amount", "lots of 0.00001"),
        ({"amount": "0.00001"}, "amount", "At least 0.00009"),
        ({"amount": "-1"}, "amount", "above zero"),
        ({"amount": "NaN"}, "amount", "finite"),
        ({"amount": "1e99"}, "amount", "finite"),
        ({"amount": "100"}, "amount", "has 100000 free"),
        ({"limit_price": "60000.001"}, "limit_price", "tick 0.01"),
        ({"leverage": 5}, "leverage", "spot market has none"),
        ({"take_profit": "59000"}, "take_profit", "above the entry"),
        ({"stop_loss": "61000"}, "stop_loss", "below the entry"),
        ({"stop_loss_percent": "100"}, "stop_loss_percent", "below 100"),
        ({"amount": "0.01000000000000000000001"}, "amount", "At most 18 digits"),
        ({"take_profit_percent": "1e18"}, "take_profit_percent", "at most 10000 percent"),
        ({"take_profit": "61000", "take_profit_percent": "2"}, "take_profit", "not both"),
        ({"side": "sell", "stop_loss": "61000"}, "stop_loss", "opens no position"),
        ({"timeout_seconds": 6000}, "timeout_seconds", "1 to 600"),
        ({"order": "stop"}, "order", "adaptive or market"),
        ({"path": "pigeon"}, "path", "auto or websocket"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_a_mistake_is_named(place: Place, changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        place.ask(**changes)
    assert words in " ".join(caught.value.message_dict[field])
    assert not Command.objects.exists()
    assert place.ask(key="right").status == "pending", "others are not affected"


def test_live_wants_all_its_yeses(place: Place) -> None:
    with pytest.raises(ValidationError, match="Start trading by hand first"):  # no engine has asked for the balance yet
        place.ask(mode="live")
    bot = Bot.objects.get(strategy="manual")
    assert bot.desired_state == "stopped"
    bot_start(bot=bot, actor=place.anna)
    with pytest.raises(ValidationError, match="balance of Main is not known"):
        place.ask(mode="live")
    bot_stop(bot=bot, actor=place.anna)
    paper = place.world.account(place.anna, "beta", label="Paper", credentials=None)
    with pytest.raises(ValidationError, match="has no credentials"):
        place.ask(mode="live", account_id=paper.pk)
    place.account.balances.create(owner=place.anna, asset="USDT", free="50000", used="0", at="2026-11-30T00:00:00Z")
    with pytest.raises(ValidationError, match="Start trading by hand first"):
        place.ask(mode="live")
    told = manual_estimate(owner=place.anna, data=place.data(mode="live"))
    assert "Start trading by hand first" in " ".join(told["refusals"])


def test_an_estimate_says_price_fee_slippage_and_what_is_in_the_way(place: Place) -> None:
    told = manual_estimate(owner=place.anna, data=place.data(order="market"))
    assert (told["price"], told["notional"], told["fee"]) == ("60000", "600", "0.6")
    assert told["slippage_bps"] == pytest.approx(1.667, abs=0.001)
    assert (told["environment"], told["refusals"]) == ("paper", [])
    told = manual_estimate(owner=place.anna, data=place.data(amount="100"))
    assert "free" in told["refusals"][0]
    assert not Command.objects.exists()


def test_paper_is_not_judged_by_the_real_money_of_its_account(place: Place) -> None:
    """What an account has on paper beside its real money is known to its engine alone."""
    place.account.balances.create(owner=place.anna, asset="USDT", free="1", used="0", at=timezone.now())
    assert "has 1 free" in manual_estimate(owner=place.anna, data=place.data())["refusals"][0], "paper money"
    live = manual_bot(owner=place.anna, mode="live")
    bot_start(bot=live, actor=place.anna)
    assert manual_estimate(owner=place.anna, data=place.data())["refusals"] == []
    assert "has 1 free" in manual_estimate(owner=place.anna, data=place.data(mode="live"))["refusals"][0]


def test_closing_wants_a_trade_that_holds_something(place: Place) -> None:
    with pytest.raises(ValidationError, match="No trade made by hand"):
        manual_close_request(owner=place.anna, actor=place.anna, data={"trade_id": "nothing"}, idempotency_key="close")


def test_one_bot_an_owner_and_mode_and_none_by_hand(place: Place) -> None:
    assert manual_bot(owner=place.anna, mode="paper") == manual_bot(owner=place.anna, mode="paper")
    assert manual_bot(owner=place.anna, mode="live").name == "Manual live"
    with pytest.raises(ValidationError, match="made by the first of them"):
        place.world.bot(place.anna, name="Mine", strategy="manual")


def test_nobody_asks_in_anothers_name(place: Place) -> None:
    with pytest.raises(Exception, match="belongs to another user"):
        manual_trade_request(owner=place.anna, actor=place.world.ben, data=place.data(), idempotency_key="x")


def test_a_request_takes_few_queries(place: Place, django_assert_num_queries: Any) -> None:
    place.ask("first")  # starts the bot
    # The account with its exchange, market and running bot, the balance (and whether any is known), the command itself.
    with django_assert_num_queries(4):
        command = place.ask("second")
    assert place.ask("second") == command


def test_what_was_asked_for_before_is_answered_as_it_was_whatever_has_changed_since(place: Place) -> None:
    command = place.ask()
    last_known.clear()  # no price is known any more
    place.account.enabled = False
    place.account.save()
    assert place.ask() == command
    with pytest.raises(ValidationError, match="was used for another request"):
        place.ask(amount="0.02")
    with pytest.raises(ValidationError, match="is disabled"):
        place.ask("two")
    assert Command.objects.filter(kind="manual_trade").count() == 1
