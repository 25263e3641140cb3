"""OKX's algo orders on spot: one ``oco`` order stands for two of ours, a ``conditional`` one for one.

An algo order is named after the take-profit if there is one, so that its name is known from either intent. Nothing is
frozen while it waits. Once triggered it becomes an ordinary order with an id of its own and no client id: whose it is,
the algo order says (``actualSide``), or else the limit price, which differs between the two.

Source: OKX API v5 guide, Order Book Trading, Algo Trading.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from trading.exchanges.generic.dialect import NS_PER_MS, Raw, decimal, plain
from trading.exchanges.protection import Exits
from trading.instruments import Market
from trading.messages import OrderEvent, OrderIntent, OrderKind, OrderState

KEPT = 10_000
TYPES = "conditional,oco"
SHORT = {OrderKind.TAKE_PROFIT: "tp", OrderKind.STOP_LOSS: "sl"}
WAITING = frozenset({"live", "pause"})
ENDED = frozenset({"canceled", "order_failed", "partially_failed"})
TRIGGERED = frozenset({"effective", "partially_effective"})
SIDE, END = "side", "end"


class Leg(msgspec.Struct, frozen=True):
    """One of our orders behind an algo order: its client id, empty if it isn't known, and its limit price."""

    client_order_id: str
    price: Decimal | None


def algo_name(intent: OrderIntent) -> str:
    """Return the ``algoClOrdId`` of the algo order that stands for this order."""
    return intent.linked if intent.kind is OrderKind.STOP_LOSS and intent.linked else intent.client_order_id


def request(exits: Exits, market: Market) -> dict[str, str]:
    """Return the parameters of ``trade/order-algo``."""
    first = exits.intents[0]
    given = {
        "instId": market.native_id,
        "tdMode": "cash",
        "side": first.side,
        "ordType": "oco" if exits.is_pair else "conditional",
        "sz": plain(first.quantity),
        "tgtCcy": "base_ccy",
        "algoClOrdId": algo_name(first),
    }
    for intent in exits.intents:
        short = SHORT[intent.kind]
        assert intent.trigger is not None
        given |= {
            f"{short}TriggerPx": plain(intent.trigger),
            f"{short}OrdPx": plain(intent.price),
            f"{short}TriggerPxType": "last",
        }
    return given


class Algos:
    """Which of our orders stand behind algo orders, and behind the orders those have become."""

    def __init__(self) -> None:
        self._legs: OrderedDict[str, dict[str, Leg]] = OrderedDict()  # by name of the algo order, then tp or sl
        self._owners: OrderedDict[str, str] = OrderedDict()  # client id by id of an order that was an algo order

    def learn(self, intent: OrderIntent) -> None:
        """Take note of one of our own orders, and of the other one of its pair."""
        legs = self._of(algo_name(intent))
        short = SHORT[intent.kind]
        legs[short] = Leg(intent.client_order_id, intent.price)
        if intent.linked:
            other = "sl" if short == "tp" else "tp"
            legs[other] = Leg(intent.linked, legs[other].price if other in legs else None)

    def learn_row(self, row: Raw) -> dict[str, Leg]:
        """Take note of an algo order as the exchange describes it; return what stands behind it."""
        name = str(row.get("algoClOrdId") or "")
        legs = self._of(name) if name else {}
        shorts = [short for short in ("tp", "sl") if row.get(f"{short}TriggerPx")]
        for short in shorts:
            named = name if short == shorts[0] else ""
            known = legs.get(short)
            legs[short] = Leg(known.client_order_id if known else named, decimal(row.get(f"{short}OrdPx")))
        became = legs.get(side_of(row))
        if (order_id := order_of(row)) and became is not None and became.client_order_id:
            self.own(order_id, became.client_order_id)
        return legs

    def own(self, order_id: str, client_id: str) -> None:
        """Take note of whose an order is; an empty id: none of ours."""
        self._owners[order_id] = client_id
        self._owners.move_to_end(order_id)
        while len(self._owners) > KEPT:
            self._owners.popitem(last=False)

    def owner(self, row: Raw) -> str | None:
        """Return the client id of an order that was an algo order; None when that isn't known."""
        order_id = str(row["ordId"])
        if known := self._owners.get(order_id):
            return known
        price = decimal(row.get("px"))
        legs = self._legs.get(str(row.get("algoClOrdId") or ""), {})
        found = [leg.client_order_id for leg in legs.values() if len(legs) == 1 or (price and leg.price == price)]
        if len(found) == 1 and found[0]:
            self.own(order_id, found[0])
            return found[0]
        return None

    def known(self, order_id: str) -> str | None:
        """Return what :meth:`own` was told of an order, None if nothing was."""
        return self._owners.get(order_id)

    def _of(self, name: str) -> dict[str, Leg]:
        legs = self._legs.setdefault(name, {})
        self._legs.move_to_end(name)
        while len(self._legs) > KEPT:
            self._legs.popitem(last=False)
        return legs


class Triggered:
    """Algo orders that were triggered, by name, and what of it the stream has told.

    Two channels on two connections tell it, in any order: ``orders-algo`` which of our orders it has become, ``orders``
    what that order does. Until the former and the end of the latter were told, a part may be late or lost.
    """

    def __init__(self) -> None:
        self._told: OrderedDict[str, set[str]] = OrderedDict()
        self._owed: dict[str, None] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._told

    @property
    def owed(self) -> list[str]:
        """The names of which a part is owed, oldest first."""
        return list(self._owed)

    def by_algo(self, row: Raw) -> bool:
        """Hear an algo order, as its own channel tells it; return whether from now on a part is owed."""
        return str(row.get("state")) in TRIGGERED and self._hear(row, SIDE)

    def by_order(self, row: Raw, *, is_end: bool) -> bool:
        """Hear an order, which may have been an algo order, and whether this is its end; return as above."""
        return not row.get("clOrdId") and self._hear(row, END if is_end else "")

    def is_over(self, name: str) -> bool:
        """Return whether the order it has become was told to have ended."""
        return END in self._told.get(name, ())

    def settle(self, name: str) -> None:
        """Owe nothing more of one that was asked for: what its order does from now on are news as any order's."""
        self._owed.pop(name, None)

    def _hear(self, row: Raw, part: str) -> bool:
        name = str(row.get("algoClOrdId") or "")
        if not name:
            return False
        is_new = name not in self._told
        if is_new:
            self._told[name] = set()
            self._owed[name] = None
        self._told[name].add(part)
        if {SIDE, END} <= self._told[name]:
            self.settle(name)
        while len(self._told) > KEPT:
            self.settle(self._told.popitem(last=False)[0])
        return is_new


def side_of(row: Raw) -> str:
    """Return which of the two, ``tp`` or ``sl``, an algo order has become; empty while it hasn't."""
    if str(row.get("state")) not in TRIGGERED:
        return ""
    told = str(row.get("actualSide") or "")
    shorts = [short for short in ("tp", "sl") if row.get(f"{short}TriggerPx")]
    return told or (shorts[0] if len(shorts) == 1 else "")


def order_of(row: Raw) -> str:
    """Return the id of the order an algo order has become; empty while there is none."""
    return str(row.get("ordId") or next(iter(row.get("ordIdList") or ()), ""))


def read_leg(row: Raw, short: str, *, account_id: int, market: str, client_id: str, source: str) -> OrderEvent:
    """Return what an algo order says of one of ours that has not become an order."""
    state, became = str(row.get("state")), side_of(row)
    if state in ENDED or (became and became != short):
        known = OrderState.CANCELLED
    elif state in WAITING:
        known = OrderState.PLACED
    else:
        known = OrderState.UNKNOWN
    return OrderEvent(
        account_id=account_id,
        market=market,
        client_order_id=client_id,
        state=known,
        filled=Decimal(0) if known is not OrderState.UNKNOWN else None,
        source=source,
        cause=_cause(row, state, became),
        exchange_ns=int(row.get("uTime") or 0) * NS_PER_MS,
    )


def _cause(row: Mapping[str, Any], state: str, became: str) -> str:
    if state in {"order_failed", "partially_failed"}:
        return f"it was triggered and could not be placed: {row.get('failCode') or 'no reason was given'}"
    return "the other order of its pair was triggered" if became else ""
