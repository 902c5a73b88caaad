"""Months that are closed and restated while what is known of them changes, on both engines."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.builders import CENT, broken_rules, cents, make_event, record
from tests.conftest import FrozenClock
from tests.services.rerate_cases import BOOK, FIXED_BOOK, ledger_by, rerate
from tests.services.statement_cases import (
    AUGUST,
    NOW,
    OCTOBER,
    SEPTEMBER,
    Division,
    add_bill,
    cells_of,
    close,
    make_cost,
    make_untracked,
)
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import Conflict
from tokenbudget.domain.months import shift_month
from tokenbudget.domain.statements import LineKey, StatementState
from tokenbudget.services.closing import AT_ONCE, close_month
from tokenbudget.services.restatements import (
    Approval,
    approve_restatement,
    propose_restatement,
)
from tokenbudget.services.statements import compare_views, get_statement, list_statements
from tokenbudget.services.stating import make_allocate
from tokenbudget.store.db import Database

TEAMS = ("growth", "search", "ops")
STEPS = 14


def learn(random: Random, division: Division, month: int) -> None:
    """Let anything else be known of a month."""
    costs = [make_cost(team, random.randint(0, 9)) for team in TEAMS if random.random() < 0.7]
    division.know(month, *costs, make_untracked(random.randint(-3, 9)))


def stated(database: Database) -> dict[int, Counter[LineKey]]:
    """Give what statements in force state of each month, by row, without zeros."""
    found: dict[int, Counter[LineKey]] = {}
    for header in list_statements(database, limit=100):
        if header.state is StatementState.CLOSED:
            for line in get_statement(database, header.statement_id).lines:
                rows = found.setdefault(line.key.service_month, Counter())
                rows[line.key] += line.amount_nanos
    return {month: Counter({k: n for k, n in rows.items() if n}) for month, rows in found.items()}


def known(division: Division, month: int) -> int:
    """Give what is known to be invoiced of a month."""
    return sum(cost.amount_nanos for cost in division.costs.get(month, ()))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_what_is_stated_of_a_month_is_what_was_known_of_it(
    database: Database, seed: int
) -> None:
    random, division, following = Random(seed), Division(), 202501
    restated = 0
    for _ in range(STEPS):
        for month in (following, *random.sample(sorted(division.costs), len(division.costs) // 2)):
            learn(random, division, month)
        closed = [month for month in division.costs if month < following]
        if closed and random.random() < 0.4:
            month = random.choice(closed)
            restated += restate(database, division, month)
            assert sum(stated(database).get(month, Counter()).values()) == known(division, month)
            continue
        close(database, division, following)
        following = shift_month(following, 1)
        # A close catches up with everything: row by row, each month is as it is known now.
        for month, rows in stated(database).items():
            assert sum(rows.values()) == known(division, month)
            assert len(rows) == len([each for each in division.costs[month] if each.amount_nanos])
    assert restated
    assert broken_rules(database) == []
    for header in list_statements(database, limit=100):
        views = compare_views(database, header.statement_id)
        assert views.as_invoiced_nanos == header.total_nanos


def restate(database: Database, division: Division, month: int) -> int:
    """Restate a month, and tell whether there was anything to restate."""
    try:
        proposed = propose_restatement(database, division, month=month, reason="r", now=NOW)
    except Conflict:
        return 0
    approve_restatement(database, division, proposed.statement_id, approval=Approval(None), now=NOW)
    return 1


def test_a_fixed_price_comes_out_of_untracked_on_the_next_statement(
    database: Database, services: Services, clock: FrozenClock
) -> None:
    usage = make_event(
        occurred_at="2026-08-10T12:00:00Z", usage=cents(100), tags={"team": "growth"}
    )
    record(ledger_by(services, BOOK), usage)
    add_bill(database, "2026-08-10", 150)
    before = make_allocate(currency="USD", price_list=BOOK)
    august = close_month(database, before, month=AUGUST, now=NOW, grace=AT_ONCE).statement

    # Input costs half a dollar a million more than the book said: 150 cents were metered.
    rerate(database, FIXED_BOOK, clock)
    after = make_allocate(currency="USD", price_list=FIXED_BOOK)
    september = close_month(database, after, month=SEPTEMBER, now=NOW, grace=AT_ONCE).statement

    assert cells_of(database, august.statement_id) == [
        ("202608", "Untracked", "untracked", 50),
        ("202608", "growth", "usage", 100),
    ]
    assert cells_of(database, september.statement_id) == [
        ("202608", "Untracked", "untracked", -50),
        ("202608", "growth", "usage", 50),
    ]
    assert september.total_nanos == 0
    lines = get_statement(database, september.statement_id).lines
    assert [line.metered_nanos for line in lines] == [None, 50 * CENT]


def test_usage_that_arrives_late_is_stated_once_by_the_ledger_itself(
    database: Database, services: Services
) -> None:
    ledger = ledger_by(services, BOOK)
    add_bill(database, "2026-08-10", 100)
    allocate = make_allocate(currency="USD", price_list=BOOK)
    close_month(database, allocate, month=AUGUST, now=NOW, grace=AT_ONCE)
    late = make_event(occurred_at="2026-08-10T12:00:00Z", usage=cents(100), tags={"team": "search"})
    record(ledger, late)

    september, october = (
        close_month(database, allocate, month=month, now=NOW, grace=AT_ONCE).statement
        for month in (SEPTEMBER, OCTOBER)
    )

    assert cells_of(database, september.statement_id) == [
        ("202608", "Untracked", "untracked", -100),
        ("202608", "search", "usage", 100),
    ]
    assert cells_of(database, october.statement_id) == []
    assert october.invoices == ()
