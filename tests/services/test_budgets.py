"""Budgets as code: versions, what counting starts from, standings and forecasts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.builders import (
    CENT,
    DOLLAR,
    ask,
    broken_rules,
    cents,
    contents,
    hold_cents,
    make_budget,
    make_event,
    record,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tokenbudget.domain.errors import Conflict, InvalidInput, NotFound
from tokenbudget.services.budgets import (
    apply_budgets,
    create_budget,
    get_budget,
    list_budgets,
    list_standings,
    list_versions,
)
from tokenbudget.services.forecasts import refresh_forecasts
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import BudgetRow, CounterRow

NOVEMBER_BEGINS = datetime(2026, 11, 1, tzinfo=UTC)


def test_a_new_budget_is_created_in_its_first_version(
    database: Database, clock: FrozenClock
) -> None:
    [change] = set_budgets(database, make_budget(), now=clock())

    assert (change.action, change.budget.version) == ("created", 1)
    assert change.budget.valid_from == clock()
    assert list_budgets(database) == [change.budget]


def test_the_same_budget_again_changes_nothing(database: Database, clock: FrozenClock) -> None:
    set_budgets(database, make_budget(), now=clock())
    before = rows_of(database, BudgetRow)
    clock.advance(days=1)

    [change] = set_budgets(database, make_budget(), now=clock())

    assert (change.action, change.changed_fields) == ("unchanged", ())
    assert rows_of(database, BudgetRow) == before


def test_a_new_limit_is_a_new_version_and_leaves_the_counters_alone(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="1.00"), now=clock())
    record(ledger, make_event(usage=cents(40)))
    hold_cents(ledger, 50)
    before = rows_of(database, CounterRow)

    [change] = set_budgets(database, make_budget(limit="0.45"), now=clock())

    assert (change.action, change.changed_fields) == ("changed", ("limit",))
    assert (change.budget.version, change.budget.counting_version) == (2, 1)
    assert rows_of(database, CounterRow) == before
    assert change.standings[0].headroom == -45 * CENT
    assert [version.limit for version in list_versions(database, "all")] == [
        DOLLAR,
        45 * CENT,
    ]
    assert ask(ledger)["decision"] == "deny"


def test_a_new_selector_recounts_what_the_ledger_holds(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(selector={"team": "growth"}), now=clock())
    record(
        ledger,
        make_event(usage=cents(40), tags={"team": "growth"}),
        make_event(event_id="e2", usage=cents(7), tags={"team": "search"}),
    )

    [change] = set_budgets(database, make_budget(selector={"team": "search"}), now=clock())

    assert (change.budget.version, change.budget.counting_version) == (2, 2)
    assert standings(database, now=clock())["all",] == (7 * CENT, 0)
    record(ledger, make_event(event_id="e3", usage=cents(1), tags={"team": "search"}))
    assert standings(database, now=clock())["all",] == (8 * CENT, 0)
    assert broken_rules(database) == []


def test_a_new_split_recounts_every_value(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    record(
        ledger,
        make_event(usage=cents(40), tags={"tenant": "a"}),
        make_event(event_id="e2", usage=cents(7), tags={"tenant": "b"}),
        make_event(event_id="e3", usage=cents(5), tags={}),
    )

    set_budgets(database, make_budget(split_by=["tenant"]), now=clock())

    assert standings(database, now=clock()) == {
        ("all", ""): (5 * CENT, 0),
        ("all", "a"): (40 * CENT, 0),
        ("all", "b"): (7 * CENT, 0),
    }
    assert broken_rules(database) == []


@pytest.mark.parametrize(
    ("unit", "limit", "settled"),
    [("money", "1.00", 7 * CENT), ("tokens", 10**6, 70_000), ("requests", 10, 1)],
)
def test_a_budget_counts_what_its_window_already_holds(
    ledger: Ledger,
    database: Database,
    clock: FrozenClock,
    unit: str,
    limit: str | int,
    settled: int,
) -> None:
    record(
        ledger,
        make_event(usage=cents(7)),
        make_event(event_id="e2", usage=cents(9), occurred_at="2026-10-31T23:59:59Z"),
    )

    [change] = set_budgets(database, make_budget(unit=unit, limit=limit), now=clock())

    assert [standing.settled for standing in change.standings] == [settled]
    assert broken_rules(database) == []


@pytest.mark.parametrize("window", ["year:04", "quarter:02"])
def test_a_fiscal_window_counts_what_it_already_holds(
    ledger: Ledger, database: Database, clock: FrozenClock, window: str
) -> None:
    begins = "2026-04-01" if window == "year:04" else "2026-11-01"
    record(
        ledger,
        make_event(usage=cents(7), occurred_at=f"{begins}T00:00:00Z"),
        make_event(event_id="e2", usage=cents(9), occurred_at="2026-03-31T23:59:59Z"),
    )

    [change] = set_budgets(database, make_budget(window=window), now=clock())

    assert [standing.settled for standing in change.standings] == [7 * CENT]
    assert broken_rules(database) == []


def test_a_budget_that_counts_from_its_creation_starts_at_zero(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(usage=cents(70)))

    set_budgets(database, make_budget(baseline="creation"), now=clock())
    record(ledger, make_event(event_id="e2", usage=cents(4)))

    assert standings(database, now=clock())["all",] == (4 * CENT, 0)
    assert broken_rules(database) == []


def test_usage_that_arrives_late_for_an_earlier_window_counts_there(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day", valid_from="2026-11-10T00:00:00Z"), now=clock())
    yesterday = clock() - timedelta(days=1)

    record(ledger, make_event(usage=cents(3), occurred_at="2026-11-19T10:00:00Z"))

    assert standings(database, now=yesterday)["all",] == (3 * CENT, 0)
    assert broken_rules(database) == []


def test_windows_since_a_validity_in_the_past_are_counted_too(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(usage=cents(3), occurred_at="2026-11-18T10:00:00Z"))

    set_budgets(database, make_budget(window="day", valid_from="2026-11-17T00:00:00Z"), now=clock())

    assert standings(database, now=clock() - timedelta(days=2))["all",] == (3 * CENT, 0)
    assert broken_rules(database) == []


def test_a_validity_that_reaches_back_too_many_windows_is_refused(
    database: Database, clock: FrozenClock
) -> None:
    draft = make_budget(window="hour", valid_from="2020-01-01T00:00:00Z")

    with pytest.raises(InvalidInput, match="'all': valid_from reaches back over more than 1000"):
        set_budgets(database, draft, now=clock())

    assert rows_of(database, BudgetRow) == []


def test_a_budget_of_the_future_counts_nothing_before_its_first_window(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(usage=cents(3)))

    set_budgets(database, make_budget(valid_from="2026-12-01T00:00:00Z"), now=clock())
    record(ledger, make_event(event_id="e2", usage=cents(4)))

    assert rows_of(database, CounterRow) == []
    assert standings(database, now=clock()) == {}
    assert broken_rules(database) == []


def test_the_window_in_which_a_budget_ends_is_counted_to_its_end(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(valid_from="2026-11-01T00:00:00Z", valid_to="2026-11-20T12:05:00Z"),
        now=clock(),
    )
    clock.advance(hours=1)

    record(ledger, make_event(usage=cents(3), occurred_at="2026-11-20T13:00:00Z"))

    assert standings(database, now=clock())["all",] == (3 * CENT, 0)
    assert broken_rules(database) == []


@pytest.mark.parametrize("field", ["valid_from", "valid_to"])
def test_a_longer_validity_counts_the_windows_that_join(
    ledger: Ledger, database: Database, clock: FrozenClock, field: str
) -> None:
    short = {"valid_from": "2026-11-19T00:00:00Z", "valid_to": "2026-11-20T00:00:00Z"}
    long = {"valid_from": "2026-11-18T00:00:00Z", "valid_to": "2026-11-21T00:00:00Z"}
    set_budgets(database, make_budget(window="day", **short), now=clock())
    record(
        ledger,
        make_event(usage=cents(3), occurred_at="2026-11-18T10:00:00Z"),
        make_event(event_id="e2", usage=cents(4), occurred_at="2026-11-19T10:00:00Z"),
        make_event(event_id="e3", usage=cents(5), occurred_at="2026-11-20T10:00:00Z"),
    )

    [change] = set_budgets(
        database, make_budget(window="day", **{**short, field: long[field]}), now=clock()
    )
    record(
        ledger,
        make_event(event_id="e4", usage=cents(1), occurred_at="2026-11-18T11:00:00Z"),
        make_event(event_id="e5", usage=cents(1), occurred_at="2026-11-20T11:00:00Z"),
    )

    assert change.budget.counting_version == 1
    joined = [row["settled"] // CENT for row in rows_of(database, CounterRow)]
    assert sorted(joined) == ([4, 4] if field == "valid_from" else [4, 6])
    assert broken_rules(database) == []


def test_leaving_valid_from_out_keeps_when_the_budget_began(
    database: Database, clock: FrozenClock
) -> None:
    began = clock()
    set_budgets(database, make_budget(), now=clock())
    clock.advance(days=3)

    [change] = set_budgets(database, make_budget(limit="2.00"), now=clock())

    assert change.budget.valid_from == began


def test_a_rehearsal_shows_what_would_change_and_writes_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(usage=cents(7)))
    before = contents(database)

    [change] = apply_budgets(database, [make_budget()], now=clock(), dry_run=True)

    assert (change.action, change.standings[0].settled) == ("created", 7 * CENT)
    assert contents(database) == before


def test_budgets_are_applied_all_or_none(database: Database, clock: FrozenClock) -> None:
    drafts = [
        make_budget(id="good"),
        make_budget(id="bad", window="hour", valid_from="2020-01-01T00:00:00Z"),
    ]

    with pytest.raises(InvalidInput):
        set_budgets(database, *drafts, now=clock())

    assert list_budgets(database) == []


def test_budgets_that_are_not_named_stay_as_they_are(
    database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(id="a"), make_budget(id="b"), now=clock())

    set_budgets(database, make_budget(id="b", limit="2.00"), now=clock())

    assert [(budget.id, budget.version) for budget in list_budgets(database)] == [
        ("a", 1),
        ("b", 2),
    ]


def test_creating_what_exists_with_the_same_content_is_no_error(
    database: Database, clock: FrozenClock
) -> None:
    create_budget(database, make_budget(), now=clock())

    assert create_budget(database, make_budget(), now=clock()).action == "unchanged"


def test_creating_what_exists_with_other_content_is_a_conflict(
    database: Database, clock: FrozenClock
) -> None:
    create_budget(database, make_budget(), now=clock())

    with pytest.raises(Conflict, match="'all' exists with other content"):
        create_budget(database, make_budget(limit="5.00"), now=clock())

    assert get_budget(database, "all").limit == DOLLAR


def test_an_unknown_budget_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound, match="budget 'nobody' does not exist"):
        get_budget(database, "nobody")


def test_a_budget_that_nothing_has_counted_in_stands_at_zero(
    database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), make_budget(id="split", split_by=["team"]), now=clock())

    [standing] = list_standings(database, now=clock())

    assert standing.budget.id == "all"
    assert (standing.settled, standing.held, standing.headroom) == (0, 0, DOLLAR)
    assert standing.period.start == NOVEMBER_BEGINS


def test_the_standing_of_one_budget_can_be_asked_for(
    database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(id="a"), make_budget(id="b"), now=clock())

    listed = list_standings(database, now=clock(), budget_id="b")

    assert [standing.budget.id for standing in listed] == ["b"]


def test_the_enforced_figure_is_the_shown_figure(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    record(ledger, make_event(usage=cents(30)))
    hold_cents(ledger, 20)

    enforced = ask(ledger, dry_run=True)["binding"]
    [shown] = list_standings(database, now=clock())

    assert (enforced["settled"], enforced["held"]) == ("0.300000000", "0.200000000")
    assert (shown.settled, shown.held) == (30 * CENT, 20 * CENT)


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        ("hour", "2026-11-20T12:00", "2026-11-20T13:00"),
        ("day", "2026-11-20T05:00", "2026-11-21T05:00"),
        ("week", "2026-11-16T05:00", "2026-11-23T05:00"),
        ("month", "2026-11-01T04:00", "2026-12-01T05:00"),
        ("quarter", "2026-10-01T04:00", "2027-01-01T05:00"),
        ("year", "2026-01-01T05:00", "2027-01-01T05:00"),
        ("rolling:30d", "2026-10-22T04:00", "2026-11-21T05:00"),
        ("range:2026-11-10/2026-11-25", "2026-11-10T05:00", "2026-11-25T05:00"),
        ("lifetime", "1970-01-01T00:00", "9999-01-01T00:00"),
    ],
)
def test_every_window_is_cut_in_the_budgets_zone(
    ledger: Ledger, database: Database, clock: FrozenClock, window: str, start: str, end: str
) -> None:
    set_budgets(database, make_budget(window=window, timezone="America/New_York"), now=clock())
    record(ledger, make_event(usage=cents(7)))

    [standing] = list_standings(database, now=clock())

    assert standing.period.start == datetime.fromisoformat(f"{start}+00:00")
    assert standing.period.end == datetime.fromisoformat(f"{end}+00:00")
    assert standing.settled == 7 * CENT
    assert broken_rules(database) == []


def test_a_forecast_is_worked_out_from_what_was_spent_each_hour(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day", limit="10.00"), now=clock())
    for hour in range(12):
        occurred_at = f"2026-11-20T{hour:02d}:10:00Z"
        record(ledger, make_event(event_id=f"e{hour}", usage=cents(2), occurred_at=occurred_at))
    hold_cents(ledger, 5)

    counted = refresh_forecasts(database, now=clock(), currency="USD")

    # 24 cents settled, 5 held, and two cents for each of the twelve hours left.
    [standing] = list_standings(database, now=clock())
    assert (counted, standing.forecast) == (1, (24 + 5 + 12 * 2) * CENT)


def test_there_is_no_forecast_without_history(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    hold_cents(ledger, 5)

    assert refresh_forecasts(database, now=clock(), currency="USD") == 0
    assert list_standings(database, now=clock())[0].forecast is None


def test_a_forecast_of_counters_that_no_longer_count_is_dropped(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    record(ledger, make_event(occurred_at="2026-11-20T08:00:00Z"))
    refresh_forecasts(database, now=clock(), currency="USD")

    set_budgets(database, make_budget(selector={"team": "growth"}), now=clock())

    assert refresh_forecasts(database, now=clock(), currency="USD") == 1


def test_a_range_is_bounded_by_quarter_hours_so_that_rollups_can_fill_it() -> None:
    with pytest.raises(InvalidInput, match="'2026-11-20T12:07' must lie on a quarter-hour"):
        make_budget(window="range:2026-11-20T12:07/2026-11-21")
