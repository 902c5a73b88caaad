"""What a gateway's request says of the call: by headers of ours, or by the provider's own body."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tokenbudget.domain.errors import InvalidInput, MalformedBody
from tokenbudget.domain.holds import CheckRequest
from tokenbudget.formats.authorization import parse_authorization

HEADERS = {"x-tokenbudget-provider": "acme", "x-tokenbudget-tags": "team=growth,tenant=a%20b"}


def read(body: Any = None, **headers: str) -> CheckRequest:
    """Give the check of a request with these headers (``-`` as ``_``) and this body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = b"" if body is None else msgspec.json.encode(body)
    return parse_authorization({**HEADERS, **named}, content)


def test_headers_alone_say_what_the_call_is() -> None:
    check = read(
        x_tokenbudget_model="plain",
        x_tokenbudget_input_tokens="1200",
        x_tokenbudget_max_output_tokens="800",
        x_tokenbudget_service_tier="batch",
        x_tokenbudget_ttl_seconds="90",
    )

    assert (check.provider, check.model, check.service_tier) == ("acme", "plain", "batch")
    assert (check.input_tokens, check.max_output_tokens) == (1200, 800)
    assert check.tags == {"team": "growth", "tenant": "a b"}
    assert check.ttl is not None
    assert check.ttl.total_seconds() == 90


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 50},
        {"messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 50},
        {"input": "hello", "max_output_tokens": 50},
        {"input": [{"role": "user", "content": "hello"}], "max_output_tokens": 50},
        {"prompt": ["hello"], "max_tokens": 50},
    ],
)
def test_the_body_of_every_common_api_is_counted(body: dict[str, Any]) -> None:
    check = read({"model": "plain", **body})

    assert (check.model, check.max_output_tokens) == ("plain", 50)
    assert check.input_tokens is not None
    assert 1 <= check.input_tokens <= 12


@pytest.mark.parametrize("name", ["system", "instructions"])
def test_what_stands_before_the_messages_counts_too(name: str) -> None:
    body = {"model": "plain", "messages": [{"role": "user", "content": "hello"}]}

    long, short = read({**body, name: "be brief and kind " * 20}), read(body)

    assert (long.input_tokens or 0) > (short.input_tokens or 0) + 50


def test_headers_are_believed_before_the_body() -> None:
    body = {"model": "other", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}

    check = read(
        body,
        x_tokenbudget_model="plain",
        x_tokenbudget_input_tokens="1",
        x_tokenbudget_max_output_tokens="2",
    )

    assert (check.model, check.input_tokens, check.max_output_tokens) == ("plain", 1, 2)


def test_of_baggage_only_dimensions_are_tags_and_our_own_header_wins() -> None:
    check = read(
        baggage="team=other,feature=summarise;since=1,secret=x,broken",
        x_tokenbudget_estimate="0.25",
    )

    assert check.tags == {"team": "growth", "tenant": "a b", "feature": "summarise"}
    assert check.estimate_nanos == int(Decimal("0.25") * 10**9)


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (None, {"x_tokenbudget_model": "plain"}, "one of input_tokens, text, messages"),
        ({"input": "hello"}, {}, "model is needed"),
        (None, {"x_tokenbudget_model": "m", "x_tokenbudget_input_tokens": "many"}, "input_tokens"),
        ({"model": "m", "input": "x", "max_tokens": -1}, {}, "max_output_tokens"),
        ({"model": "m", "input": "x", "max_tokens": {"a": 1}}, {}, "max_output_tokens"),
    ],
)
def test_what_is_at_fault_is_named(body: Any, headers: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(body, **headers)


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b'"text"'])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse_authorization(HEADERS, body)
