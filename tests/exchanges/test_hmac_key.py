"""Signatures are the standard library's, whatever the key and the text, and a key signs any number of texts."""

from __future__ import annotations

import hmac

from hypothesis import given
from hypothesis import strategies as st

from trading.exchanges.hmac_key import BLOCK, HmacKey


@given(st.binary(max_size=3 * BLOCK), st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_it_signs_as_the_standard_library_does(secret: bytes, texts: list[bytes]) -> None:
    key = HmacKey(secret)
    assert [key.hexdigest(text) for text in texts] == [hmac.new(secret, text, "sha256").hexdigest() for text in texts]


def test_keys_of_the_length_of_a_block_and_beyond() -> None:
    for length in (0, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK):
        secret = b"\xff" * length
        assert HmacKey(secret).hexdigest(b"text") == hmac.new(secret, b"text", "sha256").hexdigest()
