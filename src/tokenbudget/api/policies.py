"""``/v1/policies``: which models calls may be made with, by whom, and until when."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.bodies import OBJECT_BODY, ObjectBody
from tokenbudget.formats.documents import describe_applied, describe_version
from tokenbudget.formats.policies import parse_policies, require_asked_tags
from tokenbudget.services.keys import KeyFacts
from tokenbudget.services.policies import (
    apply_policies,
    get_policies,
    list_versions,
)

router = APIRouter(prefix="/v1/policies", tags=["policies"])
READ = [Depends(require_scope("read"))]
MAX_LISTED: Final = 100
AdminKey = Annotated[KeyFacts, Depends(require_scope("admin"))]


@router.get("", dependencies=READ, operation_id="get_policies")
def show_policies(services: ServicesIn) -> dict[str, Any]:
    """Give the policies in force, in their order, and the classes of models they name."""
    present = get_policies(services.database)
    return {**describe_version(present), **present.content}


@router.put("", operation_id="put_policies", openapi_extra=OBJECT_BODY)
def put_policies(
    body: ObjectBody,
    services: ServicesIn,
    key: AdminKey,
    dry_run: Annotated[bool, Query(description="Only tell what would change")] = False,
) -> dict[str, Any]:
    """Put policies in place of all that are in force; a repeat changes nothing.

    They decide the next check of every worker. Holds that were granted stay.
    """
    draft = parse_policies(body)
    require_asked_tags(draft, services.settings.unrolled_tags)
    applied = apply_policies(
        services.database, draft, now=services.clock(), by=key.key_id or None, dry_run=dry_run
    )
    return describe_applied(applied)


@router.get("/history", dependencies=READ, operation_id="list_policy_versions")
def show_history(
    services: ServicesIn, limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20
) -> dict[str, Any]:
    """Give the latest versions, newest first: who wrote each, when, and how much it says."""
    versions = list_versions(services.database, limit=limit)
    counted = [
        {
            **describe_version(each),
            "classes": len(each.content["classes"]),
            "policies": len(each.content["policy"]),
        }
        for each in versions
    ]
    return {"versions": counted, "next": None}
