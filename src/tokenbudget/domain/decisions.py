"""Which answers to checks are kept. It refuses to store them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

MOST_DENIALS_A_MINUTE: Final = 10
"""How many denials of one kind a worker keeps of each minute; further ones are counted."""

PERCENT: Final = 100


class DenialKind(NamedTuple):
    """What makes denials alike: whose check, by which budget (empty for none), for what reason."""

    key_id: str
    budget_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeptDecision:
    """A decision as it was answered; ``budget_version`` is that of the binding budget."""

    decision_id: str
    decided_at: datetime
    key_id: str
    decision: str
    reasons: Sequence[str]
    tags: Mapping[str, str]
    provider: str
    model: str
    requests: int
    estimate_nanos: int | None
    budget_id: str | None
    budget_version: int | None
    hold_id: str | None
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class KeptDecisions:
    """One page of decisions, newest first.

    ``omitted`` denials met the conditions and were only counted, by whole minutes, on any page.
    """

    items: Sequence[KeptDecision]
    next_cursor: str | None
    omitted: int


@dataclass(slots=True)
class DenialTally:
    """How many denials of each kind were kept of the minute that is under way."""

    minute: datetime | None = None
    kept: dict[DenialKind, int] = field(default_factory=dict)

    def keeps(self, kind: DenialKind, minute: datetime) -> bool:
        """Tell whether one more of this kind is kept, and count it if so."""
        if self.minute != minute:
            self.minute, self.kept = minute, {}
        count = self.kept.get(kind, 0)
        if count >= MOST_DENIALS_A_MINUTE:
            return False
        self.kept[kind] = count + 1
        return True


def is_sampled(decision_id: str, percent: int) -> bool:
    """Tell whether a decision is among the share that is kept; every worker says the same."""
    return zlib.crc32(decision_id.encode()) % PERCENT < percent
