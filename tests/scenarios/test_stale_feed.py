"""A feed that falls silent stops trading on it: first its books' age, then a breaker; afterwards it comes back."""

from __future__ import annotations

from decimal import Decimal

from risk.policy.breakers import BreakerEvent, BreakerRules, BreakerState, Scope
from tests.exchangesim.simulator import Simulator
from tests.scenarios.stage import BTC, least_of, pair_rules, route_of, staged
from trading.marketdata.hub import LIVE

D = Decimal
PAIR = (Scope.PAIR_ON_EXCHANGE, "okx-sim:BTC/USDT")
OLD_MS = 1_000.0


async def test_a_silent_feed_is_not_traded_on_until_it_has_proved_itself(simulator: Simulator) -> None:
    rules = BreakerRules(cooldown_seconds=2.0, clean_per_step=1, steps=(0.5, 1.0), probe_seconds=30.0)
    async with staged(simulator, risk=pair_rules(rules, stale_seconds=1.0), max_book_age_ms=OLD_MS) as stage:
        full = (await stage.win("binance", "okx")).quantity
        orders = stage.orders("okx")
        state = stage.hub.state(f"okx-sim:{BTC}")

        # Not a best price alone, which comes before the book does: without its depth nothing is an opportunity.
        await stage.until(lambda: state.book.bids.best == state.bid, "the book is as the best prices are")
        simulator.fault("silent", stage="market", exchange="okx")
        await stage.until(lambda: stage.hub.age_ms(state) > OLD_MS, "OKX has not been heard of for a while")
        # Prices fall everywhere by half a percent. OKX's last word is the old bid: an edge that is none.
        fair = stage.books.fair[BTC] = D(49_750)
        stage.books.calm(BTC)
        stage.books.prices["binance", BTC] = (D(49_740), fair)
        phantom = route_of("binance", "okx", BTC)
        await stage.until(
            lambda: any(
                (decision.check, decision.opportunity.route) == ("book_age", phantom)
                for decision in stage.store.decisions
            ),
            "the edge over the old book is refused for its age",
        )
        await stage.until(stage.tripped, "the breaker trips")
        assert stage.tripped() == [PAIR]
        assert stage.store.breakers[PAIR].trigger == "stale"
        assert state.status != LIVE
        assert stage.orders("okx") == orders
        # The others' books may have fallen one after the other, which is an edge that was there.
        assert sum("okx" in trade.route for trade in stage.store.trades.values()) == 1
        stage.books.calm(BTC)
        await stage.win("bybit", "binance")  # the others' feeds speak

        simulator.clear_faults()
        simulator.disturb("okx", "cut")  # and its sockets are new ones
        await stage.until(
            lambda: stage.hub.tradable(state, OLD_MS) and set(stage.engine.status().accounts.values()) == {"live"},
            "OKX is heard again, its account's stream too",
        )
        probe, half, whole = [(await stage.win("binance", "okx")).quantity for _ in range(3)]
        assert probe == least_of(stage, "binance", "okx")
        lot = D("0.00001")
        assert abs(half - full / 2) < 3 * full / 1000
        assert (half // lot, whole // lot) == (whole / 2 // lot, whole // lot)
        await stage.until(lambda: not stage.tripped(), "the breaker closes")
        events = [event for event, _ in stage.steps_of(PAIR)]
        assert events[0] is BreakerEvent.TRIP  # and again, as long as nothing is heard
        assert events[-4:] == [BreakerEvent.PROBE_CLAIMED, *[BreakerEvent.CLEAN] * 3]
        assert stage.steps_of(PAIR)[-1][1].state is BreakerState.CLOSED
