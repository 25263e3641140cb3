"""Every call of the USD-M REST and WebSocket APIs as one table: names, security, weight and what it does."""

from __future__ import annotations

from collections.abc import Callable

from exchangesim.binance import codec as spot_codec
from exchangesim.binance.errors import ApiError
from exchangesim.binance.limits import BinanceLimits
from exchangesim.binance.operations import CallTable, Operation
from exchangesim.binance.parameters import Parameters
from exchangesim.binance_usdm import errors
from exchangesim.binance_usdm.account_calls import AccountCalls
from exchangesim.binance_usdm.algo_calls import AlgoCalls
from exchangesim.binance_usdm.market_calls import MarketCalls
from exchangesim.binance_usdm.trading import Trading
from exchangesim.binance_usdm.users import ListenKeys
from exchangesim.core.accounts import Account
from exchangesim.core.futures.exchange import FuturesExchange


class UsdmCalls(CallTable):
    """All operations of a USD-M exchange."""

    lenient = True

    def __init__(self, exchange: FuturesExchange, limits: BinanceLimits, users: ListenKeys) -> None:
        super().__init__(exchange, limits)
        self.exchange, self.users = exchange, users
        self.trading = Trading(exchange)
        algos = self.algos = AlgoCalls(exchange, self.trading)
        markets, accounts, trading = MarketCalls(exchange), AccountCalls(exchange), self.trading
        read, trade = "read", "trade"
        op = Operation
        self.offer(
            [
                op(rest="GET /fapi/v1/ping", ws="ping", public=lambda _: {}),
                op(rest="GET /fapi/v1/time", ws="time", public=lambda _: {"serverTime": exchange.clock.time_ms()}),
                op(rest="GET /fapi/v1/exchangeInfo", public=markets.information),
                op(rest="GET /fapi/v1/depth", ws="depth", weight=_depth_weight, public=markets.depth),
                op(rest="GET /fapi/v1/trades", weight=5, public=markets.trades),
                op(rest="GET /fapi/v1/aggTrades", weight=20, public=markets.aggregate_trades),
                op(rest="GET /fapi/v1/klines", weight=5, public=markets.klines),
                op(rest="GET /fapi/v1/ticker/24hr", weight=_many(1, 40), public=markets.day),
                op(rest="GET /fapi/v1/ticker/price", weight=_many(1, 2), public=markets.last_price),
                op(
                    rest="GET /fapi/v2/ticker/price",
                    ws="ticker.price",
                    weight=_many(1, 2),
                    public=markets.last_price,
                ),
                op(
                    rest="GET /fapi/v1/ticker/bookTicker",
                    ws="ticker.book",
                    weight=_many(2, 5),
                    public=markets.book_ticker,
                ),
                op(rest="GET /fapi/v1/premiumIndex", weight=_many(1, 10), public=markets.premium_index),
                op(rest="GET /fapi/v1/fundingRate", public=markets.funding_rates),
                op(rest="GET /fapi/v1/fundingInfo", public=markets.funding_info),
                op(rest="POST /fapi/v1/order", ws="order.place", permission=trade, private=self._place, order=True),
                op(rest="POST /fapi/v1/order/test", permission=trade, private=self._test),
                op(rest="DELETE /fapi/v1/order", ws="order.cancel", permission=trade, private=trading.cancel),
                op(rest="GET /fapi/v1/order", ws="order.status", permission=read, private=trading.query),
                op(rest="POST /fapi/v1/batchOrders", permission=trade, weight=5, private=self._batch, order=True),
                op(rest="DELETE /fapi/v1/batchOrders", permission=trade, private=trading.cancel_batch),
                op(rest="DELETE /fapi/v1/allOpenOrders", permission=trade, private=trading.cancel_all),
                op(rest="GET /fapi/v1/openOrder", permission=read, private=trading.query_open),
                op(rest="GET /fapi/v1/openOrders", permission=read, weight=_many(1, 40), private=trading.open_orders),
                op(rest="GET /fapi/v1/allOrders", permission=read, weight=5, private=trading.all_orders),
                op(
                    rest="POST /fapi/v1/algoOrder",
                    ws="algoOrder.place",
                    permission=trade,
                    private=self._place_algo,
                    order=True,
                ),
                op(
                    rest="DELETE /fapi/v1/algoOrder",
                    ws="algoOrder.cancel",
                    permission=trade,
                    private=algos.cancel,
                ),
                op(rest="DELETE /fapi/v1/algoOpenOrders", permission=trade, private=algos.cancel_all),
                op(rest="GET /fapi/v1/algoOrder", permission=read, private=algos.query),
                op(rest="GET /fapi/v1/openAlgoOrders", permission=read, weight=_many(1, 40), private=algos.open_orders),
                op(rest="GET /fapi/v1/allAlgoOrders", permission=read, weight=5, private=algos.all_orders),
                op(rest="GET /fapi/v1/userTrades", permission=read, weight=5, private=trading.trades),
                op(
                    rest="GET /fapi/v2/account",
                    ws="account.status",
                    permission=read,
                    weight=5,
                    private=accounts.account_v2,
                ),
                op(
                    rest="GET /fapi/v3/account",
                    ws="v2/account.status",
                    permission=read,
                    weight=5,
                    private=accounts.account_v3,
                ),
                op(
                    rest="GET /fapi/v2/balance",
                    ws="account.balance",
                    permission=read,
                    weight=5,
                    private=accounts.balances,
                ),
                op(
                    rest="GET /fapi/v3/balance",
                    ws="v2/account.balance",
                    permission=read,
                    weight=5,
                    private=accounts.balances,
                ),
                op(
                    rest="GET /fapi/v2/positionRisk",
                    ws="account.position",
                    permission=read,
                    weight=5,
                    private=accounts.positions_v2,
                ),
                op(
                    rest="GET /fapi/v3/positionRisk",
                    ws="v2/account.position",
                    permission=read,
                    weight=5,
                    private=accounts.positions_v3,
                ),
                op(rest="GET /fapi/v1/accountConfig", permission=read, weight=5, private=accounts.config),
                op(rest="GET /fapi/v1/symbolConfig", permission=read, weight=5, private=accounts.symbol_config),
                op(rest="GET /fapi/v1/leverageBracket", permission=read, private=accounts.brackets),
                op(rest="GET /fapi/v1/commissionRate", permission=read, weight=20, private=accounts.commission),
                op(rest="GET /fapi/v1/income", permission=read, weight=30, private=accounts.income),
                op(rest="POST /fapi/v1/leverage", permission=trade, private=accounts.set_leverage),
                op(rest="POST /fapi/v1/marginType", permission=trade, private=accounts.set_margin_type),
                op(rest="POST /fapi/v1/positionMargin", permission=trade, private=accounts.set_position_margin),
                op(
                    rest="GET /fapi/v1/positionSide/dual",
                    permission=read,
                    weight=30,
                    private=accounts.position_mode,
                ),
                op(rest="POST /fapi/v1/positionSide/dual", permission=trade, private=accounts.set_position_mode),
                op(rest="GET /fapi/v1/multiAssetsMargin", permission=read, weight=30, private=accounts.assets_mode),
                op(rest="POST /fapi/v1/multiAssetsMargin", permission=trade, private=accounts.set_assets_mode),
                op(
                    rest="GET /fapi/v1/rateLimit/order",
                    permission=read,
                    private=lambda account, _: limits.order_rows(account.api_key),
                ),
                op(
                    rest="POST /fapi/v1/listenKey",
                    ws="userDataStream.start",
                    permission=read,
                    private=lambda account, _: {"listenKey": users.open(account)},
                    signed=False,
                ),
                op(
                    rest="PUT /fapi/v1/listenKey",
                    ws="userDataStream.ping",
                    permission=read,
                    private=lambda account, parameters: {"listenKey": self._keep(account, parameters)},
                    signed=False,
                ),
                op(
                    rest="DELETE /fapi/v1/listenKey",
                    ws="userDataStream.stop",
                    permission=read,
                    private=self._drop,
                    signed=False,
                ),
                op(rest="GET /sapi/v1/capital/config/getall", permission=read, weight=10, private=self._coins),
                # What a client asks of the spot host at its start: no margin market is there.
                *(
                    op(rest=f"GET /sapi/v1/margin/{name}", permission=read, private=lambda _account, _: [])
                    for name in ("allPairs", "isolated/allPairs", "allAssets")
                ),
            ]
        )

    def asked_for(self, reason: str, seconds: float, now_ms: int) -> ApiError:
        return errors.asked_for(reason, seconds, now_ms)

    def _place(self, account: Account, parameters: Parameters) -> dict[str, object]:
        new, response = self.trading.read_order(account, parameters)
        self.count(account)
        return self.trading.place(account, new, response)

    def _test(self, account: Account, parameters: Parameters) -> dict[str, object]:
        new, _ = self.trading.read_order(account, parameters)
        return self.trading.test(account, new)

    def _place_algo(self, account: Account, parameters: Parameters) -> dict[str, object]:
        new = self.algos.read(account, parameters)
        self.count(account)
        return self.algos.place(account, new)

    def _batch(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        rows = self.trading.read_batch(parameters)
        answers: list[dict[str, object]] = []
        for row in rows:
            try:
                answers.append(self._place(account, row))
            except ApiError as error:
                answers.append(error.body())
        return answers

    def count(self, account: Account) -> None:
        """Count a new order; raises -1015 when there are too many."""
        self.limits.check_orders(account.api_key)
        self.limits.count_order(account.api_key)

    def _keep(self, account: Account, parameters: Parameters) -> str:
        parameters.ignore("listenKey")
        return self.users.keep(account)

    def _drop(self, account: Account, parameters: Parameters) -> dict[str, object]:
        parameters.ignore("listenKey")
        self.users.drop(account)
        return {}

    def _coins(self, account: Account, _: Parameters) -> list[dict[str, object]]:
        coins = self.exchange.coins
        return [spot_codec.coin(coins[asset], account) for asset in spot_codec.assets(self.exchange, account)]


def _depth_weight(parameters: Parameters) -> int:
    limit = parameters.limit(default=500, most=1000)
    return 2 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20


def _many(one: int, every: int) -> Callable[[Parameters], int]:
    """Weight of a call about one symbol, and of one about all."""
    return lambda parameters: one if "symbol" in parameters else every
