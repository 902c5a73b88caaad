"""A span's attributes by what they mean.

It owns the look-up of aliases (``names.FIELDS``). It refuses to interpret what it finds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from tokenbudget.formats.otlp.layouts import Layouts, Names
from tokenbudget.formats.otlp.names import FIELDS
from tokenbudget.formats.otlp.shapes import Attributes, AttributeValue
from tokenbudget.formats.otlp.values import count_of, decimal_of, text_of

Places = tuple[tuple[str, int], ...]


class Fields:
    """The fields among some attributes: of several that may hold one, the best that is there."""

    __slots__ = ("attributes", "found")

    def __init__(self, attributes: Attributes) -> None:
        self.attributes = attributes
        self.found: dict[str, AttributeValue] = {}
        for field, names in HOLDERS.of(attributes):
            for name in names:
                value = attributes[name]
                if value is not None and value != "":
                    self.found[field] = value
                    break

    def __contains__(self, field: str) -> bool:
        """Tell whether any attribute holds the field."""
        return field in self.found

    def get(self, field: str) -> AttributeValue:
        """Give the field as it was sent, None when no attribute holds it."""
        return self.found.get(field)

    def text(self, field: str) -> str | None:
        """Give the field as text that can be stored, or None."""
        value = self.found.get(field)
        return None if value is None else text_of(value)

    def count(self, field: str) -> int | None:
        """Give the field as a whole number of at least zero, or None."""
        value = self.found.get(field)
        return None if value is None else count_of(value)

    def number(self, field: str) -> Decimal | None:
        """Give the field as a finite number, or None."""
        value = self.found.get(field)
        return None if value is None else decimal_of(value)


def _places() -> dict[str, Places]:
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for field, names in FIELDS.items():
        for rank, name in enumerate(names):
            places[name].append((field, rank))
    return {name: tuple(each) for name, each in places.items()}


def _holders(names: Names) -> tuple[tuple[str, Names], ...]:
    """Give the fields that may be found among these names, and the names of each, best first."""
    ranked: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        for field, rank in PLACES.get(name, ()):
            ranked[field].append((rank, name))
    return tuple((field, tuple(name for _, name in sorted(each))) for field, each in ranked.items())


PLACES: Final[Mapping[str, Places]] = _places()
HOLDERS: Final = Layouts(_holders)
