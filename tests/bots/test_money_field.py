"""Money is exact in the database, compared and summed as numbers, and refused when absurd."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bots.fields import MoneyFormField, MoneySum, exact_product, plain
from bots.models import Balance, Market

pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal
exact = st.decimals(
    min_value=D("-99999999999999999999"), max_value=D("99999999999999999999"), places=18, allow_nan=False
)


@pytest.fixture
def balance(busy_world):
    return Balance.objects.first()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=exact)
def test_all_38_digits_come_back(balance, value):
    balance.free = value
    balance.save()
    balance.refresh_from_db()
    assert balance.free == value
    assert Balance.objects.filter(pk=balance.pk, free=value).exists()


def test_rows_compare_and_sort_as_numbers(busy_world):
    rows = list(Balance.objects.order_by("pk"))
    values = [D("9"), D("10"), D("-3"), D("0.000000000000000001")]
    for row, value in zip(rows, values, strict=True):
        Balance.objects.filter(pk=row.pk).update(free=value)
    assert list(Balance.objects.order_by("free").values_list("free", flat=True)) == sorted(values)
    assert set(Balance.objects.filter(free__gt=0).values_list("free", flat=True)) == {v for v in values if v > 0}
    assert Balance.objects.filter(free__gte="9.0").count() == 2


def test_sum_is_exact_beyond_a_float(busy_world):
    for row, value in zip(
        Balance.objects.order_by("pk"), ["99999999999999999999", "0.000000000000000001", "-99999999999999999999", "0"],
        strict=True,
    ):  # fmt: skip
        Balance.objects.filter(pk=row.pk).update(free=D(value))
    assert Balance.objects.aggregate(total=MoneySum("free"))["total"] == D("0.000000000000000001")
    assert Balance.objects.none().aggregate(total=MoneySum("free"))["total"] is None


@pytest.mark.parametrize("value", [D("NaN"), D("Infinity"), D("1e20"), D("-1e400"), "abc", 0.1, D("1e-19")])
def test_absurd_values_do_not_reach_the_database(balance, value):
    balance.free = value
    with pytest.raises((ValueError, TypeError)), transaction.atomic():
        balance.save()


def test_values_come_back_without_trailing_zeros_or_exponents(balance):
    balance.free = D("1500.500000000000000000")
    balance.used = D("1E+3")
    balance.save()
    balance.refresh_from_db()
    assert (str(balance.free), str(balance.used)) == ("1500.5", "1000")


def test_constraints_are_kept_by_the_database_itself(busy_world):
    with pytest.raises(IntegrityError), transaction.atomic():
        Market.objects.update(tick=D(0))
    with pytest.raises(IntegrityError), transaction.atomic():
        Market.objects.update(min_notional=D("-0.000000000000000001"))


def test_amounts_survive_an_export_and_import(balance, tmp_path):
    balance.free = D("12345678901234567890.123456789012345678")
    balance.save()
    call_command("dumpdata", "bots.balance", output=str(tmp_path / "rows.json"), verbosity=0)
    Balance.objects.all().delete()
    call_command("loaddata", str(tmp_path / "rows.json"), verbosity=0)
    assert Balance.objects.get(pk=balance.pk).free == D("12345678901234567890.123456789012345678")


@pytest.mark.parametrize(
    "text", ["NaN", "nan", "Infinity", "-inf", "1e400", "1,5", "１２", "0x10", "1_000", "1 000", "1e", "++1", "1e-19"]
)
def test_form_refuses_what_is_not_a_plain_amount(text):
    with pytest.raises(ValidationError, match="given"):
        MoneyFormField().clean(text)


@pytest.mark.parametrize(
    ("text", "value"), [("0.10", "0.1"), ("1e3", "1000"), (" 7 ", "7"), ("-.5", "-0.5"), ("3.", "3")]
)
def test_form_reads_amounts_exactly(text, value):
    assert str(MoneyFormField().clean(text)) == value


@given(a=exact, b=st.decimals(min_value=-1, max_value=1, places=18))
def test_products_are_cut_only_beyond_the_18th_place(a, b):
    exact_value = Fraction(a) * Fraction(b)
    product = exact_product(a, b)
    assert abs(Fraction(product)) <= abs(exact_value)
    assert abs(exact_value - Fraction(product)) < Fraction(1, 10**18)
    assert plain(product) == product
