"""Reading request bodies within bounds, before and after decompression."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from tokenbudget.domain.errors import MalformedBody, TooLarge, UnsupportedMediaType

ParsedT = TypeVar("ParsedT")
LARGE_BODY_BYTES: Final = 256 * 1024
MAX_OBJECT_BYTES: Final = 1024 * 1024
OBJECT_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


async def read_body(request: Request, *, limit: int) -> bytes:
    """Give the decoded body; raises TooLarge as soon as either form exceeds ``limit`` bytes."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedMediaType(f"Content-Encoding {encoding!r} is not supported; use gzip")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"the body has {declared} bytes; the limit is {limit}")
    body = await _receive_all(request, limit)
    return _gunzip(body, limit) if encoding == "gzip" else body


async def _receive_all(request: Request, limit: int) -> bytes:
    """Give the body as it came, usually in one piece, read without the framework's generator."""
    pieces: list[bytes] = []
    size = 0
    is_complete = False
    while not is_complete:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise TooLarge(f"the body exceeds {limit} bytes")
        is_complete = not message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def parse_body(parse: Callable[[bytes], ParsedT], body: bytes) -> ParsedT:
    """Give the parsed body; a large one in a thread, so that other requests go on meanwhile."""
    if len(body) <= LARGE_BODY_BYTES:
        return parse(body)
    return await run_in_threadpool(parse, body)


def _gunzip(body: bytes, limit: int) -> bytes:
    """Give the content of every member of a gzip file, as the format allows several."""
    members = []
    size = 0
    rest = body
    while rest:
        decompressor = zlib.decompressobj(GZIP_WINDOW)
        try:
            members.append(decompressor.decompress(rest, limit + 1 - size))
        except zlib.error:
            raise MalformedBody("the body is not valid gzip") from None
        size += len(members[-1])
        if size > limit:
            raise TooLarge(f"the body exceeds {limit} bytes after decompression")
        if not decompressor.eof:
            raise MalformedBody("the gzip body is cut short")
        rest = decompressor.unused_data
    return b"".join(members)


async def read_object(request: Request) -> dict[str, Any]:
    """Give the JSON object of the body with its decimals exact, not as floats."""
    body = await read_body(request, limit=MAX_OBJECT_BYTES)
    try:
        value = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedBody("the body must be a JSON object")
    return value


ObjectBody = Annotated[dict[str, Any], Depends(read_object)]
