"""What a desk is worth at the newest quotes: balances by environment and quote asset, positions with their marks.

Quotes are floats of books; each becomes a decimal once, and everything after that is exact.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bots.fields import exact_product, exact_sum, plain
from bots.live_desk_schema import Balance, Position, Positions
from trading.messages import TradeMode

ZERO = Decimal(0)
NONE = (ZERO, 0)
ENVIRONMENTS = [mode.value for mode in TradeMode]
MODES: Mapping[str, frozenset[str]] = {
    "paper": frozenset({TradeMode.PAPER.value}),
    "live": frozenset({TradeMode.SIMULATED.value, TradeMode.TESTNET.value, TradeMode.LIVE.value}),
}
# Fields of a position's message that are not among its facts.
MARKED = frozenset({"entry_price", "mark_price", "size", "unrealized_pnl"})


@dataclass(frozen=True)
class DeskAccount:
    """An account and whose money it moves now: ``environment`` is a trade mode."""

    account_id: int
    label: str
    exchange: str
    environment: str
    state: str = ""
    reason: str = ""


@dataclass
class Holding:
    """A position as stored; ``facts`` are the fields of its message that no quote changes."""

    market: str
    kind: str  # of its market
    contract_size: Decimal
    entry: Decimal | None
    size: Decimal
    facts: dict[str, Any]
    mark: Decimal | None = None  # the exchange's, as last stored: for when nobody tells quotes

    @property
    def sign(self) -> int:
        return 1 if self.facts["side"] == "long" else -1


@dataclass
class DeskMoney:
    """What an owner has on a desk: held, earned, paid. ``quotes`` are the assets to count in, the first first."""

    accounts: dict[int, DeskAccount]
    quotes: tuple[str, ...]
    held: dict[tuple[int, str], Decimal] = field(default_factory=dict)  # by account and asset, free and used together
    realized: dict[tuple[str, str], Decimal] = field(default_factory=dict)  # by environment and quote asset
    fees: dict[str, dict[str, Decimal]] = field(default_factory=dict)  # by environment, then by asset
    positions: dict[str, Holding] = field(default_factory=dict)  # by trade id
    # By environment and quote asset, of trades by hand: price improvement, questions about orders.
    improved: dict[tuple[str, str], tuple[Decimal, int]] = field(default_factory=dict)


class Prices:
    """The newest quotes, by market and by pair of assets."""

    def __init__(self, quotes: Iterable[Mapping[str, Any]]) -> None:
        self._sides: dict[str, tuple[float, float]] = {}
        self._pairs: dict[tuple[str, str], tuple[bool, float, float]] = {}  # is live, when, middle
        for quote in quotes:
            bid, ask = quote["bid"], quote["ask"]
            if not bid or not ask:
                continue
            self._sides[quote["market"]] = (bid, ask)
            base, _, counter = quote["symbol"].partition("/")
            if ":" in counter:
                continue  # a contract's price is not its asset's
            told = (quote["status"] == "live", quote["received_at"] or 0.0, (bid + ask) / 2)
            self._pairs[base, counter] = max(told, self._pairs.get((base, counter), (False, -1.0, 0.0)))

    def mark(self, market: str, side: str) -> Decimal | None:
        """Return what closing a position would get now: the bid for a long one, the ask for a short one."""
        sides = self._sides.get(market)
        return None if sides is None else _decimal(sides[0] if side == "long" else sides[1])

    def value(self, asset: str, quote: str) -> Decimal | None:
        """Return the price of an asset in a quote asset, in the middle of the newest quote; None without one."""
        if asset == quote:
            return Decimal(1)
        if known := self._pairs.get((asset, quote)):
            return _decimal(known[2])
        if (known := self._pairs.get((quote, asset))) and known[2]:
            return _decimal(1 / known[2])
        return None


def balances(money: DeskMoney, prices: Prices, *, now: float | None = None) -> list[Balance]:
    """Return what there is by environment and quote asset; no asset is counted twice.

    A quote asset counts in its own line. Any other is valued in the first quote asset it has a price in.
    """
    now = time.time() if now is None else now
    by_environment: defaultdict[str, defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for (account_id, asset), amount in money.held.items():
        account = money.accounts.get(account_id)
        if account is not None and amount:
            assets = by_environment[account.environment]
            assets[asset] = exact_sum([assets[asset], amount])
    environments = {account.environment for account in money.accounts.values()}
    environments |= {environment for environment, _ in money.realized}
    return [
        line
        for environment in sorted(environments, key=ENVIRONMENTS.index)
        for line in _lines(environment, by_environment[environment], money, prices, now)
    ]


def _lines(
    environment: str, held: Mapping[str, Decimal], money: DeskMoney, prices: Prices, now: float
) -> list[Balance]:
    wallet, missing = _valued(held, money.quotes, prices)
    fees, unpriced = _valued(money.fees.get(environment, {}), money.quotes, prices)
    holdings = [one for one in money.positions.values() if one.facts["environment"] == environment]
    quotes = [quote for quote in money.quotes if quote in wallet or quote in fees]
    quotes += [quote for of, quote in money.realized if of == environment]
    quotes += [quote for of, quote in money.improved if of == environment]
    quotes += [one.facts["quote"] for one in holdings]
    lines: list[Balance] = []
    for quote in dict.fromkeys(quotes or money.quotes[:1]):
        own = [one for one in holdings if one.facts["quote"] == quote]
        gains = {one.facts["id"]: unrealized(one, prices) or ZERO for one in own}
        contracts = exact_sum(gains[one.facts["id"]] for one in own if one.kind != "spot")
        total = wallet.get(quote, ZERO)
        lines.append(
            Balance(
                environment=TradeMode(environment),
                quote=quote,
                wallet_balance=_text(total),
                unrealized_pnl=_text(exact_sum(gains.values())),
                realized_pnl=_text(money.realized.get((environment, quote), ZERO)),
                total_fees_paid=_text(fees.get(quote, ZERO)),
                net_balance=_text(exact_sum([total, contracts])),
                price_improvement=_text(money.improved.get((environment, quote), NONE)[0]),
                status_questions=money.improved.get((environment, quote), NONE)[1],
                # What no line counts is named once, in the first.
                unvalued=[] if lines else sorted({*missing, *unpriced}),
                at=now,
            )
        )
    return lines


def _valued(
    amounts: Mapping[str, Decimal], quotes: Sequence[str], prices: Prices
) -> tuple[dict[str, Decimal], list[str]]:
    """Return sums by quote asset, and the assets that have no price in any."""
    sums: dict[str, Decimal] = {}
    missing = []
    for asset, amount in amounts.items():
        for quote in (asset,) if asset in quotes else quotes:
            price = prices.value(asset, quote)
            if price is not None:
                sums[quote] = exact_sum([sums.get(quote, ZERO), exact_product(amount, price)])
                break
        else:
            missing.append(asset)
    return sums, missing


def positions(held: Mapping[str, Holding], prices: Prices) -> Positions:
    """Return positions with their marks and what each would gain if it were closed there."""
    items = []
    for one in held.values():
        mark, gain = marked(one, prices), unrealized(one, prices)
        items.append(
            Position(
                **one.facts,
                entry_price=None if one.entry is None else _text(one.entry),
                mark_price=None if mark is None else _text(mark),
                size=_text(one.size),
                unrealized_pnl=None if gain is None else _text(gain),
            )
        )
    return Positions(count=len(items), items=items)


def marked(one: Holding, prices: Prices) -> Decimal | None:
    """Return what a position is valued at: the newest quote, else the mark price that its exchange told last."""
    quoted = prices.mark(one.market, one.facts["side"])
    return one.mark if quoted is None else quoted


def unrealized(one: Holding, prices: Prices) -> Decimal | None:
    """Return a position's gain at its mark, before fees, in the quote asset; None without entry price or mark."""
    mark = marked(one, prices)
    if mark is None or one.entry is None or not one.entry:
        return None
    size = exact_product(one.size, one.contract_size)
    if one.kind == "inverse":  # contracts are worth quote; what is gained is base, here at the mark
        per_quote = exact_sum([mark / one.entry, Decimal(-1)])
        return exact_product(size, per_quote) * one.sign
    return exact_product(size, exact_sum([mark, one.entry.copy_negate()])) * one.sign


def _decimal(number: float) -> Decimal:
    return Decimal(repr(float(number)))


def _text(number: Decimal) -> str:
    return f"{plain(number):f}"
