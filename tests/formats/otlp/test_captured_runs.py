"""Every captured run, in any order and sent twice, ends at what the provider answered.

Adding up the attributes gives between nothing and nearly twice the truth. Numbers of the README of
the captures are repeated here as literals.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tests.formats.otlp.captured_runs import (
    RUNS,
    list_exports,
    list_true_calls,
    naive_sum,
    told,
)
from tokenbudget.domain.usage import Basis, Witness
from tokenbudget.formats.otlp import Reading
from tokenbudget.formats.otlp.span_usage import CACHE_UNKNOWN, GUESSED, OUTPUT_INEXACT

ORDERS = 12
MANUAL_CALL = (20_013, 205)


@dataclass(frozen=True)
class Expected:
    """Input and output tokens of one run: the truth, their naive sum, and what is missing.

    ``unknown`` are calls without usage, ``unseen`` the response ids of calls without any span,
    ``extra`` what was told besides the calls of the truth.
    """

    true: tuple[int, int]
    naive: tuple[int, int]
    unknown: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    extra: tuple[int, int] = (0, 0)


STREAM = ("chatcmpl-FAKE0003",)
EXPECTED = {
    "otel-genai-official_1.3b0": Expected((70_437, 3_199), (128_673, 3_523), STREAM),
    "otel-genai-official_1.3b0_small-batches": Expected((70_437, 3_199), (128_673, 3_523), STREAM),
    "openai-v2_2.4b0_default": Expected((7_353, 1_259), (3_697, 627), STREAM, ("resp_FAKE0005",)),
    "openai-v2_2.4b0_latest-experimental": Expected(
        (7_353, 1_259), (3_697, 627), STREAM, ("resp_FAKE0005",)
    ),
    "openllmetry_0.62.4": Expected((70_437, 3_199), (128_673, 2_725), STREAM),
    "openllmetry_0.62.4_otlp-json": Expected((7_353, 1_259), (5_526, 944), STREAM),
    "openinference": Expected((67_416, 1_898), (125_652, 2_222), STREAM),
    "openlit_1.45.0": Expected((67_416, 1_898), (5_640, 1_589), STREAM),
    "langfuse_5.0.4": Expected((5_478, 942), (0, 0), extra=MANUAL_CALL),
    "logfire_5.2_pydantic-ai_2.68": Expected((5_478, 942), (7_305, 1_257)),
    "vercel-ai-sdk_6.0.326_otlp-json": Expected((25_542, 1_151), (25_495, 1_151)),
}
REPORTED_CACHE = [run for run in RUNS if not run.startswith("openai-v2")]


def test_every_run_has_its_figures() -> None:
    assert set(EXPECTED) == set(RUNS)


@pytest.mark.parametrize("run", RUNS)
def test_the_truth_and_the_naive_sum_are_those_of_the_capture(run: str) -> None:
    calls = list_true_calls(run)

    assert (sum(call.tokens[0] for call in calls), sum(call.tokens[1] for call in calls)) == (
        EXPECTED[run].true
    )
    assert naive_sum(run) == EXPECTED[run].naive


@pytest.mark.parametrize("order", range(ORDERS))
@pytest.mark.parametrize("run", RUNS)
def test_a_run_in_any_order_and_sent_twice_ends_at_the_truth(run: str, order: int) -> None:
    expected = EXPECTED[run]
    exports = [*list_exports(run), *list_exports(run)]
    random.Random(order).shuffle(exports)

    account = told(exports)

    missing = {*expected.unknown, *expected.unseen}
    sent = [call.tokens for call in list_true_calls(run) if call.response_ref not in missing]
    assert account.totals() == (
        sum(tokens[0] for tokens in sent) + expected.extra[0],
        sum(tokens[1] for tokens in sent) + expected.extra[1],
    )
    assert tuple(event.response_ref for event in account.unknown()) == expected.unknown


@pytest.mark.parametrize("order", range(ORDERS))
@pytest.mark.parametrize("run", RUNS)
def test_spans_sent_one_by_one_in_any_order_end_at_the_truth(run: str, order: int) -> None:
    spans = [span for export in list_exports(run) for span in export.spans()] * 2
    random.Random(order).shuffle(spans)
    whole = told(list_exports(run))

    account = told([])
    for span in spans:
        account.tell([span])

    assert account.totals() == whole.totals()
    assert len(list(account.counting())) == len(list(whole.counting()))
    assert sorted(str(sorted(event.tags.items())) for event in account.counting()) == sorted(
        str(sorted(event.tags.items())) for event in whole.counting()
    )


@pytest.mark.parametrize("run", RUNS)
def test_every_call_is_told_with_its_model_and_provider(run: str) -> None:
    by_response = {event.response_ref: event for event in told(list_exports(run)).counting()}

    for call in list_true_calls(run):
        event = by_response.get(call.response_ref)
        if call.response_ref is None or event is None:
            continue
        assert event.model == call.model
        assert event.witness is Witness.OTLP


@pytest.mark.parametrize("run", REPORTED_CACHE)
def test_cached_input_is_as_the_provider_said(run: str) -> None:
    calls = {call.response_ref: call for call in list_true_calls(run) if call.response_ref}

    for event in told(list_exports(run)).counting():
        call = calls.get(event.response_ref or "")
        if call is not None and event.quantities and event.status == "ok":
            cached = event.quantities.get("cached_input_tokens")
            assert cached == call.quantities.get("cached_input_tokens")


@pytest.mark.parametrize(
    "run", ["otel-genai-official_1.3b0", "openllmetry_0.62.4", "openinference"]
)
def test_cache_writes_are_told_by_lifetime_where_any_emitter_told_them(run: str) -> None:
    by_response = {event.response_ref: event for event in told(list_exports(run)).counting()}

    quantities = by_response["msg_FAKE0007"].quantities or {}

    assert quantities["cache_write_5m_tokens"] == 548
    assert quantities["cache_write_1h_tokens"] == 500


@pytest.mark.parametrize("run", ["openai-v2_2.4b0_default", "openai-v2_2.4b0_latest-experimental"])
def test_an_emitter_that_never_tells_of_the_cache_is_flagged(run: str) -> None:
    chats = [event for event in told(list_exports(run)).counting() if event.operation == "chat"]
    answered = [event for event in chats if event.quantities and event.status == "ok"]

    assert len(answered) == 2
    assert all(CACHE_UNKNOWN in event.flags for event in answered)


def test_output_that_traceloop_counts_too_high_is_flagged_and_does_not_count() -> None:
    account = told(list_exports("openllmetry_0.62.4"))

    inexact = [event for event in account.events if OUTPUT_INEXACT in event.flags]

    assert [(event.quantities or {})["output_tokens"] for event in inexact] == [212, 214, 215]
    assert not any(OUTPUT_INEXACT in event.flags for event in account.counting())


def test_output_that_only_traceloop_tells_counts_with_its_flag() -> None:
    spans = [
        span
        for export in list_exports("openllmetry_0.62.4")
        for span in export.spans()
        if not span.origin.scope.startswith("com.anthropic")
    ]

    account = told([])
    account.tell(spans)

    anthropic = [event for event in account.counting() if event.provider == "anthropic"]
    assert len(anthropic) == 3
    assert all(OUTPUT_INEXACT in event.flags for event in anthropic)


def test_openlits_guess_is_unknown_unless_guesses_are_accepted() -> None:
    exports = list_exports("openlit_1.45.0")

    refused = told(exports).unknown()
    accepted = told(exports, Reading(accepts_guesses=True))

    assert [event.flags for event in refused] == [(GUESSED,)]
    assert accepted.unknown() == []
    guessed = [event for event in accepted.counting() if GUESSED in event.flags]
    assert [event.quantities for event in guessed] == [{"input_tokens": 27, "output_tokens": 6}]
    assert guessed[0].basis is Basis.ESTIMATED
    assert guessed[0].reported_nanos is None


@pytest.mark.parametrize(
    "run", [run for run in RUNS if any(c.model == "does-not-exist" for c in list_true_calls(run))]
)
def test_a_refused_call_is_counted_and_used_nothing(run: str) -> None:
    failed = [event for event in told(list_exports(run)).counting() if event.status != "ok"]

    assert [(event.status, event.model, event.quantities) for event in failed] == [
        ("error", "does-not-exist", {"input_tokens": 0, "output_tokens": 0})
    ]


@pytest.mark.parametrize("order", range(ORDERS))
def test_tags_of_a_parent_that_comes_in_another_request_reach_its_calls(order: int) -> None:
    exports = list_exports("otel-genai-official_1.3b0_small-batches")
    random.Random(order).shuffle(exports)

    events = list(told(exports).counting())

    assert len(events) == 11
    for event in events:
        assert event.tags == {
            "team": "support",
            "feature": "ticket-summary",
            "tenant": "globex",
            "environment": "prod",
            "cost_center": "cc-1042",
            "service": "support-bot",
            "service_namespace": "acme",
            "user": "u-381",
            "session_id": "s-77",
        }


@pytest.mark.parametrize("run", RUNS)
def test_every_call_is_tagged_with_its_team(run: str) -> None:
    assert {event.tags["team"] for event in told(list_exports(run)).counting()} == {"support"}
