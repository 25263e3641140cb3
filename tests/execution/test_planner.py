"""Plans: from whole numbers of ticks and lots they are what decimals make of the same figures."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import assume, example, given
from hypothesis import strategies as st

from trading.config import BotConfig
from trading.execution import rating_compiled as compiled
from trading.execution.desk import TradeTerms
from trading.execution.planner import Plan, Sized, limits_of, plan, terms_of
from trading.execution.repair import is_enough, smallest_order
from trading.execution.route_terms import RouteTerms, route_terms
from trading.instruments import Market
from trading.messages import AccountBalance, LegQuote, Opportunity
from trading.portfolio import Portfolio, Purse

D = Decimal
TICKS = st.sampled_from([D("0.01"), D("0.1"), D("0.5"), D("0.00001"), D("0.0025"), D(1)])
LOTS = st.sampled_from([D("0.00001"), D("0.0001"), D("0.002"), D("0.5"), D(1)])
TOLERANCES = st.sampled_from([0.0, 0.5, 2.0, 3.3, 100.0])
PURSES = {"alpha": Purse(11, True), "beta": Purse(12, True)}


def market(exchange: str, tick: Decimal, lot: Decimal, **terms: Any) -> Market:
    return Market(
        exchange=exchange, symbol="BTC/USDT", native_id="BTCUSDT", base="BTC", quote="USDT", tick=tick, lot=lot, **terms
    )


def quote(one: Market, side: Any, price: float, quantity: float) -> LegQuote:
    return LegQuote(one.key, side, quantity, price, price, 0.001, 0.0, 1.0, quantity / float(one.contract_size))


def settled(markets: tuple[Market, Market], tolerance: float, found: Opportunity, limit: Decimal) -> RouteTerms:
    bot = BotConfig(
        bot_id=1, name="b", mode="paper", markets=markets, accounts={"alpha": 11, "beta": 12},
        max_trade_notional=limit, price_tolerance_bps=tolerance,
    )  # fmt: skip
    desk: Any = SimpleNamespace(markets={one.key: one for one in markets}, owner_id=1)
    terms: TradeTerms = terms_of(bot, PURSES, paper=True)
    return route_terms(desk, bot, terms, limits_of(bot), found)


def balance(account: int, asset: str, free: Decimal) -> AccountBalance:
    return AccountBalance(account_id=account, asset=asset, free=free, used=D(0), received_ns=1)


def desk_with(usdt: Decimal, btc: Decimal) -> Any:
    portfolio = Portfolio()
    portfolio.on_balance(PURSES["alpha"], balance(11, "USDT", usdt))
    portfolio.on_balance(PURSES["beta"], balance(12, "BTC", btc))
    return SimpleNamespace(portfolio=portfolio)


PRICES = st.floats(2.0, 1_000.0) | st.integers(200, 100_000).map(lambda cents: cents / 100)


@given(
    ticks=st.tuples(TICKS, TICKS), lots=st.tuples(LOTS, LOTS), tolerance=TOLERANCES, prices=st.tuples(PRICES, PRICES),
    count=st.integers(1, 100_000), share=st.floats(0.0001, 1.0), limit=st.decimals(100_000, 10**9, places=2),
    usdt=st.decimals(0, 10**9, places=4), btc=st.decimals(0, 10**6, places=6),
)  # fmt: skip
@example(
    ticks=(D("0.01"), D("0.01")), lots=(D("0.00001"), D("0.00001")), tolerance=2.0, prices=(50_000.0, 50_300.0),
    count=30_000, share=0.5, limit=D(10_000), usdt=D(10_000_000), btc=D(100),
)  # fmt: skip
@example(
    ticks=(D("0.01"), D("0.01")), lots=(D("0.00001"), D("0.00001")), tolerance=0.0, prices=(3.125, 2.125), count=770,
    share=1.0, limit=D(100_000), usdt=D("0.0241"), btc=D("0.0077"),
)  # fmt: skip
@example(
    ticks=(D("0.01"), D("0.01")), lots=(D("0.00001"), D("0.00001")), tolerance=0.0, prices=(650.125, 2.125), count=770,
    share=1.0, limit=D(100_000), usdt=D("5.0110"), btc=D("0.007700"),
)  # fmt: skip
def test_whole_numbers_make_the_plan_that_decimals_make(
    ticks: Any, lots: Any, tolerance: float, prices: Any, count: int, share: float, limit: Decimal, usdt: Decimal,
    btc: Decimal,
) -> None:  # fmt: skip
    markets = (market("alpha", ticks[0], lots[0], min_notional=D(5)), market("beta", ticks[1], lots[1]))
    one: Any = {"bot_id": 1, "route": "1:a>b", "base": "BTC", "quote": "USDT", "gross_bps": 9.0, "net_bps": 9.0}
    quoted = Opportunity(
        buy=quote(markets[0], "buy", prices[0], 1.0), sell=quote(markets[1], "sell", prices[1], 1.0),
        quantity=1.0, net_profit=1.0, detected_ns=0, detected_monotonic_ns=0, **one,
    )  # fmt: skip
    route = settled(markets, tolerance, quoted, limit)
    assert route.step is not None
    quantity = float(count * route.step)
    found = msgspec.structs.replace(
        quoted, quantity=quantity,
        buy=quote(markets[0], "buy", prices[0], quantity), sell=quote(markets[1], "sell", prices[1], quantity),
    )  # fmt: skip
    notional = min(quantity * prices[0], float(limit)) * share
    whole = compiled.whole_numbers(route.units, notional, quantity, *prices)
    assume(whole[2] > 0.0)
    sized = Sized(notional, prices, *whole)
    desk = desk_with(usdt, btc)
    quick = plan(desk, route, found, limit, sized=sized)
    exact = plan(desk, route, found, limit, sized=msgspec.structs.replace(sized, steps=0.0))
    assert quick == exact
    assert str(quick) == str(exact)  # digits and all
    if isinstance(quick, Plan):
        assert all(need.needed <= need.free for need in quick.needs)


@given(
    lot=LOTS, count=st.integers(0, 100_000), price=st.decimals("0.01", 100_000, places=4),
    amount=st.sampled_from([D(0), D("0.00001"), D("0.00015"), D(3)]), notional=st.sampled_from([D(0), D(5), D("10.5")]),
    kind=st.sampled_from(["spot", "linear", "inverse"]), size=st.sampled_from([D(1), D("0.001"), D(100)]),
)  # fmt: skip
def test_enough_is_at_least_the_smallest_order(
    lot: Decimal, count: int, price: Decimal, amount: Decimal, notional: Decimal, kind: Any, size: Decimal
) -> None:
    one = market("alpha", D("0.01"), lot, min_amount=amount, min_notional=notional, kind=kind, contract_size=size)
    quantity = count * lot
    assert is_enough(one, quantity, price) == (quantity >= smallest_order(one, price))
