"""What spending was for: resolved tickets, accepted answers, scores. It owns unit costs.

It refuses to store or find outcomes. Values are whole billionths, so that sums are exact.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tokenbudget.domain.money import NANOS_PER_UNIT, divide_half_even

COST_PER_PREFIX: Final = "cost_per:"
OUTCOMES_PREFIX: Final = "outcomes:"
OUTCOME_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")
NAME_RULE: Final = "must be a letter and up to 63 letters, digits, dots, dashes or underscores"
MAX_VALUE_NANOS: Final = 10**6 * NANOS_PER_UNIT


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome as normalised at the door.

    It is known by ``source`` and ``event_ref``. ``value_nanos`` is its value in billionths,
    negative where it takes an earlier one back. It counts under ``tags``; None of them means under
    those of its operation.
    """

    source: str
    event_ref: str
    content_hash: int
    name: str
    value_nanos: int
    occurred_at: datetime
    operation_ref: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutcomeSum:
    """Outcomes of one name and dimension set in one piece of time, in billionths."""

    piece: int
    dimension_set_id: int
    name: str
    value_nanos: int


def cost_per_outcome(nanos: int, value_nanos: int) -> int | None:
    """Give the cost of one outcome in nanos, rounded half to even.

    None when there is nothing to divide by: no outcomes, or more taken back than told.
    """
    if value_nanos <= 0:
        return None
    return divide_half_even(nanos * NANOS_PER_UNIT, value_nanos)


def outcome_of_metric(metric: str) -> str | None:
    """Give the outcome that ``cost_per:<name>`` divides by; None for any other metric."""
    name = metric.removeprefix(COST_PER_PREFIX)
    return name if name != metric and OUTCOME_NAME.match(name) else None
