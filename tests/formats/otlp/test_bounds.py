"""A body of few bytes that holds very much is refused before it fills the memory."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.formats.otlp.captured_runs import RUNS, list_exports
from tokenbudget.domain.errors import MalformedBody, TooLarge
from tokenbudget.formats.otlp import (
    Encoding,
    decode_log_records,
    decode_metric_points,
    decode_spans,
)
from tokenbudget.formats.otlp.bounds import MAX_ELEMENTS, MAX_OBJECTS, SMALL_BYTES

MANY = MAX_ELEMENTS + 100_000


def length(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))


def nested(*numbers: int, payload: bytes) -> bytes:
    """Give a payload inside fields of these numbers."""
    for number in reversed(numbers):
        payload = bytes((number << 3 | 2,)) + length(len(payload)) + payload
    return payload


def empty(number: int) -> bytes:
    """Give very many empty fields of one number."""
    return bytes((number << 3 | 2, 0)) * MANY


@pytest.mark.parametrize(
    "body",
    [
        nested(1, 2, payload=empty(2)),
        nested(1, 2, 2, payload=empty(9)),
        nested(1, 2, 2, 9, 2, 5, payload=empty(1)),
        nested(1, 1, payload=empty(1)),
        nested(1, 2, 2, payload=empty(11)),
    ],
    ids=["spans", "attributes", "values", "resource attributes", "events"],
)
def test_a_trace_of_very_much_is_too_large(body: bytes) -> None:
    assert SMALL_BYTES < len(body) < 2 * SMALL_BYTES
    with pytest.raises(TooLarge):
        decode_spans(body, Encoding.PROTOBUF)


def test_many_records_and_many_points_are_too_large() -> None:
    with pytest.raises(TooLarge):
        decode_log_records(nested(1, 2, payload=empty(2)), Encoding.PROTOBUF)
    with pytest.raises(TooLarge):
        decode_metric_points(nested(1, 2, 2, 7, payload=empty(1)), Encoding.PROTOBUF)


def test_many_json_objects_are_too_large() -> None:
    objects = b"{}," * (MAX_OBJECTS + 1) + b"{}"

    with pytest.raises(TooLarge):
        decode_spans(b'{"resourceSpans":[' + objects + b"]}", Encoding.JSON)


def test_a_large_body_of_honest_telemetry_is_read() -> None:
    request = ExportTraceServiceRequest()
    captured = [
        export.body
        for run in RUNS
        for export in list_exports(run)
        if export.encoding is Encoding.PROTOBUF
    ]
    while request.ByteSize() <= SMALL_BYTES:
        for body in captured:
            request.MergeFromString(body)

    spans = decode_spans(request.SerializeToString(), Encoding.PROTOBUF)

    assert len(spans) > 1_000


def test_a_large_body_with_every_kind_of_field_is_read() -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    points = metrics.add(name="claude_code.token.usage").sum.data_points
    for number in range(60_000):
        points.add(time_unix_nano=10**18, as_int=number, flags=1)

    body = request.SerializeToString()

    assert len(body) > SMALL_BYTES
    assert len(decode_metric_points(body, Encoding.PROTOBUF)) == 60_000


@pytest.mark.parametrize(
    "tail", [b"\x0f", b"\x0a\xff\xff\xff\x7f", b"\x80" * 30, b"\x0d\0", b"\x09\0"]
)
def test_a_large_body_that_is_malformed_is_malformed(tail: bytes) -> None:
    text = nested(4, payload=b"x" * (SMALL_BYTES + 1))

    with pytest.raises(MalformedBody):
        decode_spans(nested(1, 2, payload=text) + tail, Encoding.PROTOBUF)
