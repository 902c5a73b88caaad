"""LiteLLM's fields as tags: as the service's own door reads them, and before a call is made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.litellm_samples import RUNS, make_record, recorded_requests
from tokenbudget.domain.allocation import TAG_DIMENSIONS
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.events import MAX_TAGS as MAX_EVENT_TAGS
from tokenbudget.formats.events import Door
from tokenbudget.formats.foreign_records import MAX_KEPT_CHARACTERS
from tokenbudget.formats.litellm import CallbackDoor, read_callback
from tokenbudget.gateways._records import answer_of, facts_of, operation_of
from tokenbudget.gateways._tags import (
    DIMENSIONS,
    MAX_CHARACTERS,
    MAX_TAGS,
    tags_of_record,
    tags_of_request,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DOOR = CallbackDoor(Door(NOW, timedelta(days=1)), lambda name: name)
KEY = {
    "user_api_key_team_alias": "support",
    "user_api_key_team_id": "t-1",
    "user_api_key_org_id": "o-1",
    "user_api_key_project_alias": "helpdesk",
    "user_api_key_alias": "bot",
    "user_api_key_user_id": "default_user_id",
}


def records_of(run: str) -> list[dict[str, Any]]:
    """Give the records of a recorded run, as LiteLLM made them."""
    texts = [request.body.decode() for request in recorded_requests(run)]
    found = []
    for text in texts:
        lines = [text] if text.startswith("[") else text.splitlines()
        for line in lines:
            read = msgspec.json.decode(line)
            found.extend(read if isinstance(read, list) else [read])
    return found


def read_by_door(record: dict[str, Any]) -> UsageEvent:
    (reading,) = read_callback(msgspec.json.encode(record), DOOR, max_records=1)
    assert isinstance(reading.item, UsageEvent), reading.item
    return reading.item


@pytest.mark.parametrize("run", RUNS)
def test_both_doors_read_the_same_of_what_litellm_really_sent(run: str) -> None:
    records = records_of(run)
    assert records

    for record in records:
        event, facts, answer = read_by_door(record), facts_of(record), answer_of(record)
        assert tags_of_record(record) == dict(event.tags)
        assert facts["provider"] == event.provider
        assert facts["model"] == event.model
        assert answer["id"] == event.response_ref
        assert facts.get("latency_ms") == event.latency_ms
        assert operation_of(record["call_type"]) == event.operation
        assert (answer["usage"] is None) == (not any((event.quantities or {}).values()))


def test_both_doors_read_the_same_of_every_field_that_is_a_tag() -> None:
    record = make_record(
        request_tags=["feature:summarise", "beta", "alpha", "User-Agent: curl", "team:forged"],
        end_user="u-7",
        api_base="https://eu.example.com:8443/v1?key=secret",
        metadata={
            **KEY,
            "spend_logs_metadata": {"tenant": "acme", "feature": "other", "long": "x" * 300},
            "requester_custom_headers": {"x-environment": "prod", "x-secret": "s"},
            "requester_metadata": {"session_id": "s-1"},
        },
    )

    tags = tags_of_record(record)

    assert tags == dict(read_by_door(record).tags)
    assert tags == {
        "team": "support",
        "organization": "o-1",
        "project": "helpdesk",
        "key_alias": "bot",
        "user": "u-7",
        "session_id": "s-1",
        "api_host": "eu.example.com",
        "feature": "summarise",
        "request_tags": "alpha,beta",
        "tenant": "acme",
        "environment": "prod",
    }


def test_the_bounds_and_dimensions_are_those_of_the_service() -> None:
    assert DIMENSIONS == TAG_DIMENSIONS
    assert (MAX_TAGS, MAX_CHARACTERS) == (MAX_EVENT_TAGS, MAX_KEPT_CHARACTERS)


def test_a_request_has_the_tags_that_its_record_will_have() -> None:
    metadata = {
        **KEY,
        "tags": ["feature:summarise", "beta"],
        "spend_logs_metadata": {"tenant": "acme"},
        "headers": {"x-environment": "prod", "authorization": "secret"},
        "requester_metadata": {"session_id": "s-1"},
    }
    record = make_record(
        request_tags=metadata["tags"],
        end_user="u-7",
        api_base=None,
        metadata={**metadata, "requester_custom_headers": {"x-environment": "prod"}},
    )

    assert tags_of_request({"user": "u-7"}, metadata) == tags_of_record(record)


def test_what_the_administrator_wrote_beats_the_key_and_the_key_beats_the_caller() -> None:
    own = {"team": "forged", "feature": "mine", "project": "forged", "nested": {"a": 1}}
    metadata = {
        **KEY,
        "user_api_key_metadata": {"tokenbudget": {"team": "pinned", "beta": True}},
        "user_api_key_team_metadata": {"tokenbudget": {"team": "other", "tenant": "acme"}},
        "requester_metadata": {"tokenbudget": own},
        "tags": ["feature:theirs"],
        "headers": {"baggage": "tokenbudget.prompt_version=v2,other=1"},
    }

    assert tags_of_request({}, metadata) == {
        "team": "pinned",
        "beta": "true",
        "tenant": "acme",
        "organization": "o-1",
        "project": "helpdesk",
        "key_alias": "bot",
        "feature": "mine",
        "prompt_version": "v2",
    }


@pytest.mark.parametrize("fault", [None, "text", {"a": 1}, ["", 7, None, ":x", "x:"]])
def test_tags_that_do_not_fit_stop_nothing(fault: object) -> None:
    fields = ("tags", "headers", "requester_metadata", "spend_logs_metadata")

    tags = tags_of_request({"metadata": fault}, dict.fromkeys(fields, fault))

    assert all(value.strip() for value in tags.values())
