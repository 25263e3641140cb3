"""The dashboard at one moment: what is stored, valued at this process's newest quotes, and how it is connected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from bots.live_cache import last_known
from bots.live_desk import DeskAccount, DeskMoney, Prices, balances, positions
from bots.live_desk_schema import AccountState, Connection, Dashboard, EngineHealth
from bots.live_schema import Feed
from bots.models import Bot
from bots.selectors.dashboard import desk_lists, desk_money
from trading.messages import TradeMode

# An engine speaks once a second: after so long it is not there.
SILENT_SECONDS = 5.0
BROKEN, STARTING = frozenset({"down", "failed"}), frozenset({"blocked", "starting", "connecting", "stale"})


Reading = TypeVar("Reading")
SHARED_SECONDS = 0.2  # for so long all pages of a process share one reading of quotes and feeds


class _Shared(Generic[Reading]):
    """A reading of what this process last heard."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read
        self._taken: tuple[float, Reading] | None = None

    def now(self) -> Reading:
        moment = time.monotonic()
        if self._taken is None or moment - self._taken[0] >= SHARED_SECONDS:
            self._taken = moment, self._read()
        return self._taken[1]


_prices = _Shared(lambda: Prices(last_known.latest("quote")))
_feeds = _Shared(lambda: [msgspec.convert(data, Feed) for data in last_known.latest("feed")])


def prices_now() -> Prices:
    """Return this process's newest quotes, a moment old at most."""
    return _prices.now()


def dashboard(*, owner_id: int, mode: str) -> tuple[Dashboard, DeskMoney]:
    """Return everything a desk shows, and the money behind it for what follows."""
    money = desk_money(owner_id=owner_id, mode=mode)
    lists = desk_lists(owner_id=owner_id, mode=mode)
    prices = Prices(last_known.latest("quote"))
    now = time.time()
    wanted = any(bot["desired"] == Bot.Desired.RUNNING for bot in lists["bots"])
    data = {
        "mode": mode,
        "balance": msgspec.to_builtins(balances(money, prices, now=now)),
        "positions": msgspec.to_builtins(positions(money.positions, prices)),
        **lists,
        "connection": msgspec.to_builtins(connection_now(owner_id, mode, money.accounts, is_wanted=wanted, now=now)),
        "server_time": now,
    }
    return msgspec.convert(data, Dashboard), money


def connection_now(
    owner_id: int, mode: str, accounts: Mapping[int, DeskAccount], *, is_wanted: bool, now: float
) -> Connection:
    """Return how a desk is connected, by what its engine and the feeds said last."""
    told = last_known.get("health", str(owner_id))
    engine = None if told is None else msgspec.convert(told, EngineHealth)
    return connection(mode, accounts, engine, _feeds.now(), is_wanted=is_wanted, now=now)


def connection(
    mode: str,
    accounts: Mapping[int, DeskAccount],
    engine: EngineHealth | None,
    feeds: Iterable[Feed],
    *,
    is_wanted: bool,
    now: float,
) -> Connection:
    """Return a desk's connection as one light with its reason, and what it is made of.

    ``is_wanted`` says that a bot of the desk should run, so that an engine is missed.
    """
    if engine is not None and now - engine.at > SILENT_SECONDS:
        engine = None
    if engine is None:
        states = [_stored(account) for account in accounts.values()]
    else:
        told = {
            one.account_id: one for one in engine.accounts if (one.environment == TradeMode.PAPER) == (mode == "paper")
        }
        states = [told.get(key) or _stored(account) for key, account in accounts.items()]
    exchanges = {account.exchange for account in accounts.values()}
    shown = [feed for feed in feeds if feed.exchange in exchanges]
    light, reason = _light(engine, states, shown, is_wanted)
    return Connection(
        state=light,
        reason=reason,
        accounts=states,
        feeds=shown,
        engine=engine,
        stages=[] if engine is None else engine.stages,
    )


def _light(
    engine: EngineHealth | None, accounts: Sequence[AccountState], feeds: Sequence[Feed], is_wanted: bool
) -> tuple[Any, str]:
    """Return the worst there is, and its reason in one sentence."""
    if engine is None:
        if is_wanted:
            return "red", f"The engine has said nothing for more than {SILENT_SECONDS:.0f} s: nothing is traded."
        return "yellow", "No engine runs: no bot of this desk is started."
    if engine.halted:
        return "red", f"The engine has halted: {engine.halted}"
    named = [(one.state, f"account {one.account} on {one.exchange}", one.reason) for one in accounts]
    named += [(one.status, f"market data of {one.exchange}", one.reason) for one in feeds]
    for light, bad in (("red", BROKEN), ("yellow", STARTING)):
        for state, name, reason in named:
            if state in bad:
                return light, f"{name} is {state}{': ' if reason else ''}{reason}".removesuffix(".") + "."
    if engine.lag:
        return "yellow", engine.lag
    for one in accounts:
        if one.path == "rest" and one.path_reason:
            return "yellow", f"account {one.account} on {one.exchange} sends orders by REST: {one.path_reason}"
    return "green", ""


def _stored(account: DeskAccount) -> AccountState:
    is_paper = account.environment == TradeMode.PAPER
    return AccountState(
        account_id=account.account_id,
        account=account.label,
        exchange=account.exchange,
        environment=TradeMode(account.environment),
        state="idle" if is_paper else account.state,
        reason="" if is_paper else account.reason,
        path="paper" if is_paper else "",
        path_reason="",
        answer_ms=None,
    )
