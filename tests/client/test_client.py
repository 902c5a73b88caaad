"""The client before and behind a call, and what it does when nobody answers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.client.conftest import MakeClient
from tests.server_process import ServerProcess
from tokenbudget.client import (
    AsyncClient,
    Call,
    CheckRefused,
    Decision,
    Manner,
    QuotaDenied,
    QuotaUnavailable,
    tagged,
)

GPT: dict[str, Any] = {"provider": "openai", "model": "gpt-4o"}
USAGE = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
COST = "0.003500000"
PATIENCE = 10.0
MANY = 1_200


def costs_of(server: ServerProcess, tenant: str) -> list[dict[str, Any]]:
    """Give what a tenant has cost today, by feature."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    window = {"start": today - timedelta(days=1), "end": today + timedelta(days=1)}
    answer = httpx.get(
        f"{server.url}/v1/costs",
        params={
            **{name: instant.isoformat() for name, instant in window.items()},
            "group_by": ["team", "feature"],
            "filter": f"tenant:{tenant}",
        },
    )
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


def test_a_call_is_checked_held_and_recorded(
    make_client: MakeClient, server: ServerProcess
) -> None:
    client = make_client()

    with client.operation(feature="summarise", tenant="acme") as op:
        with op.call(**GPT, input_tokens=1_000, max_output_tokens=200) as call:
            permit = call.permit
            call.usage({"id": "chatcmpl-1", "model": "gpt-4o", "usage": USAGE})
        assert client.outlet.flush(PATIENCE)

    assert permit.decision is Decision.ALLOW
    hold = httpx.get(f"{server.url}/v1/quota/holds/{permit.hold_id}").json()
    assert hold["state"] == "settled"
    (row,) = costs_of(server, "acme")
    assert (row["team"], row["feature"], row["cost"]) == ("growth", "summarise", COST)


def test_a_reduced_call_learns_its_limits(make_client: MakeClient) -> None:
    call = Call(**GPT, input_tokens=1_000, max_output_tokens=10_000, tags={"tenant": "reduced"})

    permit = make_client().check(call)

    assert permit.decision is Decision.REDUCE
    assert permit.max_output_tokens == 1_750


def test_a_denied_call_is_not_made(make_client: MakeClient, server: ServerProcess) -> None:
    client = make_client()
    is_made = False

    with (
        client.operation(tenant="poor") as op,
        pytest.raises(QuotaDenied) as denied,
        op.call(**GPT, input_tokens=1_000_000),
    ):
        is_made = True

    assert not is_made
    assert denied.value.permit.reasons[0].code == "budget_exhausted"
    assert denied.value.permit.binding is not None
    assert denied.value.permit.binding.budget == "small"
    assert len(client.outlet.spool) == 0


def test_a_wrong_check_is_an_error_and_no_decision(make_client: MakeClient) -> None:
    with pytest.raises(CheckRefused, match="input_tokens"):
        make_client().check(Call(**GPT, input_tokens=-1))


def test_a_call_that_was_not_sent_gives_its_hold_back(
    make_client: MakeClient, server: ServerProcess
) -> None:
    client = make_client()

    with client.operation(tenant="idle") as op, op.call(**GPT, input_tokens=10) as call:
        call.not_sent()

    hold = httpx.get(f"{server.url}/v1/quota/holds/{call.permit.hold_id}").json()
    assert hold["state"] == "released"
    assert len(client.outlet.spool) == 0


def test_an_error_is_a_failed_attempt_and_the_next_call_the_second(make_client: MakeClient) -> None:
    client = make_client("http://127.0.0.1:9", timeout_seconds=0.2)

    with client.operation(tenant="flaky") as op:
        with pytest.raises(ConnectionError), op.call(**GPT):
            raise ConnectionError("the provider hung up")
        with op.call(**GPT) as second:
            second.usage(USAGE)

    first, last = (item.event for item in client.outlet.spool.oldest(2))
    assert (first["status"], first["attempt"]) == ("error", 1)
    assert (last["status"], last["attempt"]) == ("ok", 2)
    assert first["operation_id"] == last["operation_id"]


def test_usage_that_is_never_told_is_unknown_and_not_zero(make_client: MakeClient) -> None:
    client = make_client("http://127.0.0.1:9", timeout_seconds=0.2)

    with client.operation() as op, op.call(**GPT):
        pass

    (item,) = client.outlet.spool.oldest(1)
    assert item.event["status"] == "unknown"
    assert not {"usage", "provider_usage"} & item.event.keys()


def test_a_service_that_is_down_costs_no_more_than_the_time_out(
    make_client: MakeClient, absent_url: str
) -> None:
    client = make_client(absent_url, timeout_seconds=0.3)

    begun = perf_counter()
    permit = client.check(Call(**GPT))

    assert permit.decision is Decision.UNCHECKED
    assert perf_counter() - begun < 1.0


def test_a_closed_client_makes_no_call_when_nobody_decides(
    make_client: MakeClient, absent_url: str
) -> None:
    client = make_client(absent_url, timeout_seconds=0.3, fail_mode="closed")

    with pytest.raises(QuotaUnavailable):
        client.check(Call(**GPT))


def test_tags_of_blocks_reach_the_calls_inside(make_client: MakeClient, absent_url: str) -> None:
    client = make_client(absent_url, timeout_seconds=0.2)

    with (
        tagged(environment="prod", tenant="outer"),
        client.operation(feature="chat") as op,
        tagged(tenant="inner"),
        op.call(**GPT) as call,
    ):
        call.usage(input_tokens=5)

    (item,) = client.outlet.spool.oldest(1)
    assert item.event["tags"] == {
        "team": "growth",
        "feature": "chat",
        "environment": "prod",
        "tenant": "inner",
    }


def test_no_text_of_prompt_or_answer_leaves_the_process(
    make_client: MakeClient, absent_url: str
) -> None:
    client = make_client(absent_url, timeout_seconds=0.2)
    message = SimpleNamespace(content="a secret answer")
    response = SimpleNamespace(
        id="chatcmpl-2",
        model="gpt-4o-2024-08-06",
        usage=SimpleNamespace(prompt_tokens=3, completion_tokens=4),
        choices=[SimpleNamespace(message=message)],
    )

    with client.operation() as op, op.call(**GPT) as call:
        call.usage(response)

    (item,) = client.outlet.spool.oldest(1)
    assert "secret" not in str(item.event)
    assert item.event["provider_usage"] == {"prompt_tokens": 3, "completion_tokens": 4}
    assert item.event["model"] == "gpt-4o-2024-08-06"
    assert item.event["response_id"] == "chatcmpl-2"


def test_events_of_a_process_that_was_killed_are_sent_by_the_next(
    make_client: MakeClient, server: ServerProcess, absent_url: str, tmp_path: Path
) -> None:
    program = (
        "import os, sys; from tokenbudget.client import Client, Manner\n"
        "client = Client(sys.argv[1], manner=Manner(spool_directory=sys.argv[2]))\n"
        "with client.operation(tenant='killed') as op, op.call(provider='openai', model='gpt-4o')"
        " as call: call.usage(input_tokens=1000, output_tokens=100)\n"
        "os._exit(9)\n"
    )
    command = [sys.executable, "-c", program, absent_url, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 9

    client = make_client()

    assert len(client.outlet.spool) == 1
    assert client.outlet.flush(PATIENCE)
    assert [row["cost"] for row in costs_of(server, "killed")] == [COST]


def test_a_full_spool_drops_what_is_new_and_says_so(
    make_client: MakeClient, absent_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(absent_url, max_spooled=2)

    kept = [client.record({"event_id": str(number)}) for number in range(3)]

    assert kept == [True, True, False]
    assert client.outlet.spool.dropped == 1
    assert "1 so far" in caplog.text


def test_what_the_service_rejects_is_set_aside_with_the_reason(make_client: MakeClient) -> None:
    client = make_client()

    client.record({"event_id": "bad", "provider": "openai", "model": "gpt-4o"})

    assert client.outlet.flush(PATIENCE)
    ((event, reason),) = client.outlet.spool.refused()
    assert event["event_id"] == "bad"
    assert "occurred_at" in reason


def test_many_events_go_out_in_batches(make_client: MakeClient, server: ServerProcess) -> None:
    client = make_client()
    event = {**GPT, "occurred_at": datetime.now(UTC).isoformat(), "tags": {"tenant": "many"}}

    for number in range(MANY):
        client.record({**event, "event_id": f"b{number}", "usage": {"input_tokens": 1}})

    assert client.outlet.flush(PATIENCE)
    assert [row["requests"] for row in costs_of(server, "many")] == [MANY]


async def _one_async_call(url: str, directory: Path) -> str:
    manner = Manner(spool_directory=directory, timeout_seconds=5.0)
    async with AsyncClient(url, tags={"team": "growth"}, manner=manner) as client:
        async with (
            client.operation(tenant="async") as op,
            op.call(**GPT, input_tokens=1_000, max_output_tokens=100) as call,
        ):
            call.usage({"usage": USAGE})
        assert client.outlet.flush(PATIENCE)
    return str(call.permit.hold_id)


def test_the_async_client_does_the_same(server: ServerProcess, tmp_path: Path) -> None:
    hold_id = asyncio.run(_one_async_call(server.url, tmp_path))

    hold = httpx.get(f"{server.url}/v1/quota/holds/{hold_id}").json()
    assert hold["state"] == "settled"
    assert [row["cost"] for row in costs_of(server, "async")] == [COST]
