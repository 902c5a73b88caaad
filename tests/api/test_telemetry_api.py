"""OTLP through the HTTP door: every captured run ends at the truth, in any order and sent twice."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, rows_of
from tests.formats.otlp.captured_runs import list_true_calls
from tests.formats.otlp.test_captured_runs import EXPECTED
from tokenbudget.domain.errors import Unavailable
from tokenbudget.store.db import Database
from tokenbudget.store.tables import UsageRow

RUNS = sorted(path for path in (Path(__file__).parents[1] / "data/otlp").iterdir() if path.is_dir())
SPOILED = 40
DAY = {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}


@dataclass(frozen=True)
class Export:
    """One captured request: its path, media type and body."""

    path: str
    content_type: str
    body: bytes

    def send(self, client: TestClient, **headers: str) -> Any:
        """Post it as it was posted."""
        return client.post(
            self.path,
            content=self.body,
            headers={"content-type": self.content_type, **headers},
        )


def exports_of(run: Path) -> Iterator[Export]:
    """Give the requests of a run in the order they were captured."""
    for header_file in sorted(run.glob("*.hdr.json")):
        header = json.loads(header_file.read_text())
        stem = header_file.name.removesuffix(".hdr.json")
        body = next(run.glob(f"{stem}.pb"), None) or run / f"{stem}.json"
        headers = {name.lower(): value for name, value in header["headers"].items()}
        yield Export(header["path"], headers["content-type"], body.read_bytes())


def truth_of(run: Path) -> list[dict[str, Any]]:
    """Give what the provider answered, a line a call."""
    return [json.loads(line) for line in (run / "truth.jsonl").read_text().splitlines()]


def costs(client: TestClient, *group_by: str) -> list[dict[str, Any]]:
    """Give what was counted, by these dimensions."""
    metrics = "input_tokens,output_tokens,unpriced_requests"
    answer = client.get(
        "/v1/costs", params={**DAY, "group_by": ",".join(group_by), "metric": metrics}
    )
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_captured_run_ends_at_the_truth_and_lists_what_was_never_sent(
    run: Path, client: TestClient
) -> None:
    expected = EXPECTED[run.name]
    missing = {*expected.unknown, *expected.unseen}
    sent = [call for call in list_true_calls(run.name) if call.response_ref not in missing]

    for export in exports_of(run):
        export.send(client)

    rows = costs(client, "provider")
    assert (
        sum(row["input_tokens"] for row in rows),
        sum(row["output_tokens"] for row in rows),
    ) == (
        sum(call.tokens[0] for call in sent) + expected.extra[0],
        sum(call.tokens[1] for call in sent) + expected.extra[1],
    )
    unknown = client.get("/v1/events", params={**DAY, "flag": "usage_unknown"}).json()["events"]
    assert tuple(event["response_id"] for event in unknown) == expected.unknown


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_captured_run_in_any_order_and_twice_ends_at_one_result(
    run: Path, seed: int, client: TestClient, database: Database
) -> None:
    exports = list(exports_of(run))
    for export in exports:
        assert export.send(client).status_code == 200
    first = costs(client, "provider", "model", "team", "feature", "tenant")
    shuffled = [*exports, *exports]
    Random(seed).shuffle(shuffled)

    for export in shuffled:
        answer = export.send(client)
        assert (answer.status_code, answer.content) in [(200, b""), (200, b"{}")]

    assert costs(client, "provider", "model", "team", "feature", "tenant") == first
    assert broken_rules(database) == []


def test_an_error_is_a_status_in_the_encoding_of_the_request(client: TestClient) -> None:
    in_json = client.post("/v1/traces", content=b"[", headers={"content-type": "application/json"})
    in_protobuf = client.post(
        "/v1/traces", content=b"\xff", headers={"content-type": "application/x-protobuf"}
    )

    assert (in_json.status_code, in_protobuf.status_code) == (400, 400)
    assert in_json.json()["code"] == 3
    assert in_json.headers["content-type"] == "application/json"
    assert in_protobuf.content.startswith(b"\x08\x03")
    assert in_protobuf.headers["content-type"] == "application/x-protobuf"


def test_another_media_type_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/traces", content=b"x", headers={"content-type": "text/plain"})

    assert answer.status_code == 415


def test_a_compressed_export_is_read(client: TestClient) -> None:
    export = next(exports_of(RUNS[0]))
    packed = Export(export.path, export.content_type, gzip.compress(export.body))

    assert packed.send(client, **{"content-encoding": "gzip"}).status_code == 200
    assert costs(client, "model")


@pytest.mark.parametrize("size", ["wire", "unpacked"])
def test_an_export_too_large_is_refused_before_and_after_unpacking(
    size: str, make_client: MakeClient
) -> None:
    client = make_client(otlp_body_bytes=2_048)
    body = b" " * 4_096
    headers = {"content-type": "application/json"}
    if size == "unpacked":
        body = gzip.compress(body)
        headers["content-encoding"] = "gzip"

    assert client.post("/v1/traces", content=body, headers=headers).status_code == 413


def test_the_probe_of_a_broadcast_is_answered(client: TestClient) -> None:
    headers = {"content-type": "application/json", "x-test-connection": "true"}

    posted = client.post("/v1/traces", content=b"", headers=headers)
    put = client.put("/v1/traces", content=b"{}", headers=headers)

    assert (posted.status_code, put.status_code) == (200, 200)


def test_without_a_key_nothing_is_taken(make_client: MakeClient) -> None:
    client = make_client(auth="keys")
    headers = {"content-type": "application/json"}

    answer = client.post("/v1/traces", content=b"{}", headers=headers)

    assert answer.status_code == 401
    assert answer.json()["code"] == 16


CLAUDE_REQUEST = {
    "event.name": "api_request",
    "event.timestamp": "2026-11-20T03:00:05.250Z",
    "session.id": "s-1",
    "model": "claude-sonnet-4-5-20250929",
    "input_tokens": "28",
    "output_tokens": "212",
    "cache_read_tokens": "18944",
    "cache_creation_tokens": "1048",
    "request_id": "req_011",
}


def attributes_of(values: dict[str, str]) -> list[dict[str, Any]]:
    """Give attributes as OTLP/JSON spells them."""
    return [{"key": name, "value": {"stringValue": text}} for name, text in values.items()]


def test_a_request_of_a_coding_agent_is_counted_once(client: TestClient) -> None:
    resource = {"service.name": "claude-code", "team": "platform"}
    record = {
        "timeUnixNano": "1795143605250000000",
        "body": {"stringValue": "claude_code.api_request"},
        "attributes": attributes_of(CLAUDE_REQUEST),
    }
    scope = {"scope": {"name": "com.anthropic.claude_code.events"}, "logRecords": [record]}
    logs = {
        "resourceLogs": [
            {"resource": {"attributes": attributes_of(resource)}, "scopeLogs": [scope]}
        ]
    }

    answers = [client.post("/v1/logs", json=logs) for _ in range(2)]

    assert [answer.json() for answer in answers] == [{}, {}]
    (row,) = costs(client, "provider", "model", "team")
    assert (row["provider"], row["team"]) == ("anthropic", "platform")
    assert (row["requests"], row["input_tokens"], row["output_tokens"]) == (1, 20_020, 212)


def test_metrics_are_compared_and_never_counted(client: TestClient, database: Database) -> None:
    run = next(run for run in RUNS if run.name.startswith("logfire"))
    metrics = [export for export in exports_of(run) if export.path == "/v1/metrics"]

    for export in [*metrics, *metrics]:
        assert export.send(client).status_code == 200

    assert metrics
    assert rows_of(database, UsageRow) == []
    told = client.get("/v1/metric-checks", params=DAY).json()["checks"]
    kinds = {check["kind"] for check in told if check["metric"] == "gen_ai.client.token.usage"}
    assert kinds == {"input_tokens", "output_tokens"}
    assert all(check["counted"] == 0 for check in told if check["kind"] in kinds)


def test_nothing_is_acknowledged_that_could_not_be_stored(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unavailable("the database is away")

    export = next(exports_of(RUNS[0]))

    with monkeypatch.context() as patched:
        patched.setattr(Database, "transaction", away)
        refused = export.send(client)

    assert (refused.status_code, refused.headers["retry-after"] != "") == (503, True)
    assert export.send(client).status_code == 200
    assert costs(client, "model")


def test_spans_in_the_far_future_are_refused_in_part(client: TestClient) -> None:
    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "00f067aa0ba902b7",
        "name": "chat gpt-4o",
        "startTimeUnixNano": "1900000000000000000",
        "endTimeUnixNano": "1900000001000000000",
        "attributes": attributes_of(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.input_tokens": "5",
            }
        ),
    }
    export = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "x"}, "spans": [span]}]}]}

    answer = client.post("/v1/traces", json=export)

    assert answer.status_code == 200
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert "ahead of now" in answer.json()["partialSuccess"]["errorMessage"]


def test_spoiled_exports_are_refused_and_leave_nothing(
    client: TestClient, database: Database
) -> None:
    random = Random(7)
    body = next(exports_of(RUNS[-2])).body
    statuses = set()

    for _ in range(SPOILED):
        spoiled = bytearray(body[: random.randrange(1, len(body))])
        spoiled[random.randrange(len(spoiled))] = 0xFF
        for content_type in ("application/x-protobuf", "application/json"):
            export = Export("/v1/traces", content_type, bytes(spoiled))
            answer = export.send(client)
            statuses.add(answer.status_code)
            assert answer.status_code in (200, 400, 413)
            if answer.status_code != 200:
                assert answer.headers["content-type"] == content_type

    assert 400 in statuses
    assert broken_rules(database) == []
