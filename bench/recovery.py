"""From the start of a host to trading again, after a kill -9 that left many orders unfinished; and a takeover's time.

Real processes on the configured kind of database, in a database of its own. An owner's bot trades on three simulated
exchanges; its host is killed, and ``orders`` more orders are put where such a host leaves them: on the exchanges, and
PLACED in the database. ``filled``: they were executed while nobody looked. ``resting``: they stand on the book, past
their deadline, and have to be cancelled one by one.

An engine lets no account trade while the outcome of one of its orders is not known, so ``trading_s``, to the first
order of a new trade, is the time until each is known: what rests (``left``) goes on being cancelled, until
``settled_s``. The killed host's lease is ended, as an embedded start
does; how long another host waits for it is measured apart (``takeover``).
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import QuerySet

from bench.snapshot import own_database
from bots.models import UNFINISHED_ORDERS, Bot, Order, OwnerLease
from bots.services.engine import engine_config
from bots.services.events import events_apply
from bots.services.leases import leases_end
from bots.services.trades import intents_unfold, trade_commit
from trading.clock import SystemClock
from trading.config import AccountConfig, OwnerConfig
from trading.execution.ids import client_order_id, trade_id
from trading.instruments import Market, money
from trading.messages import OrderEvent, OrderIntent, OrderState, TimeInForce, TradeRecord, TradeState

if TYPE_CHECKING:
    from tests.crash.stage import Stage

ORDERS = 1_000
AT_ONCE = 24
SEQUENCE = 1_000_000  # beyond what the killed host has counted to
LIMIT_SECONDS = 600.0
# Several markets: exchanges let an account have 200 orders open in one.
QUANTITIES = {"BTC/USDT": Decimal("0.001"), "ETH/USDT": Decimal("0.02"), "SOL/USDT": Decimal("0.3")}
TIMEOUT_NS = 15_000_000_000
# Prices by side: through the book, or so far from it that nobody comes.
PRICES = {"filled": {"buy": "1.02", "sell": "0.98"}, "resting": {"buy": "0.7", "sell": "1.3"}}


def measure(folder: Path, *, orders: int = ORDERS) -> dict[str, Any]:
    """Measure on the present database, which must be empty; durations are seconds."""
    try:
        from tests.crash.stage import Stage  # noqa: PLC0415 (needs the tests' packages)
    except ImportError as problem:
        raise SystemExit(f"arb: this benchmark needs the tests' packages ({problem}): ./arb test --help") from None
    result: dict[str, Any] = {"database": connection.vendor, "orders": orders}
    with Stage(folder) as stage:
        host = stage.nursery.start()
        _wait(lambda: stage.arrived() > 0)
        result["takeover"], host = _takeover(stage, host)
        for kind in PRICES:
            _come_to_rest(stage)
            stage.nursery.kill(host)
            leases_end()
            _leave_orders(stage, kind, orders)
            token = OwnerLease.objects.get().token
            unfinished = Order.objects.filter(state__in=UNFINISHED_ORDERS).count()
            began = time.monotonic()
            host = stage.nursery.start()
            _wait(lambda token=token: OwnerLease.objects.get().token > token)
            leased = time.monotonic() - began
            _wait(lambda token=token: _has_opened(token))
            result[kind] = {
                "unfinished": unfinished,
                "lease_s": round(leased, 2),
                "trading_s": round(time.monotonic() - began, 2),
                "left": _left(token).count(),
            }
            _wait(lambda token=token: not _left(token).exists())
            result[kind]["settled_s"] = round(time.monotonic() - began, 2)
    return result


def _left(token: int) -> QuerySet[Order]:
    """Return the orders of this token and before that have not ended."""
    return Order.objects.filter(state__in=UNFINISHED_ORDERS, lease_token__lte=token)


def _has_opened(token: int) -> bool:
    """Return whether a trade was opened (not only repaired) under a later token than this one."""
    return Order.objects.filter(lease_token__gt=token, attempt=0).exists()


def _takeover(stage: Stage, host: int) -> tuple[dict[str, float], int]:
    """Kill a host beside which another waits; return the times from the kill, and the other's process."""
    other = stage.nursery.start()
    time.sleep(1.0)  # it has looked by now; nothing is measured here
    token = OwnerLease.objects.get().token
    began = time.monotonic()
    stage.nursery.kill(host)
    _wait(lambda: OwnerLease.objects.get().token > token)
    leased = time.monotonic() - began
    _wait(lambda: _has_opened(token))
    return {"lease_s": round(leased, 2), "trading_s": round(time.monotonic() - began, 2)}, other


def _come_to_rest(stage: Stage) -> None:
    """Let what is under way end: the proof that an order never arrived takes 25 s, and is not what is measured here."""
    from tests.crash.loop import is_quiet  # noqa: PLC0415 (needs the tests' packages)

    stage.stop_bots()
    _wait(lambda: not Bot.objects.exclude(observed_state=Bot.Observed.STOPPED).exists())
    _wait(is_quiet)


def _leave_orders(stage: Stage, kind: str, orders: int) -> None:
    """Put orders on the exchanges and in the database as a host that is killed right after sending leaves them."""
    # What is committed needs a lease that is held.
    OwnerLease.objects.update(expires_at="2100-01-01T00:00Z")
    Bot.objects.update(desired_state=Bot.Desired.RUNNING)
    config = engine_config(owner_id=stage.owners[0].pk, token=OwnerLease.objects.get().token)
    intents = _commit(stage, config, kind, orders)
    intents_unfold(owner_id=config.owner_id)
    leases_end()
    answers = asyncio.run(_place(config, intents))
    events_apply(owner_id=config.owner_id, batch=[(answer, OrderState.PLACED) for answer in answers])


async def _place(config: OwnerConfig, intents: Sequence[OrderIntent]) -> list[OrderEvent]:
    """Send orders; return the exchanges' answers as a venue would tell them."""
    answers: list[OrderEvent] = []
    limited = asyncio.Semaphore(AT_ONCE)

    async def place(client: Any, intent: OrderIntent, dialect: Any) -> None:
        symbol, quantity, price = intent.market.partition(":")[2], f"{intent.quantity:f}", f"{intent.price:f}"
        async with limited:
            order = await client.create_order(
                symbol, "limit", intent.side, quantity, price, dialect.order_params(intent)
            )
        answers.append(
            OrderEvent(
                account_id=intent.account_id,
                market=intent.market,
                client_order_id=intent.client_order_id,
                exchange_order_id=str(order["id"]),
                state=OrderState.PLACED,
                source="answer",
                received_ns=time.time_ns(),
            )
        )

    async def place_all(account: AccountConfig) -> None:
        # Without the venue's request budget, which would take minutes for as many orders.
        venue = _venue(account, [market for market in _markets(config) if market.exchange == account.exchange.code])
        try:
            await venue._client.load_markets()
            mine = [intent for intent in intents if intent.account_id == account.account_id]
            await asyncio.gather(*(place(venue._client, intent, venue.dialect) for intent in mine))
        finally:
            await venue._client.close()

    await asyncio.gather(*(place_all(account) for account in config.accounts))
    return answers


def _commit(stage: Stage, config: OwnerConfig, kind: str, orders: int) -> list[OrderIntent]:
    markets = {(market.exchange, market.symbol): market for market in _markets(config)}
    mids = {key: _mid(stage.simulator.market(key[0].removesuffix("-sim"), key[1])) for key in markets}
    bot = config.bots[0]
    exchanges, symbols = sorted(bot.accounts), list(QUANTITIES)
    made: list[OrderIntent] = []
    sequence = SEQUENCE * (1 + list(PRICES).index(kind))
    now = time.time_ns() - (0 if kind == "filled" else 2 * TIMEOUT_NS)
    for number in range(orders // 2):
        symbol = symbols[number // len(exchanges) % len(symbols)]
        buy, sell = (exchanges[(number + leg) % len(exchanges)] for leg in range(2))
        legs = [(markets[buy, symbol], "buy"), (markets[sell, symbol], "sell")]
        trade = TradeRecord(
            trade_id=trade_id(config.id_prefix, config.owner_id, config.lease_token, sequence + number),
            bot_id=bot.bot_id,
            route=">".join(market.key for market, _ in legs),
            base=symbol.partition("/")[0],
            quote="USDT",
            state=TradeState.OPEN,
            mode="simulated",
            quantity=QUANTITIES[symbol],
            expected_net_bps=Decimal(1),
            expected_profit=Decimal("0.01"),
            opened_ns=now,
        )
        intents = []
        for leg, (market, side) in enumerate(legs):
            price = (
                mids[market.exchange, symbol] * Decimal(PRICES[kind][side]) / market.tick
            ).to_integral_value() * market.tick
            intents.append(
                OrderIntent(
                    client_order_id=client_order_id(trade.trade_id, leg, 0),
                    trade_id=trade.trade_id,
                    account_id=bot.accounts[market.exchange],
                    market=market.key,
                    leg=leg,
                    attempt=0,
                    side=side,  # type: ignore[arg-type]
                    time_in_force=TimeInForce.IOC if kind == "filled" else TimeInForce.GTC,
                    price=money(price),
                    quantity=trade.quantity,
                    deadline_ns=now + TIMEOUT_NS,
                    created_ns=now,
                    reserve_asset="USDT" if side == "buy" else trade.base,
                    reserve_amount=money(price * trade.quantity) if side == "buy" else trade.quantity,
                )
            )
        trade_commit(owner_id=config.owner_id, token=config.lease_token, trade=trade, intents=intents)
        made += intents
    return made


def _markets(config: OwnerConfig) -> list[Market]:
    return list({market.key: market for bot in config.bots for market in bot.markets}.values())


def _mid(shown: Mapping[str, Any]) -> Decimal:
    return (Decimal(shown["bids"][0][0]) + Decimal(shown["asks"][0][0])) / 2


def _venue(account: AccountConfig, markets: list[Market]) -> Any:
    from trading.exchanges.generic.venue import build_venue  # noqa: PLC0415 (ccxt takes a second)

    return build_venue(account, markets, SystemClock())


def _wait(condition: Any) -> None:
    from tests.crash.stage import until  # noqa: PLC0415 (needs the tests' packages)

    until(condition, "trading goes on", LIMIT_SECONDS)


def run() -> dict[str, Any]:
    """Measure in a database of its own."""
    with tempfile.TemporaryDirectory(prefix="arb-bench-") as folder, own_database():
        return measure(Path(folder))


def table(result: Mapping[str, Any]) -> str:
    """Return the result as text lines."""
    columns = ("unfinished", "lease_s", "trading_s", "left", "settled_s")
    return "\n".join(
        [
            f"A new host after kill -9 on {result['database']}, {result['orders']} unfinished orders on three "
            "accounts, seconds from its start",
            "  ".join(f"{name:>10}" for name in ("", *columns)),
            *(
                "  ".join([f"{kind:>10}", *(f"{result[kind][name]:>10}" for name in columns)])
                for kind in PRICES
                if kind in result
            ),
            "Another host beside it, seconds from the kill: lease {lease_s}, first new trade {trading_s}".format(
                **result["takeover"]
            ),
        ]
    )
