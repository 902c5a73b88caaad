"""Voids, late usage, clocks that are ahead and attempts that failed: what they cost, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.builders import (
    CENT,
    broken_rules,
    cents,
    make_budget,
    make_event,
    record,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.services.witness_cases import (
    GATEWAY,
    SDK,
    effective_total,
    standing_nanos,
    tell,
)
from tokenbudget.domain.periods import format_instant
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.tables import ChargeRow, PeriodCloseRow, UsageRow


def test_a_void_takes_back_what_stood(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    record(ledger, make_event())

    void = make_event(void=True, revision=1)
    del void["usage"]
    answer = record(ledger, void)

    assert (answer.accepted, answer.unpriced) == (1, 0)
    assert standing_nanos(database) == []
    assert effective_total(database) == 0
    assert standings(database, now=clock())["all",] == (0, 0)
    assert rows_of(database, UsageRow)[-1]["flags"] == "void"


def test_after_a_void_a_later_revision_counts_again(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event())
    record(ledger, make_event(void=True, revision=1))

    record(ledger, make_event(usage=cents(4), revision=2))

    assert standing_nanos(database) == [("e1", 4 * CENT)]
    assert effective_total(database) == 4 * CENT


def test_a_void_without_an_event_is_rejected(ledger: Ledger) -> None:
    answer = record(ledger, make_event(void=True), make_event(event_id="e2", void=True, revision=1))

    assert [rejection.code for rejection in answer.rejected] == ["void_without_event", "conflict"]


def test_usage_of_a_closed_period_is_late_in_the_open_one(
    ledger: Ledger, database: Database
) -> None:
    close_before(database, 202611)

    record(ledger, make_event(occurred_at="2026-10-31T23:00:00Z"))

    [charge] = rows_of(database, ChargeRow)
    assert (charge["accounting_period"], charge["flags"]) == (202611, "late")
    assert broken_rules(database) == []


def test_a_witness_of_a_closed_period_corrects_the_open_one(
    ledger: Ledger, database: Database
) -> None:
    october = "2026-10-31T23:00:00Z"
    tell(ledger, SDK, occurred_at=october)
    close_before(database, 202611)

    tell(ledger, GATEWAY, usage=cents(5), occurred_at=october)

    posted = [
        (row["accounting_period"], row["effective_nanos"]) for row in rows_of(database, ChargeRow)
    ]
    assert posted == [(202610, 2 * CENT), (202611, -2 * CENT), (202611, 5 * CENT)]


def test_a_clock_that_is_ahead_is_kept_and_flagged(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    ahead = clock() + timedelta(hours=3)

    answer = record(
        ledger,
        make_event(occurred_at=format_instant(ahead)),
        make_event(event_id="e2", occurred_at=format_instant(clock() + timedelta(hours=25))),
    )

    [usage] = rows_of(database, UsageRow)
    assert (usage["occurred_at"], usage["flags"]) == (ahead, "clock_ahead")
    assert [rejection.code for rejection in answer.rejected] == ["occurred_in_future"]


def test_a_failed_attempt_with_usage_costs_what_it_used(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event(status="timeout"), make_event(event_id="e2", attempt=2))

    assert standing_nanos(database) == [("e1", 2 * CENT), ("e2", 2 * CENT)]


def test_a_failed_attempt_without_usage_is_unknown_and_not_zero(
    ledger: Ledger, database: Database
) -> None:
    failed = make_event(status="timeout")
    del failed["usage"]

    answer = record(ledger, failed)

    [usage] = rows_of(database, UsageRow)
    [charge] = rows_of(database, ChargeRow)
    assert answer.unpriced == 1
    assert (usage["input_tokens"], usage["flags"]) == (None, "usage_unknown")
    assert (charge["effective_nanos"], charge["flags"]) == (None, "usage_unknown")


def test_a_refused_request_with_explicit_zeros_costs_nothing(
    ledger: Ledger, database: Database
) -> None:
    record(ledger, make_event(status="error", usage={"input_tokens": 0, "output_tokens": 0}))

    assert standing_nanos(database) == [("e1", 0)]


def test_an_event_that_went_well_must_say_what_it_used(ledger: Ledger) -> None:
    silent = make_event()
    del silent["usage"]

    assert [rejection.code for rejection in record(ledger, silent).rejected] == ["usage_invalid"]


def close_before(database: Database, period: int) -> None:
    """Close the accounts of all periods before this one."""
    row = {"closed_before": period, "recorded_at": datetime(2026, 11, 5, tzinfo=UTC)}
    with database.transaction() as session:
        insert_rows(session, PeriodCloseRow, [row])
