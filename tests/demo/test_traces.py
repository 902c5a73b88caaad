"""The replay is the same events every time, in order, in the shape the API takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from typing import Any, cast

import pytest

from tokenbudget.demo import traces
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.events import Door, parse_objects

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
EVENTS = 122_872


def replay(now: datetime) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", list(chain.from_iterable(traces.events(now))))


@pytest.fixture(scope="module")
def replayed() -> list[dict[str, Any]]:
    return replay(NOW)


def test_the_count_is_known_before_the_replay(replayed: list[dict[str, Any]]) -> None:
    assert traces.event_count() == EVENTS
    assert len(replayed) == EVENTS


def test_batches_are_no_longer_than_asked() -> None:
    lengths = Counter(len(batch) for batch in traces.events(NOW, batch_events=1_000))

    assert lengths == {1_000: 122, 872: 1}


def test_the_last_event_occurred_exactly_one_hour_before_now(
    replayed: list[dict[str, Any]],
) -> None:
    assert replayed[-1]["occurred_at"] == "2026-11-21T07:00:00.000000Z"


def test_events_come_in_order_of_time(replayed: list[dict[str, Any]]) -> None:
    instants = [event["occurred_at"] for event in replayed]

    assert all(earlier <= later for earlier, later in pairwise(instants))


def test_every_day_of_the_last_thirty_nine_has_events(replayed: list[dict[str, Any]]) -> None:
    days = {event["occurred_at"][:10] for event in replayed}

    expected = {(NOW - timedelta(days=age)).date().isoformat() for age in range(39)}
    assert expected <= days


def test_replaying_at_the_same_instant_gives_the_same_events(
    replayed: list[dict[str, Any]],
) -> None:
    assert replay(NOW) == replayed


def test_replaying_later_changes_the_times_and_nothing_else(
    replayed: list[dict[str, Any]],
) -> None:
    later = replay(NOW + timedelta(minutes=7))

    assert later[-1]["occurred_at"] == "2026-11-21T07:07:00.000000Z"
    without_time = [{**event, "occurred_at": None} for event in replayed]
    assert [{**event, "occurred_at": None} for event in later] == without_time


def test_now_may_be_in_any_zone() -> None:
    in_new_york = NOW.astimezone(tz=datetime.fromisoformat("2026-11-21T00:00:00-05:00").tzinfo)

    last = list(traces.events(in_new_york))[-1][-1]

    assert last["occurred_at"] == "2026-11-21T07:00:00.000000Z"


def test_a_naive_now_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        next(traces.events(NOW.replace(tzinfo=None)))


def test_no_two_events_share_an_identity(replayed: list[dict[str, Any]]) -> None:
    identities = {(event["source"], event["event_id"]) for event in replayed}

    assert len(identities) == EVENTS


def test_every_event_passes_the_door_of_the_api(replayed: list[dict[str, Any]]) -> None:
    door = Door(now=NOW, future_tolerance=timedelta(0))

    parsed = parse_objects(cast("list[Mapping[str, object]]", replayed), door)

    assert [item for item in parsed if not isinstance(item, UsageEvent)] == []


def test_what_an_event_does_not_know_is_absent_and_not_zero(
    replayed: list[dict[str, Any]],
) -> None:
    code = next(event for event in replayed if event["source"] == "azure-code")
    mooncake = next(event for event in replayed if event["source"] == "mooncake")

    assert set(code["usage"]) == {"input_tokens", "output_tokens"}
    assert "tenant" not in code["tags"]
    assert "reported_cost" not in code
    assert mooncake["usage"]["cached_input_tokens"] == 0


def test_a_retry_is_the_second_attempt_of_the_failed_call_before_it(
    replayed: list[dict[str, Any]],
) -> None:
    by_id = {event["event_id"]: event for event in replayed}
    retries = [event for event in replayed if event["attempt"] == 2]

    first_attempts = [by_id[retry["operation_id"]] for retry in retries]

    assert len(retries) == 410
    assert {first["status"] for first in first_attempts} == {"error"}
    assert {first["attempt"] for first in first_attempts} == {1}
    assert {retry["tags"]["request_type"] for retry in retries} == {"retry"}


def test_some_traffic_has_no_team_and_some_has_failed(replayed: list[dict[str, Any]]) -> None:
    unowned = sum("team" not in event["tags"] for event in replayed)
    failed = sum(event["status"] == "error" for event in replayed)

    assert unowned == 4_944
    assert failed == 834


def test_turns_of_one_conversation_are_one_operation(replayed: list[dict[str, Any]]) -> None:
    conversations = {event["operation_id"] for event in replayed if event["source"] == "mooncake"}

    assert len(conversations) == 4_931


def test_each_client_of_the_client_hours_is_a_tenant(replayed: list[dict[str, Any]]) -> None:
    tenants = {event["tags"].get("tenant") for event in replayed} - {None}

    assert len(tenants) == 241


def test_the_provenance_says_what_is_real_and_what_is_made_up() -> None:
    assert "recorded traffic" in traces.PROVENANCE
    assert "team and feature tags" in traces.PROVENANCE
    assert "made up" in traces.PROVENANCE
