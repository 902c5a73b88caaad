"""``/v1/keys``: API keys, made with their secret shown once, listed without it, revoked."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from tokenbudget.api.access import ServicesIn, require_scope
from tokenbudget.api.bodies import OBJECT_BODY, ObjectBody
from tokenbudget.domain.periods import format_instant
from tokenbudget.formats.keys import parse_key
from tokenbudget.services.keys import KeyPolicy, create_key, list_all_keys, revoke
from tokenbudget.store.tables import ApiKeyRow

router = APIRouter(prefix="/v1/keys", tags=["keys"])
ADMIN = [Depends(require_scope("admin"))]


@router.get("", dependencies=ADMIN, operation_id="list_keys")
def show_keys(services: ServicesIn) -> dict[str, Any]:
    """Give every key without its secret, oldest first."""
    keys = list_all_keys(services.database)
    return {"keys": [_describe_key(key) for key in keys], "next": None}


@router.post(
    "", dependencies=ADMIN, status_code=201, operation_id="create_key", openapi_extra=OBJECT_BODY
)
def add_key(body: ObjectBody, services: ServicesIn) -> dict[str, Any]:
    """Make a key and give its secret, this once: it is not kept and cannot be shown again."""
    asked = parse_key(body)
    key = create_key(
        services.database,
        name=asked.name,
        scopes=asked.scopes,
        pinned_tags=asked.pinned_tags,
        now=services.clock(),
        policy=KeyPolicy(asked.trust, tuple(asked.required_tags), asked.on_missing),
    )
    return {"id": key.key_id, "name": key.name, "scopes": list(key.scopes), "secret": key.secret}


@router.delete("/{key_id}", dependencies=ADMIN, status_code=204, operation_id="revoke_key")
def revoke_one(key_id: str, services: ServicesIn) -> None:
    """Revoke a key for good; workers stop accepting it within their cache time."""
    revoke(services.database, key_id, now=services.clock())


def _describe_key(key: ApiKeyRow) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes,
        "pinned_tags": key.pinned_tags,
        "trust": key.trust,
        "required_tags": key.required_tags,
        "on_missing": key.on_missing,
        "created_at": format_instant(key.created_at),
        "revoked_at": None if key.revoked_at is None else format_instant(key.revoked_at),
    }
