"""Where inventory is short, and what would help: what to move between accounts, what to convert on one.

A trade of two legs needs the quote asset where it buys and the base asset where it sells. What an account holds of a
pair, in the quote asset, is its value; the part of it that is base is its share. An account whose share is further from
the target than the band is skewed.

Two accounts skewed in opposite directions exchange inventory: base one way, as much in the quote asset the other way,
so that neither loses value. What is still skewed then is converted on its own account, by an order on one market.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_DOWN, Context, Decimal, localcontext
from enum import StrEnum
from typing import Literal

import msgspec

ZERO, ONE, BPS = Decimal(0), Decimal(1), Decimal(10_000)
# An order's worst price may be 1 % from the best one, and a fee comes on top: so much stays free, and so much above
# the market's least notional is asked for.
HEADROOM = Decimal("0.02")
DIGITS = 6  # significant ones of an amount that people move by hand
# Amounts have up to 38 digits; products of two are exact in twice as many.
_WIDE = Context(prec=80)


class Kind(StrEnum):
    MOVE = "move"  # to another account, by a person: keys may not withdraw
    CONVERT = "convert"  # into the other asset of the pair, by an order


class RebalanceRules(msgspec.Struct, frozen=True, kw_only=True):
    """When something is proposed, and how much at once; ValueError names the setting that is out of range.

    Attributes
    ----------
    target
        Share of base to be restored, above 0 and below 1.
    band
        How far a share may be from the target before anything is proposed.
    least_value
        Nothing that is worth less is proposed, in the quote asset.
    most_value
        The most that one proposal is worth, in the quote asset.
    """

    target: Decimal = Decimal("0.5")
    band: Decimal = Decimal("0.3")
    least_value: Decimal = Decimal(50)
    most_value: Decimal = Decimal(10_000)

    def __post_init__(self) -> None:
        for name, low, high in (
            ("target", "0.01", "0.99"), ("band", "0.01", "0.98"), ("least_value", "0", "1000000000"),
            ("most_value", "0.01", "1000000000"),
        ):  # fmt: skip
            value: Decimal = getattr(self, name)
            if not (value.is_finite() and Decimal(low) <= value <= Decimal(high)):
                raise ValueError(f"{name} is {value}; it must lie between {low} and {high}.")


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has free for one pair, and the facts of its spot market there; ValueError names a figure that
    can't be.

    ``base`` and ``quote`` are this pair's parts: what several pairs share is divided before. ``price`` is quote per
    base; ``half_spread_bps`` is None while only a price is known. ``taker_fee`` is a fraction.
    """

    account: int
    base: Decimal
    quote: Decimal
    price: Decimal
    lot: Decimal
    min_amount: Decimal = ZERO
    min_notional: Decimal = ZERO
    taker_fee: Decimal = ZERO
    half_spread_bps: Decimal | None = None

    def __post_init__(self) -> None:
        for name in ("base", "quote", "price", "lot", "min_amount", "min_notional", "taker_fee"):
            value: Decimal = getattr(self, name)
            if not value.is_finite() or (value < 0 and name != "taker_fee"):
                raise ValueError(f"{name} of account {self.account} is {value}; it must be finite and not negative.")
        if self.price <= 0 or self.lot <= 0:
            raise ValueError(f"price and lot of account {self.account} must be above 0.")

    @property
    def value(self) -> Decimal:
        """What it is worth in the quote asset."""
        return self.base * self.price + self.quote

    @property
    def share(self) -> Decimal | None:
        """The part of its value that is base; None of nothing."""
        return self.base * self.price / self.value if self.value > 0 else None

    @property
    def cost_bps(self) -> Decimal:
        """What converting costs, as far as it is known: half the spread and the fee."""
        return (self.half_spread_bps or ZERO) + self.taker_fee * BPS


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one account's share if all that is proposed together is done."""

    account: int
    before: Decimal
    after: Decimal


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do. ``amount`` is of ``asset``, ``value`` about what it is worth in the quote asset.

    A conversion buys or sells ``amount`` of base on ``account``; a move sends it from ``account`` to ``to_account``.
    ``cost_bps`` of a move is None: the network's fee is not known.
    """

    kind: Kind
    account: int
    to_account: int | None = None
    asset: str
    side: Literal["buy", "sell", ""] = ""
    amount: Decimal
    price: Decimal
    value: Decimal
    half_spread_bps: Decimal | None = None
    cost_bps: Decimal | None = None
    effects: tuple[Effect, ...]


def propose(
    base: str,
    quote: str,
    holdings: Iterable[Holding],
    rules: RebalanceRules,
    *,
    apart: Collection[frozenset[int]] = (),
) -> tuple[Proposal, ...]:
    """Return what would bring the shares of one pair's accounts back to the target, none beyond it.

    Nothing is moved between two accounts that are ``apart``: their coins are not known to be the same, or a wallet is
    closed. No more is proposed than is free, nothing below a market's least order, nothing for a share within the band.

    Worked: target 0.5, band 0.3; account 1 has 2 BTC at 50,000 and nothing else (share 1), account 2 has 100,000 USDT
    (share 0): move 1 BTC from 1 to 2 and 50,000 USDT from 2 to 1, and both shares are 0.5. Were account 2 not there:
    sell 1 BTC on account 1.
    """
    with localcontext(_WIDE):
        now = {one.account: one for one in sorted(holdings, key=lambda one: one.account) if one.value > 0}
        before = {account: one.share or ZERO for account, one in now.items()}
        skewed = {account for account, one in now.items() if _is_skewed(one, rules)}
        found: list[Proposal] = []
        tried: set[frozenset[int]] = set(apart)  # between these nothing (more) is moved
        capped: set[int] = set()  # accounts that have moved as much as may be at once
        while (pair := _opposite([now[account] for account in sorted(skewed - capped)], rules, tried)) is not None:
            most, least = pair
            tried.add(frozenset({most.account, least.account}))
            moves = _moves(base, quote, most, least, rules)
            for move in moves:
                _apply(now, move, base)
            found += moves
            if moves and min(_excess(most, rules), -_excess(least, rules)) > rules.most_value:
                capped |= {most.account, least.account}
        for account in sorted(skewed - capped):
            conversion = _conversion(base, now[account], rules)
            if conversion is not None:
                found.append(conversion)
                _apply(now, conversion, base)
        after = {account: one.share or ZERO for account, one in now.items()}

        def effects(one: Proposal) -> tuple[Effect, ...]:
            touched = [one.account] if one.to_account is None else [one.account, one.to_account]
            return tuple(Effect(account=to, before=_short(before[to]), after=_short(after[to])) for to in touched)

        return tuple(msgspec.structs.replace(one, effects=effects(one)) for one in found)


def conversion_effect(holding: Holding, side: Literal["buy", "sell"], amount: Decimal) -> Effect:
    """Return what buying or selling ``amount`` of base would do to an account's share, fees left out."""
    with localcontext(_WIDE):
        sign = ONE if side == "buy" else -ONE
        base = holding.base + sign * amount
        value = holding.value
        after = ZERO if value <= 0 else min(max(base * holding.price / value, ZERO), ONE)
        return Effect(account=holding.account, before=_short(holding.share or ZERO), after=_short(after))


def _is_skewed(one: Holding, rules: RebalanceRules) -> bool:
    return one.share is not None and abs(one.share - rules.target) > rules.band


def _opposite(
    skewed: Sequence[Holding], rules: RebalanceRules, tried: Collection[frozenset[int]]
) -> tuple[Holding, Holding] | None:
    """Return, of accounts not tried together, the one with most base beyond the target and that with most below it."""
    pairs = [
        (over, under)
        for over in skewed
        for under in skewed
        if _excess(over, rules) > 0 > _excess(under, rules) and frozenset({over.account, under.account}) not in tried
    ]
    return max(pairs, key=lambda pair: (_excess(pair[0], rules), -_excess(pair[1], rules)), default=None)


def _excess(one: Holding, rules: RebalanceRules) -> Decimal:
    """Return the value of base beyond the target, at the same value of the account; negative: short of it."""
    return one.base * one.price - rules.target * one.value


def _moves(base: str, quote: str, most: Holding, least: Holding, rules: RebalanceRules) -> list[Proposal]:
    """Return base one way and as much in quote the other way; empty if that is too little."""
    # At the lower of the two prices, so that neither share goes beyond the target where the prices differ.
    value = min(_excess(most, rules), -_excess(least, rules), rules.most_value)
    amount = _to_step(value / max(most.price, least.price), max(most.lot, least.lot))
    back = _digits(amount * min(most.price, least.price))
    if back < rules.least_value or amount <= 0 or back <= 0:
        return []
    return [
        Proposal(
            kind=Kind.MOVE, account=most.account, to_account=least.account, asset=base, amount=amount,
            price=most.price, value=amount * most.price, effects=(),
        ),
        Proposal(
            kind=Kind.MOVE, account=least.account, to_account=most.account, asset=quote, amount=back,
            price=most.price, value=back, effects=(),
        ),
    ]  # fmt: skip


def _conversion(base: str, one: Holding, rules: RebalanceRules) -> Proposal | None:
    excess = _excess(one, rules)
    value = min(abs(excess), rules.most_value)
    if excess < 0:
        value = min(value, one.quote / (ONE + HEADROOM))
    amount = _to_step(value / one.price, one.lot)
    if amount < least_order(one) or amount * one.price < rules.least_value:
        return None
    return Proposal(
        kind=Kind.CONVERT, account=one.account, asset=base, side="sell" if excess > 0 else "buy", amount=amount,
        price=one.price, value=amount * one.price, half_spread_bps=one.half_spread_bps, cost_bps=one.cost_bps,
        effects=(),
    )  # fmt: skip


def least_order(one: Holding) -> Decimal:
    """Return the least base quantity that its market takes, also at the worst price an order may have."""
    least = max(one.lot, one.min_amount)
    lots = one.min_notional * (ONE + HEADROOM) / one.price / one.lot
    return max(least, lots.to_integral_value(ROUND_CEILING) * one.lot)


def _apply(now: dict[int, Holding], one: Proposal, base: str) -> None:
    """Take a proposal as done, fees left out."""
    source = now[one.account]
    if one.kind is Kind.CONVERT:
        sign = ONE if one.side == "buy" else -ONE
        now[one.account] = _changed(source, sign * one.amount, -sign * one.value)
        return
    assert one.to_account is not None
    target = now[one.to_account]
    if one.asset == base:
        now[one.account] = _changed(source, -one.amount, ZERO)
        now[one.to_account] = _changed(target, one.amount, ZERO)
    else:
        now[one.account] = _changed(source, ZERO, -one.amount)
        now[one.to_account] = _changed(target, ZERO, one.amount)


def _changed(one: Holding, base: Decimal, quote: Decimal) -> Holding:
    return msgspec.structs.replace(one, base=one.base + base, quote=one.quote + quote)


def _to_step(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_DOWN) * step if value > 0 else ZERO


def _digits(value: Decimal) -> Decimal:
    """Return a positive amount with its first DIGITS significant digits only."""
    return value.quantize(ONE.scaleb(value.adjusted() - DIGITS + 1), ROUND_DOWN) if value > 0 else ZERO


def _short(share: Decimal) -> Decimal:
    return share.quantize(Decimal("0.0001"))


def parts_of(free: Decimal, count: int) -> Decimal:
    """Return what each of ``count`` pairs has of what an account has free, rounded down."""
    with localcontext(_WIDE):
        return (free / count).quantize(Decimal("1e-18"), ROUND_DOWN) if count > 1 else free


__all__ = [
    "Effect", "Holding", "Kind", "Proposal", "RebalanceRules", "conversion_effect", "least_order", "parts_of",
    "propose",
]  # fmt: skip
