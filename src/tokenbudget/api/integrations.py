"""Entrances for other programs: LiteLLM's callback, OpenMeter's ingest path, what was set aside.

Both programs throw away what they are refused. So whatever is JSON is answered as stored: what is
usage is recorded, and all else is set aside with the reason, without prompts, to be tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from tokenbudget.api.access import AppState, ServicesIn, require_scope, state_of
from tokenbudget.api.bodies import parse_body, read_body
from tokenbudget.api.events import media_type_of
from tokenbudget.api.recording import describe_rejection, merge_answers, record_one_by_one
from tokenbudget.bootstrap import Services
from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.errors import MalformedBody, UnsupportedMediaType
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.cloudevents import BATCH_TYPE, JSON_TYPE, STRUCTURED_TYPE
from tokenbudget.formats.events import Door, ParsedItem, Rejection
from tokenbudget.formats.foreign_records import UNREADABLE_RECORD, ForeignRecord, Reading
from tokenbudget.formats.litellm import CallbackDoor, read_callback, reread_callback
from tokenbudget.formats.openmeter import MeterDoor, read_meters, reread_meter
from tokenbudget.services.keys import KeyFacts
from tokenbudget.services.set_aside import (
    Arrival,
    get_record,
    list_records,
    set_aside,
    settle_record,
)
from tokenbudget.services.usage import RecordAnswer
from tokenbudget.store.tables import SetAsideRow

router = APIRouter(tags=["integrations"])
LITELLM: Final = "litellm"
OPENMETER: Final = "openmeter"
METER_TYPES: Final = frozenset({"", JSON_TYPE, STRUCTURED_TYPE, BATCH_TYPE})
MAX_ID: Final = 2**31 - 1
MAX_LISTED: Final = 500

IngestKey = Annotated[KeyFacts, Depends(require_scope("ingest"))]
READ = [Depends(require_scope("read"))]
ADMIN = [Depends(require_scope("admin"))]


@router.post("/v1/integrations/litellm", operation_id="record_litellm_callback")
async def take_callback(request: Request, key: IngestKey) -> dict[str, Any]:
    """Record the calls of a LiteLLM proxy, sent by its generic API callback.

    An array, an object, or one object a line, whatever the media type says. A record that is no
    usage is set aside without its prompt and listed; it is not refused, since LiteLLM would not
    send it again.
    """
    state = state_of(request)
    settings = state.services.settings
    body = await read_body(request, limit=settings.callback_body_bytes)
    door = _callback_door(state.services)
    read = partial(read_callback, door=door, max_records=settings.max_items)
    arrival = Arrival(LITELLM, key.key_id, door.door.now)
    answer = await _record_readings(state, await parse_body(read, body), key.caller, arrival)
    return {
        "accepted": answer.accepted,
        "duplicates": answer.duplicates,
        "unpriced": answer.unpriced,
        "set_aside": [
            describe_rejection(rejection)
            for rejection in sorted(answer.rejected, key=lambda each: each.index)
        ],
    }


@router.post("/api/v1/events", operation_id="record_meter_events", status_code=204)
async def take_meter_events(request: Request, key: IngestKey) -> Response:
    """Record token usage that is sent as to OpenMeter: CloudEvents, one or a batch.

    Events that are no usage of a model are set aside and listed, not refused.
    """
    if media_type_of(request) not in METER_TYPES:
        accepted = ", ".join(sorted(METER_TYPES - {""}))
        raise UnsupportedMediaType(f"Content-Type must be one of {accepted}")
    state = state_of(request)
    settings = state.services.settings
    body = await read_body(request, limit=settings.max_body_bytes)
    door = _meter_door(state.services)
    read = partial(read_meters, door=door, max_records=settings.max_items)
    readings = await parse_body(read, body)
    is_batch = body.lstrip()[:1] == b"["
    if all(_is_unreadable(reading) for reading in readings) and (readings or not is_batch):
        raise MalformedBody("the body is neither a CloudEvent nor an array of them")
    arrival = Arrival(OPENMETER, key.key_id, door.door.now)
    await _record_readings(state, readings, key.caller, arrival)
    return Response(status_code=204)


@router.get("/v1/set-aside", operation_id="list_set_aside", dependencies=READ)
def show_set_aside(
    services: ServicesIn,
    recorded: Annotated[bool, Query(description="Those a retry has recorded instead")] = False,
    cursor: Annotated[str | None, Query(description="The cursor of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
) -> dict[str, Any]:
    """Give the records that could not become usage, newest first, with the reasons."""
    page = list_records(services.database, is_waiting=not recorded, cursor=cursor, limit=limit)
    return {"records": [_describe(row) for row in page.rows], "next": page.next_cursor}


@router.post(
    "/v1/set-aside/{set_aside_id}/retry", operation_id="retry_set_aside", dependencies=ADMIN
)
async def retry_set_aside(
    request: Request, set_aside_id: Annotated[int, Path(ge=1, le=MAX_ID)]
) -> dict[str, Any]:
    """Read a record that was set aside once more and record it, if it is understood by now."""
    state = state_of(request)
    database = state.services.database
    row, caller = await run_in_threadpool(get_record, database, set_aside_id)
    item = _reread(row, state.services)
    rejection = item if isinstance(item, Rejection) else None
    if isinstance(item, UsageEvent):
        answer = await record_one_by_one(state, [item], caller)
        rejection = next(iter(answer.rejected), None)
    now = state.services.clock()
    await run_in_threadpool(settle_record, database, set_aside_id, rejection, now=now)
    return {"id": set_aside_id, "recorded": rejection is None, **_reason_of(rejection)}


async def _record_readings(
    state: AppState, readings: Sequence[Reading], caller: Caller, arrival: Arrival
) -> RecordAnswer:
    """Record what is usage and set aside the rest, that first: it would not come again."""
    refused = [(each.record, each.item) for each in readings if isinstance(each.item, Rejection)]
    await _set_aside(state, refused, arrival)
    good = [each for each in enumerate(readings) if isinstance(each[1].item, UsageEvent)]
    answers = [RecordAnswer(0, 0, 0, tuple(rejection for _, rejection in refused))]
    size = state.services.settings.stream_piece_items
    for start in range(0, len(good), size):
        answers.append(await _record_piece(state, good[start : start + size], caller, arrival))
    return merge_answers(answers)


async def _record_piece(
    state: AppState, piece: Sequence[tuple[int, Reading]], caller: Caller, arrival: Arrival
) -> RecordAnswer:
    """Record some of the readings, each with its place in the request."""
    events = [each.item for _, each in piece if isinstance(each.item, UsageEvent)]
    answer = await record_one_by_one(state, events, caller)
    refused = [
        (piece[each.index][1].record, replace(each, index=piece[each.index][0]))
        for each in answer.rejected
    ]
    await _set_aside(state, refused, arrival)
    return replace(answer, rejected=tuple(rejection for _, rejection in refused))


async def _set_aside(
    state: AppState, refused: Sequence[tuple[ForeignRecord, Rejection]], arrival: Arrival
) -> None:
    if refused:
        await run_in_threadpool(set_aside, state.services.database, refused, arrival)


def _is_unreadable(reading: Reading) -> bool:
    return isinstance(reading.item, Rejection) and reading.item.code == UNREADABLE_RECORD


def _door(services: Services) -> Door:
    settings = services.settings
    return Door(services.clock(), timedelta(seconds=settings.future_tolerance_seconds))


def _callback_door(services: Services) -> CallbackDoor:
    return CallbackDoor(_door(services), services.price_list.canonical_provider)


def _meter_door(services: Services) -> MeterDoor:
    settings = services.settings
    return MeterDoor(
        _door(services),
        settings.subject_tag,
        settings.openmeter_provider,
        services.price_list.canonical_provider,
    )


def _reread(row: SetAsideRow, services: Services) -> ParsedItem:
    if row.entrance == LITELLM:
        return reread_callback(row.kept or "", _callback_door(services))
    return reread_meter(row.kept or "", _meter_door(services))


def _describe(row: SetAsideRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "entrance": row.entrance,
        "event_id": row.event_ref,
        "code": row.reason,
        "detail": row.detail,
        "api_key_id": row.api_key_id or None,
        "received_at": format_instant(row.received_at),
        "recorded_at": None if row.recorded_at is None else format_instant(row.recorded_at),
        "size_bytes": row.size_bytes,
        "sha256": row.sha256,
        "record": None if row.kept is None else msgspec.json.decode(row.kept),
    }


def _reason_of(rejection: Rejection | None) -> dict[str, Any]:
    if rejection is None:
        return {"code": None, "detail": None}
    return {"code": rejection.code, "detail": rejection.detail}
