"""Items as an engine publishes them, and the way they take: the channel layer."""

from __future__ import annotations

import time
from typing import Any

from channels.layers import get_channel_layer

from bots.live_cache import PUBLIC_GROUP, owner_group
from bots.live_schema import check_item


def item(kind: str, key: str, data: dict[str, Any]) -> dict[str, Any]:
    check_item(kind, key, data)
    return {"kind": kind, "key": key, "data": data}


def quote(
    exchange: str = "binance-sim",
    symbol: str = "BTC/USDT",
    *,
    bid: float = 50_000.1,
    ask: float = 50_000.2,
    status: str = "live",
    received_at: float | None = None,
) -> dict[str, Any]:
    market = f"{exchange}:{symbol}"
    data = {
        "market": market,
        "exchange": exchange,
        "symbol": symbol,
        "bid": bid,
        "bid_size": 0.5,
        "ask": ask,
        "ask_size": 0.75,
        "status": status,
        "reason": "" if status == "live" else "no message for 6 s",
        "received_at": time.time() if received_at is None else received_at,
    }
    return item("quote", market, data)


def feed(exchange: str = "binance-sim", *, status: str = "live", reason: str = "") -> dict[str, Any]:
    data = {
        "exchange": exchange,
        "status": status,
        "reason": reason,
        "messages_per_second": 40.0,
        "gaps": 0,
        "reconnects": 0,
        "bad_messages": 0,
        "age_ms": 20.0,
        "at": time.time(),
    }
    return item("feed", exchange, data)


def pnl(total: str, *, asset: str = "USDT", mode: str = "paper", at: float | None = None) -> dict[str, Any]:
    data = {"mode": mode, "quote": asset, "total": total, "at": time.time() if at is None else at}
    return item("pnl", f"{mode}:{asset}", data)


def bot(bot_id: int, name: str, *, desired: str, observed: str, reason: str = "") -> dict[str, Any]:
    data = {"id": bot_id, "name": name, "mode": "paper", "desired": desired, "observed": observed, "reason": reason}
    return item("bot", str(bot_id), data)


def leg(number: int, side: str, exchange: str, price: str, *, state: str = "FILLED") -> dict[str, Any]:
    filled = state == "FILLED"
    return {
        "leg": number,
        "attempt": 0,
        "exchange": exchange,
        "symbol": "BTC/USDT",
        "side": side,
        "price": price,
        "quantity": "0.01",
        "filled": "0.01" if filled else "0",
        "average": price if filled else None,
        "fee": "0.05" if filled else None,
        "fee_asset": "USDT",
        "state": state,
        "client_order_id": f"published{number}{exchange[:2]}",
    }


def trade(
    trade_id: str = "published-1",
    *,
    bot_id: int = 1,
    state: str = "CLOSED",
    profit: str | None = "0.3125",
    residual: str = "0",
    opened_at: float | None = None,
    mode: str = "paper",
) -> dict[str, Any]:
    opened = time.time() if opened_at is None else opened_at
    second = "FILLED" if state == "CLOSED" else "SENDING"
    data = {
        "id": trade_id,
        "bot_id": bot_id,
        "bot": "majors",
        "route": f"{bot_id}:okx-sim:BTC/USDT>binance-sim:BTC/USDT",
        "state": state,
        "mode": mode,
        "quantity": "0.01",
        "base": "BTC",
        "quote": "USDT",
        "expected_bps": "6.25",
        "expected_profit": "0.3125",
        "profit": profit,
        "residual": residual,
        "exposure": "0",
        "reason": "",
        "opened_at": opened,
        "closed_at": opened + 0.2 if state == "CLOSED" else None,
        "legs": [leg(0, "buy", "okx-sim", "50000.5"), leg(1, "sell", "binance-sim", "50031.75", state=second)],
    }
    return item("trade", trade_id, data)


def position(
    size: str, *, trade_id: str = "by-hand", entry: str = "50000", mode: str = "paper", **more: Any
) -> dict[str, Any]:
    """Return what a trade by hand holds."""
    data = {
        "id": trade_id, "trade_id": trade_id, "environment": mode, "account_id": 1, "account": "main",
        "exchange": "binance-sim", "symbol": "BTC/USDT", "side": "long", "entry_price": entry, "mark_price": None,
        "size": size, "unrealized_pnl": None, "quote": "USDT", "leverage": None, "liquidation_price": None,
        "take_profit": None, "stop_loss": None, "protected_by": "", "protection_note": "", "opened_at": time.time(),
    } | more  # fmt: skip
    return {"kind": "position", "key": trade_id, "data": data}


def pair(trade_id: str = "pair-1", *, state: str = "HOLDING", mode: str = "paper", **figures: Any) -> dict[str, Any]:
    """A trade that holds spot on one exchange against a perpetual on another."""
    told = trade(trade_id, state=state, profit=None, mode=mode)
    told["data"]["pair"] = {
        "spot": "okx-sim:BTC/USDT",
        "perp": "binance-sim:BTC/USDT:USDT",
        "held": "0.01",
        "spot_price": "50000.5",
        "perp_price": "50500",
        "entry_bps": "69.87",
        "exit_bps": "-4.25",
        "exit_at": time.time(),
        "funding": "0.125",
        "is_estimated": mode == "paper",
        "liquidation_bps": 4_512.5,
        "closing": "",
        **figures,
    }
    return told


async def publish(*items: dict[str, Any], owner: int | None = None, **numbering: Any) -> None:
    """Send items to everybody, or to one owner's pages."""
    group = PUBLIC_GROUP if owner is None else owner_group(owner)
    layer = get_channel_layer()
    assert layer is not None
    await layer.group_send(group, {"type": "live.items", "items": list(items), **numbering})
