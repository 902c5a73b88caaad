"""Corrections of closed months, and months that are restated, on both engines."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from tests.builders import CENT, broken_rules
from tests.services.statement_cases import (
    AUGUST,
    GRACE,
    NOW,
    OCTOBER,
    SEPTEMBER,
    Division,
    cells_of,
    close,
    make_cost,
    make_untracked,
    set_cost_centers,
)
from tokenbudget.domain.errors import Conflict, InvalidInput, NotFound
from tokenbudget.domain.statements import Refusal, StatementHeader, StatementState
from tokenbudget.services.restatements import (
    Approval,
    approve_restatement,
    propose_restatement,
)
from tokenbudget.services.statements import (
    compare_views,
    get_header,
    get_shown,
    get_statement,
    list_statement_lines,
    list_statements,
    total_by_team_against,
    total_statement,
    verify_statement,
)
from tokenbudget.store.db import Database

NOBODY = Approval(None)


@pytest.fixture
def division() -> Division:
    """Give an August of a dollar: growth is known to bear 60 cents, nobody the other 40."""
    division = Division()
    division.know(AUGUST, make_cost("growth", 60), make_untracked(40))
    division.know(SEPTEMBER, make_cost("growth", 50))
    division.know(OCTOBER, make_cost("growth", 10))
    return division


def propose(
    database: Database, division: Division, month: int, **overrides: Any
) -> StatementHeader:
    """Propose a restatement with a boring reason."""
    terms: dict[str, Any] = {"reason": "the bill was restated", "now": NOW, **overrides}
    return propose_restatement(database, division, month=month, **terms)


def restate(database: Database, division: Division, month: int) -> StatementHeader:
    """Propose a restatement and approve it."""
    proposed = propose(database, division, month)
    return approve_restatement(database, division, proposed.statement_id, approval=NOBODY, now=NOW)


def in_force(database: Database, service_month: int) -> Counter[tuple[str, str]]:
    """Give the cents that statements in force state of a month, by team and origin."""
    closed = [
        header.statement_id
        for header in list_statements(database, limit=100)
        if header.state is StatementState.CLOSED
    ]
    found: Counter[tuple[str, str]] = Counter()
    for _, line in (each for id_ in closed for each in list_statement_lines(database, id_)):
        if line.key.service_month == service_month:
            found[line.key.team, line.key.origin.value] += line.amount_nanos // CENT
    return Counter({key: count for key, count in found.items() if count})


def test_late_usage_moves_out_of_untracked_on_the_next_statement(
    database: Database, division: Division
) -> None:
    august = close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 60), make_cost("search", 30), make_untracked(10))

    september = close(database, division, SEPTEMBER)

    # September is 50; of August 30 cents go from Untracked to search, which nets to nothing.
    assert cells_of(database, september.statement_id) == [
        ("202609", "growth", "usage", 50),
        ("202608", "Untracked", "untracked", -30),
        ("202608", "search", "usage", 30),
    ]
    assert {line.corrects for line in get_statement(database, september.statement_id).lines} == {
        None,
        august.statement_id,
    }
    assert september.total_nanos == 50 * CENT
    assert [each.service_month for each in september.invoices] == [SEPTEMBER]
    assert in_force(database, AUGUST) == {
        ("growth", "usage"): 60,
        ("search", "usage"): 30,
        ("Untracked", "untracked"): 10,
    }


def test_what_was_corrected_once_is_not_corrected_again(
    database: Database, division: Division
) -> None:
    close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 60), make_cost("search", 40))
    close(database, division, SEPTEMBER)

    october = close(database, division, OCTOBER)

    assert cells_of(database, october.statement_id) == [("202610", "growth", "usage", 10)]


def test_a_restated_bill_changes_the_next_statement_by_exactly_the_difference(
    database: Database, division: Division
) -> None:
    close(database, division, AUGUST)
    # The bill of August was a dollar and is a dollar and seven cents.
    division.know(AUGUST, make_cost("growth", 60), make_untracked(47))

    september = close(database, division, SEPTEMBER)

    assert september.total_nanos == 57 * CENT
    assert [
        (each.service_month, each.invoice.amount_nanos // CENT) for each in september.invoices
    ] == [(SEPTEMBER, 50), (AUGUST, 7)]
    assert cells_of(database, september.statement_id)[1:] == [
        ("202608", "Untracked", "untracked", 7)
    ]


def test_figures_that_change_without_a_cent_are_stated_too(
    database: Database, division: Division
) -> None:
    close(database, division, AUGUST)
    dearer = make_cost("growth", 60, metered_nanos=61 * CENT, requests=2)
    division.know(AUGUST, dearer, make_untracked(40))

    september = close(database, division, SEPTEMBER)

    correction = get_statement(database, september.statement_id).lines[1]
    assert (correction.amount_nanos, correction.metered_nanos, correction.requests) == (0, CENT, 1)


def test_only_two_years_of_closed_months_are_looked_at(database: Database) -> None:
    division = Division()
    for number in range(26):
        year, month = divmod(7 + number, 12)
        close(database, division, (2024 + year) * 100 + month + 1)

    # September 2026 looks back to September 2024 and no further.
    assert min(division.asked[-25:]) == 202409
    assert division.asked[-25:][0] == SEPTEMBER


def test_a_restatement_is_proposed_and_changes_nothing_until_approved(
    database: Database, division: Division
) -> None:
    august = close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 70), make_untracked(30))

    proposed = propose(database, division, AUGUST, by="key-1")

    assert (proposed.state, proposed.version) == (StatementState.PROPOSED, 2)
    assert (proposed.recorded_by, proposed.reason) == ("key-1", "the bill was restated")
    assert get_shown(database, AUGUST) == august
    assert total_by_team_against(database, proposed.statement_id) == (
        august,
        {"Untracked": (40 * CENT, 30 * CENT), "growth": (60 * CENT, 70 * CENT)},
    )


def test_an_approved_restatement_takes_the_place_of_what_was_closed(
    database: Database, division: Division
) -> None:
    august = close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 70), make_untracked(30))
    proposed = propose(database, division, AUGUST, by="key-1")

    approved = approve_restatement(
        database, division, proposed.statement_id, approval=Approval("key-2"), now=NOW
    )

    assert (approved.state, approved.approved_by) == (StatementState.CLOSED, "key-2")
    assert approved.digest == proposed.digest
    assert get_header(database, august.statement_id).state is StatementState.SUPERSEDED
    assert get_shown(database, AUGUST) == approved
    assert cells_of(database, august.statement_id)[0][3] == 40
    assert in_force(database, AUGUST) == {
        ("growth", "usage"): 70,
        ("Untracked", "untracked"): 30,
    }


def test_what_was_restated_is_no_correction_of_the_next_month(
    database: Database, division: Division
) -> None:
    close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 70), make_untracked(30))
    restate(database, division, AUGUST)

    september = close(database, division, SEPTEMBER)

    assert cells_of(database, september.statement_id) == [("202609", "growth", "usage", 50)]


def test_a_restatement_states_no_cent_that_a_later_statement_has_stated(
    database: Database, division: Division
) -> None:
    close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 60), make_untracked(47))
    close(database, division, SEPTEMBER)
    division.know(AUGUST, make_cost("growth", 65), make_untracked(47))

    restated = restate(database, division, AUGUST)

    # 112 are known of August, of which September has stated 7: 105 are left for August's own.
    assert restated.total_nanos == 105 * CENT
    assert [each.invoice.amount_nanos // CENT for each in restated.invoices] == [105]
    assert in_force(database, AUGUST) == {
        ("growth", "usage"): 65,
        ("Untracked", "untracked"): 47,
    }
    assert verify_statement(database, restated.statement_id).faults == ()


def test_a_restatement_keeps_what_it_corrected_of_earlier_months(
    database: Database, division: Division
) -> None:
    august = close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 60), make_untracked(47))
    close(database, division, SEPTEMBER)
    division.know(SEPTEMBER, make_cost("growth", 55))
    # What has become known of August meanwhile is left to the next statement.
    division.know(AUGUST, make_cost("growth", 60), make_untracked(48))

    restated = restate(database, division, SEPTEMBER)
    october = close(database, division, OCTOBER)

    assert cells_of(database, restated.statement_id) == [
        ("202609", "growth", "usage", 55),
        ("202608", "Untracked", "untracked", 7),
    ]
    assert get_statement(database, restated.statement_id).lines[1].corrects == august.statement_id
    assert cells_of(database, october.statement_id)[1:] == [("202608", "Untracked", "untracked", 1)]
    assert in_force(database, AUGUST)["Untracked", "untracked"] == 48


def test_the_same_proposal_is_given_again_and_another_withdraws_it(
    database: Database, division: Division
) -> None:
    close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 70), make_untracked(30))
    first = propose(database, division, AUGUST)

    again = propose(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 71), make_untracked(29))
    other = propose(database, division, AUGUST)

    assert again == first
    assert other.version == 3
    assert get_header(database, first.statement_id).state is StatementState.WITHDRAWN
    with pytest.raises(Conflict, match="does not wait for approval"):
        approve_restatement(database, division, first.statement_id, approval=NOBODY, now=NOW)


def test_a_key_does_not_approve_what_it_proposed_unless_it_may(
    database: Database, division: Division
) -> None:
    close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 70), make_untracked(30))
    proposed = propose(database, division, AUGUST, by="key-1")

    with pytest.raises(Conflict, match="another key must approve"):
        approve_restatement(
            database, division, proposed.statement_id, approval=Approval("key-1"), now=NOW
        )
    approved = approve_restatement(
        database,
        division,
        proposed.statement_id,
        approval=Approval("key-1", may_approve_own=True),
        now=NOW,
    )

    assert approved.approved_by == "key-1"


def test_approving_again_changes_nothing(database: Database, division: Division) -> None:
    close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 70), make_untracked(30))
    approved = restate(database, division, AUGUST)

    again = approve_restatement(
        database, division, approved.statement_id, approval=Approval("key-9"), now=NOW
    )

    assert again == approved


def test_a_proposal_that_is_no_longer_what_is_known_is_not_approved(
    database: Database, division: Division
) -> None:
    close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 70), make_untracked(30))
    proposed = propose(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 71), make_untracked(29))

    with pytest.raises(Conflict, match="has changed since it was proposed"):
        approve_restatement(database, division, proposed.statement_id, approval=NOBODY, now=NOW)

    assert get_header(database, proposed.statement_id).state is StatementState.PROPOSED


def test_what_cannot_be_restated_is_refused_by_name(database: Database, division: Division) -> None:
    with pytest.raises(Conflict, match="2026-08 is not closed"):
        propose(database, division, AUGUST)
    draft = close(database, division, AUGUST, grace=GRACE)
    with pytest.raises(Conflict, match="does not wait for approval"):
        approve_restatement(database, division, draft.statement_id, approval=NOBODY, now=NOW)
    close(database, division, AUGUST)
    with pytest.raises(Conflict, match="restating 2026-08 would change nothing"):
        propose(database, division, AUGUST)
    with pytest.raises(InvalidInput, match="reason must have"):
        propose(database, division, AUGUST, reason="  ")
    with pytest.raises(NotFound, match="no statement 'x'"):
        approve_restatement(database, division, "x", approval=NOBODY, now=NOW)
    division.refusals[AUGUST] = (Refusal("missing_bill", "acme"),)
    with pytest.raises(Conflict, match="2026-08 cannot be restated: acme"):
        propose(database, division, AUGUST)
    assert len(list_statements(database, limit=10)) == 1


def test_the_two_views_of_a_month_differ_by_the_rows_that_are_listed(
    database: Database, division: Division
) -> None:
    august = close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 60), make_untracked(47))
    september = close(database, division, SEPTEMBER)
    division.know(SEPTEMBER, make_cost("growth", 48))
    october = close(database, division, OCTOBER)

    of_august = compare_views(database, august.statement_id)
    of_september = compare_views(database, september.statement_id)

    # August was invoiced 100 and is 107 by use; September was invoiced 57 and is 48 by use.
    assert (of_august.as_invoiced_nanos, of_august.as_incurred_nanos) == (100 * CENT, 107 * CENT)
    assert (of_september.as_invoiced_nanos, of_september.as_incurred_nanos) == (
        57 * CENT,
        48 * CENT,
    )
    assert [
        (each.statement.statement_id, each.sign, each.line.amount_nanos // CENT)
        for each in of_september.differences
    ] == [(october.statement_id, 1, -2), (september.statement_id, -1, 7)]


def test_cost_centres_are_those_of_then_unless_todays_are_asked_for(
    database: Database, division: Division
) -> None:
    set_cost_centers(database, {"growth": "CC-1"})
    august = close(database, division, AUGUST)
    set_cost_centers(database, {"growth": "CC-2"}, valid_from=NOW)

    then, today = (
        total_statement(
            database,
            august.statement_id,
            by="cost_center",
            organisation=organisation,
            now=NOW + timedelta(days=1),
        )
        for organisation in ("then", "today")
    )

    assert [(each.value, each.amount_nanos // CENT) for each in then] == [(None, 40), ("CC-1", 60)]
    assert [(each.value, each.amount_nanos // CENT) for each in today] == [(None, 40), ("CC-2", 60)]
    with pytest.raises(InvalidInput, match="organisation 'tomorrow' is not one of then, today"):
        total_statement(database, august.statement_id, by="team", organisation="tomorrow", now=NOW)


def test_a_statement_that_is_tampered_with_is_found(database: Database, division: Division) -> None:
    august = close(database, division, AUGUST)
    assert broken_rules(database) == []

    with database.transaction() as session:
        session.connection().exec_driver_sql(
            "UPDATE statement_lines SET amount_nanos = amount_nanos + 1 WHERE team = 'growth'"
        )

    faults = verify_statement(database, august.statement_id).faults
    assert faults[:2] == (
        "2026-08 version 1: 2026-08: what is allocated of acme account 'a' is not what was"
        " invoiced",
        "2026-08 version 1: the rows do not add up to the total",
    )
    assert faults[2].startswith("2026-08 version 1: the rows have the digest ")
    assert broken_rules(database) == [
        f"closed statements = their digests, totals and invoices: {fault}" for fault in faults
    ]
    with database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE statements SET digest = NULL")
    assert verify_statement(database, august.statement_id).faults[-1] == (
        "2026-08 version 1: the digest is missing"
    )
