"""The conformance helper itself: it must be able to fail."""

from __future__ import annotations

from tests.exchangesim.conformance import differences

REAL = {"symbol": "BTCUSDT", "price": "1.0", "id": 1, "fills": [{"qty": "1", "fee": None}]}


def test_equal_shapes_have_no_differences() -> None:
    ours = {"symbol": "ETHUSDT", "price": "2", "id": 7, "fills": [{"qty": "3", "fee": None}, {"qty": "4", "fee": None}]}
    assert differences(ours, REAL) == []


def test_missing_and_extra_keys_are_named() -> None:
    ours = {"symbol": "ETHUSDT", "price": "2", "fills": [{"qty": "3", "fee": None}], "time": 1}
    assert differences(ours, REAL) == ["id: missing", "time: the exchange has no such key"]
    assert differences(ours, REAL, extra={"time"}, missing={"id"}) == []


def test_a_number_is_not_a_numeric_string() -> None:
    ours = {**REAL, "price": 2.0}
    assert differences(ours, REAL) == ["price: number (2.0) where the exchange sends numeric string ('1.0')"]


def test_words_are_not_numeric_strings() -> None:
    assert len(differences({**REAL, "price": "abc"}, REAL)) == 1


def test_every_element_of_a_list_is_compared() -> None:
    ours = {**REAL, "fills": [{"qty": "1", "fee": None}, {"qty": 1, "fee": None}]}
    assert differences(ours, REAL) == ["fills[].qty: number (1) where the exchange sends numeric string ('1')"]


def test_an_empty_list_proves_nothing() -> None:
    assert differences({**REAL, "fills": []}, REAL) == ["fills[]: empty, so nothing is compared"]


def test_objects_keyed_by_data_are_compared_by_value() -> None:
    real = {"fees": {"BTC": "1"}}
    assert differences({"fees": {"ETH": "2"}}, real, free_keys={"fees"}) == []
    assert len(differences({"fees": {"ETH": 2}}, real, free_keys={"fees"})) == 1
