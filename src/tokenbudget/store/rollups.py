"""Reading rollups and their dimension sets.

It owns the sums; it refuses usage, charges and every write.

What is read grows with the days asked for and the combinations of dimensions in use, never with the
number of events.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import sqlalchemy as sa
from sqlmodel import Session

from tokenbudget.domain.allocation import DIMENSIONS, DimensionSet
from tokenbudget.domain.rollups import MEASURES, RollupSum, Segment
from tokenbudget.store.db import ROWS_PER_STATEMENT, table_of
from tokenbudget.store.tables import DimensionSetRow, RollupRow

ROLLUP = table_of(RollupRow)
# The sum of BIGINT is NUMERIC on PostgreSQL: the cast keeps integers or refuses.
SUMS_OF_SEGMENT = (
    sa.select(
        ROLLUP.c.dimension_set_id,
        *(sa.cast(sa.func.sum(ROLLUP.c[name]), sa.BigInteger) for name in MEASURES),
    )
    .where(
        ROLLUP.c.grain_seconds == sa.bindparam("grain"),
        ROLLUP.c.starts_at >= sa.bindparam("lower"),
        ROLLUP.c.starts_at < sa.bindparam("upper"),
    )
    .group_by(ROLLUP.c.dimension_set_id)
)


def sum_rollups(session: Session, segments: Iterable[Segment]) -> Iterator[RollupSum]:
    """Give the sums of each segment and dimension set that has any, one range read a segment."""
    # One join with a list of segments would be planned by PostgreSQL as their product.
    connection = session.connection()
    for segment in segments:
        period = segment.period
        bounds = {"grain": segment.grain_seconds, "lower": period.start, "upper": period.end}
        for dimension_set_id, *sums in connection.execute(SUMS_OF_SEGMENT, bounds).all():
            yield RollupSum(segment.piece, dimension_set_id, tuple(sums))


def find_dimension_sets(session: Session, ids: Collection[int]) -> dict[int, DimensionSet]:
    """Give these dimension sets by id, without the steps that resolved them."""
    table = table_of(DimensionSetRow)
    names = (*DIMENSIONS, "is_retry", "api_key", "tags")
    columns = [table.c[name] for name in names]
    ordered = sorted(ids)
    found: dict[int, DimensionSet] = {}
    for first in range(0, len(ordered), ROWS_PER_STATEMENT):
        chunk = ordered[first : first + ROWS_PER_STATEMENT]
        statement = sa.select(table.c.id, *columns).where(table.c.id.in_(chunk))
        for set_id, *values in session.connection().execute(statement):
            found[set_id] = DimensionSet(**dict(zip(names, values, strict=True)))
    return found
