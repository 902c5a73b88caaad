"""``/v1/quota/decisions`` and ``/v1/quota/unsettled``: what was decided, and what is still open."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.paging import link_next
from tokenbudget.domain.periods import parse_instant
from tokenbudget.formats.quota_records import describe_kept_decisions, describe_open_calls
from tokenbudget.services.decisions import (
    USUAL_PAGE_DECISIONS,
    DecisionQuery,
    list_kept_decisions,
)
from tokenbudget.services.unsettled import USUAL_PAGE_CALLS, list_unsettled

router = APIRouter(
    prefix="/v1/quota", tags=["quota"], dependencies=[Depends(require_scope("read"))]
)


class DecisionParameters(BaseModel):
    """Which decisions to list; all conditions must hold."""

    model_config = ConfigDict(extra="forbid")

    decision: str | None = Field(default=None, description="allow, reduce or deny")
    budget: str | None = Field(default=None, description="The binding budget")
    start: str | None = Field(default=None, description="First instant, RFC 3339 with offset")
    end: str | None = Field(default=None, description="Instant after the last")
    limit: int = Field(default=USUAL_PAGE_DECISIONS, description="Most decisions in the answer")
    cursor: str | None = Field(default=None, description="The cursor of the page before")


@router.get("/decisions", operation_id="list_decisions")
def show_decisions(
    request: Request,
    response: Response,
    parameters: Annotated[DecisionParameters, Query()],
    services: ServicesIn,
) -> dict[str, Any]:
    """Give logged decisions, newest first: denials, and the share of others that is kept.

    Of denials that are alike only some of each minute are kept; omitted_denials counts the others.
    """
    given = parameters
    query = DecisionQuery(
        outcome=given.decision,
        budget_id=given.budget,
        start=None if given.start is None else parse_instant(given.start, field="start"),
        end=None if given.end is None else parse_instant(given.end, field="end"),
        limit=given.limit,
        cursor=given.cursor,
    )
    page = list_kept_decisions(services.database, query)
    link_next(request, response, page.next_cursor)
    return describe_kept_decisions(page, currency=services.settings.currency)


@router.get("/unsettled", operation_id="list_unsettled")
def show_unsettled(
    request: Request,
    response: Response,
    services: ServicesIn,
    limit: int = USUAL_PAGE_CALLS,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Give calls that were sent and never told their end, and holds that ran out, newest first."""
    page = list_unsettled(services.database, cursor=cursor, limit=limit)
    link_next(request, response, page.next_cursor)
    return describe_open_calls(page, currency=services.settings.currency)
