"""Ids of created things.

UUIDv7 (RFC 9562, section 5.7), so that they sort by the time they were made.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Final

from tokenbudget.domain.periods import to_micros

RANDOM_BYTES: Final = 10
VERSION: Final = 0x7
VARIANT: Final = 0b10


def new_id(now: datetime) -> str:
    """Give a fresh UUIDv7 as text; ids of different milliseconds sort by time."""
    milliseconds = to_micros(now) // 1000
    noise = int.from_bytes(os.urandom(RANDOM_BYTES))
    high = (milliseconds << 16) | (VERSION << 12) | ((noise >> 62) & 0xFFF)
    low = (VARIANT << 62) | (noise & ((1 << 62) - 1))
    digits = f"{high:016x}{low:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
