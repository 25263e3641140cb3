"""Every call of the spot REST and WebSocket APIs as one table: names, security, weight and what it does.

Both APIs take the same parameters and give the same values, so a call is written once and listed with both names.
"""

from __future__ import annotations

from collections.abc import Callable

from exchangesim.binance import codec, market_codec
from exchangesim.binance.errors import ApiError
from exchangesim.binance.limits import BinanceLimits
from exchangesim.binance.lists import Lists
from exchangesim.binance.operations import CallTable, Handler, Operation
from exchangesim.binance.parameters import Parameters
from exchangesim.binance.trading import Trading, market_of
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import NewList

INTERVALS = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "1d": 1440,
}


class Calls(CallTable):
    """All operations of a spot exchange."""

    def __init__(self, exchange: SimExchange, limits: BinanceLimits) -> None:
        super().__init__(exchange, limits)
        self.exchange = exchange
        self.trading, self.lists = Trading(exchange), Lists(exchange)
        lists = self.lists
        trading, read, trade = self.trading, "read", "trade"
        op = Operation
        operations = [
            op(rest="GET /api/v3/ping", ws="ping", public=lambda _: {}),
            op(rest="GET /api/v3/time", ws="time", public=lambda _: {"serverTime": exchange.clock.time_ms()}),
            op(rest="GET /api/v3/exchangeInfo", ws="exchangeInfo", weight=20, public=self._information),
            op(rest="GET /api/v3/depth", ws="depth", weight=_depth_weight, public=self._depth),
            op(rest="GET /api/v3/trades", ws="trades.recent", weight=25, public=self._trades),
            op(rest="GET /api/v3/aggTrades", ws="trades.aggregate", weight=4, public=self._aggregate_trades),
            op(rest="GET /api/v3/klines", ws="klines", weight=2, public=self._klines),
            op(rest="GET /api/v3/avgPrice", ws="avgPrice", weight=2, public=self._average_price),
            op(rest="GET /api/v3/ticker/24hr", ws="ticker.24hr", weight=_day_weight, public=self._day),
            op(rest="GET /api/v3/ticker/price", ws="ticker.price", weight=_pair_weight, public=self._price),
            op(rest="GET /api/v3/ticker/bookTicker", ws="ticker.book", weight=_pair_weight, public=self._book_ticker),
            op(rest="POST /api/v3/order", ws="order.place", permission=trade, private=self._place, order=True),
            op(rest="POST /api/v3/order/test", ws="order.test", permission=trade, private=self._test),
            op(rest="DELETE /api/v3/order", ws="order.cancel", permission=trade, private=trading.cancel),
            op(
                rest="DELETE /api/v3/openOrders",
                ws="openOrders.cancelAll",
                permission=trade,
                private=trading.cancel_all,
            ),
            op(rest="GET /api/v3/order", ws="order.status", permission=read, weight=4, private=trading.query),
            op(
                rest="GET /api/v3/openOrders",
                ws="openOrders.status",
                permission=read,
                weight=lambda p: 6 if "symbol" in p else 80,
                private=trading.open_orders,
            ),
            op(
                rest="POST /api/v3/orderList/oco",
                ws="orderList.place.oco",
                permission=trade,
                private=self._place_list(lists.read_oco),
                order=True,
            ),
            op(
                rest="POST /api/v3/order/oco",
                ws="orderList.place",
                permission=trade,
                private=self._place_list(lists.read_old_oco),
                order=True,
            ),
            op(
                rest="POST /api/v3/orderList/oto",
                ws="orderList.place.oto",
                permission=trade,
                private=self._place_list(lists.read_oto),
                order=True,
            ),
            op(
                rest="POST /api/v3/orderList/otoco",
                ws="orderList.place.otoco",
                permission=trade,
                private=self._place_list(lists.read_otoco),
                order=True,
            ),
            op(rest="DELETE /api/v3/orderList", ws="orderList.cancel", permission=trade, private=lists.cancel),
            op(rest="GET /api/v3/orderList", ws="orderList.status", permission=read, weight=4, private=lists.query),
            op(
                rest="GET /api/v3/openOrderList",
                ws="openOrderLists.status",
                permission=read,
                weight=6,
                private=lists.open_lists,
            ),
            op(
                rest="GET /api/v3/allOrderList", ws="allOrderLists", permission=read, weight=20, private=lists.all_lists
            ),
            op(rest="GET /api/v3/allOrders", ws="allOrders", permission=read, weight=20, private=trading.all_orders),
            op(
                rest="GET /api/v3/myTrades",
                ws="myTrades",
                permission=read,
                weight=lambda p: 5 if "orderId" in p else 20,
                private=trading.trades,
            ),
            op(rest="GET /api/v3/account", ws="account.status", permission=read, weight=20, private=self._account),
            op(
                rest="GET /api/v3/account/commission",
                ws="account.commission",
                permission=read,
                weight=20,
                private=self._commission,
            ),
            op(
                rest="GET /api/v3/rateLimit/order",
                ws="account.rateLimits.orders",
                permission=read,
                weight=40,
                private=lambda account, _: limits.order_rows(account.api_key),
            ),
            op(rest="GET /sapi/v1/system/status", public=lambda _: {"status": 0, "msg": "normal"}),
            op(rest="GET /sapi/v1/capital/config/getall", permission=read, weight=10, private=self._coins),
            # No margin market: the lists a client asks for at its start are there, and empty.
            op(rest="GET /sapi/v1/margin/allPairs", permission=read, private=lambda _account, _: []),
            op(rest="GET /sapi/v1/margin/isolated/allPairs", permission=read, private=lambda _account, _: []),
            op(rest="GET /sapi/v1/margin/allAssets", permission=read, private=lambda _account, _: []),
            op(rest="GET /sapi/v1/asset/tradeFee", permission=read, private=self._trade_fees),
            op(rest="GET /sapi/v1/account/apiRestrictions", permission=read, private=self._restrictions),
        ]
        self.offer(operations)

    # Market data

    def _markets(self, parameters: Parameters) -> tuple[list[SimMarket], bool]:
        """Return the markets asked for by ``symbol`` or ``symbols`` (else all), and whether one was asked for."""
        native, names = parameters.symbol(), parameters.names("symbols")
        if native is not None and names is not None:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        if native is not None:
            return [market_of(self.exchange, native)], True
        if names is not None:
            return [market_of(self.exchange, name) for name in names], False
        return list(self.exchange.markets.values()), False

    def _information(self, parameters: Parameters) -> dict[str, object]:
        markets, _ = self._markets(parameters)
        parameters.ignore("permissions", "symbolStatus")
        sets = parameters.flag("showPermissionSets", default=True)
        return market_codec.exchange_information(self.exchange, markets, sets=sets)

    def _depth(self, parameters: Parameters) -> dict[str, object]:
        market = market_of(self.exchange, parameters.symbol())
        limit = parameters.limit(default=100, most=5000)
        return {
            "lastUpdateId": market.update_id,
            "bids": market_codec.levels(market.book.bids.top(limit)),
            "asks": market_codec.levels(market.book.asks.top(limit)),
        }

    def _trades(self, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self.exchange, parameters.symbol())
        limit = parameters.limit(default=500, most=1000)
        return [market_codec.public_trade(trade) for trade in list(market.trades)[-limit:]]

    def _aggregate_trades(self, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self.exchange, parameters.symbol())
        limit = parameters.limit(default=500, most=1000)
        from_id = parameters.integer("fromId")
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        trades = [
            trade
            for trade in market.trades
            if (from_id is None or trade.aggregate_id >= from_id)
            and (start is None or trade.time_ms >= start)
            and (end is None or trade.time_ms <= end)
        ]
        joined = market_codec.aggregate(trades)
        return joined[-limit:] if from_id is None and start is None else joined[:limit]

    def _klines(self, parameters: Parameters) -> list[object]:
        market = market_of(self.exchange, parameters.symbol())
        interval = parameters.need("interval")
        if interval not in INTERVALS:
            raise ApiError(-1120, "Invalid interval.")
        return market_codec.klines(
            market,
            INTERVALS[interval],
            start_ms=parameters.integer("startTime"),
            end_ms=parameters.integer("endTime"),
            limit=parameters.limit(default=500, most=1000),
        )

    def _average_price(self, parameters: Parameters) -> dict[str, object]:
        market = market_of(self.exchange, parameters.symbol())
        now = self.exchange.clock.time_ms()
        recent = [trade for trade in market.trades if trade.time_ms >= now - 300_000]
        amount = sum(trade.price * trade.quantity for trade in recent)
        volume = sum(trade.quantity for trade in recent)
        price = amount / volume if recent and volume else market.last_price
        close = recent[-1].time_ms if recent else now
        return {"mins": 5, "price": codec.number(price), "closeTime": close}

    def _day(self, parameters: Parameters) -> object:
        markets, one = self._markets(parameters)
        parameters.word("type", ("FULL",), ApiError(-1139, "Invalid ticker type."))
        now = self.exchange.clock.time_ms()
        rows = [market_codec.day_ticker(market, now) for market in markets]
        return rows[0] if one else rows

    def _price(self, parameters: Parameters) -> object:
        markets, one = self._markets(parameters)
        rows = [{"symbol": market.native, "price": codec.number(market.last_price)} for market in markets]
        return rows[0] if one else rows

    def _book_ticker(self, parameters: Parameters) -> object:
        markets, one = self._markets(parameters)
        rows = [market_codec.book_ticker(market) for market in markets]
        return rows[0] if one else rows

    # Trading and account

    def _place(self, account: Account, parameters: Parameters) -> dict[str, object]:
        new, response = self.trading.read_order(parameters)
        parameters.refuse_unread()
        return self._counted(account, 1, lambda: self.trading.place(account, new, response))

    def _place_list(self, read: Callable[[Parameters], tuple[NewList, str]]) -> Handler:
        def place(account: Account, parameters: Parameters) -> dict[str, object]:
            new, response = read(parameters)
            parameters.refuse_unread()
            orders = len(new.legs) + (new.working is not None)
            return self._counted(account, orders, lambda: self.lists.place(account, new, response))

        return place

    def _counted(self, account: Account, orders: int, place: Callable[[], dict[str, object]]) -> dict[str, object]:
        """Place what counts as so many orders."""
        self.limits.check_orders(account.api_key)
        self.limits.count_order(account.api_key, orders)  # before, for a fill gives the count back at once
        try:
            return place()
        except ApiError:
            self.limits.count_order(account.api_key, -orders)
            raise

    def _test(self, account: Account, parameters: Parameters) -> dict[str, object]:
        new, _ = self.trading.read_order(parameters)
        rates = parameters.flag("computeCommissionRates", default=False)
        parameters.refuse_unread()
        return self.trading.test(account, new, rates=rates)

    def _account(self, account: Account, parameters: Parameters) -> dict[str, object]:
        answer = codec.account_information(account, self.exchange)
        if parameters.flag("omitZeroBalances", default=False):
            balances = answer["balances"]
            assert isinstance(balances, list)
            answer["balances"] = [b for b in balances if float(b["free"]) or float(b["locked"])]
        return answer

    def _commission(self, _: Account, parameters: Parameters) -> dict[str, object]:
        return codec.commission(market_of(self.exchange, parameters.symbol()).rules)

    def _coins(self, account: Account, _: Parameters) -> list[dict[str, object]]:
        return [codec.coin(self.exchange.coins[asset], account) for asset in codec.assets(self.exchange, account)]

    def _trade_fees(self, _: Account, parameters: Parameters) -> list[dict[str, str]]:
        markets, _one = self._markets(parameters)
        return [
            {
                "symbol": market.native,
                "makerCommission": f"{market.rules.maker_fee.normalize():f}",
                "takerCommission": f"{market.rules.taker_fee.normalize():f}",
            }
            for market in markets
        ]

    def _restrictions(self, account: Account, _: Parameters) -> dict[str, object]:
        return {
            "ipRestrict": False,
            "createTime": account.updated_ms,
            "enableReading": "read" in account.permissions,
            "enableWithdrawals": "withdraw" in account.permissions,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "enableFutures": False,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": False,
            "enableSpotAndMarginTrading": "trade" in account.permissions,
            "enablePortfolioMarginTrading": False,
        }


def _depth_weight(parameters: Parameters) -> int:
    limit = parameters.limit(default=100, most=5000)
    return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250


def _pair_weight(parameters: Parameters) -> int:
    return 2 if "symbol" in parameters else 4


def _day_weight(parameters: Parameters) -> int:
    if "symbol" in parameters:
        return 2
    names = parameters.names("symbols")
    return 80 if names is None or len(names) > 100 else 2 if len(names) <= 20 else 40
