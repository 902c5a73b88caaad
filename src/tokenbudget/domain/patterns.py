"""Patterns that names answer to: exact, glob (only ``*`` is special) or ``/regular expression/``.

It owns how a pattern is read; it refuses to know what the names stand for.
"""

from __future__ import annotations

import re
from functools import lru_cache


def pattern_expression(pattern: str) -> str | None:
    """Give the regular expression to search with, None when the pattern is an exact name."""
    if len(pattern) > 2 and pattern.startswith("/") and pattern.endswith("/"):
        return pattern[1:-1]
    if "*" in pattern:
        return r"\A" + ".*".join(re.escape(part) for part in pattern.split("*")) + r"\Z"
    return None


def is_exact(pattern: str) -> bool:
    """Tell whether the pattern is one name."""
    return pattern_expression(pattern) is None


def answers_to(name: str, pattern: str) -> bool:
    """Tell whether a name (lower case, as the pattern is) answers to the pattern."""
    expression = _compiled(pattern)
    return name == pattern if expression is None else expression.search(name) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    expression = pattern_expression(pattern)
    return None if expression is None else re.compile(expression)
