"""Quota checks on the wire: the request as read, and the answer as spelled."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.builders import make_check
from tokenbudget.domain.budgets import (
    Budget,
    BudgetWindow,
    Mode,
    ThresholdOn,
    Unit,
)
from tokenbudget.domain.errors import InvalidInput, MalformedBody
from tokenbudget.domain.holds import Binding, CheckRequest, Decision, Demand, Notice, Outcome
from tokenbudget.domain.periods import Window
from tokenbudget.domain.usage import Basis
from tokenbudget.formats.quota import describe_decision, parse_check

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MONTHLY_TOKENS = Budget(
    id="tokens",
    version=1,
    counting_version=1,
    selector={},
    split_by=(),
    unit=Unit.TOKENS,
    limit=1_000,
    window=BudgetWindow(Window.MONTH, None),
    window_text="month",
    mode=Mode.HARD,
    thresholds=(),
    threshold_on=ThresholdOn.COMMITTED,
    overdraft=0,
    counts_from_window=True,
    fails_open=False,
    owner=None,
    channels=(),
    valid_from=NOON,
)


def parse(**overrides: Any) -> CheckRequest:
    """Give the check read from ``make_check(**overrides)`` as JSON."""
    return parse_check(json.dumps(make_check(**overrides)).encode())


def test_every_field_of_the_contract_is_read() -> None:
    request = parse(
        service_tier="batch", estimate="0.25", ttl_seconds=90, idempotency_key="k", dry_run=True
    )

    assert request.tags == {"team": "growth", "feature": "summarise", "tenant": "acme"}
    assert (request.provider, request.model, request.service_tier) == ("acme", "plain", "batch")
    assert (request.input_tokens, request.max_output_tokens) == (10_000, 5_000)
    assert (request.estimate_nanos, request.ttl) == (250_000_000, timedelta(seconds=90))
    assert (request.idempotency_key, request.dry_run) == ("k", True)
    assert len(request.request_digest) == 32


def test_an_estimate_alone_is_enough() -> None:
    request = parse_check(b'{"estimate": 0.05}')

    assert (request.provider, request.model, request.input_tokens) == ("", "", None)
    assert request.estimate_nanos == 50_000_000
    assert request.request_digest == ""


def test_tags_that_are_null_are_absent() -> None:
    assert parse(tags={"team": "growth", "tenant": None}).tags == {"team": "growth"}


def test_the_digest_is_that_of_the_content_and_not_of_its_order() -> None:
    check = make_check(idempotency_key="k")
    turned = json.dumps(dict(reversed(check.items()))).encode()

    digest = parse(idempotency_key="k").request_digest

    assert parse_check(turned).request_digest == digest
    assert parse(idempotency_key="k", input_tokens=1).request_digest != digest


def test_text_is_counted() -> None:
    assert parse(model="gpt-4o", input_tokens=None, text="hello world").input_tokens == 2


def test_messages_are_counted_with_what_the_chat_format_adds() -> None:
    messages = [{"role": "user", "content": "hello world"}]

    request = parse(model="gpt-4o", input_tokens=None, messages=messages)

    # Two tokens of content, one of the role, three around the message and three for the reply.
    assert request.input_tokens in (8, 9)


def test_text_without_a_model_is_counted_when_an_estimate_is_given() -> None:
    assert parse_check(b'{"estimate": "1", "text": "hello world"}').input_tokens == 2
    assert parse_check(b'{"estimate": "1", "messages": []}').input_tokens == 3


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"provider": None}, "provider is needed unless an estimate is given"),
        ({"model": None}, "model is needed unless an estimate is given"),
        ({"input_tokens": None}, "one of input_tokens, text, messages or estimate is needed"),
        ({"text": "x", "messages": []}, "only one of input_tokens, text, messages may be given"),
        ({"estimate": "-1"}, "estimate -1 is negative"),
        ({"estimate": "NaN"}, "estimate 'NaN' is not a finite decimal number"),
        ({"estimate": "x"}, "`estimate`"),
        ({"input_tokens": -1}, "`input_tokens`"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"idempotency_key": ""}, "`idempotency_key`"),
        ({"model": "a\0b"}, "model holds a NUL character"),
    ],
)
def test_a_fault_names_the_field_and_the_rule(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(**change)

    assert fault in caught.value.detail
    assert not isinstance(caught.value, MalformedBody)


@pytest.mark.parametrize("body", [b"", b"{", b'{"model": "\xff"}', b'{"messages":[{"a":' * 900])
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="the body is not JSON"):
        parse_check(body)


@pytest.mark.parametrize("depth", range(900, 1_010, 10))
def test_no_depth_of_nesting_gets_past_the_door(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    body = b'{"estimate":1,"idempotency_key":"k","messages":[{"content":' + nested + b"}]}"

    try:
        request = parse_check(body)
    except MalformedBody:
        return
    assert request.request_digest


def test_an_answer_that_allows_nothing_special_is_mostly_null() -> None:
    decision = Decision(Outcome.DENY, Demand(None, 0, Basis.UNPRICED), None, None)

    assert describe_decision(decision, currency="USD", fails_open=True) == {
        "decision": "deny",
        "hold_id": None,
        "expires_at": None,
        "estimate": None,
        "currency": "USD",
        "basis": "unpriced",
        "limits": {"max_output_tokens": None, "model": None, "requests": None},
        "binding": None,
        "warnings": [],
        "reasons": [],
        "fail_mode": "open",
    }


def test_an_answer_spells_money_times_and_notices() -> None:
    decision = Decision(
        outcome=Outcome.REDUCE,
        demand=Demand(1_500_000, 10, Basis.RATED),
        max_output_tokens=5,
        model="plain",
        hold_id="h",
        expires_at=NOON,
        binding=Binding(MONTHLY_TOKENS, settled=100, held=10, headroom=890, resets_at=NOON),
        warnings=(Notice("w", "warned"),),
        reasons=(Notice("r", "reasoned"),),
    )

    assert describe_decision(decision, currency="EUR", fails_open=False) == {
        "decision": "reduce",
        "hold_id": "h",
        "expires_at": "2026-11-20T12:00:00Z",
        "estimate": "0.001500000",
        "currency": "EUR",
        "basis": "rated",
        "limits": {"max_output_tokens": 5, "model": "plain", "requests": 1},
        "binding": {
            "budget": "tokens",
            "budget_version": 1,
            "unit": "tokens",
            "limit": "1000",
            "carry": "0",
            "raised": "0",
            "settled": "100",
            "held": "10",
            "headroom": "890",
            "resets_at": "2026-11-20T12:00:00Z",
        },
        "warnings": [{"code": "w", "detail": "warned"}],
        "reasons": [{"code": "r", "detail": "reasoned"}],
        "fail_mode": "closed",
    }
