"""What an owner's trades hold unhedged now, at its worst case: what the limits of exposure are held against."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from risk.policy.limits import Limits
from trading.execution.desk import Desk
from trading.execution.trade import Trade
from trading.messages import TradeState, WorstCase

ZERO, ONE = Decimal(0), Decimal(1)


class Exposures(msgspec.Struct, kw_only=True):
    """Amounts in one quote asset. A trade counts in full on each of its exchanges and accounts."""

    by_asset: dict[str, Decimal] = {}
    by_exchange: dict[str, Decimal] = {}
    by_account: dict[str, Decimal] = {}
    total: Decimal = ZERO
    unhedged: Decimal = ZERO  # of open trades: notional times seconds


def are_limited(limits: Limits) -> bool:
    """Return whether any limit looks at exposures: adding them up costs more than all other limits together."""
    return not (
        limits.max_exposure_asset is None
        and limits.max_exposure_exchange is None
        and limits.max_exposure_account is None
        and limits.max_exposure_global is None
        and limits.max_unhedged is None
    )


def exposures(
    desk: Desk, sagas: Iterable[Trade], quote: str, *, paper: bool, unfollowed: Iterable[WorstCase] = ()
) -> Exposures:
    """Add up what trades of one kind of money may hold unhedged: residuals, and orders that may or may not fill.

    ``unfollowed`` are trades without a saga. A trade in another quote asset counts at that asset's price, at par where
    it has none here.
    """
    found = Exposures()
    for one in unfollowed:
        if one.paper is paper:
            worst = one.notional * (ONE if one.quote == quote else desk.value(one.quote, quote) or ONE)
            _count(found, one.base, worst, one.exchanges, one.accounts)
    for saga in sagas:
        if saga.terms.paper is not paper:
            continue
        price = ONE if saga.record.quote == quote else desk.value(saga.record.quote, quote) or ONE
        if saga.record.state is not TradeState.EXPOSED:  # that one's clock has stopped
            found.unhedged += saga.exposed_so_far() * price
        worst = saga.worst_notional() * price
        if not worst:
            continue
        exchanges = {desk.markets[key].exchange for key in saga.market_keys() if key in desk.markets}
        purses = {saga.terms.purses[exchange] for exchange in exchanges if exchange in saga.terms.purses}
        _count(found, saga.record.base, worst, exchanges, [purse.account_id for purse in purses])
    return found


def _count(found: Exposures, base: str, worst: Decimal, exchanges: Iterable[str], accounts: Iterable[int]) -> None:
    found.total += worst
    _add(found.by_asset, base, worst)
    for exchange in exchanges:
        _add(found.by_exchange, exchange, worst)
    for account in accounts:
        _add(found.by_account, str(account), worst)


def _add(amounts: dict[str, Decimal], key: str, amount: Decimal) -> None:
    amounts[key] = amounts.get(key, ZERO) + amount
