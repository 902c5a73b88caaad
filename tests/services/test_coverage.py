"""Traffic that nobody reported and the coverage of teams, from stored bills and rollups."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from tests.rollup_builders import RolledUsage, make_usage, roll_up
from tests.services.bill_cases import NOW
from tests.services.reconciliation_cases import make_line, make_report, september, store_bill
from tests.services.test_reconciliation import price_list
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.likely_owners import LikelyOwner, OwnerReason
from tokenbudget.domain.periods import Period, Window
from tokenbudget.formats.tag_rules import parse_tag_rules
from tokenbudget.services.coverage import (
    TeamCoverage,
    UntrackedSpend,
    find_untracked_spend,
    get_coverage,
)
from tokenbudget.services.reconciliation import Reading
from tokenbudget.services.tag_rules import apply_tag_rules
from tokenbudget.store.db import Database

UNIT = 10**9


def make_metered(
    units: int, account: str | None, *, day: int = 1, **dimensions: Any
) -> RolledUsage:
    return make_usage(
        september(day),
        measures={"effective_nanos": units * UNIT, "input_tokens": 100, "output_tokens": 0},
        model="gpt-4.1",
        account=account,
        **dimensions,
    )


def reading(**overrides: Any) -> Reading:
    return Reading(**{"currency": "USD", "price_list": price_list(), **overrides})


def find(database: Database, **overrides: Any) -> UntrackedSpend:
    return find_untracked_spend(database, 202609, reading(**overrides))


def test_names_that_nobody_reports_are_listed_the_dearest_first_with_whom_to_ask(
    database: Database,
) -> None:
    apply_tag_rules(
        database,
        parse_tag_rules(
            {"mapping": [{"match": {"account": "mapped"}, "tags": {"team": "research"}}]}
        ),
        now=NOW,
    )
    store_bill(
        database,
        make_line("80", project="lab", api_key="key-a"),
        make_line("3", project="lab", api_key="rogue", start=september(4)),
        make_line("16", api_key="mapped"),
        make_line("1", api_key="stranger"),
        reports=(make_report("key-a", 100), make_report("silent", 300)),
    )
    roll_up(database, [make_metered(80, "key-a")])

    found = find(database)

    told = [
        (name.untracked.ref.api_key, name.untracked.amount_nanos, name.untracked.tokens)
        for name in found.names
    ]
    assert told == [
        ("mapped", 16 * UNIT, 0),
        ("rogue", 3 * UNIT, 0),
        ("stranger", UNIT, 0),
        ("silent", 0, 300),
    ]
    assert [name.owner for name in found.names] == [
        LikelyOwner("research", OwnerReason.MAPPING),
        LikelyOwner("growth", OwnerReason.PROJECT),
        None,
        None,
    ]
    assert [name.share_basis_points for name in found.names] == [1_600, 300, 100, 0]
    assert found.names[1].untracked.first == date(2026, 9, 4)
    assert found.invoiced == 100


def test_reports_of_meters_of_other_times_and_of_other_providers_have_no_part(
    database: Database,
) -> None:
    august = datetime(2026, 8, 31, tzinfo=UTC)
    store_bill(
        database,
        reports=(
            make_report("meter", 500, source="litellm-daily"),
            make_report("august", 500, period_start=august),
            make_report("superseded", 500, superseded_by="import"),
            make_report("other", 500, provider="anthropic"),
            make_report("today", 500, period_start=september(2), period_end=september(3)),
            make_report("silent", 500),
        ),
    )

    found = find(database, provider="openai", as_of=september(2, 12))

    assert [name.untracked.ref.api_key for name in found.names] == ["silent"]
    assert found.names[0].share_basis_points is None


def test_on_the_first_of_the_month_there_is_nothing_to_judge(database: Database) -> None:
    store_bill(database, reports=(make_report("silent", 500),))

    assert find(database, as_of=september(1, 9)).names == ()
    assert len(find(database, as_of=datetime(2026, 10, 1, tzinfo=UTC)).names) == 1


def test_coverage_of_a_team_is_told_over_months_and_weeks(database: Database) -> None:
    apply_tag_rules(
        database,
        parse_tag_rules({"mapping": [{"match": {"account": "rogue"}, "tags": {"team": "growth"}}]}),
        now=NOW,
    )
    october = datetime(2026, 10, 1, tzinfo=UTC)
    store_bill(
        database,
        make_line("9", api_key="key-a"),
        make_line("1", api_key="rogue"),
        make_line("1", api_key="rogue", model="o3"),
        make_line("4", api_key="key-a", start=october, billing_month=202610),
        make_line("5", api_key="stranger", start=october, billing_month=202610),
    )
    roll_up(database, [make_metered(9, "key-a")])
    later = make_usage(
        october, measures={"effective_nanos": 4 * UNIT}, model="gpt-4.1", account="key-a"
    )
    roll_up(database, [later])

    by_month = get_coverage(database, (202609, 202610), Window.MONTH, reading())
    by_week = get_coverage(database, (202609, 202609), Window.WEEK, reading())

    assert [_told(each) for each in by_month] == [
        (september(1), "growth", 9 * UNIT, 2 * UNIT, 8_182),
        (october, "Untracked", 0, 5 * UNIT, 0),
        (october, "growth", 4 * UNIT, 0, 10_000),
    ]
    assert [each.period for each in by_week] == [
        Period(datetime(2026, 8, 31, tzinfo=UTC), september(7))
    ]


def _told(each: TeamCoverage) -> tuple[Any, ...]:
    coverage = each.coverage
    return (
        each.period.start,
        each.team,
        coverage.tracked_nanos,
        coverage.untracked_nanos,
        coverage.basis_points,
    )


@pytest.mark.parametrize("months", [(202609, 202608), (202609, 202709)])
def test_coverage_is_of_one_to_twelve_months(database: Database, months: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="until must be the month of period or one of the 11"):
        get_coverage(database, months, Window.MONTH, reading())


def test_a_whole_year_of_coverage_may_be_asked_for(database: Database) -> None:
    assert get_coverage(database, (202609, 202708), Window.MONTH, reading()) == []
