"""What output is assumed of calls that name no maximum: what such calls usually had.

It owns which usage tells of it, how it is counted and what a worker knows. A bound is the 95th
percentile of the calls of a provider, model and feature over seven days of use; where too few calls
tell, there is none and the caller falls back on a setting.

Each usage is counted once, some time after it was recorded, by the id up to which counting has
come. What later corrects it (a revision, another witness) is not counted again, and neither is what
did not succeed or stands for several requests. Usage that a slow transaction records behind
``SETTLING_TIME`` may be missed. None of it is of account: it only bounds estimates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.output_bounds import BOUND_DAYS, OutputBound, bound_of, bucket_of
from tokenbudget.domain.periods import Window, window_at
from tokenbudget.domain.usage import OK_STATUS
from tokenbudget.store.db import Database
from tokenbudget.store.output_bounds import (
    CallOutput,
    CountedKey,
    OutputKey,
    add_counts,
    find_last_computed,
    find_last_counted,
    forget_counts,
    id_before,
    list_bounds,
    list_outputs,
    replace_bounds,
    sum_counts,
)
from tokenbudget.store.rollups import find_dimension_sets

CALLS_PER_PIECE: Final = 20_000
"""Usages read in one transaction."""

MAX_BOUNDS: Final = 50_000
"""Most bounds that are kept and known to a worker, those of most calls."""

SETTLING_TIME: Final = timedelta(minutes=1)
"""How old usage is when it is counted, so that what is recorded beside it is there."""


@dataclass(slots=True)
class OutputShelf:
    """What this process knows of outputs; it is replaced as a whole, so any thread may ask."""

    computed_at: datetime | None = None
    bounds: Mapping[OutputKey, OutputBound] = field(default_factory=dict)

    def find(self, provider: str, model: str, feature: str | None) -> OutputBound | None:
        """Give what calls usually have, None where it is not known."""
        if not self.bounds:
            return None
        return self.bounds.get(OutputKey(provider, model, feature or ""))

    def refresh(self, database: Database) -> None:
        """Read the bounds if they have been worked out anew since they were read."""
        with database.reading() as session:
            computed_at = find_last_computed(session)
            if computed_at == self.computed_at:
                return
            read = {key: OutputBound(tokens, calls) for key, tokens, calls in list_bounds(session)}
        self.bounds = read
        self.computed_at = computed_at


def count_outputs(
    database: Database, *, now: datetime, calls_per_piece: int = CALLS_PER_PIECE
) -> int:
    """Count the usage that is new, work out all bounds, and give how many usages were looked at.

    Each piece is a transaction of its own: what is interrupted is gone on with.
    """
    since = window_at(Window.DAY, now, "UTC").start - timedelta(days=BOUND_DAYS - 1)
    total = 0
    while True:
        with database.transaction() as session:
            looked_at = _count_piece(session, since, now, calls_per_piece)
        total += looked_at
        if looked_at < calls_per_piece:
            break
    with database.transaction() as session:
        forget_counts(session, since)
        known = [(key, bound_of(calls)) for key, calls in sum_counts(session).items()]
        bounds = [(key, bound.tokens, bound.calls) for key, bound in known if bound is not None]
        bounds.sort(key=lambda bound: (-bound[2], bound[0]))
        replace_bounds(session, bounds[:MAX_BOUNDS], now=now)
    return total


def _count_piece(session: Session, since: datetime, now: datetime, limit: int) -> int:
    last = find_last_counted(session)
    after = id_before(session, since) if last is None else last
    outputs = list_outputs(session, after=after, recorded_before=now - SETTLING_TIME, limit=limit)
    dimensions = find_dimension_sets(session, {each.dimension_set_id for each in outputs})
    add_counts(
        session,
        _count(outputs, dimensions, since),
        last_usage_id=outputs[-1].usage_id if outputs else after,
    )
    return len(outputs)


def _count(
    outputs: Sequence[CallOutput], dimensions: Mapping[int, DimensionSet], since: datetime
) -> Mapping[CountedKey, int]:
    calls: Counter[CountedKey] = Counter()
    for call in outputs:
        place = dimensions[call.dimension_set_id]
        is_telling = (
            call.occurred_at >= since
            and place.status == OK_STATUS
            and (call.other_units or {}).get("requests", 1) == 1
        )
        if call.output_tokens is not None and is_telling:
            model = call.request_model or place.model
            key = OutputKey(place.provider, model, place.feature or "")
            day = window_at(Window.DAY, call.occurred_at, "UTC").start
            calls[CountedKey(day, key, bucket_of(call.output_tokens))] += 1
    return calls
