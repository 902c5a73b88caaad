"""Approving moves just what a dry run saw, once, whatever happens meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.builders import PRICES, make_event, make_events, record, rows_of
from tests.conftest import FrozenClock
from tests.services.attribution_cases import (
    ALL_TIME,
    TO_SEARCH,
    approve,
    propose,
    reattribute,
    set_rules,
    spent_by,
)
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.errors import Conflict, NotFound
from tokenbudget.domain.reattribution import Reattribution
from tokenbudget.domain.rerating import CostDelta, RerateState
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.reattribution import (
    approve_reattribution,
    get_reattribution,
    list_reattributions,
    propose_reattribution,
)
from tokenbudget.services.reattribution_scan import pose_question, scan_ledger
from tokenbudget.services.rulebook import load_tag_rules
from tokenbudget.store.db import Database, insert_new_rows, insert_rows
from tokenbudget.store.tables import ChargeRow, PeriodCloseRow, ReattributionRow

UNOWNED = {"tenant": "acme"}
TWO_CENTS = 20_000_000


class Crash(RuntimeError):
    """The process ends here."""


def propose_in_parts(database: Database, clock: FrozenClock, size: int) -> Reattribution:
    """Ask what would move, in parts of so many usages."""
    return propose_reattribution(database, ALL_TIME, now=clock(), usages_per_part=size)


def test_asking_again_while_nothing_changed_gives_the_same_proposal(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(3, tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    first = propose(database, clock)
    clock.advance(hours=1)

    assert propose_in_parts(database, clock, 1) == first
    assert list_reattributions(database, limit=10) == [first]


def test_other_rules_need_another_dry_run(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    proposed = propose(database, clock)
    set_rules(database, clock, {**TO_SEARCH, "set": {"team": "billing"}})

    with pytest.raises(Conflict, match="has changed since its dry run; make a new one"):
        approve(database, clock, proposed)

    assert spent_by(database) == {"unallocated": TWO_CENTS}


def test_rules_of_other_usage_do_not_matter(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    proposed = propose(database, clock)
    other = {"name": "other", "when": {"tenant": "globex"}, "set": {"team": "billing"}}
    set_rules(database, clock, TO_SEARCH, other)
    record(ledger, make_event(event_id="new", tags={"tenant": "globex"}))

    assert approve(database, clock, proposed).applied == proposed.proposed
    assert spent_by(database) == {"search": TWO_CENTS, "billing": TWO_CENTS}


def test_closing_a_period_after_the_dry_run_needs_another(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(tags=UNOWNED, occurred_at="2026-10-31T12:00:00Z"))
    set_rules(database, clock, TO_SEARCH)
    proposed = propose(database, clock)
    with database.transaction() as session:
        insert_rows(session, PeriodCloseRow, [{"closed_before": 202611, "recorded_at": clock()}])

    with pytest.raises(Conflict):
        approve(database, clock, proposed)


def test_what_a_crash_leaves_is_continued_by_approving_again(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(5, tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    proposed = propose_in_parts(database, clock, 2)
    number = proposed.reattribution_id

    def crash(_usages: int) -> None:
        raise Crash

    with pytest.raises(Crash):
        approve_reattribution(database, PRICES, number, now=clock(), advance=crash)
    begun = get_reattribution(database, number)
    assert (begun.state, begun.applied.usages) == (RerateState.APPROVED, 2)
    assert spent_by(database) == {"search": 2 * TWO_CENTS, "unallocated": 3 * TWO_CENTS}

    told: list[int] = []
    finished = approve_reattribution(database, PRICES, number, now=clock(), advance=told.append)

    assert (finished.state, finished.applied) == (RerateState.APPLIED, proposed.proposed)
    assert told == [2, 1]
    assert spent_by(database) == {"search": 5 * TWO_CENTS}


def test_usage_that_changed_while_parts_were_applied_is_left_alone(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(3, tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    proposed = propose_in_parts(database, clock, 2)

    def revise(_usages: int) -> None:
        record(ledger, make_event(event_id="e3", tags=UNOWNED, attempt=2, revision=1))

    number = proposed.reattribution_id
    applied = approve_reattribution(database, PRICES, number, now=clock(), advance=revise)

    assert (applied.applied.usages, applied.stale.usages) == (2, 1)
    assert spent_by(database) == {"search": 3 * TWO_CENTS}
    assert reattribute(database, clock).proposed == CostDelta()


def test_rules_that_change_while_parts_are_applied_stop_the_rest(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(3, tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    proposed = propose_in_parts(database, clock, 1)

    def change(_usages: int) -> None:
        set_rules(database, clock)

    number = proposed.reattribution_id
    applied = approve_reattribution(database, PRICES, number, now=clock(), advance=change)

    assert (applied.applied.usages, applied.stale.usages) == (1, 2)
    assert spent_by(database) == {"search": TWO_CENTS, "unallocated": 2 * TWO_CENTS}


def test_closing_a_period_while_parts_are_applied_stops_the_rest(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(2, tags=UNOWNED, occurred_at="2026-10-31T12:00:00Z"))
    set_rules(database, clock, TO_SEARCH)
    proposed = propose_in_parts(database, clock, 1)

    def close(_usages: int) -> None:
        with database.transaction() as session:
            closed = {"closed_before": 202611, "recorded_at": clock()}
            insert_new_rows(session, PeriodCloseRow, [closed])

    number = proposed.reattribution_id
    applied = approve_reattribution(database, PRICES, number, now=clock(), advance=close)

    assert (applied.applied.usages, applied.stale.usages) == (1, 1)
    assert {row["accounting_period"] for row in rows_of(database, ChargeRow)} == {202610}
    assert reattribute(database, clock).applied.usages == 1
    assert spent_by(database) == {"search": 2 * TWO_CENTS}


def test_two_who_approve_at_once_apply_it_once(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(4, tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    proposed = propose_in_parts(database, clock, 2)

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(approve, database, clock, proposed) for _ in range(2)]
        for approved in waiting:
            approved.result()

    found = get_reattribution(database, proposed.reattribution_id)
    assert found.applied == proposed.proposed
    assert spent_by(database) == {"search": 4 * TWO_CENTS}


def test_usage_keeps_coming_in_while_parts_are_applied(
    services: Services, ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(6, tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    proposed = propose_in_parts(database, clock, 1)
    writer = make_ledger(services)

    def ingest() -> None:
        for number in range(20):
            record(writer, make_event(event_id=f"new-{number}", tags=UNOWNED))

    with ThreadPoolExecutor(1) as pool:
        coming_in = pool.submit(ingest)
        approve(database, clock, proposed)
        coming_in.result()

    assert spent_by(database) == {"search": 26 * TWO_CENTS}
    assert len(rows_of(database, ReattributionRow)) == 1


def test_reading_all_usage_finds_what_reading_only_that_which_moves_does(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(2, tags=UNOWNED), make_event(event_id="x", tags={"team": "a"}))
    set_rules(database, clock, TO_SEARCH)

    with database.reading() as session:
        question = pose_question(session, load_tag_rules(session), ALL_TIME)
        named, everything = (
            scan_ledger(session, replace(question, under=under)) for under in (question.under, None)
        )

    assert question.under is not None
    assert len(question.under) == 1
    assert (named.digest, named.deltas) == (everything.digest, everything.deltas)


def test_a_reattribution_that_does_not_exist_is_not_found(
    database: Database, clock: FrozenClock
) -> None:
    with pytest.raises(NotFound, match="re-attribution 7 does not exist"):
        approve_reattribution(database, PRICES, 7, now=clock())
