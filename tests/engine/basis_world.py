"""The small world with spot on alpha, a perpetual on beta, and a bot that trades one against the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from tests.engine.worlds import MONEY, START_NS, D, FaultyVenue, World, spec
from trading.basis import BASIS, BasisRules, BasisStanding, Funding
from trading.config import BotConfig
from trading.execution.basis_trade import BasisTrade
from trading.instruments import Market, Tier
from trading.messages import (
    AccountIncome,
    AccountPosition,
    AccountPositions,
    Fill,
    Forced,
    OrderEvent,
    OrderIntent,
    OrderState,
    TradeRecord,
    TradeState,
)
from trading.tickets import ClosingTerms

FUNDED_SECONDS = 60  # after the start
RULES = BasisRules(min_entry_bps=20.0, exit_bps=15.0, min_funding_bps=-1.0, slippage_bps=2.0, max_hold_hours=48.0)


def perpetual(exchange: str, **terms: object) -> Market:
    settings: dict[str, object] = {
        "tick": D("0.1"),
        "lot": D("0.001"),
        "min_amount": D("0.001"),
        "min_notional": D(5),
        "taker_fee": D("0.0005"),
        **terms,
    }
    return Market(
        exchange=exchange,
        symbol="BTC/USDT:USDT",
        native_id="BTCUSDT",
        base="BTC",
        quote="USDT",
        settle="USDT",
        kind="linear",
        **settings,  # type: ignore[arg-type]
    )


class PerpetualVenue(FaultyVenue):
    """An account whose exchange tells positions and pays funding. ``refuses_leverage`` is why it does not set one;
    ``long`` what a person holds beside our shorts, None in one-way mode."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.leverages: list[tuple[str, int]] = []
        self.refuses_leverage = ""
        self.changed: set[str] = set()  # contracts whose leverage somebody has changed since it was set
        self.paid: list[AccountIncome] = []
        self.long: Decimal | None = None

    def has_leverage(self, market: str, leverage: int) -> bool:
        asked = dict(self.leverages)
        return market not in self.changed and not self.refuses_leverage and asked.get(market) == leverage

    async def set_leverage(self, market: str, leverage: int) -> str:
        await self._clock.sleep(2 * self._one_way)
        self.leverages.append((market, leverage))
        if self.refuses_leverage:
            return self.refuses_leverage
        self.changed.discard(market)
        return await super().set_leverage(market, leverage)

    async def incomes(self, since_ns: int) -> Sequence[AccountIncome]:
        await self._clock.sleep(2 * self._one_way)
        return [one for one in self.paid if one.exchange_ns >= since_ns]

    async def leave(self, asset: str, amount: Decimal) -> None:
        """Have so much of an asset left, and say so."""
        self._money.free[asset] = amount
        self._tell_balances([asset])

    def tell_positions(self, mark: str = "50000", liquidation: str = "90000") -> None:
        """Tell what the account holds, as an exchange does after each change."""
        held = tuple(
            AccountPosition(
                market=key,
                side="both" if self.long is None else "short",
                quantity=position.quantity,
                entry_price=position.entry,
                mark_price=D(mark),
                liquidation_price=D(liquidation),
            )
            for key, position in self._money.positions.items()
            if position.quantity
        )
        if self.long:
            held += tuple(AccountPosition(market=key, side="long", quantity=self.long) for key in self._money.positions)
        if self._listener is not None:
            self._listener(
                AccountPositions(account_id=self.account_id, positions=held, received_ns=self._clock.time_ns())
            )

    def liquidate(self, market: str, quantity: Decimal) -> None:
        """Close so much of a short without an order of ours."""
        self._money.positions[market].quantity += quantity

    def _fill(self, *args: Any) -> Fill:
        side = "" if self.long is None else "short"
        return msgspec.structs.replace(super()._fill(*args), position_side=side)

    def forced_fill(self, market: str, quantity: Decimal, price: str, fee: Decimal, number: int = 1) -> Fill:
        return Fill(
            account_id=self.account_id,
            market=market,
            exchange_trade_id=f"forced-{number}",
            exchange_order_id="77",
            client_order_id="autoclose-77",
            side="buy",
            price=D(price),
            quantity=quantity,
            fee=fee,
            fee_asset="USDT",
            liquidity="taker",
            exchange_ns=self._clock.time_ns(),
            forced=Forced.LIQUIDATION.value,
        )

    def tell_liquidated(self, market: str, quantity: Decimal, price: str, number: int = 1) -> None:
        """Close so much of a short as the exchange does that liquidates it, and tell the execution by the stream."""
        known = self._markets[market]
        fee, _ = self._money.book(known, "buy", quantity, D(price), known.taker_fee)
        fill = self.forced_fill(market, quantity, price, fee, number)
        told = OrderEvent(
            account_id=self.account_id,
            market=market,
            client_order_id="autoclose-77",
            exchange_order_id="77",
            state=OrderState.PARTIALLY_FILLED,
            fills=(fill,),
            source="stream",
            received_ns=self._clock.time_ns(),
        )
        assert self._listener is not None
        self._listener(told)


class BasisWorld(World):
    """Alpha's spot and beta's perpetual, an account each."""

    def __init__(
        self,
        *,
        real: bool = True,
        rules: BasisRules = RULES,
        margin: str = "",
        tiers: tuple[Tier, ...] = (),
        **bot: object,
    ) -> None:
        """``margin`` is the paper money on beta, where that is not what everybody has."""
        super().__init__()
        self.perp = perpetual("beta", tiers=tiers)
        settings: dict[str, object] = {
            "bot_id": 1,
            "name": "carry",
            "mode": "live" if real else "paper",
            "strategy": BASIS,
            "basis": rules,
            "markets": (self.alpha, self.perp),
            "accounts": {"alpha": 11, "beta": 12},
            "max_trade_notional": D(10_000),
            "cooldown_ms": 0.0,
            "max_book_age_ms": 1e9,
            **bot,
        }
        self.bot = BotConfig(**settings)  # type: ignore[arg-type]
        self.config = msgspec.structs.replace(
            self.config,
            bots=(self.bot,),
            accounts=(
                self.account(11, "alpha", exchange=spec("alpha"), armed_for_live=True),
                self.account(
                    12,
                    "beta",
                    exchange=spec("beta"),
                    armed_for_live=True,
                    paper_balances={"USDT": D(margin)} if margin else MONEY,
                ),
            ),
        )
        self.venues = {}
        if real:
            self.venues = {
                11: self.faulty_venue(11, self.alpha),
                12: PerpetualVenue(
                    12, "beta", [self.perp], MONEY, book_of=self.live_book, clock=self.clock, watch=self._watch
                ),
            }
        self.store.markets = {market.key: market for market in (self.alpha, self.perp)}
        self.engine = self.make_engine()
        self.next_funding_ns = START_NS + FUNDED_SECONDS * 10**9

    @property
    def spot_venue(self) -> FaultyVenue:
        return self.one_venue

    @property
    def perp_venue(self) -> PerpetualVenue:
        venue = self.venues[12]
        assert isinstance(venue, PerpetualVenue)
        return venue

    def fund(self, rate: float, mark: float = 50_000.0) -> None:
        """Have the exchange say what the funding rate is."""
        now = self.clock.time_ns()
        told = Funding(self.perp.key, rate, mark, self.next_funding_ns, now, now)
        self.feeds["beta"].sink.on_funding(told)

    async def begin(self) -> None:
        """Start with prices that meet, so that nothing is entered, and a funding rate of 1 bps."""
        await self.start()
        await self.show_basis("49990", "50000", "49990", "50000")
        self.fund(1e-4)
        await self.clock.run_until(lambda: [bot.observed for bot in self.engine.status().bots] == ["running"])
        await self.clock.advance(10)  # accounts are compared the first time
        self.fund(1e-4)

    async def show_basis(self, bid: str, ask: str, perp_bid: str, perp_ask: str, size: str = "5") -> None:
        self.show(self.alpha, bid, ask, size)
        self.show(self.perp, perp_bid, perp_ask, size)
        await self.clock.settle()

    async def widen(self) -> None:
        """Let the perpetual stand 100 bps above spot: after 30 bps of fees and 2 of reserve it pays."""
        await self.show_basis("49990", "50000", "50500", "50510")

    async def meet(self) -> None:
        """Let both prices meet again."""
        await self.show_basis("50000", "50010", "49990", "50000")

    async def held(self) -> BasisTrade:
        """Enter a pair and return it once it is held."""
        await self.widen()
        await self.clock.run_until(lambda: any(one.state is TradeState.HOLDING for one in self.store.trades.values()))
        return self.trade_now()

    def trade_now(self) -> BasisTrade:
        (trade_id,) = self.store.trades
        trade = self.engine.trades.trade_of(trade_id)
        assert isinstance(trade, BasisTrade)
        return trade

    @property
    def record(self) -> TradeRecord:
        (record,) = self.store.trades.values()
        return record

    @property
    def pair(self) -> BasisStanding:
        assert self.record.pair is not None
        return self.record.pair

    async def ended(self, seconds: float = 600.0) -> TradeRecord:
        await self.clock.run_until(lambda: self.store.trades and not self.engine.status().open_trades, seconds)
        return self.record

    async def close(self, command: int = 5) -> str:
        terms = ClosingTerms(cause="its owner closed it", command_id=command)
        closing = asyncio.ensure_future(self.engine.close_ticket(self.record.trade_id, terms))
        await self.clock.run_until(closing.done)
        return closing.result()

    async def die(self) -> None:
        """End the process where it stands."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def rise(self, token: int = 4) -> None:
        """Begin again in a new process, with a later lease."""
        self.engine = self.make_engine(token)
        await self.start()

    def sent(self) -> list[OrderIntent]:
        """Return every order that reached an exchange, by leg and attempt."""
        sent = [*self.spot_venue.sent, *self.perp_venue.sent]
        return sorted(sent, key=lambda intent: (intent.leg, intent.attempt))

    def position(self) -> Decimal:
        """Return the exchange's position in the perpetual."""
        held = self.perp_venue._money.positions.get(self.perp.key)
        return D(0) if held is None else held.quantity

    def coins(self) -> Decimal:
        """Return what of the base asset came to the spot account."""
        return self.spot_venue.money()["BTC"] - MONEY["BTC"]

    def check_profit(self, record: TradeRecord, funding: str = "0") -> None:
        """The result is the money that moved: what both accounts hold now is what they had, plus the profit."""
        assert self.position() == 0
        left = self.coins()
        before = MONEY["USDT"] * 2
        now = self.spot_venue.money()["USDT"] + self.perp_venue.money()["USDT"]
        assert record.realised_profit is not None
        assert record.residual_base == left
        entry = self.pair.spot_price or D(0)
        assert abs(record.realised_profit - (now - before + left * entry + D(funding))) < D("1e-9")
