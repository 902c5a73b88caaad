"""How cells of a FOCUS file are spelt: numbers, times, texts and flat JSON.

It owns FOCUS's formats (FOCUS_Spec v1.2, Numeric, Date/Time, String and JSON Format); it refuses to
know which cell holds what. Texts are ASCII, since readers of FOCUS demand it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from tokenbudget.domain.focus import ATTO_DIGITS, ATTOS_PER_UNIT

INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"
CACHED_TEXTS: Final = 4_096
UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f]")
MARKS: Final = "Mn"


@lru_cache(maxsize=CACHED_TEXTS)
def decimal_text(attos: int) -> str:
    """Give a plain decimal of attos with at least one digit after the point and no zero too many.

    A whole number says ``12.0``, so that a column of them is not taken for integers.
    """
    sign = "-" if attos < 0 else ""
    whole, fraction = divmod(abs(attos), ATTOS_PER_UNIT)
    digits = f"{fraction:0{ATTO_DIGITS}d}".rstrip("0") if fraction else "0"
    return f"{sign}{whole}.{digits}"


def count_text(count: int) -> str:
    """Give a quantity of whole units as a decimal, ``12.0``."""
    return f"{count}.0"


@lru_cache(maxsize=CACHED_TEXTS)
def instant_text(instant: datetime) -> str:
    """Give an instant to the second in UTC, ``2026-09-01T00:00:00Z``."""
    return instant.astimezone(UTC).strftime(INSTANT)


def end_text(start: datetime, end: datetime) -> str:
    """Give the end of a period to the second, at least one second after its start."""
    return instant_text(max(end, start + timedelta(seconds=1)))


@lru_cache(maxsize=CACHED_TEXTS)
def id_text(text: str | None) -> str | None:
    r"""Give the text with all but printable ASCII escaped, so two ids never become one.

    ``Zürich`` is ``Z\xfcrich``. None and the empty text are None.
    """
    if not text:
        return None
    escaped = text.encode("ascii", "backslashreplace").decode("ascii")
    return UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped)


@lru_cache(maxsize=CACHED_TEXTS)
def name_text(text: str | None) -> str | None:
    """Give the text for people to read, ``Zurich``: accents go, what is still no ASCII is escaped.

    None and the empty text are None.
    """
    if not text:
        return None
    plain = unicodedata.normalize("NFKD", text)
    return id_text("".join(sign for sign in plain if unicodedata.category(sign) != MARKS))


def json_text(values: Mapping[str, str | None]) -> str | None:
    """Give a flat JSON object in ASCII without what is None; None when nothing is left."""
    told = {name: value for name, value in values.items() if value is not None}
    return json.dumps(told, ensure_ascii=True) if told else None
