"""What the parts of the control port share: the exchanges, refusals, amounts and answers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import msgspec
from aiohttp import web

from exchangesim.core.exchange import SimExchange
from exchangesim.core.latency import Latency
from exchangesim.core.orders import PositionSide
from exchangesim.core.synthetic import Quoter
from exchangesim.face import Face


class ControlError(Exception):
    """A bad request; the text is one sentence."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True, kw_only=True)
class Venue:
    """One exchange as the control port sees it."""

    exchange: SimExchange
    latency: Latency
    quoters: dict[str, Quoter]
    """Of synthetic markets, by native name."""
    face: Face


def reply(data: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(data), status=status, content_type="application/json")


def position_side(value: str) -> PositionSide:
    """Read which position of a contract a request is for; raises ControlError."""
    if value not in list(PositionSide):
        raise ControlError(f"side must be {', '.join(PositionSide)}, not {value!r}.")
    return PositionSide(value)


def amount(name: str, value: str | float) -> Decimal:
    """Read an amount of a request; raises ControlError."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0 or number.adjusted() > 15 or int(number.as_tuple().exponent) < -18:
        raise ControlError(f"{name} must be a number from 0 to 10^15 with at most 18 places, not {value!r}.")
    return number
