"""``POST /v1/integrations/litellm``: a proxy's callback is never refused and never loses a call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, make_event, rows_of, table_away
from tests.conftest import FrozenClock
from tests.litellm_samples import (
    CALLBACK_PATH,
    PROMPT,
    RUNS,
    CallbackRequest,
    make_record,
    recorded_calls,
    recorded_requests,
)
from tokenbudget.bootstrap import Services, open_price_list
from tokenbudget.domain.errors import Unavailable
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.services.keys import create_key
from tokenbudget.settings import load_settings
from tokenbudget.store.db import Database
from tokenbudget.store.tables import ChargeRow, SetAsideRow, UsageRow

Order = Callable[[Sequence[CallbackRequest]], list[CallbackRequest]]

# Worked out by hand from the rates a million tokens: gpt-5-mini 0.25, cached 0.025, out 2;
# Claude Sonnet 4.5 3, cached 0.30, written 3.75 and 6, out 15, a search 0.01 each;
# Gemini 2.5 Flash 0.30, cached 0.03, out 2.50; text-embedding-3-small 0.02.
COSTS_NANOS = {
    "gpt-5-mini": [736_650, 738_900],
    "claude-sonnet-4-5-20250929": [33_930_200, 33_948_200],
    "gemini-2.5-flash": [1_787_520],
    "text-embedding-3-small": [960],
}


@pytest.fixture(scope="module")
def shipped_prices(tmp_path_factory: pytest.TempPathFactory) -> PriceList:
    """Give the prices that ship."""
    return open_price_list(load_settings(data_dir=tmp_path_factory.mktemp("prices")))


def post(client: TestClient, *records: object, **headers: str) -> Any:
    """Post records as one array and give the answer's document."""
    answer = client.post(CALLBACK_PATH, json=list(records), headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def in_order(requests: Sequence[CallbackRequest]) -> list[CallbackRequest]:
    """Give the requests as they came, each twice."""
    return [request for request in requests for _ in range(2)]


def backwards(requests: Sequence[CallbackRequest]) -> list[CallbackRequest]:
    """Give the requests from the last to the first, and then all of them again."""
    return [*reversed(requests), *requests]


@pytest.mark.parametrize("arrange", [in_order, backwards])
@pytest.mark.parametrize("run", RUNS)
def test_a_recorded_run_ends_at_what_the_provider_sent(
    make_client: MakeClient,
    services: Services,
    shipped_prices: PriceList,
    clock: FrozenClock,
    run: str,
    arrange: Order,
) -> None:
    clock.advance(days=1)
    client = make_client(on=replace(services, price_list=shipped_prices))

    answers = [
        client.post(CALLBACK_PATH, content=request.body, headers=request.headers)
        for request in arrange(recorded_requests(run))
    ]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert sum(answer.json()["accepted"] for answer in answers) == 7
    assert sum(answer.json()["duplicates"] for answer in answers) == 7
    assert all(answer.json()["set_aside"] == [] for answer in answers)
    usages = rows_of(services.database, UsageRow)
    sent = [call["usage"] for call in recorded_calls(run) if call["usage_sent"]]
    assert _totals(usages) == _sent_totals(sent)
    assert _costs(services.database) == COSTS_NANOS
    assert broken_rules(services.database) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_proxys_own_figure_stands_beside_ours(
    make_client: MakeClient, services: Services, shipped_prices: PriceList, clock: FrozenClock
) -> None:
    clock.advance(days=1)
    client = make_client(on=replace(services, price_list=shipped_prices))
    for request in recorded_requests("json_array"):
        client.post(CALLBACK_PATH, content=request.body, headers=request.headers)

    reported = {row["id"]: row["reported_nanos"] for row in rows_of(services.database, UsageRow)}
    rated = {
        row["usage_id"]: row["effective_nanos"] for row in rows_of(services.database, ChargeRow)
    }

    assert sorted(nanos for nanos in reported.values() if nanos) == sorted(
        nanos for figures in COSTS_NANOS.values() for nanos in figures
    )
    assert {rated[usage_id] - nanos for usage_id, nanos in reported.items() if nanos} == {0}


def test_the_call_that_was_refused_is_counted_and_costs_nothing(
    make_client: MakeClient, services: Services, shipped_prices: PriceList, clock: FrozenClock
) -> None:
    clock.advance(days=1)
    client = make_client(on=replace(services, price_list=shipped_prices))
    for request in recorded_requests("ndjson"):
        client.post(CALLBACK_PATH, content=request.body, headers=request.headers)

    failed = _rows(services.database, "status <> 'ok'")

    assert [(row["status"], row["model"], row["effective_nanos"]) for row in failed] == [
        ("error", "does-not-exist", 0)
    ]
    assert (failed[0]["input_tokens"], failed[0]["output_tokens"]) == (0, 0)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "body",
    [
        json.dumps([make_record()]),
        json.dumps(make_record()),
        json.dumps(make_record(), indent=1),
        json.dumps(make_record()) + "\n\n",
    ],
)
@pytest.mark.parametrize("media_type", ["application/json", "text/plain", ""])
def test_the_shape_of_the_body_is_seen_whatever_its_media_type_says(
    client: TestClient, body: str, media_type: str
) -> None:
    answer = client.post(CALLBACK_PATH, content=body, headers={"content-type": media_type})

    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)


def test_a_bad_record_is_set_aside_and_spoils_no_other(
    client: TestClient, services: Services
) -> None:
    nameless = make_record(litellm_call_id="call-2", id="chatcmpl-2", model=None)

    answer = post(client, nameless, make_record(), 7)

    assert (answer["accepted"], answer["duplicates"], answer["unpriced"]) == (1, 0, 0)
    assert [
        (entry["index"], entry["event_id"], entry["code"]) for entry in answer["set_aside"]
    ] == [
        (0, "call-2", "missing_field"),
        (2, None, "malformed_json"),
    ]
    kept = rows_of(services.database, SetAsideRow)
    assert sorted(row["reason"] for row in kept) == ["malformed_json", "missing_field"]
    assert [row["event_ref"] for row in rows_of(services.database, UsageRow)] == ["call-1"]


def test_no_prompt_is_stored(client: TestClient, services: Services) -> None:
    post(client, make_record(), make_record(litellm_call_id="call-2", model=None))

    [row] = rows_of(services.database, SetAsideRow)
    assert PROMPT not in row["kept"]
    assert "secret" not in row["kept"]
    assert json.loads(row["kept"])["api_base"] == "api.acme.test"
    assert PROMPT not in repr([rows_of(services.database, UsageRow), row])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_of_a_body_that_is_no_json_only_its_size_and_digest_are_kept(
    client: TestClient, services: Services
) -> None:
    answer = client.post(CALLBACK_PATH, content=b'[{"messages": "' + PROMPT.encode())

    assert (answer.status_code, answer.json()["accepted"]) == (200, 0)
    [row] = rows_of(services.database, SetAsideRow)
    assert (row["kept"], row["size_bytes"], row["reason"]) == (None, 38, "malformed_json")
    assert len(row["sha256"]) == 64


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_empty_body_is_nothing_to_do(client: TestClient, services: Services) -> None:
    answer = client.post(CALLBACK_PATH, content=b" \n")

    assert answer.json() == {"accepted": 0, "duplicates": 0, "unpriced": 0, "set_aside": []}
    assert rows_of(services.database, SetAsideRow) == []


def test_what_the_ledger_rejects_is_set_aside_once_however_often_it_comes(
    client: TestClient, services: Services
) -> None:
    post(client, make_record())
    other = make_record(model="acme/stepped")

    answers = [post(client, make_record(litellm_call_id="c2", id="r2"), other) for _ in range(2)]

    assert [(answer["accepted"], answer["duplicates"]) for answer in answers] == [(1, 0), (0, 1)]
    assert [entry["code"] for answer in answers for entry in answer["set_aside"]] == [
        "conflict"
    ] * 2
    assert [entry["index"] for answer in answers for entry in answer["set_aside"]] == [1, 1]
    [row] = rows_of(services.database, SetAsideRow)
    assert (row["reason"], row["event_ref"]) == ("conflict", "call-1")


def test_a_record_set_aside_becomes_usage_once_it_is_understood(
    client: TestClient, services: Services, clock: FrozenClock
) -> None:
    early = make_record(startTime=1795176000.25 + 3 * 86_400)
    post(client, early)
    [waiting] = client.get("/v1/set-aside").json()["records"]

    too_soon = client.post(f"/v1/set-aside/{waiting['id']}/retry").json()
    clock.advance(days=3)
    retried = client.post(f"/v1/set-aside/{waiting['id']}/retry").json()
    again = client.post(f"/v1/set-aside/{waiting['id']}/retry").json()

    assert waiting["code"] == too_soon["code"] == "occurred_in_future"
    assert (too_soon["recorded"], retried["recorded"], again["recorded"]) == (False, True, True)
    assert client.get("/v1/set-aside").json() == {"records": [], "next": None}
    [recorded] = client.get("/v1/set-aside", params={"recorded": True}).json()["records"]
    assert recorded["recorded_at"] == "2026-11-23T12:00:00Z"
    [usage] = rows_of(services.database, UsageRow)
    assert usage["event_ref"] == "call-1"
    assert post(client, early)["duplicates"] == 1


def test_a_retry_counts_for_the_key_it_came_by(
    make_client: MakeClient, services: Services, clock: FrozenClock
) -> None:
    client = make_client(auth="keys")
    keys = {
        scope: create_key(
            services.database,
            name=scope,
            scopes=[scope],
            pinned_tags={"team": f"team-of-{scope}"},
            now=clock(),
        ).secret
        for scope in ("ingest", "admin")
    }
    headers = {name: {"authorization": f"Bearer {secret}"} for name, secret in keys.items()}
    post(client, make_record(startTime=1795176000 + 3 * 86_400), **headers["ingest"])
    clock.advance(days=3)

    client.post("/v1/set-aside/1/retry", headers=headers["admin"])

    assert [row["team"] for row in _rows(services.database, "1 = 1")] == ["team-of-ingest"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_could_not_be_read_cannot_be_tried_again(client: TestClient) -> None:
    client.post(CALLBACK_PATH, content=b"no json")

    unreadable = client.post("/v1/set-aside/1/retry")
    nobody = client.post("/v1/set-aside/2/retry")

    assert (unreadable.status_code, unreadable.json()["code"]) == (409, "conflict")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_list_of_what_was_set_aside_is_read_page_by_page(client: TestClient) -> None:
    post(client, *(make_record(litellm_call_id=f"c{n}", model=None) for n in range(5)))

    pages: list[list[int]] = []
    cursor: dict[str, str] = {}
    while len(pages) < 5:
        page = client.get("/v1/set-aside", params={"limit": 2, **cursor}).json()
        pages.append([record["id"] for record in page["records"]])
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}

    assert pages == [[5, 4], [3, 2], [1]]
    assert client.get("/v1/set-aside", params={"cursor": "nonsense"}).status_code == 422


def test_one_record_the_writer_fails_on_is_set_aside_and_the_rest_recorded(
    make_client: MakeClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    state = client.app.state.tokenbudget  # type: ignore[attr-defined]
    apply = state.writer._apply

    def fail_on_poison(works: Sequence[Any]) -> Any:
        if any(item.event_ref == "poison" for work in works for item in work.items):
            raise LookupError("no such thing")
        return apply(works)

    monkeypatch.setattr(state.writer, "_apply", fail_on_poison)
    records = [make_record(litellm_call_id=name, id=name) for name in ("a", "poison", "b")]

    answer = post(client, *records)

    assert (answer["accepted"], len(answer["set_aside"])) == (2, 1)
    assert answer["set_aside"][0] == {
        "index": 1,
        "event_id": "poison",
        "code": "recording_failed",
        "detail": "the writer failed: LookupError",
    }
    monkeypatch.undo()
    assert client.post("/v1/set-aside/1/retry").json()["recorded"] is True
    assert len(rows_of(services.database, UsageRow)) == 3


def test_a_database_that_cannot_answer_is_503_so_that_the_proxy_tries_again(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_works: Sequence[Any]) -> Any:
        raise Unavailable("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(client.app.state.tokenbudget.writer, "_apply", fail)  # type: ignore[attr-defined]
        refused = client.post(CALLBACK_PATH, json=[make_record()])

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert rows_of(services.database, SetAsideRow) == []
    assert post(client, make_record())["accepted"] == 1


def test_a_table_that_fails_the_writer_loses_nothing(
    client: TestClient, services: Services
) -> None:
    with table_away(services.database, "usage"):
        refused = client.post(CALLBACK_PATH, json=[make_record()])

    kept = len(rows_of(services.database, SetAsideRow))
    assert (refused.status_code, kept) in [(200, 1), (503, 0)]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_callback_may_be_larger_than_a_batch_of_events(client: TestClient) -> None:
    record = make_record(messages=[{"content": "word " * 2_500_000}])

    answer = client.post(CALLBACK_PATH, json=[record])

    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_more_records_than_the_limit_are_too_many(make_client: MakeClient) -> None:
    client = make_client(max_items=2)

    answer = client.post(CALLBACK_PATH, json=[make_record()] * 3)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_many_records_are_recorded_in_pieces_and_answered_by_their_place(
    make_client: MakeClient, services: Services
) -> None:
    client = make_client(stream_piece_items=2)
    post(client, make_record(litellm_call_id="c3", id="r3"))
    records = [make_record(litellm_call_id=f"c{n}", id=f"r{n}") for n in range(5)]
    records[3]["model"] = "acme/stepped"
    records[1]["model"] = None

    answer = post(client, *records)

    assert (answer["accepted"], answer["duplicates"]) == (3, 0)
    assert [(entry["index"], entry["code"]) for entry in answer["set_aside"]] == [
        (1, "missing_field"),
        (3, "conflict"),
    ]
    assert broken_rules(services.database) == []


def test_a_call_that_both_the_caller_and_the_proxy_tell_of_is_one_charge(
    client: TestClient, services: Services
) -> None:
    event = make_event(response_id="chatcmpl-1", source="checkout")
    client.post("/v1/events", json=event)
    post(client, make_record())

    standing = _rows(services.database, "1 = 1")

    assert len(rows_of(services.database, UsageRow)) == 2
    assert sum(row["effective_nanos"] or 0 for row in standing) == 20_000_000
    assert broken_rules(services.database) == []


def _totals(usages: Sequence[sa.RowMapping]) -> dict[str, int]:
    totals = {
        unit: sum(row[unit] or 0 for row in usages)
        for unit in (
            "input_tokens",
            "cached_input_tokens",
            "cache_write_5m_tokens",
            "cache_write_1h_tokens",
            "output_tokens",
            "reasoning_tokens",
        )
    }
    totals["web_searches"] = sum(
        (row["other_units"] or {}).get("web_searches", 0) for row in usages
    )
    return totals


def _sent_totals(usages: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Add up what the provider sent, each shape by its own rules."""
    totals = dict.fromkeys(
        (
            "input_tokens",
            "cached_input_tokens",
            "cache_write_5m_tokens",
            "cache_write_1h_tokens",
            "output_tokens",
            "reasoning_tokens",
            "web_searches",
        ),
        0,
    )
    for usage in usages:
        for unit, count in _sent(usage).items():
            totals[unit] += count
    return totals


def _sent(usage: dict[str, Any]) -> dict[str, int]:
    if "prompt_tokens" in usage:
        return {
            "input_tokens": usage["prompt_tokens"],
            "cached_input_tokens": usage.get("prompt_tokens_details", {}).get("cached_tokens", 0),
            "output_tokens": usage.get("completion_tokens", 0),
            "reasoning_tokens": usage.get("completion_tokens_details", {}).get(
                "reasoning_tokens", 0
            ),
        }
    if "promptTokenCount" in usage:
        return {
            "input_tokens": usage["promptTokenCount"],
            "cached_input_tokens": usage["cachedContentTokenCount"],
            "output_tokens": usage["candidatesTokenCount"] + usage["thoughtsTokenCount"],
            "reasoning_tokens": usage["thoughtsTokenCount"],
        }
    written = usage["cache_creation"]
    return {
        "input_tokens": usage["input_tokens"]
        + usage["cache_read_input_tokens"]
        + usage["cache_creation_input_tokens"],
        "cached_input_tokens": usage["cache_read_input_tokens"],
        "cache_write_5m_tokens": written["ephemeral_5m_input_tokens"],
        "cache_write_1h_tokens": written["ephemeral_1h_input_tokens"],
        "output_tokens": usage["output_tokens"],
        "web_searches": usage["server_tool_use"]["web_search_requests"],
    }


def _costs(database: Database) -> dict[str, list[int]]:
    costs: dict[str, list[int]] = {}
    for row in _rows(database, "d.status = 'ok'"):
        costs.setdefault(row["model"], []).append(row["effective_nanos"])
    return {model: sorted(nanos) for model, nanos in costs.items()}


def _rows(database: Database, condition: str) -> Sequence[sa.RowMapping]:
    """Give usage beside its dimensions and charge."""
    statement = (
        "SELECT u.*, d.team, d.status, d.model, c.effective_nanos FROM usage u "
        "JOIN dimension_sets d ON d.id = u.dimension_set_id "
        f"JOIN charges c ON c.usage_id = u.id WHERE {condition} ORDER BY u.id"
    )
    with database.reading() as session:
        return session.connection().execute(sa.text(statement)).mappings().all()
