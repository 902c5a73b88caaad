"""``/v1/statements``: closing a month, reading what was stated, restating it on approval."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.bodies import OBJECT_BODY, ObjectBody
from tokenbudget.api.costs import CSV_TYPE, choose_media_type
from tokenbudget.api.paging import link_next
from tokenbudget.bootstrap import Services, make_statement_allocate
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.months import format_month, parse_month
from tokenbudget.domain.statements import StatementHeader
from tokenbudget.formats.cursors import CursorPart, decode_cursor, encode_cursor
from tokenbudget.formats.statements import (
    describe_header,
    describe_line,
    describe_totals,
    lines_csv,
    parse_close,
    parse_reason,
)
from tokenbudget.services.closing import close_month
from tokenbudget.services.keys import KeyFacts
from tokenbudget.services.restatements import (
    Approval,
    approve_restatement,
    propose_restatement,
)
from tokenbudget.services.statements import (
    MAX_LISTED,
    compare_views,
    get_header,
    list_statement_lines,
    list_statements,
    total_by_team_against,
    total_statement,
    verify_statement,
)

router = APIRouter(prefix="/v1/statements", tags=["statements"])
READ = [Depends(require_scope("read"))]
AdminKey = Annotated[KeyFacts, Depends(require_scope("admin"))]
MAX_LINES: Final = 10_000
CSV_BODY: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {CSV_TYPE: {}}}}
LAST: Final = 2**31 - 1


@router.post("", status_code=201, operation_id="close_month", openapi_extra=OBJECT_BODY)
def close(
    body: ObjectBody, response: Response, services: ServicesIn, key: AdminKey
) -> dict[str, Any]:
    """Close a month: ``{"period": "2026-09"}`` makes a draft that closes when its grace is over.

    ``"grace_hours": 0`` closes at once. A draft there is already is worked out again (200). When
    anything speaks against it nothing is stored, and the problem lists all ``refusals``.
    """
    asked = parse_close(body)
    hours = asked.grace_hours
    usual = services.settings.statement_grace_hours
    closing = close_month(
        services.database,
        make_statement_allocate(services),
        month=asked.month,
        now=services.clock(),
        grace=timedelta(hours=usual if hours is None else hours),
        by=key.key_id or None,
    )
    if not closing.is_new:
        response.status_code = 200
    return _describe_by_team(services, closing.statement)


@router.get("", dependencies=READ, operation_id="list_statements")
def show_statements(
    request: Request,
    response: Response,
    services: ServicesIn,
    period: Annotated[str | None, Query(description="Only this month, such as 2026-09")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20,
    cursor: Annotated[str | None, Query(description="The cursor of the page before")] = None,
) -> dict[str, Any]:
    """List statements, latest month and version first, those that are no longer in force too."""
    found = list_statements(
        services.database,
        month=None if period is None else parse_month(period),
        after=None if cursor is None else _position_of(cursor),
        limit=limit + 1,
    )
    page = found[:limit]
    next_cursor = None
    if len(found) > limit:
        next_cursor = encode_cursor((page[-1].month, page[-1].version))
        link_next(request, response, next_cursor)
    return {"statements": [describe_header(each) for each in page], "next": next_cursor}


@router.get("/{statement_id}", dependencies=READ, operation_id="get_statement")
def show_statement(
    statement_id: str,
    services: ServicesIn,
    by: Annotated[str, Query(description="The dimension that totals are by")] = "team",
    organisation: Annotated[
        str, Query(description="Whose cost centres: then (frozen) or today")
    ] = "then",
) -> dict[str, Any]:
    """Give a statement and what it adds up to by a dimension."""
    header = get_header(services.database, statement_id)
    totals = total_statement(
        services.database, statement_id, by=by, organisation=organisation, now=services.clock()
    )
    return {
        **describe_header(header),
        "by": by,
        "organisation": organisation,
        "totals": describe_totals(totals, by),
    }


@router.get(
    "/{statement_id}/lines",
    dependencies=READ,
    operation_id="list_statement_lines",
    response_model=dict[str, Any],
    responses=CSV_BODY,
)
def show_lines(
    request: Request,
    statement_id: str,
    services: ServicesIn,
    limit: Annotated[int, Query(ge=1, le=MAX_LINES)] = 1_000,
    cursor: Annotated[str | None, Query(description="The cursor of the page before")] = None,
) -> Any:
    """List the rows of a statement; ``Accept: text/csv`` gives all of them at once as CSV."""
    if choose_media_type(request.headers.get("accept", "")) == CSV_TYPE:
        lines = list_statement_lines(services.database, statement_id)
        return Response(lines_csv(lines), media_type=CSV_TYPE, headers={"vary": "accept"})
    header = get_header(services.database, statement_id)
    after = 0 if cursor is None else _number_of(decode_cursor(cursor, length=1)[0])
    found = list_statement_lines(services.database, statement_id, after=after, limit=limit + 1)
    page = found[:limit]
    next_cursor = encode_cursor((page[-1][0],)) if len(found) > limit else None
    return {
        "id": statement_id,
        "currency": header.currency,
        "lines": [describe_line(number, line) for number, line in page],
        "next": next_cursor,
    }


@router.get(
    "/{statement_id}/differences", dependencies=READ, operation_id="list_statement_differences"
)
def show_differences(statement_id: str, services: ServicesIn) -> dict[str, Any]:
    """Give the month as invoiced and as incurred, and the rows that make the difference.

    As invoiced is what this statement carries; as incurred what statements in force say was used in
    its month. Each row tells by how much it makes the second more than the first.
    """
    header = get_header(services.database, statement_id)
    views = compare_views(services.database, statement_id)
    between = views.as_incurred_nanos - views.as_invoiced_nanos
    return {
        "id": statement_id,
        "period": format_month(header.month),
        "currency": header.currency,
        "as_invoiced": format_nanos(views.as_invoiced_nanos),
        "as_incurred": format_nanos(views.as_incurred_nanos),
        "difference": format_nanos(between),
        "differences": [
            {
                "statement": each.statement.statement_id,
                "stated_in": format_month(each.statement.month),
                "difference": format_nanos(each.sign * each.line.amount_nanos),
                **{
                    name: value
                    for name, value in describe_line(0, each.line).items()
                    if name != "row_number"
                },
            }
            for each in views.differences
        ],
    }


@router.get("/{statement_id}/verification", dependencies=READ, operation_id="verify_statement")
def show_verification(statement_id: str, services: ServicesIn) -> dict[str, Any]:
    """Tell whether rows still have the digest, the total and the invoices they were closed with."""
    found = verify_statement(services.database, statement_id)
    return {
        "id": statement_id,
        "ok": not found.faults,
        "digest": found.statement.digest,
        "faults": list(found.faults),
    }


@router.post(
    "/{statement_id}/restatements",
    status_code=201,
    operation_id="propose_restatement",
    openapi_extra=OBJECT_BODY,
)
def restate(
    statement_id: str, body: ObjectBody, services: ServicesIn, key: AdminKey
) -> dict[str, Any]:
    """Propose the next version of a closed month: ``{"reason": "..."}``.

    Nothing changes before it is approved. Asking again while nothing has changed gives the proposal
    that waits already.
    """
    reason = parse_reason(body)
    month = get_header(services.database, statement_id).month
    proposed = propose_restatement(
        services.database,
        make_statement_allocate(services),
        month=month,
        reason=reason,
        now=services.clock(),
        by=key.key_id or None,
    )
    return _describe_proposal(services, proposed)


@router.post("/{statement_id}/approve", operation_id="approve_restatement")
def approve(statement_id: str, services: ServicesIn, key: AdminKey) -> dict[str, Any]:
    """Put a proposed restatement in force just as it was shown; again, it changes nothing.

    Another key than the one that proposed it has to.
    """
    approval = Approval(key.key_id or None, services.settings.statement_self_approval)
    approved = approve_restatement(
        services.database,
        make_statement_allocate(services),
        statement_id,
        approval=approval,
        now=services.clock(),
    )
    return _describe_by_team(services, approved)


def _describe_by_team(services: Services, header: StatementHeader) -> dict[str, Any]:
    totals = total_statement(
        services.database,
        header.statement_id,
        by="team",
        organisation="then",
        now=services.clock(),
    )
    return {**describe_header(header), "by": "team", "totals": describe_totals(totals, "team")}


def _describe_proposal(services: Services, proposed: StatementHeader) -> dict[str, Any]:
    present, teams = total_by_team_against(services.database, proposed.statement_id)
    return {
        **describe_header(proposed),
        "replaces": None if present is None else present.statement_id,
        "changes": [
            {
                "team": team,
                "before": format_nanos(before),
                "after": format_nanos(after),
                "change": format_nanos(after - before),
            }
            for team, (before, after) in teams.items()
        ],
    }


def _position_of(cursor: str) -> tuple[int, int]:
    month, version = decode_cursor(cursor, length=2)
    return _number_of(month), _number_of(version)


def _number_of(part: CursorPart) -> int:
    if not isinstance(part, int) or not 0 <= part <= LAST:
        raise InvalidInput("cursor is not one that a page of this list gave", field="cursor")
    return part
