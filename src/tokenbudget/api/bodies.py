"""Reading request bodies within bounds, before and after decompression."""

from __future__ import annotations

import json
import zlib
from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import Depends
from starlette.requests import Request

from tokenbudget.domain.errors import MalformedBody, TooLarge, UnsupportedMediaType

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
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body exceeds {limit} bytes")
        chunks.append(chunk)
    body = b"".join(chunks)
    return _gunzip(body, limit) if encoding == "gzip" else body


def _gunzip(body: bytes, limit: int) -> bytes:
    decompressor = zlib.decompressobj(GZIP_WINDOW)
    try:
        decoded = decompressor.decompress(body, limit + 1)
    except zlib.error:
        raise MalformedBody("the body is not valid gzip") from None
    if len(decoded) > limit:
        raise TooLarge(f"the body exceeds {limit} bytes after decompression")
    if not decompressor.eof:
        raise MalformedBody("the gzip body is cut short")
    return decoded


async def read_object(request: Request) -> dict[str, Any]:
    """Give the JSON object of the body with exact decimals, where the framework would read floats."""
    body = await read_body(request, limit=MAX_OBJECT_BYTES)
    try:
        value = json.loads(body, parse_float=Decimal)
    except ValueError as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedBody("the body must be a JSON object")
    return value


ObjectBody = Annotated[dict[str, Any], Depends(read_object)]
