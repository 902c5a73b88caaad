"""Budgets a minute: what they deny, when the next call may come, and what becomes of counters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    hold_cents,
    make_budget,
    make_event,
    make_events,
    record,
    release,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.services.policy_cases import codes
from tokenbudget.api.quota import quota_headers
from tokenbudget.domain.periods import Period
from tokenbudget.formats.budgets import BudgetDraft, describe_budget
from tokenbudget.formats.quota import parse_check
from tokenbudget.services.budgets import list_standings
from tokenbudget.services.forecasts import refresh_forecasts
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.rates import forget_rates
from tokenbudget.services.replay import replay_budgets
from tokenbudget.store.db import Database
from tokenbudget.store.tables import AlertRow, CounterRow

DAY_SECONDS = 86_400


def rate(**overrides: Any) -> BudgetDraft:
    """Give a hard budget of two requests a minute."""
    return make_budget(
        id="rate", **{"unit": "requests", "limit": 2, "window": "minute", **overrides}
    )


def test_calls_above_the_rate_are_denied_until_the_minute_ends(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(), now=clock())
    clock.advance(seconds=20)

    answers = [ask(ledger) for _ in range(3)]
    clock.advance(seconds=39)
    last_second = ask(ledger)
    clock.advance(seconds=1)

    assert [answer["decision"] for answer in answers] == ["allow", "allow", "deny"]
    assert answers[2]["reasons"] == [
        {
            "code": "rate_exceeded",
            "detail": "budget rate has no room for this call in this minute",
        }
    ]
    assert answers[2]["binding"]["resets_at"] == "2026-11-20T12:01:00Z"
    assert last_second["decision"] == "deny"
    assert ask(ledger)["decision"] == "allow"


def test_a_denial_says_when_to_come_again_and_headers_say_the_rate(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(limit=1), now=clock())
    clock.advance(seconds=20)
    ask(ledger)

    headers = quota_headers(ask(ledger), clock())

    assert headers == {
        "RateLimit-Policy": '"rate";q=1;tokenbudget-unit="requests"',
        "RateLimit": '"rate";r=0;t=40',
        "Retry-After": "40",
    }


def test_a_call_never_comes_again_within_the_minute_it_was_denied_in(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(limit=0), now=clock())
    denied = ask(ledger)

    headers = quota_headers(denied, clock() + timedelta(seconds=20, microseconds=1))

    assert headers["Retry-After"] == "40"


def test_a_rate_of_tokens_is_reduced_to_what_is_left(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(unit="tokens", limit=12_000), now=clock())

    answer = ask(ledger)

    assert (answer["decision"], answer["limits"]["max_output_tokens"]) == ("reduce", 2_000)


def test_a_rate_of_money_and_a_budget_each_say_why_they_deny(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    month = make_budget(id="month", limit="0.005")
    set_budgets(database, month, rate(unit="money", limit="0.005"), now=clock())

    assert codes(ask(ledger), "reasons") == ["budget_exhausted", "rate_exceeded"]


def test_each_split_value_has_a_rate_of_its_own(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(limit=1, split_by=["tenant"]), now=clock())

    decisions = [ask(ledger, tags={"tenant": tenant})["decision"] for tenant in ("a", "a", "b")]

    assert decisions == ["allow", "deny", "allow"]


def test_what_is_given_back_may_be_used_in_the_same_minute(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(limit=1), now=clock())
    release(ledger, str(ask(ledger)["hold_id"]))

    assert ask(ledger)["decision"] == "allow"


def test_usage_counts_in_the_minute_of_its_hold(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(), now=clock())
    hold_id = hold_cents(ledger, 1)
    clock.advance(seconds=60)

    record(ledger, make_event(hold_id=hold_id, occurred_at="2026-11-20T12:01:00Z"))

    assert standings(database, now=clock() - timedelta(seconds=60))["rate",] == (1, 0)
    assert broken_rules(database) == []


def test_a_rate_counts_from_zero_whatever_was_used_before(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(5, occurred_at="2026-11-20T11:59:59Z"), make_event(event_id="now"))

    set_budgets(database, rate(valid_from="2026-01-01T00:00:00Z"), now=clock())

    assert standings(database, now=clock())["rate",] == (0, 0)
    assert [ask(ledger)["decision"] for _ in range(3)] == ["allow", "allow", "deny"]
    assert broken_rules(database) == []


def test_a_rate_alerts_only_where_thresholds_are_named(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    named = rate(thresholds=["1"])
    set_budgets(database, rate(), make_budget(), now=clock())

    record(ledger, *make_events(2, usage=cents(1)))

    assert describe_budget(rate())["thresholds"] == []
    assert rows_of(database, AlertRow) == []
    set_budgets(database, named, now=clock())
    clock.advance(seconds=60)
    told = {"occurred_at": "2026-11-20T12:01:00Z"}
    record(ledger, *(make_event(event_id=f"n{each}", **told) for each in range(2)))
    assert [row["budget_id"] for row in rows_of(database, AlertRow)] == ["rate"]


def test_a_rate_has_no_forecast(ledger: Ledger, database: Database, clock: FrozenClock) -> None:
    set_budgets(database, rate(), now=clock())
    record(ledger, make_event(), make_event(event_id="e2", occurred_at="2026-11-20T10:00:00Z"))

    refresh_forecasts(database, now=clock(), currency="USD")

    assert [standing.forecast for standing in list_standings(database, now=clock())] == [None]


def test_usage_of_more_than_a_day_ago_is_in_no_rate(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(valid_from="2026-01-01T00:00:00Z"), now=clock())

    record(
        ledger,
        make_event(occurred_at="2026-11-19T11:59:59Z"),
        make_event(event_id="e2", occurred_at="2026-11-19T12:00:00Z"),
    )

    [counter] = rows_of(database, CounterRow)
    assert (counter["settled"], f"{counter['window_start']:%d %H:%M}") == (1, "19 12:00")


def test_counters_of_minutes_gone_by_are_let_go_of(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(), make_budget(id="day", window="day"), now=clock())
    for _ in range(5):
        hold_id = hold_cents(ledger, 1)
        release(ledger, hold_id)
        clock.advance(seconds=60)
    clock.advance(seconds=DAY_SECONDS - 120)

    # Two of five minutes began more than a day ago, and a third just a day ago.
    gone = forget_rates(database, now=clock(), counters_per_piece=1)

    kept = [row["window_start"] for row in rows_of(database, CounterRow)]
    assert (gone, len(kept)) == (3, 3)
    assert forget_rates(database, now=clock()) == 0
    assert broken_rules(database) == []


def test_what_is_held_alerted_or_last_stays(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(limit=1, thresholds=["1"]), now=clock())
    record(ledger, make_event())
    clock.advance(seconds=60)
    ask(ledger, ttl_seconds=3_600)
    clock.advance(seconds=60)
    release(ledger, str(ask(ledger)["hold_id"]))

    assert forget_rates(database, now=clock() + timedelta(days=2)) == 0


def test_an_id_of_a_counter_is_never_given_to_another(
    ledger: Ledger, other_ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(), now=clock())
    for each in (ledger, other_ledger):
        release(each, hold_cents(each, 1))
    clock.advance(seconds=2 * DAY_SECONDS)
    highest = max(row["id"] for row in rows_of(database, CounterRow))
    forget_rates(database, now=clock())

    release(ledger, hold_cents(ledger, 1))

    assert max(row["id"] for row in rows_of(database, CounterRow)) > highest


def test_a_worker_that_knows_a_counter_that_is_gone_begins_it_anew(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(), now=clock())
    release(ledger, hold_cents(ledger, 1))
    clock.advance(seconds=60)
    release(ledger, hold_cents(ledger, 1))
    forget_rates(database, now=clock() + timedelta(days=2))

    record(ledger, make_event(occurred_at="2026-11-20T12:00:30Z"))

    minutes = {row["window_start"].minute: row["settled"] for row in rows_of(database, CounterRow)}
    assert minutes == {0: 1, 1: 0}


def test_usage_settles_late_where_the_counter_of_its_hold_is_gone(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(), make_budget(id="month"), now=clock())
    hold_id = hold_cents(ledger, 3)
    clock.advance(seconds=120)
    release(ledger, hold_cents(ledger, 1))
    clock.advance(seconds=2 * DAY_SECONDS)
    ledger.apply([])
    assert forget_rates(database, now=clock()) == 1

    record(ledger, make_event(hold_id=hold_id, usage=cents(3)))

    assert standings(database, now=clock())["month",] == (3 * CENT, 0)
    assert broken_rules(database) == []


def test_a_rate_can_be_replayed_on_usage_that_was(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    instants = ["11:00:00", "11:00:30", "11:00:59", "11:01:00", "11:02:10"]
    record(
        ledger,
        *(make_event(event_id=at, occurred_at=f"2026-11-20T{at}Z") for at in instants),
    )
    noon = clock()

    replay = replay_budgets(database, [rate()], Period(noon - timedelta(hours=1), noon))

    [told] = replay.budgets
    assert (told.seen.calls, told.refused.calls, told.window_count) == (5, 1, 1)


@pytest.mark.parametrize("unit", ["requests", "tokens", "money"])
def test_a_rate_may_be_of_any_unit(unit: str) -> None:
    assert rate(unit=unit).window.is_rate
    assert not make_budget().window.is_rate


def test_a_check_for_several_requests_counts_them_all(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rate(limit=5), now=clock())

    answer = ask(ledger, requests=8)

    assert (answer["decision"], answer["limits"]["requests"]) == ("reduce", 5)
    assert parse_check(b'{"estimate": 1, "requests": 8}').requests == 8
