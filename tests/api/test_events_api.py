"""``POST /v1/events``: what it takes, what it answers and where its limits are."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, contents, make_event, make_events, rows_of
from tokenbudget.bootstrap import Services
from tokenbudget.store.budgets import change_rules
from tokenbudget.store.tables import ChargeRow, UsageRow

NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}
GZIP = {"content-encoding": "gzip"}
TWO_CENTS = 20_000_000
FIFTY_MEGABYTES = 50 * 1024 * 1024


def accepted(count: int, *, duplicates: int = 0, unpriced: int = 0) -> dict[str, Any]:
    """Give the answer to a batch in which nothing was rejected."""
    return {"accepted": count, "duplicates": duplicates, "unpriced": unpriced, "rejected": []}


def test_one_object_is_recorded_and_charged(client: TestClient, services: Services) -> None:
    answer = client.post("/v1/events", json=make_event())

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == accepted(1)
    [charge] = rows_of(services.database, ChargeRow)
    assert charge["effective_nanos"] == TWO_CENTS


@pytest.mark.parametrize("headers", [JSON, {}, {"content-type": "application/json; charset=utf-8"}])
def test_an_array_is_recorded_with_or_without_a_content_type(
    client: TestClient, headers: dict[str, str]
) -> None:
    body = json.dumps(make_events(3)).encode()

    answer = client.post("/v1/events", content=body, headers=headers)

    assert answer.json() == accepted(3)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl"])
def test_one_event_a_line_is_recorded_and_blank_lines_are_skipped(
    client: TestClient, content_type: str
) -> None:
    first, second = (json.dumps(event) for event in make_events(2))

    answer = client.post(
        "/v1/events", content=f"{first}\n\n{second}\r\n", headers={"content-type": content_type}
    )

    assert answer.json() == accepted(2)


def test_a_compressed_body_is_the_same_as_a_plain_one(client: TestClient) -> None:
    body = json.dumps(make_events(2)).encode()

    zipped = client.post("/v1/events", content=gzip.compress(body, mtime=0), headers=GZIP)
    plain = client.post("/v1/events", content=body)

    assert zipped.json() == accepted(2)
    assert plain.json() == accepted(0, duplicates=2)


def test_each_item_has_its_own_answer_and_spoils_no_other(
    client: TestClient, services: Services
) -> None:
    batch = [
        make_event(event_id="good"),
        make_event(event_id="cached", usage={"input_tokens": 10, "cached_input_tokens": 20}),
        make_event(event_id="unknown", model="gpt-nobody-knows"),
        make_event(event_id="good"),
        make_event(event_id="good", usage={"input_tokens": 1}),
        7,
    ]

    answer = client.post("/v1/events", json=batch)

    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 2,
        "duplicates": 1,
        "unpriced": 1,
        "rejected": [
            {
                "index": 1,
                "event_id": "cached",
                "code": "usage_inconsistent",
                "detail": "cached_input_tokens 20 exceeds input_tokens 10",
            },
            {
                "index": 4,
                "event_id": "good",
                "code": "conflict",
                "detail": "event_id 'good' of source 'api' is recorded with other content; "
                "revision 1 would replace it",
            },
            {
                "index": 5,
                "event_id": None,
                "code": "invalid_field",
                "detail": "Expected `object`, got `int`",
            },
        ],
    }
    assert [row["event_ref"] for row in rows_of(services.database, UsageRow)] == ["good", "unknown"]


def test_an_empty_array_is_no_error(client: TestClient) -> None:
    assert client.post("/v1/events", json=[]).json() == accepted(0)


def test_the_idempotency_key_stands_in_for_missing_event_ids(
    client: TestClient, services: Services
) -> None:
    nameless = [{**event, "event_id": None} for event in make_events(2)]
    key = {"idempotency-key": '"retry-7"'}

    first = client.post("/v1/events", json=nameless, headers=key)
    again = client.post("/v1/events", json=nameless, headers=key)

    assert (first.json(), again.json()) == (accepted(2), accepted(0, duplicates=2))
    refs = [row["event_ref"] for row in rows_of(services.database, UsageRow)]
    assert refs == ["retry-7:0", "retry-7:1"]


@pytest.mark.parametrize("key", ['""', "k" * 201])
def test_an_idempotency_key_that_is_empty_or_too_long_is_refused(
    client: TestClient, key: str
) -> None:
    answer = client.post("/v1/events", json=make_event(), headers={"idempotency-key": key})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["detail"] == "Idempotency-Key must have 1 to 200 characters"


def test_without_id_and_key_an_event_is_rejected(client: TestClient) -> None:
    answer = client.post("/v1/events", json={**make_event(), "event_id": None})

    [rejection] = answer.json()["rejected"]
    assert (rejection["code"], rejection["event_id"]) == ("missing_field", None)
    assert "event_id is missing" in rejection["detail"]


def test_a_body_of_fifty_megabytes_is_too_large(client: TestClient, services: Services) -> None:
    before = contents(services.database)

    answer = client.post("/v1/events", content=b"[" + b" " * FIFTY_MEGABYTES + b"]")

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.json()["detail"] == "the body has 52428802 bytes; the limit is 10485760"
    assert contents(services.database) == before


def test_a_body_that_does_not_say_its_length_is_cut_off_at_the_limit(
    make_client: MakeClient,
) -> None:
    client = make_client(max_body_bytes=2048)

    answer = client.post("/v1/events", content=(b" " * 1024 for _ in range(10)))

    assert (answer.status_code, answer.json()["detail"]) == (413, "the body exceeds 2048 bytes")


def test_a_small_body_that_unpacks_to_a_large_one_is_too_large(client: TestClient) -> None:
    bomb = gzip.compress(b" " * FIFTY_MEGABYTES, mtime=0)

    answer = client.post("/v1/events", content=bomb, headers=GZIP)

    assert len(bomb) < 100_000
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.json()["detail"] == "the body exceeds 10485760 bytes after decompression"


def test_more_items_than_the_limit_are_too_large(make_client: MakeClient) -> None:
    answer = make_client(max_items=2).post("/v1/events", json=make_events(3))

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.json()["detail"] == "the batch has 3 items; the limit is 2"


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"content-type": "text/csv"}, "Content-Type 'text/csv'"),
        ({"content-encoding": "br"}, "Content-Encoding 'br'"),
    ],
)
def test_a_media_type_it_does_not_read_is_refused(
    client: TestClient, headers: dict[str, str], named: str
) -> None:
    answer = client.post("/v1/events", content=b"{}", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert named in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "headers", "named"),
    [
        (b"", {}, "empty"),
        (b" \n ", NDJSON, "empty"),
        (b"{", {}, "not JSON"),
        (b"[{},", {}, "not JSON"),
        (b"{} {}", {}, "not JSON"),
        (b'"text"', {}, "not an event"),
        (b"null", {}, "not an event"),
        (b"[" * 100_000, {}, "not JSON"),
        (b'{"a":' * 100_000, {}, "not JSON"),
        (b"plain", GZIP, "not valid gzip"),
        (gzip.compress(b"{}", mtime=0)[:-8], GZIP, "cut short"),
    ],
)
def test_a_body_that_is_not_json_is_malformed(
    client: TestClient, services: Services, body: bytes, headers: dict[str, str], named: str
) -> None:
    before = contents(services.database)

    answer = client.post("/v1/events", content=body, headers=headers)

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
    assert named in answer.json()["detail"]
    assert contents(services.database) == before


class Outcome(NamedTuple):
    """What one of many concurrent requests was answered."""

    status: int
    code: str | None
    retry_after: str | None


def test_a_full_queue_answers_503_and_keeps_what_it_accepted(
    make_client: MakeClient, services: Services
) -> None:
    client = make_client(write_queue_items=1, write_batch_items=1)
    requests = 8

    def send(number: int) -> Outcome:
        answer = client.post("/v1/events", json=make_event(event_id=f"e{number}"))
        return Outcome(
            answer.status_code, answer.json().get("code"), answer.headers.get("retry-after")
        )

    with ThreadPoolExecutor(requests) as pool:
        with services.database.transaction() as session:
            # While this transaction holds the lock the writer cannot commit anything.
            change_rules(session)
            sent = [pool.submit(send, number) for number in range(requests)]
            refused = _first_outcomes(sent, count=requests - 2)
        statuses = sorted(future.result().status for future in sent)

    recorded = len(rows_of(services.database, UsageRow))
    assert statuses == [200] * recorded + [503] * (requests - recorded)
    assert 1 <= recorded <= 2
    assert refused == {Outcome(503, "queue_full", "1")}
    assert broken_rules(services.database) == []


def _first_outcomes(sent: list[Future[Outcome]], *, count: int) -> set[Outcome]:
    done: set[Future[Outcome]] = set()
    waiting = set(sent)
    while len(done) < count:
        answered, waiting = wait(waiting, timeout=10, return_when=FIRST_COMPLETED)
        assert answered, "the queue took more than its bound"
        done |= answered
    return {future.result() for future in done}
