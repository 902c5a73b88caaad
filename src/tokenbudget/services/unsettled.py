"""Calls that were sent and of which nobody knows what they used: neither free nor the full hold.

It owns what is charged until somebody tells, which is the input that the hold was asked for, and
the list of such calls, beside the holds that ran out without any word. A call leaves the list when
what it was charged provisionally is taken back for something better: a revision, another witness.
It refuses to guess where no hold says how large the input was; then the call stays unpriced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.domain.rating import USAGE_UNKNOWN
from tokenbudget.domain.unsettled import OpenCall, OpenCalls
from tokenbudget.domain.usage import INPUT_ONLY, OK_STATUS, Basis
from tokenbudget.formats.cursors import decode_cursor, encode_cursor
from tokenbudget.services.postings import Candidate, Posting
from tokenbudget.store.db import Database
from tokenbudget.store.unsettled import (
    add_unsettled,
    count_unsettled,
    find_held_inputs,
    list_expired_holds,
    list_unsettled_calls,
    remove_unsettled,
)

USUAL_PAGE_CALLS: Final = 100
MOST_PAGE_CALLS: Final = 1_000
CURSOR_LENGTH: Final = 3
CALL: Final = "call"
HOLD: Final = "hold"
HIGHEST_HOLD_ID: Final = "g"
"""Above every id of a hold, whose digits are hexadecimal."""


def charge_input_of_unknown(session: Session, candidates: Iterable[Candidate]) -> None:
    """Let calls of unknown outcome count for the input that their hold was asked for."""
    unknown = [item for item in candidates if _is_unknown(item)]
    if not unknown:
        return
    inputs = find_held_inputs(session, {item.hold_id for item in unknown if item.hold_id})
    for item in unknown:
        input_tokens = inputs.get(item.hold_id or "")
        if input_tokens is not None:
            # What was sent stays as it is: the same batch may be applied anew.
            item.event = replace(
                item.event,
                quantities={"input_tokens": input_tokens},
                basis=Basis.ESTIMATED,
                flags=(*item.event.flags, INPUT_ONLY),
            )


def note_unsettled(session: Session, postings: Iterable[Posting]) -> None:
    """Put on the list what these postings charge provisionally, and take off what they take back.

    What is only moved elsewhere stays on it.
    """
    evidenced: set[int] = set()
    listed: dict[int, Posting] = {}
    for posting in postings:
        if posting.sign < 0:
            evidenced.add(posting.reverses_usage_id or posting.usage_id)
        elif posting.hold_id is not None and posting.charge.flags and _is_open(posting):
            listed[posting.usage_id] = posting
    remove_unsettled(session, evidenced)
    rows = [
        {
            "usage_id": usage_id,
            "occurred_at": posting.occurred_at,
            "hold_id": posting.hold_id,
            "dimension_set_id": posting.placement.dimension_set_id,
            "provisional_nanos": posting.charge.effective_nanos,
        }
        for usage_id, posting in listed.items()
    ]
    add_unsettled(session, rows)


def list_unsettled(
    database: Database, *, cursor: str | None = None, limit: int = USUAL_PAGE_CALLS
) -> OpenCalls:
    """Give one page of calls and holds without an outcome; raises InvalidInput naming the field.

    Calls come before holds of the same instant.
    """
    if not 1 <= limit <= MOST_PAGE_CALLS:
        raise InvalidInput(f"limit must be 1 to {MOST_PAGE_CALLS}", field="limit")
    after_call, after_hold = _places(cursor)
    with database.reading() as session:
        calls = list_unsettled_calls(session, after_call, limit=limit + 1)
        holds = list_expired_holds(session, after_hold, limit=limit + 1)
        totals = count_unsettled(session)
    # Sorting keeps calls in front of holds, and each of them in the order they came in.
    found = sorted([*calls, *holds], key=lambda each: each.since, reverse=True)
    items = found[:limit]
    return OpenCalls(items, _cursor_of(items) if len(found) > limit else None, *totals)


def _is_unknown(item: Candidate) -> bool:
    event = item.event
    return (
        item.hold_id is not None
        and event.quantities is None
        and event.status != OK_STATUS
        and not event.is_void
        and not event.cache_hit
    )


def _is_open(posting: Posting) -> bool:
    return INPUT_ONLY in posting.charge.flags or USAGE_UNKNOWN in posting.charge.flags


def _cursor_of(items: Sequence[OpenCall]) -> str:
    last = items[-1]
    if last.usage_id is None:
        return encode_cursor([to_micros(last.since), HOLD, last.hold_id])
    return encode_cursor([to_micros(last.since), CALL, str(last.usage_id)])


def _places(
    cursor: str | None,
) -> tuple[tuple[datetime, int] | None, tuple[datetime, str] | None]:
    """Give after which call and after which hold the page begins; None for the newest."""
    if cursor is None:
        return None, None
    micros, kind, ref = decode_cursor(cursor, length=CURSOR_LENGTH)
    is_place = isinstance(micros, int) and kind in (CALL, HOLD) and isinstance(ref, str)
    try:
        since = from_micros(micros) if isinstance(micros, int) else None
        usage_id = int(ref or 0) if kind == CALL else 0
    except (OverflowError, ValueError):
        is_place = False
    if not is_place or since is None:
        raise InvalidInput("cursor is not one that a page of this list gave", field="cursor")
    if kind == HOLD:
        # Of that instant all calls were listed: no id is below the least.
        return (since, 0), (since, str(ref))
    return (since, usage_id), (since, HIGHEST_HOLD_ID)
