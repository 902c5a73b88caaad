"""What is asked of a new API key on the wire. It refuses to know which scopes there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.wire import plain_fault, require_no_nul

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
TagText = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class KeyShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of a key that is to be made; only name and scopes are required."""

    name: Text
    scopes: list[Text]
    pinned_tags: dict[TagText, TagText] = {}
    trust: str = "caller"
    required_tags: list[TagText] = []
    on_missing: str = "unallocated"


def parse_key(body: Mapping[str, Any]) -> KeyShape:
    """Give what a request asks for; raises InvalidInput naming the field and the rule."""
    try:
        shape = msgspec.convert(body, KeyShape)
    except msgspec.ValidationError as error:
        raise InvalidInput(plain_fault(error, "key")) from None
    require_no_nul(shape)
    return shape
