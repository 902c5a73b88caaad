"""The schedule: which job runs when, only in the worker that leads, and never twice to effect."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from apscheduler.job import Job
from apscheduler.triggers.cron import CronTrigger

from tests.builders import (
    CENT,
    NOBODY,
    ask,
    cents,
    hold_cents,
    make_budget,
    make_event,
    record,
    rows_of,
    set_budgets,
)
from tests.conftest import FrozenClock
from tests.price_builders import make_price_list
from tests.services.statement_cases import add_bill
from tests.store_fixtures import make_services
from tokenbudget.bootstrap import Services, make_ledger, utc_now
from tokenbudget.domain.holds import HoldState
from tokenbudget.domain.outcomes import Outcome
from tokenbudget.jobs import LEASE_NAME, Jobs
from tokenbudget.services.budgets import list_standings
from tokenbudget.services.closing import close_month
from tokenbudget.services.holds import get_hold
from tokenbudget.services.leadership import lead
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.outcomes import RecordOutcomes
from tokenbudget.services.statements import get_header
from tokenbudget.services.stating import make_allocate
from tokenbudget.store.db import Database
from tokenbudget.store.outcome_tables import OutcomeRow
from tokenbudget.store.tables import (
    ChargeRow,
    DecisionRow,
    LeaseRow,
    OutboxRow,
    ReportRunRow,
    RerateRow,
)

POLL_SECONDS = 0.01
PATIENCE_SECONDS = 10


@pytest.fixture
def jobs(services: Services) -> Iterator[Jobs]:
    """Give the jobs of one worker, not started."""
    jobs = Jobs(services)
    yield jobs
    jobs.http.close()


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Give the URL of a receiver on this machine and the list of what it took."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the output of the test run clean."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()
    thread.join()
    server.server_close()


def job_named(jobs: Jobs, name: str) -> Job:
    """Give a job of the running schedule."""
    found = jobs.scheduler.get_job(name)
    assert found is not None
    return found


def test_the_schedule_is_as_the_settings_say(services: Services) -> None:
    jobs = Jobs(services)

    jobs.start()

    try:
        assert job_named(jobs, "hold_expiry").trigger.interval == timedelta(seconds=15)
        assert job_named(jobs, "outbox").trigger.interval == timedelta(seconds=2)
        assert job_named(jobs, "decisions").trigger.interval == timedelta(hours=1)
        assert job_named(jobs, "forecasts").trigger.interval == timedelta(minutes=15)
        assert job_named(jobs, "unpriced").trigger.interval == timedelta(minutes=5)
        assert job_named(jobs, "statements").trigger.interval == timedelta(hours=1)
        assert job_named(jobs, "outcomes").trigger.interval == timedelta(minutes=1)
        assert job_named(jobs, "partitions").trigger.interval == timedelta(hours=1)
        weekly = job_named(jobs, "weekly_report").trigger
        assert isinstance(weekly, CronTrigger)
        assert str(weekly) == "cron[day_of_week='mon', hour='6']"
    finally:
        jobs.stop()


def test_idle_holds_are_given_back(
    jobs: Jobs, ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    hold_id = hold_cents(ledger, 5)
    clock.advance(minutes=5)

    jobs.expire_holds()

    assert get_hold(database, hold_id).state is HoldState.EXPIRED


def test_alerts_are_delivered_to_the_webhook_of_the_settings(
    services: Services,
    ledger: Ledger,
    clock: FrozenClock,
    receiver: tuple[str, list[dict[str, Any]]],
) -> None:
    url, received = receiver
    settings = services.settings.model_copy(update={"webhook_url": url})
    jobs = Jobs(replace(services, settings=settings))
    set_budgets(services.database, make_budget(), now=clock())
    record(ledger, make_event(usage=cents(60)))

    jobs.deliver()
    jobs.deliver()
    jobs.http.close()

    [row] = rows_of(services.database, OutboxRow)
    assert row["state"] == "delivered"
    assert received == [row["payload"]]


def test_outcomes_that_wait_are_joined_to_their_operation(
    jobs: Jobs, ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    outcome = Outcome("api", "o1", 1, "resolved", 10**9, clock(), operation_ref="op")
    ledger.apply([RecordOutcomes([outcome], NOBODY)])
    record(ledger, make_event(operation_id="op"))

    jobs.join_outcomes()

    assert [row["is_waiting"] for row in rows_of(database, OutcomeRow)] == [False]


def test_what_had_no_price_is_rated_once_there_is_one(
    services: Services, database: Database
) -> None:
    unpriced = make_ledger(replace(services, price_list=make_price_list(version="empty")))
    record(unpriced, make_event())
    jobs = Jobs(services)

    jobs.rate_unpriced()
    jobs.rate_unpriced()
    jobs.http.close()

    # Unpriced, taken back, two cents.
    charged = [row["effective_nanos"] for row in rows_of(database, ChargeRow)]
    assert charged == [None, None, 20_000_000]


def test_the_first_round_of_unpriced_usage_does_not_wait(services: Services) -> None:
    record(
        make_ledger(replace(services, price_list=make_price_list(version="empty"))), make_event()
    )
    jobs = Jobs(replace(services, clock=utc_now))

    jobs.start()
    deadline = monotonic() + PATIENCE_SECONDS
    while not rows_of(services.database, RerateRow) and monotonic() < deadline:
        sleep(POLL_SECONDS)
    jobs.stop()

    assert [row["state"] for row in rows_of(services.database, RerateRow)] == ["applied"]


def test_decisions_are_let_go_after_their_time(
    jobs: Jobs, ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.01"), now=clock())
    assert ask(ledger)["decision"] == "deny"
    clock.advance(days=90)

    jobs.forget_decisions()
    kept = len(rows_of(database, DecisionRow))
    clock.advance(seconds=1)
    jobs.forget_decisions()

    assert (kept, len(rows_of(database, DecisionRow))) == (1, 0)


def test_forecasts_are_worked_out(
    jobs: Jobs, ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day"), now=clock())
    record(ledger, make_event(occurred_at="2026-11-20T11:10:00Z"))

    jobs.forecast()

    [standing] = list_standings(database, now=clock())
    # One hour at two cents: two for what was spent, two for each of the twelve hours left.
    assert standing.forecast == 26 * 10_000_000


def test_drafts_of_statements_are_closed_when_their_grace_is_over(
    jobs: Jobs, services: Services, ledger: Ledger, clock: FrozenClock
) -> None:
    allocate = make_allocate(currency="USD", price_list=services.price_list)
    draft = close_month(
        services.database, allocate, month=202610, now=clock(), grace=timedelta(hours=72)
    ).statement
    october = (clock() - timedelta(days=30)).isoformat()
    record(ledger, make_event(event_id="late", occurred_at=october, usage=cents(5)))
    clock.advance(hours=72)

    jobs.close_statements()
    refused = get_header(services.database, draft.statement_id)
    add_bill(services.database, october[:10], 5)
    jobs.close_statements()

    assert (refused.state, [note.code for note in refused.notes]) == ("draft", ["missing_bill"])
    closed = get_header(services.database, draft.statement_id)
    assert (closed.state, closed.total_nanos, closed.notes) == ("closed", 5 * CENT, ())


def test_the_weekly_report_goes_where_the_settings_say(
    jobs: Jobs, services: Services, database: Database
) -> None:
    jobs.report_week()
    jobs.report_week()

    [run] = rows_of(database, ReportRunRow)
    assert Path(run["path"]).parent == services.settings.report_dir
    assert Path(run["path"]).is_file()


def test_a_job_runs_only_in_the_worker_that_leads(
    jobs: Jobs, database: Database, clock: FrozenClock
) -> None:
    runs: list[str] = []
    lead(database, LEASE_NAME, "another", now=clock(), lease_seconds=30)

    jobs.run_if_leading("job", lambda: runs.append("while another leads"))
    clock.advance(seconds=30)
    jobs.run_if_leading("job", lambda: runs.append("after its lease ran out"))

    assert runs == ["after its lease ran out"]


def test_a_job_that_fails_is_survived_and_tried_again(jobs: Jobs) -> None:
    runs: list[int] = []

    def fail() -> None:
        runs.append(len(runs))
        raise RuntimeError("the report could not be written")

    jobs.run_if_leading("job", fail)
    jobs.run_if_leading("job", fail)

    assert runs == [0, 1]


def test_stopping_gives_the_lease_up(services: Services, database: Database) -> None:
    jobs = Jobs(services)
    jobs.start()
    jobs.run_if_leading("job", lambda: None)
    held_by = [row["holder"] for row in rows_of(database, LeaseRow)]

    jobs.stop()

    assert held_by == [jobs.holder]
    assert rows_of(database, LeaseRow) == []


def test_a_worker_stops_even_when_its_database_is_away(
    sqlite_database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    jobs = Jobs(make_services(sqlite_database, clock, tmp_path))
    jobs.start()
    with sqlite_database.locked_connection() as connection:
        connection.exec_driver_sql("DROP TABLE leases")

    jobs.stop()

    assert not jobs.scheduler.running


def test_two_workers_share_one_outbox_without_sending_twice(
    services: Services,
    clock: FrozenClock,
    receiver: tuple[str, list[dict[str, Any]]],
) -> None:
    url, received = receiver
    settings = services.settings.model_copy(update={"webhook_url": url})
    workers = [Jobs(replace(services, settings=settings)) for _ in range(2)]
    workers[1].holder = "the other worker"
    set_budgets(services.database, make_budget(), now=clock())
    record(make_ledger(services), make_event(usage=cents(60)))

    for worker in workers:
        worker.run_if_leading("outbox", worker.deliver)
        worker.http.close()

    assert len(received) == 1
