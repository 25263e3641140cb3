"""Binance USD-M futures: what its answers to a new order prove."""

from __future__ import annotations

from collections.abc import Mapping

from trading.exchanges.binance import outcomes as spot
from trading.exchanges.outcomes import OutcomeRow, Table, rejected, unknown
from trading.exchanges.retries import Trouble
from trading.messages import Outcome

ERRORS = "https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code"
LIMITS = "https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info: HTTP return codes"
ALGO = (
    "https://developers.binance.com/docs/derivatives/change-log, 2025-11-06: conditional orders moved to the algo "
    "service"
)

TABLE = Table(
    [
        *unknown(
            ERRORS,
            [
                ("-1000", "UNKNOWN"),
                ("-1001", "DISCONNECTED"),
                ("-1006", "UNEXPECTED_RESP: execution status unknown"),
                ("-1007", "TIMEOUT: execution status unknown"),
                ("-1008", "request throttled by the system's protection"),
                ("-1016", "SERVICE_SHUTTING_DOWN"),
                # The first order with this id may live: this answer says nothing of it but that.
                ("-4115", "DUPLICATED_CLIENT_TRAN_ID"),
                ("-4116", "the client order id is taken"),
            ],
        ),
        *rejected(
            ERRORS,
            [
                ("-1002", "UNAUTHORIZED"),
                ("-1003", "TOO_MANY_REQUESTS"),
                ("-1013", "INVALID_MESSAGE"),
                ("-1014", "UNKNOWN_ORDER_COMPOSITION"),
                ("-1015", "TOO_MANY_ORDERS"),
                ("-1020", "UNSUPPORTED_OPERATION"),
                ("-1021", "INVALID_TIMESTAMP"),
                ("-1022", "INVALID_SIGNATURE"),
                ("-1100", "ILLEGAL_CHARS"),
                ("-1101", "TOO_MANY_PARAMETERS"),
                ("-1102", "MANDATORY_PARAM_EMPTY_OR_MALFORMED"),
                ("-1103", "UNKNOWN_PARAM"),
                ("-1104", "UNREAD_PARAMETERS"),
                ("-1105", "PARAM_EMPTY"),
                ("-1106", "PARAM_NOT_REQUIRED"),
                ("-1111", "BAD_PRECISION"),
                ("-1114", "TIF_NOT_REQUIRED"),
                ("-1115", "INVALID_TIF"),
                ("-1116", "INVALID_ORDER_TYPE"),
                ("-1117", "INVALID_SIDE"),
                ("-1118", "EMPTY_NEW_CL_ORD_ID"),
                ("-1121", "BAD_SYMBOL"),
                ("-1122", "INVALID_SYMBOL_STATUS"),
                ("-1128", "OPTIONAL_PARAMS_BAD_COMBO"),
                ("-1130", "INVALID_PARAMETER"),
                ("-1136", "INVALID_NEW_ORDER_RESP_TYPE"),
                ("-2010", "NEW_ORDER_REJECTED"),
                ("-2014", "BAD_API_KEY_FMT"),
                ("-2015", "REJECTED_MBX_KEY"),
                ("-2018", "BALANCE_NOT_SUFFICIENT"),
                ("-2019", "MARGIN_NOT_SUFFICIENT"),
                ("-2021", "ORDER_WOULD_IMMEDIATELY_TRIGGER"),
                ("-2022", "REDUCE_ONLY_REJECT"),
                ("-2023", "USER_IN_LIQUIDATION"),
                ("-2024", "POSITION_NOT_SUFFICIENT"),
                ("-2025", "MAX_OPEN_ORDER_EXCEEDED"),
                ("-2026", "REDUCE_ONLY_ORDER_TYPE_NOT_SUPPORTED"),
                ("-2027", "MAX_LEVERAGE_RATIO"),
                ("-2028", "MIN_LEVERAGE_RATIO"),
                ("-4001", "PRICE_LESS_THAN_ZERO"),
                ("-4002", "PRICE_GREATER_THAN_MAX_PRICE"),
                ("-4003", "QTY_LESS_THAN_ZERO"),
                ("-4004", "QTY_LESS_THAN_MIN_QTY"),
                ("-4005", "QTY_GREATER_THAN_MAX_QTY"),
                ("-4006", "STOP_PRICE_LESS_THAN_ZERO"),
                ("-4007", "STOP_PRICE_GREATER_THAN_MAX_PRICE"),
                ("-4013", "PRICE_LESS_THAN_MIN_PRICE"),
                ("-4014", "PRICE_NOT_INCREASED_BY_TICK_SIZE"),
                ("-4015", "INVALID_CL_ORD_ID_LEN"),
                ("-4016", "PRICE_HIGHTER_THAN_MULTIPLIER_UP"),
                ("-4023", "QTY_NOT_INCREASED_BY_STEP_SIZE"),
                ("-4024", "PRICE_LOWER_THAN_MULTIPLIER_DOWN"),
                ("-4028", "INVALID_LEVERAGE"),
                ("-4045", "REACH_MAX_STOP_ORDER_LIMIT"),
                ("-4060", "INVALID_POSITION_SIDE"),
                ("-4061", "POSITION_SIDE_NOT_MATCH"),
                ("-4062", "REDUCE_ONLY_CONFLICT"),
                ("-4118", "REDUCE_ONLY_MARGIN_CHECK_FAILED"),
                ("-4130", "a stop or take profit that closes the position exists"),
                ("-4131", "MARKET_ORDER_REJECT: the price filter"),
                ("-4136", "INVALID_ACTIVATION_PRICE or strategy"),
                ("-4137", "QUANTITY_EXISTS_WITH_CLOSE_POSITION"),
                ("-4138", "REDUCE_ONLY_MUST_BE_TRUE"),
                ("-4141", "the symbol is closed"),
                ("-4144", "INVALID_PAIR"),
                ("-4164", "MIN_NOTIONAL"),
                ("-4192", "COOLING_OFF_PERIOD"),
                ("-4400", "TRADING_QUANTITATIVE_RULE: only reductions are taken"),
                ("-4401", "LARGE_POSITION_SYM_RULE: only reductions are taken"),
                ("-4402", "COMPLIANCE_RESTRICTION: only reductions are taken"),
                ("-4403", "COMPLIANCE_LEVERAGE_RESTRICTION"),
                ("-4509", "TIF_GTE without a position or an open order"),
                ("-5021", "FOK_ORDER_REJECT"),
                ("-5022", "GTX_ORDER_REJECT"),
            ],
        ),
        *rejected(ALGO, [("-4120", "STOP_ORDER_SWITCH_ALGO: conditional orders go to the algo service")]),
        OutcomeRow(outcome=Outcome.REJECTED, http=429, meaning="a request limit was reached", source=LIMITS),
        OutcomeRow(outcome=Outcome.REJECTED, http=418, meaning="the IP address is banned", source=LIMITS),
    ]
)

# Questions, cancellations, clocks and keys are answered with spot's codes.
NOT_FOUND, GONE, CLOCK = spot.NOT_FOUND, spot.GONE, spot.CLOCK
TROUBLES: Mapping[str, Trouble] = dict(spot.TROUBLES)
# The account's position mode is another than we know of.
SETTINGS = frozenset({"-4061"})
