"""Settled holds beside the usage that settled them: what was counted and what was reported."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.store.db import table_of
from tokenbudget.store.tables import DimensionSetRow, HoldResolutionRow, HoldRow, UsageRow


class CountedUsage(NamedTuple):
    """A hold whose text was counted, and its usage as last revised; ``flags`` are the usage's."""

    asked_model: str
    counted_tokens: int
    counting_method: str
    used_model: str
    input_tokens: int
    flags: str | None


def list_counted_usage(session: Session, *, limit: int) -> list[CountedUsage]:
    """Give the holds that were counted and settled by usage with known input, latest first."""
    holds, resolutions = table_of(HoldRow), table_of(HoldResolutionRow)
    settling, latest = table_of(UsageRow).alias("settling"), table_of(UsageRow).alias("latest")
    revisions, dimensions = table_of(UsageRow).alias("revisions"), table_of(DimensionSetRow)
    last_revision = (
        sa.select(sa.func.max(revisions.c.revision))
        .where(
            revisions.c.source_id == settling.c.source_id,
            revisions.c.event_ref == settling.c.event_ref,
        )
        .scalar_subquery()
    )
    statement = (
        sa.select(
            holds.c.model,
            holds.c.counted_tokens,
            holds.c.counting_method,
            dimensions.c.model,
            latest.c.input_tokens,
            latest.c.flags,
        )
        .select_from(resolutions)
        .join(holds, holds.c.id == resolutions.c.hold_id)
        .join(settling, settling.c.id == resolutions.c.usage_id)
        .join(
            latest,
            sa.and_(
                latest.c.source_id == settling.c.source_id,
                latest.c.event_ref == settling.c.event_ref,
                latest.c.revision == last_revision,
            ),
        )
        .join(dimensions, dimensions.c.id == latest.c.dimension_set_id)
        .where(holds.c.counted_tokens.is_not(None), latest.c.input_tokens.is_not(None))
        .order_by(resolutions.c.resolved_at.desc(), resolutions.c.hold_id.desc())
        .limit(limit)
    )
    return [CountedUsage(*row) for row in session.connection().execute(statement)]
