"""Limits of a bot: pure rules, each returns a Verdict. They act on nothing; the caller does.

A rule takes the proposed trade and the situation, and answers with its figures and one sentence. The order of RULES
is the order of checking; the first refusal is the decision's reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TypeVar

import msgspec

from risk.policy.layers import FLOORS
from risk.policy.verdict import ALLOWED, Verdict

# Everything is compared as "not within", so that NaN is refused rather than let through.


class LegNeed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one leg takes from an account: at its limit price, fees included."""

    account: str
    asset: str
    needed: Decimal
    free: Decimal


class Proposal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A wanted trade. Edges and deviations in basis points, ages in milliseconds, notional in the quote asset."""

    notional: Decimal
    quote: str
    gross_bps: float
    net_bps: float
    book_age_ms: float  # of the older book
    quote_deviation_bps: float = 0.0  # of the farther leg's mid from the median mid of the pair's markets
    needs: tuple[LegNeed, ...] = ()
    base: str = ""
    exchanges: tuple[str, ...] = ()  # codes of the legs' exchanges
    accounts: tuple[str, ...] = ()  # of the legs, as in LegNeed
    orders: int = 2  # that it sends at once

    @property
    def pair(self) -> str:
        return f"{self.base}/{self.quote}"


class Situation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the bot and its owner hold already.

    Exposures are the owner's open ones without this trade, in the proposal's quote asset, each at its worst case: an
    order of unknown outcome, a residual and an open leg count in full.
    """

    open_trades: int = 0
    realised_today: Decimal = Decimal(0)  # in the quote asset, since midnight UTC
    exposure_by_asset: Mapping[str, Decimal] = {}
    exposure_by_exchange: Mapping[str, Decimal] = {}
    exposure_by_account: Mapping[str, Decimal] = {}
    exposure_total: Decimal = Decimal(0)
    unhedged: Decimal = Decimal(0)  # of open trades: notional in the quote asset times seconds
    orders_last_minute: int = 0
    # Of all the owner's bots that trade with the same kind of money; asked for only where a limit is over them.
    open_together: int = 0
    realised_together: Decimal = Decimal(0)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A bot's limits; None switches a limit off. ``sources`` says by the limit's name which layer it is of."""

    max_trade_notional: Decimal
    max_open_trades: int
    min_net_edge_bps: float
    max_edge_bps: float
    max_book_age_ms: float
    max_quote_deviation_bps: float | None = None
    max_daily_loss: Decimal | None = None
    max_exposure_asset: Decimal | None = None
    max_exposure_exchange: Decimal | None = None
    max_exposure_account: Decimal | None = None
    max_exposure_global: Decimal | None = None
    max_unhedged: Decimal | None = None
    max_orders_per_minute: int | None = None
    allowed_pairs: frozenset[str] | None = None  # as ``BTC/USDT``; None: all
    # What is set for everybody or an owner is over all the owner's bots together.
    max_open_trades_together: int | None = None
    max_daily_loss_together: Decimal | None = None
    sources: Mapping[str, str] = {}


class RouteLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one exchange or one pair adds to a bot's limits on the routes through it; None adds nothing.

    ``source`` names the layer, such as ``exchange binance``.
    """

    source: str
    max_trade_notional: Decimal | None = None
    max_open_trades: int | None = None
    min_net_edge_bps: float | None = None
    max_edge_bps: float | None = None
    max_book_age_ms: float | None = None
    max_quote_deviation_bps: float | None = None
    max_daily_loss: Decimal | None = None
    max_exposure_asset: Decimal | None = None
    max_exposure_exchange: Decimal | None = None
    max_exposure_account: Decimal | None = None
    max_exposure_global: Decimal | None = None
    max_unhedged: Decimal | None = None
    max_orders_per_minute: int | None = None


ROUTE_RULES = tuple(name for name in RouteLimits.__struct_fields__ if name != "source")


def tighten(limits: Limits, *routes: RouteLimits) -> Limits:
    """Return the limits with each bound no looser than those of the route's exchanges and pair.

    Of equal bounds the one that was there stays. Callers keep the result by route: it changes only with the limits.
    """
    changes: dict[str, Decimal | float | int] = {}
    sources = dict(limits.sources)
    for route in routes:
        for name in ROUTE_RULES:
            bound = getattr(route, name)
            if bound is None:
                continue
            present = changes.get(name, getattr(limits, name))
            if present is None or not (bound <= present if name in FLOORS else bound >= present):
                changes[name] = bound
                sources[name] = route.source
    return msgspec.structs.replace(limits, **changes, sources=sources) if changes else limits


ZERO = Decimal(0)

Rule = Callable[[Proposal, Situation, Limits], Verdict]
Rules = Sequence[tuple[str, Rule]]


def _refuse(reason: str, **figures: float | int | str) -> Verdict:
    return Verdict(allowed=False, reason=reason, figures=figures)


Number = TypeVar("Number", Decimal, float, int)


def _within(value: Number, most: Number) -> bool:
    """Return whether ``value`` is at most ``most``; False for what is no number."""
    try:
        return value <= most
    except InvalidOperation:  # Decimal's NaN raises where a float's compares false
        return False


def _by(limits: Limits, name: str) -> str:
    """Return which layer a limit is of, as the end of a sentence."""
    source = limits.sources.get(name)
    return f" ({source})" if source else ""


def allowed_pair(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse a pair that is not on the list, where there is one."""
    allowed = limits.allowed_pairs
    if allowed is not None and proposal.pair not in allowed:
        named = ", ".join(sorted(allowed)) or "none"
        return _refuse(
            f"{proposal.pair} is not among the pairs that may be traded: {named}{_by(limits, 'allowed_pairs')}.",
            pair=proposal.pair,
        )
    return ALLOWED


def book_age(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse books older than ``max_book_age_ms``: what they show may be gone."""
    if not proposal.book_age_ms <= limits.max_book_age_ms:
        return _refuse(
            f"The older book is {proposal.book_age_ms:.0f} ms old; at most {limits.max_book_age_ms:.0f} ms is allowed"
            f"{_by(limits, 'max_book_age_ms')}.",
            book_age_ms=proposal.book_age_ms,
            max_book_age_ms=limits.max_book_age_ms,
        )
    return ALLOWED


def min_net_edge(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse an edge after fees below ``min_net_edge_bps``."""
    if not proposal.net_bps >= limits.min_net_edge_bps:
        return _refuse(
            f"The edge after fees is {proposal.net_bps:.2f} bps; at least {limits.min_net_edge_bps:.2f} bps is wanted"
            f"{_by(limits, 'min_net_edge_bps')}.",
            net_bps=proposal.net_bps,
            min_net_edge_bps=limits.min_net_edge_bps,
        )
    return ALLOWED


def max_edge(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse an edge above ``max_edge_bps``: too good to be true is a wrong price or another coin of the same name."""
    if not proposal.gross_bps <= limits.max_edge_bps:
        return _refuse(
            f"The edge before fees is {proposal.gross_bps:.1f} bps, above {limits.max_edge_bps:.1f} bps"
            f"{_by(limits, 'max_edge_bps')}: "
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
            f"at most {allowed:.1f} bps are allowed{_by(limits, 'max_quote_deviation_bps')}.",
            quote_deviation_bps=proposal.quote_deviation_bps,
            max_quote_deviation_bps=allowed,
        )
    return ALLOWED


def trade_amount(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse a trade larger than ``max_trade_notional``; sizing is to stay below it, so this is the last wall."""
    if not _within(proposal.notional, limits.max_trade_notional):
        return _refuse(
            f"The trade is worth {proposal.notional:f} {proposal.quote}; "
            f"at most {limits.max_trade_notional:f} {proposal.quote} are allowed{_by(limits, 'max_trade_notional')}.",
            notional=str(proposal.notional),
            max_trade_notional=str(limits.max_trade_notional),
        )
    return ALLOWED


def open_trades(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse more than ``max_open_trades`` at the same time."""
    if not situation.open_trades < limits.max_open_trades:
        return _refuse(
            f"{situation.open_trades} trades are open; at most {limits.max_open_trades} are allowed"
            f"{_by(limits, 'max_open_trades')}.",
            open_trades=situation.open_trades,
            max_open_trades=limits.max_open_trades,
        )
    together = limits.max_open_trades_together
    if together is not None and not situation.open_together < together:
        return _refuse(
            f"{situation.open_together} trades of the owner's bots are open; at most {together} are allowed"
            f"{_by(limits, 'max_open_trades_together')}.",
            open_trades=situation.open_together,
            max_open_trades=together,
        )
    return ALLOWED


def daily_loss(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse further trades once the day's loss has reached ``max_daily_loss``, of the bot or of all together."""
    for name, whose, realised, allowed in (
        ("max_daily_loss", "", situation.realised_today, limits.max_daily_loss),
        (
            "max_daily_loss_together",
            " of the owner's bots",
            situation.realised_together,
            limits.max_daily_loss_together,
        ),
    ):
        loss = -realised
        if allowed is not None and (not _within(loss, allowed) or loss == allowed):
            return _refuse(
                f"Today's loss{whose} is {loss:f} {proposal.quote}; "
                f"trading stops at {allowed:f} {proposal.quote} until midnight UTC{_by(limits, name)}.",
                realised_today=str(realised),
                max_daily_loss=str(allowed),
            )
    return ALLOWED


# What is held and this trade on top: at its worst one leg fills and the other does not.


def asset_exposure(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse more than ``max_exposure_asset`` in the traded asset."""
    allowed = limits.max_exposure_asset
    exposure = situation.exposure_by_asset.get(proposal.base, ZERO) + proposal.notional
    if allowed is None or _within(exposure, allowed):
        return ALLOWED
    return _exposed(proposal, limits, "max_exposure_asset", f"in {proposal.base}", exposure, allowed)


def exchange_exposure(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse more than ``max_exposure_exchange`` on any exchange of the route."""
    allowed, held = limits.max_exposure_exchange, situation.exposure_by_exchange
    for exchange in proposal.exchanges:
        exposure = held.get(exchange, ZERO) + proposal.notional
        if allowed is not None and not _within(exposure, allowed):
            return _exposed(proposal, limits, "max_exposure_exchange", f"on {exchange}", exposure, allowed)
    return ALLOWED


def account_exposure(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse more than ``max_exposure_account`` on any account of the route."""
    allowed, held = limits.max_exposure_account, situation.exposure_by_account
    for account in proposal.accounts:
        exposure = held.get(account, ZERO) + proposal.notional
        if allowed is not None and not _within(exposure, allowed):
            return _exposed(proposal, limits, "max_exposure_account", f"of account {account}", exposure, allowed)
    return ALLOWED


def total_exposure(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse more than ``max_exposure_global`` over all assets, exchanges and accounts."""
    allowed = limits.max_exposure_global
    exposure = situation.exposure_total + proposal.notional
    if allowed is None or _within(exposure, allowed):
        return ALLOWED
    return _exposed(proposal, limits, "max_exposure_global", "over everything", exposure, allowed)


def _exposed(
    proposal: Proposal, limits: Limits, name: str, where: str, exposure: Decimal, allowed: Decimal
) -> Verdict:  # fmt: skip
    return _refuse(
        f"The exposure {where} would be {exposure:f} {proposal.quote} at its worst; "
        f"at most {allowed:f} {proposal.quote} are allowed{_by(limits, name)}.",
        **{"exposure": str(exposure), name: str(allowed)},
    )


def unhedged_time(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse further trades while open ones have stood unhedged for more than ``max_unhedged``."""
    allowed = limits.max_unhedged
    if allowed is not None and not _within(situation.unhedged, allowed):
        return _refuse(
            f"Open trades have stood unhedged for {situation.unhedged:f} {proposal.quote} x s; "
            f"at most {allowed:f} {proposal.quote} x s are allowed{_by(limits, 'max_unhedged')}.",
            unhedged=str(situation.unhedged),
            max_unhedged=str(allowed),
        )
    return ALLOWED


def order_rate(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse a trade whose orders would be more than ``max_orders_per_minute`` with those of the last 60 seconds."""
    allowed = limits.max_orders_per_minute
    orders = situation.orders_last_minute + proposal.orders
    if allowed is not None and not orders <= allowed:
        return _refuse(
            f"It would be {orders} orders within a minute; at most {allowed} are allowed"
            f"{_by(limits, 'max_orders_per_minute')}.",
            orders=orders,
            max_orders_per_minute=allowed,
        )
    return ALLOWED


def free_balance(proposal: Proposal, situation: Situation, limits: Limits) -> Verdict:
    """Refuse a leg that its account cannot pay for after everything that is reserved already."""
    for need in proposal.needs:
        if not _within(need.needed, need.free):
            return _refuse(
                f"Account {need.account} has {need.free:f} {need.asset} free; the leg needs {need.needed:f}.",
                asset=need.asset,
                free=str(need.free),
                needed=str(need.needed),
            )
    return ALLOWED


# The cheapest and most telling first; the name is what a Decision's ``check`` says.
RULES: Rules = (
    ("allowed_pair", allowed_pair),
    ("book_age", book_age),
    ("max_edge", max_edge),
    ("quote_deviation", quote_deviation),
    ("min_net_edge", min_net_edge),
    ("open_trades", open_trades),
    ("daily_loss", daily_loss),
    ("order_rate", order_rate),
    ("unhedged_time", unhedged_time),
    ("trade_amount", trade_amount),
    ("asset_exposure", asset_exposure),
    ("exchange_exposure", exchange_exposure),
    ("account_exposure", account_exposure),
    ("total_exposure", total_exposure),
    ("free_balance", free_balance),
)
# The limit of each rule that can be off.
OPTIONAL: Mapping[str, str] = {
    "allowed_pair": "allowed_pairs",
    "quote_deviation": "max_quote_deviation_bps",
    "daily_loss": "max_daily_loss",
    "order_rate": "max_orders_per_minute",
    "unhedged_time": "max_unhedged",
    "asset_exposure": "max_exposure_asset",
    "exchange_exposure": "max_exposure_exchange",
    "account_exposure": "max_exposure_account",
    "total_exposure": "max_exposure_global",
}


def in_force(limits: Limits) -> Rules:
    """Return the rules that may refuse anything under these limits, in their order."""
    off = {
        rule
        for rule, limit in OPTIONAL.items()
        if getattr(limits, limit) is None and getattr(limits, f"{limit}_together", None) is None
    }
    return tuple(named for named in RULES if named[0] not in off)


def first_refusal(
    proposal: Proposal, situation: Situation, limits: Limits, rules: Rules = RULES
) -> tuple[str, Verdict]:
    """Return the name and verdict of the first rule that refuses, or ``("", ALLOWED)``."""
    for name, rule in rules:
        verdict = rule(proposal, situation, limits)
        if not verdict.allowed:
            return name, verdict
    return "", ALLOWED
