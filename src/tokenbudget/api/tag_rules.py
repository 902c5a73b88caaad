"""``/v1/tag-rules``: identity mappings and virtual tags, and attributing usage again by them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.bodies import OBJECT_BODY, ObjectBody
from tokenbudget.formats.documents import describe_applied, describe_version
from tokenbudget.formats.reattribution import describe_reattribution, parse_use_period
from tokenbudget.formats.tag_rules import parse_tag_rules, require_known_tags
from tokenbudget.services.keys import KeyFacts
from tokenbudget.services.reattribution import (
    approve_reattribution,
    get_reattribution,
    list_reattributions,
    propose_reattribution,
)
from tokenbudget.services.tag_rules import (
    apply_tag_rules,
    get_tag_rules,
    list_versions,
)

router = APIRouter(prefix="/v1/tag-rules", tags=["tag-rules"])
READ = [Depends(require_scope("read"))]
MAX_LISTED: Final = 100
MAX_ID: Final = 2**63 - 1
AdminKey = Annotated[KeyFacts, Depends(require_scope("admin"))]
ReattributionId = Annotated[int, Path(ge=1, le=MAX_ID)]
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED)]


@router.get("", dependencies=READ, operation_id="get_tag_rules")
def show_tag_rules(services: ServicesIn) -> dict[str, Any]:
    """Give the mappings and rules in force, in their order."""
    present = get_tag_rules(services.database)
    return {**describe_version(present), **present.content}


@router.put("", operation_id="put_tag_rules", openapi_extra=OBJECT_BODY)
def put_tag_rules(
    body: ObjectBody,
    services: ServicesIn,
    key: AdminKey,
    dry_run: Annotated[bool, Query(description="Only tell what would change")] = False,
) -> dict[str, Any]:
    """Put mappings and rules in place of all that are in force; a repeat changes nothing.

    Usage that is recorded stays where it counts: a re-attribution moves it.
    """
    draft = parse_tag_rules(body)
    require_known_tags(draft, services.settings.unrolled_tags)
    applied = apply_tag_rules(
        services.database, draft, now=services.clock(), by=key.key_id or None, dry_run=dry_run
    )
    return describe_applied(applied)


@router.get("/history", dependencies=READ, operation_id="list_tag_rule_versions")
def show_history(services: ServicesIn, limit: Limit = 20) -> dict[str, Any]:
    """Give the latest versions, newest first: who wrote each, when, and how much it says."""
    versions = list_versions(services.database, limit=limit)
    counted = [
        {
            **describe_version(each),
            "mappings": len(each.content["mapping"]),
            "rules": len(each.content["rule"]),
        }
        for each in versions
    ]
    return {"versions": counted, "next": None}


@router.get("/reattributions", dependencies=READ, operation_id="list_reattributions")
def show_reattributions(services: ServicesIn, limit: Limit = 20) -> dict[str, Any]:
    """Give the latest re-attributions, newest first."""
    currency = services.settings.currency
    listed = list_reattributions(services.database, limit=limit)
    described = [describe_reattribution(each, currency=currency) for each in listed]
    return {"reattributions": described, "next": None}


@router.post("/reattributions", operation_id="propose_reattribution", openapi_extra=OBJECT_BODY)
def add_reattribution(body: ObjectBody, services: ServicesIn, key: AdminKey) -> dict[str, Any]:
    """Work out what usage the rules of today would count elsewhere; nothing is moved.

    Asking again while nothing has changed gives the proposal that waits already.
    """
    proposed = propose_reattribution(
        services.database, parse_use_period(body), now=services.clock(), by=key.key_id or None
    )
    return describe_reattribution(proposed, currency=services.settings.currency)


@router.get(
    "/reattributions/{reattribution_id}", dependencies=READ, operation_id="get_reattribution"
)
def show_reattribution(reattribution_id: ReattributionId, services: ServicesIn) -> dict[str, Any]:
    """Give a re-attribution as it stands."""
    found = get_reattribution(services.database, reattribution_id)
    return describe_reattribution(found, currency=services.settings.currency)


@router.post("/reattributions/{reattribution_id}/approve", operation_id="approve_reattribution")
def approve(
    reattribution_id: ReattributionId, services: ServicesIn, key: AdminKey
) -> dict[str, Any]:
    """Move just what a proposal showed; again, it continues or changes nothing.

    It answers when all is moved: about a minute for a million usages.
    """
    applied = approve_reattribution(
        services.database,
        services.price_list,
        reattribution_id,
        now=services.clock(),
        by=key.key_id or None,
    )
    return describe_reattribution(applied, currency=services.settings.currency)
