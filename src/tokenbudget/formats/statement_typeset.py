"""What the typesetter is told: the context of a statement as JSON of texts.

It owns which characters can be shown by which fonts, and where long names may break. It refuses
layout (``reports/statement.typ``) and to look for fonts. A character that no font shows is spelled
out, such as ``[U+5C0F]``: never an empty box, and never an invisible one that turns text around.
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import groupby
from typing import Final

from tokenbudget.formats.statement_report import StatementReport
from tokenbudget.formats.statement_words import Figure

BUNDLED_RANGES: Final = (
    (0x20, 0x4FF),
    (0x531, 0x5F4),
    (0x621, 0x63A),
    (0x640, 0x66D),
    (0x6F0, 0x6F9),
    (0x904, 0x97F),
    (0x10D0, 0x10FF),
    (0x1D00, 0x2027),
    (0x202F, 0x2040),
    (0x2044, 0x2052),
    (0x2054, 0x211E),
    (0x2126, 0x2151),
    (0x2153, 0x2184),
    (0x2190, 0x23FF),
    (0x2460, 0x262F),
)
"""What the typesetter's own fonts show: Latin, Greek, Cyrillic, Armenian, Hebrew, plain Arabic,
Devanagari, Georgian, punctuation and common signs."""

PAN_CJK: Final = tuple(
    f"{name} {place}"
    for name in ("Noto Sans CJK", "Source Han Sans", "Noto Serif CJK")
    for place in ("SC", "JP", "KR", "TC")
)
SYSTEM_RANGES: Final = (
    ((0x600, 0x6FF), ("Noto Sans Arabic", "Noto Naskh Arabic", "DejaVu Sans")),
    ((0xE01, 0xE5B), ("Noto Sans Thai", "Loma", "Garuda")),
    ((0x1100, 0x11FF), PAN_CJK),
    ((0x2E80, 0x9FFF), PAN_CJK),
    ((0xAC00, 0xD7A3), PAN_CJK),
    ((0xF900, 0xFAFF), PAN_CJK),
    ((0xFF01, 0xFFEE), PAN_CJK),
)
"""What well-known fonts show that a system may have."""

LONG_WORD: Final = re.compile(r"\S{21,}")
BREAK_AFTER: Final = re.compile(r"[^-_./:@,]{0,11}[-_./:@,]|.{12}")
BREAK: Final = "\N{ZERO WIDTH SPACE}"
UNSEEN: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@dataclass(frozen=True, slots=True)
class Typeset:
    """JSON for the typesetter, and the fonts of the system that it needs.

    ``is_spelled_out`` tells that there are characters which none of the fonts show.
    """

    text: str
    fonts: tuple[str, ...]
    is_spelled_out: bool


@dataclass(slots=True)
class _Speller:
    families: frozenset[str]
    used: dict[str, None] = field(default_factory=dict)
    is_spelled_out: bool = False

    def spell(self, text: str) -> str:
        """Give the text with what cannot be shown spelled out, and breaks in long words."""
        parts = []
        for is_shown, characters in groupby(text, self._is_shown):
            joined = "".join(characters)
            self.is_spelled_out |= not is_shown
            parts.append(joined if is_shown else _code_points(joined))
        return LONG_WORD.sub(_with_breaks, "".join(parts))

    def _is_shown(self, character: str) -> bool:
        point = ord(character)
        if unicodedata.category(character) in UNSEEN:
            return False
        if _is_bundled(point):
            return True
        for (first, last), families in SYSTEM_RANGES:
            found = next((each for each in families if each in self.families), None)
            if first <= point <= last and found is not None:
                self.used[found] = None
                return True
        return False


def typeset_statement(report: StatementReport, families: Collection[str] = ()) -> Typeset:
    """Give the context as JSON; ``families`` are the fonts that the system has.

    Without any of them the result depends on the report alone.
    """
    speller = _Speller(frozenset(families))
    text = json.dumps(_plain(report, speller), ensure_ascii=False, indent=1)
    return Typeset(text, tuple(speller.used), speller.is_spelled_out)


def _plain(value: object, speller: _Speller) -> object:
    if isinstance(value, Figure):
        return value.text
    if isinstance(value, str):
        return speller.spell(value)
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name), speller) for each in fields(value)}
    if isinstance(value, tuple):
        return [_plain(each, speller) for each in value]
    return value


def _is_bundled(point: int) -> bool:
    place = bisect_right(BUNDLED_RANGES, point, key=lambda each: each[0])
    return place > 0 and point <= BUNDLED_RANGES[place - 1][1]


def _code_points(text: Iterable[str]) -> str:
    return f"[{' '.join(f'U+{ord(each):04X}' for each in text)}]"


def _with_breaks(match: re.Match[str]) -> str:
    """Let a long word break behind its own marks, else anywhere."""
    return BREAK_AFTER.sub(lambda part: f"{part[0]}{BREAK}", match[0])
