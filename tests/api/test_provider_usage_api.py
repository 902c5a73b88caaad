"""Providers' own usage objects, failed and repeated attempts, through ``POST /v1/events``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.builders import broken_rules, cents, make_event, rows_of
from tokenbudget.bootstrap import Services
from tokenbudget.domain.usage import COMMON_UNITS
from tokenbudget.store.db import Database
from tokenbudget.store.tables import UsageRow

CASES_DIRECTORY = Path(__file__).parents[1] / "data" / "provider_usage"
FAMILIES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(CASES_DIRECTORY.glob("*.json"))
}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_providers_usage_object_arrives_in_our_units(
    client: TestClient, services: Services, family: str
) -> None:
    cases: list[dict[str, Any]] = FAMILIES[family]
    events = [
        make_event(
            event_id=f"e{number}",
            provider=case["provider"],
            usage=None,
            provider_usage=case["usage"],
        )
        for number, case in enumerate(cases)
    ]

    answer = client.post("/v1/events", json=events).json()

    assert (answer["accepted"], answer["rejected"]) == (len(cases), [])
    stored = {row["event_ref"]: row for row in rows_of(services.database, UsageRow)}
    for number, case in enumerate(cases):
        row = stored[f"e{number}"]
        assert _quantities(row) == case["expected"]["quantities"], case["case"]
        assert row["reported_nanos"] == case["expected"].get("reported_nanos"), case["case"]
        assert set(case["expected"].get("flags", ())) <= set((row["flags"] or "").split(","))
    assert broken_rules(services.database) == []


def test_an_aborted_stream_is_charged_for_what_was_used(
    client: TestClient, services: Services
) -> None:
    client.post(
        "/v1/events",
        json=make_event(
            status="cancelled",
            usage=None,
            provider_usage={"prompt_tokens": 10_000, "completion_tokens": 2_500},
        ),
    )

    [row] = _charged(services.database)
    assert (row["status"], row["output_tokens"], row["effective_nanos"]) == (
        "cancelled",
        2_500,
        15_000_000,
    )


def test_a_failed_attempt_of_unknown_usage_is_unknown_and_not_free(
    client: TestClient, services: Services
) -> None:
    answer = client.post("/v1/events", json=make_event(status="timeout", usage=None)).json()

    assert (answer["accepted"], answer["unpriced"]) == (1, 1)
    [row] = _charged(services.database)
    assert (row["status"], row["input_tokens"], row["effective_nanos"]) == ("timeout", None, None)


def test_attempts_of_one_operation_are_each_charged_and_told_apart(
    client: TestClient, services: Services
) -> None:
    attempts = [
        make_event(
            event_id=f"e{attempt}",
            attempt=attempt,
            operation_id="op-7",
            status=status,
            usage=cents(attempt),
        )
        for attempt, status in ((1, "error"), (2, "timeout"), (3, "ok"))
    ]

    answer = client.post("/v1/events", json=attempts).json()

    rows = _charged(services.database)
    assert answer["accepted"] == 3
    assert [(row["attempt"], row["status"], row["is_retry"]) for row in rows] == [
        (1, "error", False),
        (2, "timeout", True),
        (3, "ok", True),
    ]
    assert {bytes(row["operation_ref"]) for row in rows} == {b"op-7"}
    assert sum(row["effective_nanos"] for row in rows) == 60_000_000


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_path_tells_every_method_it_has(make_client: MakeClient) -> None:
    client = make_client()

    events = client.patch("/v1/events")
    budgets = client.delete("/v1/budgets")
    callback = client.get("/v1/integrations/litellm")

    assert (events.status_code, events.json()["code"]) == (405, "method_not_allowed")
    assert set(events.headers["allow"].split(", ")) >= {"POST", "GET"}
    assert budgets.headers["allow"] == "GET, POST"
    assert callback.headers["allow"] == "POST"


def _quantities(row: sa.RowMapping) -> dict[str, int]:
    counted = {unit: row[unit] for unit in COMMON_UNITS if row[unit] is not None}
    return {**counted, **(row["other_units"] or {})}


def _charged(database: Database) -> Sequence[sa.RowMapping]:
    """Give usage beside its dimensions and charge."""
    statement = (
        "SELECT u.*, d.status, d.is_retry, c.effective_nanos FROM usage u "
        "JOIN dimension_sets d ON d.id = u.dimension_set_id "
        "JOIN charges c ON c.usage_id = u.id ORDER BY u.id"
    )
    with database.reading() as session:
        return session.connection().execute(sa.text(statement)).mappings().all()
