"""What follows from the names of attributes alone, found out once for all that have the same names.

A program sends the same few sets of names again and again: whatever depends on the names only need
not be found out for every span. It owns how many sets are remembered and how long they may be, so
that no sender can fill the memory. It refuses to know what any name means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeAlias, TypeVar

MAX_LAYOUTS: Final = 1_024
MAX_NAMES: Final = 64
MAX_CHARACTERS: Final = 4_096

Names: TypeAlias = tuple[str, ...]
LayoutT = TypeVar("LayoutT")


class Layouts(Generic[LayoutT]):
    """What was found out for sets of names, by the names in their order; safe among threads."""

    __slots__ = ("_find_out", "_known")

    def __init__(self, find_out: Callable[[Names], LayoutT]) -> None:
        self._find_out = find_out
        self._known: dict[Names, LayoutT] = {}

    def of(self, attributes: Mapping[str, object]) -> LayoutT:
        """Give what follows from the names of these attributes."""
        names = tuple(attributes)
        layout = self._known.get(names)
        return self._add(names) if layout is None else layout

    def _add(self, names: Names) -> LayoutT:
        layout = self._find_out(names)
        if len(names) <= MAX_NAMES and sum(map(len, names)) <= MAX_CHARACTERS:
            if len(self._known) >= MAX_LAYOUTS:
                self._known.clear()
            self._known[names] = layout
        return layout
