"""Versions of documents that are applied whole, as the API tells of them."""

from __future__ import annotations

from typing import Any

from tokenbudget.domain.documents import DocumentVersion
from tokenbudget.domain.periods import format_instant


def describe_version(version: DocumentVersion) -> dict[str, Any]:
    """Give which version it is and who wrote it when, without its content."""
    recorded_at = version.recorded_at
    return {
        "version": version.version,
        "recorded_at": None if recorded_at is None else format_instant(recorded_at),
        "recorded_by": version.recorded_by,
    }
