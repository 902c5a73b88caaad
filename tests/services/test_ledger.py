"""Several workers on one database: what they decide together is what one would have decided."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from tests.builders import (
    CENT,
    broken_rules,
    cents,
    check_work,
    make_budget,
    make_check,
    make_event,
    make_events,
    record_work,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.errors import Unavailable
from tokenbudget.services.ledger import Answer, Ledger, Work
from tokenbudget.services.usage import RecordAnswer
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.tables import (
    AlertRow,
    CheckAnswerRow,
    DimensionSetRow,
    HoldRow,
    OutboxRow,
    UsageRow,
)

CALLERS = 200
WAIT_SECONDS = 60
BLOCKED_SECONDS = 0.3

T = TypeVar("T")


class Workers:
    """Two workers of one service: each is a ledger that one thread at a time may use."""

    def __init__(self, services: Services) -> None:
        self.ledgers = [(make_ledger(services), threading.Lock()) for _ in range(2)]

    def apply(self, number: int, works: Sequence[Work]) -> list[Answer]:
        """Give the answers of the worker that the number falls to."""
        ledger, lock = self.ledgers[number % 2]
        with lock:
            return ledger.apply(works)


@pytest.fixture
def workers(services: Services) -> Workers:
    """Give two workers on each engine in turn."""
    return Workers(services)


def at_once(count: int, call: Callable[[int], T]) -> list[T]:
    """Call from so many threads that all start together, and give the results in order."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait(WAIT_SECONDS)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def decision_of(answers: Sequence[Answer]) -> dict[str, Any]:
    """Give the decision among the answers to one check."""
    [answer] = answers
    assert isinstance(answer, dict)
    return answer


def test_two_hundred_checks_of_five_cents_on_a_dollar_admit_exactly_twenty(
    workers: Workers, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    check = check_work(make_check(estimate="0.05"))

    decisions = at_once(CALLERS, lambda number: decision_of(workers.apply(number, [check])))

    assert Counter(item["decision"] for item in decisions) == {"allow": 20, "deny": 180}
    assert standings(database, now=clock())["all",] == (0, 100 * CENT)
    assert broken_rules(database) == []


def test_the_first_calls_of_a_never_seen_customer_share_its_one_counter(
    workers: Workers, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["tenant"], limit="0.10"), now=clock())
    check = check_work(make_check(estimate="0.05", tags={"tenant": "new"}))

    decisions = at_once(8, lambda number: decision_of(workers.apply(number, [check])))

    assert Counter(item["decision"] for item in decisions) == {"allow": 2, "deny": 6}
    assert standings(database, now=clock()) == {("all", "new"): (0, 10 * CENT)}


def test_several_budgets_are_decided_together(
    workers: Workers, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(id="all", limit="0.50"),
        make_budget(id="team", limit="0.30", split_by=["team"]),
        make_budget(id="requests", unit="requests", limit=1_000),
        now=clock(),
    )

    def check(number: int) -> dict[str, Any]:
        tags = {"team": "a" if number % 3 else "b"}
        return decision_of(
            workers.apply(number, [check_work(make_check(estimate="0.05", tags=tags))])
        )

    decisions = at_once(40, check)

    allowed = sum(item["decision"] == "allow" for item in decisions)
    held = standings(database, now=clock())
    assert allowed == 10
    assert held["all",] == (0, 50 * CENT)
    assert held["requests",] == (0, 10)
    assert held["team", "a"][1] <= 30 * CENT
    assert held["team", "b"][1] <= 30 * CENT
    assert broken_rules(database) == []


def test_a_check_repeated_at_two_workers_at_once_holds_once(
    workers: Workers, database: Database
) -> None:
    check = check_work(make_check(idempotency_key="k"))

    answers = at_once(8, lambda number: decision_of(workers.apply(number, [check])))

    assert all(answer == answers[0] for answer in answers)
    assert len(rows_of(database, HoldRow)) == 1


def test_a_check_that_another_worker_is_just_answering_gets_that_answer(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    check = check_work(make_check(idempotency_key="k"))
    answered = {
        "key_id": "",
        "idempotency_key": "k",
        "request_digest": check.request.request_digest,
        "answer": {"decision": "allow", "hold_id": "of the other worker"},
        "created_at": clock(),
    }

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as other:
            insert_rows(other, CheckAnswerRow, [answered])
            waiting = pool.submit(ledger.apply, [check])
            assert not wait([waiting], BLOCKED_SECONDS).done
        [answer] = waiting.result(WAIT_SECONDS)

    assert answer == answered["answer"]
    assert rows_of(database, HoldRow) == []


def test_the_same_batch_sent_to_two_workers_at_once_counts_once(
    workers: Workers, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="100.00"), now=clock())
    work = record_work(make_events(50, usage=cents(1)), now=clock())

    answers = at_once(6, lambda number: workers.apply(number, [work])[0])

    counted = [answer for answer in answers if isinstance(answer, RecordAnswer)]
    assert sum(answer.accepted for answer in counted) == 50
    assert sum(answer.duplicates for answer in counted) == 250
    assert len(rows_of(database, UsageRow)) == 50
    assert standings(database, now=clock())["all",] == (50 * CENT, 0)
    assert broken_rules(database) == []


def test_overlapping_batches_in_any_order_lock_nobody_out(
    workers: Workers, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["tenant"]), make_budget(id="sum"), now=clock())
    events = [
        make_event(event_id=f"e{number}", usage=cents(1), tags={"tenant": f"t{number % 7}"})
        for number in range(40)
    ]

    def send(number: int) -> Answer:
        rotated = events[number * 7 :] + events[: number * 7]
        ordered = rotated if number % 2 else rotated[::-1]
        return workers.apply(number, [record_work(ordered, now=clock())])[0]

    answers = at_once(6, send)

    assert all(isinstance(answer, RecordAnswer) for answer in answers)
    assert standings(database, now=clock())["sum",] == (40 * CENT, 0)
    assert len(rows_of(database, DimensionSetRow)) == 7
    assert broken_rules(database) == []


def test_a_threshold_crossed_by_many_workers_is_raised_once(
    workers: Workers, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(mode="soft"), now=clock())
    works = [
        record_work([make_event(event_id=f"e{number}", usage=cents(5))], now=clock())
        for number in range(40)
    ]

    at_once(40, lambda number: workers.apply(number, [works[number]]))

    alerts = rows_of(database, AlertRow)
    assert sorted(row["threshold"] for row in alerts) == ["0.5", "0.8", "1"]
    assert len(rows_of(database, OutboxRow)) == 3
    assert standings(database, now=clock())["all",] == (200 * CENT, 0)


def test_a_budget_written_by_another_worker_decides_from_the_next_commit_on(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    check = check_work(make_check(estimate="0.05"))
    before = decision_of(ledger.apply([check]))

    set_budgets(database, make_budget(limit="0"), now=clock())

    assert (before["decision"], decision_of(ledger.apply([check]))["decision"]) == ("allow", "deny")


def test_applying_a_budget_while_usage_pours_in_misses_nothing(
    workers: Workers, database: Database, clock: FrozenClock
) -> None:
    works = [
        record_work([make_event(event_id=f"e{number}", usage=cents(1))], now=clock())
        for number in range(20)
    ]

    def act(number: int) -> None:
        if number == 10:
            set_budgets(database, make_budget(), now=clock())
        else:
            workers.apply(number, [works[number]])

    at_once(20, act)

    assert standings(database, now=clock())["all",] == (19 * CENT, 0)
    assert broken_rules(database) == []


def test_a_database_that_cannot_answer_is_unavailable(ledger: Ledger, database: Database) -> None:
    database.close()

    def refuse(*_: object) -> None:
        raise sa.exc.OperationalError("connect", None, Exception("the server is away"))

    sa.event.listen(database.engine, "do_connect", refuse)

    with pytest.raises(Unavailable, match="the database cannot answer: the server is away"):
        ledger.apply([])
