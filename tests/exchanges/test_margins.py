"""Margin tiers and modes as the real client reads them, and an estimate against what the exchange then tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from exchangesim.core.futures.brackets import brackets_of
from tests.exchanges.venue_rig import Rig, spec_of
from tests.exchangesim.simulator import running_simulator
from trading.config import Credentials
from trading.exchanges.margins import load_margins, read_tiers
from trading.instruments import Side
from trading.margin import Held, liquidation_price
from trading.messages import AccountBalance, AccountPositions, Outcome

D = Decimal
CENT = D("0.01")
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def rig() -> AsyncIterator[Rig]:
    with running_simulator("--exchanges", "binanceusdm") as simulator:
        rig = await Rig.make(simulator, "binanceusdm")
        yield rig
        await rig.close()


def keys_of(rig: Rig) -> Credentials:
    return Credentials(api_key=rig.keys.api_key, secret=rig.keys.secret)


async def test_tiers_and_modes_are_read_with_the_deductions_the_exchange_tells(rig: Rig) -> None:
    client = rig.venue._client
    await client.fapiPrivatePostMarginType({"symbol": "ETHUSDT", "marginType": "ISOLATED"})
    found = await load_margins(spec_of(rig.simulator, rig.name), keys_of(rig))
    assert found.isolated == {"ETH/USDT:USDT"}
    (row,) = [one for one in await client.fapiPrivateGetLeverageBracket({}) if one["symbol"] == "BTCUSDT"]
    told = [
        (D(str(tier["notionalFloor"])), D(str(tier["notionalCap"])), D(str(tier["maintMarginRatio"])),
         int(tier["initialLeverage"]), D(str(tier["cum"])))
        for tier in row["brackets"]
    ]  # fmt: skip
    tiers = found.tiers[rig.market.symbol]
    assert [(tier.floor, tier.cap, tier.rate, tier.leverage, tier.deduction) for tier in tiers] == told
    assert len(told) == len(brackets_of("BTC"))


async def test_a_refused_key_is_said_in_one_sentence_without_it(rig: Rig) -> None:
    secret = "no-secret-of-anybody"
    with pytest.raises(ConnectionError, match="its margin tiers can't be loaded") as caught:
        await load_margins(spec_of(rig.simulator, rig.name), Credentials(api_key="nobody", secret=secret))
    assert secret not in str(caught.value)


async def test_rows_that_are_no_tiers_are_left_out() -> None:
    good = {"minNotional": 0, "maxNotional": "5000", "maintenanceMarginRate": 0.01, "maxLeverage": 20}
    assert [tier.rate for tier in read_tiers([good])] == [D("0.01")]
    assert read_tiers([{**good, "minNotional": 3}]) == ()
    assert read_tiers([{**good, "maintenanceMarginRate": None}]) == ()
    assert read_tiers([{}]) == ()


@pytest.mark.parametrize("isolated", [False, True], ids=["cross", "isolated"])
@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_the_estimate_is_what_the_exchange_tells_once_the_trade_is_made(
    rig: Rig, side: Side, isolated: bool
) -> None:
    mode = "ISOLATED" if isolated else "CROSSED"
    if isolated:
        await rig.venue._client.fapiPrivatePostMarginType({"symbol": rig.market.native_id, "marginType": mode})
    assert await rig.venue.set_leverage(rig.market.key, 20) == ""
    found = await load_margins(spec_of(rig.simulator, rig.name), keys_of(rig))
    assert (rig.market.symbol in found.isolated) is isolated
    quantity, price = D("12"), D(50_000 if side == "buy" else 49_990)
    best = [(str(price), "20")]
    bids, asks = ([("49000", "1")], best) if side == "buy" else (best, [("51000", "1")])
    rig.simulator.set_book(rig.name, rig.market.symbol, bids=bids, asks=asks)
    free = next(m.free for m in reversed(rig.told) if isinstance(m, AccountBalance) and m.asset == "USDT")
    margin = quantity * price / 20 if isolated else free - quantity * price * rig.market.taker_fee
    estimate = liquidation_price(Held().with_trade(side, quantity, price), margin, found.tiers[rig.market.symbol])
    placed = await rig.venue.place(rig.intent(side, quantity=str(quantity), price=str(price)))
    assert placed.outcome is Outcome.PLACED

    def told() -> list[AccountPositions]:
        return [message for message in rig.told if isinstance(message, AccountPositions) and message.positions]

    await rig.until(told)
    (position,) = told()[-1].positions
    assert (abs(position.quantity or 0), position.margin) == (quantity, "isolated" if isolated else "cross")
    assert estimate is not None
    assert position.liquidation_price is not None
    # The exchange reckons with the tier of the present value; the one at the liquidation asks for no less.
    nearer = estimate - position.liquidation_price if side == "buy" else position.liquidation_price - estimate
    assert 0 <= nearer.quantize(CENT) <= position.liquidation_price / 200
