"""What a client makes of the answers to its leases, and of a service that gives none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from tests.client.fake_service import BINDING, DENIED, PATIENCE, URL, FakeService
from tests.client.lease_cases import SMALL, TERMS, use, wait_until
from tokenbudget.client import Client, Decision, LeaseTerms, Manner, QuotaUnavailable, leased

REST_SECONDS = 1.1
WARNED = {"warnings": [{"code": "operation_unknown", "detail": "names no operation"}]}


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService, tmp_path: Path) -> Iterator[Client]:
    with service.client(tmp_path, lease=TERMS) as running:
        yield running


@pytest.mark.parametrize(
    ("answer", "released"),
    [
        ({"decision": "deny", "hold_id": None}, []),
        (
            {
                "decision": "reduce",
                "limits": {"requests": 3, "max_output_tokens": 256, "model": "gpt-4o"},
            },
            ["lease-1"],
        ),
        (
            {
                "decision": "reduce",
                "limits": {"requests": 8, "max_output_tokens": 256, "model": "gpt-4o-mini"},
            },
            ["lease-1"],
        ),
        (WARNED, ["lease-1"]),
        ({"limits": {}}, ["lease-1"]),
        ({"decision": "perhaps"}, ["lease-1"]),
    ],
)
def test_what_is_not_granted_as_asked_is_given_back_and_each_call_checked(
    service: FakeService, client: Client, answer: dict[str, Any], released: list[str]
) -> None:
    service.lease = answer

    holds = use(client, 3)
    assert client.flush(PATIENCE)

    assert holds == ["hold-1"] * 3
    assert (len(service.leases), len(service.checks)) == (1, 3)
    assert service.released == released


def test_a_service_that_knows_no_leases_is_asked_for_each_call(
    service: FakeService, tmp_path: Path
) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if b'"requests"' in request.content and request.url.path.endswith("check"):
            service.leases.append(json.loads(request.content))
            return httpx.Response(422, json={"detail": "requests is no field of a check"})
        return service.respond(request)

    manner = Manner(spool_directory=tmp_path, lease=TERMS)
    with Client(URL, manner=manner, transport=httpx.MockTransport(respond)) as client:
        assert use(client, 3) == ["hold-1"] * 3
    assert len(service.leases) == 1


def test_a_lease_that_cannot_outlive_its_calls_is_none(
    service: FakeService, client: Client
) -> None:
    service.most_seconds = 60

    assert use(client, 2) == ["hold-1"] * 2
    assert client.flush(PATIENCE)
    assert service.released == ["lease-1"]


def test_a_shorter_life_than_asked_for_shortens_the_use(
    service: FakeService, client: Client
) -> None:
    # Sixty are the call's, and the service's clock may be two off: one, or two, are left to use.
    service.most_seconds = 63

    begun = monotonic()
    assert use(client) == ["lease-1"]
    wait_until(lambda: service.released == ["lease-1"])

    assert monotonic() - begun < 4.0


def test_a_service_that_does_not_tell_the_time_leases_nothing(
    service: FakeService, client: Client
) -> None:
    service.tells_time = False

    assert use(client) == ["hold-1"]


def test_a_lease_outlives_the_service_that_gave_it(service: FakeService, tmp_path: Path) -> None:
    service.answer = DENIED
    service.lease = {"fail_mode": "closed"}
    with service.client(tmp_path, lease=TERMS) as client:
        use(client)
        service.is_down = True

        assert use(client, 7) == ["lease-1"] * 7
        with pytest.raises(QuotaUnavailable):
            use(client)


def test_an_answer_that_was_lost_is_asked_for_again_and_strands_nothing(
    service: FakeService, client: Client
) -> None:
    service.lost = 1
    assert use(client) == ["hold-1"]

    sleep(REST_SECONDS)
    assert use(client) == ["lease-1"]

    first, second = service.leases
    assert first == second


def test_a_pause_after_a_denial_grows_and_ends(service: FakeService, client: Client) -> None:
    service.lease = {"decision": "deny", "hold_id": None}
    use(client, 3)
    sleep(REST_SECONDS)
    use(client, 3)
    assert len(service.leases) == 2

    service.lease = {}
    sleep(2 * REST_SECONDS)
    assert use(client) == ["lease-3"]


def test_the_cached_mode_repeats_no_piece(service: FakeService, tmp_path: Path) -> None:
    with service.client(tmp_path, lease=LeaseTerms(calls=1), fail_mode="cached") as client:
        service.lease = {"binding": BINDING}
        use(client)
        service.is_down = True
        sleep(0.1)
        with leased(None), client.operation() as operation, operation.call(**SMALL) as call:
            call.usage(input_tokens=1)

    assert call.permit.decision is Decision.UNCHECKED
    assert call.permit.hold_id is None
