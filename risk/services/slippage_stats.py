"""Sums of realised slippage: moved by differences, so that a leg that changes is not counted twice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from django.db.models import F
from django.utils import timezone

from risk.models import SlippageStat
from risk.models.rating_settings import MOST_DAYS
from risk.models.slippage_stat import UNIT
from risk.policy.realised import MOST_BPS, NS_PER_HOUR, LegSlippage, RollupKey
from risk.times import from_ns

# As far back as anything can be learned from, and a day for pages.
KEEP_FOR = timedelta(days=MOST_DAYS + 1)


class Sums(NamedTuple):
    """What legs add to an hour, in the columns' units; named and ordered as they are."""

    legs: int = 0
    surprise: int = 0
    squares: int = 0
    expected: int = 0
    before_send: int = 0
    in_flight: int = 0
    depth: int = 0
    fee: int = 0

    @classmethod
    def of(cls, leg: LegSlippage) -> Sums:
        """Return one leg, each figure cut to its whole notional as the policy's rollups cut it."""
        surprise = _units(leg.surprise_bps)
        return cls(
            legs=1,
            surprise=surprise,
            squares=round(Decimal(surprise * surprise).scaleb(-UNIT)),
            expected=_units(leg.total_bps - leg.surprise_bps),
            before_send=_units(leg.before_send_bps),
            in_flight=_units(leg.in_flight_bps),
            depth=_units(leg.depth_bps),
            fee=_units(leg.fee_bps),
        )

    def moved(self, before: Sums, after: Sums) -> Sums:
        """Return these sums with one leg taken out and put in anew."""
        return Sums(*(mine - out + put for mine, out, put in zip(self, before, after, strict=True)))


def stats_move(changes: Mapping[RollupKey, Sums]) -> None:
    """Add differences to the hours they belong to, making those that are not there.

    Call it in the transaction that notes what has been counted. Rows are changed relative to what they hold, in the
    order of their keys, so that two that do so at once wait for each other and neither is lost.
    """
    moved = {key: sums for key, sums in sorted(changes.items()) if any(sums)}
    SlippageStat.objects.bulk_create(
        [SlippageStat(pair=key.pair, exchange=key.exchange, hour=from_ns(key.hour * NS_PER_HOUR)) for key in moved],
        ignore_conflicts=True,
    )
    for key, sums in moved.items():
        SlippageStat.objects.filter(
            pair=key.pair, exchange=key.exchange, hour=from_ns(key.hour * NS_PER_HOUR)
        ).update(**{name: F(name) + value for name, value in sums._asdict().items()})  # fmt: skip


def stats_prune() -> int:
    """Delete the hours that nothing is learned from any more; returns how many."""
    return SlippageStat.objects.filter(hour__lt=timezone.now() - KEEP_FOR).delete()[0]


def _units(value: Decimal) -> int:
    cut = min(max(value, -MOST_BPS), MOST_BPS)
    return int(cut.scaleb(UNIT).to_integral_value(rounding=ROUND_HALF_EVEN))
