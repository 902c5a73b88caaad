"""What a client does when nobody answers, how long it waits, what it remembers and estimates."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from tests.client.fake_service import ALLOWED, BINDING, DENIED, FakeService, reduced
from tokenbudget.client import (
    AsyncClient,
    Call,
    CheckRefused,
    Client,
    Decision,
    Manner,
    QuotaDenied,
    QuotaUnavailable,
    baggage_of,
    current_tags,
    tagged,
    tags_from_baggage,
)
from tokenbudget.client._estimates import bound_input, bound_tokens

CALL = Call("openai", "gpt-4o", input_tokens=10, tags={"tenant": "acme"})
OTHER = Call("openai", "gpt-4o", input_tokens=10, tags={"tenant": "other"})
DRIP_SECONDS = 0.2


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.mark.parametrize("told", ["open", "closed"])
def test_the_mode_that_the_service_last_told_holds_when_it_is_down(
    service: FakeService, tmp_path: Path, told: str
) -> None:
    service.answer = {**ALLOWED, "fail_mode": told}
    with service.client(tmp_path) as client:
        client.check(CALL)
        service.is_down = True

        if told == "closed":
            with pytest.raises(QuotaUnavailable):
                client.check(CALL)
            with pytest.raises(QuotaUnavailable):
                client.check(OTHER)
        else:
            assert client.check(CALL).decision is Decision.UNCHECKED


def test_a_mode_that_was_chosen_beats_the_one_that_was_told(
    service: FakeService, tmp_path: Path
) -> None:
    service.answer = {**ALLOWED, "fail_mode": "closed"}
    with service.client(tmp_path, fail_mode="open") as client:
        client.check(CALL)
        service.is_down = True

        assert client.check(CALL).decision is Decision.UNCHECKED


def test_a_refusal_to_decide_may_tell_the_mode(service: FakeService, tmp_path: Path) -> None:
    service.status, service.answer = 503, {"code": "unavailable", "fail_mode": "closed"}
    with service.client(tmp_path) as client:
        with pytest.raises(QuotaUnavailable, match="503"):
            client.check(CALL)
        service.answer = {"code": "unavailable"}
        assert client.check(CALL).decision is Decision.UNCHECKED


def test_mode_cached_repeats_the_last_decision_on_such_a_call(
    service: FakeService, tmp_path: Path
) -> None:
    with service.client(tmp_path, fail_mode="cached") as client:
        service.answer = DENIED
        with pytest.raises(QuotaDenied):
            client.check(CALL)
        service.answer = reduced(30)
        client.check(OTHER)
        service.is_down = True

        with pytest.raises(QuotaDenied):
            client.check(CALL)
        permit = client.check(OTHER)

    assert (permit.decision, permit.max_output_tokens) == (Decision.UNCHECKED, 30)
    assert permit.hold_id is None


def test_a_remembered_denial_ends_with_its_window_and_with_its_age(
    service: FakeService, tmp_path: Path
) -> None:
    service.answer = {**DENIED, "binding": {**BINDING, "resets_at": "2020-01-01T00:00:00Z"}}
    with service.client(tmp_path, fail_mode="cached") as client:
        with pytest.raises(QuotaDenied):
            client.check(CALL)
        service.is_down = True
        assert client.check(CALL).decision is Decision.UNCHECKED

    service.is_down, service.answer = False, DENIED
    with service.client(tmp_path, fail_mode="cached", memory_seconds=0) as client:
        with pytest.raises(QuotaDenied):
            client.check(CALL)
        service.is_down = True
        assert client.check(CALL).decision is Decision.UNCHECKED


@pytest.mark.parametrize(
    "answer", [{}, {"decision": "perhaps"}, {"decision": "allow", "limits": 1}]
)
def test_an_answer_that_is_none_is_no_decision(
    service: FakeService, tmp_path: Path, answer: dict[str, Any]
) -> None:
    service.answer = answer
    with service.client(tmp_path) as client:
        assert client.check(CALL).decision is Decision.UNCHECKED


def test_a_wrong_key_is_an_error_whatever_the_mode(service: FakeService, tmp_path: Path) -> None:
    service.status, service.answer = 401, {"detail": "no such key"}
    with service.client(tmp_path) as client, pytest.raises(CheckRefused, match="no such key"):
        client.check(CALL)


@pytest.fixture
def silent_url() -> Iterator[str]:
    """Give a service that takes every connection and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


def test_a_service_that_is_silent_costs_no_more_than_the_time_out(
    silent_url: str, tmp_path: Path
) -> None:
    manner = Manner(spool_directory=tmp_path, timeout_seconds=0.3)
    with Client(silent_url, manner=manner) as client:
        begun = monotonic()
        assert client.check(CALL).decision is Decision.UNCHECKED
        assert 0.2 < monotonic() - begun < 1.0


def test_the_phases_of_an_exchange_share_one_time_out(service: FakeService, tmp_path: Path) -> None:
    left: list[float] = []

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/quota/check":
            timeouts = request.extensions["timeout"]
            left.append(timeouts.get("connect"))
            sleep(DRIP_SECONDS)
            left.append(timeouts.get("read"))
        return service.respond(request)

    manner = Manner(spool_directory=tmp_path, timeout_seconds=0.5)
    with Client("http://x.test", manner=manner, transport=httpx.MockTransport(respond)) as client:
        client.check(CALL)

    assert left[0] <= 0.5
    assert left[1] <= left[0] - DRIP_SECONDS


def test_an_event_loop_waits_no_longer_either(silent_url: str, tmp_path: Path) -> None:
    async def check() -> float:
        manner = Manner(spool_directory=tmp_path, timeout_seconds=0.3)
        async with AsyncClient(silent_url, manner=manner) as client:
            begun = monotonic()
            assert (await client.check(CALL)).decision is Decision.UNCHECKED
            return monotonic() - begun

    assert asyncio.run(check()) < 1.0


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("The quick brown fox jumps over the lazy dog. " * 20, 181, 450),
        ("SELECT a, b FROM t WHERE x = 42;" * 20, 200, 320),
        ("日本語の文章" * 20, 100, 360),
        ("", 0, 0),
    ],
)
def test_the_bound_of_a_text_is_above_its_tokens_and_not_far(
    text: str, least: int, most: int
) -> None:
    # The least are what o200k_base counts.
    assert least <= bound_tokens(text, "gpt-4o") <= most


def test_images_files_tokens_and_schemas_have_bounds_of_their_own() -> None:
    def bound(part: object) -> int:
        return bound_input([part], "m", bound_tokens)

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}
    audio = {"type": "input_audio", "input_audio": {"data": "A" * 4_000, "format": "wav"}}
    document = {"type": "document", "source": {"type": "base64", "data": "A" * 4_000}}
    text = {"type": "document", "source": {"type": "text", "data": "A" * 4_000}}
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]

    assert 5_000 < bound(image) < 7_000
    assert 1_000 < bound(audio) < 1_200
    assert 1_000 < bound(document) < 1_200
    assert 2_000 < bound(text) < 2_200
    assert 500 < bound([1] * 500) < 600
    assert bound(b"A" * 400) < 200
    assert bound(None) == bound(deep) == bound(object()) == bound(True)


def test_a_counter_of_the_applications_own_is_used(service: FakeService, tmp_path: Path) -> None:
    assert bound_input(["abc"], "m", lambda text, model: 1_000 if model == "m" else 0) >= 1_000


def test_baggage_carries_tags_there_and_back() -> None:
    header = baggage_of({"team": "growth", "odd name": "a=b;c,é"}, "other=1")

    assert header.startswith("other=1,tokenbudget.team=growth,")
    assert tags_from_baggage(header) == {"team": "growth", "odd name": "a=b;c,é"}
    assert tags_from_baggage(header, ["other"])["other"] == "1"
    assert tags_from_baggage("tokenbudget.=x,broken,tokenbudget.a=b;meta=1") == {"a": "b"}


def test_baggage_has_bounds() -> None:
    many = {f"t{number}": "x" * 200 for number in range(100)}

    header = baggage_of(many)

    assert len(header) <= 8_192
    assert 10 < len(tags_from_baggage(header)) < 64
    assert tags_from_baggage("tokenbudget.a=" + "x" * 300) == {}


def test_baggage_of_opentelemetry_fills_in_what_nobody_nearer_says(
    service: FakeService, tmp_path: Path
) -> None:
    baggage = pytest.importorskip("opentelemetry.baggage")
    context = pytest.importorskip("opentelemetry.context")
    carried = baggage.set_baggage("tokenbudget.team", "forged")
    carried = baggage.set_baggage("tokenbudget.tenant", "acme", carried)
    carried = baggage.set_baggage("region", "eu", carried)
    carried = baggage.set_baggage("secret", "x", carried)
    token = context.attach(carried)
    try:
        with (
            service.client(tmp_path, baggage_keys=("region",)) as client,
            client.operation() as operation,
            operation.call(provider="openai", model="gpt-4o", input_tokens=1) as call,
        ):
            call.not_sent()
    finally:
        context.detach(token)

    assert service.checks[0]["tags"] == {"team": "growth", "tenant": "acme", "region": "eu"}


def test_a_block_that_is_left_in_another_context_does_no_harm(
    service: FakeService, tmp_path: Path
) -> None:
    with service.client(tmp_path) as client:
        for block in (tagged(team="a"), client.operation(team="a")):
            copy_context().run(block.__enter__)
            copy_context().run(block.__exit__, None, None, None)

    assert current_tags() == {}


def test_tags_of_a_block_end_with_it() -> None:
    with tagged(team="a"), tagged(team="b"):
        assert current_tags() == {"team": "b"}
    assert current_tags() == {}
