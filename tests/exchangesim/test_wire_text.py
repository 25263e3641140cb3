"""Numbers, secrets and JSON as text: written plainly, read strictly."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchangesim.core.text import plain, read_decimal, read_json, same


@given(st.decimals(min_value=0, max_value=10**15, places=8))
def test_written_numbers_read_back_as_themselves(value: Decimal) -> None:
    text = plain(value)
    assert read_decimal(text) == value
    assert "E" not in text.upper()
    assert not ("." in text and text.endswith(("0", ".")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1e5",
        "NaN",
        "Infinity",
        "1,5",
        "1_0",
        " 1",
        "1 ",
        "\uff11",
        "0x1",
        "9" * 21,
        "1." + "1" * 21,
        ".",
    ],
)
def test_what_is_no_plain_number_is_not_read(text: str) -> None:
    assert read_decimal(text) is None


@pytest.mark.parametrize("value", [None, True, [], {}, 1.5, b"1"])
def test_only_texts_and_exact_numbers_are_read(value: object) -> None:
    assert read_decimal(value) is None


@given(st.text(max_size=30), st.text(max_size=30))
def test_secrets_are_equal_only_to_themselves(wanted: str, given_: str) -> None:
    assert same(wanted, wanted)
    assert same(wanted, given_) == (wanted == given_)


def test_undecodable_bytes_of_a_client_are_just_wrong() -> None:
    assert not same("secret", "\udce9")


def test_json_numbers_stay_exact() -> None:
    assert read_json('{"px": 0.1}') == {"px": Decimal("0.1")}


@given(st.text(max_size=50))
def test_any_text_is_json_or_none(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        assert read_json(text) is None
    else:
        assert read_json(text) == pytest.approx(expected) or str(expected) in ("nan", "inf", "-inf")


def test_absurd_nesting_is_no_json() -> None:
    assert read_json("[" * 200_000) is None
