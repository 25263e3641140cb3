"""The calls about accounts, positions and their settings."""

from __future__ import annotations

from exchangesim.binance.errors import ApiError, illegal_characters, missing
from exchangesim.binance.parameters import Parameters
from exchangesim.binance.trading import market_of
from exchangesim.binance_usdm import codec
from exchangesim.binance_usdm.errors import refusal
from exchangesim.binance_usdm.trading import known_symbol
from exchangesim.core.accounts import Account
from exchangesim.core.futures.exchange import FuturesExchange, leverage_allowed
from exchangesim.core.orders import PositionSide, Reject, Rejected

_DONE = {"code": 200, "msg": "success"}


class AccountCalls:
    """Each takes read parameters and returns the answer's value."""

    def __init__(self, exchange: FuturesExchange) -> None:
        self._exchange = exchange

    def account_v2(self, account: Account, _: Parameters) -> dict[str, object]:
        return codec.account_information(self._exchange, account, full=True, every_position=True)

    def account_v3(self, account: Account, _: Parameters) -> dict[str, object]:
        return codec.account_information(self._exchange, account, full=False, every_position=False)

    def balances(self, account: Account, _: Parameters) -> list[dict[str, object]]:
        return codec.balances(self._exchange, account)

    def positions_v2(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        return self._positions(account, parameters, old=True)

    def positions_v3(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        return self._positions(account, parameters, old=False)

    def _positions(self, account: Account, parameters: Parameters, *, old: bool) -> list[dict[str, object]]:
        exchange = self._exchange
        native = known_symbol(exchange, parameters.symbol())
        row = codec.position_risk_v2 if old else codec.position_risk
        return [
            row(exchange.margin(account, figure.rules.quote), figure)
            for figure in codec.position_margins(exchange, account, native, empty=old)
        ]

    def config(self, account: Account, _: Parameters) -> dict[str, object]:
        return {
            "feeTier": 0,
            "canTrade": "trade" in account.permissions,
            "canDeposit": True,
            "canWithdraw": "withdraw" in account.permissions,
            "dualSidePosition": self._exchange.settings(account).hedged,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def symbol_config(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        native = known_symbol(self._exchange, parameters.symbol())
        return [
            codec.symbol_config(self._exchange, account, name)
            for name in self._exchange.markets
            if native in (None, name)
        ]

    def brackets(self, _: Account, parameters: Parameters) -> object:
        native = known_symbol(self._exchange, parameters.symbol())
        rows = [
            codec.leverage_brackets(market.rules)
            for name, market in self._exchange.markets.items()
            if native in (None, name)
        ]
        return rows[0] if native is not None else rows

    def commission(self, _: Account, parameters: Parameters) -> dict[str, object]:
        rules = market_of(self._exchange, parameters.symbol()).rules
        return {
            "symbol": rules.native,
            "makerCommissionRate": f"{rules.maker_fee:.6f}",
            "takerCommissionRate": f"{rules.taker_fee:.6f}",
        }

    def set_leverage(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        leverage = parameters.integer("leverage")
        if leverage is None:
            raise missing("leverage")
        if not leverage_allowed(market.rules, leverage):
            raise ApiError(-4028, f"Leverage {leverage} is not valid")
        try:
            self._exchange.set_leverage(account, market.native, leverage)
        except Rejected as rejected:
            if rejected.reason is Reject.POSITION_LIMIT:
                raise refusal(rejected) from None
            if market.native in self._exchange.settings(account).isolated:
                text = "Leverage reduction is not supported in Isolated Margin Mode with open positions."
                raise ApiError(-4161, text) from None
            raise ApiError(-2028, "Leverage is smaller than permitted: insufficient margin balance.") from None
        config = codec.symbol_config(self._exchange, account, market.native)
        return {name: config[name] for name in ("leverage", "maxNotionalValue", "symbol")}

    def set_margin_type(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        kind = parameters.need("marginType")
        if kind not in ("ISOLATED", "CROSSED"):
            raise ApiError(-4049, "Invalid marginType.")
        isolated = kind == "ISOLATED"
        if isolated == (market.native in self._exchange.settings(account).isolated):
            raise ApiError(-4046, "No need to change margin type.")
        try:
            self._exchange.set_isolated(account, market.native, isolated)
        except Rejected as rejected:
            what = "open orders" if rejected.reason is Reject.ORDER_CLOSED else "position"
            code = -4047 if rejected.reason is Reject.ORDER_CLOSED else -4048
            raise ApiError(code, f"Margin type cannot be changed if there exists {what}.") from None
        return _DONE

    def set_position_margin(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        amount, kind = parameters.amount("amount"), parameters.need("type")
        side = parameters.word("positionSide", tuple(PositionSide), ApiError(-4060, "Invalid position side."))
        if amount is None:
            raise missing("amount")
        if kind not in ("1", "2"):
            raise illegal_characters("type", "1|2")
        if amount <= 0:
            raise ApiError(-4052, "Invalid amount.")
        try:
            self._exchange.add_margin(
                account, market.native, PositionSide(side or "BOTH"), amount if kind == "1" else -amount
            )
        except Rejected as rejected:
            if rejected.reason is Reject.POSITION_SIDE:
                raise ApiError(-4046, "Cannot add position margin: position is 0 or not isolated.") from None
            raise ApiError(-4051, "Isolated balance insufficient.") from None
        return {"code": 200, "msg": "Successfully modify position margin.", "amount": float(amount), "type": int(kind)}

    def position_mode(self, account: Account, _: Parameters) -> dict[str, object]:
        return {"dualSidePosition": self._exchange.settings(account).hedged}

    def set_position_mode(self, account: Account, parameters: Parameters) -> dict[str, object]:
        parameters.need("dualSidePosition")
        hedged = parameters.flag("dualSidePosition", default=False)
        if hedged == self._exchange.settings(account).hedged:
            raise ApiError(-4059, "No need to change position side.")
        try:
            self._exchange.set_hedged(account, hedged)
        except Rejected as rejected:
            what = "open orders" if rejected.reason is Reject.ORDER_CLOSED else "position"
            code = -4067 if rejected.reason is Reject.ORDER_CLOSED else -4068
            raise ApiError(code, f"Position side cannot be changed if there exists {what}.") from None
        return _DONE

    def assets_mode(self, _account: Account, _: Parameters) -> dict[str, object]:
        return {"multiAssetsMargin": False}

    def set_assets_mode(self, _: Account, parameters: Parameters) -> dict[str, object]:
        parameters.need("multiAssetsMargin")
        several = parameters.flag("multiAssetsMargin", default=False)
        if several:
            raise ApiError(-4169, "Unable to adjust Multi-Assets Mode: this simulation has the single-asset mode only.")
        raise ApiError(-4171, "Adjusted asset mode is currently set and does not need to be adjusted repeatedly")

    def income(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        native = known_symbol(self._exchange, parameters.symbol())
        start = parameters.integer("startTime")
        entries = self._exchange.store.entries(
            self._exchange.name,
            api_key=account.api_key,
            native=native,
            kind=parameters.text("incomeType"),
            start_ms=start,
            end_ms=parameters.integer("endTime"),
            newest=start is None,
            limit=parameters.limit(default=100, most=1000),
        )
        return [codec.income(entry) for entry in entries if entry.amount]
