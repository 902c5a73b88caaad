"""``GET /v1/events`` and ``GET /v1/operations``: drill-down to usage, its charges and witnesses."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.paging import link_next
from tokenbudget.domain.event_queries import USUAL_PAGE_EVENTS
from tokenbudget.formats.event_views import (
    EventQueryText,
    describe_history,
    describe_operation,
    describe_page,
    parse_event_query,
)
from tokenbudget.services.event_queries import get_event, get_operation, list_events

router = APIRouter(tags=["events"], dependencies=[Depends(require_scope("read"))])


class EventParameters(BaseModel):
    """Which usages to list; all conditions must hold."""

    model_config = ConfigDict(extra="forbid")

    start: str | None = Field(default=None, description="First instant, RFC 3339 with offset")
    end: str | None = Field(default=None, description="Instant after the last")
    filter: list[str] = Field(
        default=[],
        description="dimension:value; repeated means any of; ! before dimension or value negates",
    )
    operation_id: str | None = Field(default=None, description="The user operation")
    trace_id: str | None = Field(default=None, description="The trace; needs start and end")
    response_id: str | None = Field(default=None, description="The provider's response id")
    hold_id: str | None = Field(default=None, description="The hold it settled")
    source: str | None = Field(default=None, description="The system that sent the event")
    event_id: str | None = Field(default=None, description="The event of that source, else of api")
    status: str | None = Field(default=None, description="ok, error and the like")
    basis: str | None = Field(
        default=None, description="invoiced, reported, rated, estimated or unpriced"
    )
    flag: str | None = Field(default=None, description="A flag of the usage or its charge")
    counting: bool = Field(
        default=True,
        description="false also gives earlier revisions, voids and further witnesses",
    )
    limit: int = Field(default=USUAL_PAGE_EVENTS, description="Most events in the answer")
    cursor: str | None = Field(default=None, description="The cursor of the page before")


@router.get("/v1/events", operation_id="list_events")
def show_events(
    request: Request,
    response: Response,
    parameters: Annotated[EventParameters, Query()],
    services: ServicesIn,
) -> dict[str, Any]:
    """Give usage with its charges, newest first.

    A page may hold fewer events than the limit and still have a next one.
    """
    query = parse_event_query(EventQueryText(**parameters.model_dump()))
    page = list_events(services.database, services.price_list, query)
    link_next(request, response, page.next_cursor)
    return describe_page(page, currency=services.settings.currency)


@router.get("/v1/events/{event:path}", operation_id="get_event")
def show_event(event: str, services: ServicesIn) -> dict[str, Any]:
    """Give an event, by its id or as source/event_id, with its revisions, charges and witnesses."""
    history = get_event(services.database, event)
    return describe_history(history, currency=services.settings.currency)


@router.get("/v1/operations/{operation_id:path}", operation_id="get_operation")
def show_operation(operation_id: str, services: ServicesIn) -> dict[str, Any]:
    """Give what one user operation cost: all attempts, and the waste of those that failed."""
    totals = get_operation(services.database, operation_id)
    return describe_operation(totals, currency=services.settings.currency)
