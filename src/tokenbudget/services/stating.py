"""Working out what a month's statement says, and writing it just as it was worked out.

It owns what is read together and the moment that it is written in. It refuses to divide invoices:
``Allocate`` is handed in.

Working out reads rollups and bill lines of up to two years and may take seconds, so it reads a
snapshot, while usage goes on being recorded. What is written is written in a short transaction that
has shut out the batches and found everything as it was read; so no charge is on the books of a
closed month that its statement has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlmodel import Session

from tokenbudget.domain.corrections import (
    MonthContent,
    content_of,
    corrected_months,
    difference,
    find_untied,
    in_order,
)
from tokenbudget.domain.errors import Conflict
from tokenbudget.domain.months import format_month, month_period
from tokenbudget.domain.owners import Owner, OwnerTree, tree_at
from tokenbudget.domain.periods import QUARTER_HOUR
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.statements import (
    MonthAllocation,
    Refusal,
    StatementHeader,
    StatementState,
)
from tokenbudget.formats.statements import describe_refusal
from tokenbudget.services.allocation import allocate_month
from tokenbudget.store.budgets import shut_out_batches
from tokenbudget.store.db import Database
from tokenbudget.store.owners import list_owner_history
from tokenbudget.store.statements import (
    list_headers,
    list_in_state,
    list_lines,
    list_stated_lines,
    lock_statements,
    sign_of_usage,
)

MAX_READINGS: Final = 3
"""So often a month is worked out beside what is recorded of it; the next time nothing is."""

MAX_VERSIONS: Final = 1_000
MAX_NAMED: Final = 3

Allocate = Callable[[Session, int], MonthAllocation]
"""Divides all that was invoiced for a month, by everything known in the session's snapshot."""

Sight = tuple[object, ...]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Working:
    """What a statement of a month would say, and what it was worked out of.

    With ``refusals`` it may not be closed.
    """

    month: int
    currency: str
    rules_version: int
    content: MonthContent
    refusals: tuple[Refusal, ...]
    seen: Sight


def make_allocate(*, currency: str, price_list: PriceList) -> Allocate:
    """Give what divides invoices in this currency, with names as this price list knows them."""

    def allocate(session: Session, month: int) -> MonthAllocation:
        return allocate_month(session, month=month, currency=currency, price_list=price_list)

    return allocate


def work_out(session: Session, allocate: Allocate, month: int) -> Working:
    """Give the statement of a month: its own rows, and corrections of closed months before it."""
    history = list_owner_history(session)
    closed = list_in_state(session, StatementState.CLOSED)
    allocation = allocate(session, month)
    own = difference(_known(allocation, history), _stated(session, month, closed))
    refusals = allocation.refusals
    content = own
    in_force = {header.month: header.statement_id for header in closed}
    for earlier in corrected_months(in_force, month=month):
        known = allocate(session, earlier)
        refusals += known.refusals
        content += difference(
            _known(known, history),
            _stated(session, earlier, closed),
            corrects=in_force[earlier],
        )
    return _working(session, allocation, content, refusals)


def work_out_again(
    session: Session, allocate: Allocate, month: int, base: StatementHeader
) -> Working:
    """Give what would take the place of a month's statement in force.

    Its rows are what is known of the month now, less what later statements in force have stated of
    it. What it corrects of earlier months stays as it was stated.
    """
    history = list_owner_history(session)
    closed = list_in_state(session, StatementState.CLOSED)
    allocation = allocate(session, month)
    elsewhere = _stated(session, month, closed, besides=(base.statement_id,))
    own = difference(_known(allocation, history), elsewhere)
    content = own + _carried(session, month, base)
    return _working(session, allocation, content, allocation.refusals)


def agree(
    database: Database,
    read: Callable[[Session], Working],
    write: Callable[[Session, Working], ResultT],
) -> ResultT:
    """Give what ``write`` gives, called while all is as ``read`` has found it."""
    for _ in range(MAX_READINGS):
        with database.reading() as session:
            working = read(session)
        with database.transaction() as session:
            _stand_still(session)
            if sight_of(session, working.month) == working.seen:
                return write(session, working)
    with database.transaction() as session:
        _stand_still(session)
        return write(session, read(session))


def sight_of(session: Session, month: int) -> Sight:
    """Give what changes when the month's usage or any statement that bears on it does."""
    closed = tuple(header.statement_id for header in list_in_state(session, StatementState.CLOSED))
    versions = list_headers(session, month=month, after=None, limit=MAX_VERSIONS)
    states = tuple((each.statement_id, each.state, each.known_at) for each in versions)
    return closed, states, sign_of_usage(session, month_period(month))


def refuse(month: int, action: str, refusals: Collection[Refusal], currency: str) -> Conflict:
    """Give the error that lists all refusals; the detail names the first few."""
    named = "; ".join(refusal.detail for refusal in list(refusals)[:MAX_NAMED])
    more = f"; and {len(refusals) - MAX_NAMED} more" if len(refusals) > MAX_NAMED else ""
    return Conflict(
        f"{format_month(month)} cannot be {action}: {named}{more}",
        period=format_month(month),
        currency=currency,
        refusals=[describe_refusal(refusal) for refusal in refusals],
    )


def _stand_still(session: Session) -> None:
    lock_statements(session)
    shut_out_batches(session)


def _known(allocation: MonthAllocation, history: Collection[Owner]) -> MonthContent:
    return content_of(allocation, tree_of_month(allocation.month, history))


def tree_of_month(month: int, history: Collection[Owner]) -> OwnerTree:
    """Give the owners in force at the end of a month, whose cost centres its rows have."""
    return tree_at(history, month_period(month).end - QUARTER_HOUR)


def _stated(
    session: Session,
    month: int,
    closed: Collection[StatementHeader],
    *,
    besides: Collection[str] = (),
) -> MonthContent:
    """Give all that statements in force state of a month."""
    lines = tuple(line for _, line in list_stated_lines(session, month, besides=besides))
    invoices = tuple(
        each
        for header in closed
        if header.statement_id not in besides
        for each in header.invoices
        if each.service_month == month
    )
    return MonthContent(lines, invoices)


def _carried(session: Session, month: int, base: StatementHeader) -> MonthContent:
    """Give what a statement states of other months than its own."""
    lines = (line for _, line in list_lines(session, base.statement_id))
    return MonthContent(
        tuple(line for line in lines if line.key.service_month != month),
        tuple(each for each in base.invoices if each.service_month != month),
    )


def _working(
    session: Session,
    allocation: MonthAllocation,
    content: MonthContent,
    refusals: tuple[Refusal, ...],
) -> Working:
    return Working(
        month=allocation.month,
        currency=allocation.currency,
        rules_version=allocation.rules_version,
        content=in_order(content),
        refusals=(*refusals, *find_untied(content)),
        seen=sight_of(session, allocation.month),
    )
