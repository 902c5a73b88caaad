"""``/v1/allocation-rules``: how invoices are divided, and what that makes of a month."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.bodies import OBJECT_BODY, ObjectBody
from tokenbudget.domain.months import parse_month
from tokenbudget.formats.allocation_previews import describe_allocation
from tokenbudget.formats.allocation_rules import KINDS, parse_allocation_rules
from tokenbudget.formats.documents import describe_applied, describe_version
from tokenbudget.services.allocation import preview_allocation
from tokenbudget.services.allocation_rules import (
    apply_allocation_rules,
    get_allocation_rules,
    list_versions,
)
from tokenbudget.services.keys import KeyFacts

router = APIRouter(prefix="/v1/allocation-rules", tags=["allocation rules"])
READ = [Depends(require_scope("read"))]
MAX_LISTED: Final = 100
AdminKey = Annotated[KeyFacts, Depends(require_scope("admin"))]


@router.get("", dependencies=READ, operation_id="get_allocation_rules")
def show_rules(services: ServicesIn) -> dict[str, Any]:
    """Give the rules in force: the tolerance, pools, acceptances and who never sends a bill."""
    present = get_allocation_rules(services.database)
    return {**describe_version(present), **present.content}


@router.put("", operation_id="put_allocation_rules", openapi_extra=OBJECT_BODY)
def put_rules(
    body: ObjectBody,
    services: ServicesIn,
    key: AdminKey,
    dry_run: Annotated[bool, Query(description="Only tell what would change")] = False,
) -> dict[str, Any]:
    """Put rules in place of all that are in force; a repeat changes nothing.

    They divide every month from now on. Statements that are closed stay as they are.
    """
    applied = apply_allocation_rules(
        services.database,
        parse_allocation_rules(body),
        now=services.clock(),
        by=key.key_id or None,
        dry_run=dry_run,
    )
    return describe_applied(applied)


@router.get("/history", dependencies=READ, operation_id="list_allocation_rule_versions")
def show_history(
    services: ServicesIn, limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20
) -> dict[str, Any]:
    """Give the latest versions, newest first: who wrote each, when, and how much it says."""
    versions = list_versions(services.database, limit=limit)
    counted = [
        {**describe_version(each), **{kind: len(each.content[kind]) for kind in KINDS}}
        for each in versions
    ]
    return {"versions": counted, "next": None}


@router.get("/preview", dependencies=READ, operation_id="preview_allocation")
def preview(
    services: ServicesIn,
    period: Annotated[str, Query(description="The month, such as 2026-09")],
) -> dict[str, Any]:
    """Give a month divided by the rules in force, by team and pool; nothing is stored.

    ``refusals`` say what would keep the month from being closed.
    """
    divided = preview_allocation(
        services.database,
        month=parse_month(period),
        currency=services.settings.currency,
        price_list=services.price_list,
    )
    return describe_allocation(divided)
