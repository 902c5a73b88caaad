"""Fitted families as a file of estimators (TOML), in the shape ``tokens.use_estimators`` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenbudget.domain.calibration import BASIS_POINTS, Fit
from tokenbudget.tokens import ESTIMATORS_SCHEMA

HEADING = """\
# Fitted by `tokenbudget prices calibrate` from settled quota checks.
# What is not here is as packaged. Name this file in TOKENBUDGET_ESTIMATORS_FILE to count by it.
"""


def write_estimators(fits: Iterable[tuple[str, int, Fit]]) -> str:
    """Give the file of the families: their name, how many calls they were fitted to, their fit."""
    blocks = [_block(name, call_count, fit) for name, call_count, fit in fits]
    return "\n".join([f"{HEADING}schema = {ESTIMATORS_SCHEMA}\n", *blocks])


def format_points(points: int) -> str:
    """Give basis points as a decimal with four places, such as ``1.0600``."""
    whole, rest = divmod(points, BASIS_POINTS)
    return f"{whole}.{rest:04d}"


def _block(name: str, call_count: int, fit: Fit) -> str:
    spread = f"{format_points(fit.low)} and {format_points(fit.high)}"
    lines = [
        f"# {call_count} calls; four in five lie between {spread}.",
        "[[family]]",
        f"name = {json.dumps(name)}",
        f"multiplier = {format_points(fit.multiplier)}",
        f"band = {format_points(fit.band)}",
    ]
    return "\n".join(lines) + "\n"
