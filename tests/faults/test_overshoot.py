"""Budgets are never overspent, and no headroom is stuck: under load, and with workers killed.

Where estimates are too low, the truth is posted, the overage shown and the next call denied. The
table is that of ``python -m tests.faults.overshoot``.
"""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa

from tests.builders import DOLLAR
from tests.faults.conftest import Place
from tests.faults.overshoot import (
    KILL_ESTIMATE,
    KILL_LIMIT,
    KILLS_AT_ONCE,
    ROUNDS,
    TENANTS,
    Truth,
    measure,
    print_findings,
)
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import HoldResolutionRow


def noted_overage(place: Place) -> int:
    """Give what the ends of all holds note as settled above the hold, in nanos."""
    database = Database(place.database_url)
    overage = table_of(HoldResolutionRow).c.overage_nanos
    with database.reading() as session:
        nanos = session.connection().execute(sa.select(sa.func.sum(overage))).scalar()
    database.close()
    return int(nanos or 0)


def test_nothing_is_overspent_and_nothing_is_stuck(place: Place) -> None:
    rows, truth = measure(place)

    print_findings({place.engine: (rows, truth)})
    one, overlapping, tenants, killed = rows
    assert [row.overshoot for row in rows] == [Decimal(0)] * 4
    assert all(row.is_remainder_granted for row in rows)
    assert one.admitted == 20
    assert Decimal("39.91") < overlapping.taken <= overlapping.limit
    assert tenants.admitted == 3 * TENANTS
    assert killed.admitted == ROUNDS * KILL_LIMIT / KILL_ESTIMATE
    assert killed.kills == 2 * ROUNDS * KILLS_AT_ONCE[place.engine]
    # Requests were under way when workers died.
    assert killed.amid_work > killed.kills / 2
    # A hundred holds of a cent fill the dollar; each call then cost five cents.
    assert truth == Truth(
        limit=Decimal(1),
        calls=100,
        held=Decimal(1),
        settled=Decimal(5),
        overage=Decimal(4),
        following="deny",
    )
    assert noted_overage(place) == 4 * DOLLAR
