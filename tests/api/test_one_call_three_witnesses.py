"""One call told of by the SDK, by LiteLLM's callback and by a trace is one charge.

The bodies of the gateway and of the trace are captured ones; in both runs call 1 is the same.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.api.test_telemetry_api import exports_of
from tests.builders import broken_rules, make_event
from tests.conftest import FrozenClock
from tests.litellm_samples import CALLBACK_PATH, recorded_requests
from tokenbudget.bootstrap import Services, open_price_list
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.settings import load_settings

RESPONSE_ID = "chatcmpl-FAKE0001"
TRACED = Path(__file__).parents[1] / "data/otlp/otel-genai-official_1.3b0"
TOLD = ("sdk", "gateway", "otlp")
# 289 plain, 1,536 cached and 313 output tokens at 0.25, 0.025 and 2 a million.
COST = "0.000736650"


@pytest.fixture(scope="module")
def shipped_prices(tmp_path_factory: pytest.TempPathFactory) -> PriceList:
    """Give the prices that ship."""
    return open_price_list(load_settings(data_dir=tmp_path_factory.mktemp("prices")))


def send_sdk(client: TestClient, clock: FrozenClock) -> None:
    """Tell of the call as the application's own client does, which alone knows the tenant."""
    event = make_event(
        event_id="call-1",
        occurred_at=clock().isoformat(),
        provider="openai",
        model="gpt-5-mini",
        response_id=RESPONSE_ID,
        usage={"input_tokens": 1_825, "cached_input_tokens": 1_536, "output_tokens": 313},
        tags={"prompt_version": "v12"},
    )
    answer = client.post("/v1/events", json=event)
    assert answer.json()["accepted"] == 1, answer.text


def send_gateway(client: TestClient) -> None:
    """Send what LiteLLM sent."""
    for request in recorded_requests("json_array"):
        answer = client.post(CALLBACK_PATH, content=request.body, headers=request.headers)
        assert answer.status_code == 200, answer.text


def send_trace(client: TestClient) -> None:
    """Send what the official instrumentation exported."""
    for export in exports_of(TRACED):
        assert export.send(client).status_code == 200


@pytest.mark.parametrize("order", list(permutations(TOLD)), ids="-".join)
def test_whoever_comes_first_the_gateway_counts_and_the_others_are_evidence(
    order: tuple[str, ...],
    make_client: MakeClient,
    services: Services,
    shipped_prices: PriceList,
    clock: FrozenClock,
) -> None:
    clock.advance(days=1)
    client = make_client(on=replace(services, price_list=shipped_prices))
    for witness in order:
        if witness == "sdk":
            send_sdk(client, clock)
        elif witness == "gateway":
            send_gateway(client)
        else:
            send_trace(client)

    found = client.get("/v1/events", params={"response_id": RESPONSE_ID}).json()["events"]
    assert len(found) == 1
    assert found[0]["witness"] == "gateway"
    assert found[0]["usage"]["input_tokens"] == 1_825
    assert found[0]["usage"]["output_tokens"] == 313
    history: dict[str, Any] = client.get(f"/v1/events/{found[0]['id']}").json()
    assert sorted(each["kind"] for each in history["witnesses"]) == sorted(TOLD)
    assert [each["kind"] for each in history["witnesses"] if each["counts"]] == ["gateway"]
    assert history["effective_cost"] == found[0]["charge"]["effective_cost"] == COST
    # What only the application and only the trace knew is known of the call.
    where = client.get(
        "/v1/costs",
        params={
            "start": "2026-11-01T00:00:00Z",
            "end": "2026-12-01T00:00:00Z",
            "group_by": "prompt_version",
            "filter": "prompt_version:v12",
        },
    ).json()["rows"]
    assert [row["requests"] for row in where] == [1]
    assert broken_rules(services.database) == []
