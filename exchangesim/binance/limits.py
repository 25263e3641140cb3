"""Binance's limits: request weight per address, unfilled orders per account, bans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exchangesim.binance.errors import ApiError
from exchangesim.binance.market_codec import RATE_LIMITS
from exchangesim.core.clock import Clock
from exchangesim.core.limits import Bans, Spent, Window

_SECONDS = {"SECOND": 1, "MINUTE": 60, "DAY": 86_400}
# Refused requests an address may send before it is banned; bans grow from 2 minutes to 3 days.
TOLERATED, FIRST_BAN, LONGEST_BAN = 10, 120.0, 3 * 86_400.0


@dataclass(frozen=True, slots=True)
class _Limit:
    type: str
    interval: str
    number: int
    window: Window

    @property
    def header(self) -> str:
        return f"{self.number}{self.interval[0]}"


class BinanceLimits:
    """Counts what addresses and accounts do. With ``enforce`` False nothing is refused."""

    def __init__(
        self, clock: Clock, *, enforce: bool, rate_limits: Sequence[Mapping[str, object]] = RATE_LIMITS
    ) -> None:
        """``rate_limits`` are the rows of the exchange information."""
        self._clock, self._enforce = clock, enforce
        self._bans = Bans(clock, tolerated=TOLERATED, first=FIRST_BAN, longest=LONGEST_BAN)
        limits = [
            _Limit(
                str(row["rateLimitType"]),
                str(row["interval"]),
                int(str(row["intervalNum"])),
                Window(
                    clock,
                    limit=int(str(row["limit"])),
                    seconds=_SECONDS[str(row["interval"])] * int(str(row["intervalNum"])),
                ),
            )
            for row in rate_limits
        ]
        self._weight = next(limit for limit in limits if limit.type == "REQUEST_WEIGHT")
        self._raw = next((limit for limit in limits if limit.type == "RAW_REQUESTS"), None)
        self._orders = [limit for limit in limits if limit.type == "ORDERS"]

    def spend(self, address: str, weight: int) -> None:
        """Count a request. Raises ApiError with status 429, or 418 for a banned address."""
        until = self._bans.until(address)
        if until is not None and self._enforce:
            raise self._banned(until)
        spent = self._weight.window.spend(address, weight)
        raw = None if self._raw is None else self._raw.window.spend(address)
        if not self._enforce:
            return
        if spent.allowed and (raw is None or raw.allowed):
            self._bans.allow(address)
            return
        self._bans.refuse(address)
        until = self._bans.until(address)
        if until is not None:
            raise self._banned(until)
        if not spent.allowed:
            text = (
                f"Too much request weight used; current limit is {spent.limit} request weight per 1 MINUTE. "
                "Please use WebSocket Streams for live updates to avoid polling the API."
            )
            raise self._slow_down(-1003, text, spent)
        assert raw is not None
        text = f"Too many requests; current limit is {raw.limit} requests per 5 MINUTE."
        raise self._slow_down(-1003, text, raw)

    def check_orders(self, account: str) -> None:
        """Refuse a new order (429, -1015) when the account has too many unfilled ones in a window."""
        for limit in self._orders if self._enforce else ():
            used = limit.window.spend(account, 0)
            if used.used >= used.limit:
                text = f"Too many new orders; current limit is {used.limit} orders per {limit.number} {limit.interval}."
                raise self._slow_down(-1015, text, used)

    def count_order(self, account: str, change: int = 1) -> None:
        """Count a placed order; ``change`` -1 gives one back, as a fill does."""
        for limit in self._orders:
            if change > 0 or limit.window.used(account) > 0:
                limit.window.spend(account, change)

    def headers(self, address: str, account: str | None = None) -> dict[str, str]:
        """Return the usage headers of an answer; with ``account`` the order counts too."""
        used = str(self._weight.window.used(address))
        headers = {"X-MBX-USED-WEIGHT": used, f"X-MBX-USED-WEIGHT-{self._weight.header}": used}
        if account is not None:
            for limit in self._orders:
                headers[f"X-MBX-ORDER-COUNT-{limit.header}"] = str(limit.window.used(account))
        return headers

    def rows(self, address: str, account: str | None = None) -> list[dict[str, object]]:
        """Return usage as the WebSocket API's ``rateLimits``."""
        rows = self.order_rows(account) if account is not None else []
        return [*rows, self._row(self._weight, self._weight.window.used(address))]

    def order_rows(self, account: str) -> list[dict[str, object]]:
        return [self._row(limit, limit.window.used(account)) for limit in self._orders]

    def _row(self, limit: _Limit, count: int) -> dict[str, object]:
        return {
            "rateLimitType": limit.type,
            "interval": limit.interval,
            "intervalNum": limit.number,
            "limit": limit.window.limit,
            "count": count,
        }

    def _slow_down(self, code: int, text: str, spent: Spent) -> ApiError:
        seconds = max(1, math.ceil(spent.retry_after))
        now = self._clock.time_ms()
        data: dict[str, object] = {"serverTime": now, "retryAfter": now + seconds * 1000}
        return ApiError(code, text, status=429, data=data, retry_after=seconds)

    def _banned(self, until: float) -> ApiError:
        now = self._clock.time_ms()
        end = int(until * 1000)
        text = (
            f"Way too much request weight used; IP banned until {end}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
        data: dict[str, object] = {"serverTime": now, "retryAfter": end}
        return ApiError(-1003, text, status=418, data=data, retry_after=max(1, math.ceil((end - now) / 1000)))
