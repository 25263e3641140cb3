"""Limits by address among accounts of a process and among processes, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

import pytest

from tests.engine.worlds import VirtualClock
from trading.exchanges.addresses import Addresses
from trading.exchanges.budget import Budget, Window
from trading.exchanges.shares import AWAY_SECONDS, SLICES, CounterAway, LocalCounter

WINDOWS = {
    "weight": Window(limit=600, seconds=10, kept=60, counts="address"),
    "orders": Window(limit=50, seconds=10),
}
ORDER = {"weight": 1.0, "orders": 1.0}


class AwayCounter(LocalCounter):
    """A counter that can't be reached while it is away."""

    away = False

    async def take(self, key: str, period: int, amount: float, limit: float, seconds: float) -> float:
        if self.away:
            raise CounterAway("ConnectionError")
        return await super().take(key, period, amount, limit, seconds)

    async def paused(self, key: str) -> float:
        if self.away:
            raise CounterAway("ConnectionError")
        return await super().paused(key)


async def drain(clock: VirtualClock, budget: Budget) -> float:
    """Ask until nothing is left of the period; return what was had."""
    taken, vain = 0.0, 0
    while vain < 20:
        if await budget.wait_question({"weight": 10.0}, 0.0) == 0:
            taken, vain = taken + 10, 0
        else:
            vain += 1
            await clock.advance(0.05)
    return taken


def test_accounts_of_a_process_share_what_is_counted_by_address_and_nothing_else() -> None:
    addresses = Addresses(VirtualClock())
    first, second = addresses.budget("binance", WINDOWS), addresses.budget("binance", WINDOWS)
    elsewhere = addresses.budget("binance-us", WINDOWS)
    for _ in range(50):
        assert first.try_order(ORDER) == 0
    assert first.try_order(ORDER) > 0  # its own order count
    assert second.try_order({"weight": 551}) > 0  # what the first one took by the address is gone
    assert second.try_order({"weight": 550}) == 0
    assert second.try_order(ORDER) > 0
    assert elsewhere.try_order({"weight": 600}) == 0


async def test_a_pause_is_every_accounts_on_the_exchange_and_no_others() -> None:
    clock = VirtualClock()
    addresses = Addresses(clock)
    first, second = addresses.budget("binance", WINDOWS), addresses.budget("binance", WINDOWS)
    elsewhere = addresses.budget("okx", WINDOWS)
    first.pause(30)
    assert second.try_order(ORDER) > 29
    assert await second.wait_question({"weight": 1}, 10) > 29
    assert elsewhere.try_order(ORDER) == 0
    await clock.advance(30)
    assert second.try_order(ORDER) == 0


async def test_processes_together_never_exceed_a_period_and_each_finds_orders_at_hand() -> None:
    clock = VirtualClock()
    counter = LocalCounter(clock)
    processes = [Addresses(clock, address="1.2.3.4", counter=counter) for _ in range(4)]
    budgets = [process.budget("binance", WINDOWS) for process in processes]
    await clock.advance(1)
    spent: defaultdict[int, float] = defaultdict(float)
    orders = refused = 0
    try:
        for step in range(1_200):  # a minute and more
            period = clock.time_ns() // (10 * 10**9)
            for number, budget in enumerate(budgets):
                if step % 10 == number:
                    orders += 1
                    if budget.try_order({"weight": 1.0}) == 0:
                        spent[period] += 1
                    else:
                        refused += 1
                # Questions take whatever is there.
                if await budget.wait_question({"weight": 20.0}, 0.0) == 0:
                    spent[period] += 20
            await clock.advance(0.05)
    finally:
        for process in processes:
            await process.close()
    assert max(spent.values()) <= 600
    assert max(spent.values()) > 500  # and what there is gets used
    assert refused == 0, f"{refused} of {orders} orders found no slice"


async def test_a_process_that_dies_takes_its_slices_with_it_for_one_period_only() -> None:
    clock = VirtualClock()
    counter = LocalCounter(clock)
    dead = Addresses(clock, address="a", counter=counter)
    dead.budget("binance", WINDOWS)
    await clock.advance(1)
    await dead.close()
    living = Addresses(clock, address="a", counter=counter)
    budget = living.budget("binance", WINDOWS)
    await clock.advance(20)
    taken = await drain(clock, budget)
    await living.close()
    assert taken >= 600 - 60 - 600 / SLICES - 20


async def test_other_addresses_have_limits_of_their_own() -> None:
    clock = VirtualClock()
    counter = LocalCounter(clock)
    processes = [Addresses(clock, address=address, counter=counter) for address in ("a", "b")]
    budgets = [process.budget("binance", WINDOWS) for process in processes]
    await clock.advance(1)
    for budget in budgets:
        assert await drain(clock, budget) >= 500
    for process in processes:
        await process.close()


async def test_a_pause_reaches_other_processes() -> None:
    clock = VirtualClock()
    counter = LocalCounter(clock)
    processes = [Addresses(clock, address="a", counter=counter) for _ in range(2)]
    first, second = (process.budget("binance", WINDOWS) for process in processes)
    await clock.advance(1)
    first.pause(30)
    await clock.advance(1)
    assert second.try_order(ORDER) > 25
    for process in processes:
        await process.close()


async def test_without_the_counter_a_process_goes_by_its_own_budget_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = VirtualClock()
    counter = AwayCounter(clock)
    addresses = Addresses(clock, address="a", counter=counter)
    budget = addresses.budget("binance", WINDOWS)
    with caplog.at_level(logging.INFO):
        await clock.advance(1)
        counter.away = True
        await clock.advance(3 * AWAY_SECONDS)
        for _ in range(50):
            assert budget.try_order(ORDER) == 0
        assert budget.try_order(ORDER) > 0
        assert len([record for record in caplog.records if "while the counter is away" in record.message]) == 1
        counter.away = False
        await clock.advance(2 * AWAY_SECONDS)
        assert len([record for record in caplog.records if "shared with other processes again" in record.message]) == 1
    await clock.advance(12)
    assert budget.try_order(ORDER) == 0
    await addresses.close()


async def test_an_order_asks_nobody() -> None:
    clock = VirtualClock()
    counter = AwayCounter(clock)
    addresses = Addresses(clock, address="a", counter=counter)
    budget = addresses.budget("binance", WINDOWS)
    # Before a slice is there, while it is, and after the counter has gone: never a step of the loop in between.
    assert budget.try_order(ORDER) == 0
    await clock.advance(1)
    assert budget.try_order(ORDER) == 0
    assert not asyncio.iscoroutinefunction(budget.try_order)
    await addresses.close()
