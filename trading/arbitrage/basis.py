"""Rules of spot-against-perpetual trades: what entering earns, what leaving earns, when to leave. Pure, in floats.

Spot is bought and as much of the perpetual sold short. Where the two prices meet again, the trade has earned their
first difference, less the fees of four orders, plus funding. Edges are basis points of the spot notional at entry.
"""

from __future__ import annotations

import math

import msgspec

from trading.arbitrage.depth import BPS, BaseLevels, JointQuote, Limits, PairTerms, Refusal, fill, joint_walk
from trading.basis import BasisRules, Closing, Funding
from trading.instruments import Market

__all__ = [
    "Entry", "Held", "carried", "entry", "exit_edge", "expected_funding", "funding_refusal", "liquidation_distance",
    "pair_refusal", "shortfall", "why_leave",
]  # fmt: skip

NS_PER_HOUR = 3600 * 10**9


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What a pair of books offers: the walk of both legs, and its parts in basis points of the spot notional.

    ``edge_bps`` is ``gross_bps`` less ``fees_bps`` (of entry and exit) less ``reserve_bps`` plus ``funding_bps``.
    """

    quote: JointQuote
    edge_bps: float
    gross_bps: float
    fees_bps: float
    reserve_bps: float
    funding_bps: float


class Held(msgspec.Struct, frozen=True, gc=False):
    """A pair that is held, as the rules look at it: entry averages, base units, funding in quote, wall-clock times.

    ``fees`` is what its orders have cost so far, in quote. ``liquidation_bps`` is the mark price's distance from the
    position's liquidation, None where there is none. ``is_wanted`` says that the bot that opened it runs.
    """

    quantity: float
    spot_price: float
    perp_price: float
    fees: float
    funding: float
    opened_ns: int
    liquidation_bps: float | None = None
    is_wanted: bool = True


def pair_refusal(spot: Market, perp: Market) -> str:
    """Say in one sentence why these are not the two legs of a basis trade; empty when they are."""
    if spot.kind != "spot":
        return f"{spot.key}: a {spot.kind} market is no spot leg"
    if perp.kind != "linear":
        return f"{perp.key}: a {perp.kind} market is no linear perpetual"
    for market in (spot, perp):
        if not market.active:
            return f"{market.key}: the market is not active"
    if (spot.base, spot.quote) != (perp.base, perp.quote):
        return f"{spot.key} and {perp.key}: assets differ"
    if perp.settle not in {None, perp.quote}:
        return f"{perp.key}: is settled in {perp.settle}, not in {perp.quote}"
    return ""


def payments_within(funding: Funding, now_ns: int, hours: float) -> int:
    """Return how many payments fall into the next ``hours``.

    >>> hour = 3600 * 10**9
    >>> payments_within(Funding("perp", 1e-4, 100.0, 2 * hour, 0, 0), 0, 10.0)
    2
    """
    first = max(funding.next_ns - now_ns, 0)
    left = hours * NS_PER_HOUR - first
    return 0 if left < 0 else 1 + int(left // funding.interval_ns)


def expected_funding(funding: Funding, now_ns: int, hours: float) -> float:
    """Return what a short is expected to receive within ``hours`` at the present rate, as a fraction of notional.

    A rate that shorts pay is counted for the next payment at least: it is due whatever the horizon.
    """
    count = payments_within(funding, now_ns, hours)
    return funding.rate * (max(count, 1) if funding.rate < 0 else count)


def carried(rules: BasisRules, spot_fee: float, perp_fee: float, funding: float) -> float:
    """Return what a pair costs beyond its entry's own fees, as a fraction of notional; negative where funding pays.

    That is the fees of the exit, at prices that have met, and the reserve for slippage, less the funding expected.
    """
    return spot_fee + perp_fee + rules.slippage_bps / BPS - funding


def entry(
    spot: BaseLevels, perp: BaseLevels, rules: BasisRules, funding: float, max_notional: float = math.inf
) -> Entry | Refusal:
    """Price the largest pair whose average edge is at least the wanted one, and whose last unit still earns.

    ``spot`` are asks, ``perp`` bids; ``funding`` is the fraction of notional expected.
    """
    buy, sell = spot.terms, perp.terms
    costs = carried(rules, buy.fee, sell.fee, funding)
    # What is carried is a cost of each unit bought, as the fee is: so the joint walk sizes a pair as it does any route.
    terms = PairTerms.of(msgspec.structs.replace(buy, fee=buy.fee + costs), sell)
    found = joint_walk(spot, perp, terms, Limits(min_net_bps=rules.min_entry_bps, max_notional=max_notional))
    if isinstance(found, Refusal):
        return found
    return _priced(found, found.net_bps, spot, perp, rules, funding)


def shortfall(
    spot: BaseLevels, perp: BaseLevels, rules: BasisRules, funding: float, max_notional: float = math.inf
) -> Entry | Refusal:
    """Price what at least pays the fees of its entry, as :func:`entry` would: its edge may be below the wanted one."""
    found = joint_walk(spot, perp, PairTerms.of(spot.terms, perp.terms), Limits(max_notional=max_notional))
    if isinstance(found, Refusal):
        return found
    costs = carried(rules, spot.terms.fee, perp.terms.fee, funding)
    return _priced(found, found.net_bps - costs * BPS, spot, perp, rules, funding)


def _priced(
    found: JointQuote, edge_bps: float, spot: BaseLevels, perp: BaseLevels, rules: BasisRules, funding: float
) -> Entry:
    spot_fee, perp_fee = spot.terms.fee, perp.terms.fee
    fees = spot_fee + perp_fee * found.sell.vwap / found.buy.vwap + spot_fee + perp_fee
    return Entry(
        quote=found,
        edge_bps=edge_bps,
        gross_bps=found.gross_bps,
        fees_bps=fees * BPS,
        reserve_bps=rules.slippage_bps,
        funding_bps=funding * BPS,
    )


def exit_edge(held: Held, spot: BaseLevels, perp: BaseLevels, spot_quantity: float, perp_quantity: float) -> float:
    """Return what the whole trade would earn if it were closed now, in basis points; NaN if the books hold too little.

    ``spot`` are bids, ``perp`` asks, the quantities (base units) what each leg is to close. What a base fee took of the
    spot leg is a cost that ``fees`` knows of already.

    Bought at 100, short at 101, closed at 100.5 both, no fees: (101 - 100) + (100.5 - 100.5) = 1 of 100, 100 bps.
    """
    sold, bought = fill(spot, spot_quantity), fill(perp, perp_quantity)
    if sold is None or bought is None or held.quantity <= 0:
        return math.nan
    entered = held.quantity * (held.perp_price - held.spot_price)
    left = held.quantity * (sold.vwap - bought.vwap)
    fees = held.fees + sold.notional * spot.terms.fee + bought.notional * perp.terms.fee
    return (entered + left - fees + held.funding) / (held.quantity * held.spot_price) * BPS


def liquidation_distance(mark: float, liquidation: float) -> float:
    """Return how far a short's mark price is below its liquidation, in basis points; negative beyond it."""
    return (liquidation / mark - 1.0) * BPS


def funding_refusal(rules: BasisRules, funding: Funding | None, age_seconds: float) -> str:
    """Say in one sentence why the funding figure lets no pair be opened; empty when it does."""
    if funding is None:
        return "The perpetual's funding rate is not known."
    if not age_seconds <= rules.max_funding_age_seconds:
        return (
            f"The funding rate of {funding.market} is {age_seconds:.1f} s old; "
            f"at most {rules.max_funding_age_seconds:.1f} s."
        )
    rate = funding.rate * BPS
    if rate < rules.min_funding_bps:
        return (
            f"The funding rate of {funding.market} is {rate:.2f} bps an interval; "
            f"at least {rules.min_funding_bps:.2f} bps."
        )
    return ""


def why_leave(
    rules: BasisRules, held: Held, funding: Funding | None, age_seconds: float, edge_bps: float, now_ns: int
) -> Closing | None:
    """Return why a pair is to be closed now, the most pressing reason first; None while it is held.

    Thin margin closes it whoever wants it. The rest is for a bot that runs: one that was stopped keeps what it holds.
    A funding figure that is unknown or stale says nothing. ``edge_bps`` is :func:`exit_edge`'s.
    """
    distance = held.liquidation_bps
    if distance is not None and distance < rules.min_liquidation_bps:
        cause = f"its mark price is {distance:.0f} bps from liquidation, nearer than {rules.min_liquidation_bps:.0f}"
        return Closing(cause=cause, must=True)
    if not held.is_wanted:
        return None
    hours = (now_ns - held.opened_ns) / NS_PER_HOUR
    if hours >= rules.max_hold_hours:
        return Closing(cause=f"it was held for {hours:.1f} h, at most {rules.max_hold_hours:g} h", must=True)
    is_fresh = funding is not None and age_seconds <= rules.max_funding_age_seconds
    if funding is not None and is_fresh and funding.rate * BPS < rules.min_funding_bps:
        rate = funding.rate * BPS
        cause = f"funding is {rate:.2f} bps an interval, below {rules.min_funding_bps:.2f} bps"
        return Closing(cause=cause, must=True)
    if edge_bps >= rules.exit_bps:
        return Closing(cause=f"its exit edge was {edge_bps:.2f} bps, at least {rules.exit_bps:.2f} bps", must=False)
    return None
