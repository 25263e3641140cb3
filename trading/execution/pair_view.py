"""What pages are told of a spot-against-perpetual pair, beside its trade."""

from __future__ import annotations

from decimal import Decimal

from trading.basis import BasisStanding
from trading.execution.views import View, plain

FIGURE = Decimal("1e-12")


def pair_view(spot: str, perp: str, standing: BasisStanding, *, liquidation_bps: float | None) -> View:
    """Return how a pair stands; ``spot`` and ``perp`` are market keys, ``liquidation_bps`` how far the mark price is
    from where the exchange would liquidate the short, None while that is not told."""
    return {
        "spot": spot,
        "perp": perp,
        "held": plain(standing.held),
        "spot_price": _figure(standing.spot_price),
        "perp_price": _figure(standing.perp_price),
        "entry_bps": _figure(standing.entry_bps),
        "exit_bps": _figure(standing.exit_bps),
        "exit_at": standing.exit_ns / 1e9 if standing.exit_ns else None,
        "funding": plain(standing.funding),
        "is_estimated": standing.is_estimated,
        "liquidation_bps": None if liquidation_bps is None else round(liquidation_bps, 2),
        "closing": "" if standing.closing is None else standing.closing.cause,
    }


def _figure(value: Decimal | None) -> str | None:
    return None if value is None else plain(value.quantize(FIGURE))
