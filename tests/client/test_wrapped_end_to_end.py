"""A wrapped SDK, a provider on loopback and the real service, up and then killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.client.conftest import MakeClient
from tests.client.fake_provider import FakeProvider
from tests.client.test_client import costs_of
from tests.server_process import ServerProcess, serving
from tokenbudget.client import Client, Manner, QuotaDenied, QuotaUnavailable

PATIENCE = 20.0
CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "A question."}],
    "max_tokens": 100,
}
# 800 tokens at 2.50, 200 cached ones at 1.25 and 100 of output at 10.00 dollars a million.
COST = "0.003250000"
# Of a call that was cut nobody knows the usage; it counts the 86 tokens that its check estimated.
TWICE_AND_ONE_CUT = "0.006715000"


@pytest.fixture
def original(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    provider.asked.clear()
    with openai.OpenAI(api_key="x", base_url=f"{provider.url}/v1", max_retries=0) as sdk:
        yield sdk


def hold_of(server: ServerProcess, hold_id: str) -> str:
    state: str = httpx.get(f"{server.url}/v1/quota/holds/{hold_id}").json()["state"]
    return state


def test_a_wrapped_call_settles_its_hold_and_is_in_the_costs(
    make_client: MakeClient, server: ServerProcess, original: openai.OpenAI
) -> None:
    client = make_client()
    sdk = client.wrap(original, provider="openai", feature="summarise", tenant="wrapped")

    sdk.chat.completions.create(**CHAT)
    for _ in sdk.chat.completions.create(**CHAT, seed=2, stream=True):
        pass
    with sdk.chat.completions.create(**CHAT, seed=3, stream=True) as stream:
        next(stream)
    held = [item.event["hold_id"] for item in client.outlet.spool.oldest(3)]
    assert client.flush(PATIENCE)

    assert [hold_of(server, hold_id) for hold_id in held] == ["settled"] * len(held)
    assert client.outlet.spool.refused() == []
    (row,) = costs_of(server, "wrapped")
    assert (row["team"], row["feature"], row["cost"]) == ("growth", "summarise", TWICE_AND_ONE_CUT)
    assert (row["requests"], row["unpriced_requests"]) == (3, 0)
    unsettled = httpx.get(f"{server.url}/v1/quota/unsettled").json()
    assert held[2] in json.dumps(unsettled)


def test_a_real_budget_reduces_and_then_denies(
    make_client: MakeClient, original: openai.OpenAI, provider: FakeProvider
) -> None:
    client = make_client()
    sdk = client.wrap(original, provider="openai", tenant="poor")

    sdk.chat.completions.create(**{**CHAT, "max_tokens": 10_000})
    with pytest.raises(QuotaDenied) as denied:
        sdk.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "word " * 10_000}]
        )

    assert 1_000 < provider.asked[0]["max_tokens"] < 2_000
    assert len(provider.asked) == 1
    assert denied.value.permit.reasons[0].code == "budget_exhausted"


def test_a_killed_service_delays_the_books_and_loses_nothing(
    original: openai.OpenAI, provider: FakeProvider, tmp_path: Path
) -> None:
    manner = Manner(spool_directory=tmp_path / "spool", timeout_seconds=1.0)
    with serving(tmp_path / "server") as server:
        client = Client(server.url, manner=manner)
        sdk = client.wrap(original, provider="openai", tenant="outage")
        port = str(server.port)
        server.kill()
        sdk.chat.completions.create(**CHAT)
        with pytest.raises(QuotaUnavailable):
            Client(
                server.url, manner=Manner(spool_directory=tmp_path / "other", fail_mode="closed")
            ).wrap(original).chat.completions.create(**CHAT)
        assert len(client.outlet.spool) == 1

    with serving(tmp_path / "server", port=port) as server, client:
        assert client.flush(PATIENCE)
        assert [row["cost"] for row in costs_of(server, "outage")] == [COST]
    assert len(provider.asked) == 1
