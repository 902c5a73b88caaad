"""What tests of statements share: months divided by hand, and statements as cells to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlmodel import Session

from tests.builders import CENT
from tokenbudget.domain.owners import OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.domain.statements import (
    AllocatedCost,
    Bearer,
    Invoice,
    Method,
    MonthAllocation,
    Origin,
    Refusal,
    StatementHeader,
)
from tokenbudget.services.closing import AT_ONCE, close_month
from tokenbudget.services.owners import apply_owners
from tokenbudget.services.statements import get_statement
from tokenbudget.store.db import Database
from tokenbudget.store.tables import BillImportRow, BillLineRow

AUGUST, SEPTEMBER, OCTOBER, NOVEMBER = 202608, 202609, 202610, 202611
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
GRACE = timedelta(hours=72)


def make_cost(team: str, count: int, **overrides: Any) -> AllocatedCost:
    """Give so many cents of metered usage that a team bears of acme's account ``a``."""
    fields: dict[str, Any] = {
        "bearer": Bearer(team),
        "provider": "acme",
        "account": "a",
        "model": "plain",
        "origin": Origin.USAGE,
        "method": Method.DIRECT,
        "amount_nanos": count * CENT,
        "metered_nanos": count * CENT,
        "requests": 1,
        "tokens": count * 10_000,
    }
    return AllocatedCost(**{**fields, **overrides})


def make_untracked(count: int, **overrides: Any) -> AllocatedCost:
    """Give so many cents of acme's account ``a`` that nobody metered."""
    untracked = {"origin": Origin.UNTRACKED, "method": Method.RESIDUAL, "metered_nanos": None}
    return make_cost("Untracked", count, requests=0, tokens=0, **{**untracked, **overrides})


@dataclass
class Division:
    """Stands in for the dividing of invoices: what a test says is known of each month."""

    costs: dict[int, list[AllocatedCost]] = field(default_factory=dict)
    invoiced: dict[int, int] = field(default_factory=dict)
    refusals: dict[int, tuple[Refusal, ...]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)

    def __call__(self, _session: Session, month: int) -> MonthAllocation:
        """Give what is known of the month; it is invoiced what its rows say, unless told."""
        self.asked.append(month)
        costs = tuple(self.costs.get(month, ()))
        total = sum(cost.amount_nanos for cost in costs)
        nanos = self.invoiced[month] * CENT if month in self.invoiced else total
        invoices = (Invoice("acme", "a", nanos),) if costs or nanos else ()
        return MonthAllocation(month, "USD", 1, costs, invoices, self.refusals.get(month, ()))

    def know(self, month: int, *costs: AllocatedCost) -> None:
        """Put what is known of a month in place of what was."""
        self.costs[month] = list(costs)


def close(database: Database, division: Division, month: int, **overrides: Any) -> StatementHeader:
    """Close a month at once, unless told otherwise, and give its statement."""
    terms: dict[str, Any] = {"now": NOW, "grace": AT_ONCE, **overrides}
    return close_month(database, division, month=month, **terms).statement


def cells_of(database: Database, statement_id: str) -> Sequence[tuple[str, str, str, int]]:
    """Give each row as (service month, team, origin, cents), in order."""
    return [
        (
            str(line.key.service_month),
            line.key.team,
            line.key.origin.value,
            line.amount_nanos // CENT,
        )
        for line in get_statement(database, statement_id).lines
    ]


def add_bill(database: Database, date: str, count: int, **overrides: Any) -> None:
    """Store a bill of so many cents for a day of ``acme/plain``, account ``a``."""
    start = datetime.fromisoformat(f"{date}T00:00:00+00:00")
    facts: dict[str, Any] = {
        "provider": "acme",
        "account": "a",
        "model": "plain",
        "category": "usage",
        "currency": "USD",
        "billing_month": start.year * 100 + start.month,
        **overrides,
    }
    name = f"{date} {sorted(facts.items())} {count}"
    with database.transaction() as session:
        session.add(
            BillImportRow(
                id=name, source="s", file_name=name, sha256=name, line_count=1, imported_at=NOW
            )
        )
        session.flush()
        session.add(
            BillLineRow(
                import_id=name,
                row_number=1,
                source="s",
                period_start=start,
                period_end=start + timedelta(days=1),
                billed_amount=f"{count}e-2",
                billed_nanos=count * CENT,
                **facts,
            )
        )


def set_cost_centers(
    database: Database, centers: Mapping[str, str], *, valid_from: datetime | None = None
) -> None:
    """Give teams their cost centres."""
    entries = [
        OwnerEntry(OwnerKind.TEAM, team, OwnerFacts(cost_center=center), valid_from)
        for team, center in centers.items()
    ]
    apply_owners(database, entries, now=NOW)
