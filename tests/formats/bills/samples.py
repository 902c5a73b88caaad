"""Where the sample bills lie."""

from __future__ import annotations

from pathlib import Path

BILLING = Path(__file__).parents[2] / "data" / "billing"
