"""The one place where the client reads the clock."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Give the current instant."""
    return datetime.now(UTC)
