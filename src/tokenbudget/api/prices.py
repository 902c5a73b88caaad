"""``/v1/prices``: why a price applies, and rating usage again when it was wrong."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.bodies import OBJECT_BODY, ObjectBody
from tokenbudget.domain.periods import parse_instant
from tokenbudget.domain.price_explanations import PriceQuestion
from tokenbudget.formats.price_lookup import describe_explanation
from tokenbudget.formats.rerating import describe_rerate, parse_scope
from tokenbudget.services.prices import lookup_price
from tokenbudget.services.rerating import (
    approve_rerate,
    get_rerate,
    list_rerates,
    propose_rerate,
)

router = APIRouter(prefix="/v1/prices", tags=["prices"])
READ = [Depends(require_scope("read"))]
ADMIN = [Depends(require_scope("admin"))]
MAX_RERATES: Final = 100
MAX_ID: Final = 2**63 - 1
RerateId = Annotated[int, Path(ge=1, le=MAX_ID)]


class LookupParameters(BaseModel):
    """What a price is asked for."""

    model_config = ConfigDict(extra="forbid")

    provider: str = Field(min_length=1, description="The provider, such as openai")
    model: str = Field(min_length=1, description="The model, as the provider's answer names it")
    at: str | None = Field(default=None, description="When, RFC 3339; now by default")
    tier: str | None = Field(default=None, description="The service tier, such as batch")
    region: str | None = Field(default=None, description="The region")
    account: str | None = Field(default=None, description="The account, for its contracts")
    input_tokens: int = Field(default=1, ge=0, description="The size of the whole input")


@router.get("/lookup", dependencies=READ, operation_id="lookup_price")
def look_up(
    parameters: Annotated[LookupParameters, Query()], services: ServicesIn
) -> dict[str, Any]:
    """Explain a price: the row used, why it applies, every flag, and the steps by input size."""
    at = parameters.at
    question = PriceQuestion(
        provider=parameters.provider,
        model=parameters.model,
        occurred_at=parse_instant(at, field="at") if at else services.clock(),
        service_tier=parameters.tier,
        region=parameters.region,
        account=parameters.account,
        input_tokens=parameters.input_tokens,
    )
    return describe_explanation(lookup_price(services.price_list, question))


@router.get("/rerates", dependencies=READ, operation_id="list_rerates")
def show_rerates(
    services: ServicesIn, limit: Annotated[int, Query(ge=1, le=MAX_RERATES)] = 20
) -> dict[str, Any]:
    """Give the latest re-ratings, newest first."""
    currency = services.settings.currency
    listed = list_rerates(services.database, limit=limit)
    return {"rerates": [describe_rerate(each, currency=currency) for each in listed], "next": None}


@router.post(
    "/rerates", dependencies=ADMIN, operation_id="propose_rerate", openapi_extra=OBJECT_BODY
)
def add_rerate(body: ObjectBody, services: ServicesIn) -> dict[str, Any]:
    """Work out what rating usage again would move; nothing is charged.

    Asking again while nothing has changed gives the proposal that waits already.
    """
    scope = parse_scope(body)
    proposed = propose_rerate(services.database, services.price_list, scope, now=services.clock())
    return describe_rerate(proposed, currency=services.settings.currency)


@router.get("/rerates/{rerate_id}", dependencies=READ, operation_id="get_rerate")
def show_rerate(rerate_id: RerateId, services: ServicesIn) -> dict[str, Any]:
    """Give a re-rating as it stands."""
    found = get_rerate(services.database, rerate_id)
    return describe_rerate(found, currency=services.settings.currency)


@router.post("/rerates/{rerate_id}/approve", dependencies=ADMIN, operation_id="approve_rerate")
def approve(rerate_id: RerateId, services: ServicesIn) -> dict[str, Any]:
    """Apply a proposal just as it was shown; again, it continues or changes nothing.

    It answers when all is applied: about a minute for a million usages.
    """
    applied = approve_rerate(
        services.database, services.price_list, rerate_id, now=services.clock()
    )
    return describe_rerate(applied, currency=services.settings.currency)
