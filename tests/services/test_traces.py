"""Spans are remembered as long as the rest of their trace may come, and joined whenever it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations

import pytest

from tests.builders import NOBODY, broken_rules, rows_of
from tests.conftest import FrozenClock
from tests.formats.otlp.span_builders import TRACE, chat, make_span, span_id
from tokenbudget.domain.allocation import UNALLOCATED
from tokenbudget.domain.rollups import DAY_SECONDS
from tokenbudget.domain.usage import Witness
from tokenbudget.formats.events import Door
from tokenbudget.formats.otlp import Reading, read_spans
from tokenbudget.formats.otlp.shapes import Span
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.traces import RecordSpans, forget_old_traces
from tokenbudget.services.usage import RecordAnswer
from tokenbudget.store.db import MANY_ROWS, Database
from tokenbudget.store.tables import DimensionSetRow, RollupRow, TraceSpanRow

READING = Reading()
OTHER_TRACE = "f" * 32
NOBODYS = (UNALLOCATED, None)
ROOT, AGENT, FIRST_CALL = 1, 2, 3
CALL_COUNTS = (2, MANY_ROWS + 10)
"""So many that rows go in one by one, and so many that they go in together."""


def calls(count: int) -> list[Span]:
    """Give calls of one agent."""
    changes = {"gen_ai.provider.name": "acme", "gen_ai.request.model": "plain"}
    return [
        make_span(FIRST_CALL + number, chat(changes), parent=AGENT, resource={})
        for number in range(count)
    ]


def around() -> list[Span]:
    """Give the spans around the calls: the agent says nothing, the root a team and a tenant."""
    return [
        make_span(AGENT, {"gen_ai.operation.name": "invoke_agent"}, parent=ROOT, resource={}),
        make_span(ROOT, {"team": "growth", "tenant.id": "globex"}, resource={}),
    ]


def work_of(ledger: Ledger, spans: Sequence[Span]) -> RecordSpans:
    door = Door(ledger.clock(), timedelta(days=365), witness=Witness.OTLP)
    return RecordSpans(read_spans(spans, READING), door, NOBODY)


def tell(ledger: Ledger, *requests: Sequence[Span], together: bool = False) -> list[RecordAnswer]:
    """Record these requests, in one transaction or in one each."""
    works = [work_of(ledger, spans) for spans in requests]
    batches = [works] if together else [[work] for work in works]
    answers = [answer for batch in batches for answer in ledger.apply(batch)]
    assert all(isinstance(answer, RecordAnswer) for answer in answers)
    return [answer for answer in answers if isinstance(answer, RecordAnswer)]


def requests_by_tags(database: Database) -> dict[tuple[str | None, str | None], int]:
    """Give how many requests count under each team and tenant, none left out."""
    sets = {row["id"]: (row["team"], row["tenant"]) for row in rows_of(database, DimensionSetRow)}
    counted: Counter[tuple[str | None, str | None]] = Counter()
    for row in rows_of(database, RollupRow):
        if row["grain_seconds"] == DAY_SECONDS:
            counted[sets[row["dimension_set_id"]]] += row["requests"]
    return {place: count for place, count in counted.items() if count}


@pytest.mark.parametrize("count", CALL_COUNTS)
@pytest.mark.parametrize("together", [False, True])
def test_tags_of_spans_around_a_call_reach_it_in_any_order_of_requests(
    ledger: Ledger, database: Database, count: int, together: bool
) -> None:
    agent, root = around()

    for number, order in enumerate(permutations([calls(count), [agent], [root]])):
        trace = f"{number + 1:032x}"
        told = [[_in(trace, span) for span in spans] for spans in order]
        tell(ledger, *told, *told, together=together)

        assert requests_by_tags(database) == {("growth", "globex"): count * (number + 1)}
    assert broken_rules(database) == []


def test_a_span_that_says_nothing_is_not_remembered_before_a_call_of_its_trace_is(
    ledger: Ledger, database: Database
) -> None:
    agent, root = around()

    tell(ledger, [agent])
    assert rows_of(database, TraceSpanRow) == []
    tell(ledger, calls(1), [agent], [root])

    assert len(rows_of(database, TraceSpanRow)) == 3
    assert requests_by_tags(database) == {("growth", "globex"): 1}


@pytest.mark.parametrize("count", CALL_COUNTS)
def test_a_span_is_remembered_once_when_its_trace_has_a_call_or_it_has_tags(
    ledger: Ledger, database: Database, count: int
) -> None:
    lonely = _in(OTHER_TRACE, make_span(7, {"http.method": "GET"}, resource={}))
    tagged = _in(OTHER_TRACE, make_span(8, {"team": "growth"}, resource={}))

    tell(ledger, [*calls(count), *around(), lonely, tagged], [lonely, *around()])

    rows = rows_of(database, TraceSpanRow)
    assert [(row["trace_ref"], row["span_ref"]) for row in rows] == [
        *((TRACE, span_id(FIRST_CALL + number)) for number in range(count)),
        (TRACE, span_id(AGENT)),
        (TRACE, span_id(ROOT)),
        (OTHER_TRACE, span_id(8)),
    ]
    assert [row["call"] is not None for row in rows] == [True] * count + [False] * 3
    assert rows[-2]["tags"] == {"team": "growth", "tenant": "globex"}
    assert {row["seen_at"] for row in rows} == {ledger.clock()}


@pytest.mark.parametrize("together", [False, True])
def test_a_span_told_twice_in_one_request_is_remembered_once(
    ledger: Ledger, database: Database, together: bool
) -> None:
    told = [*calls(1), *around()] * 2

    answers = tell(ledger, told, told, together=together)

    assert [answer.accepted for answer in answers] == [1, 0]
    assert len(rows_of(database, TraceSpanRow)) == 3
    assert requests_by_tags(database) == {("growth", "globex"): 1}


@pytest.mark.parametrize("count", CALL_COUNTS)
@pytest.mark.parametrize("together", [False, True])
def test_a_wrapper_told_before_the_calls_in_it_is_taken_back(
    ledger: Ledger, database: Database, count: int, together: bool
) -> None:
    wrapper = make_span(AGENT, chat({"gen_ai.usage.input_tokens": 77}), scope="app", resource={})

    tell(ledger, [wrapper], calls(count), together=together)

    assert requests_by_tags(database) == {NOBODYS: count}
    assert broken_rules(database) == []


def test_what_is_forgotten_is_not_joined_any_more(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    window = timedelta(hours=1)
    tell(ledger, calls(2))
    clock.advance(minutes=60)
    assert forget_old_traces(database, now=clock(), window=window) == 0
    clock.advance(seconds=1)

    assert forget_old_traces(database, now=clock(), window=window) == 2

    assert rows_of(database, TraceSpanRow) == []
    tell(ledger, around())
    assert requests_by_tags(database) == {NOBODYS: 2}


def _in(trace_ref: str, span: Span) -> Span:
    return make_span(
        int(span.span_ref, 16),
        span.attributes,
        trace_ref=trace_ref,
        parent_ref=span.parent_ref,
        origin=span.origin,
    )
