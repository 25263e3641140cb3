"""The compiled rating says what the policy's own functions say one after the other, to the last bit."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.policy import score as scoring
from risk.policy import sizing, slippage
from tests.risk_policy.strategies import ASKS, BIDS, LATENCIES, SIGMAS, UNIT, Levels
from trading.arbitrage.depth import BaseLevels, LegTerms, fill
from trading.config import RatingRules
from trading.execution import rating_compiled as compiled
from trading.execution.rating_compiled import Ending, figures_of, rules_array, weather_array
from trading.instruments import Market
from trading.marketdata.book import BookSide

D = Decimal
EDGES = st.floats(-50.0, 500.0)
AMOUNTS = st.floats(0.0, 1e6)
MAYBE = st.none() | st.floats(0.0, 1e7)
WEATHER = st.fixed_dictionaries(
    {"latency": LATENCIES, "error_share": UNIT, "sigma": st.none() | SIGMAS, "volume": MAYBE, "usual_spread": MAYBE}
)
RULES = st.builds(
    RatingRules,
    sizing=st.builds(sizing.SizingRules, depth_share=UNIT, band_bps=st.floats(0.01, 1000.0), score_floor=UNIT),
    slippage=st.builds(
        slippage.SlippageRules,
        share_of_profit=UNIT,
        cap_bps=st.floats(0.0, 1000.0),
        drift_sigmas=st.floats(0.0, 3.0),
        impact_coefficient=st.sampled_from([0.0, 0.3, 1.0, 25.0]),
    ),
    weights=st.builds(scoring.ScoreWeights, profit=UNIT, liquidity=UNIT, conditions=st.floats(0.1, 1.0)),
    scales=st.builds(scoring.ScoreScales, prior_wins=st.floats(0.01, 100.0), volatility_unknown=UNIT),
)
CASES = st.fixed_dictionaries(
    {
        "rules": RULES, "buy": ASKS, "sell": BIDS, "buy_weather": WEATHER, "sell_weather": WEATHER,
        "limit": AMOUNTS, "net_bps": EDGES, "min_net_bps": EDGES, "breaker_factor": UNIT,
        "quantity": st.floats(0.0, 1000.0), "fees": st.tuples(st.floats(0.0, 0.01), st.floats(0.0, 0.01)),
        "ages_ms": st.tuples(st.floats(0.0, 5000.0), st.floats(0.0, 5000.0)),
        "record": st.tuples(st.integers(0, 50), st.integers(0, 50)),
        "extra_bps": st.floats(0.0, 10.0), "factor": st.floats(0.01, 1.0),
    }
)  # fmt: skip


def cells(levels: Levels, sign: int) -> Any:
    side = BookSide(sign)
    side.replace(levels)
    return side


def called(case: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of the compiled function for a case, but for the array it writes to."""
    asks, bids = cells(case["buy"], -1), cells(case["sell"], 1)
    units = np.array([1.0, 0.0, 0.01, 1.0002, 1.0, 0.0, 0.01, 0.9998, case["limit"], 1e-5])
    return (
        asks.cells, bids.cells, weather_array(**case["buy_weather"]), weather_array(**case["sell_weather"]), units,
        rules_array(case["rules"]), np.empty(25),
        case["net_bps"], case["min_net_bps"], case["breaker_factor"], asks.best, case["quantity"], *case["fees"],
        *case["ages_ms"], asks.best * 0.999, asks.best, bids.best, bids.best * 1.002, 0.0, 0.0, 0.0, 0.0,
        *case["record"], case["extra_bps"], case["factor"],
    )  # fmt: skip


def expected(case: dict[str, Any]) -> dict[str, Any]:
    """Ask the policy's public functions one after the other."""
    rules, scales = case["rules"], case["rules"].scales
    asks, bids = cells(case["buy"], -1), cells(case["sell"], 1)
    buy, sell = asks.nearest(20), bids.nearest(20)
    weathers = (case["buy_weather"], case["sell_weather"])
    sigmas = [weather["sigma"] for weather in weathers]
    sigma = None if None in sigmas else max(sigmas)
    bands = [sizing.band_notional(levels, rules.sizing.band_bps) for levels in (buy, sell)]
    assumed = 0.25 * scales.volume_full * case["limit"]
    volumes = [assumed if weather["volume"] is None else weather["volume"] for weather in weathers]
    spreads = ((asks.best - asks.best * 0.999) / (asks.best * 0.999), (bids.best * 1.002 - bids.best) / bids.best)
    health = [
        scoring.ExchangeHealth(
            latency_ms=weather["latency"] * 1e3, error_rate=weather["error_share"], book_age_ms=age,
            breaker_factor=case["breaker_factor"], spread_bps=spread * 1e4, usual_spread_bps=weather["usual_spread"],
        )
        for weather, age, spread in zip(weathers, case["ages_ms"], spreads, strict=True)
    ]  # fmt: skip
    components = scoring.Components(
        profit=scoring.profit(case["net_bps"], scales),
        liquidity=scoring.liquidity(min(bands), min(volumes), case["limit"], scales),
        volatility=scoring.volatility(sigma, scales),
        success=scoring.success_rate(*case["record"], scales.prior_wins, scales.prior_losses),
        conditions=scoring.conditions(health, scales),
    )
    score = scoring.score(components, rules.weights)
    inputs = sizing.SizingInputs(
        limit_notional=case["limit"], depth_buy_notional=bands[0], depth_sell_notional=bands[1], sigma=sigma,
        net_bps=case["net_bps"], min_net_bps=case["min_net_bps"], score=score.value,
        breaker_factor=case["breaker_factor"],
    )  # fmt: skip
    sized = sizing.size(inputs, rules.sizing)
    said: dict[str, Any] = {"score": score, "factors": sized.factors}
    wanted = min(sized.notional / asks.best, case["quantity"])
    if not wanted > 0.0:
        return {**said, "ending": Ending.NOTHING_LEFT}
    latencies = {"latency_s_buy": weathers[0]["latency"], "latency_s_sell": weathers[1]["latency"], "sigma": sigma}
    verdict = slippage.judge(
        buy, sell, wanted, rules=rules.slippage, expected_profit_bps=case["net_bps"], factor=case["factor"], **latencies
    )
    said["verdict"] = verdict
    if not verdict.allowed:
        return {**said, "ending": Ending.SLIPPAGE}
    size = wanted * verdict.factor
    costs = slippage.expected(buy, sell, size, rules=rules.slippage, **latencies)
    bought, sold = fill(buy, size), fill(sell, size)
    if bought is None or sold is None or costs is None:
        return {**said, "ending": Ending.BOOKS_TOO_THIN}
    received, paid = sold.notional * (1.0 - case["fees"][1]), bought.notional * (1.0 + case["fees"][0])
    net = (received - paid) / bought.notional * 1e4
    left = net - costs.drift_bps - costs.impact_bps
    enough = left >= case["min_net_bps"] + case["extra_bps"]
    return {
        **said, "ending": Ending.RATED if enough else Ending.COSTS, "net": net, "left": left,
        "notional": size * asks.best, "worst": (bought.worst_price, sold.worst_price),
    }  # fmt: skip


@given(case=CASES)
@settings(max_examples=400, deadline=None)
def test_it_says_what_the_policy_says(case: dict[str, Any]) -> None:
    arguments = called(case)
    ending, notional, *worst, _, _, _ = compiled.rate(*arguments)
    figures, said = figures_of(arguments[6]), expected(case)
    assert ending == said["ending"]
    assert figures.score == said["score"].value
    assert figures.components._asdict() == said["score"].components
    assert figures.factors._asdict() == said["factors"]
    if "verdict" in said:
        assert slippage.verdict_of(figures.judged, figures.wanted) == said["verdict"]
    if "net" in said:
        assert (figures.net_bps, figures.left_bps, notional, tuple(worst)) == (
            said["net"], said["left"], said["notional"], said["worst"],
        )  # fmt: skip
    else:
        assert notional == 0.0


MARKETS = [
    Market(exchange="alpha", symbol="BTC/USDT", native_id="x", base="BTC", quote="USDT"),
    Market(exchange="alpha", symbol="BTC/USDT:USDT", native_id="x", base="BTC", quote="USDT", settle="USDT",
           kind="linear", contract_size=D("0.001"), lot=D(1)),
    Market(exchange="alpha", symbol="BTC/USD:BTC", native_id="x", base="BTC", quote="USD", settle="BTC",
           kind="inverse", contract_size=D(100), lot=D(1)),
]  # fmt: skip


@pytest.mark.parametrize("market", MARKETS, ids=lambda market: market.kind)
@pytest.mark.parametrize("sign", [1, -1], ids=["bids", "asks"])
@given(data=st.data(), ahead=st.integers(0, 3), size=st.floats(0.01, 100.0))
@settings(deadline=None)
def test_it_reads_the_books_as_detection_does(market: Market, sign: int, data: Any, ahead: int, size: float) -> None:
    """The exchange's newest best price is heard of before the book has it: levels beyond it are gone."""
    side = cells(data.draw(BIDS if sign > 0 else ASKS), sign)
    terms = LegTerms.of(market)
    prices = [price for price, _ in side.levels()]
    top = prices[min(ahead, len(prices) - 1)] if ahead else 0.0
    read = compiled.levels_of(
        side.cells, side.sign, terms.contract_size, float(terms.inverse), top, size if ahead else 0.0
    )
    assert read == list(islice(BaseLevels(side, terms, top, size), compiled.LEVELS))


def test_a_figure_next_to_a_whole_number_is_left_to_decimals() -> None:
    assert compiled.floor_of(5_001_100.02) == 5_001_100.0
    for figure in (5_001_100.0, 5_001_099.999_999_9, 5_001_100.000_000_1, math.nan):
        assert math.isnan(compiled.floor_of(figure))
