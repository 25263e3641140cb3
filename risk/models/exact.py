"""Amounts of this app: exact on every database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from trading.instruments import money


def exact_text(value: Decimal) -> str:
    """Return a number in full, without trailing zeros and without an exponent."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class ExactField(models.CharField):  # type: ignore[type-arg]
    """A Decimal of numeric(38, 18), kept as text: SQLite's own numbers have 15 digits. To be shown, not added up."""

    description = "Exact decimal, kept as text"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_length"] = 40
        super().__init__(*args, **kwargs)

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Decimal | None:
        return None if value is None else Decimal(value)

    def to_python(self, value: Any) -> Any:
        if value is None or value == "":
            return None
        try:
            return Decimal(exact_text(money(value, field=self.name or "amount")))
        except (ValueError, TypeError) as error:
            raise ValidationError(str(error), code="invalid") from None

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else exact_text(money(value, field=self.name or "amount"))

    def run_validators(self, value: Any) -> None:
        """Its length is that of its text, which :meth:`to_python` has bounded."""
