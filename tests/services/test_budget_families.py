"""Writing children that exceed their parent warns, or is refused; and days of a zone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.builders import ask, make_budget, rows_of, set_budgets
from tests.conftest import FrozenClock
from tests.services.rolling_cases import spend
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.errors import Conflict, InvalidInput
from tokenbudget.domain.holds import Notice
from tokenbudget.domain.periods import Period
from tokenbudget.services.budgets import apply_budgets, create_budget, list_standings
from tokenbudget.services.replay import replay_budgets
from tokenbudget.store.db import Database
from tokenbudget.store.tables import BudgetRow

PARENT = make_budget(id="team", selector={"team": "growth"}, limit="5.00")
CHILDREN = [
    make_budget(id=name, selector={"team": "growth", "feature": name}, limit="3.00")
    for name in ("chat", "search")
]
SENTENCE = "chat, search allow together 6.000000000, more than the 5.000000000 of their parent team"
WARNING = Notice("children_exceed_parent", SENTENCE)


def test_children_that_exceed_their_parent_are_warned_of_with_both_figures(
    database: Database, clock: FrozenClock
) -> None:
    first = set_budgets(database, PARENT, CHILDREN[0], now=clock())
    second = set_budgets(database, CHILDREN[1], now=clock())

    assert [change.warnings for change in first] == [(), ()]
    assert second[0].action == "created"
    assert second[0].warnings == (WARNING,)


def test_a_parent_that_shrinks_below_its_children_is_warned_of(
    database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, *CHILDREN, now=clock())
    other = make_budget(id="other", selector={"team": "core"})

    changes = set_budgets(database, PARENT, other, now=clock())

    assert [change.warnings for change in changes] == [(WARNING,), ()]


def test_strictly_they_are_refused_and_nothing_is_written(
    database: Database, clock: FrozenClock
) -> None:
    with pytest.raises(Conflict, match="of their parent team"):
        apply_budgets(database, [PARENT, *CHILDREN], now=clock(), strict=True)
    assert rows_of(database, BudgetRow) == []

    set_budgets(database, PARENT, CHILDREN[0], now=clock())
    with pytest.raises(Conflict, match="chat, search"):
        create_budget(database, CHILDREN[1], now=clock(), strict=True)
    assert len(rows_of(database, BudgetRow)) == 2


@pytest.mark.parametrize(
    ("zone", "begins", "hours"),
    [
        ("America/New_York", "2026-03-08T05:00:00Z", 23),
        ("America/New_York", "2026-11-01T04:00:00Z", 25),
        ("Asia/Kolkata", "2026-11-19T18:30:00Z", 24),
    ],
)
def test_a_daily_budget_counts_the_day_of_its_zone(
    services: Services, zone: str, begins: str, hours: int
) -> None:
    begin = datetime.fromisoformat(begins)
    clock = FrozenClock(begin + timedelta(hours=hours - 1))
    ledger = make_ledger(replace(services, clock=clock))
    set_budgets(services.database, make_budget(window="day", timezone=zone), now=clock())
    spend(ledger, 90, begins)

    denied = ask(ledger, estimate="0.11")
    [standing] = list_standings(services.database, now=clock())
    clock.advance(hours=1)
    allowed = ask(ledger, estimate="0.11")

    assert standing.period == Period(begin, begin + timedelta(hours=hours))
    assert denied["decision"] == "deny"
    assert allowed["decision"] == "allow"


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        ({"window": "operation"}, "window 'operation' is not replayed"),
        ({"window": "day", "rollover": {}}, "rollover is not replayed"),
    ],
)
def test_what_cannot_be_replayed_is_refused_by_name(
    database: Database, clock: FrozenClock, overrides: dict[str, Any], rule: str
) -> None:
    draft = make_budget(id="proposed", **overrides)

    with pytest.raises(InvalidInput, match=f"budget 'proposed': {rule}"):
        replay_budgets(database, [draft], Period(clock() - timedelta(days=1), clock()))
