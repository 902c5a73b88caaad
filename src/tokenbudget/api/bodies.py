"""Reading request bodies within bounds, before and after decompression."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from tokenbudget.api.encodings import IDENTITY, BodyDecoder
from tokenbudget.domain.errors import InvalidInput, MalformedBody, TooLarge

ParsedT = TypeVar("ParsedT")
LARGE_BODY_BYTES: Final = 256 * 1024
MAX_KEY_LENGTH: Final = 200
MAX_OBJECT_BYTES: Final = 1024 * 1024
HALF_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F]")
OBJECT_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


async def read_body(request: Request, *, limit: int) -> bytes:
    """Give the decoded body; raises TooLarge as soon as either form exceeds ``limit`` bytes."""
    pieces = [piece async for piece in read_pieces(request, limit=limit)]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_pieces(request: Request, *, limit: int) -> AsyncIterator[bytes]:
    """Give the decoded body as it comes; raises TooLarge as soon as either form exceeds the limit.

    Raises UnsupportedMediaType for an encoding that is none of ours and MalformedBody for a body
    that is not of its encoding.
    """
    decoder = BodyDecoder(request.headers.get("content-encoding", IDENTITY).lower(), limit=limit)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"the body has {declared} bytes; the limit is {limit}")
    size = 0
    is_complete = False
    while not is_complete:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise TooLarge(f"the body exceeds {limit} bytes")
        is_complete = not message.get("more_body", False)
        yield decoder.decode(piece)
    decoder.finish()


async def parse_body(parse: Callable[[bytes], ParsedT], body: bytes) -> ParsedT:
    """Give the parsed body; a large one in a thread, so that other requests go on meanwhile."""
    if len(body) <= LARGE_BODY_BYTES:
        return parse(body)
    return await run_in_threadpool(parse, body)


async def read_object(request: Request) -> dict[str, Any]:
    """Give the JSON object of the body with its decimals exact, not as floats."""
    body = await read_body(request, limit=MAX_OBJECT_BYTES)
    try:
        value = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    except ArithmeticError:
        raise MalformedBody("the body holds a number that no decimal can be") from None
    if HALF_PAIR.search(body) and not _is_text(value):
        raise MalformedBody("the body holds half of a surrogate pair, which is no text")
    if not isinstance(value, dict):
        raise MalformedBody("the body must be a JSON object")
    return value


def _is_text(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


ObjectBody = Annotated[dict[str, Any], Depends(read_object)]


def idempotency_key_of(request: Request) -> str | None:
    """Give the Idempotency-Key header without quotes, None for none; InvalidInput for a bad one."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    bare = key.strip().strip('"')
    if not 1 <= len(bare) <= MAX_KEY_LENGTH:
        raise InvalidInput(f"Idempotency-Key must have 1 to {MAX_KEY_LENGTH} characters")
    return bare
