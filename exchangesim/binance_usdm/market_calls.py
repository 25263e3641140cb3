"""The calls about markets."""

from __future__ import annotations

from exchangesim.binance import market_codec as spot
from exchangesim.binance.calls import INTERVALS
from exchangesim.binance.errors import ApiError
from exchangesim.binance.parameters import Parameters
from exchangesim.binance.trading import market_of
from exchangesim.binance_usdm import market_codec as codec
from exchangesim.binance_usdm.codec import price
from exchangesim.binance_usdm.trading import known_symbol
from exchangesim.core.futures.exchange import HOUR_MS, FuturesExchange
from exchangesim.core.market import SimMarket

DEPTHS = (5, 10, 20, 50, 100, 500, 1000)


class MarketCalls:
    """Each takes read parameters and returns the answer's value."""

    def __init__(self, exchange: FuturesExchange) -> None:
        self._exchange = exchange

    def _markets(self, parameters: Parameters) -> tuple[list[SimMarket], bool]:
        """Return the market asked for, else all, and whether one was asked for."""
        native = known_symbol(self._exchange, parameters.symbol())
        markets = self._exchange.markets
        return ([markets[native]], True) if native is not None else (list(markets.values()), False)

    def information(self, _: Parameters) -> dict[str, object]:
        return codec.exchange_information(self._exchange)

    def depth(self, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        limit = parameters.limit(default=500, most=1000)
        if limit not in DEPTHS:
            raise ApiError(-4021, f"{limit} is not valid depth limit.")
        return codec.depth(market, limit, self._exchange.clock.time_ms())

    def trades(self, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        limit = parameters.limit(default=500, most=1000)
        return [codec.public_trade(trade, market.rules) for trade in list(market.trades)[-limit:]]

    def aggregate_trades(self, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        limit, from_id = parameters.limit(default=500, most=1000), parameters.integer("fromId")
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        found = [
            trade
            for trade in market.trades
            if (from_id is None or trade.aggregate_id >= from_id)
            and (start is None or trade.time_ms >= start)
            and (end is None or trade.time_ms <= end)
        ]
        rows = codec.aggregate(found, market.rules)
        return rows[-limit:] if from_id is None and start is None else rows[:limit]

    def klines(self, parameters: Parameters) -> list[object]:
        market = market_of(self._exchange, parameters.symbol())
        interval = parameters.need("interval")
        if interval not in INTERVALS:
            raise ApiError(-1120, "Invalid interval.")
        return spot.klines(
            market,
            INTERVALS[interval],
            start_ms=parameters.integer("startTime"),
            end_ms=parameters.integer("endTime"),
            limit=parameters.limit(default=500, most=1500),
        )

    def day(self, parameters: Parameters) -> object:
        markets, one = self._markets(parameters)
        now = self._exchange.clock.time_ms()
        rows = [codec.day_ticker(market, now) for market in markets]
        return rows[0] if one else rows

    def last_price(self, parameters: Parameters) -> object:
        markets, one = self._markets(parameters)
        now = self._exchange.clock.time_ms()
        rows = [{"symbol": m.native, "price": price(m.rules, m.last_price), "time": now} for m in markets]
        return rows[0] if one else rows

    def book_ticker(self, parameters: Parameters) -> object:
        markets, one = self._markets(parameters)
        rows = [codec.book_ticker(market) for market in markets]
        return rows[0] if one else rows

    def premium_index(self, parameters: Parameters) -> object:
        markets, one = self._markets(parameters)
        rows = [codec.premium_index(self._exchange, market) for market in markets]
        return rows[0] if one else rows

    def funding_rates(self, parameters: Parameters) -> list[dict[str, object]]:
        markets, _ = self._markets(parameters)
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        limit = parameters.limit(default=100, most=1000)
        rates = sorted(
            (
                rate
                for market in markets
                for rate in self._exchange.funding_rates(market.native)
                if (start is None or rate.time_ms >= start) and (end is None or rate.time_ms <= end)
            ),
            key=lambda rate: rate.time_ms,
        )
        found = rates[:limit] if start is not None else rates[-limit:]
        return [codec.funding_rate(rate) for rate in found]

    def funding_info(self, _: Parameters) -> list[dict[str, object]]:
        hours = self._exchange.funding_ms / HOUR_MS
        return [codec.funding_info(market, hours) for market in self._exchange.markets.values()]
