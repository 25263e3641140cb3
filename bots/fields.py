"""Money and secrets in columns: exact decimals on every database, ciphertext that no query can look into."""

from __future__ import annotations

import re
from decimal import ROUND_DOWN, Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import FieldError, ValidationError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Aggregate, Func
from django.utils.deconstruct import deconstructible

from trading.instruments import MAX_MONEY, MIN_STEP, money

DIGITS, PLACES = 38, 18
# Wide enough for the product of two numeric(38, 18) values; Python's default of 28 digits would round silently.
EXACT = Context(prec=80)
# ASCII only: Decimal() would also read full-width and Arabic digits, which a form should question.
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,4})?", re.ASCII)


def plain(value: Decimal) -> Decimal:
    """Return the same number without trailing zeros and without an exponent (1E+3 becomes 1000)."""
    with localcontext(EXACT):
        short = value.normalize()
        exponent = short.as_tuple().exponent
        return short.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else short


def exact_product(*factors: Decimal) -> Decimal:
    """Multiply without rounding, then cut to what the database holds (18 places)."""
    with localcontext(EXACT):
        result = Decimal(1)
        for factor in factors:
            result *= factor
        # Below 1e-18 nothing is left, which is not an error of anybody's input.
        result = result.quantize(MIN_STEP, rounding=ROUND_DOWN)
    return money(plain(result), field="product")


def exact_sum(values: Any) -> Decimal:
    """Add Decimals without rounding."""
    with localcontext(EXACT):
        return sum(values, Decimal(0))


@deconstructible
class Between:
    """Validator: the number lies in [low, high]; the message names the limits, the unit and what was given."""

    def __init__(self, low: str, high: str, unit: str = "") -> None:
        self.low, self.high, self.unit = low, high, unit

    def __call__(self, value: Decimal | int) -> None:
        number = Decimal(value)
        if not (number.is_finite() and Decimal(self.low) <= number <= Decimal(self.high)):
            unit = f" {self.unit}" if self.unit else ""
            given = f"{plain(number):f}" if number.is_finite() and abs(number) < MAX_MONEY else str(value)[:40]
            raise ValidationError(f"Must be between {self.low} and {self.high}{unit} (given {given}).", code="range")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Between) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.low, self.high, self.unit))


class MoneyFormField(forms.CharField):
    """A decimal typed by a person: plain ASCII digits, at most 18 places, below 1e20."""

    def to_python(self, value: Any) -> Any:
        text = str(value).strip() if value is not None else ""
        if text in self.empty_values:
            return None
        if not _NUMBER.fullmatch(text):
            raise ValidationError(
                f"Enter a plain decimal number such as 0.25, with a point and without thousands marks "
                f"(given {text[:40]!r}).",
                code="invalid",
            )
        number = Decimal(text)
        if abs(number) >= MAX_MONEY:
            raise ValidationError(f"Must be below 1e20 (given {text[:40]}).", code="max_digits")
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int) and plain(number) != 0 and plain(number) % MIN_STEP != 0:
            raise ValidationError(f"At most 18 decimal places (given {text[:40]}).", code="max_decimal_places")
        return plain(number)

    def prepare_value(self, value: Any) -> Any:
        return f"{plain(value):f}" if isinstance(value, Decimal) and value.is_finite() else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(initial) != self.to_python(data))
        except ValidationError:
            return True


if TYPE_CHECKING:
    _DecimalColumn = models.DecimalField[Any, Any]
    _TextColumn = models.TextField[Any, Any]
else:
    # At run time not a DecimalField: Django would show all 18 places, and on SQLite go through a float.
    _DecimalColumn = models.Field
    _TextColumn = models.TextField


class MoneyField(_DecimalColumn):
    """numeric(38, 18), exact on both databases; reads back without trailing zeros.

    SQLite's own numbers keep 15 digits. There the column is text with the collation ``decimal``, so comparisons,
    constraints and ORDER BY are numeric; the names are those of SQLite's official decimal extension, which its
    command line has built in. Sums go through :class:`MoneySum`.
    """

    description = "Exact decimal"
    empty_strings_allowed = False

    def get_internal_type(self) -> str:
        return "MoneyField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "text COLLATE decimal" if connection.vendor == "sqlite" else f"numeric({DIGITS}, {PLACES})"

    def cast_db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "text" if connection.vendor == "sqlite" else f"numeric({DIGITS}, {PLACES})"

    def to_python(self, value: Any) -> Decimal | None:
        if value is None:
            return None
        try:
            return plain(money(value, field=self.name or "amount"))
        except (ValueError, TypeError) as error:
            raise ValidationError(str(error), code="invalid") from None

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return None if value is None else plain(money(value, field=self.name or "amount"))

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        if hasattr(value, "resolve_expression"):
            return value
        value = value if prepared else self.get_prep_value(value)
        return f"{value:f}" if value is not None and connection.vendor == "sqlite" else value

    def get_placeholder(self, value: Any, compiler: Any, connection: BaseDatabaseWrapper) -> str:
        # Constraints are validated on bare values before a row is saved; those have no column's collation.
        return "%s COLLATE decimal" if connection.vendor == "sqlite" else "%s"

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Decimal | None:
        return None if value is None else plain(Decimal(str(value)))

    def value_to_string(self, obj: models.Model) -> str:
        value = self.value_from_object(obj)
        return "" if value is None else f"{plain(Decimal(value)):f}"

    def formfield(self, **kwargs: Any) -> Any:
        kwargs.pop("max_length", None)
        return super().formfield(**{"form_class": MoneyFormField, **kwargs})


class MoneySum(Aggregate):
    """SUM of a money column without a float in between; None over no rows."""

    function = "SUM"
    name = "MoneySum"
    allow_distinct = False

    def __init__(self, expression: Any, **extra: Any) -> None:
        super().__init__(expression, output_field=MoneyField(), **extra)

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, function="decimal_sum", **extra)


class MoneyAdd(Func):
    """Two amounts added by the database, so that of two writers neither loses what the other added."""

    function = "decimal_add"
    arity = 2

    def __init__(self, *expressions: Any, **extra: Any) -> None:
        super().__init__(*expressions, output_field=MoneyField(), **extra)

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s)", arg_joiner=" + ", **extra)


class _DecimalSum:
    """The aggregate ``decimal_sum`` of SQLite's decimal extension."""

    def __init__(self) -> None:
        self.values: list[Decimal] = []

    def step(self, value: str | None) -> None:
        if value is not None:
            self.values.append(Decimal(str(value)))

    def finalize(self) -> str | None:
        return f"{plain(exact_sum(self.values)):f}" if self.values else None


def _decimal_order(left: str, right: str) -> int:
    a, b = Decimal(left), Decimal(right)
    return (a > b) - (a < b)


def _decimal_add(left: str | None, right: str | None) -> str | None:
    if left is None or right is None:
        return None
    return f"{plain(exact_sum([Decimal(left), Decimal(right)])):f}"


def sqlite_decimal_functions(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Teach a new SQLite connection the collation and the sums that :class:`MoneyField` needs."""
    if connection.vendor == "sqlite" and connection.connection is not None:
        connection.connection.create_collation("decimal", _decimal_order)
        connection.connection.create_aggregate("decimal_sum", 1, _DecimalSum)
        connection.connection.create_function("decimal_add", 2, _decimal_add, deterministic=True)


class CiphertextField(_TextColumn):
    """Encrypted text. It can be stored and read, never searched, filtered, ordered by form or shown.

    A lookup would answer questions about the secret bit by bit (``?credentials__startswith=...``), so the only one
    allowed is ``isnull``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name != "isnull":
            raise FieldError(f"{self.name}: encrypted, cannot be searched")
        return super().get_lookup(lookup_name)

    def get_transform(self, lookup_name: str) -> Any:
        raise FieldError(f"{self.name}: encrypted, cannot be searched")
