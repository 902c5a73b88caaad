"""The log of decisions: all denials within bounds, a share of the rest, for a while."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.builders import (
    CENT,
    ask,
    check_work,
    make_budget,
    make_check,
    rows_of,
    set_budgets,
)
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.decisions import MOST_DENIALS_A_MINUTE, KeptDecision, is_sampled
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.cursors import encode_cursor
from tokenbudget.services.decisions import (
    DecisionLog,
    DecisionQuery,
    LogTerms,
    forget_old_decisions,
    list_kept_decisions,
)
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import DecisionRow, HoldRow, OmittedDenialRow

SOMEBODY = Caller(key_id="key-1")


@pytest.fixture(autouse=True)
def _one_budget(database: Database, clock: FrozenClock) -> None:
    set_budgets(database, make_budget(limit="0.10"), now=clock())


@pytest.fixture
def keeping(services: Services) -> Ledger:
    """Give a ledger that keeps every decision."""
    settings = services.settings.model_copy(update={"decision_sample_percent": 100})
    return make_ledger(Services(settings, services.database, services.price_list, services.clock))


def kept(database: Database, **conditions: object) -> list[KeptDecision]:
    """Give the decisions that are kept, newest first."""
    return list(list_kept_decisions(database, DecisionQuery(**conditions)).items)  # type: ignore[arg-type]


def test_a_denial_is_kept_with_what_it_was_about(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.05"), now=clock())

    [answer] = ledger.apply([check_work(make_check(estimate="0.06"), caller=SOMEBODY)])

    [decision] = kept(database)
    assert isinstance(answer, dict)
    assert answer["binding"]["budget_version"] == 2
    assert (decision.decision, list(decision.reasons)) == ("deny", ["budget_exhausted"])
    assert (decision.key_id, decision.decided_at) == ("key-1", clock())
    assert decision.tags == {"team": "growth", "feature": "summarise", "tenant": "acme"}
    assert (decision.provider, decision.model) == ("acme", "plain")
    assert (decision.estimate_nanos, decision.requests) == (6 * CENT, 1)
    assert (decision.budget_id, decision.budget_version) == ("all", 2)
    assert (decision.hold_id, decision.is_dry_run) == (None, False)


def test_an_allowed_check_is_kept_if_its_hold_is_among_the_share(
    ledger: Ledger, database: Database
) -> None:
    for _ in range(20):
        ask(ledger, estimate="0.000001")

    holds = [row["id"] for row in rows_of(database, HoldRow)]
    assert [each.hold_id for each in reversed(kept(database))] == [
        hold_id for hold_id in holds if is_sampled(hold_id, 1)
    ]


def test_with_a_share_of_all_every_check_is_kept(keeping: Ledger, database: Database) -> None:
    allowed = ask(keeping)["hold_id"]
    reduced = ask(keeping, max_output_tokens=100_000)["hold_id"]
    ask(keeping, dry_run=True)

    decisions = {each.hold_id: each for each in kept(database)}

    assert {name: each.decision for name, each in decisions.items()} == {
        allowed: "allow",
        reduced: "reduce",
        None: "deny",
    }
    assert [decisions[name].is_dry_run for name in (allowed, reduced, None)] == [False, False, True]
    assert decisions[reduced].estimate_nanos == 8 * CENT


def test_a_repeated_check_is_kept_once(keeping: Ledger, database: Database) -> None:
    ask(keeping, idempotency_key="k")
    ask(keeping, idempotency_key="k")

    assert len(kept(database)) == 1


@pytest.mark.parametrize(("percent", "expected"), [(0, 0), (100, 1_000)])
def test_nothing_and_everything_are_shares(percent: int, expected: int) -> None:
    assert sum(is_sampled(f"hold-{number}", percent) for number in range(1_000)) == expected


def test_about_the_share_asked_for_is_kept() -> None:
    sampled = sum(is_sampled(f"hold-{number}", 10) for number in range(10_000))

    assert 900 <= sampled <= 1_100


def test_a_loop_of_denials_is_counted_and_not_kept(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    denied = check_work(make_check(estimate="0.20"), caller=SOMEBODY)
    others = check_work(make_check(estimate="0.20"), caller=Caller(key_id="key-2"))

    for _ in range(3):
        ledger.apply([denied] * 50)
    ledger.apply([others])
    minute = clock()
    clock.advance(minutes=1)
    ledger.apply([denied])

    by_key = [each.key_id for each in kept(database)]
    assert by_key.count("key-1") == MOST_DENIALS_A_MINUTE + 1
    assert by_key.count("key-2") == 1
    [omitted] = rows_of(database, OmittedDenialRow)
    assert (omitted["minute"], omitted["denials"]) == (minute, 150 - MOST_DENIALS_A_MINUTE)
    assert (omitted["budget_id"], omitted["reason"]) == ("all", "budget_exhausted")


def test_decisions_are_found_by_outcome_budget_and_time(
    keeping: Ledger, database: Database, clock: FrozenClock
) -> None:
    started = clock()
    ask(keeping)
    clock.advance(hours=1)
    ask(keeping, estimate="0.20")
    set_budgets(database, make_budget(id="narrow", limit="0.01"), now=clock())
    clock.advance(hours=1)
    ask(keeping)

    assert len(kept(database)) == 3
    assert [each.budget_id for each in kept(database, outcome="deny")] == ["narrow", "all"]
    assert [each.decision for each in kept(database, budget_id="all")] == ["deny", "allow"]
    assert len(kept(database, start=started + timedelta(hours=1))) == 2
    assert len(kept(database, end=started + timedelta(hours=1))) == 1


def test_omitted_denials_are_counted_under_the_same_conditions(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    denied = check_work(make_check(estimate="0.20"))
    ledger.apply([denied] * (MOST_DENIALS_A_MINUTE + 5))

    def omitted(**conditions: object) -> int:
        query = DecisionQuery(**conditions)  # type: ignore[arg-type]
        return list_kept_decisions(database, query).omitted

    assert (omitted(), omitted(outcome="deny"), omitted(budget_id="all")) == (5, 5, 5)
    assert omitted(outcome="allow") == omitted(budget_id="other") == 0
    assert omitted(start=clock() + timedelta(minutes=1)) == omitted(end=clock()) == 0


def test_pages_give_every_decision_once(keeping: Ledger, database: Database) -> None:
    for _ in range(7):
        ask(keeping, estimate="0.001")

    seen, cursor = [], None
    for _ in range(10):
        page = list_kept_decisions(database, DecisionQuery(limit=3, cursor=cursor))
        seen += [each.decision_id for each in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert len(seen) == len(set(seen)) == 7
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        (DecisionQuery(outcome="maybe"), "decision must be one of allow, reduce, deny"),
        (DecisionQuery(limit=0), "limit must be 1 to 1000"),
        (DecisionQuery(cursor=encode_cursor([2**70, "x"])), "cursor is not one"),
        (DecisionQuery(cursor=encode_cursor(["x", "x"])), "cursor is not one"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    database: Database, query: DecisionQuery, fault: str
) -> None:
    with pytest.raises(InvalidInput, match=fault):
        list_kept_decisions(database, query)


def test_old_decisions_are_let_go(ledger: Ledger, database: Database, clock: FrozenClock) -> None:
    denied = check_work(make_check(estimate="0.20"))
    ledger.apply([denied] * (MOST_DENIALS_A_MINUTE + 1))
    clock.advance(days=90)
    ledger.apply([denied])
    early = forget_old_decisions(database, now=clock(), kept_for=timedelta(days=90))
    clock.advance(minutes=1)

    forgotten = forget_old_decisions(database, now=clock(), kept_for=timedelta(days=90))

    assert (early, forgotten) == (0, MOST_DENIALS_A_MINUTE)
    assert len(rows_of(database, DecisionRow)) == 1
    assert rows_of(database, OmittedDenialRow) == []


def test_a_log_without_entries_writes_nothing(database: Database, clock: FrozenClock) -> None:
    with database.transaction() as session:
        DecisionLog(session, LogTerms(), clock()).write()

    assert rows_of(database, DecisionRow) == []
