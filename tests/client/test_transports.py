"""Plain httpx with our transport: providers are checked and recorded, all else passes untouched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.client.fake_provider import (
    CHAT_USAGE,
    GEMINI_USAGE,
    MESSAGES_USAGE,
    FakeProvider,
)
from tests.client.fake_service import DENIED, FakeService, reduced
from tests.server_process import free_port
from tokenbudget.client import Client, QuotaDenied, tagged
from tokenbudget.client._exchanges import MAX_BODY_BYTES

CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "A secret question."}],
}
GEMINI: dict[str, Any] = {"contents": [{"parts": [{"text": "A secret question."}]}]}


def hosts(provider: FakeProvider) -> dict[str, str]:
    return {urlsplit(provider.url).netloc: "openai"}


@pytest.fixture
def http(client: Client, provider: FakeProvider) -> Iterator[httpx.Client]:
    transport = client.transport(providers=hosts(provider), feature="search")
    with httpx.Client(transport=transport, base_url=provider.url, timeout=1.0) as opened:
        yield opened


def events_in(text: str) -> list[Any]:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def test_a_call_is_checked_and_its_answer_read_along(
    http: httpx.Client, client: Client, service: FakeService
) -> None:
    answer = http.post("/v1/chat/completions", json={**CHAT, "max_tokens": 50})

    assert answer.json()["choices"][0]["message"]["content"] == "A short secret answer."
    (check,) = service.checks
    assert (check["provider"], check["model"], check["max_output_tokens"]) == (
        "openai",
        "gpt-4o",
        50,
    )
    (event,) = service.told_by(client)
    assert event["provider_usage"] == CHAT_USAGE
    assert (event["status"], event["response_id"]) == ("ok", "chatcmpl-1")
    assert event["tags"] == {"team": "growth", "feature": "search"}
    assert "time_to_first_token_ms" not in event
    assert not any(b"secret" in body for body in service.bodies)


@pytest.mark.parametrize(("more", "extra"), [({}, 0), ({"include_usage": True}, 1)])
def test_a_stream_passes_on_what_was_asked_for_and_no_more(
    http: httpx.Client,
    client: Client,
    service: FakeService,
    more: dict[str, Any],
    extra: int,
) -> None:
    body = {**CHAT, "stream": True} | ({"stream_options": more} if more else {})

    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        text = answer.read().decode()

    chunks = events_in(text)
    assert len(chunks) == 5 + extra
    assert text.endswith("data: [DONE]\n\n")
    (event,) = service.told_by(client)
    assert event["provider_usage"] == CHAT_USAGE
    assert "time_to_first_token_ms" in event


def test_other_shapes_of_calls_are_known_by_their_paths(
    http: httpx.Client, client: Client, service: FakeService
) -> None:
    http.post("/v1/responses", json={"model": "gpt-4o", "input": "A question."})
    http.post("/v1/embeddings", json={"model": "text-embedding-3-small", "input": "a"})
    http.post("/v1/messages", json={**CHAT, "max_tokens": 9})
    http.post("/v1beta/models/gemini-2.5-pro:generateContent", json=GEMINI)
    with http.stream("POST", "/v1/messages", json={**CHAT, "stream": True}) as stream:
        stream.read()

    events = service.told_by(client)
    usages = [event["provider_usage"] for event in events]
    assert usages[2:] == [MESSAGES_USAGE, GEMINI_USAGE, MESSAGES_USAGE]
    assert [event["operation"] for event in events[:2]] == ["chat", "embeddings"]
    assert events[3]["model"] == "gemini-2.5-pro"
    assert events[3]["response_id"] == "gem-1"


def test_a_model_in_the_path_is_not_added_to_a_lowered_body(
    http: httpx.Client, service: FakeService, provider: FakeProvider
) -> None:
    service.answer = reduced(30)
    config = {"maxOutputTokens": 100, "temperature": 0}

    http.post(
        "/v1beta/models/gemini-2.5-pro:generateContent",
        json={**GEMINI, "generationConfig": config},
    )

    assert service.checks[0]["max_output_tokens"] == 100
    lowered = {"maxOutputTokens": 30, "temperature": 0}
    assert provider.asked[0]["generationConfig"] == lowered
    assert int(provider.headers[0]["content-length"]) == len(
        json.dumps({**GEMINI, "generationConfig": lowered}, separators=(",", ":"))
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1beta/models/gemini-2.5-pro:generateContent", GEMINI),
        ("/openai/deployments/gpt-4o/chat/completions", CHAT),
    ],
)
def test_a_model_in_the_path_cannot_be_replaced(
    http: httpx.Client,
    client: Client,
    service: FakeService,
    provider: FakeProvider,
    path: str,
    body: dict[str, Any],
) -> None:
    service.answer = reduced(30, "a-smaller-one")

    with pytest.raises(QuotaDenied, match="a-smaller-one only"):
        http.post(path, json=body)

    assert provider.asked == []
    assert service.told_by(client) == []
    assert service.released == ["hold-1"]


def test_a_model_in_the_body_is_replaced(
    http: httpx.Client, client: Client, service: FakeService, provider: FakeProvider
) -> None:
    service.answer = reduced(30, "gpt-4o-mini")

    http.post("/v1/messages", json={**CHAT, "max_tokens": 9})

    assert provider.asked[0]["model"] == "gpt-4o-mini"
    assert service.told_by(client)[0]["hold_id"] == "hold-1"


def test_a_stream_that_is_left_is_cancelled(
    http: httpx.Client, client: Client, service: FakeService
) -> None:
    body = {**CHAT, "model": "trickle", "stream": True, "max_tokens": 9}
    with http.stream("POST", "/v1/messages", json=body) as answer:
        next(answer.iter_bytes(200))

    (event,) = service.told_by(client)
    assert event["status"] == "cancelled"
    assert event["provider_usage"]["input_tokens"] == 300


def test_a_stream_that_is_cut_off_is_an_error(
    http: httpx.Client, client: Client, service: FakeService
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/v1/chat/completions", json={**CHAT, "model": "cut", "stream": True})

    (event,) = service.told_by(client)
    assert event["status"] == "error"


def test_errors_and_time_outs_are_told(
    http: httpx.Client, client: Client, service: FakeService
) -> None:
    for model in ("status-429", "status-500"):
        assert http.post("/v1/chat/completions", json={**CHAT, "model": model}).is_error
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json={**CHAT, "model": "slow"})

    refused, failed, late = service.told_by(client)
    assert refused["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert "usage" not in failed
    assert [event["status"] for event in (refused, failed, late)] == ["error", "error", "timeout"]


def test_a_call_that_cannot_connect_is_released(client: Client, service: FakeService) -> None:
    host = f"127.0.0.1:{free_port()}"
    transport = client.transport(providers={host: "openai"})
    with httpx.Client(transport=transport) as http, pytest.raises(httpx.ConnectError):
        http.post(f"http://{host}/v1/chat/completions", json=CHAT)

    assert service.told_by(client) == []
    assert service.released == ["hold-1"]


def test_a_denied_call_is_not_sent(
    http: httpx.Client, service: FakeService, provider: FakeProvider
) -> None:
    service.answer = DENIED

    with pytest.raises(QuotaDenied):
        http.post("/v1/chat/completions", json=CHAT)

    assert provider.asked == []


def test_what_is_no_call_of_a_provider_passes_untouched(
    http: httpx.Client, client: Client, service: FakeService, provider: FakeProvider
) -> None:
    assert http.get("/v1/models").json() == {"ok": True}
    with httpx.Client(transport=client.transport()) as other:
        other.post(f"{provider.url}/v1/chat/completions", json=CHAT)

    assert service.checks == []
    assert "accept-encoding" in provider.headers[0]
    assert provider.headers[0]["accept-encoding"] != "identity"


@pytest.mark.parametrize("content", [b"no json", b"[1]"])
def test_a_body_that_is_no_call_is_left_to_the_provider(
    client: Client, service: FakeService, content: bytes
) -> None:
    inner = httpx.MockTransport(lambda request: httpx.Response(400, content=request.content))
    with httpx.Client(transport=client.transport(inner)) as http:
        answer = http.post("https://api.openai.com/v1/chat/completions", content=content)

    assert answer.content == content
    assert service.checks == []


@pytest.mark.parametrize(
    ("url", "provider_name"),
    [
        ("https://api.openai.com/v1/chat/completions", "openai"),
        ("https://eu.api.openai.com/v1/responses", "openai"),
        ("https://api.anthropic.com/v1/messages", "anthropic"),
        ("https://x.openai.azure.com/openai/deployments/gpt-4o/chat/completions", "azure"),
        (
            "https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent",
            "google",
        ),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/model/claude/converse", "bedrock"),
        ("https://api.groq.com/openai/v1/chat/completions", "groq"),
    ],
)
def test_known_hosts_are_known(
    client: Client, service: FakeService, url: str, provider_name: str
) -> None:
    inner = httpx.MockTransport(lambda request: httpx.Response(200, json={}))
    with httpx.Client(transport=client.transport(inner)) as http:
        http.post(url, json={"messages": [], "contents": [], "input": "a"})

    assert service.checks[0]["provider"] == provider_name


def test_an_answer_that_cannot_be_read_is_unknown(client: Client, service: FakeService) -> None:
    answers = [
        httpx.Response(200, content=b"\x00binary", headers={"content-type": "audio/mpeg"}),
        httpx.Response(200, content=b"{", headers={"content-type": "application/json"}),
        httpx.Response(200, content=b"data: {\n\n", headers={"content-type": "text/event-stream"}),
    ]
    inner = httpx.MockTransport(lambda request: answers.pop(0))
    with httpx.Client(transport=client.transport(inner)) as http:
        for _ in range(3):
            http.post("https://api.openai.com/v1/chat/completions", json=CHAT)

    assert [event["status"] for event in service.told_by(client)] == ["unknown"] * 3


@pytest.mark.parametrize(
    ("kind", "status"), [("application/json", "unknown"), ("text/event-stream", "unknown")]
)
def test_an_answer_without_bounds_is_not_kept(
    client: Client, service: FakeService, kind: str, status: str
) -> None:
    parts = [b"x" * (MAX_BODY_BYTES // 4)] * 5

    class Parts(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from parts

    inner = httpx.MockTransport(
        lambda request: httpx.Response(200, stream=Parts(), headers={"content-type": kind})
    )
    with httpx.Client(transport=client.transport(inner)) as http:
        body = {**CHAT, "stream": True}
        answer = http.post("https://api.openai.com/v1/chat/completions", json=body)

    assert answer.content == b"".join(parts)
    assert [event["status"] for event in service.told_by(client)] == [status]


def test_tags_travel_to_hosts_that_were_named_and_to_no_provider(client: Client) -> None:
    seen: list[httpx.Request] = []

    def inner(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    transport = client.transport(
        httpx.MockTransport(inner), propagate_to=["*.internal", "api.openai.com"], feature="a, b"
    )
    with httpx.Client(transport=transport) as http, tagged(tenant="acme"):
        http.get("https://orders.internal/x", headers={"baggage": "k=v,tokenbudget.team=old"})
        http.get("https://elsewhere.test/x")
        http.post("https://api.openai.com/v1/files")

    first, second, third = (request.headers.get("baggage") for request in seen)
    assert first == (
        "k=v,tokenbudget.team=growth,tokenbudget.feature=a%2C%20b,tokenbudget.tenant=acme"
    )
    assert second is third is None


def test_calls_on_an_event_loop(
    service: FakeService, provider: FakeProvider, tmp_path: Path
) -> None:
    async def calls() -> list[dict[str, Any]]:
        async with service.async_client(tmp_path) as client:
            transport = client.transport(providers=hosts(provider))
            async with httpx.AsyncClient(transport=transport, base_url=provider.url) as http:
                path = "/v1/chat/completions"
                assert (await http.post(path, json=CHAT)).json()["id"] == "chatcmpl-1"
                async with http.stream("POST", path, json={**CHAT, "stream": True}) as answer:
                    text = (await answer.aread()).decode()
                assert len(events_in(text)) == 5
                body = {**CHAT, "model": "trickle", "stream": True}
                async with http.stream("POST", "/v1/messages", json=body) as answer:
                    await anext(answer.aiter_bytes(200))
                assert (await http.post(path, json={**CHAT, "model": "status-404"})).is_error
                assert (await http.get("/v1/models")).json() == {"ok": True}
                service.answer = DENIED
                with pytest.raises(QuotaDenied):
                    await http.post(path, json=CHAT)
            assert await client.flush(10)
        return service.events

    events = asyncio.run(calls())

    assert [event["status"] for event in events] == ["ok", "ok", "cancelled", "error"]
    assert events[1]["provider_usage"] == CHAT_USAGE
