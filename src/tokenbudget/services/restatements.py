"""Restating a closed month: proposed, approved by another, and never edited.

It owns what is proposed and who may approve it. It refuses to work out what a statement says
(``stating.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.errors import Conflict, InvalidInput, NotFound
from tokenbudget.domain.months import format_month
from tokenbudget.domain.statements import (
    StatementHeader,
    StatementState,
    digest_lines,
)
from tokenbudget.services.ids import new_id
from tokenbudget.services.stating import Allocate, Working, agree, refuse, work_out_again
from tokenbudget.store.db import Database
from tokenbudget.store.statements import (
    add_statement,
    find_in_state,
    find_statement,
    last_version,
    list_lines,
    set_state,
)

MAX_REASON_LENGTH: Final = 2_000


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approves; ``by`` is the id of the API key, None where none is asked for.

    ``may_approve_own`` lets a key approve what it proposed itself.
    """

    by: str | None
    may_approve_own: bool = False


def propose_restatement(
    database: Database,
    allocate: Allocate,
    *,
    month: int,
    reason: str,
    now: datetime,
    by: str | None = None,
) -> StatementHeader:
    """Give a proposal for the next version of a closed month; it changes nothing until approved.

    The same proposal that waits already is given again; another that waits is withdrawn. Raises
    InvalidInput without a reason; Conflict when the month is not closed, nothing would change, or
    something speaks against it.
    """
    if not 1 <= len(reason.strip()) <= MAX_REASON_LENGTH:
        raise InvalidInput(f"reason must have 1 to {MAX_REASON_LENGTH} characters", field="reason")

    def read(session: Session) -> Working:
        return work_out_again(session, allocate, month, _in_force(session, month))

    def write(session: Session, working: Working) -> StatementHeader:
        _require_sound(working)
        present = find_in_state(session, month, StatementState.PROPOSED)
        if present is not None and present.digest == _digest(working, present.version):
            return present
        if _says_the_same(session, working):
            raise Conflict(
                f"restating {format_month(month)} would change nothing", period=format_month(month)
            )
        if present is not None:
            set_state(session, present.statement_id, StatementState.WITHDRAWN)
        header = _proposal(session, working, reason=reason.strip(), now=now, by=by)
        add_statement(session, header, working.content.lines)
        return header

    return agree(database, read, write)


def approve_restatement(
    database: Database,
    allocate: Allocate,
    statement_id: str,
    *,
    approval: Approval,
    now: datetime,
) -> StatementHeader:
    """Give the restatement, closed and in force just as it was proposed.

    Approving it again changes nothing. Raises NotFound; Conflict when it was withdrawn, when the
    key that proposed it approves it, and when what is known has changed since.
    """
    with database.reading() as session:
        proposed = _require_proposal(session, statement_id)
    if proposed.state is not StatementState.PROPOSED:
        return proposed
    own = approval.by is not None and approval.by == proposed.recorded_by
    if own and not approval.may_approve_own:
        raise Conflict("another key must approve what this key has proposed", id=statement_id)
    month = proposed.month

    def read(session: Session) -> Working:
        return work_out_again(session, allocate, month, _in_force(session, month))

    def write(session: Session, working: Working) -> StatementHeader:
        present = _require_proposal(session, statement_id)
        if present.state is not StatementState.PROPOSED:
            return present
        _require_sound(working)
        if present.digest != _digest(working, present.version):
            raise Conflict(
                f"what is known of {format_month(month)} has changed since it was proposed; propose"
                " it again",
                period=format_month(month),
            )
        set_state(session, _in_force(session, month).statement_id, StatementState.SUPERSEDED)
        facts = {"closed_at": now, "approved_by": approval.by}
        set_state(session, statement_id, StatementState.CLOSED, **facts)
        return _require_proposal(session, statement_id)

    return agree(database, read, write)


def _in_force(session: Session, month: int) -> StatementHeader:
    header = find_in_state(session, month, StatementState.CLOSED)
    if header is None:
        name = format_month(month)
        raise Conflict(f"{name} is not closed, so there is nothing to restate", period=name)
    return header


def _require_proposal(session: Session, statement_id: str) -> StatementHeader:
    """Give a restatement; raises NotFound, and Conflict for one that can no more be approved."""
    header = find_statement(session, statement_id)
    if header is None:
        raise NotFound(f"there is no statement {statement_id!r}")
    is_restatement = header.reason is not None
    if not is_restatement or header.state is StatementState.WITHDRAWN:
        raise Conflict(f"statement {statement_id} ({header.name}) does not wait for approval")
    return header


def _require_sound(working: Working) -> None:
    if working.refusals:
        raise refuse(working.month, "restated", working.refusals, working.currency)


def _says_the_same(session: Session, working: Working) -> bool:
    base = _in_force(session, working.month)
    before = tuple(line for _, line in list_lines(session, base.statement_id))
    return before == working.content.lines


def _digest(working: Working, version: int) -> str:
    return digest_lines(
        working.content.lines, month=working.month, version=version, currency=working.currency
    )


def _proposal(
    session: Session, working: Working, *, reason: str, now: datetime, by: str | None
) -> StatementHeader:
    version = last_version(session, working.month) + 1
    return StatementHeader(
        statement_id=new_id(now),
        month=working.month,
        version=version,
        state=StatementState.PROPOSED,
        currency=working.currency,
        known_at=now,
        recorded_at=now,
        recorded_by=by,
        grace_ends_at=None,
        closed_at=None,
        approved_by=None,
        reason=reason,
        rules_version=working.rules_version,
        total_nanos=working.content.total_nanos,
        invoices=working.content.invoices,
        notes=(),
        digest=_digest(working, version),
    )
