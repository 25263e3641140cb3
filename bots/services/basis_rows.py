"""Spot-against-perpetual trades in the database: the engine's values as a row beside the trade's, and back."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from django.utils import timezone

from bots.models import BasisPosition, Market, Trade
from bots.times import from_ns, to_ns
from trading.basis import BasisRules, BasisStanding, BasisTerms, Closing
from trading.instruments import money
from trading.messages import TradeRecord


def basis_insert(*, trade: Trade, record: TradeRecord, markets: Mapping[str, Market]) -> None:
    """Write a new trade's pair, if it is one, in the transaction that writes the trade."""
    terms = record.basis
    if terms is not None:
        BasisPosition.objects.create(
            owner_id=trade.owner_id,
            trade=trade,
            spot=markets[terms.spot],
            perp=markets[terms.perp],
            rules=msgspec.to_builtins(terms.rules),
            funding_rate=terms.funding_rate,
            **pair_columns(record.pair or BasisStanding()),
        )


def basis_update(*, trade: Trade, record: TradeRecord) -> None:
    """Store how a trade's pair stands now."""
    if record.pair is not None:
        values = pair_columns(record.pair)
        BasisPosition.objects.filter(trade=trade).update(**values, updated_at=timezone.now())


def pair_columns(standing: BasisStanding) -> dict[str, Any]:
    """Return the columns that say how a pair stands; raises ValueError if an amount is out of range."""

    def known(name: str) -> Decimal | None:
        value = getattr(standing, name)
        return None if value is None else money(value, field=name)

    return {
        "held": money(standing.held, field="held"),
        "spot_price": known("spot_price"),
        "perp_price": known("perp_price"),
        "entry_bps": known("entry_bps"),
        "funding": money(standing.funding, field="funding"),
        "funding_at": from_ns(standing.funding_ns) if standing.funding_ns else None,
        "is_estimated": standing.is_estimated,
        "exit_bps": known("exit_bps"),
        "exit_at": from_ns(standing.exit_ns) if standing.exit_ns else None,
        "closing": None if standing.closing is None else msgspec.to_builtins(standing.closing),
        "outside": money(standing.outside, field="outside"),
        "outside_price": known("outside_price"),
        "outside_spot": known("outside_spot"),
        "carried_out": list(standing.carried_out),
    }


def terms_of_basis(row: BasisPosition) -> BasisTerms:
    """Return what a pair's row says it was entered on."""
    return BasisTerms(
        spot=f"{row.spot.exchange.code}:{row.spot.symbol}",
        perp=f"{row.perp.exchange.code}:{row.perp.symbol}",
        rules=msgspec.convert(row.rules, BasisRules),
        funding_rate=row.funding_rate,
    )


def standing_of_basis(row: BasisPosition) -> BasisStanding:
    """Return how a pair stood when its row was last written."""
    return BasisStanding(
        held=row.held,
        spot_price=row.spot_price,
        perp_price=row.perp_price,
        entry_bps=row.entry_bps,
        funding=row.funding,
        funding_ns=to_ns(row.funding_at) if row.funding_at else 0,
        is_estimated=row.is_estimated,
        exit_bps=row.exit_bps,
        exit_ns=to_ns(row.exit_at) if row.exit_at else 0,
        closing=None if row.closing is None else msgspec.convert(row.closing, Closing),
        outside=row.outside,
        outside_price=row.outside_price,
        outside_spot=row.outside_spot,
        carried_out=tuple(row.carried_out),
    )
