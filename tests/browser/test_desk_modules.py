"""The pure modules of the desk's pages, run in the browser they are for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import Page

from tests.browser.conftest import OpenPage
from tests.browser.test_modules import sign_in_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]


async def run(page: Page, module: str, body: str, argument: Any = None) -> Any:
    """Evaluate `body` with the desk's module as `m` and the argument as `a`."""
    return await page.evaluate(
        f"async (a) => {{ const m = await import('/static/desk/{module}.js'); return {body}; }}", argument
    )


SAID = {
    ("progress", "duration(0)"): "",
    ("progress", "duration(3.21)"): "3.2 ms",
    ("progress", "duration(412.4)"): "412 ms",
    ("progress", "duration(1250)"): "1.25 s",
    ("progress", "duration(180000)"): "3 min",
    ("health", "microseconds(85)"): "85 µs",
    ("health", "microseconds(1420)"): "1.42 ms",
    ("health", "microseconds(3100000)"): "3.1 s",
    ("fields", "sideWord('buy', false)"): "Buy",
    ("fields", "sideWord('sell', true)"): "Short",
    ("fields", "unitOf({kind: 'spot', base: 'BTC', quote: 'USDT', contract_size: '1'})"): "BTC",
    ("fields", "unitOf({kind: 'linear', base: 'BTC', quote: 'USDT', contract_size: '1'})"): "BTC",
    ("fields", "unitOf({kind: 'linear', base: 'BTC', quote: 'USDT', contract_size: '0.01'})"): "contracts of 0.01 BTC",
    ("fields", "unitOf({kind: 'inverse', base: 'BTC', quote: 'USD', contract_size: '100'})"): "contracts of 100 USD",
    ("request", "sentence({message: 'Too small.', limit: '5', given: '1'})"): "Too small. (limit 5, given 1)",
    ("request", "sentence({message: 'At least 5 (given 1).', limit: '5', given: '1'})"): "At least 5 (given 1).",
    ("request", "problemText(null, 502)"): "The server answered 502.",
    ("request", "problemText({detail: 'amount: it is too small.'}, 400)"): "amount: it is too small.",
}


async def test_words_and_figures(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    for (module, call), said in SAID.items():
        assert (call, await run(page, module, f"m.{call}")) == (call, said)


async def test_refusals_are_read_whether_they_are_objects_or_sentences(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    problems = await run(
        page,
        "request",
        "m.problemsOf({refusals: ['amount: too small', 'the switch is at kill', {field: 'leverage', message: 'No.'}]})",
    )
    assert problems == [
        {"field": "amount", "message": "too small"},
        {"field": "", "message": "the switch is at kill"},
        {"field": "leverage", "message": "No."},
    ]


async def test_keys_are_new_each_time_and_fit_the_header(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    keys = await run(page, "request", "Array.from({length: 200}, m.newKey)")
    assert len(set(keys)) == 200
    assert all(len(key) == 32 and key.isalnum() for key in keys)


async def test_steps_show_what_came_and_what_is_to_come(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)

    async def steps(progress: dict[str, Any] | None, *, is_protected: bool = True) -> list[tuple[str, str]]:
        options = json.dumps({"protectedOrder": is_protected})
        found = await run(page, "progress", f"m.stepsOf({json.dumps(progress)}, {options})")
        return [(step["name"], step["state"]) for step in found]

    names = ["connecting", "placing order", "placing protection", "done"]
    assert await steps(None) == [(name, "waiting") for name in names]
    first = {"step": "connecting", "state": "done", "at": 1.0, "ms": 12.0, "text": ""}
    now = {"step": "placing order", "state": "now", "at": 1.0, "ms": 0.0, "text": ""}
    assert await steps({"step": "placing order", "steps": [first, now]}) == [
        ("connecting", "done"), ("placing order", "now"), ("placing protection", "waiting"), ("done", "waiting"),
    ]  # fmt: skip
    assert await steps({"step": "failed", "steps": [first, {**now, "state": "failed"}]}, is_protected=False) == [
        ("connecting", "done"), ("placing order", "failed"), ("done", "skipped"),
    ]  # fmt: skip


async def test_a_close_shows_its_own_steps(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)

    async def steps(progress: dict[str, Any] | None) -> list[tuple[str, str]]:
        found = await run(page, "progress", f"m.stepsOf({json.dumps(progress)}, {{steps: m.CLOSING_STEPS}})")
        return [(step["name"], step["state"]) for step in found]

    names = ["withdrawing protection", "placing order", "done"]
    assert await steps(None) == [(name, "waiting") for name in names]
    waits = {"step": "connecting", "state": "now", "at": 1.0, "ms": 1.0, "text": ""}
    assert await steps({"step": "connecting", "steps": [waits]}) == [
        ("connecting", "now"), *((name, "waiting") for name in names),
    ]  # fmt: skip
    placing = {"step": "placing order", "state": "now", "at": 1.0, "ms": 0.0, "text": ""}
    assert await steps({"step": "placing order", "steps": [placing]}) == [
        ("placing order", "now"), ("done", "waiting"),
    ], "nothing had to be withdrawn"  # fmt: skip
    told = [{"step": name, "state": "done", "at": 1.0, "ms": 1.0, "text": ""} for name in names]
    again = {"step": "placing protection", "state": "done", "at": 1.0, "ms": 1.0, "text": ""}
    assert await steps({"step": "done", "steps": [*told[:2], again, told[2]]}) == [
        ("withdrawing protection", "done"), ("placing order", "done"), ("placing protection", "done"), ("done", "done"),
    ]  # fmt: skip


MONEY = {"environment": "simulated", "quote": "USDT", "wallet_balance": "1", "realized_pnl": "0", "at": 1.0}
SNAPSHOT: dict[str, Any] = {
    "mode": "live", "balance": [MONEY], "positions": {"count": 1, "items": [{"id": "p1"}]},
    "orders": [{"id": "o1", "status": "PLACED", "at": 1.0}], "trades": [], "opportunities": [], "breakers": [],
    "switches": [], "bots": [], "progress": [], "connection": {"state": "green"}, "server_time": 1.0,
}  # fmt: skip


async def test_increments_replace_what_they_are_about_and_nothing_else(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    seen = await run(
        page,
        "store",
        """(() => {
          const store = new m.DeskStore((run) => run());
          store.replace(a.snapshot);
          store.take("batch", {items: [
            {type: "balance", data: {...a.money, environment: "live", wallet_balance: "2"}},
            {type: "orders", data: {items: [{id: "o2", status: "FILLED", at: 2}]}},
            {type: "progress", data: {trade_id: "", command_id: 7, step: "connecting", steps: []}},
            {type: "of a newer server", data: {}},
          ]});
          const held = store.values("position").length;
          store.take("positions", {count: 0, items: []});
          for (let i = 0; i < 500; i++) {
            store.take("orders", {items: [{id: `x${i}`, status: i === 3 ? "UNKNOWN" : "FILLED", at: 10 + i}]});
          }
          return {money: store.money().map((row) => [row.environment, row.wallet_balance]), held,
                  positions: store.values("position").length, progress: store.get("progress", "7").step,
                  orders: store.orders().map((order) => order.id), connection: store.standing.state};
        })()""",
        {"snapshot": SNAPSHOT, "money": MONEY},
    )
    assert seen["money"] == [["live", "2"], ["simulated", "1"]]  # the most real first, never added together
    assert (seen["held"], seen["positions"]) == (1, 0)
    assert seen["progress"] == "connecting"
    assert seen["connection"] == "green"
    assert len(seen["orders"]) <= 203
    assert seen["orders"][0] == "x499"
    assert {"x3", "o1"} <= set(seen["orders"])  # open, however old


async def test_the_indicator_always_has_a_reason(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)
    base = {"socket": "open", "polling": "off", "ended": "", "reason": "", "lastFrameAt": 1000, "retryAt": None}
    well = {
        "state": "green", "reason": "", "engine": {"at": 99.0},
        "feeds": [{"exchange": "okx", "status": "live"}], "accounts": [{"path": "websocket"}, {"path": "rest"}],
    }  # fmt: skip

    async def say(standing: dict[str, Any] | None, **change: Any) -> tuple[str, str, str]:
        argument = json.dumps([{**base, **change}, standing])
        said = await run(page, "status", "m.describeDesk(...JSON.parse(a), 100, 5000)", argument)
        assert said["reason"]
        return said["tone"], said["word"], said["reason"]

    assert await say(well) == (
        "good", "Live",
        "engine running, 1 exchange live, orders by WebSocket and by REST · last frame 4.0 s ago",
    )  # fmt: skip
    assert (await say(None))[1] == "Connecting"
    tone, word, reason = await say({**well, "engine": {"at": 80.0}})
    assert (tone, word) == ("warn", "Degraded")
    assert "the engine has said nothing for 20 s" in reason
    tone, word, reason = await say({**well, "state": "red", "reason": "The engine has halted: disk full."})
    assert (tone, word) == ("bad", "Trouble")
    assert reason.startswith("The engine has halted")
    assert await say(well, socket="closed", polling="ok") == (
        "warn", "Degraded", "the live socket is cut: polling every 2 s",
    )  # fmt: skip
    tone, _, reason = await say({**well, "state": "red", "reason": "Halted."}, socket="closed", polling="ok")
    assert (tone, reason) == ("bad", "the live socket is cut: polling every 2 s; Halted.")
    assert (await say(well, socket="closed", polling="failing"))[1] == "Disconnected"
    assert (await say(well, ended="signed-out"))[1] == "Signed out"


async def test_bots_push_no_order_by_hand_and_none_that_is_open_off_the_desk(open_page: OpenPage) -> None:
    page = await sign_in_page(open_page)

    def order(number: int, *, status: str = "FILLED", by_hand: bool = False) -> dict[str, Any]:
        return {"id": f"o{number:03}", "at": number, "status": status, "by_hand": by_hand}

    first = [order(1, by_hand=True), order(2, status="PLACED"), order(3)]
    bots = [order(number) for number in range(10, 400)]
    kept = await run(
        page,
        "store",
        "(() => { const store = new m.DeskStore(() => {}); a.forEach((items) => store.take('orders', {items}));"
        " return store.orders().map((order) => order.id); })()",
        [first, bots],
    )
    assert len(kept) == 202
    assert kept[-2:] == ["o002", "o001"]
    shown = await run(page, "orders", "m.recentOf(a).map((order) => order.id)", [*reversed(bots), *reversed(first)])
    assert len(shown) == 40
    assert shown[0] == "o399"
    assert shown[-1] == "o001", "the one by hand, behind those that are newer"
