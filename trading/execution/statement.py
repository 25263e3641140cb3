"""What a trade's orders amount to, said in its record: its state, why, and what it earned."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from trading.execution.result import Result
from trading.messages import TradeRecord, TradeState

UNDER_WAY = frozenset({TradeState.OPEN, TradeState.REPAIRING})


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a trade stands, as far as its record tells it.

    ``blocked`` is why nothing more may be sent for it, ``worst`` the larger residual possible (base units), ``causes``
    what was said of orders that did nothing, ``note`` why the ladder ended, ``is_dust`` whether no market takes an
    order as small as the residual.
    """

    result: Result
    blocked: str = ""
    worst: Decimal = Decimal(0)
    is_dust: bool = False
    causes: Sequence[str] = ()
    note: str = ""


def stated(
    record: TradeRecord, standing: Standing, *, now_ns: int, exposure: Decimal, state: TradeState | None = None
) -> TradeRecord:
    """Return the record as the fills have it; ``state`` is given while the trade is under way."""
    outcome = standing.result
    traded = bool(outcome.tally.bought or outcome.tally.sold)
    reasons: list[str] = []
    if state is None:
        state, reasons = _ended(record, standing, traded)
    if outcome.tally.fees_pending:
        reasons.append(f"the fees of {outcome.tally.fees_pending} fills are not known yet")
    for asset, amount in outcome.unvalued.items():
        reasons.append(f"fees of {amount:f} {asset} have no price in {record.quote}")
    finished = state not in UNDER_WAY
    return msgspec.structs.replace(
        record,
        state=state,
        closed_ns=(record.closed_ns or now_ns) if finished else 0,
        realised_profit=outcome.profit if traded and finished else None,
        residual_base=outcome.residual,
        fees=dict(outcome.tally.fees),
        reason="; ".join(reasons),
        exposure=exposure,
        # What happens to a trade that came out even is another descent, with a ladder of its own.
        repair_ms=0 if state is TradeState.CLOSED else record.repair_ms,
    )


def _ended(record: TradeRecord, standing: Standing, traded: bool) -> tuple[TradeState, list[str]]:
    residual = standing.result.residual
    if standing.blocked:
        unhedged = [f"up to {abs(standing.worst):f} {record.base} unhedged"] if standing.worst else []
        return TradeState.EXPOSED, [standing.blocked, *unhedged]
    if not traded:
        return TradeState.FAILED, ["; ".join(standing.causes) or "the orders ended unfilled"]
    if residual and not standing.is_dust:
        word = "bought and not sold" if residual > 0 else "sold and not bought"
        note = [standing.note] if standing.note else []
        return TradeState.EXPOSED, [f"{abs(residual):f} {record.base} {word}", *note]
    if residual:
        return TradeState.CLOSED, [f"{residual:f} {record.base} stays as inventory, below the smallest order"]
    return TradeState.CLOSED, []
