"""Adaptive limit orders against the market orders they replace: price improvement on recorded and made books.

Every few seconds one purchase and one sale are worked with the real code (trading.execution.working, a trade of its
own, the resolver, the paper venue with 20 ms each way and the queue ahead) in each of several styles, beside one
another in the same market. The reference is the VWAP of taking the whole quantity from the book at that moment, the
improvement is what was paid less, in basis points of it, the market fallback of what did not fill included. Fees are
left out: where a maker pays less than a taker, that comes on top of what filled at the limit.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import msgspec

from bench.limit_tapes import MADE_SECONDS, Stage, VirtualClock, made_stages, recorded_stages
from trading.exchanges.paper import PaperVenue
from trading.execution.desk import Desk, TradeTerms
from trading.execution.ids import Ids
from trading.execution.ladder import Ladder
from trading.execution.memory_store import MemoryStore
from trading.execution.pricing import WorkingStyle
from trading.execution.saga import Saga
from trading.execution.working import Worked
from trading.instruments import Market, Side
from trading.marketdata.book import Book
from trading.marketdata.hub import ANY_AGE, MarketHub
from trading.messages import (
    AccountBalance,
    OrderEvent,
    PublicTrade,
    StreamState,
    TimeInForce,
    TradeRecord,
    TradeState,
)
from trading.portfolio import Purse
from trading.tasks import end_tasks

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "execution.md"
BEGIN, END = "<!-- limits: begin -->", "<!-- limits: end -->"
SEED = 1
ZERO = Decimal(0)
BPS = 10_000
CAP_SHARE = Decimal("0.05")  # so far from the reference that no cap plays a part
MONEY = Decimal(10) ** 9
STYLES: Mapping[str, WorkingStyle] = {
    "default": WorkingStyle(),
    "half the spread": WorkingStyle(buy_share=0.5, sell_share=0.5),
    "all but 5 %": WorkingStyle(buy_share=0.95, sell_share=0.95),
    "default for 4 s": WorkingStyle(buy_seconds=4.0, sell_seconds=4.0),
}  # fmt: skip


class Silent:
    """A publisher nobody listens to."""

    def publish(self, owner: int | None, kind: str, key: str, data: Mapping[str, object]) -> None: ...


class TapeFeed:
    """A feed whose book a tape keeps."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def add(self, market: Market) -> Book:
        return self._book

    def remove(self, key: str) -> None: ...

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def counters(self) -> Mapping[str, int | float]:
        return {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One worked quantity: shares of it, and basis points of the reference (positive: better than the market order)."""

    side: Side
    at_limit: float
    fell_back: bool
    unfilled: float
    improvement_bps: float
    limit_bps: float | None
    fallback_bps: float | None
    questions: int


class Play:
    """One market with everything that is worked in it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.market = stage.market
        self.outcomes: dict[str, list[Outcome]] = {name: [] for name in STYLES}
        self.without_reference = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._accounts = 0

    async def run(self) -> None:
        self.clock = clock = VirtualClock()
        self.hub = MarketHub(clock, lambda exchange, sink: TapeFeed(book))
        book, tape = self.stage.play(self.hub, clock)
        state = self.hub.subscribe(self.market, lambda state: None).state
        self.desk = Desk(
            owner_id=1,
            ids=Ids("bnch", 1, 1),
            store=MemoryStore(),
            publisher=Silent(),
            clock=clock,
            state_of=lambda market: state,
            tradable=self.hub.tradable,
            watch=self._watch,
            on_alarm=lambda text: None,
        )
        self.desk.markets[self.market.key] = self.market
        every_ns, next_ns = int(self.stage.every_seconds * 1e9), 0
        for at_ns, tell in tape:
            await clock.advance(at_ns)
            tell()
            await clock.settle()
            if at_ns >= next_ns and self.desk.fresh_book(self.market, 1000.0) is not None:
                next_ns = at_ns + every_ns
                for name, style in STYLES.items():
                    for side in ("buy", "sell"):
                        task = asyncio.get_running_loop().create_task(self._work(name, style, side))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
        # What is under way when the tape ends has no market left to end in.
        await end_tasks(self._tasks)
        await self.hub.close()

    def _watch(
        self,
        market: Market,
        on_change: Callable[[], None],
        on_trade: Callable[[PublicTrade], None] | None = None,
    ) -> Callable[[], None]:
        subscription = self.hub.subscribe(market, lambda state: on_change(), on_trade=on_trade)
        return lambda: self.hub.unsubscribe(subscription)

    async def _work(self, name: str, style: WorkingStyle, side: Side) -> None:
        market, desk = self.market, self.desk
        self._accounts += 1
        purse = Purse(self._accounts, paper=True)
        settle = market.settle or market.quote
        venue = PaperVenue(
            purse.account_id,
            market.exchange,
            [market],
            {market.base: MONEY, market.quote: MONEY, settle: MONEY},
            book_of=lambda one: desk.fresh_book(one, ANY_AGE),
            clock=self.clock,
            watch=self._watch,
        )
        desk.venues[purse] = venue
        desk.live_purses.add(purse)
        saga = self._saga(purse)

        def hear(message: OrderEvent | AccountBalance | StreamState) -> None:
            if isinstance(message, OrderEvent):
                saga.on_event(message)
            elif isinstance(message, AccountBalance):
                desk.portfolio.on_balance(purse, message)

        await venue.start(hear)
        best = Decimal(repr(self.hub.state(market.key).ask))
        cap = best * (1 + CAP_SHARE if side == "buy" else 1 - CAP_SHARE)
        try:
            worked = await saga.workings.work(market, purse, side, self.stage.quantity, style, leg=0, cap=cap)
        finally:
            await venue.close()
            del desk.venues[purse]
        self._note(name, side, saga, worked)

    def _saga(self, purse: Purse) -> Saga:
        market = self.market
        return Saga(
            self.desk,
            TradeTerms(
                bot_name="bench",
                paper=True,
                purses={market.exchange: purse},
                max_book_age_ms=1000.0,
                price_tolerance_bps=2.0,
                order_timeout_ms=15_000.0,
                ladder=Ladder(),
            ),
            TradeRecord(
                trade_id=self.desk.ids.next_trade(),
                bot_id=1,
                route="",
                base=market.base,
                quote=market.quote,
                state=TradeState.OPEN,
                mode="paper",
                quantity=self.stage.quantity,
                expected_net_bps=ZERO,
                expected_profit=ZERO,
                opened_ns=self.clock.time_ns(),
            ),
            [],
            on_change=lambda trade: None,
            on_late_news=lambda trade: None,
            register=lambda order, trade: None,
        )

    def _note(self, name: str, side: Side, saga: Saga, worked: Worked) -> None:
        if worked.reference_price is None:
            self.without_reference += 1
            return
        reference, sign = float(worked.reference_price), 1.0 if side == "buy" else -1.0

        def bps(time_in_force: TimeInForce) -> tuple[float, float | None]:
            fills = [
                fill
                for order in saga.orders.values()
                if order.intent.time_in_force is time_in_force
                for fill in order.fills.values()
            ]
            quantity = float(sum((fill.quantity for fill in fills), ZERO))
            if not quantity:
                return 0.0, None
            gained = sum(float(fill.quantity) * sign * (reference - float(fill.price)) for fill in fills)
            return quantity, gained / quantity / reference * BPS

        (limited, limit_bps), (fallen, fallback_bps) = bps(TimeInForce.GTC), bps(TimeInForce.IOC)
        filled, wanted = limited + fallen, float(self.stage.quantity)
        total = (limited * (limit_bps or 0.0) + fallen * (fallback_bps or 0.0)) / filled if filled else 0.0
        self.outcomes[name].append(
            Outcome(
                side=side,
                at_limit=limited / wanted,
                fell_back=fallen > 0,
                unfilled=max(0.0, 1 - filled / wanted),
                improvement_bps=total,
                limit_bps=limit_bps,
                fallback_bps=fallback_bps,
                questions=worked.questions,
            )
        )


def run(seconds: float = MADE_SECONDS) -> dict[str, Any]:
    """Play every market; ``seconds`` is how long the made ones last (virtual)."""
    stages = [*recorded_stages(), *made_stages(SEED, seconds)]
    rows = []
    without = 0
    for stage in stages:
        play = Play(stage)
        asyncio.run(play.run())
        without += play.without_reference
        rows += _rows(play)
    return {
        "rows": rows,
        "status_questions": sum(row["questions"] for row in rows if row["side"] == "both"),
        "without_reference": without,
        "seed": SEED,
    }


def _rows(play: Play) -> list[dict[str, Any]]:
    rows = []
    for name, style in STYLES.items():
        sides = ("both", "buy", "sell") if name == "default" else ("both",)
        for side in sides:
            chosen = [one for one in play.outcomes[name] if side in {"both", one.side}]
            rows.append({"market": play.stage.name, "style": name, "side": side, **_style(style), **_summary(chosen)})
    return rows


def _style(style: WorkingStyle) -> dict[str, float]:
    return {
        "buy_share": style.buy_share,
        "sell_share": style.sell_share,
        "buy_seconds": style.buy_seconds,
        "sell_seconds": style.sell_seconds,
    }


def _summary(outcomes: list[Outcome]) -> dict[str, Any]:
    gained = [one.improvement_bps for one in outcomes]
    limits = [one.limit_bps for one in outcomes if one.limit_bps is not None]
    fallbacks = [one.fallback_bps for one in outcomes if one.fallback_bps is not None]
    return {
        "orders": len(outcomes),
        "filled_at_limit": _rounded(fmean([one.at_limit for one in outcomes])) if outcomes else None,
        "fallback_rate": _rounded(fmean([one.fell_back for one in outcomes])) if outcomes else None,
        "unfilled": _rounded(fmean([one.unfilled for one in outcomes])) if outcomes else None,
        "improvement_bps": _rounded(fmean(gained)) if gained else None,
        "standard_error_bps": _rounded(stdev(gained) / math.sqrt(len(gained))) if len(gained) > 1 else None,
        "worse_than_market": _rounded(fmean([one < 0 for one in gained])) if gained else None,
        "limit_bps": _rounded(fmean(limits)) if limits else None,
        "fallback_bps": _rounded(fmean(fallbacks)) if fallbacks else None,
        "questions": sum(one.questions for one in outcomes),
    }


def _rounded(value: float) -> float:
    return round(value, 4)


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| market | style | side | orders | filled at the limit | fell back | improvement, bps | worse than the market "
        "| limit fills, bps | fallbacks, bps |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        error = row["standard_error_bps"]
        gained = "-" if row["improvement_bps"] is None else f"{row['improvement_bps']:+.3f}"
        spread = "" if error is None else f" ± {error:.3f}"
        lines.append(
            f"| {row['market']} | {row['style']} | {row['side']} | {row['orders']} "
            f"| {_percent(row['filled_at_limit'])} | {_percent(row['fallback_rate'])} | {gained}{spread} "
            f"| {_percent(row['worse_than_market'])} | {_bps(row['limit_bps'])} | {_bps(row['fallback_bps'])} |"
        )
    lines += ["", f"Status questions asked of the exchange, all orders together: {figures['status_questions']}."]
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _bps(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def document(figures: Mapping[str, Any]) -> Path:
    """Write the table into docs/execution.md, between its own marks; everything else there stays."""
    section = f"{BEGIN}\n{_explained(figures)}\n{END}"
    known = DOCUMENT.read_text() if DOCUMENT.exists() else "# Execution\n"
    if BEGIN in known and END in known:
        before, _, rest = known.partition(BEGIN)
        text = before + section + rest.partition(END)[2]
    else:
        text = f"{known.rstrip()}\n\n{section}\n"
    DOCUMENT.write_text(text)
    return DOCUMENT


def _explained(figures: Mapping[str, Any]) -> str:
    return f"""## What adaptive limit orders save

Written by `./arb bench limits --document` on {datetime.now(UTC).date().isoformat()}; do not edit.

An adaptive limit order rests in the spread (a purchase at the bid plus 75 % of it, a sale at the ask less 85 %),
follows the book at most three times, and sends what is left after 15 s (10 s) as an IOC at most 10 bps beyond the best
price. Here each was worked by the code that trades, on the paper venue: 20 ms each way, filled behind the queue that
stood at its price, and only where a public trade or the other side's best price reached it. The books are recorded ones
(BTC on Binance, 2024-08-08, the last six minutes of the day) and made ones (seed {figures["seed"]}: a spread of nine to
ten ticks of 0.01 around 15.275; takers by chance, or such as know where the price goes next).

Improvement is against taking the whole quantity from the book at the moment of the decision, in basis points of that
price, fallbacks included; ± is one standard error, too small where neighbouring orders met the same move. Fees are left
out: where makers pay less than takers, that comes on top of what filled at the limit. All styles see the same market.

{table(figures)}

How to read it:

- Where the spread is wide and takers know nothing, nearly all fills at the limit, and the order keeps what it did not
  give up of the spread. Giving up less (half of it) gains more, and falls back more often. A sale gains less than a
  purchase because by default it gives up more.
- Where takers know where the price goes, the same orders fill, but those that do not fall back after the price has run
  away, tens of basis points behind. That is adverse selection: a limit order fills first where filling is least
  wanted. It takes a third of the default's gain here; a stronger drift takes all of it.
- Where the spread is one tick (BTC on Binance: 0.002 bps on spot) adaptive limits LOSE against taking at once, about
  one basis point: the most to be gained is that tick, while every order that does not fill at once follows the price
  away from where it began. There the shorter time loses least, and only a maker's fee that is lower by more than the
  loss pays for waiting; otherwise take the market style.
- The three recordings are six minutes of one evening and some 36 orders each: enough to see the sign, no more. The
  paper venue's queue is an estimate, and our orders move no price here.
"""
