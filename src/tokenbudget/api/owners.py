"""``/v1/owners``: the dated registry of teams, features, tenants and cost centres."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from pydantic import BaseModel

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.paging import link_next
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.owners import OwnerKey, OwnerKind
from tokenbudget.domain.periods import parse_instant
from tokenbudget.formats.cursors import decode_cursor, encode_cursor
from tokenbudget.formats.owners import describe_owner, parse_owners
from tokenbudget.services.owners import MAX_LISTED, apply_owners, list_owners

router = APIRouter(prefix="/v1/owners", tags=["owners"])

EXAMPLE: Final = {
    "owner": [{"kind": "team", "name": "growth", "email": "ana@example.com", "cost_center": "CC-1"}]
}


class OwnerAnswer(BaseModel):
    """One owner as in force at the instant asked for; ``valid_to`` null is open."""

    kind: str
    name: str
    parent: str | None
    cost_center: str | None
    email: str | None
    lifecycle: str
    valid_from: str
    valid_to: str | None


class OwnersAnswer(BaseModel):
    """One page of owners, by kind and name."""

    owner: list[OwnerAnswer]
    next: str | None


class AppliedAnswer(BaseModel):
    """What became of the entries."""

    created: int
    changed: int
    unchanged: int


@router.get("", dependencies=[Depends(require_scope("read"))])
def get_owners(
    request: Request,
    response: Response,
    services: ServicesIn,
    at: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
    cursor: str | None = None,
) -> OwnersAnswer:
    """List the owners in force at an instant, now when none is named."""
    instant = services.clock() if at is None else parse_instant(at, field="at")
    after = None if cursor is None else _decode_key(cursor)
    found = list_owners(services.database, instant, after=after, limit=limit + 1)
    page = found[:limit]
    next_cursor = encode_cursor(page[-1].key) if len(found) > limit else None
    link_next(request, response, next_cursor)
    return OwnersAnswer(
        owner=[OwnerAnswer(**describe_owner(each)) for each in page], next=next_cursor
    )


@router.put("", dependencies=[Depends(require_scope("admin"))])
def put_owners(
    services: ServicesIn, payload: Annotated[dict[str, Any], Body(examples=[EXAMPLE])]
) -> AppliedAnswer:
    """Apply entries as ``owners.toml`` spells them: all or none; a repeat changes nothing."""
    applied = apply_owners(services.database, parse_owners(payload), now=services.clock())
    return AppliedAnswer(
        created=applied.created, changed=applied.changed, unchanged=applied.unchanged
    )


def _decode_key(cursor: str) -> OwnerKey:
    kind, name = decode_cursor(cursor, length=2)
    if kind not in set(OwnerKind) or not isinstance(name, str):
        raise InvalidInput("cursor is not one that a page of this list gave", field="cursor")
    return OwnerKind(str(kind)), name
