"""Opaque cursors."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.cursors import CursorPart, decode_cursor, encode_cursor


@given(st.lists(st.none() | st.integers() | st.text(st.characters(codec="utf-8"))))
def test_a_cursor_gives_back_its_parts(parts: list[CursorPart]) -> None:
    cursor = encode_cursor(parts)

    assert decode_cursor(cursor, length=len(parts)) == parts
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize("content", ["", "{}", "[1,2]", "[1.5]", "[true]", "[[]]", "[" * 100_000])
def test_a_cursor_no_page_gave_is_refused(content: str) -> None:
    cursor = base64.urlsafe_b64encode(content.encode()).decode()

    with pytest.raises(InvalidInput, match="cursor is not one that a page of this list gave"):
        decode_cursor(cursor, length=1)


@pytest.mark.parametrize("cursor", ["é", "a", "%%%", "/w"])
def test_text_that_is_not_base64_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        decode_cursor(cursor, length=1)
