"""``/v1/reconciliations``: what was metered beside what was invoiced, and what nobody reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.paging import link_next
from tokenbudget.bootstrap import make_reading
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.months import parse_month
from tokenbudget.formats.cursors import decode_cursor, encode_cursor
from tokenbudget.formats.reconciliations import (
    describe_coverage,
    describe_month,
    describe_untracked,
    parse_coverage_window,
)
from tokenbudget.services.coverage import find_untracked_spend, get_coverage
from tokenbudget.services.reconciliation import reconcile_month

router = APIRouter(
    prefix="/v1/reconciliations",
    tags=["reconciliations"],
    dependencies=[Depends(require_scope("read"))],
)

USUAL_ROWS: Final = 1_000
MAX_ROWS: Final = 10_000

Item = TypeVar("Item")


class MonthParameters(BaseModel):
    """Which month, and which part of the answer's list."""

    model_config = ConfigDict(extra="forbid")

    period: str = Field(description="The month, such as 2026-09 (UTC)")
    provider: str | None = Field(default=None, description="Only this provider")
    limit: int = Field(default=USUAL_ROWS, ge=1, le=MAX_ROWS, description="Most rows of a page")
    cursor: str | None = Field(default=None, description="The cursor of the page before")


class CoverageParameters(BaseModel):
    """Which months, and how finely they are cut."""

    model_config = ConfigDict(extra="forbid")

    period: str = Field(description="The first month, such as 2026-09 (UTC)")
    until: str | None = Field(default=None, description="The last month, else the same")
    by: str = Field(default="month", description="month or week (UTC)")


@router.get("", operation_id="get_reconciliation")
def show_reconciliation(
    request: Request,
    response: Response,
    parameters: Annotated[MonthParameters, Query()],
    services: ServicesIn,
) -> dict[str, Any]:
    """Compare a month's metered cost with its invoices.

    Rows are paged; totals, waterfall and conversions are those of the whole.
    """
    month = parse_month(parameters.period)
    facts = reconcile_month(services.database, month, make_reading(services, parameters.provider))
    described = describe_month(facts.metered, facts.reconciliation, facts.conversions)
    rows, following = _paged(described["rows"], parameters, request, response)
    return {"period": parameters.period, **described, "rows": rows, "next": following}


@router.get("/untracked", operation_id="list_untracked_spend")
def show_untracked(
    request: Request,
    response: Response,
    parameters: Annotated[MonthParameters, Query()],
    services: ServicesIn,
) -> dict[str, Any]:
    """List keys, projects and accounts with traffic that nobody reported, the dearest first."""
    month = parse_month(parameters.period)
    found = find_untracked_spend(
        services.database, month, make_reading(services, parameters.provider)
    )
    names, following = _paged(found.names, parameters, request, response)
    return {
        "period": parameters.period,
        "currency": found.currency,
        "untracked": [
            describe_untracked(each.untracked, each.owner, each.share_basis_points)
            for each in names
        ],
        "next": following,
    }


@router.get("/coverage", operation_id="get_coverage")
def show_coverage(
    parameters: Annotated[CoverageParameters, Query()], services: ServicesIn
) -> dict[str, Any]:
    """Show how much of what was invoiced for each team is tracked, over at most a year."""
    first = parse_month(parameters.period)
    until = parameters.until
    last = first if until is None else parse_month(until, field="until")
    window = parse_coverage_window(parameters.by)
    found = get_coverage(services.database, (first, last), window, make_reading(services))
    return {
        "currency": services.settings.currency,
        "coverage": [describe_coverage(each.period, each.team, each.coverage) for each in found],
    }


def _paged(
    items: Sequence[Item], parameters: MonthParameters, request: Request, response: Response
) -> tuple[Sequence[Item], str | None]:
    """Give the page that is asked for and the cursor of the next, and link to that."""
    first = 0 if parameters.cursor is None else _decode_place(parameters.cursor)
    behind = first + parameters.limit
    cursor = encode_cursor([behind]) if behind < len(items) else None
    link_next(request, response, cursor)
    return items[first:behind], cursor


def _decode_place(cursor: str) -> int:
    [place] = decode_cursor(cursor, length=1)
    if not isinstance(place, int) or place < 0:
        raise InvalidInput("cursor is not one that a page of this list gave", field="cursor")
    return place
