"""Of several workers one leads, until it steps down or its lease runs out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import FrozenClock
from tokenbudget.services.leadership import lead, step_down
from tokenbudget.store.db import Database


def leads(database: Database, clock: FrozenClock, holder: str) -> bool:
    """Let the holder ask for the lease of thirty seconds."""
    return lead(database, "jobs", holder, now=clock(), lease_seconds=30)


def test_the_first_of_two_workers_leads(database: Database, clock: FrozenClock) -> None:
    assert leads(database, clock, "a")
    assert not leads(database, clock, "b")


def test_the_leader_renews_its_lease(database: Database, clock: FrozenClock) -> None:
    leads(database, clock, "a")
    clock.advance(seconds=20)
    renewed = leads(database, clock, "a")
    clock.advance(seconds=20)

    assert renewed
    assert not leads(database, clock, "b")


def test_a_lease_that_ran_out_is_taken_by_another(database: Database, clock: FrozenClock) -> None:
    leads(database, clock, "a")
    clock.advance(seconds=30)

    assert leads(database, clock, "b")
    assert not leads(database, clock, "a")


def test_a_leader_that_steps_down_is_followed_at_once(
    database: Database, clock: FrozenClock
) -> None:
    leads(database, clock, "a")

    step_down(database, "jobs", "a")

    assert leads(database, clock, "b")


def test_nobody_steps_down_for_another(database: Database, clock: FrozenClock) -> None:
    leads(database, clock, "a")

    step_down(database, "jobs", "b")

    assert not leads(database, clock, "b")


def test_of_many_workers_that_ask_at_once_one_leads(database: Database, clock: FrozenClock) -> None:
    barrier = threading.Barrier(6)

    def ask(number: int) -> bool:
        barrier.wait(10)
        return leads(database, clock, f"worker-{number}")

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))

    assert sum(answers) == 1
