"""Conditional orders: the calls of the algo service."""

from __future__ import annotations

from exchangesim.binance.errors import NO_SUCH_ORDER, ApiError, missing, missing_both, not_required
from exchangesim.binance.parameters import Parameters
from exchangesim.binance.trading import market_of
from exchangesim.binance_usdm import codec
from exchangesim.binance_usdm.errors import refusal
from exchangesim.binance_usdm.trading import CONDITIONAL, Trading, known_symbol, read_client_id
from exchangesim.core.accounts import Account
from exchangesim.core.futures.algo_orders import AlgoOrder, NewAlgo
from exchangesim.core.futures.algos import MARK
from exchangesim.core.futures.exchange import FuturesExchange
from exchangesim.core.orders import Rejected, TimeInForce
from exchangesim.core.triggers import LAST

_SOURCES = {"MARK_PRICE": MARK, "CONTRACT_PRICE": LAST}


class AlgoCalls:
    """Each takes read parameters and returns the answer's value."""

    def __init__(self, exchange: FuturesExchange, trading: Trading) -> None:
        self._exchange, self._trading = exchange, trading

    def read(self, account: Account, parameters: Parameters) -> NewAlgo:
        """Read a new conditional order; raises ApiError."""
        if parameters.need("algoType") != "CONDITIONAL":
            raise ApiError(-1130, "Data sent for parameter 'algoType' is not valid.")
        market = market_of(self._exchange, parameters.symbol())
        side, position_side, reduce_only = self._trading.read_sides(account, parameters)
        kind = parameters.need("type")
        if kind == "TRAILING_STOP_MARKET":
            raise ApiError(-4136, "TRAILING_STOP_MARKET is not simulated.")
        if kind not in CONDITIONAL:
            raise ApiError(-1116, "Invalid orderType.")
        trigger, price, quantity = (parameters.amount(name) for name in ("triggerPrice", "price", "quantity"))
        closes = parameters.flag("closePosition", default=False)
        if trigger is None:
            raise missing("triggerPrice")
        at_market = kind.endswith("_MARKET")
        if at_market and price is not None:
            raise not_required("price")
        if not at_market and price is None:
            raise missing("price")
        if closes and not at_market:
            raise ApiError(-4136, f"Target strategy invalid for orderType {kind},closePosition true")
        if closes and quantity is not None:
            raise ApiError(-4137, "Quantity must be zero with closePosition equals true")
        if closes and reduce_only:
            raise ApiError(-4138, "Reduce only must be true with closePosition equals true")
        if not closes and quantity is None:
            raise missing("quantity")
        force = parameters.word(
            "timeInForce", ("GTC", "IOC", "FOK", "GTX", "GTE_GTC"), ApiError(-1115, "Invalid timeInForce.")
        )
        source = parameters.word("workingType", _SOURCES, ApiError(-4115, "Invalid working type."))
        parameters.word("newOrderRespType", ("ACK", "RESULT"), ApiError(-1130, "Invalid newOrderRespType."))
        return NewAlgo(
            native=market.native,
            side=side,
            takes_profit=kind.startswith("TAKE_PROFIT"),
            trigger_price=trigger,
            source=_SOURCES[source or "CONTRACT_PRICE"],
            price=price,
            quantity=None if closes else quantity,
            time_in_force=TimeInForce(force) if force in tuple(TimeInForce) else TimeInForce.GTC,
            post_only=force == "GTX",
            position_side=position_side,
            reduce_only=reduce_only,
            protected=parameters.flag("priceProtect", default=False),
            client_id=read_client_id(parameters, "clientAlgoId") or "",
        )

    def place(self, account: Account, new: NewAlgo) -> dict[str, object]:
        try:
            return self._written(self._exchange.algos.place(account, new))
        except Rejected as rejected:
            raise refusal(rejected) from None

    def cancel(self, account: Account, parameters: Parameters) -> dict[str, object]:
        known_symbol(self._exchange, parameters.symbol())
        algo_id, client_id = _identity(parameters)
        try:
            algo = self._exchange.algos.cancel(account, algo_id=algo_id, client_id=client_id)
        except Rejected as rejected:
            raise refusal(rejected) from None
        return {"algoId": algo.id, "clientAlgoId": algo.client_id, "code": "200", "msg": "success"}

    def cancel_all(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        for algo in self._exchange.algos.open_orders(account, market.native):
            self._exchange.algos.cancel(account, algo_id=algo.id)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def query(self, account: Account, parameters: Parameters) -> dict[str, object]:
        known_symbol(self._exchange, parameters.symbol())
        algo_id, client_id = _identity(parameters)
        algo = self._exchange.algos.find(account, algo_id=algo_id, client_id=client_id)
        if algo is None:
            raise ApiError(*NO_SUCH_ORDER)
        return self._written(algo)

    def open_orders(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        parameters.ignore("algoType")
        native, algo_id = known_symbol(self._exchange, parameters.symbol()), parameters.integer("algoId")
        found = self._exchange.algos.open_orders(account, native)
        return [self._written(algo) for algo in found if algo_id in (None, algo.id)]

    def all_orders(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        from_id, start = parameters.integer("algoId"), parameters.integer("startTime")
        parameters.ignore("page")
        found = self._exchange.store.algos(
            self._exchange.name,
            api_key=account.api_key,
            native=market.native,
            from_id=from_id,
            start_ms=start,
            end_ms=parameters.integer("endTime"),
            newest=from_id is None and start is None,
            limit=parameters.limit(default=500, most=1000),
        )
        return [self._written(algo) for algo in found]

    def _written(self, algo: AlgoOrder) -> dict[str, object]:
        return codec.algo_order(algo, self._exchange.markets[algo.native].rules)


def _identity(parameters: Parameters) -> tuple[int | None, str | None]:
    algo_id, client_id = parameters.integer("algoId"), parameters.text("clientAlgoId")
    if algo_id is None and client_id is None:
        raise missing_both("clientAlgoId", "algoId")
    return algo_id, None if algo_id is not None else client_id
