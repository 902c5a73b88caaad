"""``POST /v1/events``: a thin route (no framework validation) before the group-commit writer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tokenbudget.api.access import authorize, state_of
from tokenbudget.api.bodies import parse_body, read_body
from tokenbudget.domain.errors import InvalidInput, UnsupportedMediaType
from tokenbudget.formats.events import NDJSON_TYPES, Door, ParsedItem, parse_items, split_body
from tokenbudget.services.placement import Caller
from tokenbudget.services.usage import RecordAnswer, RecordUsage

JSON_TYPES = frozenset({"", "application/json"})
MAX_KEY_LENGTH = 200


async def record_events(request: Request) -> Response:
    """Record usage events; answers per item, after they are committed."""
    key = authorize(request, "ingest")
    state = state_of(request)
    settings = state.services.settings
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in JSON_TYPES and content_type not in NDJSON_TYPES:
        raise UnsupportedMediaType(
            f"Content-Type {content_type!r} is not supported; use application/json or "
            "application/x-ndjson"
        )
    body = await read_body(request, limit=settings.max_body_bytes)
    door = Door(
        now=state.services.clock(),
        future_tolerance=timedelta(seconds=settings.future_tolerance_seconds),
        idempotency_key=_idempotency_key(request),
    )

    def parse(text: bytes) -> list[ParsedItem]:
        items = split_body(text, content_type=content_type, max_items=settings.max_items)
        return parse_items(items, door)

    work = RecordUsage(await parse_body(parse, body), Caller(key.key_id, key.pinned_tags))
    answer = await state.writer.submit(work)
    if not isinstance(answer, RecordAnswer):
        raise TypeError(f"recording usage was answered with {type(answer).__name__}")
    return Response(msgspec.json.encode(describe_answer(answer)), media_type="application/json")


def describe_answer(answer: RecordAnswer) -> dict[str, Any]:
    """Give the wire form of what became of each item."""
    return {
        "accepted": answer.accepted,
        "duplicates": answer.duplicates,
        "unpriced": answer.unpriced,
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


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    bare = key.strip().strip('"')
    if not 1 <= len(bare) <= MAX_KEY_LENGTH:
        raise InvalidInput(f"Idempotency-Key must have 1 to {MAX_KEY_LENGTH} characters")
    return bare
