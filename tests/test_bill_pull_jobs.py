"""The schedule pulls bills where there is a key, in the worker that leads, and stops with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from time import monotonic

import pytest
from pydantic import SecretStr

from tests.conftest import FrozenClock
from tests.fake_providers import (
    ANTHROPIC_KEY,
    OPENAI_KEY,
    FakeProviders,
    Fault,
    running_providers,
)
from tests.services.bill_cases import total_in_force
from tests.services.pull_cases import NOW, pulled_until
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import Unavailable
from tokenbudget.jobs import LEASE_NAME, Jobs
from tokenbudget.services.leadership import lead

LONG_SECONDS = 60


@pytest.fixture
def providers() -> Iterator[FakeProviders]:
    """Give both APIs, telling what the sample pages say."""
    with running_providers() as running:
        running.tell_samples()
        yield running


@pytest.fixture
def jobs(services: Services, providers: FakeProviders, clock: FrozenClock) -> Iterator[Jobs]:
    """Give the jobs of a worker that has both keys, not started."""
    clock.now = NOW
    keys = {
        "openai_admin_key": SecretStr(OPENAI_KEY),
        "anthropic_admin_key": SecretStr(ANTHROPIC_KEY),
        "openai_url": providers.url,
        "anthropic_url": providers.url,
        "anthropic_account": "acme",
    }
    jobs = Jobs(replace(services, settings=services.settings.model_copy(update=keys)))
    yield jobs
    jobs.http.close()


def test_bills_are_pulled_from_every_provider_with_a_key(
    jobs: Jobs, services: Services, providers: FakeProviders
) -> None:
    jobs.pull_bills()
    asked = len(providers.asked)
    jobs.pull_bills()

    # 13.7752120 from OpenAI and 20.49231875 from Anthropic.
    assert total_in_force(services.database) == Decimal("34.26753075")
    assert len(pulled_until(services.database)) == 13
    assert len(providers.asked) == asked


def test_nothing_is_pulled_without_a_key(services: Services) -> None:
    jobs = Jobs(services)

    jobs.pull_bills()
    jobs.http.close()

    assert pulled_until(services.database) == {}


def test_a_worker_that_does_not_lead_pulls_nothing(
    jobs: Jobs, services: Services, providers: FakeProviders
) -> None:
    lead(services.database, LEASE_NAME, "another", now=NOW, lease_seconds=30)

    jobs.run_if_leading("bills_pull", jobs.pull_bills)

    assert providers.asked == []


def test_one_provider_that_fails_keeps_not_the_other(
    jobs: Jobs, services: Services, providers: FakeProviders
) -> None:
    providers.keys.discard(OPENAI_KEY)

    jobs.pull_bills()

    assert total_in_force(services.database) == Decimal("20.49231875")


def test_a_server_that_stops_does_not_wait_for_a_provider(
    jobs: Jobs, providers: FakeProviders
) -> None:
    providers.faults.append(Fault(429, {"retry-after": str(LONG_SECONDS)}))
    pull = threading.Thread(target=jobs.pull_bills)
    begin = monotonic()
    pull.start()
    while not providers.asked:
        assert monotonic() < begin + LONG_SECONDS

    jobs.stopping.set()
    pull.join(LONG_SECONDS)

    assert not pull.is_alive()
    assert monotonic() < begin + LONG_SECONDS / 2
    with pytest.raises(Unavailable, match="the server is stopping"):
        jobs.pause(0)


def test_the_schedule_looks_every_quarter_of_an_hour_and_at_once(services: Services) -> None:
    jobs = Jobs(services)

    jobs.start()

    try:
        found = jobs.scheduler.get_job("bills_pull")
        assert found is not None
        assert found.trigger.interval == timedelta(minutes=15)
    finally:
        jobs.stop()
