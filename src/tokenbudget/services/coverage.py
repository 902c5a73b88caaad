"""Traffic that nobody reported, and how much of each team's spend is tracked: both are only read.

It owns which months are looked at; it refuses the sums (``domain/coverage.py``) and stores nothing,
since all of it follows from rollups, bill lines and rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.coverage import (
    Coverage,
    CoverageByTeam,
    Reported,
    Sides,
    Untracked,
    add_reported,
    cover_teams,
    find_untracked,
)
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.invoice_months import spell_like_bills
from tokenbudget.domain.likely_owners import LikelyOwner, Neighbours, Ref, map_ref, ref_of
from tokenbudget.domain.money import decimal_to_nanos, divide_half_even
from tokenbudget.domain.months import shift_month
from tokenbudget.domain.periods import Period, Window, window_at
from tokenbudget.domain.reconciliation import ReconciliationRow, add_exactly
from tokenbudget.domain.tag_rules import TagRules
from tokenbudget.domain.variances import BASIS_POINTS, ZERO
from tokenbudget.formats.bills.meters import METER_SOURCES
from tokenbudget.services.reconciliation import MonthFacts, Reading, book_names, read_facts
from tokenbudget.services.rulebook import load_tag_rules
from tokenbudget.store import reconciliation as store
from tokenbudget.store.db import Database

MAX_MONTHS: Final = 12


@dataclass(frozen=True, slots=True)
class UntrackedName:
    """What one name has that nobody reported, whose it may be, and its part of the invoice.

    ``share_basis_points`` is of what the provider invoiced for the month, None where that is
    nothing.
    """

    untracked: Untracked
    owner: LikelyOwner | None
    share_basis_points: int | None


@dataclass(frozen=True, slots=True)
class UntrackedSpend:
    """The untracked names of a month, the most expensive first."""

    month: int
    currency: str
    invoiced: Decimal
    names: tuple[UntrackedName, ...]


@dataclass(frozen=True, slots=True)
class TeamCoverage:
    """How much of what was invoiced for a team in a time is tracked."""

    period: Period
    team: str
    coverage: Coverage


def find_untracked_spend(database: Database, month: int, reading: Reading) -> UntrackedSpend:
    """Give the keys, projects and accounts of a month with traffic that nobody reported."""
    with database.reading() as session:
        facts = read_facts(session, month, reading)
        reported = _read_reported(session, facts, reading)
        rules = load_tag_rules(session)
    found = find_untracked(_sides(facts))
    add_reported(found, reported, facts.metered)
    neighbours = Neighbours.build(facts.metered, facts.lines)
    invoiced = _invoiced_by_provider(facts.reconciliation.rows)
    names = [
        UntrackedName(
            item,
            map_ref(item.ref, min(item.models, default=None), facts.period.start, rules)
            or neighbours.guess(item.ref),
            _share(item.amount_nanos, invoiced.get(item.ref.provider, ZERO)),
        )
        for item in found.values()
    ]
    names.sort(key=lambda name: (-name.untracked.amount_nanos, name.untracked.ref.order))
    return UntrackedSpend(month, reading.currency, facts.reconciliation.invoiced, tuple(names))


def get_coverage(
    database: Database, months: tuple[int, int], window: Window, reading: Reading
) -> list[TeamCoverage]:
    """Give the coverage of each team by month or week (UTC), in order of time and team.

    ``months`` are the first and the last; a week belongs to every month it touches. Raises
    InvalidInput for more than twelve months or for none.
    """
    listed = _months_between(*months)
    coverage: CoverageByTeam = {}
    with database.reading() as session:
        rules = load_tag_rules(session)
        for month in listed:
            facts = read_facts(session, month, reading)
            for key, found in cover_teams(_sides(facts), _mapped_by(rules), window).items():
                total = coverage.setdefault(key, Coverage())
                total.tracked_nanos += found.tracked_nanos
                total.untracked_nanos += found.untracked_nanos
    return [TeamCoverage(*key, coverage[key]) for key in sorted(coverage)]


def _months_between(first: int, last: int) -> list[int]:
    months = [first]
    while months[-1] < last and len(months) <= MAX_MONTHS:
        months.append(shift_month(months[-1], 1))
    if first > last or len(months) > MAX_MONTHS:
        raise InvalidInput(
            f"until must be the month of period or one of the {MAX_MONTHS - 1} after it",
            field="until",
        )
    return months


def _sides(facts: MonthFacts) -> Sides:
    return Sides(facts.metered, facts.lines, facts.reconciliation)


def _mapped_by(rules: TagRules) -> Callable[[BilledCost], str | None]:
    known: dict[tuple[Ref, str | None, int], str | None] = {}

    def team_of(line: BilledCost) -> str | None:
        ref, at = ref_of(line), line.period.start
        key = (ref, line.model, rules.epoch_at(at))
        if key not in known:
            owner = map_ref(ref, line.model, at, rules)
            known[key] = None if owner is None else owner.team
        return known[key]

    return team_of


def _read_reported(session: Session, facts: MonthFacts, reading: Reading) -> list[Reported]:
    end = _last_judged(facts.period, reading.as_of)
    if end <= facts.period.start:
        return []
    book_name = book_names(reading.price_list)
    known = {line.provider for line in facts.lines} | {cost.provider for cost in facts.metered}
    wanted = None if reading.provider is None else book_name(reading.provider)
    return [
        Reported(
            Ref(
                spell_like_bills(usage.provider, known, book_name),
                usage.account,
                usage.project,
                usage.api_key,
            ),
            Period(usage.first, usage.end),
            usage.tokens,
        )
        for usage in store.iterate_reported_usage(session, Period(facts.period.start, end))
        # Meters of others' calls are told by the providers' own reports too.
        if usage.source not in METER_SOURCES
        and (wanted is None or book_name(usage.provider) == wanted)
    ]


def _last_judged(period: Period, as_of: datetime | None) -> datetime:
    if as_of is None or as_of >= period.end:
        return period.end
    return window_at(Window.DAY, as_of, "UTC").start


def _invoiced_by_provider(rows: tuple[ReconciliationRow, ...]) -> dict[str, Decimal]:
    invoiced: dict[str, Decimal] = {}
    for row in rows:
        so_far = invoiced.get(row.provider, ZERO)
        invoiced[row.provider] = add_exactly(so_far, row.invoiced or ZERO)
    return invoiced


def _share(nanos: int, invoiced: Decimal) -> int | None:
    total = decimal_to_nanos(invoiced)
    return divide_half_even(nanos * BASIS_POINTS, total) if total > 0 else None
