"""A desk on a simulated exchange whose book is set by hand, and the host that carries out what its pages ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from django.contrib.auth.models import User

from bots.engine_host.host import EngineHost
from bots.models import Asset, ExchangeAccount, TradingPair
from bots.services.accounts import account_create
from bots.services.exchanges import exchange_create, markets_sync
from bots.services.markets import KINDS, SPOT
from tests.exchanges.venue_rig import spec_of
from tests.exchangesim.simulator import Simulator
from tests.live.desk import make_user
from trading.config import Credentials
from trading.exchanges.markets import load_markets
from trading.instruments import Market

Result = TypeVar("Result")

NAME, SYMBOL = "binance", "BTC/USDT"
BALANCES = {"USDT": "1000000", "BTC": "20"}
PRICE = Decimal(50_000)
SPREAD = Decimal(10)
DEPTH = Decimal(50)
BREATH_SECONDS = 0.1
PATIENCE_SECONDS = 60.0


class Floor:
    """alice's account on a simulated exchange. Its book breathes: a feed needs changes to know that it follows."""

    def __init__(self, simulator: Simulator, name: str = NAME, symbol: str = SYMBOL) -> None:
        self.simulator = simulator
        self.name, self.symbol = name, symbol
        self.balances = BALANCES if ":" not in symbol else {"USDT": BALANCES["USDT"]}
        self.keys = simulator.account(name, balances=self.balances)
        self.price = PRICE
        self.user: User
        self.account: ExchangeAccount

    def seed(self, markets: list[Market]) -> None:
        spec = spec_of(self.simulator, self.name)
        urls = {kind: "{0.scheme}://{0.netloc}".format(urlsplit(url)) for kind, url in spec.urls.items()}
        exchange = exchange_create(
            actor=None, code=spec.code, name="Binance", ccxt_id=self.name, environment="simulated", urls=urls
        )
        markets_sync(exchange=exchange, markets=markets)
        base, quote = self.symbol.partition(":")[0].split("/")
        for code in (base, quote):
            Asset.objects.get_or_create(code=code)
        TradingPair.objects.get_or_create(base_id=base, quote_id=quote)
        self.user = make_user("alice")
        credentials = Credentials(api_key=self.keys.api_key, secret=self.keys.secret, passphrase=self.keys.passphrase)
        self.account = account_create(
            owner=self.user, actor=self.user, exchange=exchange, label="Main", credentials=credentials,
            paper_balances=self.balances,
        )  # fmt: skip

    async def show(self, step: int = 0) -> None:
        """Set the book around the price."""
        size = f"{DEPTH + DEPTH * step / 10_000:f}"
        bid, ask = self.price - SPREAD / 2, self.price + SPREAD / 2
        await asyncio.to_thread(
            self.simulator.set_book, self.name, self.symbol, bids=[(f"{bid:f}", size)], asks=[(f"{ask:f}", size)]
        )

    async def breathe(self) -> None:
        step = 0
        while True:
            step = (step + 1) % 9
            await self.show(step)
            await asyncio.sleep(BREATH_SECONDS)

    async def fills(self) -> list[dict[str, Any]]:
        """Return what the exchange itself says was executed for alice."""
        return await asyncio.to_thread(self.simulator.fills, self.name, api_key=self.keys.api_key)

    async def orders(self) -> list[dict[str, Any]]:
        """Return every order of alice's that the exchange has seen."""
        return await asyncio.to_thread(self.simulator.orders, self.name, api_key=self.keys.api_key)


@asynccontextmanager
async def open_floor(simulator: Simulator, name: str = NAME, symbol: str = SYMBOL) -> AsyncIterator[Floor]:
    """Make the desk and run a host for it in this loop, until the block ends."""
    simulator.clear_faults()
    floor = Floor(simulator, name, symbol)
    await floor.show()
    listed = await load_markets(spec_of(simulator, name), kinds=KINDS.get(name, SPOT))
    await ask(floor.seed, [market for market in listed if market.symbol == symbol])
    breathing = asyncio.create_task(floor.breathe())
    host = EngineHost()
    hosting = asyncio.create_task(host.run())
    try:
        yield floor
    finally:
        host.request_stop()
        await asyncio.wait_for(hosting, 30)
        breathing.cancel()
        with suppress(asyncio.CancelledError):
            await breathing


async def ask(work: Callable[..., Result], *arguments: Any) -> Result:
    """Do database work on a thread."""
    return await database_sync_to_async(work)(*arguments)


async def eventually(read: Callable[[], Any], wanted: Any) -> None:
    """Wait until a read of the database returns ``wanted``."""
    seen = None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (seen := await ask(read)) != wanted:  # noqa: ASYNC110 (it waits for a database)
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"still {seen!r} after {PATIENCE_SECONDS:.0f} s, wanted {wanted!r}") from None
