"""What was invoiced, asked as a question about money, on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.builders import CENT
from tests.services.statement_cases import (
    AUGUST,
    GRACE,
    NOW,
    OCTOBER,
    SEPTEMBER,
    Division,
    close,
    make_cost,
    make_untracked,
)
from tokenbudget.domain.costs import CostFilter, CostQuery, CostRow
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.owners import OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.domain.periods import Period
from tokenbudget.services.costs import query_costs
from tokenbudget.services.owners import apply_owners
from tokenbudget.store.db import Database

SUMMER = Period(datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
BILLED = CostQuery(SUMMER, ("team",), granularity="month", metrics=("billed_cost",))


@pytest.fixture
def stated(database: Database) -> Database:
    """Give an August of 100 that September corrects by moving 30 to search, and a draft October."""
    facts = OwnerFacts(cost_center="CC-1", email="ana@example.com")
    apply_owners(database, [OwnerEntry(OwnerKind.TEAM, "growth", facts)], now=NOW)
    division = Division()
    division.know(AUGUST, make_cost("growth", 60), make_untracked(40))
    close(database, division, AUGUST)
    division.know(AUGUST, make_cost("growth", 60), make_cost("search", 30), make_untracked(10))
    division.know(SEPTEMBER, make_cost("growth", 50, metered_nanos=49 * CENT))
    close(database, division, SEPTEMBER)
    division.know(OCTOBER, make_cost("growth", 1_000))
    close(database, division, OCTOBER, grace=GRACE)
    return database


def told(rows: list[CostRow]) -> list[tuple[Any, ...]]:
    """Give each row as (month, group…, billed cents)."""
    return [
        (row.start.month if row.start else None, *row.group, row.billed_nanos // CENT)
        for row in rows
    ]


def test_as_incurred_is_by_the_month_of_use(stated: Database) -> None:
    table = query_costs(stated, replace(BILLED, order="-billed_cost"))

    assert told(table.rows) == [
        (8, "growth", 60),
        (9, "growth", 50),
        (8, "search", 30),
        (8, "Untracked", 10),
    ]
    assert table.totals.billed_nanos == 150 * CENT


def test_as_invoiced_is_by_the_month_of_the_statement(stated: Database) -> None:
    table = query_costs(stated, replace(BILLED, view="as_invoiced"))

    assert sorted(told(table.rows)) == [
        (8, "Untracked", 40),
        (8, "growth", 60),
        (9, "Untracked", -30),
        (9, "growth", 50),
        (9, "search", 30),
    ]
    assert table.totals.billed_nanos == 150 * CENT


def test_what_was_metered_stands_beside_what_was_billed(stated: Database) -> None:
    table = query_costs(
        stated,
        CostQuery(SUMMER, view="as_invoiced", filters=(CostFilter("team", ("growth",)),)),
    )

    # 60 and 49 cents were metered, for 110 billed; a token is a ten-thousandth of a cent.
    assert table.rows == [
        CostRow(
            billed_nanos=110 * CENT,
            effective_nanos=109 * CENT,
            requests=2,
            undivided_tokens=1_100_000,
        )
    ]
    assert table.totals.tokens == 1_100_000


def test_rows_are_grouped_by_owner_cost_centre_and_what_else_statements_tell(
    stated: Database,
) -> None:
    by = ("owner", "cost_center", "provider", "model")

    table = query_costs(stated, replace(BILLED, group_by=by, granularity="none"))

    assert sorted(told(table.rows), key=str) == [
        (None, "ana@example.com", "CC-1", "acme", "plain", 110),
        (None, None, None, "acme", "plain", 40),
    ]


def test_a_draft_is_no_invoice(stated: Database) -> None:
    october = Period(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))

    assert query_costs(stated, CostQuery(october, view="as_invoiced")).rows == []


def test_pages_follow_one_another_and_belong_to_their_question(stated: Database) -> None:
    first = query_costs(stated, replace(BILLED, limit=3))
    rest = query_costs(stated, replace(BILLED, limit=3, cursor=first.next_cursor))

    assert len(first.rows) == 3
    assert sorted(told([*first.rows, *rest.rows])) == sorted(told(query_costs(stated, BILLED).rows))
    metered = replace(BILLED, metrics=(), cursor=first.next_cursor)
    with pytest.raises(InvalidInput, match="cursor belongs to another question"):
        query_costs(stated, metered)
