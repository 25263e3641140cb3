"""What changed on a desk since the last frame, in the messages of docs/live-dashboard.md.

Published items come in, messages go out: the newest of each type and key. What is worth something is valued again at
the newest quotes, and told when it is worth something else.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from bots.fields import exact_sum
from bots.live_desk import MARKED, MODES, DeskMoney, Holding, Prices, balances, positions
from bots.live_desk_schema import Balance, Connection, Dashboard, Order
from trading.instruments import money as amount
from trading.messages import TradeMode, TradeState
from trading.tickets import STOP_LOSS_LEG, TAKE_PROFIT_LEG

logger = logging.getLogger(__name__)

Item = Mapping[str, Any]
Message = tuple[str, dict[str, Any]]

MAX_WAITING = 5_000
# What is stored may be as much older than what was published: a snapshot is followed by what came in this time.
REPLAY_SECONDS = 5.0
MAX_REPLAYED = 2_000
MAX_TOLD = 5_000
# How often a connection is told when only its figures move.
FIGURES_SECONDS = 5.0
OVER = frozenset({TradeState.CLOSED.value, TradeState.FAILED.value})
LEG_TYPES = {TAKE_PROFIT_LEG: "take_profit", STOP_LOSS_LEG: "stop_loss"}


class DeskChanges:
    """The changes of one open page."""

    def __init__(
        self, mode: str, *, monotonic: Callable[[], float] = time.monotonic, wall_time: Callable[[], float] = time.time
    ) -> None:
        self._mode = mode
        self._modes = MODES[mode]
        self._monotonic, self._wall_time = monotonic, wall_time
        self._money: DeskMoney | None = None
        self._bots: dict[int, str] = {}  # of this desk: what is wanted of each
        self._waiting: dict[tuple[str, str], dict[str, Any]] = {}
        self._recent: deque[tuple[float, Item]] = deque(maxlen=MAX_REPLAYED)
        self._balances: dict[tuple[str, str], Balance] = {}  # as last told
        self._positions: Any = None
        self._connection: tuple[Any, float] = (None, 0.0)
        self._told_orders: OrderedDict[str, None] = OrderedDict()  # orders the engine publishes itself
        self.money_changed = False  # something was earned: fees were paid
        # A position of a contract whose size is not known here: what is stored says.
        self.is_missing = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def money(self) -> DeskMoney | None:
        """What the desk has; None before the first snapshot."""
        return self._money

    @property
    def is_wanted(self) -> bool:
        """Whether a bot of the desk should run."""
        return "running" in self._bots.values()

    def begin(self, shown: Dashboard, money: DeskMoney) -> None:
        """Go on from a snapshot; what was published just before is taken again, for it may not be stored yet."""
        self._money = money
        self._bots = {bot.id: bot.desired for bot in shown.bots}
        self._balances = {(line.environment.value, line.quote): line for line in shown.balance}
        self._positions = shown.positions
        self._connection = (_steady(shown.connection), self._monotonic())
        self.is_missing = False
        oldest, newest = self._monotonic() - REPLAY_SECONDS, dict[tuple[str, str], Item]()
        for at, item in self._recent:
            if at >= oldest:  # what was told later is behind it: an older word would undo what the snapshot shows
                name = (item["kind"], item["key"])
                newest.pop(name, None)
                newest[name] = item
        for item in newest.values():
            self._take(item)

    def take(self, items: Iterable[Item]) -> bool:
        """Take published items; False when a snapshot is due: too many came, or something is not known here."""
        now = self._monotonic()
        # What no snapshot will need any more would be most of what a page holds.
        while self._recent and self._recent[0][0] < now - REPLAY_SECONDS:
            self._recent.popleft()
        for item in items:
            self._recent.append((now, item))
            self._take(item)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.clear()
            return False
        return not self.is_missing

    def mark(self, prices: Prices) -> None:
        """Value everything at the newest quotes; what is worth something else waits to be told."""
        if self._money is None:
            return
        for line in balances(self._money, prices, now=self._wall_time()):
            key = (line.environment.value, line.quote)
            known = self._balances.get(key)
            if known is None or msgspec.structs.replace(known, at=line.at) != line:
                self._balances[key] = line
                self._wait("balance", ":".join(key), msgspec.to_builtins(line))
        held = positions(self._money.positions, prices)
        if held != self._positions:
            self._positions = held
            self._wait("positions", "", msgspec.to_builtins(held))

    def connect(self, connection: Connection) -> None:
        """Tell a connection that is another than before; mere figures less often."""
        now, steady = self._monotonic(), _steady(connection)
        known, told_at = self._connection
        if steady != known or now - told_at >= FIGURES_SECONDS:
            self._connection = (steady, now)
            self._wait("connection", "", msgspec.to_builtins(connection))

    def messages(self) -> list[Message]:
        """Return what waits, in the order it came, and forget it."""
        waiting, self._waiting = self._waiting, {}
        orders = [data for (kind, _), data in waiting.items() if kind == "orders"]
        found = [(kind, data) for (kind, _), data in waiting.items() if kind != "orders"]
        if orders:  # one message for all of them
            found.append(("orders", {"items": orders}))
        return found

    def _wait(self, kind: str, key: str, data: dict[str, Any]) -> None:
        self._waiting[kind, key] = data

    def _take(self, item: Item) -> None:
        taker = _TAKERS.get(item["kind"])
        if taker is not None:
            taker(self, item["key"], item["data"])

    def _trade(self, key: str, data: dict[str, Any]) -> None:
        if data["mode"] not in self._modes:
            return
        self._wait("trade", key, data)
        if data["state"] in OVER and self._money is not None and self._money.positions.pop(key, None) is not None:
            self.money_changed = True
        for leg in data["legs"]:
            if leg["client_order_id"] not in self._told_orders:
                self._wait("orders", leg["client_order_id"], self._order_of(data, leg))

    def _order_of(self, trade: Mapping[str, Any], leg: Mapping[str, Any]) -> dict[str, Any]:
        """Return the order of a trade's leg; its account is named where the exchange has but one of the desk's."""
        accounts = () if self._money is None else self._money.accounts.values()
        labels = [account.label for account in accounts if account.exchange == leg["exchange"]]
        wanted, filled = amount(leg["quantity"]), amount(leg["filled"])
        return {
            "id": leg["client_order_id"],
            "trade_id": trade["id"],
            "environment": trade["mode"],
            "exchange": leg["exchange"],
            "account": labels[0] if len(labels) == 1 else "",
            "symbol": leg["symbol"],
            # Third legs of routes are orders like the others: a route of two markets has both in its name.
            "type": "limit" if ">" in trade["route"] else LEG_TYPES.get(leg["leg"], "limit"),
            "side": leg["side"],
            "status": leg["state"],
            "price": leg["price"],
            "trigger": None,
            "amount": leg["quantity"],
            "filled": leg["filled"],
            "remaining": f"{exact_sum([wanted, filled.copy_negate()]):f}",
            "average": leg["average"],
            "path": "paper" if trade["mode"] == TradeMode.PAPER else leg.get("path", ""),
            "by_hand": ">" not in trade["route"],
            "at": self._wall_time(),
        }

    def _order(self, key: str, data: dict[str, Any]) -> None:
        if data.get("environment") not in self._modes:
            return
        self._told_orders[key] = None
        while len(self._told_orders) > MAX_TOLD:
            self._told_orders.popitem(last=False)
        self._wait("orders", key, msgspec.to_builtins(msgspec.convert(data, Order)))

    def _opportunity(self, key: str, data: dict[str, Any]) -> None:
        if data["bot_id"] in self._bots:
            self._wait("opportunity", key, data)

    def _bot(self, key: str, data: dict[str, Any]) -> None:
        if data["mode"] == self._mode:
            self._bots[data["id"]] = data["desired"]
            self._wait("bot", key, data)

    def _balance(self, key: str, data: dict[str, Any]) -> None:
        if self._money is not None and data["account_id"] in self._money.accounts:
            total = exact_sum([amount(data["free"]), amount(data["used"])])
            self._money.held[data["account_id"], data["asset"]] = total

    def _pnl(self, key: str, data: dict[str, Any]) -> None:
        if self._money is not None and data["mode"] in self._modes:
            self._money.realized[data["mode"], data["quote"]] = Decimal(data["total"])
            self.money_changed = True

    def _progress(self, key: str, data: dict[str, Any]) -> None:
        if data["path"] == "" or (data["path"] == "paper") == (self._mode == "paper"):
            self._wait("progress", f"{data['command_id']}:{key}", data)

    def _position(self, key: str, data: dict[str, Any]) -> None:
        if self._money is None or data["environment"] not in self._modes:
            return
        known, size = self._money.positions.get(key), amount(data["size"])
        trade = self._waiting.get(("trade", key))
        if not size or (trade is not None and trade["state"] in OVER):  # what is left of a closed trade is dust
            self._money.positions.pop(key, None)
            return
        if known is None and ":" in data["symbol"]:
            self.is_missing = True
            return
        facts = {name: value for name, value in data.items() if name not in MARKED}
        self._money.positions[key] = Holding(
            market=f"{data['exchange']}:{data['symbol']}",
            kind="spot" if known is None else known.kind,
            contract_size=Decimal(1) if known is None else known.contract_size,
            entry=None if data["entry_price"] is None else amount(data["entry_price"]),
            size=size,
            mark=None if known is None else known.mark,
            facts=facts,
        )

    def _breaker(self, key: str, data: dict[str, Any]) -> None:
        self._wait("breaker", key, data)

    def _switch(self, key: str, data: dict[str, Any]) -> None:
        self._wait("switch", key, data)


_TAKERS: Mapping[str, Callable[[DeskChanges, str, dict[str, Any]], None]] = {
    "trade": DeskChanges._trade,
    "order": DeskChanges._order,
    "opportunity": DeskChanges._opportunity,
    "bot": DeskChanges._bot,
    "balance": DeskChanges._balance,
    "pnl": DeskChanges._pnl,
    "progress": DeskChanges._progress,
    "position": DeskChanges._position,
    "breaker": DeskChanges._breaker,
    "switch": DeskChanges._switch,
}


def _steady(connection: Connection) -> Any:
    """Return what of a connection is worth telling at once: all but its figures."""
    accounts = [msgspec.structs.replace(one, answer_ms=None) for one in connection.accounts]
    feeds = [(feed.exchange, feed.status, feed.reason) for feed in connection.feeds]
    engine = connection.engine
    life = None if engine is None else (engine.halted, engine.stopping, engine.lag)
    return connection.state, connection.reason, accounts, feeds, life
