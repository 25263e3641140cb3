"""Client order ids: derived, never drawn, so that they tell a restarted process whose they are.

26 letters and digits, which every exchange we know accepts (Binance 36, OKX 32, Bybit 36, Gate 28, Kraken 18 of
another kind: its folder maps them)::

    prefix 4 | owner 6 | lease token 6 | trade sequence 7 | leg 1 | attempt 1 | check 1      (base 36, lower case)

The lease token makes ids of two processes different even if both count trades from one; the prefix belongs to the
installation, so that a fresh database on the same account does not repeat ids. The check digit keeps ids a person
typed by hand from passing as ours.
"""

from __future__ import annotations

import msgspec

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_VALUE = {digit: index for index, digit in enumerate(DIGITS)}
_WEIGHTS = (1, 5, 7, 11, 13, 17, 19, 23, 25, 29, 31, 35)
PREFIX, OWNER, TOKEN, SEQUENCE = 4, 6, 6, 7
TRADE_ID_LENGTH = PREFIX + OWNER + TOKEN + SEQUENCE
LENGTH = TRADE_ID_LENGTH + 3


class OrderId(msgspec.Struct, frozen=True):
    """What a client order id says. ``leg`` and ``attempt`` are 0 to 35."""

    prefix: str
    owner: int
    token: int
    sequence: int
    leg: int
    attempt: int

    @property
    def trade_id(self) -> str:
        return trade_id(self.prefix, self.owner, self.token, self.sequence)


def _base36(number: int, width: int, field: str) -> str:
    if number < 0 or number >= 36**width:
        raise ValueError(f"{field}: must be 0 to {36**width - 1} to fit a client order id (given {number})")
    text = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
    return text


def _check_digit(body: str) -> str:
    # Weights coprime to 36, so that every single wrong digit changes the sum.
    return DIGITS[sum(_WEIGHTS[index % len(_WEIGHTS)] * _VALUE[digit] for index, digit in enumerate(body)) % 36]


def check_prefix(prefix: str) -> str:
    """Return ``prefix``; raise ValueError unless it is four lower-case letters or digits."""
    if len(prefix) != PREFIX or any(digit not in _VALUE for digit in prefix):
        raise ValueError(f"id_prefix: must be {PREFIX} lower-case letters or digits (given {prefix!r})")
    return prefix


def trade_id(prefix: str, owner: int, token: int, sequence: int) -> str:
    """Return a trade's id; a sequence may be used once per lease token."""
    return (
        check_prefix(prefix)
        + _base36(owner, OWNER, "owner")
        + _base36(token, TOKEN, "lease token")
        + _base36(sequence, SEQUENCE, "trade sequence")
    )


def client_order_id(trade: str, leg: int, attempt: int) -> str:
    """Return the id of one attempt at one leg of a trade; raise ValueError if the trade's id is not of this form."""
    if len(trade) != TRADE_ID_LENGTH or any(digit not in _VALUE for digit in trade):
        raise ValueError(f"trade_id: not an id of ours (given {trade[:40]!r})")
    body = trade + _base36(leg, 1, "leg") + _base36(attempt, 1, "attempt")
    return body + _check_digit(body)


def parse(client_id: str) -> OrderId | None:
    """Return what ``client_id`` says, or None when it is not one of ours."""
    if len(client_id) != LENGTH or any(digit not in _VALUE for digit in client_id):
        return None
    body, check = client_id[:-1], client_id[-1]
    if _check_digit(body) != check:
        return None
    position = 0
    fields = []
    for width in (PREFIX, OWNER, TOKEN, SEQUENCE, 1, 1):
        fields.append(body[position : position + width])
        position += width
    prefix, *numbers = fields
    owner, token, sequence, leg, attempt = (int(number, 36) for number in numbers)
    return OrderId(prefix, owner, token, sequence, leg, attempt)


class Ids:
    """Makes the ids of one engine, all of them under its own lease token.

    Orders of a trade that an earlier engine began have ids of this one too: a database restored from a backup has
    forgotten the newest of the earlier engine's, and would make them again.
    """

    def __init__(self, prefix: str, owner: int, token: int) -> None:
        self._prefix, self._owner, self._token = check_prefix(prefix), owner, token
        self.sequence = 0

    def next_trade(self) -> str:
        """Return an id for a new trade."""
        self.sequence += 1
        return trade_id(self._prefix, self._owner, self._token, self.sequence)

    def for_orders_of(self, trade: str) -> str:
        """Return what a trade's further orders are named after: its own id if this engine began it, else a new one."""
        own = trade_id(self._prefix, self._owner, self._token, 0)[: PREFIX + OWNER + TOKEN]
        return trade if trade.startswith(own) else self.next_trade()

    def met(self, client_id: str) -> None:
        """Leave out what an id shows to be used already."""
        parsed = parse(client_id)
        if parsed is not None and (parsed.prefix, parsed.owner, parsed.token) == (
            self._prefix,
            self._owner,
            self._token,
        ):
            self.sequence = max(self.sequence, parsed.sequence)


def is_ours(client_id: str, prefix: str, owner: int) -> bool:
    """Return whether this installation made ``client_id`` for this owner."""
    parsed = parse(client_id)
    return parsed is not None and parsed.prefix == prefix and parsed.owner == owner
