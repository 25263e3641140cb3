"""OKX's algo orders on spot: conditional, OCO and trigger orders, and those attached to an ordinary order.

An algo order is an order list of the core with one leg or two, its ``algoId`` the list's id. A leg is an ordinary order
from the moment it is triggered, and no order at all before. Nothing is frozen while an algo order waits; one that
cannot be paid for when it is triggered has failed.

Source: https://www.okx.com/docs-v5/en/#order-book-trading-algo-trading
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec

from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.limits import Window
from exchangesim.core.market import SimMarket
from exchangesim.core.matching import floor_to
from exchangesim.core.order_lists import NewList, OrderList
from exchangesim.core.orders import CloseReason, NewOrder, Order, OrderType, Reject, Rejected, Side, Status, Trigger
from exchangesim.core.text import plain, read_decimal
from exchangesim.okx.desk import SIDES, OrderDesk, check_id, check_tag, whole
from exchangesim.okx.errors import OkxError, from_reject, missing, too_frequent, wrong

Row = dict[str, Any]
Arguments = Mapping[str, object]
TYPES = ("conditional", "oco", "trigger")
STATES = ("effective", "canceled", "order_failed")
MAX_CANCELS = 10
AT_MARKET = "-1"
# Parameters kept with the list, to be told again.
_KEPT = (
    "ordType",
    "tdMode",
    "tgtCcy",
    "sz",
    "tag",
    "clOrdId",
    "tpTriggerPx",
    "tpOrdPx",
    "tpOrdKind",
    "slTriggerPx",
    "slOrdPx",
    "triggerPx",
    "orderPx",
)


class AlgoDesk:
    """Places, cancels and describes algo orders of one exchange."""

    def __init__(self, exchange: SimExchange, desk: OrderDesk, *, limits: bool) -> None:
        self._exchange, self._desk, self._refuse = exchange, desk, limits
        self._places, self._cancels = (Window(exchange.clock, limit=20, seconds=2, aligned=False) for _ in range(2))

    def place(self, account: Account, arguments: Arguments) -> Row:
        """Return the row of trade/order-algo's answer."""
        row: Row = {name: str(arguments.get(name) or "") for name in ("algoClOrdId", "clOrdId", "tag")}
        row["algoId"] = ""
        try:
            self._count(account, arguments, self._places)
            market = self._desk.market(arguments)
            new = read_algo(arguments, market)
            try:
                placed = self._exchange.lists.place(account, new)
            except Rejected as rejected:
                raise _refusal(rejected, new, market) from None
            row |= {"algoId": str(placed.id), "sCode": "0", "sMsg": ""}
        except OkxError as error:
            row |= {"sCode": error.code, "sMsg": error.message}
        return row

    def cancel(self, account: Account, arguments: Sequence[Arguments]) -> list[Row]:
        """Return the rows of trade/cancel-algos' answer."""
        rows = []
        for one in arguments:
            row: Row = {name: str(one.get(name) or "") for name in ("algoClOrdId", "algoId", "clOrdId", "tag")}
            try:
                self._count(account, one, self._cancels)
                self._desk.market(one)
                found = self.find(account, one)
                if found is None or self.state(found) != "live":
                    raise from_reject(Rejected(Reject.ORDER_NOT_FOUND, "no such algo order"))
                self._exchange.lists.cancel(account, found)
                row |= {"algoId": str(found.id), "sCode": "0", "sMsg": ""}
            except OkxError as error:
                row |= {"sCode": error.code, "sMsg": error.message}
            rows.append(row)
        return rows

    def find(self, account: Account, arguments: Arguments) -> OrderList | None:
        """Return the algo order that ``algoId`` (first) or ``algoClOrdId`` names. Raises OkxError without either."""
        algo_id, client_id = str(arguments.get("algoId") or ""), str(arguments.get("algoClOrdId") or "")
        if not algo_id and not client_id:
            raise OkxError("50015", "Either parameter algoId or algoClOrdId is required")
        if algo_id:
            return self._exchange.lists.find(account, list_id=whole(algo_id))
        return self._exchange.lists.find(account, client_id=client_id)

    def query(self, account: Account, parameters: Mapping[str, str]) -> list[Row]:
        found = self.find(account, parameters)
        if found is None or self._hidden(found):
            raise OkxError("51603", "Order does not exist")
        return [self.row(found)]

    def pending(self, account: Account, parameters: Mapping[str, str]) -> list[Row]:
        found = reversed(self._exchange.lists.open_lists(account))
        return self._rows([one for one in found if self.state(one) == "live"], parameters)

    def history(self, account: Account, parameters: Mapping[str, str]) -> list[Row]:
        state = parameters.get("state", "")
        if not state and not parameters.get("algoId"):
            raise OkxError("50015", "Either parameter state or algoId is required")
        if state and state not in STATES:
            raise wrong("state")
        stored = self._exchange.store.order_lists(self._exchange.name, api_key=account.api_key, limit=10_000)
        done = [one for one in reversed(stored) if not one.is_open]
        return self._rows([one for one in done if not state or self.state(one) == state], parameters)

    def _rows(self, found: list[OrderList], parameters: Mapping[str, str]) -> list[Row]:
        types = parameters.get("ordType", "").split(",")
        if types == [""]:
            raise missing("ordType")
        if any(one not in TYPES for one in types) or (len(types) > 1 and set(types) != {"conditional", "oco"}):
            raise wrong("ordType")
        after, before = whole(parameters.get("after") or "0"), whole(parameters.get("before") or "0")
        wanted = [
            one
            for one in found
            if one.tags["ordType"] in types
            and not self._hidden(one)
            and all(
                not parameters.get(name) or parameters[name] == own
                for name, own in (("instId", one.native), ("algoId", str(one.id)), ("algoClOrdId", one.client_id))
            )
            and (not after or one.id < after)
            and (not before or one.id > before)
        ]
        return [self.row(one) for one in wanted[: whole(parameters.get("limit") or "100")]]

    def state(self, algo: OrderList) -> str:
        """Return the state of an algo order; ``pending`` of one whose order is not filled, or ended before it was."""
        legs = self._legs(algo)
        if any(leg.status is Status.PENDING_NEW or leg.close_reason is CloseReason.WORKING_ENDED for leg in legs):
            return "pending"
        if any(not leg.idle and leg.trigger is not None for leg in legs) or any(leg.filled for leg in legs):
            return "effective"
        if any(leg.close_reason is CloseReason.REFUSED for leg in legs):
            return "order_failed"
        return "live" if algo.is_open else "canceled"

    def row(self, algo: OrderList) -> Row:
        """Describe an algo order as queries and the ``orders-algo`` channel do."""
        legs = self._legs(algo)
        begun = next((leg for leg in legs if not leg.idle), None)
        state, kept = self.state(algo), algo.tags
        actual = None if begun is None or state != "effective" else begun
        size = plain(legs[0].quantity) if algo.legs_take_fill else kept.get("sz", "")
        side = legs[0].side
        return {
            "activePx": "",
            "actualPx": plain(actual.price) if actual is not None and actual.price else "",
            "actualSide": "" if actual is None else actual.tags.get("leg", ""),
            "actualSz": "" if actual is None else plain(actual.quantity),
            "algoClOrdId": algo.client_id,
            "algoId": str(algo.id),
            "amendPxOnTriggerType": "0",
            "attachAlgoOrds": [],
            "cTime": str(algo.created_ms),
            "callbackRatio": "",
            "callbackSpread": "",
            "ccy": "",
            "clOrdId": kept.get("clOrdId", ""),
            "closeFraction": "",
            "failCode": "51008" if state == "order_failed" else "",
            "instId": algo.native,
            "instType": "SPOT",
            "isTradeBorrowMode": "",
            "last": plain(self._exchange.markets[algo.native].last_price),
            "lever": "",
            "linkedOrd": {"ordId": str(algo.working) if algo.working else ""},
            "moveTriggerPx": "",
            "ordId": "" if actual is None else str(actual.id),
            "ordIdList": [] if actual is None else [str(actual.id)],
            "ordPx": kept.get("orderPx", ""),
            "ordType": kept["ordType"],
            "posSide": "net",
            "pxLimit": "",
            "pxSpread": "",
            "pxVar": "",
            "reduceOnly": "false",
            "side": side.lower(),
            "slOrdPx": kept.get("slOrdPx", ""),
            "slTriggerPx": kept.get("slTriggerPx", ""),
            "slTriggerPxType": "last" if kept.get("slTriggerPx") else "",
            "state": state,
            "sz": size,
            "szLimit": "",
            "tag": kept.get("tag", ""),
            "tdMode": kept.get("tdMode", "cash"),
            "tgtCcy": kept.get("tgtCcy", ""),
            "timeInterval": "",
            "tpOrdPx": kept.get("tpOrdPx", ""),
            "tpTriggerPx": kept.get("tpTriggerPx", ""),
            "tpTriggerPxType": "last" if kept.get("tpTriggerPx") else "",
            "triggerPx": kept.get("triggerPx", ""),
            "triggerPxType": "last" if kept.get("triggerPx") else "",
            "triggerTime": "" if actual is None else str(actual.working_ms),
            "uTime": str(algo.updated_ms),
        }

    def _legs(self, algo: OrderList) -> list[Order]:
        return [order for order in self._exchange.lists.orders(algo) if order.id != algo.working]

    def _hidden(self, algo: OrderList) -> bool:
        late = self._exchange.reads.hides(algo.created_ms, self._exchange.clock.time_ms())
        return late or self.state(algo) == "pending"

    def _count(self, account: Account, arguments: Arguments, window: Window) -> None:
        if "trade" not in account.permissions:
            raise from_reject(Rejected(Reject.PERMISSION, "may not trade"))
        if not window.spend(f"{account.uid}:{arguments.get('instId')}").allowed and self._refuse:
            raise too_frequent()


def read_algo(arguments: Arguments, market: SimMarket) -> NewList:
    """Read the arguments of a new algo order. Raises OkxError naming the first parameter that is wrong."""
    # ccxt sends ``cross`` for every algo order on spot, for it had ``cash`` refused.
    if _text(arguments, "tdMode") not in ("cash", "cross"):
        raise wrong("tdMode")
    side = SIDES.get(_text(arguments, "side"))
    if side is None:
        raise wrong("side")
    kind = _text(arguments, "ordType")
    if kind not in TYPES:
        raise wrong("ordType")
    size = read_decimal(_text(arguments, "sz"))
    if size is None or size == 0:
        raise wrong("sz")
    check_id(arguments, "algoClOrdId")
    check_tag(arguments)
    target = str(arguments.get("tgtCcy") or ("quote_ccy" if side is Side.BUY else "base_ccy"))
    if target not in ("base_ccy", "quote_ccy"):
        raise wrong("tgtCcy")
    by_quote = side is Side.BUY and target == "quote_ccy"
    if kind == "trigger":
        price = _price(arguments, "triggerPx")
        trigger = Trigger(price=price, rises=price > market.last_price, reserves=False)
        legs = [_leg(arguments, market, side, size, trigger, "orderPx", "trigger", by_quote=by_quote)]
    else:
        names = [name for name in ("tp", "sl") if arguments.get(f"{name}TriggerPx")]
        if kind == "oco" and len(names) < 2:
            raise missing("slTriggerPx" if names == ["tp"] else "tpTriggerPx")
        if not names:
            raise OkxError("50015", "Either parameter tpTriggerPx or slTriggerPx is required")
        if kind == "conditional" and len(names) == 2:
            names = ["sl"]  # of both, only the stop loss takes effect
        legs = [_exit(arguments, market, side, size, name, by_quote=by_quote) for name in names]
    return NewList(legs=tuple(legs), client_id=str(arguments.get("algoClOrdId") or ""), tags=_kept(arguments))


def read_attached(arguments: Arguments, market: SimMarket, working: NewOrder) -> NewList | None:
    """Read what is attached to an order: the exits of what it brings. None when nothing is. Raises OkxError."""
    attached = arguments.get("attachAlgoOrds")
    if not attached:
        return None
    if not isinstance(attached, list) or len(attached) != 1 or not isinstance(attached[0], dict):
        raise wrong("attachAlgoOrds")  # several take-profits for parts of the order are not there
    exits = attached[0]
    check_id(exits, "attachAlgoClOrdId")
    side = working.side.opposite
    # What the legs' quantity will be is known when the order is filled; until then about what it asks for.
    size = working.quantity or floor_to((working.quote_quantity or Decimal(0)) / market.last_price, market.rules.lot)
    legs = []
    for name in ("tp", "sl"):
        if name == "tp" and exits.get("tpOrdKind") == "limit":
            price = _price(exits, "tpOrdPx")
            legs.append(
                NewOrder(
                    native=market.native,
                    side=side,
                    type=OrderType.LIMIT,
                    price=price,
                    quantity=size,
                    tags={"leg": "tp"},
                )
            )
        elif exits.get(f"{name}TriggerPx"):
            legs.append(_exit(exits, market, side, size, name))
    if not legs:
        raise wrong("attachAlgoOrds")
    tags = _kept(exits) | {"ordType": "oco" if len(legs) == 2 else "conditional", "tdMode": "cash"}
    client_id = str(exits.get("attachAlgoClOrdId") or "")
    told = {**exits, "attachAlgoClOrdId": client_id, "attachAlgoId": ""}
    kept = {**working.tags, "attached": msgspec.json.encode(told).decode()}
    return NewList(
        legs=tuple(legs),
        working=replace(working, tags=kept),
        client_id=client_id,
        legs_take_fill=True,
        tags=tags,
    )


def _exit(
    arguments: Arguments, market: SimMarket, side: Side, size: Decimal, name: str, *, by_quote: bool = False
) -> NewOrder:
    """Read the take-profit (``tp``) or stop-loss (``sl``) leg."""
    price = _price(arguments, f"{name}TriggerPx")
    if str(arguments.get(f"{name}TriggerPxType") or "last") != "last":
        raise wrong(f"{name}TriggerPxType")
    trigger = Trigger(price=price, rises=(name == "tp") == (side is Side.SELL), reserves=False)
    return _leg(arguments, market, side, size, trigger, f"{name}OrdPx", name, by_quote=by_quote)


def _leg(
    arguments: Arguments,
    market: SimMarket,
    side: Side,
    size: Decimal,
    trigger: Trigger,
    price_name: str,
    name: str,
    *,
    by_quote: bool,
) -> NewOrder:
    at_market = _text(arguments, price_name) == AT_MARKET
    by_quote = by_quote and at_market
    client_id = str(arguments.get("algoClOrdId") or arguments.get("attachAlgoClOrdId") or "")
    return NewOrder(
        native=market.native,
        side=side,
        type=OrderType.MARKET if at_market else OrderType.LIMIT,
        price=None if at_market else _price(arguments, price_name),
        quantity=None if by_quote else size,
        quote_quantity=size if by_quote else None,
        trigger=trigger,
        tags={"leg": name, "tag": str(arguments.get("tag") or ""), "algoClOrdId": client_id},
    )


def _refusal(rejected: Rejected, new: NewList, market: SimMarket) -> OkxError:
    """Return the error for a refused algo order; of triggers that are reached already it names the one."""
    if rejected.reason not in (Reject.WOULD_TRIGGER, Reject.PRICE_RELATION):
        return from_reject(rejected, market)
    for leg in new.legs:
        name, trigger = leg.tags["leg"], leg.trigger
        if trigger is not None and trigger.reached(market.last_price) and name in ("tp", "sl"):
            where = "lower" if trigger.rises else "higher"
            code = {("tp", "higher"): "51277", ("sl", "lower"): "51278", ("tp", "lower"): "51279"}
            return OkxError(
                code.get((name, where), "51280"),
                f"{name.upper()} trigger price can not be {where} than the last price",
            )
    return wrong("triggerPx")


def _kept(arguments: Arguments) -> dict[str, str]:
    return {name: str(arguments[name]) for name in _KEPT if arguments.get(name) not in (None, "")}


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if value in (None, ""):
        raise missing(name)
    return str(value)


def _price(arguments: Arguments, name: str) -> Decimal:
    price = read_decimal(_text(arguments, name))
    if price is None or price == 0:
        raise wrong(name)
    return price
