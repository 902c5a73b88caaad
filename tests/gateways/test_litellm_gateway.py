"""A real LiteLLM proxy with our handler, a provider on loopback and a running service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from tests.client.fake_provider import FakeProvider, providing
from tests.gateways.litellm_environment import (
    MASTER_KEY,
    Proxy,
    litellm_python,
    running_proxy,
)
from tests.litellm_samples import CALLBACK_PATH, make_record
from tests.server_process import ServerProcess, free_port, serving

PATIENCE = 20.0
BUDGETS: tuple[dict[str, Any], ...] = (
    {
        "id": "small",
        "limit": "0.02",
        "mode": "hard",
        "selector": {"feature": "summarise"},
        "split_by": ["tenant"],
        "fail_mode": "open",
    },
    {"id": "strict", "limit": "9", "mode": "hard", "selector": {"tenant": "strict"}},
)
# 800 tokens at 2.50, 200 cached ones at 1.25 and 100 of output at 10.00 dollars a million.
COST = "0.003250000"
# 40 tokens at 0.02 dollars a million.
EMBEDDING_COST = "0.000000800"
MODELS = {
    "smart": "gpt-4o",
    "refusing": "status-400",
    "breaking": "status-500",
    "flaky": "once-429",
    "embed": "text-embedding-3-small",
}
PROMPT = "A question that stays here."


def config_of(provider: FakeProvider) -> str:
    """Give the proxy's configuration; JSON is YAML."""
    deployments = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{model}", "api_base": address, "api_key": "x"},
        }
        for name, model, address in (
            *((name, model, f"{provider.url}/v1") for name, model in MODELS.items()),
            ("absent", "gpt-4o", f"http://127.0.0.1:{free_port()}/v1"),
        )
    ]
    return json.dumps(
        {
            "model_list": deployments,
            "litellm_settings": {"callbacks": ["tokenbudget_gateway.handler"], "num_retries": 1},
            "general_settings": {"master_key": MASTER_KEY},
        }
    )


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with providing() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        for budget in BUDGETS:
            answer = httpx.post(f"{running.url}/v1/budgets", json={"window": "month", **budget})
            assert answer.status_code == 201, answer.text
        yield running


@pytest.fixture(scope="module")
def proxy(
    server: ServerProcess, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("litellm")
    environment = {
        "TOKENBUDGET_GATEWAY_URL": server.url,
        "TOKENBUDGET_GATEWAY_TAGS": "environment=prod",
        "TOKENBUDGET_GATEWAY_TIMEOUT_SECONDS": "5",
        "TOKENBUDGET_GATEWAY_SPOOL_DIRECTORY": str(home / "spool"),
    }
    python = litellm_python()
    with running_proxy(python, home / "proxy", config_of(provider), environment) as running:
        yield running


@pytest.fixture(autouse=True)
def forgotten(provider: FakeProvider) -> None:
    provider.asked.clear()


def ask(
    proxy: Proxy, model: str, tenant: str, *, path: str = "chat/completions", **more: Any
) -> httpx.Response:
    """Ask the proxy for a chat, or for what the path says; priced models have a budget."""
    is_priced = not MODELS.get(model, "").startswith(("status-", "once-"))
    feature = "summarise" if is_priced else "free"
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "metadata": {"tags": [f"tenant:{tenant}"], "tokenbudget": {"feature": feature}},
        **more,
    }
    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    return httpx.post(f"{proxy.url}/v1/{path}", json=body, headers=headers, timeout=PATIENCE)


def events_of(server: ServerProcess, tenant: str, count: int) -> list[dict[str, Any]]:
    """Give what the ledger knows of a tenant's calls, oldest first, once there are so many."""
    now = datetime.now(UTC)
    query = {
        "start": (now - timedelta(hours=1)).isoformat(),
        "end": (now + timedelta(hours=1)).isoformat(),
        "filter": f"tenant:{tenant}",
        "counting": "true",
    }
    deadline = monotonic() + PATIENCE
    events: list[dict[str, Any]] = []
    while monotonic() < deadline and len(events) < count:
        sleep(0.1)
        answer = httpx.get(f"{server.url}/v1/events", params=query)
        assert answer.status_code == 200, answer.text
        events = answer.json()["events"]
    assert len(events) == count, events
    return sorted(events, key=lambda event: (event["occurred_at"], event["attempt"]))


def cost_of(event: dict[str, Any]) -> str:
    cost: str = event["charge"]["effective_cost"]
    return cost


def hold_state(server: ServerProcess, hold_id: str) -> str:
    state: str = httpx.get(f"{server.url}/v1/quota/holds/{hold_id}").json()["state"]
    return state


def test_an_allowed_call_settles_its_hold_and_meets_the_callbacks_record(
    proxy: Proxy, server: ServerProcess
) -> None:
    answer = ask(proxy, "smart", "allowed", max_tokens=100, seed=11)

    assert answer.status_code == 200, answer.text
    (event,) = events_of(server, "allowed", 1)
    assert cost_of(event) == COST
    assert (event["model"], event["request_model"]) == ("gpt-4o", "smart")
    assert event["response_id"] == "chatcmpl-11"
    assert (event["tags"]["feature"], event["tags"]["environment"]) == ("summarise", "prod")
    assert hold_state(server, event["hold_id"]) == "settled"

    seconds = datetime.now(UTC).timestamp()
    record = make_record(
        id="chatcmpl-11",
        startTime=seconds,
        endTime=seconds + 1,
        completionStartTime=seconds + 1,
        custom_llm_provider="openai",
        model="openai/gpt-4o",
        request_tags=["tenant:allowed"],
    )
    told = httpx.post(server.url + CALLBACK_PATH, json=[record])
    assert told.json()["accepted"] == 1
    (counting,) = events_of(server, "allowed", 1)
    assert counting["witness"] == "gateway"
    assert counting["call_id"] == event["call_id"]
    assert hold_state(server, event["hold_id"]) == "settled"


def test_a_call_above_the_budget_is_answered_429_and_not_sent(
    proxy: Proxy, provider: FakeProvider
) -> None:
    words = [{"role": "user", "content": "word " * 10_000}]

    answer = ask(proxy, "smart", "denied", messages=words)

    assert answer.status_code == 429, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert error["type"] == "budget_exhausted"
    assert error["provider_specific_fields"]["budget"] == "small"
    assert provider.asked == []


def test_a_call_that_fits_with_less_is_lowered(
    proxy: Proxy, provider: FakeProvider, server: ServerProcess
) -> None:
    assert ask(proxy, "smart", "poor", max_tokens=10_000, seed=12).status_code == 200

    (asked,) = provider.asked
    assert 1_000 < asked["max_tokens"] < 2_000
    (event,) = events_of(server, "poor", 1)
    assert hold_state(server, event["hold_id"]) == "settled"


def test_a_stream_is_settled_by_the_providers_own_usage(
    proxy: Proxy, provider: FakeProvider, server: ServerProcess
) -> None:
    answer = ask(proxy, "smart", "stream", max_tokens=100, seed=13, stream=True)

    assert answer.status_code == 200, answer.text
    assert "secret" in answer.text
    assert "prompt_tokens" not in answer.text
    assert provider.asked[0]["stream_options"] == {"include_usage": True}
    (event,) = events_of(server, "stream", 1)
    assert (cost_of(event), event["status"]) == (COST, "ok")
    assert hold_state(server, event["hold_id"]) == "settled"


def test_embeddings_are_checked_and_counted(proxy: Proxy, server: ServerProcess) -> None:
    answer = ask(proxy, "embed", "embedding", path="embeddings", input=PROMPT, messages=None)

    assert answer.status_code == 200, answer.text
    (event,) = events_of(server, "embedding", 1)
    assert (cost_of(event), event["operation"]) == (EMBEDDING_COST, "embeddings")
    assert hold_state(server, event["hold_id"]) == "settled"


def test_every_attempt_is_an_event_and_one_is_charged(
    proxy: Proxy, provider: FakeProvider, server: ServerProcess
) -> None:
    answer = ask(proxy, "flaky", "flaky", max_tokens=100, seed=14)

    assert answer.status_code == 200, answer.text
    first, second = events_of(server, "flaky", 2)
    assert len(provider.asked) == 2
    assert (first["status"], first["usage"]) == ("error", {"input_tokens": 0, "output_tokens": 0})
    assert (second["status"], second["attempt"]) == ("ok", 2)
    assert first["operation_id"] == second["operation_id"]


@pytest.mark.parametrize(("model", "is_known"), [("refusing", True), ("breaking", False)])
def test_a_call_that_the_provider_fails_is_told_once_for_each_attempt(
    proxy: Proxy, provider: FakeProvider, server: ServerProcess, model: str, is_known: bool
) -> None:
    answer = ask(proxy, model, model, max_tokens=100)

    assert answer.status_code >= 400
    events = events_of(server, model, len(provider.asked))
    assert {event["status"] for event in events} == {"error"}
    # What is unknown may stand in the books by its input for now, and never by nothing.
    nothing = {"input_tokens": 0, "output_tokens": 0}
    assert [event["usage"] == nothing for event in events] == [is_known] * len(events)


def test_a_provider_that_nobody_reaches_costs_nothing(proxy: Proxy, server: ServerProcess) -> None:
    answer = ask(proxy, "absent", "absent", max_tokens=100)

    assert answer.status_code == 500, answer.text
    question = {
        "tags": {"tenant": "absent", "feature": "summarise"},
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1,
        "max_output_tokens": 1,
        "dry_run": True,
    }
    deadline, held = monotonic() + PATIENCE, ""
    while monotonic() < deadline and held != "0.000000000":
        sleep(0.1)
        held = httpx.post(f"{server.url}/v1/quota/check", json=question).json()["binding"]["held"]
    assert held == "0.000000000"
    assert events_of(server, "absent", 0) == []


def test_a_service_that_is_down_is_answered_by_the_budgets_and_told_later(
    proxy: Proxy, provider: FakeProvider, server: ServerProcess
) -> None:
    for seed, tenant in ((20, "strict"), (21, "lenient")):
        assert ask(proxy, "smart", tenant, max_tokens=100, seed=seed).status_code == 200
        events_of(server, tenant, 1)
    provider.asked.clear()
    server.kill()

    refused = ask(proxy, "smart", "strict", max_tokens=100)
    passed = ask(proxy, "smart", "lenient", max_tokens=100, seed=22)

    assert refused.status_code == 503, refused.text
    assert int(refused.headers["retry-after"]) > 0
    assert passed.status_code == 200, passed.text
    assert len(provider.asked) == 1
    with serving(server.log.parent, port=str(server.port)) as again:
        events = events_of(again, "lenient", 2)
        assert events[1]["hold_id"] is None
        proxy.stop()
    assert PROMPT not in proxy.log.read_text()
