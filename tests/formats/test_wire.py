"""What the shapes at the door share."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.wire import find_nul_field, plain_fault, require_no_nul


class Shape(msgspec.Struct):
    """A shape for trying."""

    name: str = ""
    tags: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        (Shape(), None),
        (Shape("plain"), None),
        (Shape("a\0b"), "name"),
        (Shape(tags={"a\0": "b"}), "tags"),
        (Shape(tags={"a": ["\\", "\\\0"]}), "tags"),
        (Shape("\\u0000", {"a": "\\\\u0000"}), None),
    ],
)
def test_the_field_with_a_nul_character_is_found(shape: Shape, field: str | None) -> None:
    assert find_nul_field(shape) == field


def test_a_nul_character_is_refused_by_the_name_of_its_field() -> None:
    require_no_nul(Shape("plain"))

    with pytest.raises(InvalidInput, match="name holds a NUL character") as caught:
        require_no_nul(Shape("\0"))
    assert caught.value.facts == {"field": "name"}


@pytest.mark.parametrize(
    ("document", "worded"),
    [
        (b'{"name": 5}', "Expected `str`, got `int` - at `name`"),
        (b'{"tags": 5}', "Expected `object`, got `int` - at `tags`"),
        (b"5", "Expected `object`, got `int`"),
    ],
)
def test_a_fault_names_fields_as_the_sender_wrote_them(document: bytes, worded: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(document, type=Shape)

    assert plain_fault(caught.value, "shape") == worded
