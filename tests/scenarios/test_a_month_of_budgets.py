"""November of a small company, told through its budgets.

The growth team may spend ten dollars a month and never more; each of its tenants two dollars a
day; the whole company is told when it passes twenty-five dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    hold_cents,
    make_budget,
    make_event,
    record,
    release,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tokenbudget.services.budgets import list_standings
from tokenbudget.services.forecasts import refresh_forecasts
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import AlertRow

GROWTH = {"team": "growth", "tenant": "acme"}
SEARCH = {"team": "search", "tenant": "bolt"}


@dataclass(frozen=True, slots=True)
class Company:
    """The company's ledger, its database and its calendar."""

    ledger: Ledger
    database: Database
    clock: FrozenClock

    def write_budgets(self, *, growth_limit: str = "10.00") -> None:
        """Apply the three budgets."""
        set_budgets(
            self.database,
            make_budget(id="company", limit="25.00", mode="soft", thresholds=["1"]),
            make_budget(id="growth", limit=growth_limit, selector={"team": "growth"}),
            make_budget(
                id="tenants", limit="2.00", window="day", split_by=["tenant"], thresholds=["1"]
            ),
            now=self.clock(),
        )

    def ask_for(self, count: int, tags: Mapping[str, str]) -> dict[str, Any]:
        """Check quota for so many cents."""
        return ask(self.ledger, estimate=f"{count // 100}.{count % 100:02d}", tags=tags)

    def post(self, name: str, count: int, tags: Mapping[str, str], **overrides: Any) -> None:
        """Record so many cents of usage."""
        occurred_at = self.clock().isoformat()
        event = {"event_id": name, "occurred_at": occurred_at, "tags": tags, **overrides}
        assert record(self.ledger, make_event(usage=cents(count), **event)).accepted == 1

    def spend(self, name: str, count: int, tags: Mapping[str, str]) -> str:
        """Ask for so many cents and spend them where the answer is yes; give the answer."""
        decision = self.ask_for(count, tags)
        if decision["hold_id"] is not None:
            self.post(name, count, tags, hold_id=decision["hold_id"])
        return str(decision["decision"])

    def growth(self) -> tuple[int, int]:
        """Give what the growth team has settled and held this month, in cents."""
        settled, held = standings(self.database, now=self.clock())["growth",]
        return settled // CENT, held // CENT

    def alerts(self) -> list[tuple[str, str]]:
        """Give (budget, threshold) of every alert, oldest first."""
        rows = rows_of(self.database, AlertRow)
        ordered = sorted(rows, key=lambda row: (row["raised_at"], row["threshold"]))
        return [(row["budget_id"], row["threshold"]) for row in ordered]


def a_quiet_first_week_is_far_from_every_limit(company: Company) -> None:
    """A dollar a day: seven of ten."""
    for day in range(1, 8):
        assert company.spend(f"quiet-{day}", 100, GROWTH) == "allow"
        company.clock.advance(days=1)

    assert company.growth() == (700, 0)
    assert company.alerts() == [("growth", "0.5")]


def a_tenant_that_asks_for_too_much_of_its_day_is_refused_alone(company: Company) -> None:
    """The 8th: two dollars a day are two dollars a day, for each."""
    assert company.spend("burst-1", 150, GROWTH) == "allow"
    assert company.spend("burst-2", 60, GROWTH) == "deny"
    assert company.spend("other", 150, SEARCH) == "allow"

    assert company.alerts() == [("growth", "0.5"), ("growth", "0.8")]


def the_next_day_has_room_and_nobody_reset_anything(company: Company) -> None:
    """The 9th is a new window of the tenants' budget, and the same month of the team's."""
    company.clock.advance(days=1)

    assert company.spend("ninth", 100, GROWTH) == "allow"
    assert company.growth() == (950, 0)


def a_call_that_is_not_sent_makes_room_for_another(company: Company) -> None:
    """Fifty cents are left of the month, and two calls ask for thirty at once."""
    hold_id = hold_cents(company.ledger, 30, tags=GROWTH)
    assert company.ask_for(30, GROWTH)["decision"] == "deny"

    release(company.ledger, hold_id)

    assert company.spend("tenth", 30, GROWTH) == "allow"


def what_a_call_cost_above_its_hold_is_posted_in_full(company: Company) -> str:
    """Fifteen cents were held and forty-five spent: give the hold, for the correction to name."""
    hold_id = hold_cents(company.ledger, 15, tags=GROWTH)

    company.post("overrun", 45, GROWTH, hold_id=hold_id)

    assert company.growth() == (1_025, 0)
    assert company.spend("eleventh", 1, GROWTH) == "deny"
    assert company.alerts()[2:] == [("growth", "1")]
    return hold_id


def a_higher_limit_is_a_new_version_of_the_same_count(company: Company) -> None:
    """Finance gives the team five dollars more."""
    company.clock.advance(days=1)

    company.write_budgets(growth_limit="15.00")

    assert company.growth() == (1_025, 0)
    assert company.spend("raised", 100, GROWTH) == "allow"


def a_correction_by_the_provider_is_a_revision(company: Company, hold_id: str) -> None:
    """A week later the forty-five cents turn out to have been five."""
    company.clock.advance(days=7)

    company.post(
        "overrun", 5, GROWTH, occurred_at="2026-11-09T09:00:00Z", hold_id=hold_id, revision=1
    )

    assert company.growth() == (1_085, 0)


def a_soft_budget_tells_once_and_refuses_nothing(company: Company) -> None:
    """The search team has no limit of its own, and the company passes its twenty-five dollars."""
    for day in range(17, 25):
        assert company.spend(f"search-{day}", 199, SEARCH) == "allow"
        company.clock.advance(days=1)

    assert company.alerts()[3:] == [("company", "1")]
    refresh_forecasts(company.database, now=company.clock(), currency="USD")
    [standing] = list_standings(company.database, now=company.clock(), budget_id="company")
    assert standing.settled == (1_085 + 150 + 8 * 199) * CENT
    assert standing.forecast is not None
    assert standing.forecast > standing.settled


def december_begins_at_zero_and_november_stays_as_it_was(company: Company) -> None:
    """The month turns without a job."""
    company.clock.now = datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC)

    assert company.spend("december", 100, GROWTH) == "allow"
    assert company.growth() == (100, 0)
    november = standings(company.database, now=datetime(2026, 11, 30, tzinfo=UTC))
    assert november["growth",] == (1_085 * CENT, 0)


def test_a_month_of_budgets(ledger: Ledger, database: Database, clock: FrozenClock) -> None:
    company = Company(ledger, database, clock)
    clock.now = datetime(2026, 11, 1, 9, tzinfo=UTC)
    company.write_budgets()

    a_quiet_first_week_is_far_from_every_limit(company)
    a_tenant_that_asks_for_too_much_of_its_day_is_refused_alone(company)
    the_next_day_has_room_and_nobody_reset_anything(company)
    a_call_that_is_not_sent_makes_room_for_another(company)
    hold_id = what_a_call_cost_above_its_hold_is_posted_in_full(company)
    a_higher_limit_is_a_new_version_of_the_same_count(company)
    a_correction_by_the_provider_is_a_revision(company, hold_id)
    a_soft_budget_tells_once_and_refuses_nothing(company)
    december_begins_at_zero_and_november_stays_as_it_was(company)

    assert broken_rules(database) == []
