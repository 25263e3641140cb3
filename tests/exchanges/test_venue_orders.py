"""Real ccxt against the simulated exchanges: what each answer to an order proves, and what its venue makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from tests.exchanges.venue_rig import CCXT_WAYS, SYMBOLS, USDM_WAYS, WAIT_SECONDS, WAYS, Rig
from tests.exchangesim.simulator import Simulator, every_exchange  # noqa: F401
from trading.clock import SystemClock
from trading.exchanges.budget import Budget
from trading.messages import OrderState as S
from trading.messages import Outcome, TimeInForce

D = Decimal

# An order that is refused for want of money, for its price's grid, for its size: the exchanges' own codes.
INSUFFICIENT = {"binance": "-2010", "okx": "51008", "bybit": "170131", "binanceusdm": "-2019"}


pytestmark = pytest.mark.asyncio(loop_scope="module")

REST_WAYS = [way for way in (*WAYS, *USDM_WAYS) if "-" not in way]
# An HTTP status, header or request: the order connection has none.
by_rest = pytest.mark.parametrize("shared_rig", REST_WAYS, indirect=True, scope="module")


@pytest_asyncio.fixture(params=(*WAYS, *CCXT_WAYS, *USDM_WAYS), scope="module", loop_scope="module")
async def shared_rig(request: pytest.FixtureRequest, every_exchange: Simulator) -> AsyncIterator[Rig]:  # noqa: F811
    """One started venue an exchange, for the whole module: making one costs a second."""
    rig = await Rig.of(every_exchange, request.param)
    yield rig
    await rig.close()


@pytest_asyncio.fixture(loop_scope="module")
async def rig(shared_rig: Rig) -> AsyncIterator[Rig]:
    shared_rig.simulator.clear_faults()
    shared_rig.show_book()
    # A budget of its own for each test: together they are faster than an exchange allows.
    shared_rig.venue._calls._breakers.clear()
    shared_rig.venue._calls.budget = Budget(shared_rig.venue.dialect.windows, SystemClock())
    await shared_rig.on_its_path()
    yield shared_rig
    shared_rig.simulator.clear_faults()


async def test_an_order_fills_and_every_source_tells_the_same_fills(rig: Rig) -> None:
    intent = rig.intent(quantity="1.5", price="50010")
    result = await rig.venue.place(intent)
    assert result.outcome is Outcome.PLACED
    assert result.exchange_order_id
    await rig.until(lambda: sum(fill.quantity for fill in rig.fills(intent).values()) == intent.quantity)
    await rig.until(lambda: any(event.state is S.FILLED for event in rig.events(intent)))
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert asked.state is S.FILLED
    assert asked.exchange_order_id == result.exchange_order_id
    streamed = rig.fills(intent)
    queried = {fill.exchange_trade_id: fill for fill in asked.fills}
    answered = {fill.exchange_trade_id: fill for event in result.events for fill in event.fills}
    truth = {
        row["trade_id"]: row
        for row in rig.simulator.fills(rig.name, api_key=rig.keys.api_key)
        if row["client_id"] == intent.client_order_id
    }
    assert streamed.keys() == queried.keys() == truth.keys()
    assert not answered or answered.keys() == truth.keys()
    for source in (streamed, queried, answered):
        for trade_id, fill in source.items():
            row = truth[trade_id]
            assert (fill.price, fill.quantity) == (D(row["price"]), D(row["quantity"]))
            assert (fill.fee, fill.fee_asset) == (D(row["fee"]), row["fee_asset"])
            assert (fill.side, fill.liquidity, fill.market) == ("buy", "taker", rig.market.key)
            assert fill.client_order_id == intent.client_order_id


@by_rest
async def test_what_reaches_the_wire_is_the_intents_price_and_quantity(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    client = rig.venue._client
    fetch = client.fetch

    async def noted(url: str, method: str = "GET", headers: object = None, body: object = None) -> object:
        requests.append(f"{url} {body}")
        return await fetch(url, method, headers, body)

    monkeypatch.setattr(client, "fetch", noted)
    # Figures no float can hold, on the exchange's own grid.
    steps = D("12345678") // (rig.market.lot / D("0.00000001")) * rig.market.lot
    price = D("50000") + 7 * rig.market.tick
    intent = rig.intent(quantity=str(steps), price=str(price))
    result = await rig.venue.place(intent)
    assert result.outcome is Outcome.PLACED
    (order,) = rig.orders_at_exchange(intent)
    assert (D(str(order["price"])), D(str(order["quantity"]))) == (price, steps)
    sent = next(request for request in requests if intent.client_order_id in request)
    assert f"{price.normalize():f}" in sent
    assert f"{steps.normalize():f}" in sent
    assert "clientOrderId" not in sent.replace("newClientOrderId", "")
    assert order["time_in_force"] == "IOC"


@pytest.mark.parametrize(("price", "quantity"), [("50000.000001", "1"), ("50000", "1.000000001")])
async def test_what_would_be_rounded_is_not_sent(rig: Rig, price: str, quantity: str) -> None:
    intent = rig.intent(price=price, quantity=quantity)
    result = await rig.venue.place(intent)
    assert (result.outcome, result.code) == (Outcome.REJECTED, "LOCAL")
    assert "grid" in result.message
    assert rig.orders_at_exchange(intent) == []


async def test_an_ioc_order_that_finds_less_is_cancelled_with_its_fills(rig: Rig) -> None:
    intent = rig.intent(quantity="2", price="50000")
    await rig.venue.place(intent)
    await rig.until(lambda: any(event.state is S.CANCELLED for event in rig.events(intent)))
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert (asked.state, asked.filled) == (S.CANCELLED, D(1))
    assert sum(fill.quantity for fill in asked.fills) == D(1)


async def test_want_of_money_is_a_rejection_with_the_exchanges_code(rig: Rig) -> None:
    intent = rig.intent(quantity="900", price="50000")
    result = await rig.venue.place(intent)
    assert (result.outcome, result.code) == (Outcome.REJECTED, INSUFFICIENT[rig.name])
    assert result.message
    assert await rig.venue.query(intent) is None


async def test_too_small_an_order_is_a_rejection(rig: Rig) -> None:
    lot = max(rig.market.lot, D("0.000001"))
    result = await rig.venue.place(rig.intent(quantity=str(lot), price="48000"))
    assert result.outcome is Outcome.REJECTED
    assert result.code not in {"", "LOCAL"}


async def test_an_id_used_again_proves_nothing_about_the_order_it_names(rig: Rig) -> None:
    resting = rig.intent(price="48000", time_in_force=TimeInForce.GTC)
    assert (await rig.venue.place(resting)).outcome is Outcome.PLACED
    again = await rig.venue.place(resting)
    assert again.outcome is Outcome.UNKNOWN
    assert len(rig.orders_at_exchange(resting)) == 1
    await rig.venue.cancel(resting)


async def test_a_resting_order_is_cancelled(rig: Rig) -> None:
    resting = rig.intent(price="48000", time_in_force=TimeInForce.GTC)
    await rig.venue.place(resting)
    assert (await rig.venue.cancel(resting)).outcome is Outcome.PLACED
    await rig.until(lambda: any(event.state is S.CANCELLED for event in rig.events(resting)))
    asked = await rig.venue.query(resting)
    assert asked is not None
    assert (asked.state, asked.filled) == (S.CANCELLED, 0)
    assert (await rig.venue.cancel(resting)).outcome is Outcome.REJECTED


async def test_an_unknown_id_is_not_found(rig: Rig) -> None:
    assert await rig.venue.query(rig.intent()) is None


# -- answers that prove nothing -------------------------------------------------------------------------------------


async def adopted(rig: Rig) -> None:
    """Place under the fault that is set; the order lives, its answer proves nothing, asking finds it, once."""
    intent = rig.intent()
    result = await rig.venue.place(intent)
    assert result.outcome is Outcome.UNKNOWN
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert asked.state is S.FILLED
    assert sum(fill.quantity for fill in asked.fills) == intent.quantity
    assert len(rig.orders_at_exchange(intent)) == 1


async def test_a_lost_answer_is_unknown_and_the_order_is_adopted(rig: Rig) -> None:
    rig.fault_on_order("drop_response", how="reset")
    await adopted(rig)


async def test_a_truncated_answer_is_unknown_and_the_order_is_adopted(rig: Rig) -> None:
    rig.fault_on_order("truncate_body", bytes=-30)
    await adopted(rig)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateways_page_is_unknown_and_the_order_is_adopted(rig: Rig, status: int) -> None:
    rig.fault_on_order("error", status=status, body="<html>Bad Gateway</html>", content_type="text/html", apply=True)
    await adopted(rig)


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", "null", '{"orderId":null,"data":[{"ordId":"","sCode":"0"}],"code":"0"}']
)
async def test_an_empty_success_is_unknown_and_the_order_is_adopted(rig: Rig, body: str) -> None:
    rig.fault_on_order("replace_body", body=body, status=200)
    await adopted(rig)


async def test_a_firewalls_page_is_unknown(rig: Rig) -> None:
    rig.fault_on_order("error", status=403, body="<html>blocked</html>", content_type="text/html")
    intent = rig.intent()
    assert (await rig.venue.place(intent)).outcome is Outcome.UNKNOWN
    assert rig.orders_at_exchange(intent) == []


async def test_a_lost_request_is_unknown_and_not_found(rig: Rig) -> None:
    rig.fault_on_order("drop_request", how="reset")
    intent = rig.intent()
    assert (await rig.venue.place(intent)).outcome is Outcome.UNKNOWN
    assert await rig.venue.query(intent) is None
    assert rig.orders_at_exchange(intent) == []


@by_rest
async def test_the_exchanges_own_timeout_code_is_unknown(rig: Rig) -> None:
    bodies = {
        "binance": '{"code":-1007,"msg":"Timeout waiting for response from backend server. Send status unknown; '
        'execution status unknown."}',
        "okx": '{"code":"50004","data":[],"msg":"API endpoint request timeout"}',
        "bybit": '{"retCode":10000,"retMsg":"Server Timeout","result":{},"retExtInfo":{},"time":1}',
    }
    bodies["binanceusdm"] = bodies["binance"]
    status = 400 if rig.name.startswith("binance") else 200
    rig.fault_on_order("error", status=status, body=bodies[rig.name], apply=True)
    await adopted(rig)


# -- answers that prove it was not placed -----------------------------------------------------------------------------


@by_rest
async def test_too_many_requests_is_a_rejection_and_the_account_pauses(rig: Rig) -> None:
    rig.fault_on_order("error", status=429, body="", headers={"Retry-After": "3"})
    assert (await rig.venue.place(rig.intent())).outcome is Outcome.REJECTED
    after = rig.intent()
    paused = await rig.venue.place(after)
    assert (paused.outcome, paused.code) == (Outcome.REJECTED, "BUDGET")
    assert rig.orders_at_exchange(after) == []


async def test_an_order_whose_budget_was_reserved_goes_when_nothing_is_left(rig: Rig) -> None:
    first, second, third = rig.intent(quantity="0.01"), rig.intent(quantity="0.01"), rig.intent(quantity="0.01")
    assert rig.venue.reserve_order(first.client_order_id) == 0
    assert rig.venue.reserve_order(second.client_order_id) == 0
    while rig.venue.reserve_order(f"other{len(rig.venue._calls.budget._reserved)}") == 0:
        pass
    rig.venue._calls.budget.correct("orders" if rig.name.startswith("binance") else "place", 1_000)
    assert (await rig.venue.place(first)).outcome is Outcome.PLACED
    refused = await rig.venue.place(third)
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "BUDGET")
    rig.venue.release_order(second.client_order_id)
    assert (await rig.venue.place(second)).code == "BUDGET"


async def test_an_answer_never_shows_the_accounts_secrets(rig: Rig) -> None:
    rig.fault_on_order("error", status=400, body=f'{{"code":-1,"msg":"{rig.keys.secret} {rig.keys.api_key}"}}')
    result = await rig.venue.place(rig.intent())
    rig.fault_on_order("drop_response", how="reset")
    lost = await rig.venue.place(rig.intent())
    for text in (repr(result), repr(lost), repr(rig.told)):
        assert rig.keys.secret not in text
        assert rig.keys.api_key not in text


async def test_balances_are_the_exchanges_figures(rig: Rig) -> None:
    balances = {balance.asset: balance for balance in await rig.venue.balances()}
    truth = rig.simulator.balances(rig.keys)
    if rig.name in SYMBOLS:  # what stands behind a position is no order's
        assert balances["USDT"].free + balances["USDT"].used == D(truth["USDT"]["total"])
        return
    for asset in ("BTC", "USDT"):
        assert balances[asset].free == D(truth[asset]["free"])
        assert balances[asset].used == D(truth[asset]["locked"])


async def test_an_unanswered_question_proves_nothing(rig: Rig) -> None:
    rig.simulator.fault(
        "error", exchange=rig.name, operation="GET *", api_key=rig.keys.api_key, parameters={"status": 503}
    )
    event = await rig.venue.query(rig.intent())
    assert event is not None
    assert event.state is S.UNKNOWN
    assert list(await rig.venue.balances()) == []


async def test_too_many_questions_pause_the_account_too(rig: Rig) -> None:
    rig.simulator.fault(
        "error",
        exchange=rig.name,
        operation="GET *",
        api_key=rig.keys.api_key,
        count=1,
        parameters={"status": 429, "headers": {"Retry-After": "30"}},
    )
    assert list(await rig.venue.balances()) == []
    paused = await rig.venue.place(rig.intent())
    assert (paused.outcome, paused.code) == (Outcome.REJECTED, "BUDGET")


async def test_a_clock_that_was_moved_is_measured_again(rig: Rig) -> None:
    # Further than the widest window (OKX's 30 s); what is refused for it was not placed.
    rig.simulator.fault("clock_shift", exchange=rig.name, parameters={"ms": 60_000})
    refused = await rig.venue.place(rig.intent())
    assert refused.outcome is Outcome.REJECTED
    result = refused
    async with asyncio.timeout(WAIT_SECONDS):
        while result.outcome is not Outcome.PLACED:
            await asyncio.sleep(0.1)
            result = await rig.venue.place(rig.intent(quantity="0.001"))
            assert result.outcome is not Outcome.UNKNOWN
    assert abs(rig.venue.offset_ms - 60_000) < 1_000
    rig.simulator.clear_faults()
    await rig.venue._time.ask()


@pytest.mark.parametrize("how", ["get", "put"])
async def test_an_order_that_leaves_by_another_method_than_post_counts_as_sent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    client = rig.venue._client
    intent = rig.intent()

    async def create_order(*arguments: object) -> object:
        # Deribit's orders are GET requests.
        return await client.fetch(f"{rig.simulator.rest[rig.name]}/lost?id={intent.client_order_id}", how.upper())

    rig.simulator.fault("drop_request", exchange=rig.name, operation="*", count=1, parameters={"how": "reset"})
    monkeypatch.setattr(client, "create_order", create_order)
    assert (await rig.venue.place(intent)).outcome is Outcome.UNKNOWN
