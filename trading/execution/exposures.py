"""What an owner's trades hold unhedged now, at its worst case: what the limits of exposure are held against."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from risk.policy.limits import Limits
from trading.execution.desk import Desk
from trading.execution.saga import Saga
from trading.messages import TradeState

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


def exposures(desk: Desk, sagas: Iterable[Saga], quote: str, *, paper: bool) -> Exposures:
    """Add up what trades of one kind of money may hold unhedged: residuals, and orders that may or may not fill.

    A trade in another quote asset counts at that asset's price, at par where it has none here.
    """
    found = Exposures()
    for saga in sagas:
        if saga.terms.paper is not paper:
            continue
        price = ONE if saga.record.quote == quote else desk.value(saga.record.quote, quote) or ONE
        if saga.record.state is not TradeState.EXPOSED:  # that one's clock has stopped
            found.unhedged += saga.exposed_so_far() * price
        worst = abs(saga.worst_residual()) * _price(saga) * price
        if not worst:
            continue
        found.total += worst
        _add(found.by_asset, saga.record.base, worst)
        exchanges = {desk.markets[key].exchange for key in saga.market_keys() if key in desk.markets}
        for exchange in exchanges:
            _add(found.by_exchange, exchange, worst)
        purses = {saga.terms.purses[exchange] for exchange in exchanges if exchange in saga.terms.purses}
        for purse in purses:
            _add(found.by_account, str(purse.account_id), worst)
    return found


def _price(saga: Saga) -> Decimal:
    """Return what a base unit of a trade is worth: what it cost, or the dearest it may yet."""
    vwap = saga.tally().vwap
    return vwap if vwap is not None else max((order.intent.price for order in saga.orders.values()), default=ZERO)


def _add(amounts: dict[str, Decimal], key: str, amount: Decimal) -> None:
    amounts[key] = amounts.get(key, ZERO) + amount
