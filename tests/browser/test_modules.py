"""The page's pure modules, run in the browser they are for."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.async_api import Page

from tests.browser.conftest import OpenPage

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]


async def run(page: Page, module: str, body: str, argument: Any = None) -> Any:
    """Evaluate `body` with the module as `m` and the argument as `a`."""
    return await page.evaluate(
        f"async (a) => {{ const m = await import('/static/live/{module}.js'); return {body}; }}", argument
    )


FORMATTED = {
    "amount('50001.250000000000000000')": "50,001.25",
    "amount('0.000123450000')": "0.00012345",
    "amount('1234567890.123456789')": "1,234,567,890",
    "amount('0.123456789123')": "0.12345679",
    "amount('-0.5')": "−0.5",
    "amount('0E-18')": "0",
    "amount('1E-8')": "0.00000001",
    "amount('1.5E+3')": "1,500",
    "amount('-0.000')": "0",
    "amount('99999.9999999')": "100,000",
    "amount('NaN')": "–",
    "amount('')": "–",
    "amount(null)": "–",
    "amount(1e-7)": "0.0000001",
    "amount(Infinity)": "–",
    "amount('12.3456', 3)": "12.3",
    "signed('0.25')": "+0.25",
    "signed('-3')": "−3",
    "signed('0')": "0",
    "money('12.345678')": "+12.3457",
    "money('-12345.678901')": "−12,345.68",
    "money('0.00001234')": "+0.000012",
    "money('-0.10000000')": "−0.1",
    "money('0.000000')": "0",
    "bps(3.2)": "+3.20",
    "bps('-0.004')": "0.00",
    "bps(NaN)": "–",
    "age(0.04)": "0.0 s",
    "age(9.96)": "10 s",
    "age(-3)": "0.0 s",
    "age(61)": "61 s",
    "age(120)": "2 min",
    "age(7200)": "2 h",
    "age(200000)": "2 d",
    "age(NaN)": "–",
    "words('PARTIALLY_FILLED')": "partially filled",
    "addDecimals('0.1', '0.2')": "0.3",
    "addDecimals('100000000000000000000', '0.000000000000000001')": "100000000000000000000.000000000000000001",
    "negateDecimal('-1.50')": "1.50",
    "venueName('okx-sim', 'BTC/USDT:USDT')": "okx-sim perp",
}


async def test_formatting(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    calls = ", ".join(f"m.{call}" for call in FORMATTED)
    shown = await run(page, "format", f"[{calls}]")
    assert dict(zip(FORMATTED, shown, strict=True)) == FORMATTED


async def test_amounts_are_exact_decimals(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    cases: list[str] = []

    @settings(max_examples=300, database=None)
    @given(st.decimals(min_value=-(10**19), max_value=10**19, places=18))
    def collect(value: Decimal) -> None:
        cases.append(f"{value:f}")

    collect()
    for digits in (4, 8):
        shown = await run(page, "format", f"a.map((text) => m.amount(text, {digits}))", cases)
        for text, formatted in zip(cases, shown, strict=True):
            assert parsed(formatted) == rounded(Decimal(text), digits), text
    sums = await run(page, "format", "a.map((text, i) => m.addDecimals(text, a[(i + 1) % a.length]))", cases)
    with localcontext(prec=60):
        for index, total in enumerate(sums):
            assert Decimal(total) == Decimal(cases[index]) + Decimal(cases[(index + 1) % len(cases)])


def parsed(text: str) -> Decimal:
    number = text.replace(",", "").replace("−", "-")
    assert not ("." in number and number.endswith("0")), text
    return Decimal(number)


def rounded(value: Decimal, digits: int) -> Decimal:
    places = max(0, digits - (value.adjusted() + 1)) if value else 0
    return value.quantize(Decimal(1).scaleb(-min(places, 18)), rounding=ROUND_HALF_UP)


async def test_points_stand_under_each_other_without_zeros(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    aligned = await run(page, "format", "m.alignPoints(['1', '2.5', '3.125', '–'])")
    assert [text.rstrip("\u2007\u2008") for text in aligned] == ["1", "2.5", "3.125", "–"]
    assert [len(text) for text in aligned[:3]] == [5, 5, 5]


async def test_the_best_edge_needs_two_live_markets(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)

    def row(market: str, bid: float, ask: float, **change: Any) -> dict[str, Any]:
        return {"market": market, "bid": bid, "ask": ask, "status": "live", "received_at": 100.0, **change}

    async def edge(*rows: dict[str, Any]) -> Any:
        return await run(page, "spreads", "m.bestEdge(a, 101)", list(rows))

    assert await edge(row("a", 100, 101)) is None
    assert await edge(row("a", 100, 101), row("b", 103, 104, status="stale")) is None
    assert await edge(row("a", 100, 101), row("b", 103, 104, received_at=90.0)) is None
    assert await edge(row("a", 100, 101), row("b", None, None)) is None
    best = await edge(row("a", 100, 101), row("b", 103, 104), row("c", 102, 103))
    assert (best["buy"]["market"], best["sell"]["market"]) == ("a", "b")
    assert best["bps"] == pytest.approx((103 - 101) / 101 * 10_000)
    # One market is not arbitraged against itself, even when it is crossed.
    crossed = await edge(row("a", 105, 101), row("b", 100, 106))
    assert (crossed["buy"]["market"], crossed["sell"]["market"]) != ("a", "a")


async def test_the_profit_lines_share_one_time_axis(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    points = {
        "live:USDT": [{"at": 10, "total": "1"}, {"at": 30, "total": "3"}],
        "live:USDC": [{"at": 20, "total": "-2"}],
    }
    lines = await run(page, "chart", "m.alignLines(new Map(Object.entries(a)), 40)", points)
    assert lines["x"] == [10, 20, 30, 40]
    assert {line["key"]: line["y"] for line in lines["lines"]} == {
        "live:USDC": [None, -2, -2, -2],
        "live:USDT": [1, 1, 3, 3],
    }


async def test_todays_profit_and_exposure_keep_the_modes_apart(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    today = await run(
        page,
        "figures",
        """(async () => {
          const { Store } = await import("/static/live/store.js");
          const store = new Store((run) => run());
          const point = (mode, total, at) => ({mode, quote: "USDT", total, at});
          store.replace({
            pnl: [point("paper", "7", 50), point("simulated", "100", 150), point("live", "40", 60)],
            figures: {since: 100, trades: 1, profit: {simulated: {USDT: "2"}}},
          });
          store.apply([
            {kind: "pnl", key: "simulated:USDT", data: point("simulated", "100.5", 160)},
            {kind: "pnl", key: "live:USDT", data: point("live", "39", 170)},
          ]);
          const trade = (mode, base, residual) => ({mode, base, residual});
          return {
            profit: m.profitToday(store).map(({mode, asset, sum}) => [mode, asset, sum]),
            held: m.exposure([trade("paper", "BTC", "5"), trade("live", "BTC", "-0.1"), trade("paper", "BTC", "1"),
                              trade("live", "ETH", "0")]),
            time: m.exposureTime([{quote: "USDT", exposure: "1.5"}, {quote: "USDT", exposure: "1200"},
                                  {quote: "USDC", exposure: "0"}]),
          };
        })()""",
    )
    # Paper earned nothing today; live lost 1 since the snapshot, before which it had stood still since yesterday.
    assert today["profit"] == [["live", "USDT", "-1"], ["simulated", "USDT", "2.5"]]
    assert today["time"] == "1,202 USDT × s"
    assert today["held"] == [
        {"mode": "live", "asset": "BTC", "sum": "-0.1"},
        {"mode": "paper", "asset": "BTC", "sum": "6"},
    ]


async def test_the_store_keeps_the_newest_and_its_memory_bounded(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    kept = await run(
        page,
        "store",
        """(() => {
          const store = new m.Store((run) => run());
          for (let i = 0; i < 5000; i++) store.apply([
            {kind: "pnl", key: "paper:USDT", data: {mode: "paper", quote: "USDT", total: String(i), at: i}},
            {kind: "trade", key: `t${i}`, data: {id: `t${i}`, opened_at: i, state: i === 3 ? "EXPOSED" : "CLOSED"}},
            {kind: "opportunity", key: `o${i}`, data: {at: i}},
            {kind: "of a newer server", key: "x", data: {}},
          ]);
          store.apply([{kind: "pnl", key: "paper:USDT", data: {mode: "paper", quote: "USDT", total: "late", at: 7}}]);
          const points = store.kinds.pnl.get("paper:USDT");
          return {points: points.length, last: points[points.length - 1].total, trades: store.trades().map((t) => t.id),
                  opportunities: store.kinds.opportunity.size,
                  sorted: points.every((p, i) => i === 0 || p.at > points[i - 1].at)};
        })()""",
    )
    assert kept["points"] <= 1500
    assert kept["last"] == "4999"
    assert kept["sorted"]
    assert len(kept["trades"]) == 51
    assert kept["trades"][0] == "t4999"
    assert kept["trades"][-1] == "t3"  # unfinished, however old
    assert kept["opportunities"] == 40


async def test_the_indicator_has_words_for_every_state(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    base = {"socket": "open", "polling": "off", "ended": "", "reason": "", "lastFrameAt": 1000, "retryAt": None}
    live = {"exchange": "okx", "status": "live", "reason": "", "messages_per_second": 10.4, "at": 99.0}

    async def say(feeds: list[dict[str, Any]], **change: Any) -> tuple[str, str, str]:
        argument = json.dumps([{**base, **change}, feeds])
        said = await run(page, "status", "m.describe(...JSON.parse(a), 100, 5000)", argument)
        assert said["reason"]
        return said["tone"], said["word"], said["reason"]

    assert await say([live]) == ("good", "Live", "1 feed, 10 messages/s")
    assert (await say([]))[:2] == ("good", "Live")
    assert await say([{**live, "status": "down", "reason": "refused"}, live]) == (
        "warn",
        "Degraded",
        "okx down (refused)",
    )
    assert (await say([{**live, "at": 80.0}]))[:2] == ("warn", "Degraded")
    assert (await say([live], socket="connecting"))[1] == "Connecting"
    assert (await say([live], socket="closed", polling="trying"))[1] == "Reconnecting"
    assert (await say([live], socket="closed", polling="ok"))[0] == "warn"
    tone, word, reason = await say([live], socket="closed", polling="failing")
    assert (tone, word) == ("bad", "Disconnected")
    assert "4.0 s ago" in reason
    assert (await say([live], ended="signed-out"))[0] == "bad"
    assert (await say([live], ended="not-allowed"))[1] == "Not allowed"


async def sign_in_page(open_page: OpenPage) -> Page:
    """Return a page of the site that runs nothing by itself."""
    return await open_page(None, address="/sign-in/")
