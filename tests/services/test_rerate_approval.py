"""Approving applies just what a dry run saw, once, whatever happens meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.builders import (
    cents,
    contents,
    make_event,
    make_events,
    record,
    rows_of,
)
from tests.conftest import FrozenClock
from tests.services.rerate_cases import (
    BOOK,
    CHANGED_BOOK,
    FIXED_BOOK,
    ledger_by,
    rerate,
    spent_nanos,
)
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import Conflict, NotFound
from tokenbudget.domain.rerating import Rerate, RerateScope, RerateState
from tokenbudget.services.rerating import (
    approve_rerate,
    get_rerate,
    list_rerates,
    propose_rerate,
)
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.tables import PeriodCloseRow, RerateRow


class Crash(RuntimeError):
    """The process ends here."""


def test_approving_again_changes_nothing(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), *make_events(3))
    applied = rerate(database, FIXED_BOOK, clock)
    before = contents(database)

    again = approve_rerate(database, FIXED_BOOK, applied.rerate_id, now=clock())

    assert again == applied
    assert contents(database) == before


def test_asking_again_while_nothing_changed_gives_the_same_proposal(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event())
    first = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock())
    clock.advance(hours=1)

    assert propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock()) == first
    assert list_rerates(database, limit=10) == [first]


def test_another_price_book_needs_another_dry_run(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event())
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock())
    before = contents(database)

    with pytest.raises(Conflict, match="make a new dry run"):
        approve_rerate(database, CHANGED_BOOK, proposed.rerate_id, now=clock())

    assert contents(database) == before


def test_usage_that_changed_since_needs_another_dry_run(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    record(ledger, make_event())
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock())
    record(ledger, make_event(usage=cents(4), revision=1))
    before = contents(database)

    with pytest.raises(Conflict, match="has changed since its dry run"):
        approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=clock())

    assert contents(database) == before


def test_usage_recorded_since_by_the_fixed_book_does_not_matter(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event())
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock())
    record(ledger_by(services, FIXED_BOOK), make_event(event_id="new"))

    applied = approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=clock())

    assert applied.applied == proposed.proposed
    assert spent_nanos(database) == 2 * 25_000_000


def test_what_a_crash_leaves_is_continued_by_approving_again(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), *make_events(5))
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock(), usages_per_part=2)

    def crash(_usages: int) -> None:
        raise Crash

    with pytest.raises(Crash):
        approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=clock(), advance=crash)
    begun = get_rerate(database, proposed.rerate_id)
    assert (begun.state, begun.applied.usages) == (RerateState.APPROVED, 2)
    assert spent_nanos(database) == 2 * 25_000_000 + 3 * 20_000_000

    told: list[int] = []
    finished = approve_rerate(
        database, FIXED_BOOK, proposed.rerate_id, now=clock(), advance=told.append
    )

    assert (finished.state, finished.applied) == (RerateState.APPLIED, proposed.proposed)
    assert told == [2, 1]
    assert spent_nanos(database) == 5 * 25_000_000


def test_usage_revised_while_a_rerate_is_applied_is_left_alone(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    record(ledger, *make_events(3))
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock(), usages_per_part=2)

    def revise(_usages: int) -> None:
        record(
            ledger_by(services, FIXED_BOOK), make_event(event_id="e3", usage=cents(4), revision=1)
        )

    applied = approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=clock(), advance=revise)

    assert (applied.applied.usages, applied.stale.usages) == (2, 1)
    assert spent_nanos(database) == 2 * 25_000_000 + 60_000_000


def test_closing_a_period_after_the_dry_run_needs_another(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event(occurred_at="2026-10-31T12:00:00Z"))
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock())
    with database.transaction() as session:
        insert_rows(session, PeriodCloseRow, [{"closed_before": 202611, "recorded_at": clock()}])

    with pytest.raises(Conflict):
        approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=clock())


def test_a_rerate_that_does_not_exist_is_not_found(database: Database, clock: FrozenClock) -> None:
    with pytest.raises(NotFound, match="re-rating 7 does not exist"):
        approve_rerate(database, FIXED_BOOK, 7, now=clock())


def test_everything_lands_in_the_ledger_whatever_else_is_written_meanwhile(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), *make_events(6))
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock(), usages_per_part=1)
    writer = ledger_by(services, FIXED_BOOK)
    numbers = iter(range(100, 200))

    def ingest(_usages: int) -> None:
        record(writer, make_event(event_id=f"new-{next(numbers)}"))

    approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=clock(), advance=ingest)

    assert spent_nanos(database) == 12 * 25_000_000
    assert len(rows_of(database, RerateRow)) == 1


def test_usage_keeps_coming_in_while_a_rerate_is_applied(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), *make_events(6))
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock(), usages_per_part=1)
    writer = ledger_by(services, FIXED_BOOK)

    def ingest() -> None:
        for number in range(20):
            record(writer, make_event(event_id=f"new-{number}"))

    with ThreadPoolExecutor(1) as pool:
        coming_in = pool.submit(ingest)
        applied = approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=clock())
        coming_in.result()

    assert applied.applied == proposed.proposed
    assert spent_nanos(database) == 26 * 25_000_000


def test_two_who_approve_at_once_apply_it_once(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), *make_events(4))
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock(), usages_per_part=2)

    def approve() -> Rerate:
        return approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=clock())

    with ThreadPoolExecutor(2) as pool:
        for approved in [pool.submit(approve) for _ in range(2)]:
            approved.result()

    assert get_rerate(database, proposed.rerate_id).applied == proposed.proposed
    assert spent_nanos(database) == 4 * 25_000_000
