"""The one place where the client reads the clock of the day, and the one that only goes forward."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Give the current instant."""
    return datetime.now(UTC)


if hasattr(time, "CLOCK_BOOTTIME"):

    def elapsed_seconds() -> float:
        """Give the seconds since some moment, those included in which the machine slept."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:  # pragma: no cover

    def elapsed_seconds() -> float:
        """Give the seconds since some moment, on the best clock that this system has."""
        return time.monotonic()
