"""``POST /v1/events``: a thin route (no framework validation) before the group-commit writer.

One object, an array and CloudEvents are recorded in one transaction. NDJSON is taken in as it
comes, bounded before anything is recorded, and recorded in pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from tokenbudget.api.access import AppState, authorize_on_loop, state_of
from tokenbudget.api.bodies import idempotency_key_of, parse_body, read_body, read_pieces
from tokenbudget.api.recording import describe_answer, merge_answers, record_usage
from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.errors import MalformedBody, TooLarge, UnsupportedMediaType
from tokenbudget.formats.cloudevents import (
    BATCH_TYPE,
    STRUCTURED_TYPE,
    EnvelopeDoor,
    is_binary,
    parse_batch,
    parse_binary,
    parse_structured,
)
from tokenbudget.formats.events import NDJSON_TYPES, Door, ParsedItem, parse_items, split_body
from tokenbudget.services.usage import RecordAnswer

JSON_TYPES = frozenset({"", "application/json"})
LINE_END = b"\n"

Parse = Callable[[bytes], list[ParsedItem]]


async def record_events(request: Request) -> Response:
    """Record usage events; answers per item, after they are committed."""
    key = await authorize_on_loop(request, "ingest")
    state = state_of(request)
    settings = state.services.settings
    content_type = media_type_of(request)
    door = Door(
        now=state.services.clock(),
        future_tolerance=timedelta(seconds=settings.future_tolerance_seconds),
        idempotency_key=idempotency_key_of(request),
    )
    if content_type in NDJSON_TYPES:
        lines = await _read_lines(request, state)
        answer = await _record_lines(state, lines, door, key.caller)
    else:
        parse = _parser(request, state, content_type, door)
        body = await read_body(request, limit=settings.max_body_bytes)
        answer = await record_usage(state, await parse_body(parse, body), key.caller)
    return Response(msgspec.json.encode(describe_answer(answer)), media_type="application/json")


def media_type_of(request: Request) -> str:
    """Give the media type of the body in lower case, empty when none is named."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _parser(request: Request, state: AppState, content_type: str, door: Door) -> Parse:
    """Give what reads a body of this media type; raises UnsupportedMediaType for one of no kind."""
    settings = state.services.settings
    envelope_door = EnvelopeDoor(door, settings.subject_tag)
    if content_type == STRUCTURED_TYPE:
        return partial(parse_structured, door=envelope_door)
    if content_type == BATCH_TYPE:
        return partial(parse_batch, door=envelope_door, max_items=settings.max_items)
    if is_binary(request.headers.raw):
        headers = request.headers.items()
        return lambda body: parse_binary(headers, content_type, body, envelope_door)
    if content_type not in JSON_TYPES:
        raise UnsupportedMediaType(
            f"Content-Type {content_type!r} is not supported; use application/json, "
            f"application/x-ndjson, {STRUCTURED_TYPE} or {BATCH_TYPE}"
        )

    def parse(text: bytes) -> list[ParsedItem]:
        items = split_body(text, content_type=content_type, max_items=settings.max_items)
        return parse_items(items, door)

    return parse


async def _read_lines(request: Request, state: AppState) -> deque[bytes]:
    """Give the lines that are not blank.

    Raises TooLarge as soon as there are too many of them, or too many bytes.
    """
    settings = state.services.settings
    lines: deque[bytes] = deque()
    begun = [b""]
    async for piece in read_pieces(request, limit=settings.max_body_bytes):
        *ended, rest = piece.split(LINE_END)
        if ended:
            ended[0] = b"".join([*begun, ended[0]])
            begun.clear()
        begun.append(rest)
        lines.extend(line for line in ended if line.strip())
        _require_few(lines, settings.max_items)
    last = b"".join(begun)
    if last.strip():
        lines.append(last)
    _require_few(lines, settings.max_items)
    if not lines:
        raise MalformedBody("the body is empty; send one event a line")
    return lines


def _require_few(lines: deque[bytes], max_items: int) -> None:
    if len(lines) > max_items:
        raise TooLarge(f"the batch has more than {max_items} items")


async def _record_lines(
    state: AppState, lines: deque[bytes], door: Door, caller: Caller
) -> RecordAnswer:
    """Record the lines in their order, a piece at a time; only one piece is ever held parsed.

    When the writer fails in between, the pieces before stay recorded: sent again, they are
    duplicates.
    """
    answers = []
    first_index = 0
    while lines:
        count = min(len(lines), state.services.settings.stream_piece_items)
        piece = [lines.popleft() for _ in range(count)]
        items = await run_in_threadpool(parse_items, piece, door, first_index=first_index)
        answers.append(await record_usage(state, items, caller, first_index=first_index))
        first_index += count
    return merge_answers(answers)
