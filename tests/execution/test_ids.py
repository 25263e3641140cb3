"""Client order ids: derived, unique, readable back, and fit for every exchange."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.execution.ids import LENGTH, OrderId, check_prefix, client_order_id, is_ours, parse, trade_id

ALPHABET = string.ascii_lowercase + string.digits
parts = st.builds(
    OrderId,
    prefix=st.text(ALPHABET, min_size=4, max_size=4),
    owner=st.integers(0, 36**6 - 1),
    token=st.integers(0, 36**6 - 1),
    sequence=st.integers(0, 36**7 - 1),
    leg=st.integers(0, 35),
    attempt=st.integers(0, 35),
)


def make(order: OrderId) -> str:
    return client_order_id(trade_id(order.prefix, order.owner, order.token, order.sequence), order.leg, order.attempt)


@given(parts)
def test_an_id_reads_back_to_what_it_was_made_of(order: OrderId) -> None:
    text = make(order)
    assert parse(text) == order
    assert len(text) == LENGTH <= 28
    assert set(text) <= set(ALPHABET)
    assert text.startswith(order.trade_id)


@given(parts, parts)
def test_different_orders_have_different_ids(one: OrderId, other: OrderId) -> None:
    assert (make(one) == make(other)) == (one == other)


@given(parts, st.integers(0, LENGTH - 1), st.sampled_from(ALPHABET))
def test_a_wrong_character_is_noticed(order: OrderId, position: int, wrong: str) -> None:
    text = make(order)
    if text[position] != wrong:
        assert parse(text[:position] + wrong + text[position + 1 :]) is None


@given(st.text(max_size=40))
def test_foreign_ids_are_not_ours(text: str) -> None:
    parsed = parse(text)
    assert parsed is None or make(parsed) == text


def test_ours_is_by_installation_and_owner() -> None:
    text = client_order_id(trade_id("abcd", 7, 3, 1), 0, 0)
    assert is_ours(text, "abcd", 7)
    assert not is_ours(text, "abce", 7)
    assert not is_ours(text, "abcd", 8)
    assert not is_ours("x-TKT5PX2F0123456789", "abcd", 7)


@pytest.mark.parametrize("prefix", ["", "abc", "abcde", "ab-d", "ABCD", "äbcd"])
def test_a_bad_prefix_is_named(prefix: str) -> None:
    with pytest.raises(ValueError, match="id_prefix"):
        check_prefix(prefix)


@pytest.mark.parametrize("numbers", [(36**6, 0, 0), (0, -1, 0), (0, 0, 36**7)])
def test_a_number_that_does_not_fit_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be 0 to"):
        trade_id("abcd", *numbers)


@pytest.mark.parametrize("trade", ["", "trade-1", "A" * 23])
def test_only_trades_of_this_form_get_ids(trade: str) -> None:
    with pytest.raises(ValueError, match="trade_id"):
        client_order_id(trade, 0, 0)
