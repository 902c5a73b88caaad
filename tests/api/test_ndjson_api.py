"""NDJSON on ``POST /v1/events``: taken in as it comes, bounded first, recorded in pieces."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, contents, make_event, make_events, rows_of
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import Unavailable
from tokenbudget.store.tables import UsageRow

NDJSON = {"content-type": "application/x-ndjson"}
ON_ONE_ENGINE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def lines_of(*events: object) -> bytes:
    """Give the events one a line."""
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def in_chunks(body: bytes, size: int) -> Iterator[bytes]:
    """Give a body as a client that does not know its length sends it."""
    for start in range(0, len(body), size):
        yield body[start : start + size]


@ON_ONE_ENGINE
@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_lines_are_put_together_however_they_arrive(client: TestClient, size: int) -> None:
    body = (
        b"\n\r\n" + lines_of(*make_events(4)) + b" \n" + lines_of(make_event(event_id="last"))[:-1]
    )

    answer = client.post("/v1/events", content=in_chunks(body, size), headers=NDJSON)

    assert (answer.status_code, answer.json()["accepted"]) == (200, 5)


def test_pieces_are_answered_together_by_the_place_of_each_line(
    make_client: MakeClient, services: Services
) -> None:
    client = make_client(stream_piece_items=2)
    events: list[Any] = make_events(7)
    events[3] = make_event(event_id="e4", usage={"input_tokens": -1})
    events[4] = make_event(event_id="e1", usage={"input_tokens": 7})
    events[5] = make_event(event_id="e2")
    events[6] = make_event(event_id="odd", model="unheard-of")

    answer = client.post("/v1/events", content=lines_of(*events), headers=NDJSON).json()

    assert (answer["accepted"], answer["duplicates"], answer["unpriced"]) == (4, 1, 1)
    assert [(each["index"], each["code"]) for each in answer["rejected"]] == [
        (3, "usage_negative"),
        (4, "conflict"),
    ]
    assert broken_rules(services.database) == []


@ON_ONE_ENGINE
def test_lines_without_ids_are_named_by_their_place_in_the_whole_body(
    make_client: MakeClient, services: Services
) -> None:
    client = make_client(stream_piece_items=2)
    body = lines_of(*({**event, "event_id": None} for event in make_events(5)))
    headers = {**NDJSON, "idempotency-key": "once"}

    answers = [client.post("/v1/events", content=body, headers=headers).json() for _ in range(2)]

    assert [(each["accepted"], each["duplicates"]) for each in answers] == [(5, 0), (0, 5)]
    refs = [row["event_ref"] for row in rows_of(services.database, UsageRow)]
    assert refs == [f"once:{number}" for number in range(5)]


def test_revisions_follow_each_other_across_pieces(
    make_client: MakeClient, services: Services
) -> None:
    client = make_client(stream_piece_items=1)
    events = [make_event(revision=number, usage={"input_tokens": number}) for number in range(3)]

    answer = client.post("/v1/events", content=lines_of(*events), headers=NDJSON).json()

    assert (answer["accepted"], answer["rejected"]) == (3, [])
    assert broken_rules(services.database) == []


@pytest.mark.parametrize("limits", [{"max_items": 4}, {"max_body_bytes": 1_024}])
def test_nothing_is_recorded_of_a_body_above_a_limit(
    make_client: MakeClient, services: Services, limits: dict[str, int]
) -> None:
    client = make_client(stream_piece_items=1, **limits)
    before = contents(services.database)

    answer = client.post(
        "/v1/events", content=in_chunks(lines_of(*make_events(5)), 64), headers=NDJSON
    )

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert contents(services.database) == before


def test_what_was_recorded_before_a_failure_is_a_duplicate_the_next_time(
    make_client: MakeClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(stream_piece_items=2)
    state = client.app.state.tokenbudget  # type: ignore[attr-defined]
    apply = state.writer._apply

    def fail_after_the_first(works: Sequence[Any]) -> Any:
        if rows_of(services.database, UsageRow):
            raise Unavailable("the database is away")
        return apply(works)

    body = lines_of(*make_events(5))
    with monkeypatch.context() as patched:
        patched.setattr(state.writer, "_apply", fail_after_the_first)
        failed = client.post("/v1/events", content=body, headers=NDJSON)
    again = client.post("/v1/events", content=body, headers=NDJSON)

    assert (failed.status_code, failed.headers["retry-after"]) == (503, "1")
    assert (again.json()["accepted"], again.json()["duplicates"]) == (3, 2)
    assert len(rows_of(services.database, UsageRow)) == 5


@ON_ONE_ENGINE
def test_a_large_body_takes_little_more_memory_than_its_lines(make_client: MakeClient) -> None:
    client = make_client(stream_piece_items=500)
    padding = {f"tag-{number}": "v" * 30 for number in range(10)}
    body = lines_of(*(make_event(event_id=f"e{n}", tags=padding) for n in range(8_000)))
    client.post("/v1/events", content=lines_of(make_event(event_id="first")), headers=NDJSON)

    tracemalloc.start()
    try:
        answer = client.post("/v1/events", content=in_chunks(body, 65_536), headers=NDJSON)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert answer.json()["accepted"] == 8_000
    assert len(body) > 4_000_000
    # The test client holds the body once more than a server would.
    assert peak < 3.5 * len(body)
