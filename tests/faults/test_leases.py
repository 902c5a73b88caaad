"""Leases never overspend a budget, and what the dead held comes back when their leases end.

The table is that of ``python -m tests.faults.leases``.
"""

from __future__ import annotations

from decimal import Decimal

from tests.faults.conftest import Place
from tests.faults.lease_worker import CALL_SECONDS, LEASED_CALLS, LEASED_SECONDS
from tests.faults.leases import BOUND, KILLED, PROCESSES, measure, print_findings

WAIT_SECONDS = 10


def test_leases_of_eight_processes_overspend_nothing_and_strand_nothing_for_good(
    place: Place,
) -> None:
    rows = measure(place)

    print_findings({place.engine: rows})
    shared, killed = rows
    assert [row.overshoot for row in rows] == [Decimal(0)] * 2
    assert all(row.is_remainder_granted for row in rows)
    # Most calls asked nobody. A process gives up after a second of denials: what little is left by
    # then, since others had it leased, is the remainder that is granted above.
    assert shared.leased > shared.admitted / 2
    assert shared.limit - shared.spent < PROCESSES * BOUND
    assert shared.stranded == 0
    # A dead process leaves one slice unused at most, and the calls of which nobody was told yet.
    most = KILLED * 2 * LEASED_CALLS * BOUND
    assert 0 < killed.stranded <= most
    assert killed.back_after_seconds < LEASED_SECONDS["kill"] + CALL_SECONDS["kill"] + WAIT_SECONDS
