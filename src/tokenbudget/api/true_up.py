"""``/v1/reconciliations/usage``: what providers say was used beside what was metered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.paging import link_next
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.months import month_period, parse_month
from tokenbudget.domain.periods import parse_instant
from tokenbudget.domain.true_up import TrueUpKey
from tokenbudget.formats.cursors import decode_cursor, encode_cursor
from tokenbudget.formats.true_up import cursor_of, describe_factor, describe_row
from tokenbudget.services.true_up import true_up

MAX_ROWS: Final = 1_000

router = APIRouter(tags=["reconciliations"], dependencies=[Depends(require_scope("read"))])


class UsageParameters(BaseModel):
    """What may be asked."""

    model_config = ConfigDict(extra="forbid")

    period: str = Field(description="The month, such as 2026-09 (UTC)")
    provider: str | None = Field(default=None, description="Only this provider")
    limit: int = Field(default=MAX_ROWS, ge=1, le=MAX_ROWS)
    cursor: str | None = None


class UsageSide(BaseModel):
    """Tokens and requests; ``requests`` is null where nobody counts them."""

    input_tokens: int
    output_tokens: int
    requests: int | None


class UsageRow(BaseModel):
    """Both sides of a model's day; a side that says nothing is null."""

    day: str
    provider: str
    model: str | None
    account: str | None
    metered: UsageSide | None
    reported: UsageSide | None
    missing: UsageSide


class EstimateAnswer(BaseModel):
    """By what the estimates of a model family would have to be multiplied to be true."""

    family: str
    calls: int
    estimated_tokens: int
    reported_tokens: int
    factor: str
    median_factor: str | None
    band: str | None


class UsageAnswer(BaseModel):
    """One page of rows, and how far estimates of the period were off."""

    period: str
    rows: list[UsageRow]
    estimates: list[EstimateAnswer]
    next: str | None


@router.get("/v1/reconciliations/usage")
def get_usage(
    request: Request,
    response: Response,
    services: ServicesIn,
    asked: Annotated[UsageParameters, Query()],
) -> UsageAnswer:
    """Compare the tokens and requests that providers report for a month with what was metered."""
    after = None if asked.cursor is None else _decode_key(asked.cursor)
    result = true_up(
        services.database,
        period=month_period(parse_month(asked.period)),
        price_list=services.price_list,
        provider=asked.provider,
    )
    rows = [row for row in result.rows if after is None or row.key > after]
    page = rows[: asked.limit]
    next_cursor = encode_cursor(cursor_of(page[-1].key)) if len(rows) > asked.limit else None
    link_next(request, response, next_cursor)
    content: dict[str, Any] = {
        "period": asked.period,
        "rows": [describe_row(row) for row in page],
        "estimates": [describe_factor(factor) for factor in result.factors],
        "next": next_cursor,
    }
    return UsageAnswer(**content)


def _decode_key(cursor: str) -> TrueUpKey:
    provider, model, day, account = decode_cursor(cursor, length=4)
    if not all(isinstance(part, str) for part in (provider, model, day, account)):
        raise InvalidInput("cursor is not one that a page of this list gave", field="cursor")
    instant: datetime = parse_instant(str(day), field="cursor")
    return TrueUpKey(str(provider), str(model), instant, str(account))
