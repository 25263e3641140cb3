"""Whose money a bot trades with, and that results of one kind of money never count for another."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.engine.worlds import spec
from trading.config import AccountConfig, BotConfig, Credentials, OwnerConfig
from trading.execution.bots import NS_PER_DAY, RunningBot
from trading.execution.purses import Purses, purses_of
from trading.instruments import Market
from trading.messages import TradeMode, TradeRecord, TradeState

D = Decimal
KEY = Credentials(api_key="key", secret="secret")
NOW = 20_000 * NS_PER_DAY


def market(exchange: str) -> Market:
    return Market(
        exchange=exchange,
        symbol="BTC/USDT",
        native_id="BTCUSDT",
        base="BTC",
        quote="USDT",
        tick=D("0.01"),
        lot=D("0.001"),
        taker_fee=D(0),
        maker_fee=D(0),
    )


def purses(mode: str, *environments: str, live_allowed: bool = True, armed: bool = True) -> Purses | str:
    codes = [f"venue{number}" for number in range(len(environments))]
    accounts = tuple(
        AccountConfig(
            account_id=number, label=code, exchange=spec(code, environment), credentials=KEY, armed_for_live=armed
        )
        for number, (code, environment) in enumerate(zip(codes, environments, strict=True))
    )
    bot = BotConfig(
        bot_id=1,
        name="bot",
        mode=mode,
        markets=tuple(market(code) for code in codes),
        accounts={account.exchange.code: account.account_id for account in accounts},
    )
    config = OwnerConfig(
        owner_id=1, id_prefix="test", lease_token=1, accounts=accounts, bots=(bot,), live_allowed=live_allowed
    )
    return purses_of(bot, config)


@pytest.mark.parametrize(
    ("bot_mode", "environments", "mode"),
    [
        ("paper", ("live", "live"), TradeMode.PAPER),
        ("paper", ("simulated", "live"), TradeMode.PAPER),
        ("live", ("simulated", "simulated"), TradeMode.SIMULATED),
        ("live", ("testnet", "testnet"), TradeMode.TESTNET),
        ("live", ("testnet", "simulated"), TradeMode.SIMULATED),
        ("live", ("live", "live"), TradeMode.LIVE),
    ],
)
def test_the_mode_of_a_trade_is_whose_money_it_moves(
    bot_mode: str, environments: tuple[str, ...], mode: TradeMode
) -> None:
    found = purses(bot_mode, *environments)
    assert isinstance(found, Purses)
    assert found.mode is mode
    assert {purse.paper for purse in found.by_exchange.values()} == {found.paper} == {mode is TradeMode.PAPER}


@pytest.mark.parametrize("missing", [{"live_allowed": False}, {"armed": False}])
def test_a_live_bot_that_may_not_send_live_orders_trades_on_paper(missing: dict[str, bool]) -> None:
    found = purses("live", "live", "live", **missing)
    assert isinstance(found, Purses)
    assert found.mode is TradeMode.PAPER
    assert found.why_paper


@pytest.mark.parametrize("other", ["simulated", "testnet"])
def test_real_money_never_meets_other_money(other: str) -> None:
    assert isinstance(purses("live", "live", other), str)


def record(mode: str, profit: str, number: int = 1) -> TradeRecord:
    return TradeRecord(
        trade_id=f"{mode}-{number}",
        bot_id=1,
        route="r",
        base="BTC",
        quote="USDT",
        state=TradeState.CLOSED,
        mode=mode,
        quantity=D(1),
        expected_net_bps=D(1),
        expected_profit=D(1),
        opened_ns=NOW,
        closed_ns=NOW,
        realised_profit=D(profit),
    )


def test_a_gain_on_paper_does_not_hide_a_days_real_loss() -> None:
    on_paper, real = purses("paper", "live", "live"), purses("live", "live", "live")
    assert isinstance(on_paper, Purses)
    assert isinstance(real, Purses)
    known = {"paper": {"USDT": D(500)}, "live": {"USDT": D(-10)}}
    config = BotConfig(bot_id=1, name="bot", mode="paper", markets=(), accounts={}, realised_today=known)
    bot = RunningBot(config, on_paper, NOW)
    bot.count_result(record("paper", "100"), NOW)
    bot.count_result(record("live", "-5"), NOW)  # taken up from before it was put on paper
    assert bot.situation("USDT", NOW, 0, None).realised_today == D(600)
    bot.configure(config, real)
    assert bot.situation("USDT", NOW, 0, None).realised_today == D(-15)
    assert bot.situation("USDT", NOW + NS_PER_DAY, 0, None).realised_today == D(0)


def test_what_was_earned_before_midnight_is_not_todays_though_nothing_was_asked_until_then() -> None:
    real = purses("live", "live", "live")
    assert isinstance(real, Purses)
    known = {"live": {"USDT": D(500)}}
    config = BotConfig(bot_id=1, name="bot", mode="live", markets=(), accounts={}, realised_today=known)
    bot = RunningBot(config, real, NOW)
    assert bot.situation("USDT", NOW + NS_PER_DAY, 0, None).realised_today == D(0)
