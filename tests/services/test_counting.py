"""The counters of one transaction: found or made, locked once, moved in memory, written back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.builders import rows_of
from tests.domain.budget_cases import make_live_budget
from tokenbudget.domain.budgets import Budget, BudgetMatch, BudgetWindow
from tokenbudget.domain.periods import Period, Window
from tokenbudget.services.counting import Aim, CounterBook, key_text, split_values_of
from tokenbudget.store.budgets import CounterKey
from tokenbudget.store.db import Database
from tokenbudget.store.tables import CounterRow

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOVEMBER_BEGINS = datetime(2026, 11, 1, tzinfo=UTC)
KEY = CounterKey("b", 1, "[]", NOVEMBER_BEGINS)


def match_of(*split: str, **overrides: Any) -> BudgetMatch:
    """Give the match of a budget of one hundred nanos a month."""
    return BudgetMatch(make_live_budget(**overrides), split)


def move(
    database: Database, counter_ids: dict[CounterKey, int], *, settled: int, held: int = 0
) -> list[tuple[int, ...]]:
    """Move the counter of November and give the thresholds crossed."""
    match = match_of()
    with database.transaction() as session:
        book = CounterBook(session, {"b": match.budget}, counter_ids)
        key = book.key_of(match, NOON)
        assert key == KEY
        book.lock()
        book.counter(key).settled += settled
        book.counter(key).held += held
        return [crossing.thresholds for crossing in book.write()]


def test_a_counter_is_made_where_there_is_none_and_remembered(database: Database) -> None:
    counter_ids: dict[CounterKey, int] = {}

    move(database, counter_ids, settled=10)

    [row] = rows_of(database, CounterRow)
    assert counter_ids == {KEY: row["id"]}
    assert (row["settled"], row["window_start"]) == (10, NOVEMBER_BEGINS)
    assert row["window_end"] == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_worker_that_remembers_nothing_finds_the_same_counter(database: Database) -> None:
    move(database, {}, settled=10)
    move(database, {}, settled=5, held=3)

    [row] = rows_of(database, CounterRow)
    assert (row["settled"], row["held"]) == (15, 3)


def test_the_thresholds_crossed_on_the_way_are_given(database: Database) -> None:
    first = move(database, {}, settled=85)
    second = move(database, {}, settled=5)
    third = move(database, {}, settled=10)

    assert (first, second, third) == ([(5_000, 8_000)], [], [(10_000,)])


def test_a_counter_that_stood_still_is_not_written(database: Database) -> None:
    move(database, {}, settled=0)

    match = match_of()
    with database.transaction() as session:
        book = CounterBook(session, {"b": match.budget}, {})
        book.key_of(match, NOON)
        book.lock()
        assert book.write() == []


def test_nothing_counts_outside_the_windows_of_a_budget(database: Database) -> None:
    range_of_day = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
    match = match_of(window=BudgetWindow(None, range_of_day))

    with database.transaction() as session:
        book = CounterBook(session, {"b": match.budget}, {})

        assert book.key_of(match, NOON) is None
        book.lock()

    assert rows_of(database, CounterRow) == []


def test_every_instant_is_counted_in_its_own_window(database: Database) -> None:
    match = match_of(window=BudgetWindow(Window.DAY, None))
    with database.transaction() as session:
        book = CounterBook(session, {"b": match.budget}, {})

        keys = [book.key_of(match, NOON.replace(day=day)) for day in (20, 19, 20)]

    assert [key.window_start.day for key in keys if key is not None] == [20, 19, 20]


def test_counters_of_a_budget_that_is_gone_cross_nothing(database: Database) -> None:
    match = match_of()
    budgets: dict[str, Budget] = {}
    with database.transaction() as session:
        book = CounterBook(session, budgets, {})
        key = book.key_of(match, NOON)
        assert key is not None
        book.lock()
        book.counter(key).settled = 100
        assert book.write() == []


def test_split_values_are_found_again_in_the_key_they_make() -> None:
    for split in ((), ("acme",), ("a", ""), ('quote " and [bracket]', "ü")):
        assert split_values_of(key_text(split)) == split


@dataclass
class Target:
    """Something that budgets match."""

    matches: tuple[BudgetMatch, ...]
    aim: Aim | None = None


def test_what_budgets_match_remembers_its_counters_while_all_their_windows_last(
    database: Database,
) -> None:
    month = match_of()
    day = match_of(id="daily", window=BudgetWindow(Window.DAY, None))
    target = Target((month, day))
    with database.transaction() as session:
        book = CounterBook(session, {}, {})
        at_noon = book.keys_of(target, NOON)
        first_aim = target.aim

        an_hour_later = book.keys_of(target, NOON.replace(hour=13))
        kept_aim = target.aim
        next_day = book.keys_of(target, NOON.replace(day=21))

    assert (an_hour_later, kept_aim) == (at_noon, first_aim)
    assert at_noon[0] == next_day[0] == (month, KEY)
    assert [keys[1][1].window_start.day for keys in (at_noon, next_day) if keys[1][1]] == [20, 21]


def test_counters_remembered_from_another_transaction_are_wanted_again(database: Database) -> None:
    target = Target((match_of(),))
    for _ in range(2):
        with database.transaction() as session:
            book = CounterBook(session, {}, {})
            book.keys_of(target, NOON)
            book.lock()
            book.counter(KEY).settled += 10
            book.write()

    [row] = rows_of(database, CounterRow)
    assert row["settled"] == 20


def test_what_lies_outside_a_fixed_range_counts_again_inside_it(database: Database) -> None:
    november_20 = Period(NOON.replace(hour=0), NOON.replace(hour=13))
    target = Target((match_of(window=BudgetWindow(None, november_20)),))
    with database.transaction() as session:
        book = CounterBook(session, {}, {})

        keys = [book.keys_of(target, NOON.replace(hour=hour))[0][1] for hour in (14, 12, 13)]

    assert [key is not None for key in keys] == [False, True, False]
