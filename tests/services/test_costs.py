"""Questions about money, asked of rollups on both databases."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from tests.rollup_builders import CENT, make_usage, roll_up
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.owners import OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.domain.periods import Period
from tokenbudget.services.costs import CostFilter, CostQuery, query_costs
from tokenbudget.services.owners import apply_owners
from tokenbudget.store.db import Database

NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
# New York turns its clocks back on 2026-11-01 at 06:00 UTC and forward on 2026-03-08 at 07:00 UTC.
ACROSS_CLOCK_CHANGES = [
    Period(datetime(2026, 10, 25, 4, tzinfo=UTC), datetime(2026, 11, 8, 5, tzinfo=UTC)),
    Period(datetime(2026, 3, 1, 5, tzinfo=UTC), datetime(2026, 3, 15, 4, tzinfo=UTC)),
    Period(datetime(2026, 10, 24, 18, 30, tzinfo=UTC), datetime(2026, 11, 7, 18, 30, tzinfo=UTC)),
]


def test_a_period_without_usage_has_no_rows_and_zero_totals(database: Database) -> None:
    table = query_costs(database, CostQuery(NOVEMBER, ("team",)))

    assert table.rows == []
    assert table.totals.effective_nanos == 0


def test_rows_are_summed_by_group_and_totals_by_all(database: Database) -> None:
    roll_up(
        database,
        [
            make_usage(NOON, team="growth", model="gpt-5.2"),
            make_usage(NOON, team="growth", model="gpt-5-mini"),
            make_usage(NOON, team="search", measures={"effective_nanos": 1}),
        ],
    )

    table = query_costs(database, CostQuery(NOVEMBER, ("team",)))

    assert [(row.group, row.effective_nanos, row.requests) for row in table.rows] == [
        (("growth",), 20_000_000, 2),
        (("search",), 1, 1),
    ]
    assert table.totals.effective_nanos == 20_000_001
    assert table.totals.list_nanos == 30_000_000
    assert table.totals.tokens == 30


def test_usage_outside_the_half_open_period_is_left_out(database: Database) -> None:
    period = Period(NOON, NOON + timedelta(minutes=15))
    roll_up(
        database,
        [
            make_usage(period.start - timedelta(microseconds=1)),
            make_usage(period.start),
            make_usage(period.end),
        ],
    )

    table = query_costs(database, CostQuery(period))

    assert table.totals.requests == 1


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("granularity", ["hour", "day", "week", "month"])
@pytest.mark.parametrize("period", ACROSS_CLOCK_CHANGES)
def test_buckets_add_up_to_the_range_across_clock_changes(
    database: Database, period: Period, granularity: str, timezone: str
) -> None:
    step = timedelta(minutes=47)
    count = (period.end - period.start) // step
    roll_up(
        database,
        [
            make_usage(period.start + step * place, measures={"effective_nanos": 10**place % 997})
            for place in range(count + 1)
        ],
    )

    whole = query_costs(database, CostQuery(period)).totals
    cut = query_costs(database, CostQuery(period, granularity=granularity, timezone=timezone))

    assert whole.requests == count + 1
    assert cut.totals == whole
    assert sum(row.effective_nanos for row in cut.rows) == whole.effective_nanos


def test_days_are_cut_in_the_zone_of_the_question(database: Database) -> None:
    # The day the clocks go back in New York has 25 hours: from 04:00 UTC until 05:00 UTC.
    first_hour = datetime(2026, 11, 1, 4, tzinfo=UTC)
    last_hour = datetime(2026, 11, 2, 4, 45, tzinfo=UTC)
    next_day = datetime(2026, 11, 2, 5, tzinfo=UTC)
    roll_up(database, [make_usage(first_hour), make_usage(last_hour), make_usage(next_day)])

    table = query_costs(
        database,
        CostQuery(
            Period(first_hour, next_day + timedelta(days=1)),
            granularity="day",
            timezone="America/New_York",
        ),
    )

    assert [(row.start, row.requests) for row in table.rows] == [(first_hour, 2), (next_day, 1)]


def test_a_bucket_that_begins_before_the_period_starts_with_the_period(database: Database) -> None:
    roll_up(database, [make_usage(NOON)])
    tuesday = datetime(2026, 11, 10, tzinfo=UTC)

    table = query_costs(
        database, CostQuery(Period(tuesday, tuesday + timedelta(days=14)), granularity="week")
    )

    assert [row.start for row in table.rows] == [tuesday]


def test_hours_that_share_a_wall_clock_are_counted_once(database: Database) -> None:
    # Lord Howe Island turns back by half an hour, on 2026-04-04 at 15:00 UTC.
    start = datetime(2026, 4, 4, 12, 30, tzinfo=UTC)
    roll_up(database, [make_usage(start + timedelta(minutes=15 * place)) for place in range(24)])

    table = query_costs(
        database,
        CostQuery(
            Period(start, start + timedelta(hours=6)),
            granularity="hour",
            timezone="Australia/Lord_Howe",
        ),
    )

    assert table.totals.requests == 24
    assert len({row.start for row in table.rows}) == len(table.rows)


@pytest.mark.parametrize(
    ("filters", "requests"),
    [
        ((CostFilter("team", ("growth",)),), 1),
        ((CostFilter("team", ("growth", "search")),), 2),
        ((CostFilter("team", ("growth",), negated=True),), 2),
        ((CostFilter("tenant", (None,)),), 2),
        ((CostFilter("tenant", ("acme",), negated=True),), 2),
        ((CostFilter("tag:project", ("apollo",)),), 1),
        ((CostFilter("is_retry", ("true",)),), 1),
        ((CostFilter("team", ("growth",)), CostFilter("tenant", (None,))), 0),
    ],
)
def test_filters_keep_what_they_admit(
    database: Database, filters: tuple[CostFilter, ...], requests: int
) -> None:
    roll_up(
        database,
        [
            make_usage(NOON, team="growth", tenant="acme"),
            make_usage(NOON, team="search", is_retry=True),
            make_usage(NOON, team="unallocated", tags={"project": "apollo"}),
        ],
    )

    table = query_costs(database, CostQuery(NOVEMBER, filters=filters))

    assert table.totals.requests == requests


def test_a_tag_is_a_dimension_and_its_absence_a_group(database: Database) -> None:
    roll_up(database, [make_usage(NOON, tags={"project": "apollo"}), make_usage(NOON)])

    table = query_costs(database, CostQuery(NOVEMBER, ("tag:project",)))

    assert [row.group for row in table.rows] == [(None,), ("apollo",)]


def test_rows_come_by_start_then_cost_then_group(database: Database) -> None:
    next_day = NOON + timedelta(days=1)
    roll_up(
        database,
        [
            make_usage(next_day, team="a"),
            make_usage(NOON, team="b"),
            make_usage(NOON, team="a"),
            make_usage(NOON, team="c", measures={"effective_nanos": 2 * CENT}),
        ],
    )

    table = query_costs(database, CostQuery(NOVEMBER, ("team",), granularity="day"))

    assert [(row.start.day if row.start else 0, row.group[0]) for row in table.rows] == [
        (10, "c"),
        (10, "a"),
        (10, "b"),
        (11, "a"),
    ]


def test_rows_can_be_ordered_by_a_metric(database: Database) -> None:
    roll_up(
        database,
        [make_usage(NOON, team=f"t{count}", measures={"requests": count}) for count in (2, 9, 4)],
    )

    rising = query_costs(database, CostQuery(NOVEMBER, ("team",), order="requests"))
    falling = query_costs(database, CostQuery(NOVEMBER, ("team",), order="-requests"))

    assert [row.requests for row in rising.rows] == [2, 4, 9]
    assert [row.requests for row in falling.rows] == [9, 4, 2]


@pytest.mark.parametrize("order", ["start", "-start", "-cost", "tokens"])
def test_pages_give_every_row_once_and_the_same_totals(database: Database, order: str) -> None:
    roll_up(
        database,
        [
            make_usage(NOON + timedelta(days=place % 3), team=f"t{place}", tenant=tenant)
            for place in range(7)
            for tenant in (None, "acme")
        ],
    )
    query = CostQuery(NOVEMBER, ("team", "tenant"), granularity="day", order=order)
    whole = query_costs(database, query)
    paged = []
    page_query = dataclasses.replace(query, limit=4)

    for _ in range(4):
        page = query_costs(database, page_query)
        paged.append(page)
        page_query = dataclasses.replace(page_query, cursor=page.next_cursor)

    assert [row for page in paged for row in page.rows] == whole.rows
    assert all(page.totals == whole.totals for page in paged)
    assert [page.next_cursor is None for page in paged] == [False, False, False, True]


@pytest.mark.parametrize("cursor", ["", "x", "é", "WzFd", "bnVsbA", "W10", "[]"])
def test_a_cursor_that_no_page_gave_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        query_costs(database, CostQuery(NOVEMBER, cursor=cursor))


def test_a_cursor_of_another_question_is_refused(database: Database) -> None:
    roll_up(database, [make_usage(NOON, team="a"), make_usage(NOON, team="b")])
    page = query_costs(database, CostQuery(NOVEMBER, ("team",), limit=1))

    with pytest.raises(InvalidInput, match="another question"):
        query_costs(database, CostQuery(NOVEMBER, ("model",), cursor=page.next_cursor))


def test_spend_follows_a_change_of_owner_inside_the_range(database: Database) -> None:
    change = datetime(2026, 11, 10, 6, tzinfo=UTC)
    apply_owners(
        database,
        [
            _team("growth", email="ana@example.com", cost_center="CC-1"),
            _team("growth", email="bo@example.com", cost_center="CC-2", valid_from=change),
        ],
        now=NOON,
    )
    roll_up(
        database,
        [make_usage(change - timedelta(minutes=1)), make_usage(change), make_usage(NOON)],
    )

    table = query_costs(database, CostQuery(NOVEMBER, ("owner", "cost_center"), order="requests"))

    assert [(row.group, row.requests) for row in table.rows] == [
        (("ana@example.com", "CC-1"), 1),
        (("bo@example.com", "CC-2"), 2),
    ]


def test_a_feature_owner_answers_before_the_team_and_the_team_above(database: Database) -> None:
    feature = OwnerFacts(parent="search", email="fay@example.com")
    apply_owners(
        database,
        [
            _team("platform", email="pia@example.com", cost_center="CC-9"),
            _team("search", parent="platform"),
            OwnerEntry(OwnerKind.FEATURE, "answers", feature),
        ],
        now=NOON,
    )
    roll_up(
        database,
        [
            make_usage(NOON, team="search", feature="answers"),
            make_usage(NOON, team="search", feature="unheard-of"),
            make_usage(NOON, team="strangers"),
        ],
    )

    table = query_costs(database, CostQuery(NOVEMBER, ("team", "feature", "owner", "cost_center")))

    assert sorted(row.group for row in table.rows if row.group[1]) == [
        ("search", "answers", "fay@example.com", "CC-9"),
        ("search", "unheard-of", "pia@example.com", "CC-9"),
    ]
    assert ("strangers", None, None, None) in [row.group for row in table.rows]


def test_a_dimension_set_first_seen_after_a_question_is_found_by_the_next(
    database: Database,
) -> None:
    roll_up(database, [make_usage(NOON, team="growth")])
    query_costs(database, CostQuery(NOVEMBER, ("team",)))
    roll_up(database, [make_usage(NOON, team="newcomer")])

    table = query_costs(database, CostQuery(NOVEMBER, ("team",)))

    assert [row.group for row in table.rows] == [("growth",), ("newcomer",)]


def _team(
    name: str,
    *,
    parent: str | None = None,
    cost_center: str | None = None,
    email: str | None = None,
    valid_from: datetime | None = None,
) -> OwnerEntry:
    facts = OwnerFacts(parent, cost_center, email)
    return OwnerEntry(OwnerKind.TEAM, name, facts, valid_from)
