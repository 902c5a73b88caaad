"""Closing a month: a draft while grace lasts, then rows that nothing changes any more.

It owns when a month may be closed and what closing writes. It refuses to work out what a statement
says (``stating.py``) and to change one that is closed (``restatements.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.errors import Conflict
from tokenbudget.domain.months import format_month, month_period, shift_month
from tokenbudget.domain.statements import (
    Refusal,
    StatementHeader,
    StatementState,
    digest_lines,
)
from tokenbudget.services.ids import new_id
from tokenbudget.services.stating import Allocate, Working, agree, refuse, work_out
from tokenbudget.store.db import Database
from tokenbudget.store.statements import (
    add_period_close,
    add_statement,
    find_in_state,
    last_version,
    list_in_state,
    list_months_billed,
    lock_statements,
    replace_draft,
    set_notes,
)

AT_ONCE: Final = timedelta(0)
NOT_STATED: Final = "not_stated"
MAX_EARLIER_NAMED: Final = 12


@dataclass(frozen=True, slots=True)
class Closing:
    """What closing a month did; with ``refusals`` the statement stays the draft it was."""

    statement: StatementHeader
    is_new: bool = False
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why nothing was written."""

    refusals: tuple[Refusal, ...]
    currency: str


@dataclass(frozen=True, slots=True)
class _Wish:
    """How somebody wants a month closed."""

    month: int
    now: datetime
    grace: timedelta
    by: str | None


def close_month(
    database: Database,
    allocate: Allocate,
    *,
    month: int,
    now: datetime,
    grace: timedelta,
    by: str | None = None,
) -> Closing:
    """Give the month's statement: a draft while the grace lasts, closed without any.

    A draft there is already is worked out again, keeps its grace, and is closed once that is over.
    ``by`` is the id of the API key that asks. Raises Conflict, and stores nothing, when the month
    is not over, not the next to close, or closed, and when anything speaks against it: all of that
    is in the error's ``refusals``.
    """
    closing = _close(database, allocate, _Wish(month, now, grace, by))
    if isinstance(closing, _Refused):
        raise refuse(month, "closed", closing.refusals, closing.currency)
    return closing


def close_due_drafts(database: Database, allocate: Allocate, *, now: datetime) -> list[Closing]:
    """Close the drafts whose grace is over and give what became of each, earliest first.

    One that is refused stays a draft and says why in its notes.
    """
    with database.reading() as session:
        drafts = list_in_state(session, StatementState.DRAFT)
    due = [draft for draft in drafts if draft.grace_ends_at is None or draft.grace_ends_at <= now]
    return [_close_draft(database, allocate, draft, now=now) for draft in due]


def _close_draft(
    database: Database, allocate: Allocate, draft: StatementHeader, *, now: datetime
) -> Closing:
    closing = _close(database, allocate, _Wish(draft.month, now, AT_ONCE, draft.recorded_by))
    if isinstance(closing, Closing):
        return closing
    with database.transaction() as session:
        lock_statements(session)
        present = find_in_state(session, draft.month, StatementState.DRAFT)
        if present is not None:
            set_notes(session, present.statement_id, closing.refusals)
    return Closing(draft, refusals=closing.refusals)


def _close(database: Database, allocate: Allocate, wish: _Wish) -> Closing | _Refused:
    _require_over(wish.month, wish.now)

    def read(session: Session) -> Working:
        _require_next(session, wish.month)
        return work_out(session, allocate, wish.month)

    return agree(database, read, partial(_write, wish=wish))


def _require_over(month: int, now: datetime) -> None:
    end = month_period(month).end
    if now < end:
        raise Conflict(
            f"{format_month(month)} is not over before {end:%Y-%m-%dT%H:%MZ}",
            period=format_month(month),
        )


def _require_next(session: Session, month: int) -> None:
    """Raise Conflict unless all months before are closed and this one is not."""
    closed = list_in_state(session, StatementState.CLOSED)
    if not closed:
        return
    following = shift_month(closed[-1].month, 1)
    name = format_month(month)
    if month < closed[0].month:
        first = format_month(closed[0].month)
        raise Conflict(f"{name} lies before {first}, with which the books begin", period=name)
    if month < following:
        raise Conflict(f"{name} is closed already; a restatement may change it", period=name)
    if month > following:
        raise Conflict(
            f"months close in order: {format_month(following)} comes before {name}", period=name
        )


def _write(session: Session, working: Working, *, wish: _Wish) -> Closing | _Refused:
    """Write what was worked out, unless something speaks against it."""
    if working.refusals:
        return _Refused(working.refusals, working.currency)
    draft = find_in_state(session, wish.month, StatementState.DRAFT)
    header = _header(session, working, wish, draft)
    lines = working.content.lines
    if draft is None:
        add_statement(session, header, lines)
    else:
        replace_draft(session, header, lines)
    if header.state is StatementState.CLOSED:
        add_period_close(session, shift_month(wish.month, 1), now=wish.now)
    return Closing(header, is_new=draft is None)


def _header(
    session: Session, working: Working, wish: _Wish, draft: StatementHeader | None
) -> StatementHeader:
    grace_ends_at = wish.now + wish.grace
    if draft is not None and draft.grace_ends_at is not None and wish.grace:
        grace_ends_at = draft.grace_ends_at
    is_final = grace_ends_at <= wish.now
    version = draft.version if draft else last_version(session, wish.month) + 1
    digest = digest_lines(
        working.content.lines, month=wish.month, version=version, currency=working.currency
    )
    return StatementHeader(
        statement_id=draft.statement_id if draft else new_id(wish.now),
        month=wish.month,
        version=version,
        state=StatementState.CLOSED if is_final else StatementState.DRAFT,
        currency=working.currency,
        known_at=wish.now,
        recorded_at=draft.recorded_at if draft else wish.now,
        recorded_by=draft.recorded_by if draft else wish.by,
        grace_ends_at=draft.grace_ends_at if draft else grace_ends_at,
        closed_at=wish.now if is_final else None,
        approved_by=None,
        reason=None,
        rules_version=working.rules_version,
        total_nanos=working.content.total_nanos,
        invoices=working.content.invoices,
        notes=_notes_of_first(session, wish.month),
        digest=digest if is_final else None,
    )


def _notes_of_first(session: Session, month: int) -> tuple[Refusal, ...]:
    """Tell which invoiced months come before the first that is stated: they have no statement."""
    if list_in_state(session, StatementState.CLOSED):
        return ()
    earlier = list_months_billed(session, before=month, limit=MAX_EARLIER_NAMED)
    begin = format_month(month)
    return tuple(
        Refusal(NOT_STATED, f"{format_month(each)} was invoiced; the books begin with {begin}")
        for each in earlier
    )
