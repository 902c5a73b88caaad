"""Windows that roll: the limit applies to the sum of the last days, whichever of them moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    check_work,
    hold_cents,
    make_budget,
    make_check,
    make_event,
    record_work,
    release,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.services.rolling_cases import binding_of, raised, rolling, spend
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.money import parse_nanos
from tokenbudget.domain.periods import Period
from tokenbudget.services.budgets import apply_budgets, list_standings
from tokenbudget.services.forecasts import refresh_forecasts
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import CounterRow

MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
NUMBERS = count()


@contextmanager
def statements_of(database: Database) -> Iterator[list[str]]:
    """Collect the statements that the database is sent."""
    seen: list[str] = []

    def note(*arguments: Any) -> None:
        seen.append(arguments[2])

    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)


def test_the_last_days_of_the_zone_are_summed_with_today(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(timezone="America/New_York"), now=clock())

    spend(ledger, 1, "2026-11-18T04:59:59Z")
    spend(ledger, 2, "2026-11-18T05:00:00Z")
    spend(ledger, 4, "2026-11-19T12:00:00Z")
    spend(ledger, 8, "2026-11-20T12:00:00Z")

    [standing] = list_standings(database, now=clock())
    assert (standing.settled, standing.held, standing.headroom) == (14 * CENT, 0, 86 * CENT)
    assert standing.period == Period(
        datetime(2026, 11, 18, 5, tzinfo=UTC), datetime(2026, 11, 21, 5, tzinfo=UTC)
    )
    assert binding_of(ledger) == (14, 0, 86)
    assert broken_rules(database) == []


def test_a_day_is_as_long_as_the_zone_has_it(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    # New York left daylight saving time on the first of November: that day has 25 hours.
    clock.now = datetime(2026, 11, 2, 12, tzinfo=UTC)
    set_budgets(database, rolling(2, timezone="America/New_York"), now=clock())

    spend(ledger, 1, "2026-11-01T03:59:59Z")
    spend(ledger, 2, "2026-11-01T04:00:00Z")
    spend(ledger, 4, "2026-11-02T04:59:59Z")

    assert binding_of(ledger) == (6, 0, 94)
    assert list_standings(database, now=clock())[0].period.start.hour == 4


def test_a_denial_says_that_the_oldest_day_falls_out_when_today_ends(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(), now=clock())
    spend(ledger, 60, "2026-11-18T23:59:59Z")
    spend(ledger, 38, "2026-11-19T12:00:00Z")

    denied = ask(ledger, estimate="0.03")
    clock.advance(hours=12)
    allowed = ask(ledger, estimate="0.03")

    assert denied["decision"] == "deny"
    assert denied["binding"]["settled"] == "0.980000000"
    assert denied["binding"]["headroom"] == "0.020000000"
    assert denied["binding"]["resets_at"] == "2026-11-21T00:00:00Z"
    assert allowed["decision"] == "allow"
    assert allowed["binding"]["headroom"] == "0.590000000"


def test_what_does_not_fit_the_days_is_reduced_to_what_they_leave(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(limit="0.415"), now=clock())
    spend(ledger, 40, "2026-11-18T12:00:00Z")

    decision = ask(ledger)

    # Input takes a cent; half a cent is left, which is 2,500 output tokens.
    assert decision["decision"] == "reduce"
    assert decision["limits"]["max_output_tokens"] == 2_500


def test_one_day_that_rolls_is_today(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(1), now=clock())
    spend(ledger, 40, "2026-11-19T23:59:59Z")
    spend(ledger, 2, "2026-11-20T00:00:00Z")

    assert binding_of(ledger) == (2, 0, 98)


def test_usage_that_arrives_late_and_a_check_in_one_batch_agree(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(), now=clock())
    late = make_event(usage=cents(98), occurred_at="2026-11-19T10:00:00Z")

    _, decision = ledger.apply(
        [record_work([late], now=clock()), check_work(make_check(estimate="0.03"))]
    )

    assert isinstance(decision, dict)
    assert decision["decision"] == "deny"
    assert decision["binding"]["headroom"] == "0.020000000"


def test_usage_of_a_day_that_fell_out_leaves_the_headroom_alone(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(valid_from="2026-11-01T00:00:00Z"), now=clock())

    spend(ledger, 98, "2026-11-17T10:00:00Z")

    assert binding_of(ledger) == (0, 0, 100)
    assert next(iter(rows_of(database, CounterRow)))["settled"] == 98 * CENT
    assert broken_rules(database) == []


def test_usage_that_is_dated_ahead_of_now_counts_at_once(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(), now=clock())

    spend(ledger, 60, "2026-11-21T01:00:00Z")

    assert binding_of(ledger) == (60, 0, 40)
    assert standings(database, now=clock())["all",] == (60 * CENT, 0)
    assert raised(database) == ["0.5"]


def test_a_hold_counts_from_the_day_it_was_granted_and_settles_there(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(2), now=clock())
    clock.now = MIDNIGHT - timedelta(seconds=20)
    hold_id = hold_cents(ledger, 30)
    clock.advance(seconds=40)
    while_held = binding_of(ledger)

    spend(ledger, 20, "2026-11-21T00:00:10Z", hold_id=hold_id)
    when_settled = binding_of(ledger)
    clock.advance(days=1)

    assert (while_held, when_settled) == ((0, 30, 70), (20, 0, 80))
    # What was granted on the twentieth falls out with that day.
    assert binding_of(ledger) == (0, 0, 100)
    assert broken_rules(database) == []


def test_a_hold_of_yesterday_that_runs_out_makes_room_in_the_same_batch(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(), now=clock())
    clock.now = MIDNIGHT - timedelta(seconds=20)
    hold_cents(ledger, 99)
    clock.advance(seconds=40)
    denied = ask(ledger, estimate="0.05")["decision"]
    clock.advance(hours=2)

    assert (denied, ask(ledger, estimate="0.05")["decision"]) == ("deny", "allow")
    assert broken_rules(database) == []


def test_a_released_hold_of_yesterday_is_no_longer_carried(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(), now=clock())
    clock.now = MIDNIGHT - timedelta(seconds=20)
    hold_id = hold_cents(ledger, 60)
    clock.advance(seconds=40)

    release(ledger, hold_id)

    assert binding_of(ledger) == (0, 0, 100)
    assert broken_rules(database) == []


def test_a_new_budget_starts_from_what_its_days_already_hold(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    spend(ledger, 1, "2026-11-17T23:59:59Z")
    spend(ledger, 2, "2026-11-18T10:00:00Z")
    spend(ledger, 4, "2026-11-19T10:00:00Z")
    spend(ledger, 8, "2026-11-20T10:00:00Z")

    [rehearsed] = apply_budgets(database, [rolling()], now=clock(), dry_run=True)
    [change] = set_budgets(database, rolling(), now=clock())
    spend(ledger, 16, "2026-11-18T11:00:00Z")

    assert [item.settled for item in rehearsed.standings] == [14 * CENT]
    assert [item.settled for item in change.standings] == [14 * CENT]
    assert binding_of(ledger) == (30, 0, 70)
    assert broken_rules(database) == []


def test_a_budget_that_counts_from_its_creation_starts_at_zero(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    spend(ledger, 40, "2026-11-18T10:00:00Z")
    spend(ledger, 40, "2026-11-20T10:00:00Z")

    set_budgets(database, rolling(baseline="creation"), now=clock())
    at_first = standings(database, now=clock())["all",]
    spend(ledger, 3, "2026-11-19T10:00:00Z")

    assert at_first == (0, 0)
    assert binding_of(ledger) == (3, 0, 97)
    assert broken_rules(database) == []


def test_a_window_that_rolls_over_more_days_is_counted_anew(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    spend(ledger, 40, "2026-11-10T10:00:00Z")
    set_budgets(database, rolling(3), now=clock())
    spend(ledger, 2, "2026-11-20T10:00:00Z")

    [change] = set_budgets(database, rolling(30), now=clock())

    assert (change.budget.counting_version, change.standings[0].settled) == (2, 42 * CENT)
    assert binding_of(ledger) == (42, 0, 58)
    assert broken_rules(database) == []


def test_every_value_of_a_split_has_a_sum_of_its_own(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(split_by=["tenant"]), now=clock())
    spend(ledger, 98, "2026-11-18T10:00:00Z", tags={"tenant": "a"})
    spend(ledger, 2, "2026-11-19T10:00:00Z", tags={"tenant": "b"})
    spend(ledger, 3, "2026-11-20T10:00:00Z", tags={"tenant": "b"})

    works = [
        check_work(make_check(estimate="0.03", tags={"tenant": tenant}))
        for tenant in ("a", "b", "new")
    ]
    decisions = [each["decision"] for each in ledger.apply(works) if isinstance(each, dict)]

    assert decisions == ["deny", "allow", "allow"]
    assert standings(database, now=clock()) == {
        ("all", "a"): (98 * CENT, 0),
        ("all", "b"): (5 * CENT, 3 * CENT),
        ("all", "new"): (0, 3 * CENT),
    }


def test_budgets_that_roll_differently_are_summed_in_one_query(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        rolling(2, id="short"),
        rolling(4, id="long"),
        rolling(3, id="there", timezone="Asia/Tokyo"),
        now=clock(),
    )
    spend(ledger, 1, "2026-11-17T14:00:00Z")
    spend(ledger, 2, "2026-11-17T16:00:00Z")
    spend(ledger, 4, "2026-11-19T10:00:00Z")
    hold_cents(ledger, 5)

    with statements_of(database) as seen:
        binding = ask(ledger, estimate="0", dry_run=True)["binding"]

    assert sum("other.settled" in statement for statement in seen) == 1
    assert (binding["budget"], binding["settled"]) == ("long", "0.070000000")
    assert standings(database, now=clock()) == {
        ("short",): (4 * CENT, 5 * CENT),
        ("long",): (7 * CENT, 5 * CENT),
        ("there",): (6 * CENT, 5 * CENT),
    }


def test_budgets_that_do_not_roll_send_no_statement_more(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    ask(ledger)
    with statements_of(database) as alone:
        ask(ledger)
    set_budgets(
        database, make_budget(), rolling(id="elsewhere", selector={"team": "x"}), now=clock()
    )
    ask(ledger)
    with statements_of(database) as beside_one_that_rolls:
        ask(ledger)

    assert len(alone) > 0
    assert beside_one_that_rolls == alone


def test_a_budget_that_nothing_has_counted_in_stands_at_zero(
    database: Database, clock: FrozenClock
) -> None:
    split = rolling(id="split", split_by=["team"])
    ended = rolling(id="ended", valid_from="2026-11-01T00:00:00Z", valid_to="2026-11-20T00:00:00Z")
    set_budgets(database, rolling(), split, ended, now=clock())

    [standing] = list_standings(database, now=clock())

    assert (standing.budget.id, standing.settled, standing.headroom) == ("all", 0, 100 * CENT)


def test_there_is_no_forecast_of_what_never_ends(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(), now=clock())
    spend(ledger, 10, "2026-11-19T10:00:00Z")
    spend(ledger, 10, "2026-11-20T10:00:00Z")

    assert refresh_forecasts(database, now=clock(), currency="USD") == 0
    assert list_standings(database, now=clock())[0].forecast is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("spend"), st.integers(0, 5), st.integers(1, 30)),
        st.tuples(st.just("hold"), st.just(0), st.integers(1, 30)),
        st.tuples(st.just("advance"), st.integers(1, 2), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=st.integers(1, 4), steps=STEPS)
def test_the_enforced_sum_is_that_of_everything_the_days_hold(
    services: Services, days: int, steps: list[tuple[str, int, int]]
) -> None:
    clock = FrozenClock(datetime(2026, 11, 20, 12, tzinfo=UTC))
    ledger = make_ledger(replace(services, clock=clock))
    team = {"team": f"team-{next(NUMBERS)}"}
    budget = rolling(days, limit="0.50", mode="soft", selector=team)
    set_budgets(services.database, budget, now=clock())
    settled: list[tuple[datetime, int]] = []
    held = 0
    for place, (kind, days_ago, amount) in enumerate(steps):
        if kind == "advance":
            clock.advance(days=days_ago)
            # No hold lives that long.
            held = 0
        elif kind == "hold":
            hold_cents(ledger, amount, tags=team)
            held += amount
        else:
            at = clock() - timedelta(days=days_ago)
            spend(ledger, amount, at.isoformat(), tags=team, operation_id=str(place))
            settled.append((at, amount))

    binding = ask(ledger, estimate="0", dry_run=True, tags=team)["binding"]

    first = clock().replace(hour=0) - timedelta(days=days - 1)
    expected = sum(amount for at, amount in settled if at >= first)
    enforced = tuple(parse_nanos(binding[name]) // CENT for name in ("settled", "held"))
    assert enforced == (expected, held)
    assert standings(services.database, now=clock())["all",] == (expected * CENT, held * CENT)
    assert broken_rules(services.database) == []
