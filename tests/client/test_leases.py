"""Leases: calls let through from slices of budget, and what becomes of every piece of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from tests.client.fake_service import PATIENCE, URL, FakeService, listening
from tests.client.lease_cases import SMALL, TERMS, use, wait_until
from tokenbudget.client import (
    Call,
    Client,
    Decision,
    LeaseTerms,
    Manner,
    leased,
)
from tokenbudget.client._lessor import MAX_KINDS

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
ADDRESS = "https://api.openai.com/v1/chat/completions"
FORKS = """
import os, sys
from tokenbudget.client import Client, LeaseTerms, Manner
manner = Manner(spool_directory=sys.argv[2], timeout_seconds=5.0, lease=LeaseTerms(calls=50))
client = Client(sys.argv[1], manner=manner)

def call():
    with client.operation() as op:
        with op.call(provider="openai", model="gpt-4o", input_tokens=9, max_output_tokens=9) as c:
            c.usage(input_tokens=1)
    print(c.permit.hold_id, flush=True)

call()
child = os.fork()
if child == 0:
    call()
    call()
    client.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
call()
client.close()
"""


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService, tmp_path: Path) -> Iterator[Client]:
    with service.client(tmp_path, lease=TERMS) as running:
        yield running


def test_one_request_lets_many_calls_through(service: FakeService, client: Client) -> None:
    holds = use(client, 5)

    (asked,) = service.leases
    assert holds == ["lease-1"] * 5
    assert service.checks == []
    # Thirty seconds of use, sixty for a call begun in the last of them, and a margin.
    assert (asked["requests"], asked["ttl_seconds"]) == (8, 93)
    assert (asked["input_tokens"], asked["max_output_tokens"]) == (1_024, 256)
    # A lease is of no operation in particular; what is asked for one call is.
    assert "operation_id" not in asked
    assert [event["hold_id"] for event in service.told_by(client)] == holds


def test_the_permit_of_a_leased_call_is_its_own(service: FakeService, client: Client) -> None:
    with client.operation() as operation, operation.call(**SMALL) as call:
        call.usage(input_tokens=1)

    assert call.permit.decision is Decision.ALLOW
    assert call.permit.max_output_tokens == 200
    assert call.permit.estimate == Decimal(1)
    assert call.limits.model == "gpt-4o"


def test_calls_share_a_lease_up_to_the_next_power_of_two(
    service: FakeService, client: Client
) -> None:
    use(client, input_tokens=5)
    use(client, input_tokens=256, max_output_tokens=129)
    use(client, input_tokens=257)
    use(client, max_output_tokens=None)
    use(client, max_output_tokens=0)

    shapes = [(each["input_tokens"], each.get("max_output_tokens")) for each in service.leases]
    assert shapes == [(256, 256), (512, 256), (1_024, None), (1_024, 0)]


def test_tags_tell_leases_apart_unless_they_are_ignored(
    service: FakeService, tmp_path: Path
) -> None:
    terms = LeaseTerms(calls=8, ignored_tags=("user",))
    with service.client(tmp_path, lease=terms) as client:
        use(client, tags={"tenant": "a", "user": "1"})
        use(client, tags={"tenant": "a", "user": "2"})
        use(client, tags={"tenant": "b"})
        events = service.told_by(client)

    assert [each["tags"] for each in service.leases] == [
        {"team": "growth", "tenant": "a"},
        {"team": "growth", "tenant": "b"},
    ]
    assert events[1]["tags"] == {"team": "growth", "tenant": "a", "user": "2"}


@pytest.mark.parametrize(
    "given",
    [{"input_tokens": None}, {"estimate": Decimal("0.1")}, {"input_tokens": 10**8}],
)
def test_a_call_of_no_shape_is_checked_by_itself(
    service: FakeService, client: Client, given: dict[str, Any]
) -> None:
    assert use(client, **given) == ["hold-1"]
    assert service.leases == []


def test_a_block_leases_on_terms_of_its_own_or_not_at_all(
    service: FakeService, client: Client
) -> None:
    with leased(None):
        use(client)
    with leased(LeaseTerms(calls=3)):
        use(client)
    use(client)

    assert len(service.checks) == 1
    assert [each["requests"] for each in service.leases] == [3, 8]


def test_more_is_fetched_before_a_lease_runs_dry(service: FakeService, client: Client) -> None:
    use(client, 7)
    wait_until(lambda: len(service.leases) == 2)
    wait_until(lambda: not client._lessor._shelves or not _is_fetching(client))
    holds = use(client, 8)

    # Never more than one lease lies unused: one piece was left, so seven are asked for.
    assert [each["requests"] for each in service.leases[:2]] == [8, 7]
    assert holds == ["lease-1", *["lease-2"] * 7]
    assert service.checks == []


def _is_fetching(client: Client) -> bool:
    return any(shelf.is_fetching for shelf in client._lessor._shelves.values())


def test_many_who_find_none_wait_for_one_request(service: FakeService, tmp_path: Path) -> None:
    service.delay_seconds = 0.2
    with (
        service.client(tmp_path, lease=LeaseTerms(calls=50), timeout_seconds=5.0) as client,
        ThreadPoolExecutor(20) as threads,
    ):
        holds = list(threads.map(lambda _: use(client), range(20)))

    assert holds == [["lease-1"]] * 20
    assert len(service.leases) == 1
    assert service.checks == []


def test_nobody_waits_for_a_lease_longer_than_for_a_check(
    service: FakeService, tmp_path: Path
) -> None:
    service.delay_seconds = 1.0
    with service.client(tmp_path, lease=TERMS, timeout_seconds=0.2) as client:
        begun = monotonic()
        with client.operation() as operation, operation.call(**SMALL) as call:
            call.not_sent()
        waited = monotonic() - begun

    assert call.permit.decision is Decision.UNCHECKED
    assert 0.1 < waited < 0.8


def test_a_piece_that_was_not_sent_is_used_again(service: FakeService, client: Client) -> None:
    with client.operation() as operation:
        for _ in range(30):
            with operation.call(**SMALL) as call:
                call.not_sent()

    assert len(service.leases) == 1
    assert service.told_by(client) == []
    assert service.released == []


def refusing(request: httpx.Request) -> httpx.Response:
    return httpx.Response(400, json={"error": {"message": "no"}})


def absent(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody listens", request=request)


def test_a_refused_call_has_used_its_piece_and_one_never_sent_has_not(
    service: FakeService, client: Client
) -> None:
    with httpx.Client(transport=client.transport(httpx.MockTransport(absent))) as http:
        for _ in range(20):
            with pytest.raises(httpx.ConnectError):
                http.post(ADDRESS, json=CHAT)
    assert len(service.leases) == 1

    with httpx.Client(transport=client.transport(httpx.MockTransport(refusing))) as http:
        for _ in range(8):
            http.post(ADDRESS, json=CHAT)
    # What refused calls have used is asked for anew, all of it or all but the last piece.
    wait_until(lambda: sum(each["requests"] for each in service.leases) >= 8 + 7)

    events = service.told_by(client)
    assert [event["hold_id"] for event in events] == ["lease-1"] * 8
    assert {event["status"] for event in events} == {"error"}


def test_transports_and_what_they_stand_for_use_pieces(
    service: FakeService, client: Client
) -> None:
    answer = {"id": "a", "model": "gpt-4o", "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
    provider = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))

    with httpx.Client(transport=client.transport(provider, feature="search")) as http:
        for _ in range(3):
            http.post(ADDRESS, json=CHAT)

    # A wrapped call lives as long as the SDK waits for it.
    assert service.leases[0]["ttl_seconds"] == 30 + 600 + 3
    assert [event["hold_id"] for event in service.told_by(client)] == ["lease-1"] * 3
    assert service.checks == []


def test_what_is_left_goes_back_at_the_end_after_the_events(
    service: FakeService, tmp_path: Path
) -> None:
    order: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        order.append(request.url.path.split("/")[-1])
        return service.respond(request)

    manner = Manner(spool_directory=tmp_path, lease=TERMS)
    with Client(URL, manner=manner, transport=httpx.MockTransport(respond)) as client:
        use(client, 3)

    assert order == ["check", "events", "release"]
    assert service.released == ["lease-1"]
    assert len(service.events) == 3


def test_what_is_left_is_not_given_back_before_its_events_are_taken(
    service: FakeService, tmp_path: Path
) -> None:
    service.events_status = 503
    with service.client(tmp_path, lease=LeaseTerms(calls=8, seconds=0.2)) as client:
        use(client)
        assert not client.flush(0.5)
        sleep(1.0)
        assert service.released == []

        service.events_status = 200
        assert client.flush(PATIENCE)
        assert service.released == ["lease-1"]


def test_a_lease_is_used_for_its_time_and_then_given_back_by_itself(
    service: FakeService, tmp_path: Path
) -> None:
    with service.client(tmp_path, lease=LeaseTerms(calls=8, seconds=0.3)) as client:
        use(client)
        wait_until(lambda: service.released == ["lease-1"])
        assert use(client) == ["lease-2"]


def test_a_call_under_way_keeps_its_lease(service: FakeService, tmp_path: Path) -> None:
    with service.client(tmp_path, lease=LeaseTerms(calls=8, seconds=0.2)) as client:
        with client.operation() as operation, operation.call(**SMALL) as call:
            sleep(1.2)
            assert service.released == []
            call.usage(input_tokens=1)
        wait_until(lambda: service.released == ["lease-1"])

    assert [event["hold_id"] for event in service.events] == ["lease-1"]


def test_a_check_by_hand_is_never_leased(service: FakeService, client: Client) -> None:
    permit = client.check(Call(**SMALL))

    assert permit.hold_id == "hold-1"
    assert service.leases == []


def test_an_event_loop_leases_alike(service: FakeService, tmp_path: Path) -> None:
    async def one(operation: Any) -> str | None:
        async with operation.call(**SMALL) as call:
            await asyncio.sleep(0.01)
            call.usage(input_tokens=1)
        hold: str | None = call.permit.hold_id
        return hold

    async def run() -> list[str | None]:
        service.delay_seconds = 0.1
        async with (
            service.async_client(tmp_path, lease=LeaseTerms(calls=50), timeout_seconds=5) as client,
            client.operation() as operation,
        ):
            holds = await asyncio.gather(*(one(operation) for _ in range(20)))
            async with operation.call(**SMALL) as call:
                call.not_sent()
        return holds

    assert asyncio.run(run()) == ["lease-1"] * 20
    assert len(service.leases) == 1
    assert service.checks == []
    assert len(service.events) == 20
    assert service.released == ["lease-1"]


def test_an_event_loop_waits_no_longer_and_may_be_cancelled(
    service: FakeService, tmp_path: Path
) -> None:
    async def run() -> float:
        service.delay_seconds = 1.0
        async with service.async_client(tmp_path, lease=TERMS, timeout_seconds=0.2) as client:
            impatient = asyncio.create_task(client._admit(Call(**SMALL)))
            await asyncio.sleep(0.05)
            impatient.cancel()
            begun = monotonic()
            permit = await client._admit(Call(**SMALL))
            assert permit.decision is Decision.UNCHECKED
            return monotonic() - begun

    assert asyncio.run(run()) < 0.8


def test_a_child_of_a_fork_takes_leases_of_its_own(service: FakeService, tmp_path: Path) -> None:
    with listening(service) as url:
        ran = subprocess.run(
            [sys.executable, "-c", FORKS, url, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["lease-1", "lease-2", "lease-2", "lease-1"]
    assert service.released == ["lease-2", "lease-1"]
    assert len(service.events) == 4


def test_a_dropped_stream_ends_its_piece(service: FakeService, tmp_path: Path) -> None:
    def stream(_: httpx.Request) -> httpx.Response:
        content = b'data: {"choices": []}\n\n'
        return httpx.Response(
            200, headers={"content-type": "text/event-stream"}, stream=httpx.ByteStream(content)
        )

    with service.client(tmp_path, lease=TERMS) as client:
        transport = client.transport(httpx.MockTransport(stream))
        with httpx.Client(transport=transport) as http:
            request = http.build_request("POST", ADDRESS, json={**CHAT, "stream": True})
            answer = http.send(request, stream=True)
            del answer
        assert client.flush(PATIENCE)

    assert [event["hold_id"] for event in service.events] == ["lease-1"]
    assert service.released == ["lease-1"]


def test_threads_never_take_more_pieces_than_there_are(
    service: FakeService, tmp_path: Path
) -> None:
    calls = 400
    with service.client(tmp_path, lease=LeaseTerms(calls=100), timeout_seconds=5.0) as client:
        barrier = threading.Barrier(8)

        def work(_: int) -> list[str | None]:
            barrier.wait()
            return use(client, calls // 8)

        with ThreadPoolExecutor(8) as threads:
            holds = [hold for each in threads.map(work, range(8)) for hold in each]

    granted = {f"lease-{place + 1}": each["requests"] for place, each in enumerate(service.leases)}
    assert len(holds) == calls
    assert all(holds.count(hold) <= most for hold, most in granted.items())
    assert set(holds) <= set(granted)


def test_leases_are_of_a_bounded_number_of_kinds(service: FakeService, tmp_path: Path) -> None:
    with service.client(tmp_path, timeout_seconds=5.0) as client:
        with leased(LeaseTerms(calls=1, seconds=0.01)):
            use(client, tags={"tenant": "old"})
        with leased(LeaseTerms(calls=1)):
            for number in range(MAX_KINDS):
                use(client, tags={"tenant": str(number)})
            assert service.checks == []
            assert use(client, tags={"tenant": "one too many"}) == ["hold-1"]


@pytest.mark.parametrize(
    ("terms", "rule"),
    [
        ({"calls": 0}, "calls must be between 1 and 10000, not 0"),
        ({"calls": 10_001}, "not 10001"),
        ({"seconds": 0}, "seconds must be above 0"),
        ({"seconds": 3_601}, "at most 3600"),
    ],
)
def test_terms_have_bounds(terms: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        LeaseTerms(**terms)
