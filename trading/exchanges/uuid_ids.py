"""Our client order ids as UUIDs and back, for exchanges that take nothing else.

Kraken (docs.kraken.com, Spot Client Order Identifiers) takes a UUID or free text of 18 characters, Coinbase asks for a
UUID. An id of ours has 26 characters, and a hash of it could not be read back: after a restart our own orders in a
list would look like somebody else's. So its digits are the UUID's bits: prefix 4, owner 4, lease token 5, trade
sequence 7, leg and attempt 1 each (base 36), then 8 bits that tell it from a UUID of others. A version 4 UUID has 122
free bits; these are 114 + 8.
"""

from __future__ import annotations

from trading.execution.ids import DIGITS, client_order_id, parse

OWNERS, TOKENS = 36**4, 36**5
_DIGITS = 22
_CHECK = 251
_VERSION, _VARIANT = 4, 0b10


def as_uuid(client_id: str) -> str:
    """Return the UUID that stands for a client order id.

    Raises
    ------
    ValueError
        If it is not an id of ours, or its owner or lease token is beyond what fits.
    """
    known = parse(client_id)
    if known is None:
        raise ValueError(f"client_order_id: not an id of ours (given {client_id[:40]!r})")
    if known.owner >= OWNERS or known.token >= TOKENS:
        raise ValueError(
            f"client_order_id: owner must be below {OWNERS} and lease token below {TOKENS} to fit a UUID "
            f"(given {known.owner} and {known.token})"
        )
    # Without the leading zeros of owner and token, and the check digit.
    number = int(client_id[:4] + client_id[6:10] + client_id[11:25], 36)
    bits = (number << 8) | (number % _CHECK)
    value = ((bits >> 74) << 80) | (_VERSION << 76) | (((bits >> 62) & 0xFFF) << 64) | (_VARIANT << 62)
    text = f"{value | (bits & (2**62 - 1)):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def from_uuid(text: str) -> str:
    """Return the client order id that a UUID stands for; the text itself when it is none of ours."""
    digits = text.replace("-", "").lower()
    if len(digits) != 32 or any(digit not in "0123456789abcdef" for digit in digits):
        return text
    value = int(digits, 16)
    if (value >> 76) & 0xF != _VERSION or (value >> 62) & 0b11 != _VARIANT:
        return text
    bits = ((value >> 80) << 74) | (((value >> 64) & 0xFFF) << 62) | (value & (2**62 - 1))
    number, check = bits >> 8, bits & 0xFF
    if number % _CHECK != check or number >= 36**_DIGITS:
        return text
    body = ""
    for _ in range(_DIGITS):
        number, digit = divmod(number, 36)
        body = DIGITS[digit] + body
    trade = f"{body[:4]}00{body[4:8]}0{body[8:20]}"
    return client_order_id(trade, DIGITS.index(body[20]), DIGITS.index(body[21]))
