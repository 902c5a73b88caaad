"""Items on their way to the writer: what every door does with usage it has read.

It owns how a request is divided into works and its answers are put together again. It refuses to
read anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tokenbudget.api.access import AppState
from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.errors import Unavailable
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.events import ParsedItem, Rejection
from tokenbudget.services.usage import RecordAnswer, RecordUsage

RECORDING_FAILED = "recording_failed"


async def record_usage(
    state: AppState, items: Sequence[ParsedItem], caller: Caller, *, first_index: int = 0
) -> RecordAnswer:
    """Give what became of the items of one work, after they are committed.

    ``first_index`` is the place of the first in its request; items that are rejections know theirs.
    """
    answer = await state.writer.submit(RecordUsage(items, caller))
    if not isinstance(answer, RecordAnswer):
        raise TypeError(f"recording usage was answered with {type(answer).__name__}")
    return _placed(answer, items, first_index) if first_index and answer.rejected else answer


def _placed(answer: RecordAnswer, items: Sequence[ParsedItem], first_index: int) -> RecordAnswer:
    """Give the answer with the places in the request of the items that the ledger rejected."""
    placed = {id(item) for item in items if isinstance(item, Rejection)}
    rejected = (
        each if id(each) in placed else replace(each, index=each.index + first_index)
        for each in answer.rejected
    )
    return replace(answer, rejected=tuple(sorted(rejected, key=lambda each: each.index)))


async def record_one_by_one(
    state: AppState, events: Sequence[UsageEvent], caller: Caller
) -> RecordAnswer:
    """Give what became of the events, by their place among them, even if some cannot be recorded.

    They are tried together; if the writer fails on that, each by itself, and one that it fails on
    is a rejection. Raises Unavailable when the database cannot answer.
    """
    outcome = await _try(state, events, caller, 0)
    if isinstance(outcome, RecordAnswer):
        return outcome
    answers = []
    for index, event in enumerate(events):
        outcome = await _try(state, [event], caller, index)
        if isinstance(outcome, Exception):
            detail = f"the writer failed: {type(outcome).__name__}"
            rejection = Rejection(index, event.event_ref, RECORDING_FAILED, detail)
            outcome = RecordAnswer(0, 0, 0, (rejection,))
        answers.append(outcome)
    return merge_answers(answers)


async def _try(
    state: AppState, events: Sequence[UsageEvent], caller: Caller, first_index: int
) -> RecordAnswer | Exception:
    """Give the answer, or what the writer failed with when the events themselves made it fail."""
    recording = record_usage(state, events, caller, first_index=first_index)
    [outcome] = await asyncio.gather(recording, return_exceptions=True)
    if isinstance(outcome, RecordAnswer):
        return outcome
    if isinstance(outcome, Unavailable) or not isinstance(outcome, Exception):
        raise outcome
    return outcome


def merge_answers(answers: Sequence[RecordAnswer]) -> RecordAnswer:
    """Give the answer to a request from those to its parts."""
    return RecordAnswer(
        sum(answer.accepted for answer in answers),
        sum(answer.duplicates for answer in answers),
        sum(answer.unpriced for answer in answers),
        tuple(rejection for answer in answers for rejection in answer.rejected),
    )


def describe_answer(answer: RecordAnswer) -> dict[str, Any]:
    """Give the wire form of what became of each item."""
    return {
        "accepted": answer.accepted,
        "duplicates": answer.duplicates,
        "unpriced": answer.unpriced,
        "rejected": [describe_rejection(rejection) for rejection in answer.rejected],
    }


def describe_rejection(rejection: Rejection) -> dict[str, Any]:
    """Give the wire form of why an item was not accepted."""
    return {
        "index": rejection.index,
        "event_id": rejection.event_id,
        "code": rejection.code,
        "detail": rejection.detail,
    }
