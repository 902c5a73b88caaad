"""Closing a month on both engines: drafts, grace, order, refusals, and two at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlmodel import Session

from tests.builders import CENT, cents, make_event, record, rows_of
from tests.services.statement_cases import (
    AUGUST,
    GRACE,
    NOVEMBER,
    NOW,
    OCTOBER,
    SEPTEMBER,
    Division,
    add_bill,
    cells_of,
    close,
    make_cost,
    make_untracked,
    set_cost_centers,
)
from tokenbudget.domain.errors import Conflict
from tokenbudget.domain.statements import MonthAllocation, Refusal, StatementState
from tokenbudget.services.closing import close_due_drafts, close_month
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.statements import get_statement, list_statements
from tokenbudget.store.db import Database
from tokenbudget.store.tables import (
    ChargeRow,
    PeriodCloseRow,
    StatementLineRow,
    StatementRow,
)


@pytest.fixture
def division() -> Division:
    """Give a September in which growth and search bear a dollar's invoice."""
    division = Division()
    division.know(SEPTEMBER, make_cost("growth", 60), make_cost("search", 40))
    return division


def closed_before(database: Database) -> Sequence[int]:
    """Give the months before which accounts were closed."""
    return sorted(row.closed_before for row in rows_of(database, PeriodCloseRow))


def test_closing_without_grace_freezes_rows_and_closes_accounts(
    database: Database, division: Division
) -> None:
    set_cost_centers(database, {"growth": "CC-1"})

    header = close(database, division, SEPTEMBER, by="key-1")

    statement = get_statement(database, header.statement_id)
    assert statement.header == header
    assert (header.state, header.version, header.closed_at) == (StatementState.CLOSED, 1, NOW)
    assert (header.total_nanos, header.recorded_by) == (100 * CENT, "key-1")
    assert header.digest is not None
    assert [(each.key.team, each.key.cost_center) for each in statement.lines] == [
        ("growth", "CC-1"),
        ("search", None),
    ]
    assert closed_before(database) == [OCTOBER]


def test_a_month_in_grace_is_a_draft_that_closes_no_accounts(
    database: Database, division: Division
) -> None:
    header = close(database, division, SEPTEMBER, grace=GRACE)

    assert header.state is StatementState.DRAFT
    assert header.grace_ends_at == NOW + timedelta(hours=72)
    assert (header.digest, header.closed_at) == (None, None)
    assert closed_before(database) == []


def test_closing_again_in_grace_works_the_same_draft_out_anew(
    database: Database, division: Division
) -> None:
    first = close(database, division, SEPTEMBER, grace=GRACE)
    division.know(SEPTEMBER, make_cost("growth", 100))

    again = close_month(
        database, division, month=SEPTEMBER, now=NOW + timedelta(hours=1), grace=GRACE
    )

    assert not again.is_new
    assert again.statement.statement_id == first.statement_id
    assert again.statement.grace_ends_at == first.grace_ends_at
    assert cells_of(database, first.statement_id) == [("202609", "growth", "usage", 100)]
    assert len(rows_of(database, StatementRow)) == 1


def test_closing_a_draft_without_grace_closes_it_at_once(
    database: Database, division: Division
) -> None:
    draft = close(database, division, SEPTEMBER, grace=GRACE)

    header = close(database, division, SEPTEMBER)

    assert header.statement_id == draft.statement_id
    assert header.state is StatementState.CLOSED


def test_closing_a_draft_after_its_grace_closes_it(database: Database, division: Division) -> None:
    close(database, division, SEPTEMBER, grace=GRACE)

    header = close(database, division, SEPTEMBER, now=NOW + GRACE, grace=GRACE)

    assert (header.state, header.closed_at) == (StatementState.CLOSED, NOW + GRACE)


def test_a_draft_whose_grace_is_over_is_worked_out_again_and_closed(
    database: Database, division: Division
) -> None:
    draft = close(database, division, SEPTEMBER, grace=GRACE)
    division.know(SEPTEMBER, make_cost("growth", 70), make_cost("search", 30))

    early = close_due_drafts(database, division, now=NOW + GRACE - timedelta(seconds=1))
    due = close_due_drafts(database, division, now=NOW + GRACE)

    assert early == []
    assert [each.statement.state for each in due] == [StatementState.CLOSED]
    assert cells_of(database, draft.statement_id) == [
        ("202609", "growth", "usage", 70),
        ("202609", "search", "usage", 30),
    ]
    assert close_due_drafts(database, division, now=NOW + GRACE) == []


def test_a_draft_that_is_refused_when_due_stays_a_draft_and_says_why(
    database: Database, division: Division
) -> None:
    draft = close(database, division, SEPTEMBER, grace=GRACE)
    division.refusals[SEPTEMBER] = (Refusal("over_counted", "acme plain", -5 * CENT),)

    due = close_due_drafts(database, division, now=NOW + GRACE)

    kept = get_statement(database, draft.statement_id).header
    assert [each.refusals for each in due] == [(Refusal("over_counted", "acme plain", -5 * CENT),)]
    assert kept.state is StatementState.DRAFT
    assert kept.notes == (Refusal("over_counted", "acme plain", -5 * CENT),)
    assert closed_before(database) == []


def test_everything_that_speaks_against_closing_is_listed_and_nothing_stored(
    database: Database, division: Division
) -> None:
    division.invoiced[SEPTEMBER] = 101
    division.refusals[SEPTEMBER] = (
        Refusal("over_counted", "acme plain", -5 * CENT),
        Refusal("missing_bill", "other", 7 * CENT),
        Refusal("unconverted", "EUR"),
    )

    with pytest.raises(Conflict) as refused:
        close(database, division, SEPTEMBER)

    assert refused.value.detail == ("2026-09 cannot be closed: acme plain; other; EUR; and 1 more")
    assert refused.value.facts == {
        "period": "2026-09",
        "currency": "USD",
        "refusals": [
            {"code": "over_counted", "detail": "acme plain", "amount": "-0.050000000"},
            {"code": "missing_bill", "detail": "other", "amount": "0.070000000"},
            {"code": "unconverted", "detail": "EUR", "amount": None},
            {
                "code": "not_tied",
                "detail": "2026-09: what is allocated of acme account 'a' is not what was invoiced",
                "amount": "-0.010000000",
            },
        ],
    }
    assert rows_of(database, StatementRow) == rows_of(database, StatementLineRow) == []
    assert closed_before(database) == []


def test_a_month_is_refused_while_an_earlier_closed_one_speaks_against_it(
    database: Database, division: Division
) -> None:
    close(database, division, SEPTEMBER)
    division.refusals[SEPTEMBER] = (Refusal("over_counted", "acme plain", -5 * CENT),)
    division.know(OCTOBER, make_cost("growth", 10))

    with pytest.raises(Conflict, match="2026-10 cannot be closed: acme plain"):
        close(database, division, OCTOBER)


def test_a_month_that_is_not_over_is_not_closed(database: Database, division: Division) -> None:
    with pytest.raises(Conflict, match="2026-11 is not over before 2026-12-01T00:00Z"):
        close(database, division, NOVEMBER)


def test_months_close_in_order_and_once(database: Database, division: Division) -> None:
    close(database, division, SEPTEMBER)

    with pytest.raises(Conflict, match="2026-09 is closed already"):
        close(database, division, SEPTEMBER)
    with pytest.raises(Conflict, match="2026-08 lies before 2026-09, with which the books begin"):
        close(database, division, AUGUST)
    with pytest.raises(Conflict, match="months close in order: 2026-10 comes before 2026-11"):
        close(database, division, NOVEMBER, now=datetime(2026, 12, 2, tzinfo=UTC))


def test_a_month_without_anything_closes_empty(database: Database) -> None:
    header = close(database, Division(), SEPTEMBER)

    assert (header.total_nanos, header.invoices) == (0, ())
    assert get_statement(database, header.statement_id).lines == ()


def test_the_first_statement_tells_of_invoiced_months_before_it(
    database: Database, division: Division
) -> None:
    add_bill(database, "2026-08-01", 100)

    header = close(database, division, SEPTEMBER)

    assert header.notes == (
        Refusal("not_stated", "2026-08 was invoiced; the books begin with 2026-09"),
    )


def test_of_two_closes_at_once_one_wins(database: Database, division: Division) -> None:
    together = Barrier(2, timeout=10)

    def allocate(session: Session, month: int) -> MonthAllocation:
        if len(division.asked) < 2:
            allocation = division(session, month)
            together.wait()
            return allocation
        return division(session, month)

    def attempt(_number: int) -> str:
        try:
            close_month(database, allocate, month=SEPTEMBER, now=NOW, grace=timedelta(0))
        except Conflict as error:
            return error.detail
        return "closed"

    with ThreadPoolExecutor(2) as workers:
        answers = sorted(workers.map(attempt, range(2)))

    assert answers == ["2026-09 is closed already; a restatement may change it", "closed"]
    assert len(rows_of(database, StatementRow)) == 1


def test_of_two_drafts_at_once_there_is_one(database: Database, division: Division) -> None:
    with ThreadPoolExecutor(2) as workers:
        drafts = list(
            workers.map(lambda _: close(database, division, SEPTEMBER, grace=GRACE), range(2))
        )

    assert drafts[0].statement_id == drafts[1].statement_id
    assert len(list_statements(database, limit=10)) == 1


def test_usage_that_arrives_while_a_month_is_worked_out_is_on_its_statement(
    database: Database, division: Division, ledger: Ledger
) -> None:
    september = datetime(2026, 9, 30, 23, 59, tzinfo=UTC).isoformat()

    def allocate(session: Session, month: int) -> MonthAllocation:
        if not division.asked:
            allocation = division(session, month)
            event = make_event(event_id="late", occurred_at=september, usage=cents(5))
            with ThreadPoolExecutor(1) as worker:
                assert worker.submit(record, ledger, event).result().accepted == 1
            return allocation
        return division(session, month)

    close_month(database, allocate, month=SEPTEMBER, now=NOW, grace=timedelta(0))

    assert division.asked == [SEPTEMBER, SEPTEMBER]
    assert [row.accounting_period for row in rows_of(database, ChargeRow)] == [SEPTEMBER]


def test_usage_that_never_stands_still_is_shut_out_in_the_end(
    database: Database, division: Division, ledger: Ledger
) -> None:
    september = datetime(2026, 9, 30, 23, 59, tzinfo=UTC).isoformat()

    def allocate(session: Session, month: int) -> MonthAllocation:
        number = len(division.asked)
        if number < 3:
            event = make_event(event_id=f"late-{number}", occurred_at=september, usage=cents(5))
            with ThreadPoolExecutor(1) as worker:
                worker.submit(record, ledger, event).result()
        return division(session, month)

    close_month(database, allocate, month=SEPTEMBER, now=NOW, grace=timedelta(0))

    assert len(division.asked) == 4
    assert closed_before(database) == [OCTOBER]


def test_usage_of_a_closed_month_posts_to_the_open_one_flagged_late(
    database: Database, division: Division, ledger: Ledger
) -> None:
    close(database, division, SEPTEMBER)
    september = datetime(2026, 9, 30, tzinfo=UTC).isoformat()

    record(ledger, make_event(event_id="late", occurred_at=september, usage=cents(5)))

    (charge,) = rows_of(database, ChargeRow)
    assert (charge.accounting_period, charge.flags) == (OCTOBER, "late")


def test_untracked_spend_is_a_row_like_any_other(database: Database, division: Division) -> None:
    division.know(SEPTEMBER, make_cost("growth", 60), make_untracked(40))

    header = close(database, division, SEPTEMBER)

    assert cells_of(database, header.statement_id) == [
        ("202609", "Untracked", "untracked", 40),
        ("202609", "growth", "usage", 60),
    ]
