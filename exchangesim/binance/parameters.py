"""Reading the parameters of a request the way Binance does, with its errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from exchangesim.binance.errors import ApiError, illegal_characters, missing

_DECIMAL = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
_CLIENT_ID = r"^[a-zA-Z0-9-_]{1,36}$"
_SYMBOL = r"^[A-Z0-9-_.]{1,20}$"
_INTEGER = r"^[0-9]{1,20}$"
ASSET_PLACES = 8
LARGEST_INTEGER = 2**63 - 1


class Parameters:
    """The parameters of one request as texts; each read is remembered, so that unread ones can be refused."""

    def __init__(self, given: Mapping[str, str], *, lenient: bool = False) -> None:
        """``lenient`` ignores what nobody reads, as the futures APIs do."""
        self._given, self._lenient = given, lenient
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str) -> str | None:
        """Return a parameter, None when it was not sent. Raises -1105 for an empty one."""
        self._read.add(name)
        value = self._given.get(name)
        if value == "":
            raise ApiError(-1105, f"Parameter '{name}' was empty.")
        return value

    def need(self, name: str) -> str:
        """Return a mandatory parameter; raises -1102."""
        self._read.add(name)
        value = self._given.get(name)
        if not value:
            raise missing(name)
        return value

    def matching(self, name: str, legal: str) -> str | None:
        value = self.text(name)
        if value is not None and re.fullmatch(legal, value) is None:
            raise illegal_characters(name, legal)
        return value

    def symbol(self) -> str | None:
        return self.matching("symbol", _SYMBOL)

    def client_id(self, name: str) -> str | None:
        return self.matching(name, _CLIENT_ID)

    def integer(self, name: str) -> int | None:
        value = self.matching(name, _INTEGER)
        if value is None:
            return None
        if int(value) > LARGEST_INTEGER:
            raise ApiError(-1108, f"Parameter '{name}' overflowed.")
        return int(value)

    def limit(self, *, default: int, most: int) -> int:
        value = self.integer("limit")
        if value is None:
            return default
        if value == 0:
            raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(value, most)

    def amount(self, name: str) -> Decimal | None:
        """Return a decimal; raises -1100 for what is not a plain number, -1111 for more than eight places."""
        value = self.matching(name, _DECIMAL)
        if value is None:
            return None
        if len(value.partition(".")[2].rstrip("0")) > ASSET_PLACES:
            raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
        return Decimal(value)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise illegal_characters(name, "true|false")
        return value.lower() == "true"

    def word(self, name: str, allowed: Iterable[str], error: ApiError) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            raise error
        return value

    def names(self, name: str) -> list[str] | None:
        """Return a JSON list of texts, ``["BTCUSDT","BNBBTC"]``."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return msgspec.json.decode(value, type=list[str])
        except msgspec.MsgspecError:
            raise ApiError(-1135, f"JSON sent for parameter '{name}' is not valid") from None

    def ignore(self, *names: str) -> None:
        self._read.update(names)

    def refuse_unread(self) -> None:
        """Raise -1104 when something was sent that nobody read."""
        unread = set(self._given) - self._read
        if unread and not self._lenient:
            sent = len(self._given)
            raise ApiError(
                -1104,
                f"Not all sent parameters were read; read '{sent - len(unread)}' parameter(s) but was sent '{sent}'.",
            )
