"""Which spans of a trace tell of one call, in whatever order and however far apart they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.otlp.captured_runs import Account
from tests.formats.otlp.span_builders import START, TRACE, chat, make_span, span_id
from tokenbudget.formats.otlp import Call, Reading, SpanFacts, join, read_spans
from tokenbudget.formats.otlp.joining import MAX_ANCESTORS, find_standing
from tokenbudget.formats.otlp.shapes import Span

INNER, OUTER = "com.anthropic.sdk.python", "framework"
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
UNKNOWN = {INPUT: None, OUTPUT: None}
READING = Reading()


def call(number: int, changes: dict[str, Any] | None = None, **where: Any) -> Span:
    return make_span(number, chat(changes or {}), **where)


def totals_of(*requests: Sequence[Span]) -> tuple[int, int, int]:
    """Give calls, input and output tokens of requests told one after the other."""
    account = Account()
    for spans in requests:
        account.tell(spans)
    return (len(list(account.counting())), *account.totals())


def every_way(*spans: Span) -> list[list[list[Span]]]:
    """Give every order of the spans, in one request and in as many as there are spans."""
    orders = [list(order) for order in permutations(spans)]
    return [[order] for order in orders] + [[[span] for span in order] for order in orders]


def test_one_response_id_is_one_call() -> None:
    first = call(1, {"gen_ai.response.id": "r"}, scope=INNER)
    second = call(2, {"gen_ai.response.id": "r"}, scope=OUTER, start_ms=5_000, end_ms=6_000)

    for requests in every_way(first, second):
        assert totals_of(*requests) == (1, 1_000, 100)


@pytest.mark.parametrize("inner_id", ["r", None])
@pytest.mark.parametrize("outer_id", ["other", None])
def test_a_call_in_a_call_with_equal_tokens_is_one(
    inner_id: str | None, outer_id: str | None
) -> None:
    outer = call(1, {"gen_ai.response.id": outer_id}, scope=OUTER)
    inner = call(2, {"gen_ai.response.id": inner_id}, scope=INNER, parent=1)

    for requests in every_way(outer, inner):
        assert totals_of(*requests) == (1, 1_000, 100)


def test_a_call_below_other_spans_of_a_call_is_found_too() -> None:
    outer = call(1, scope=OUTER)
    between = make_span(2, {"http.method": "POST"}, parent=1)
    inner = call(3, scope=INNER, parent=2)

    for order in permutations((outer, between, inner)):
        assert totals_of(order) == (1, 1_000, 100)


def test_a_line_that_is_closed_late_takes_the_outer_call_back() -> None:
    outer = call(1, scope=OUTER, end_ms=100)
    between = make_span(2, {"http.method": "POST"}, parent=1)
    inner = call(3, scope=INNER, parent=2, start_ms=200, end_ms=300)

    assert totals_of([inner], [outer], [between]) == (1, 1_000, 100)


def test_of_a_nested_call_whose_usage_one_emitter_does_not_know_the_other_counts() -> None:
    for unknown, known in ((1, 2), (2, 1)):
        spans = {
            number: call(
                number,
                UNKNOWN if number == unknown else {},
                scope=OUTER if number == 1 else INNER,
                parent=None if number == 1 else 1,
            )
            for number in (unknown, known)
        }
        for requests in every_way(*spans.values()):
            assert totals_of(*requests) == (1, 1_000, 100)


def test_two_emitters_at_one_time_with_equal_tokens_tell_of_one_call() -> None:
    first = call(1, {"gen_ai.response.id": "r"}, scope=INNER, parent=9, end_ms=1_000)
    second = call(2, scope=OUTER, parent=9, start_ms=10, end_ms=1_010)

    for requests in every_way(first, second):
        assert totals_of(*requests) == (1, 1_000, 100)


@pytest.mark.parametrize(
    "other",
    [
        call(2, parent=9),
        call(2, scope=OUTER, parent=9, start_ms=1_001, end_ms=2_000),
        call(2, {OUTPUT: 101}, scope=OUTER, parent=9),
        call(2, {"gen_ai.request.model": "gpt-4o"}, scope=OUTER, parent=9),
        call(2, {"gen_ai.response.id": "s"}, scope=OUTER, parent=9),
    ],
    ids=["same emitter", "later", "other tokens", "other model", "other id"],
)
def test_anything_less_alike_is_two_calls(other: Span) -> None:
    first = call(1, {"gen_ai.response.id": "r"}, parent=9)

    for requests in every_way(first, other):
        assert totals_of(*requests)[0] == 2


def test_each_of_two_equal_calls_is_joined_with_one_of_the_other_emitter() -> None:
    spans = [
        call(1, scope=INNER, parent=9),
        call(2, scope=INNER, parent=9),
        call(3, scope=OUTER, parent=9, start_ms=1),
        call(4, scope=OUTER, parent=9, start_ms=1),
    ]

    for order in permutations(spans):
        assert totals_of(order) == (2, 2_000, 200)


def test_refused_calls_of_two_emitters_stay_two() -> None:
    refused = {**UNKNOWN, "error.type": "429"}
    spans = [call(1, refused, scope=INNER), call(2, refused, scope=OUTER)]

    assert totals_of(spans) == (2, 0, 0)


def test_a_call_around_other_calls_is_a_wrapper() -> None:
    outer = call(1, {INPUT: 2_000, OUTPUT: 150}, scope=OUTER)
    first = call(2, scope=INNER, parent=1)
    second = call(3, {OUTPUT: 50}, scope=INNER, parent=1, start_ms=500)

    for requests in every_way(outer, first, second):
        assert totals_of(*requests) == (2, 2_000, 150)


def test_a_wrapper_recorded_before_what_it_wraps_is_taken_back() -> None:
    outer = read_spans([call(1, {INPUT: 2_000}, scope=OUTER)], READING)
    inner = read_spans([call(2, scope=INNER, parent=1)], READING)

    joined = join(inner.events, inner.spans, outer.spans)

    assert joined.retracted == ((TRACE, span_id(1)),)
    assert [event.span_ref for event in joined.events] == [span_id(2)]


def test_a_retry_inside_a_call_is_a_call_of_its_own() -> None:
    outer = call(1, scope=OUTER)
    refused = call(2, {**UNKNOWN, "error.type": "429"}, scope=INNER, parent=1)
    answered = call(3, scope=INNER, parent=1, start_ms=500)

    for requests in every_way(outer, refused, answered):
        assert totals_of(*requests) == (2, 1_000, 100)


def test_two_answered_calls_in_each_other_are_two() -> None:
    outer = call(1, {"gen_ai.response.id": "r"}, scope=OUTER)
    inner = call(2, {"gen_ai.response.id": "s", OUTPUT: 7}, scope=OUTER, parent=1)

    for requests in every_way(outer, inner):
        assert totals_of(*requests) == (2, 2_000, 107)


def test_an_embedding_inside_a_chat_does_not_make_it_a_wrapper() -> None:
    outer = call(1, scope=OUTER)
    inner = call(2, {"gen_ai.operation.name": "embeddings", OUTPUT: None}, scope=INNER, parent=1)

    for requests in every_way(outer, inner):
        assert totals_of(*requests) == (2, 2_000, 100)


STREAM, LOG = {**UNKNOWN}, {"logfire.span_type": "log"}


def stream(number: int, **where: Any) -> Span:
    return call(number, UNKNOWN, scope="logfire.openai", parent=9, **where)


def stream_log(number: int, end_ms: int, changes: dict[str, Any] | None = None) -> Span:
    attributes = {"logfire.span_type": "log", **(changes or {})}
    return call(
        number, attributes, scope="logfire.openai", parent=9, start_ms=end_ms, end_ms=end_ms
    )


def test_logfires_stream_and_its_log_are_one_call() -> None:
    for requests in every_way(stream(1, end_ms=10), stream_log(2, 50)):
        assert totals_of(*requests) == (1, 1_000, 100)


def test_two_streams_and_their_logs_are_two_calls() -> None:
    spans = [stream(1, end_ms=10), stream(2, end_ms=20), stream_log(3, 50), stream_log(4, 60)]

    for order in permutations(spans):
        assert totals_of(order) == (2, 2_000, 200)


@pytest.mark.parametrize(
    "log",
    [stream_log(2, 5), stream_log(2, 50, {"gen_ai.request.model": "gpt-4o"})],
    ids=["before the stream", "of another model"],
)
def test_a_log_that_does_not_fit_is_a_call_of_its_own(log: Span) -> None:
    for requests in every_way(stream(1, end_ms=10), log):
        assert totals_of(*requests)[0] == 2


def test_a_joined_span_is_told_under_the_span_that_came_first() -> None:
    first = read_spans([call(2, scope=INNER, parent=1)], READING)
    second = read_spans([call(1, scope=OUTER)], READING)

    joined = join(second.events, second.spans, first.spans)

    (event,) = joined.events
    assert event.event_ref == f"{TRACE}:{span_id(1)}"
    assert event.span_ref == span_id(2)


def test_the_same_request_again_says_the_same() -> None:
    read = read_spans([call(1, scope=OUTER), call(2, scope=INNER, parent=1)], READING)

    again = join(read.events, read.spans, read.spans)

    assert again.enrichments == ()
    assert again.retracted == ()
    assert {event.event_ref for event in again.events} == {event.event_ref for event in read.events}


def test_tags_come_from_the_nearest_span_that_has_them() -> None:
    spans = [
        make_span(1, {"team": "growth", "feature": "search"}),
        make_span(2, {"feature": "summarise", "tenant.id": "acme"}, parent=1),
        call(3, {"tenant": "globex"}, parent=2),
    ]
    read = read_spans(spans, READING)

    (event,) = join(read.events, read.spans).events

    assert event.tags == {
        "service": "support-bot",
        "team": "growth",
        "feature": "summarise",
        "tenant": "globex",
    }


def test_tags_wait_until_the_line_is_unbroken() -> None:
    model = read_spans([call(3, parent=2)], READING)
    root = read_spans([make_span(1, {"feature": "search", "team": "growth"})], READING)
    between = read_spans([make_span(2, {"feature": "summarise"}, parent=1)], READING)

    after_root = join((), root.spans, model.spans)
    after_all = join((), between.spans, [*model.spans, *root.spans])

    assert after_root.enrichments == ()
    (enrichment,) = after_all.enrichments
    assert (enrichment.trace_ref, enrichment.span_ref) == (TRACE, span_id(3))
    assert enrichment.tags == {"feature": "summarise", "team": "growth"}


def test_a_span_that_is_its_own_ancestor_ends_nothing() -> None:
    spans = [call(1, parent=2), make_span(2, {"team": "growth"}, parent=1)]
    read = read_spans(spans, READING)

    (event,) = join(read.events, read.spans).events

    assert event.tags["team"] == "growth"


def test_another_trace_is_nobodys_business() -> None:
    read = read_spans([call(1)], READING)
    foreign = SpanFacts(
        "f" * 32, span_id(1), None, START, START + timedelta(seconds=1), {"team": "other"}
    )

    joined = join(read.events, read.spans, [foreign])

    assert joined.enrichments == ()
    assert joined.events == read.events


@pytest.mark.parametrize("same_tokens", [True, False])
def test_a_trace_of_many_calls_is_joined_in_reasonable_time(same_tokens: bool) -> None:
    spans = [
        SpanFacts(
            TRACE,
            span_id(number),
            span_id(1),
            START,
            START + timedelta(seconds=1),
            {},
            Call("app", "chat", frozenset({"m"}), None, (1_000 if same_tokens else number, 1)),
        )
        for number in range(2, 5_002)
    ]

    standing = find_standing(spans)

    assert len(set(standing.values())) == 5_000


def test_facts_can_be_kept_as_json() -> None:
    read = read_spans([call(1, {"gen_ai.response.id": "r"}), make_span(2, {"team": "x"})], READING)

    for facts in read.spans:
        assert msgspec.json.decode(msgspec.json.encode(facts), type=SpanFacts) == facts


@st.composite
def traces(draw: st.DrawFn) -> list[Span]:
    """Give spans of calls that lie in each other somehow."""
    count = draw(st.integers(1, 6))
    return [
        call(
            number,
            {
                OUTPUT: draw(st.sampled_from([100, 200, None])),
                INPUT: draw(st.sampled_from([1_000, None])),
                "gen_ai.response.id": draw(st.sampled_from(["r", "s", None])),
            },
            scope=draw(st.sampled_from([INNER, OUTER, "logfire.openai"])),
            parent=draw(st.none() | st.integers(1, count)),
        )
        for number in range(1, count + 1)
    ]


@given(spans=traces())
def test_every_call_stands_for_itself_or_is_stood_for_by_one_that_does(spans: list[Span]) -> None:
    read = read_spans(spans, READING)

    standing = find_standing(read.spans)

    assert set(standing) == {span.key for span in read.spans if span.call is not None}
    for (trace_ref, _), standing_ref in standing.items():
        if standing_ref is not None:
            assert standing[trace_ref, standing_ref] == standing_ref


def tags_come_down(parents: Mapping[int, int], count: int) -> bool:
    """Tell whether each of so many spans has the tags of those around it, and of no other."""
    facts = [
        SpanFacts(
            TRACE,
            span_id(number),
            span_id(parents[number]) if number in parents else None,
            START,
            START,
            {str(number): "x"},
            Call("app", "chat", frozenset(), str(number), None),
        )
        for number in range(1, count + 1)
    ]
    read = read_spans([call(number) for number in range(1, count + 1)], READING)
    untagged = [replace(event, tags={}) for event in read.events]
    told = {event.event_ref: set(event.tags) for event in join(untagged, facts).events}
    return told == {
        event.event_ref: set(map(str, line_of(number, parents, count)))
        for number, event in enumerate(read.events, 1)
    }


def line_of(number: int, parents: Mapping[int, int], count: int) -> list[int]:
    """Give the spans around a span, as far as they are known."""
    line: list[int] = []
    parent = parents.get(number, 0)
    while 0 < parent <= count and parent not in (number, *line) and len(line) < MAX_ANCESTORS:
        line.append(parent)
        parent = parents.get(parent, 0)
    return line


@given(parents=st.dictionaries(st.integers(1, 8), st.integers(1, 9)))
def test_tags_come_down_every_line_also_one_that_runs_in_a_circle(parents: dict[int, int]) -> None:
    assert tags_come_down(parents, 8)


def test_tags_come_down_so_many_spans_and_no_more() -> None:
    count = MAX_ANCESTORS + 3
    in_a_line = {number: number - 1 for number in range(2, count + 1)}

    assert tags_come_down(in_a_line, count)
    assert tags_come_down({**in_a_line, 1: count}, count)
    assert tags_come_down({**in_a_line, 1: MAX_ANCESTORS}, count)


@given(spans=traces(), split=st.integers(0, 6))
def test_what_came_before_keeps_its_standing_or_is_retracted(spans: list[Span], split: int) -> None:
    read = read_spans(spans, READING)
    earlier, later = read.spans[:split], read.spans[split:]
    before = find_standing(earlier)

    joined = join((), later, earlier)

    touched = {span.trace_ref for span in later}
    after = find_standing(
        [*earlier, *sorted(later, key=lambda s: (s.ended_at, s.started_at, s.span_ref))]
    )
    lost = {
        key
        for key, ref in before.items()
        if ref == key[1] and after[key] != ref and key[0] in touched
    }
    assert set(joined.retracted) == lost
