"""Unpriced usage in the rollups: what was used and has no known price yet."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.rollups import Segment
from tokenbudget.store.db import table_of
from tokenbudget.store.tables import DimensionSetRow, RollupRow

UNPRICED_MEASURES = ("unpriced_requests", "input_tokens", "output_tokens")


def sum_unpriced(
    session: Session, segments: Iterable[Segment]
) -> dict[tuple[str, str], tuple[int, ...]]:
    """Give requests, input and output tokens without a price by (provider, model)."""
    rollups, dimensions = table_of(RollupRow), table_of(DimensionSetRow)
    sums: dict[tuple[str, str], tuple[int, ...]] = {}
    for segment in segments:
        statement = (
            sa.select(
                dimensions.c.provider,
                dimensions.c.model,
                *(
                    sa.cast(sa.func.sum(rollups.c[name]), sa.BigInteger)
                    for name in UNPRICED_MEASURES
                ),
            )
            .join(dimensions, dimensions.c.id == rollups.c.dimension_set_id)
            .where(
                rollups.c.grain_seconds == segment.grain_seconds,
                rollups.c.starts_at >= segment.period.start,
                rollups.c.starts_at < segment.period.end,
                rollups.c.price_row_id == 0,
                rollups.c.unpriced_requests > 0,
            )
            .group_by(dimensions.c.provider, dimensions.c.model)
        )
        for provider, model, *figures in session.connection().execute(statement):
            present = sums.get((provider, model), (0,) * len(UNPRICED_MEASURES))
            sums[provider, model] = tuple(a + b for a, b in zip(present, figures, strict=True))
    return sums
