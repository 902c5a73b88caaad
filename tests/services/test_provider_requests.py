"""Asking a provider: what is tried again, for how long, and what is said when it is given up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest
import structlog

from tests.conftest import FrozenClock
from tests.fake_providers import COSTS, OPENAI_KEY, FakeProviders, Fault, running_providers
from tokenbudget.domain.errors import BadFile, ConfigurationError, InvalidInput, Unavailable
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bill_requests import OPENAI, DayBucket
from tokenbudget.services import provider_requests
from tokenbudget.services.provider_requests import Access, Pacing, ProviderClient, retry_after

COSTS_REPORT = OPENAI.reports[0]
PERIOD = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 5, tzinfo=UTC))
NO_PAGE = b'{"object": "error"}'


@pytest.fixture
def providers() -> Iterator[FakeProviders]:
    """Give both APIs, telling what the sample pages say."""
    with running_providers() as running:
        running.tell_samples()
        yield running


class Asking:
    """A client of the fake provider whose waits are noted instead of waited."""

    def __init__(self, http: httpx.Client, providers: FakeProviders, clock: FrozenClock) -> None:
        self.http, self.providers, self.clock = http, providers, clock
        self.pauses: list[float] = []
        self.luck = 0.0
        self.client = self.make_client(providers.url)

    def make_client(self, url: str, key: str = OPENAI_KEY) -> ProviderClient:
        """Give a client of this address."""
        pacing = Pacing(self._note, self.clock, lambda: self.luck)
        return ProviderClient(self.http, Access(OPENAI, url, key), pacing)

    def days(self) -> list[DayBucket]:
        """Read the costs of four days."""
        return list(self.client.iterate_days(COSTS_REPORT, PERIOD))

    def _note(self, seconds: float) -> None:
        if seconds:
            self.pauses.append(seconds)


@pytest.fixture
def asking(providers: FakeProviders, clock: FrozenClock) -> Iterator[Asking]:
    """Give what asks for costs, at noon of 2026-11-20."""
    with httpx.Client(trust_env=False) as http:
        yield Asking(http, providers, clock)


def page(*days: int, more: str = '"has_more": false') -> Fault:
    """Give an answer with an empty bucket for each day of September."""
    first = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp())
    buckets = ", ".join(
        f'{{"start_time": {first + (day - 1) * 86_400}, "end_time": {first + day * 86_400},'
        ' "results": []}'
        for day in days
    )
    return Fault(body=f'{{"data": [{buckets}], {more}}}'.encode())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("Fri, 20 Nov 2026 12:00:30 GMT", 30), ("Fri, 20 Nov 2026 11:00:00 GMT", 2)],
)
def test_a_limit_of_rate_is_waited_for_as_long_as_it_says(
    asking: Asking, value: str, seconds: int
) -> None:
    asking.providers.faults.append(Fault(429, {"retry-after": value}))

    assert len(asking.days()) == 4
    assert asking.pauses == [seconds]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_a_failure_that_may_pass_is_tried_again(asking: Asking, status: int) -> None:
    asking.providers.faults.append(Fault(status))

    with structlog.testing.capture_logs() as logs:
        assert len(asking.days()) == 4

    assert [line["event"] for line in logs] == ["provider_asked_again"]
    assert logs[0]["reason"] == f"status {status}"
    assert OPENAI_KEY not in str(logs)


def test_a_page_whose_connection_is_cut_is_read_again_and_counted_once(asking: Asking) -> None:
    asking.providers.page_days = 2
    asking.providers.faults.extend([None, Fault(cut_at=200)])

    days = asking.days()

    assert [bucket.period.start.day for bucket in days] == [1, 2, 3, 4]
    assert [len(bucket.results) for bucket in days] == [9, 8, 0, 4]
    assert len(asking.providers.asked) == 3


def test_a_page_that_ends_too_early_is_read_again(asking: Asking) -> None:
    asking.providers.faults.append(Fault(body=b'{"data": [{"start_time": 17882'))

    assert len(asking.days()) == 4
    assert asking.pauses == [2]


def test_a_body_that_does_not_decompress_is_read_again(asking: Asking) -> None:
    asking.providers.faults.append(Fault(headers={"content-encoding": "gzip"}, body=b"no gzip"))

    assert len(asking.days()) == 4


def test_waits_double_up_to_a_bound_and_then_it_is_given_up(asking: Asking) -> None:
    asking.providers.faults.extend(Fault(500) for _ in range(10))

    with pytest.raises(Unavailable, match="openai does not answer GET") as caught:
        asking.days()

    assert asking.pauses == [2, 4, 8, 16, 32, 60, 60]
    assert "after 8 tries" in caught.value.detail
    assert caught.value.retry_after_seconds == 1


def test_chance_takes_up_to_half_of_a_wait(asking: Asking) -> None:
    asking.luck = 0.999
    asking.providers.faults.extend(Fault(500) for _ in range(6))

    asking.days()

    assert asking.pauses == [1, 2, 4, 8, 16, 30]


def test_a_wait_beyond_all_patience_is_given_up_at_once(asking: Asking) -> None:
    asking.providers.faults.append(Fault(429, {"retry-after": "3600"}))

    with pytest.raises(Unavailable) as caught:
        asking.days()

    assert asking.pauses == []
    assert caught.value.retry_after_seconds == 3600


def test_patience_is_for_all_requests_of_a_client_together(asking: Asking) -> None:
    for _ in range(2):
        asking.providers.faults.append(Fault(429, {"retry-after": "300"}))
        asking.days()
    asking.providers.faults.append(Fault(500))

    with pytest.raises(Unavailable):
        asking.days()


def test_a_provider_that_cannot_be_reached_is_unavailable(asking: Asking) -> None:
    # Port 1 of loopback refuses.
    asking.client = asking.make_client("http://127.0.0.1:1")

    with pytest.raises(Unavailable, match="ConnectError, after 8 tries"):
        asking.days()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_its_variable_and_not_the_key(asking: Asking, status: int) -> None:
    asking.providers.faults.append(Fault(status, body=OPENAI_KEY.encode()))

    with pytest.raises(ConfigurationError, match="OPENAI_ADMIN_KEY") as caught:
        asking.days()

    assert OPENAI_KEY not in caught.value.detail
    assert asking.pauses == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": "limit must be\n at most 31"}', '{"error": "limit must be at most 31"}'),
        (f"you sent {OPENAI_KEY}".encode(), "its answer is not shown, since it repeats the key"),
        (b"", "without a word"),
    ],
)
def test_a_refused_request_is_quoted_unless_it_repeats_the_key(
    asking: Asking, body: bytes, said: str
) -> None:
    asking.providers.faults.append(Fault(400, body=body))

    with pytest.raises(InvalidInput) as caught:
        asking.days()

    assert caught.value.detail == f"openai refuses GET {COSTS} (status 400): {said}"


def test_a_redirect_is_not_followed_with_the_key(asking: Asking) -> None:
    asking.providers.faults.append(Fault(302, {"location": "http://127.0.0.1:1/"}, b""))

    with pytest.raises(InvalidInput, match="status 302"):
        asking.days()


def test_an_answer_that_is_no_page_is_refused_at_once(asking: Asking) -> None:
    asking.providers.faults.append(Fault(body=NO_PAGE))

    with pytest.raises(BadFile, match="must be a page with a list named data"):
        asking.days()

    assert asking.pauses == []


def test_a_page_beyond_all_size_is_refused(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_requests, "MAX_PAGE_BYTES", 1_000)

    with pytest.raises(BadFile, match="a page is larger than 1000 bytes"):
        asking.days()


def test_a_day_that_comes_again_after_a_later_one_is_refused(asking: Asking) -> None:
    asking.providers.faults.append(page(1, 2, 1))

    with pytest.raises(BadFile, match="the bucket of 2026-09-01T00:00:00Z comes after"):
        asking.days()


def test_buckets_that_nobody_asked_for_are_left_out(asking: Asking) -> None:
    asking.providers.faults.append(page(0, 1, 5))

    assert [bucket.period.start.day for bucket in asking.days()] == [1]


def test_an_answer_without_buckets_tells_of_no_day(asking: Asking) -> None:
    asking.providers.faults.append(page())

    assert asking.days() == []


def test_pages_without_end_are_refused(asking: Asking) -> None:
    more = '"has_more": true, "next_page": "again"'
    asking.providers.faults.extend(page(1, more=more) for _ in range(3))

    with pytest.raises(BadFile, match="the pages have no end: 1 were read"):
        asking.days()


def test_more_pages_than_the_bound_are_refused(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_requests, "MAX_PAGES", 2)
    asking.providers.page_days = 1

    with pytest.raises(BadFile, match="the pages have no end: 2 were read"):
        asking.days()


def test_an_access_does_not_show_its_key() -> None:
    assert OPENAI_KEY not in repr(Access(OPENAI, "http://localhost", OPENAI_KEY))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        (" 12 ", 12),
        ("99999999999999", 999_999_999),
        ("-5", 0),
        ("soon", 0),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30),
        ("Fri, 20 Nov 2026 12:00:30 -0000", 30),
        ("Fri, 20 Nov 2026 13:00:30 +0100", 30),
        ("Fri, 20 Nov 2020 12:00:30 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: int) -> None:
    now = datetime(2026, 11, 20, 13, tzinfo=timezone(timedelta(hours=1)))

    assert retry_after(value, now=now) == seconds
