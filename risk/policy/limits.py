"""Limits of a bot: pure rules, each returns a Verdict. They act on nothing; the caller does.

A rule takes the proposed trade and the situation, and answers with its figures and one sentence. The order of RULES
is the order of checking; the first refusal is the decision's reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from risk.policy.verdict import ALLOWED, Verdict

# Floats are compared as "not within", so that NaN is refused rather than let through.


class LegNeed(msgspec.Struct, frozen=True, kw_only=True):
    """What one leg takes from an account: at its limit price, fees included."""

    account: str
    asset: str
    needed: Decimal
    free: Decimal


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted trade. Edges and deviations in basis points, ages in milliseconds, notional in the quote asset."""

    notional: Decimal
    quote: str
    gross_bps: float
    net_bps: float
    book_age_ms: float  # of the older book
    quote_deviation_bps: float = 0.0  # of the farther leg's mid from the median mid of the pair's markets
    needs: tuple[LegNeed, ...] = ()


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What the bot holds already."""

    open_trades: int = 0
    realised_today: Decimal = Decimal(0)  # in the quote asset, since midnight UTC


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A bot's limits; None switches a limit off."""

    max_trade_notional: Decimal
    max_open_trades: int
    min_net_edge_bps: float
    max_edge_bps: float
    max_book_age_ms: float
    max_quote_deviation_bps: float | None = None
    max_daily_loss: Decimal | None = None


Rule = Callable[[Proposal, Situation, Limits], Verdict]


def _refuse(reason: str, **figures: float | int | str) -> Verdict:
    return Verdict(allowed=False, reason=reason, figures=figures)


def book_age(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse books older than ``max_book_age_ms``: what they show may be gone."""
    if not proposal.book_age_ms <= limits.max_book_age_ms:
        return _refuse(
            f"The older book is {proposal.book_age_ms:.0f} ms old; at most {limits.max_book_age_ms:.0f} ms is allowed.",
            book_age_ms=proposal.book_age_ms,
            max_book_age_ms=limits.max_book_age_ms,
        )
    return ALLOWED


def min_net_edge(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse an edge after fees below ``min_net_edge_bps``."""
    if not proposal.net_bps >= limits.min_net_edge_bps:
        return _refuse(
            f"The edge after fees is {proposal.net_bps:.2f} bps; at least {limits.min_net_edge_bps:.2f} bps is wanted.",
            net_bps=proposal.net_bps,
            min_net_edge_bps=limits.min_net_edge_bps,
        )
    return ALLOWED


def max_edge(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse an edge above ``max_edge_bps``: too good to be true is a wrong price or another coin of the same name."""
    if not proposal.gross_bps <= limits.max_edge_bps:
        return _refuse(
            f"The edge before fees is {proposal.gross_bps:.1f} bps, above {limits.max_edge_bps:.1f} bps: "
            "too good to be true, check that both markets trade the same asset.",
            gross_bps=proposal.gross_bps,
            max_edge_bps=limits.max_edge_bps,
        )
    return ALLOWED


def quote_deviation(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse a market whose mid price stands too far from the pair's other markets."""
    allowed = limits.max_quote_deviation_bps
    if allowed is not None and not proposal.quote_deviation_bps <= allowed:
        return _refuse(
            f"A leg's price stands {proposal.quote_deviation_bps:.1f} bps from the median of the pair's markets; "
            f"at most {allowed:.1f} bps are allowed.",
            quote_deviation_bps=proposal.quote_deviation_bps,
            max_quote_deviation_bps=allowed,
        )
    return ALLOWED


def trade_amount(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse a trade larger than ``max_trade_notional``; sizing is to stay below it, so this is the last wall."""
    if proposal.notional > limits.max_trade_notional:
        return _refuse(
            f"The trade is worth {proposal.notional:f} {proposal.quote}; "
            f"at most {limits.max_trade_notional:f} {proposal.quote} are allowed.",
            notional=str(proposal.notional),
            max_trade_notional=str(limits.max_trade_notional),
        )
    return ALLOWED


def open_trades(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse more than ``max_open_trades`` at the same time."""
    if situation.open_trades >= limits.max_open_trades:
        return _refuse(
            f"{situation.open_trades} trades are open; at most {limits.max_open_trades} are allowed.",
            open_trades=situation.open_trades,
            max_open_trades=limits.max_open_trades,
        )
    return ALLOWED


def daily_loss(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse further trades once the day's loss has reached ``max_daily_loss``."""
    allowed = limits.max_daily_loss
    if allowed is not None and -situation.realised_today >= allowed:
        return _refuse(
            f"Today's loss is {-situation.realised_today:f} {proposal.quote}; "
            f"trading stops at {allowed:f} {proposal.quote} until midnight UTC.",
            realised_today=str(situation.realised_today),
            max_daily_loss=str(allowed),
        )
    return ALLOWED


def free_balance(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse a leg that its account cannot pay for after everything that is reserved already."""
    for need in proposal.needs:
        if need.needed > need.free:
            return _refuse(
                f"Account {need.account} has {need.free:f} {need.asset} free; the leg needs {need.needed:f}.",
                asset=need.asset,
                free=str(need.free),
                needed=str(need.needed),
            )
    return ALLOWED


# The cheapest and most telling first; the name is what a Decision's ``check`` says.
RULES: Sequence[tuple[str, Rule]] = (
    ("book_age", book_age),
    ("max_edge", max_edge),
    ("quote_deviation", quote_deviation),
    ("min_net_edge", min_net_edge),
    ("open_trades", open_trades),
    ("daily_loss", daily_loss),
    ("trade_amount", trade_amount),
    ("free_balance", free_balance),
)


def first_refusal(
    proposal: Proposal, situation: Situation, limits: Limits, rules: Sequence[tuple[str, Rule]] = RULES
) -> tuple[str, Verdict]:
    """Return the name and verdict of the first rule that refuses, or ``("", ALLOWED)``."""
    for name, rule in rules:
        verdict = rule(proposal, situation, limits)
        if not verdict.allowed:
            return name, verdict
    return "", ALLOWED
