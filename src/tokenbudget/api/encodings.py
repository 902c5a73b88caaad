"""Content encodings of request bodies: gzip and zstd, taken apart piece by piece.

It owns their bounds: what comes out is bounded before it is made, and so is the number of parts a
body is made of. It refuses to receive anything.
"""

from __future__ import annotations

import sys
import zlib
from typing import Final, TypeAlias

from tokenbudget.domain.errors import MalformedBody, TooLarge, UnsupportedMediaType

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IDENTITY: Final = "identity"
ENCODINGS: Final = (IDENTITY, "gzip", "zstd")
GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
# RFC 9659: a decoder of this content encoding need not keep more than 8 MiB.
ZSTD_WINDOW_LOG: Final = 23
# Both formats may be several parts in a row; each costs as much as a small body.
MAX_PARTS: Final = 1_000


PartDecoder: TypeAlias = "zlib._Decompress | zstd.ZstdDecompressor"


class BodyDecoder:
    """The decoding of one body; ``decode`` takes its pieces in order."""

    def __init__(self, encoding: str, *, limit: int) -> None:
        if encoding not in ENCODINGS:
            known = " or ".join(name for name in ENCODINGS if name != IDENTITY)
            raise UnsupportedMediaType(
                f"Content-Encoding {encoding!r} is not supported; use {known}"
            )
        self._encoding = encoding
        self._limit = limit
        self._size = 0
        self._parts = 0
        self._part: PartDecoder | None = None

    def decode(self, piece: bytes) -> bytes:
        """Give the content that this piece adds.

        Raises TooLarge as soon as the content exceeds the limit and MalformedBody for bytes that
        are not of the encoding.
        """
        if self._encoding == IDENTITY:
            return self._count(piece)
        contents = []
        while piece:
            part = self._part or self._next_part()
            try:
                content = part.decompress(piece, self._limit - self._size + 1)
            except (zlib.error, zstd.ZstdError):
                raise MalformedBody(f"the body is not valid {self._encoding}") from None
            contents.append(self._count(content))
            self._part = None if part.eof else part
            piece = part.unused_data if part.eof else b""
        return b"".join(contents)

    def finish(self) -> None:
        """Raise MalformedBody when the body ended within a part."""
        if self._part is not None:
            raise MalformedBody(f"the {self._encoding} body is cut short")

    def _next_part(self) -> PartDecoder:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise TooLarge(f"the body has more than {MAX_PARTS} compressed parts")
        if self._encoding == "gzip":
            return zlib.decompressobj(GZIP_WINDOW)
        return _zstd_part()

    def _count(self, content: bytes) -> bytes:
        self._size += len(content)
        if self._size > self._limit:
            after = "" if self._encoding == IDENTITY else " after decompression"
            raise TooLarge(f"the body exceeds {self._limit} bytes{after}")
        return content


def _zstd_part() -> PartDecoder:
    limit = int(zstd.DecompressionParameter.window_log_max)
    return zstd.ZstdDecompressor(options={limit: ZSTD_WINDOW_LOG})
