"""What is inside of a file: its kind, decompressed and as UTF-8.

It owns compression (gzip, zstd) and encodings (UTF-8 with or without a mark, UTF-16 with one); it
refuses to look at columns or cells. What has to be converted goes through a temporary file piece by
piece, so memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import IO, Final, cast

import polars as pl

from tokenbudget.formats.bills.lines import refuse_file

if sys.version_info >= (3, 14):  # pragma: no cover
    from compression import zstd
else:
    from backports import zstd

HEAD_BYTES: Final = 64 * 1024
CHUNK_BYTES: Final = 1 << 20
MAX_PLAIN_BYTES: Final = 64 * 1024**3
"""How much may come out of a compressed file."""

GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
PARQUET_MAGIC: Final = b"PAR1"
UTF_16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
BLANKS: Final = b" \t\r\n"


class Kind(Enum):
    """How a file is to be read."""

    PARQUET = "Parquet"
    JSON_LINES = "JSON lines"
    JSON_DOCUMENT = "JSON"
    TEXT = "CSV"


@dataclass(frozen=True, slots=True)
class PlainFile:
    """A file as it can be read: ``path`` is the one given, ``content`` what to open."""

    path: Path
    content: Path
    kind: Kind


@contextmanager
def open_plain(path: Path) -> Iterator[PlainFile]:
    """Give the plain form of a file, for as long as the block runs.

    Raises BadFile when it cannot be read, is cut short, or is not of the encoding it begins like.
    """
    # A reader that is dropped half-way is closed late, and then TemporaryDirectory would warn.
    directory = Path(mkdtemp(prefix="tokenbudget-bill-"))
    try:
        content = _transcoded(path, _decompressed(path, directory), directory)
        yield PlainFile(path, content, _kind_of(content))
    except OSError as error:
        raise refuse_file(path, f"cannot be read: {error.strerror or error}") from None
    finally:
        rmtree(directory, ignore_errors=True)


def head_of(path: Path) -> bytes:
    """Give the beginning of a file's text as UTF-8 without a mark.

    Of a Parquet file it gives the names of its columns, between commas. Raises BadFile when the
    file cannot be read.
    """
    try:
        head = _decompressed_head(path)
    except OSError as error:
        raise refuse_file(path, f"cannot be read: {error.strerror or error}") from None
    if head.startswith(PARQUET_MAGIC):
        return ",".join(_parquet_names(path)).encode()
    for mark, encoding in UTF_16.items():
        if head.startswith(mark):
            text = codecs.getincrementaldecoder(encoding)("replace").decode(head[len(mark) :])
            return text.encode(errors="replace")
    return head.removeprefix(codecs.BOM_UTF8)


def _parquet_names(path: Path) -> list[str]:
    with open_plain(path) as plain:
        try:
            return list(pl.read_parquet_schema(plain.content))
        except pl.exceptions.PolarsError as error:
            raise damaged(path, Kind.PARQUET, error) from None


def damaged(path: Path, kind: Kind, error: Exception) -> Exception:
    """Give the error about a file that is not what it seems to be."""
    first_line = str(error).strip().partition("\n")[0]
    return refuse_file(
        path, f"is cut short or damaged; it cannot be read as {kind.value}: {first_line}"
    )


def _decompressed_head(path: Path) -> bytes:
    with path.open("rb") as file:
        magic = file.read(len(ZSTD_MAGIC))
        file.seek(0)
        if not _is_compressed(magic):
            return file.read(HEAD_BYTES)
        try:
            return _decoder(file, magic).read(HEAD_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError):
            raise refuse_file(path, "is cut short or damaged: its compression ends early") from None


def _is_compressed(magic: bytes) -> bool:
    return magic.startswith((GZIP_MAGIC, ZSTD_MAGIC))


def _decoder(file: IO[bytes], magic: bytes) -> IO[bytes]:
    if magic.startswith(GZIP_MAGIC):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    return cast(IO[bytes], zstd.ZstdFile(file))


def _decompressed(path: Path, directory: Path) -> Path:
    with path.open("rb") as file:
        magic = file.read(len(ZSTD_MAGIC))
        if not _is_compressed(magic):
            return path
        file.seek(0)
        decompressed = directory / "decompressed"
        try:
            with decompressed.open("wb") as target:
                _copy_bounded(_decoder(file, magic), target, path)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError):
            raise refuse_file(path, "is cut short or damaged: its compression ends early") from None
    return decompressed


def _copy_bounded(source: IO[bytes], target: IO[bytes], path: Path) -> None:
    size = 0
    while piece := source.read(CHUNK_BYTES):
        size += len(piece)
        if size > MAX_PLAIN_BYTES:
            raise refuse_file(path, f"holds more than {MAX_PLAIN_BYTES} bytes when decompressed")
        target.write(piece)


def _transcoded(path: Path, content: Path, directory: Path) -> Path:
    with content.open("rb") as file:
        encoding = UTF_16.get(file.read(2))
        if encoding is None:
            return content
        transcoded = directory / "transcoded"
        try:
            _transcode(file, transcoded, codecs.getincrementaldecoder(encoding)())
        except UnicodeError:
            raise refuse_file(path, "begins like UTF-16 and is cut short or not of it") from None
    return transcoded


def _transcode(source: IO[bytes], target: Path, decoder: codecs.IncrementalDecoder) -> None:
    with target.open("wb") as file:
        while piece := source.read(CHUNK_BYTES):
            file.write(decoder.decode(piece).encode())
    decoder.decode(b"", final=True)


def _kind_of(content: Path) -> Kind:
    with content.open("rb") as file:
        head = file.read(CHUNK_BYTES)
    if head.startswith(PARQUET_MAGIC):
        return Kind.PARQUET
    bare = head.removeprefix(codecs.BOM_UTF8).lstrip(BLANKS)
    if not bare.startswith((b"{", b"[")):
        return Kind.TEXT
    first_line = bare.partition(b"\n")[0].rstrip(BLANKS)
    is_of_lines = bare.startswith(b"{") and first_line.endswith(b"}")
    return Kind.JSON_LINES if is_of_lines else Kind.JSON_DOCUMENT
