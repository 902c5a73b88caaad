"""Files of single calls, read by the format that recognises them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.calls import find_call_format
from tokenbudget.formats.events import Door
from tokenbudget.formats.litellm import CallbackDoor

BILLING = Path(__file__).parents[2] / "data" / "billing"
GENERATIONS = BILLING / "openrouter-generations.csv"
SPEND_LOGS = BILLING / "litellm-spend-logs.json"
OBSERVATIONS = BILLING / "langfuse-observations-v2.jsonl"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KNOWN_PROVIDERS = {"openai": "openai", "acme": "acme"}


def read_events(path: Path, source: str | None = None) -> list[UsageEvent]:
    """Give the events of a file."""
    call_format = find_call_format(path, source)
    assert call_format is not None
    door = CallbackDoor(Door(NOW, timedelta(days=1)), KNOWN_PROVIDERS.get)
    return [event for _, event in call_format.read(path, door)]


def write_lines(directory: Path, *rows: Mapping[str, Any], name: str = "calls.jsonl") -> Path:
    """Write a row a line."""
    path = directory / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
