"""Rollups as the ledger leaves them, with boring defaults, for tests of whatever reads them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.periods import EPOCH
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.store.db import Database
from tokenbudget.store.ledger import add_rollups, digest_of, intern_dimension_sets

CENT = 10_000_000


@dataclass(frozen=True, slots=True)
class RolledUsage:
    """Usage that went into the rollups: one request of ten tokens for a cent unless told."""

    occurred_at: datetime
    dimensions: DimensionSet
    measures: dict[str, int] = field(default_factory=dict)


def make_dimensions(**overrides: Any) -> DimensionSet:
    """Give a dimension set of the growth team."""
    return DimensionSet(**{"team": "growth", "provider": "openai", "model": "gpt-5.2", **overrides})


def make_usage(
    occurred_at: datetime, *, measures: dict[str, int] | None = None, **dimensions: Any
) -> RolledUsage:
    """Give usage for one cent at list, contracted and effective price."""
    defaults = {"requests": 1, "input_tokens": 8, "output_tokens": 2}
    money = {name: CENT for name in MEASURES if name.endswith("_nanos")}
    given = {**money, **defaults, **(measures or {})}
    return RolledUsage(occurred_at, make_dimensions(**dimensions), given)


def roll_up(database: Database, usages: Iterable[RolledUsage]) -> None:
    """Write the usages into both grains of rollups, as the ledger does."""
    listed = list(usages)
    with database.transaction() as session:
        set_ids = intern_dimension_sets(session, [usage.dimensions for usage in listed])
        add_rollups(session, _rows(listed, set_ids))


def _rows(usages: Sequence[RolledUsage], set_ids: dict[str, int]) -> list[dict[str, Any]]:
    sums: defaultdict[tuple[int, datetime, int], Counter[str]] = defaultdict(Counter)
    for usage in usages:
        set_id = set_ids[digest_of(usage.dimensions)]
        for grain in (QUARTER_HOUR_SECONDS, DAY_SECONDS):
            starts_at = usage.occurred_at - (usage.occurred_at - EPOCH) % timedelta(seconds=grain)
            sums[grain, starts_at, set_id].update(usage.measures)
    return [
        {
            "grain_seconds": grain,
            "starts_at": starts_at,
            "dimension_set_id": set_id,
            "price_row_id": 0,
            **{name: summed[name] for name in MEASURES},
        }
        for (grain, starts_at, set_id), summed in sums.items()
    ]
