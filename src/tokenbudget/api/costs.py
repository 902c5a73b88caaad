"""``GET /v1/costs``: parameters in, one page of rows out as JSON, CSV or Parquet."""

from __future__ import annotations

import io
import re
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.paging import next_link
from tokenbudget.domain.costs import MAX_PAGE_ROWS, require_rolled_up
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.periods import format_instant
from tokenbudget.formats.costs import (
    CostQueryText,
    costs_csv,
    describe_row,
    describe_totals,
    metric_names,
    parse_cost_query,
)
from tokenbudget.frames.costs import costs_frame
from tokenbudget.services.costs import CostQuery, CostTable, query_costs

JSON_TYPE: Final = "application/json"
CSV_TYPE: Final = "text/csv"
PARQUET_TYPE: Final = "application/vnd.apache.parquet"
WEIGHT: Final = re.compile(r"\bq=([01](?:\.\d{1,3})?)\s*$")

router = APIRouter(tags=["costs"], dependencies=[Depends(require_scope("read"))])


class CostParameters(BaseModel):
    """What may be asked; lists repeat the parameter or use commas."""

    model_config = ConfigDict(extra="forbid")

    start: str = Field(description="First instant, RFC 3339 with offset, on a quarter-hour")
    end: str = Field(description="Instant after the last, RFC 3339 with offset, on a quarter-hour")
    group_by: list[str] = Field(
        default=[], description="Dimensions, owner, cost_center or tag:<name>"
    )
    granularity: str = Field(default="none", description="hour, day, week, month or none")
    timezone: str | None = Field(default=None, description="IANA zone the buckets are cut in")
    filter: list[str] = Field(
        default=[],
        description="dimension:value; repeated means any of; ! before dimension or value negates",
    )
    metric: list[str] = Field(default=[], description="Metrics shown beside the effective cost")
    view: str = Field(
        default="as_incurred",
        description="as_incurred, or as_invoiced: by the statement that carries it",
    )
    order: str = Field(default="start", description="start or a metric; a minus is descending")
    limit: int = Field(default=MAX_PAGE_ROWS, description="Most rows in the answer")
    cursor: str | None = Field(default=None, description="The cursor of the page before")


class CostAnswer(BaseModel):
    """One page of rows; ``totals`` cover every row of the question, also those on other pages."""

    currency: str
    start: str
    end: str
    granularity: str
    timezone: str
    group_by: list[str]
    rows: list[dict[str, str | int | None]]
    totals: dict[str, str | int | None]
    next: str | None


@router.get(
    "/v1/costs",
    response_model=CostAnswer,
    responses={200: {"content": {CSV_TYPE: {}, PARQUET_TYPE: {}}}},
)
def get_costs(
    request: Request, parameters: Annotated[CostParameters, Query()], services: ServicesIn
) -> Response:
    """Answer where the money went; ``Accept`` chooses JSON, CSV or Parquet."""
    settings = services.settings
    query = parse_cost_query(CostQueryText(**parameters.model_dump()), timezone=settings.timezone)
    require_rolled_up(query, settings.unrolled_tags)
    table = query_costs(services.database, query)
    media_type = choose_media_type(request.headers.get("accept", ""))
    return Response(
        _body(media_type, table, query, settings.currency),
        media_type=media_type,
        headers=_headers(request, table, settings.currency),
    )


def choose_media_type(accept: str) -> str:
    """Give the media type the caller likes best; JSON when none of ours is named."""
    liked = sorted(_ranges(accept), key=lambda each: -each[1])
    offered = {JSON_TYPE, CSV_TYPE, PARQUET_TYPE}
    return next((name for name, weight in liked if name in offered and weight > 0), JSON_TYPE)


def _ranges(accept: str) -> list[tuple[str, Decimal]]:
    ranges = []
    for part in accept.split(","):
        name, _, parameters = part.partition(";")
        weight = WEIGHT.search(parameters)
        ranges.append((name.strip().lower(), Decimal(weight[1] if weight else 1)))
    return ranges


def _body(media_type: str, table: CostTable, query: CostQuery, currency: str) -> bytes | str:
    if media_type == CSV_TYPE:
        return costs_csv(table, query)
    if media_type == PARQUET_TYPE:
        return _parquet(table, query, currency)
    return msgspec.json.encode(
        {
            "currency": currency,
            "start": format_instant(query.period.start),
            "end": format_instant(query.period.end),
            "granularity": query.granularity,
            "timezone": query.timezone,
            "group_by": query.group_by,
            "rows": [describe_row(row, query) for row in table.rows],
            "totals": describe_totals(table.totals, query),
            "next": table.next_cursor,
        }
    )


def _parquet(table: CostTable, query: CostQuery, currency: str) -> bytes:
    frame = costs_frame(
        table, group_by=query.group_by, metrics=tuple(metric_names(query)), currency=currency
    )
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def _headers(request: Request, table: CostTable, currency: str) -> dict[str, str]:
    headers = {
        "vary": "accept",
        "x-currency": currency,
        "x-total-effective-cost": format_nanos(table.totals.effective_nanos),
    }
    if table.next_cursor is not None:
        headers["link"] = next_link(request, table.next_cursor)
    return headers
