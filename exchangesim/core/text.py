"""Numbers and secrets as text on the wire: written as exchanges do, read as strictly as exchanges must."""

from __future__ import annotations

import hmac
import re
from decimal import Decimal
from typing import Any

import msgspec

_PLAIN = re.compile(r"\d{1,20}(\.\d{0,20})?|\.\d{1,20}")


def plain(value: Decimal) -> str:
    """Return a decimal as exchanges write it: no exponent, no trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_decimal(value: object) -> Decimal | None:
    """Return a plain, unsigned decimal number from a JSON string or number, else None.

    Signs, exponents, NaN, infinities, separators and more than 20 digits on either side are not numbers here.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    text = str(value)
    return Decimal(text) if text.isascii() and _PLAIN.fullmatch(text) else None


def same(wanted: str, given: str) -> bool:
    """Compare a secret or signature with what a client sent, in constant time, whatever bytes that holds."""
    return hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace"))


_DECODER = msgspec.json.Decoder(float_hook=Decimal)


def read_json(text: str) -> Any:
    """Return a JSON value with decimals kept exact; None when the text is not JSON (or is ``null``)."""
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, ArithmeticError, RecursionError, UnicodeError):
        return None
