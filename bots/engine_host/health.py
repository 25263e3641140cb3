"""What an engine says of itself to the dashboard, once a second: accounts, order paths, latencies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trading.engine import Engine
from trading.execution.bots import LIVE
from trading.messages import OrdersBy, TradeMode
from trading.portfolio import Purse
from trading.ports import Clock, Publisher

HEALTH_SECONDS = 1.0


async def report_health(engine: Engine, publisher: Publisher, clock: Clock) -> None:
    """Publish an engine's health until cancelled."""
    owner_id = engine.config.owner_id
    while True:
        publisher.publish(owner_id, "health", str(owner_id), health(engine, clock.time_ns()))
        await clock.sleep(HEALTH_SECONDS)


def health(engine: Engine, now_ns: int) -> Mapping[str, object]:
    """Return an engine's health as docs/live-dashboard.md has it."""
    status = engine.status()
    return {
        "owner_id": engine.config.owner_id,
        "at": now_ns / 1e9,
        "halted": status.halted,
        "stopping": status.stopping,
        "lag": engine.lag.fault(),
        "open_trades": len(status.open_trades),
        "unresolved_orders": len(status.unresolved_orders),
        "accounts": list(_accounts(engine)),
        "stages": [
            {"stage": stage, **{name: figures[name] for name in ("count", "p50_us", "p99_us", "max_us")}}
            for stage, figures in status.latency.items()
        ],
    }


def _accounts(engine: Engine) -> Iterator[Mapping[str, object]]:
    views = engine.account_views()
    by_id = {account.account_id: account for account in engine.config.accounts}
    for purse, stream in engine.accounts.streams.items():
        account = by_id.get(purse.account_id)
        if account is None:
            continue  # taken out of the configuration a moment ago
        state, _, reason = stream.partition(": ")
        if not purse.paper:
            state, reason = views[purse.account_id].state, views[purse.account_id].reason
        path, why = _path(engine, purse)
        seconds = engine.desk.answer_seconds.get(purse)
        yield {
            "account_id": purse.account_id,
            "account": account.label,
            "exchange": account.exchange.code,
            "environment": TradeMode.PAPER.value if purse.paper else TradeMode(account.exchange.environment).value,
            "state": state,
            "reason": "" if state == LIVE else reason,
            "path": path,
            "path_reason": why,
            "answer_ms": None if purse.paper or not seconds else round(seconds * 1000, 1),
        }


def _path(engine: Engine, purse: Purse) -> tuple[str, str]:
    """Return how a purse's orders leave now, and why it is not by WebSocket where it could be."""
    if purse.paper:
        return "paper", ""
    told = engine.accounts.order_paths.get(purse)
    if told is None:
        return "rest", ""  # there is but one way
    return ("websocket", "") if told.by is OrdersBy.WEBSOCKET else ("rest", told.reason)
