"""Replaying real history: figures worked out by hand, and equality with the real quota check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import (
    CENT,
    TOKENS_PER_CENT,
    ask,
    cents,
    contents,
    make_budget,
    make_event,
    record,
    set_budgets,
)
from tests.conftest import FrozenClock
from tests.services.attribution_cases import TO_SEARCH, reattribute, set_rules
from tests.services.test_commitments import PROD, commit, covered_event, make_commitment, share
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import Period
from tokenbudget.domain.replay import BudgetReplay, Replay
from tokenbudget.formats.budgets import BudgetDraft
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.replay import replay_budgets
from tokenbudget.store.db import Database
from tokenbudget.store.replay import RANGES_PER_STATEMENT
from tokenbudget.store.stretches import IDS_PER_BLOCK, note_stretches

GROWTH = {"team": "growth"}
AUTUMN = Period(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC))
NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
NUMBERS = count()
HISTORY = (
    # when, team, tenant, cents
    ("2026-10-31T12:00:00Z", "growth", "acme", 40),
    ("2026-10-31T13:00:00Z", "growth", "acme", 20),
    ("2026-10-31T14:00:00Z", "growth", "beta", 30),
    ("2026-11-01T03:30:00Z", "growth", "beta", 40),
    ("2026-11-01T04:00:00Z", "growth", "beta", 45),
    ("2026-11-01T10:00:00Z", "growth", "beta", 60),
    ("2026-11-01T11:00:00Z", "search", "beta", 5),
    ("2026-11-01T12:00:00Z", "search", "beta", 1),
)
MONTHLY = make_budget(
    id="growth", selector=GROWTH, limit="1.00", window="month", timezone="America/New_York"
)
DAILY = make_budget(id="tenants", split_by=["tenant"], limit="0.50", window="day")


def at(text: str) -> datetime:
    """Give the instant of an RFC 3339 text."""
    return datetime.fromisoformat(text)


def make_history(*calls: tuple[str, str, str, int]) -> list[dict[str, Any]]:
    """Give events of (when, team, tenant, cents)."""
    return [
        make_event(
            event_id=f"h{number}",
            occurred_at=when,
            tags={"team": team, "tenant": tenant},
            usage=cents(cost),
        )
        for number, (when, team, tenant, cost) in enumerate(calls)
    ]


def told_of(told: Replay, budget_id: str) -> BudgetReplay:
    """Give what is told of one budget."""
    [found] = [each for each in told.budgets if each.budget.id == budget_id]
    return found


def test_two_budgets_a_split_and_a_month_that_ends_at_four_by_hand(
    ledger: Ledger, database: Database
) -> None:
    record(ledger, *make_history(*reversed(HISTORY)))

    told = replay_budgets(database, [MONTHLY, DAILY], AUTUMN)

    # Denied are acme's 20 (60 that day), beta's 40 (110 in October, New York's), beta's 60 (105 in
    # November, 105 that day) and beta's 1 (51 that day); beta's 5 before it just fit.
    growth, tenants = told_of(told, "growth"), told_of(told, "tenants")
    assert (told.seen.calls, told.seen.nanos) == (8, 241 * CENT)
    assert (told.denied.calls, told.denied.nanos) == (4, 121 * CENT)
    assert told.denied.tokens == 121 * TOKENS_PER_CENT
    assert told.denied.first_at == at("2026-10-31T13:00:00Z")
    assert told.denied.last_at == at("2026-11-01T12:00:00Z")
    assert (growth.seen.calls, growth.refused.calls, growth.refused.nanos) == (6, 2, 100 * CENT)
    assert growth.refused.first_at == at("2026-11-01T03:30:00Z")
    assert [(each.period.start, each.refused.calls) for each in growth.windows] == [
        (at("2026-10-01T04:00:00Z"), 1),
        (at("2026-11-01T04:00:00Z"), 1),
    ]
    assert (tenants.seen.calls, tenants.refused.calls, tenants.refused.nanos) == (8, 3, 81 * CENT)
    assert [(each.split, each.refused.calls, each.refused.nanos) for each in tenants.splits] == [
        (("beta",), 2, 61 * CENT),
        (("acme",), 1, 20 * CENT),
    ]
    assert [(each.period.start.day, each.counters) for each in tenants.windows] == [(31, 1), (1, 1)]


def test_nothing_is_written_and_budgets_in_force_take_no_part(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_history(*HISTORY))
    set_budgets(database, make_budget(id="all", limit="0.00"), now=clock())
    before = contents(database)

    told = replay_budgets(database, [MONTHLY], AUTUMN)

    assert told.denied.calls == 2
    assert contents(database) == before


@pytest.mark.parametrize("calls_per_part", [1, 2, 3])
def test_it_does_not_matter_how_much_is_read_at_once(
    ledger: Ledger, database: Database, calls_per_part: int
) -> None:
    record(ledger, *make_history(*HISTORY))
    advanced: list[int] = []

    told = replay_budgets(
        database, [MONTHLY, DAILY], AUTUMN, calls_per_part=calls_per_part, advance=advanced.append
    )

    assert told == replay_budgets(database, [MONTHLY, DAILY], AUTUMN)
    assert sum(advanced) == len(HISTORY)
    assert max(advanced) <= calls_per_part


def test_calls_that_rollups_tell_nothing_of_are_still_read_in_small_parts(
    ledger: Ledger, database: Database
) -> None:
    usage = {**cents(1), "requests": 0}
    instants = [f"2026-11-19T10:0{minute}:00Z" for minute in (0, 3, 3, 9)]
    record(
        ledger,
        *(
            make_event(event_id=f"e{number}", occurred_at=instant, usage=usage)
            for number, instant in enumerate(instants)
        ),
    )
    advanced: list[int] = []

    told = replay_budgets(
        database, [make_budget()], AUTUMN, calls_per_part=1, advance=advanced.append
    )

    # Two of them occurred at the same instant, which cannot be cut.
    assert [each for each in advanced if each] == [1, 2, 1]
    assert (told.seen.calls, told.seen.requests) == (4, 0)


@pytest.mark.parametrize(
    ("changes", "denied"),
    [
        ({}, 1),
        ({"baseline": "creation"}, 0),
        ({"window": "day"}, 0),
        ({"window": "lifetime"}, 2),
        ({"window": "rolling:6d"}, 1),
        ({"window": "rolling:5d"}, 0),
        ({"window": "rolling:30d"}, 2),
        ({"window": "range:2026-11-05/2026-11-20"}, 1),
        ({"window": "range:2026-11-10/2026-11-20"}, 0),
        ({"split_by": ["tenant"]}, 0),
        ({"selector": {"team": "search"}}, 0),
        ({"valid_from": "2026-11-15T00:00:00Z"}, 0),
        ({"valid_from": "2026-12-01T00:00:00Z"}, 0),
    ],
)
def test_budgets_begin_with_the_period_and_count_what_their_window_held(
    ledger: Ledger, database: Database, changes: dict[str, Any], denied: int
) -> None:
    record(
        ledger,
        *make_history(
            ("2026-10-20T12:00:00Z", "growth", "acme", 15),
            ("2026-11-05T12:00:00Z", "growth", "acme", 75),
            ("2026-11-10T12:00:00Z", "growth", "beta", 20),
            ("2026-11-11T12:00:00Z", "growth", "beta", 10),
            ("2026-11-20T00:00:00Z", "search", "beta", 1),
        ),
    )
    since = Period(datetime(2026, 11, 10, tzinfo=UTC), datetime(2026, 11, 19, tzinfo=UTC))
    budget = make_budget(**{"id": "all", "limit": "0.90", "window": "month", **changes})

    told = replay_budgets(database, [budget], since)

    assert (told.seen.calls, told.denied.calls) == (2, denied)


def test_a_call_counts_once_at_what_it_costs_today(ledger: Ledger, database: Database) -> None:
    first = make_event(event_id="e1", occurred_at="2026-11-19T10:00:00Z", usage=cents(90))
    record(ledger, first)
    record(ledger, {**first, "revision": 1, "usage": {**cents(5), "requests": 3}})
    record(ledger, make_event(event_id="e2", occurred_at="2026-11-19T11:00:00Z", usage=cents(96)))

    told = replay_budgets(database, [make_budget()], AUTUMN)

    assert (told.seen.calls, told.seen.requests, told.seen.nanos) == (2, 4, 101 * CENT)
    assert (told.denied.calls, told.denied.nanos) == (1, 96 * CENT)


def test_a_call_counts_where_it_was_attributed_last(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(
        ledger,
        *(
            make_event(
                event_id=f"e{number}",
                occurred_at=f"2026-11-19T1{number}:00:00Z",
                tags={"tenant": tenant},
                usage=cents(60),
            )
            for number, tenant in enumerate(("acme", "beta", "acme"))
        ),
    )
    set_rules(database, clock, TO_SEARCH)
    reattribute(database, clock)

    told = replay_budgets(database, [make_budget(selector={"team": "search"})], AUTUMN)

    assert (told_of(told, "all").seen.calls, told.denied.calls) == (2, 1)


def test_what_a_commitment_costs_counts_and_is_never_saved(
    services: Services, database: Database
) -> None:
    ledger = commit(services, make_commitment())
    record(ledger, covered_event())
    share(ledger, make_commitment())
    record(ledger, make_event(event_id="e2", occurred_at="2026-11-20T10:00:00Z", usage=cents(1)))
    since = Period(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
    selector = {"team": PROD["team"]}

    told = {
        limit: replay_budgets(database, [make_budget(limit=limit, selector=selector)], period)
        for limit, period in (("24.00", AUTUMN), ("24.01", AUTUMN), ("24.0", since))
    }

    # A dollar an hour for a day, all borne by the only usage it covered.
    assert [each.denied.nanos for each in told.values()] == [CENT, 0, CENT]
    assert told["24.01"].seen.nanos == CENT
    assert told["24.00"].seen.calls == 2


def test_a_period_with_too_many_requests_is_refused(ledger: Ledger, database: Database) -> None:
    record(ledger, *make_history(*HISTORY))

    with pytest.raises(InvalidInput, match="from and to span 8 requests; at most 7"):
        replay_budgets(database, [DAILY], AUTUMN, max_requests=7)
    assert replay_budgets(database, [DAILY], AUTUMN, max_requests=8).seen.calls == 8


def test_a_period_without_usage_is_an_answer(database: Database) -> None:
    told = replay_budgets(database, [DAILY], NOVEMBER)

    assert (told.seen.calls, told.denied.calls, told_of(told, "tenants").seen.calls) == (0, 0, 0)


CALLS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 4, 40]),
        st.sampled_from(["t1", "t2"]),
        st.sampled_from(["plain", "plain", "plain", "unknown"]),
        st.sampled_from([0, 5, 10, 20, 30]),
    ),
    min_size=3,
    max_size=14,
)
UNITS = st.sampled_from([("money", "0.60"), ("tokens", 300_000), ("requests", 2)])
BUDGETS = st.lists(
    st.tuples(
        UNITS,
        st.sampled_from(["hour", "day", "month", "rolling:2d"]),
        st.sampled_from([[], ["tenant"]]),
        st.sampled_from(["hard", "hard", "soft"]),
    ),
    min_size=1,
    max_size=3,
)


def drafts_for(team: str, facts: list[tuple[Any, ...]]) -> list[BudgetDraft]:
    """Give the budgets of a team that these facts describe."""
    return [
        make_budget(
            id=f"{team}-{number}",
            selector={"team": team},
            unit=unit,
            limit=limit,
            window=window,
            split_by=split_by,
            mode=mode,
            timezone="America/New_York",
        )
        for number, ((unit, limit), window, split_by, mode) in enumerate(facts)
    ]


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(calls=CALLS, facts=BUDGETS)
def test_a_replay_decides_as_the_quota_check_did(
    ledger: Ledger,
    database: Database,
    clock: FrozenClock,
    calls: list[tuple[int, str, str, int]],
    facts: list[tuple[Any, ...]],
) -> None:
    """Estimates are exact and each call ends before the next: the case both are defined for.

    A team is limited for real; another makes the same calls without any limit.
    """
    number = next(NUMBERS)
    limited, free = f"limited-{number}", f"free-{number}"
    set_budgets(database, *drafts_for(limited, facts), now=clock())
    denials: list[tuple[datetime, int]] = []
    refusing: dict[str, int] = {}
    for place, (minutes, tenant, model, cost) in enumerate(calls):
        clock.advance(minutes=15 * minutes + 1)
        event = {"model": model, "usage": cents(cost), "occurred_at": clock().isoformat()}
        tags = {"tenant": tenant}
        decision = ask(
            ledger,
            model=model,
            input_tokens=cost * TOKENS_PER_CENT,
            max_output_tokens=0,
            tags={**tags, "team": limited},
        )
        for notice in (*decision["reasons"], *decision["warnings"]):
            name = notice["detail"].removeprefix("budget ").split()[0]
            refusing[name] = refusing.get(name, 0) + 1
        made = [{"event_id": f"{free}-{place}", "tags": {**tags, "team": free}}]
        if decision["decision"] == "allow":
            hold = {"hold_id": decision["hold_id"]}
            made.append(
                {"event_id": f"{limited}-{place}", "tags": {**tags, "team": limited}, **hold}
            )
        else:
            denials.append((clock(), cost * CENT if model == "plain" else 0))
        record(ledger, *(make_event(**event, **each) for each in made))
    begun = datetime(2026, 11, 1, tzinfo=UTC)
    period = Period(begun, clock().replace(minute=0, second=0) + timedelta(hours=1))

    really = replay_budgets(database, drafts_for(limited, facts), period)
    proposed = replay_budgets(database, drafts_for(free, facts), period)

    assert really.denied.calls == 0
    assert proposed.denied.calls == len(denials)
    assert proposed.denied.nanos == sum(nanos for _, nanos in denials)
    first_at, last_at = (denials[0][0], denials[-1][0]) if denials else (None, None)
    assert (proposed.denied.first_at, proposed.denied.last_at) == (first_at, last_at)
    if all(model == "plain" for _, _, model, _ in calls):
        # A check that is denied for want of a price does not go on to say who has no room.
        assert {
            told.budget.id.replace(free, limited): told.refused.calls
            for told in proposed.budgets
            if told.refused.calls
        } == refusing


def test_usage_is_found_among_many_far_blocks_of_ids(ledger: Ledger, database: Database) -> None:
    record(ledger, *make_history(*HISTORY))
    blocks = range(2, 2 + 3 * RANGES_PER_STATEMENT, 2)
    with database.transaction() as session:
        note_stretches(session, ((block * IDS_PER_BLOCK, AUTUMN.start) for block in blocks))

    told = replay_budgets(database, [MONTHLY, DAILY], AUTUMN)

    assert (told.seen.calls, told.denied.nanos) == (8, 121 * CENT)
