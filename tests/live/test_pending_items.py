"""What a page has not been sent yet: merged, latest wins, bounded."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bots.consumers import PendingItems
from bots.live_socket import input_refusal

published = st.builds(
    lambda kind, key, value: {"kind": kind, "key": key, "data": {"value": value}},
    st.sampled_from(["quote", "trade", "pnl"]),
    st.sampled_from(["a", "b", "c"]),
    st.integers(),
)


@given(st.lists(st.lists(published, max_size=8), max_size=20))
def test_the_latest_value_of_each_kind_and_key_is_kept(batches: list[list[dict[str, Any]]]) -> None:
    pending = PendingItems()
    expected = {}
    for batch in batches:
        pending.merge(batch)
        for item in batch:
            expected[item["kind"], item["key"]] = item["data"]["value"]
    taken = pending.take()
    assert {(item["kind"], item["key"]): item["data"]["value"] for item in taken} == expected
    assert len(taken) == len(expected)
    assert not pending
    assert not pending.take()


@given(st.integers(1, 20), st.lists(st.integers(0, 1000), max_size=60))
def test_it_never_holds_more_than_its_limit_and_says_when_it_let_go(limit: int, keys: list[int]) -> None:
    pending = PendingItems(limit=limit)
    for key in keys:
        pending.merge([{"kind": "quote", "key": str(key), "data": {}}])
        assert len(pending) <= limit
    assert pending.overflowed == (len(set(keys)) > limit)


@given(st.text())
def test_any_text_from_a_page_is_either_understood_or_refused_in_words(text: str) -> None:
    assert isinstance(input_refusal(text), str)


def test_only_the_request_for_a_snapshot_is_understood() -> None:
    assert input_refusal('{"type": "snapshot"}') == ""
    for text in (None, "", "{", "null", '"snapshot"', '{"type": null}', '{"type": {}}', '{"snapshot": 1}'):
        assert input_refusal(text), text
