"""Compressed bodies: gzip and zstd, in parts, cut short, and bounded before they are unpacked."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from tests.api.conftest import MakeClient
from tests.builders import contents, make_events
from tokenbudget.api.encodings import MAX_PARTS, BodyDecoder
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import MalformedBody, TooLarge, UnsupportedMediaType

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Compress = Callable[[bytes], bytes]
COMPRESSORS: dict[str, Compress] = {"gzip": gzip.compress, "zstd": zstd.compress}
EVENTS = json.dumps(make_events(3)).encode()
LARGE = b" " * 50 * 1024 * 1024
ENCODED = pytest.mark.parametrize(("encoding", "compress"), COMPRESSORS.items())
ON_ONE_ENGINE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def decode(encoding: str, *pieces: bytes, limit: int = 1_000_000) -> bytes:
    """Give what the pieces of a body hold."""
    decoder = BodyDecoder(encoding, limit=limit)
    content = b"".join(decoder.decode(piece) for piece in pieces)
    decoder.finish()
    return content


@ENCODED
@ON_ONE_ENGINE
def test_a_compressed_body_is_read(client: TestClient, encoding: str, compress: Compress) -> None:
    answer = client.post(
        "/v1/events", content=compress(EVENTS), headers={"content-encoding": encoding}
    )

    assert (answer.status_code, answer.json()["accepted"]) == (200, 3)


@ENCODED
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.integers(1, 50))
def test_parts_in_a_row_are_one_body_however_they_arrive(
    encoding: str, compress: Compress, parts: list[bytes], size: int
) -> None:
    body = b"".join(compress(part) for part in parts)
    pieces = (body[start : start + size] for start in range(0, len(body), size))

    assert decode(encoding, *pieces) == b"".join(parts)


@ENCODED
def test_a_body_that_ends_within_a_part_is_malformed(encoding: str, compress: Compress) -> None:
    body = compress(EVENTS)

    for length in (1, len(body) // 2, len(body) - 1):
        with pytest.raises(MalformedBody, match="cut short"):
            decode(encoding, body[:length])
    with pytest.raises(MalformedBody, match="cut short"):
        decode(encoding, body + body[:5])


@ENCODED
def test_bytes_of_another_kind_are_malformed(encoding: str, compress: Compress) -> None:
    with pytest.raises(MalformedBody, match=f"not valid {encoding}"):
        decode(encoding, EVENTS)
    with pytest.raises(MalformedBody, match=f"not valid {encoding}"):
        decode(encoding, compress(EVENTS) + b"and some more of it")


@ENCODED
def test_what_unpacks_to_more_than_the_limit_is_stopped_there(
    encoding: str, compress: Compress
) -> None:
    assert decode(encoding, compress(b"x" * 100), limit=100) == b"x" * 100
    with pytest.raises(TooLarge, match="exceeds 100 bytes after decompression"):
        decode(encoding, compress(b"x" * 101), limit=100)
    with pytest.raises(TooLarge, match="exceeds 100 bytes after decompression"):
        decode(encoding, compress(b"x" * 60), compress(b"x" * 60), limit=100)


@ENCODED
def test_a_body_of_countless_empty_parts_is_stopped(encoding: str, compress: Compress) -> None:
    with pytest.raises(TooLarge, match="more than 1000 compressed parts"):
        decode(encoding, compress(b"") * (MAX_PARTS + 1))


@ENCODED
@ON_ONE_ENGINE
def test_a_bomb_changes_nothing(
    client: TestClient, services: Services, encoding: str, compress: Compress
) -> None:
    before = contents(services.database)
    headers = {"content-encoding": encoding, "content-type": "application/x-ndjson"}

    answers = [
        client.post("/v1/events", content=compress(LARGE), headers=headers),
        client.post("/v1/events", content=compress(LARGE), headers={"content-encoding": encoding}),
    ]

    assert [answer.status_code for answer in answers] == [413, 413]
    assert contents(services.database) == before


def test_a_window_beyond_that_of_the_content_encoding_is_refused() -> None:
    options = {int(zstd.CompressionParameter.window_log): 27}
    compressor = zstd.ZstdCompressor(options=options)
    body = compressor.compress(b"x" * 1000) + compressor.flush()

    with pytest.raises(MalformedBody, match="not valid zstd"):
        decode("zstd", body)


def test_an_encoding_that_is_none_of_ours_is_named() -> None:
    with pytest.raises(UnsupportedMediaType, match="'br' is not supported; use gzip or zstd"):
        BodyDecoder("br", limit=1)


@ON_ONE_ENGINE
def test_a_compressed_body_that_comes_in_chunks_is_bounded_as_it_comes(
    make_client: MakeClient,
) -> None:
    body = zstd.compress(EVENTS)

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 16):
            yield body[start : start + 16]

    headers = {"content-encoding": "zstd"}
    whole = make_client().post("/v1/events", content=chunks(), headers=headers)
    bounded = make_client(max_body_bytes=300).post("/v1/events", content=chunks(), headers=headers)

    assert (whole.status_code, whole.json()["accepted"]) == (200, 3)
    assert bounded.status_code == 413
