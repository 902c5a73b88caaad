"""Reading statements: what was stated, of which month, and whether it still says what it said.

It refuses to state anything (``closing.py``, ``restatements.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.corrections import MonthContent, find_untied
from tokenbudget.domain.errors import InvalidInput, NotFound
from tokenbudget.domain.months import format_month
from tokenbudget.domain.owners import tree_at
from tokenbudget.domain.statements import (
    LineKey,
    StatedTotal,
    Statement,
    StatementHeader,
    StatementLine,
    StatementState,
    digest_lines,
    total_lines,
)
from tokenbudget.store.db import Database
from tokenbudget.store.owners import list_owner_history
from tokenbudget.store.statements import (
    find_in_state,
    find_statement,
    list_headers,
    list_lines,
    list_stated_lines,
)

ORGANISATIONS: Final = ("then", "today")
MAX_LISTED: Final = 100
MAX_CHECKED: Final = 10_000
SHOWN_FIRST: Final = (StatementState.CLOSED, StatementState.DRAFT, StatementState.PROPOSED)

NumberedLine = tuple[int, StatementLine]


@dataclass(frozen=True, slots=True)
class StatedDifference:
    """A row that stands in one view of a month only, and the statement that carries it.

    ``sign`` is 1 for what was used in the month and is on a later statement, -1 for what is on the
    month's statement and was used earlier.
    """

    statement: StatementHeader
    line: StatementLine
    sign: int


@dataclass(frozen=True, slots=True)
class TwoViews:
    """A month as invoiced (its statement) and as incurred (its use), and what lies between."""

    as_invoiced_nanos: int
    as_incurred_nanos: int
    differences: tuple[StatedDifference, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found of one statement; it holds when nothing was."""

    statement: StatementHeader
    faults: tuple[str, ...]


def get_statement(database: Database, statement_id: str) -> Statement:
    """Give a statement with all its rows in order; raises NotFound."""
    with database.reading() as session:
        header = _get(session, statement_id)
        return Statement(header, tuple(line for _, line in list_lines(session, statement_id)))


def get_header(database: Database, statement_id: str) -> StatementHeader:
    """Give a statement without its rows; raises NotFound."""
    with database.reading() as session:
        return _get(session, statement_id)


def get_shown(database: Database, month: int) -> StatementHeader:
    """Give the statement of a month that counts: the closed one, else the draft.

    Raises NotFound.
    """
    with database.reading() as session:
        for state in SHOWN_FIRST:
            header = find_in_state(session, month, state)
            if header is not None:
                return header
    raise NotFound(f"{format_month(month)} has no statement")


def list_statements(
    database: Database,
    *,
    month: int | None = None,
    after: tuple[int, int] | None = None,
    limit: int,
) -> list[StatementHeader]:
    """Give statements, latest month and version first, beginning behind (month, version)."""
    with database.reading() as session:
        return list_headers(session, month=month, after=after, limit=limit)


def list_statement_lines(
    database: Database, statement_id: str, *, after: int = 0, limit: int | None = None
) -> Sequence[NumberedLine]:
    """Give rows of a statement with their numbers, beginning behind a number; raises NotFound."""
    with database.reading() as session:
        _get(session, statement_id)
        return list_lines(session, statement_id, after=after, limit=limit)


def total_statement(
    database: Database, statement_id: str, *, by: str, organisation: str, now: datetime
) -> tuple[StatedTotal, ...]:
    """Give what a statement adds up to by a dimension.

    Cost centres are those that were frozen with the rows (``then``), or those that the teams have
    ``today``. Raises NotFound, and InvalidInput for a dimension or organisation there is not.
    """
    if organisation not in ORGANISATIONS:
        raise InvalidInput(
            f"organisation {organisation!r} is not one of {', '.join(ORGANISATIONS)}",
            field="organisation",
        )
    with database.reading() as session:
        _get(session, statement_id)
        lines = [line for _, line in list_lines(session, statement_id)]
        is_mapped = by == "cost_center" and organisation == "today"
        return total_lines(lines, by, _cost_center_today(session, now) if is_mapped else None)


def total_by_team_against(
    database: Database, statement_id: str
) -> tuple[StatementHeader | None, dict[str, tuple[int, int]]]:
    """Give what a restatement takes the place of, and by team (before, after) in nanos.

    The statement in force is None, and so is all before, where the month is not closed.
    """
    with database.reading() as session:
        header = _get(session, statement_id)
        present = find_in_state(session, header.month, StatementState.CLOSED)
        after = _by_team(session, statement_id)
        before = {} if present is None else _by_team(session, present.statement_id)
    teams = sorted(before.keys() | after.keys())
    return present, {team: (before.get(team, 0), after.get(team, 0)) for team in teams}


def compare_views(database: Database, statement_id: str) -> TwoViews:
    """Give the month of a statement as invoiced and as incurred, and every row between the two.

    As incurred is what statements in force state of its use, as invoiced is this statement. Raises
    NotFound.
    """
    with database.reading() as session:
        header = _get(session, statement_id)
        own = [line for _, line in list_lines(session, statement_id)]
        elsewhere = list_stated_lines(session, header.month, besides=_versions(session, header))
        carriers = {each: _get(session, each) for each in {id_ for id_, _ in elsewhere}}
    later = [StatedDifference(carriers[id_], line, 1) for id_, line in elsewhere]
    earlier = [
        StatedDifference(header, line, -1) for line in own if line.key.service_month != header.month
    ]
    as_invoiced = sum(line.amount_nanos for line in own)
    between = sum(each.sign * each.line.amount_nanos for each in (*later, *earlier))
    return TwoViews(as_invoiced, as_invoiced + between, (*later, *earlier))


def verify_statement(database: Database, statement_id: str) -> Verification:
    """Give what no longer is as it was closed: digest, total and invoices; raises NotFound."""
    with database.reading() as session:
        header = _get(session, statement_id)
        return Verification(header, _faults(session, header))


def check_statements(session: Session) -> list[Verification]:
    """Give what was found of every statement, with those that hold."""
    headers = list_headers(session, month=None, after=None, limit=MAX_CHECKED)
    return [Verification(header, _faults(session, header)) for header in headers]


def _get(session: Session, statement_id: str) -> StatementHeader:
    header = find_statement(session, statement_id)
    if header is None:
        raise NotFound(f"there is no statement {statement_id!r}")
    return header


def _versions(session: Session, header: StatementHeader) -> set[str]:
    """Give the ids of a month's versions: each states the whole month, so they never add."""
    versions = list_headers(session, month=header.month, after=None, limit=MAX_CHECKED)
    return {each.statement_id for each in versions}


def _by_team(session: Session, statement_id: str) -> dict[str, int]:
    lines = (line for _, line in list_lines(session, statement_id))
    return {str(total.value): total.amount_nanos for total in total_lines(lines, "team")}


def _cost_center_today(session: Session, now: datetime) -> Callable[[LineKey], str | None]:
    tree = tree_at(list_owner_history(session), now)
    return lambda key: tree.cost_center_of(key.team)


def _faults(session: Session, header: StatementHeader) -> tuple[str, ...]:
    lines = tuple(line for _, line in list_lines(session, header.statement_id))
    faults = [refusal.detail for refusal in find_untied(MonthContent(lines, header.invoices))]
    if sum(line.amount_nanos for line in lines) != header.total_nanos:
        faults.append("the rows do not add up to the total")
    digest = digest_lines(
        lines, month=header.month, version=header.version, currency=header.currency
    )
    if header.digest is not None and header.digest != digest:
        faults.append(f"the rows have the digest {digest}, not {header.digest}")
    is_frozen = header.state is not StatementState.DRAFT
    if is_frozen and header.digest is None:
        faults.append("the digest is missing")
    return tuple(f"{header.name}: {fault}" for fault in faults)
