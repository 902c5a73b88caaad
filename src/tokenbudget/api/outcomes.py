"""``POST /v1/outcomes``: what the spending was for, recorded through the group-commit writer."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from tokenbudget.api.access import require_scope, state_of
from tokenbudget.api.bodies import idempotency_key_of, parse_body, read_body
from tokenbudget.domain.errors import UnsupportedMediaType
from tokenbudget.formats.events import NDJSON_TYPES, Door, split_body
from tokenbudget.formats.outcomes import OutcomeShape, ParsedOutcome, parse_outcomes
from tokenbudget.services.keys import KeyFacts
from tokenbudget.services.outcomes import OutcomeAnswer, RecordOutcomes

JSON_TYPE: Final = "application/json"

IngestKey = Annotated[KeyFacts, Depends(require_scope("ingest"))]

router = APIRouter(tags=["outcomes"])


def _body_of_outcomes() -> dict[str, Any]:
    _, components = msgspec.json.schema_components([OutcomeShape])
    outcome = components["OutcomeShape"]
    one_or_many = {"schema": {"anyOf": [outcome, {"type": "array", "items": outcome}]}}
    lines = {name: {"schema": {"type": "string"}} for name in sorted(NDJSON_TYPES)}
    return {"requestBody": {"required": True, "content": {JSON_TYPE: one_or_many, **lines}}}


@router.post("/v1/outcomes", operation_id="record_outcomes", openapi_extra=_body_of_outcomes())
async def record_outcomes(request: Request, key: IngestKey) -> Response:
    """Record outcomes; answers per item, after they are committed."""
    state = state_of(request)
    settings = state.services.settings
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in ("", JSON_TYPE) and content_type not in NDJSON_TYPES:
        raise UnsupportedMediaType(
            f"Content-Type {content_type!r} is not supported; use application/json or "
            "application/x-ndjson"
        )
    body = await read_body(request, limit=settings.max_body_bytes)
    door = Door(
        now=state.services.clock(),
        future_tolerance=timedelta(seconds=settings.future_tolerance_seconds),
        idempotency_key=idempotency_key_of(request),
    )

    def parse(text: bytes) -> list[ParsedOutcome]:
        items = split_body(text, content_type=content_type, max_items=settings.max_items)
        return parse_outcomes(items, door)

    answer = await state.writer.submit(RecordOutcomes(await parse_body(parse, body), key.caller))
    if not isinstance(answer, OutcomeAnswer):
        raise TypeError(f"recording outcomes was answered with {type(answer).__name__}")
    return Response(msgspec.json.encode(_describe(answer)), media_type=JSON_TYPE)


def _describe(answer: OutcomeAnswer) -> dict[str, Any]:
    return {
        "accepted": answer.accepted,
        "duplicates": answer.duplicates,
        "waiting": answer.waiting,
        "rejected": [
            {
                "index": rejection.index,
                "event_id": rejection.event_id,
                "code": rejection.code,
                "detail": rejection.detail,
            }
            for rejection in answer.rejected
        ],
    }
