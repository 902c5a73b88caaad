"""How OTLP over HTTP is answered (opentelemetry-proto, docs/specification.md, OTLP/HTTP Response).

It owns the two encodings, the answers in them and which gRPC code goes with which HTTP status. It
refuses to decide what is answered. An answer has the encoding of its request. Of the errors only
429, 502, 503 and 504 make an exporter try again; on every other it drops its telemetry.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tokenbudget.domain.errors import UnsupportedMediaType
from tokenbudget.formats.otlp import json_bodies, protobuf_bodies
from tokenbudget.formats.otlp.shapes import LogRecord, MetricPoint, Span

INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16
RPC_CODES: Final = {
    400: INVALID_ARGUMENT,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: NOT_FOUND,
    413: RESOURCE_EXHAUSTED,
    415: INVALID_ARGUMENT,
    422: INVALID_ARGUMENT,
    429: RESOURCE_EXHAUSTED,
    503: UNAVAILABLE,
}
"""Codes of google/rpc/code.proto by HTTP status."""

CODE_TAG: Final = b"\x08"
MESSAGE_TAG: Final = b"\x12"
SEVEN_BITS: Final = 0x7F
MORE: Final = 0x80


class Signal(StrEnum):
    """What an export carries, as its path ends."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


class Encoding(StrEnum):
    """An encoding of OTLP over HTTP, by its media type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


def encoding_of(content_type: str | None) -> Encoding:
    """Give the encoding a Content-Type names; raises UnsupportedMediaType for any other."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    try:
        return Encoding(media_type)
    except ValueError:
        detail = f"OTLP is {Encoding.PROTOBUF} or {Encoding.JSON}, not {media_type or 'nothing'}"
        raise UnsupportedMediaType(detail) from None


def decode_spans(body: bytes, encoding: Encoding) -> list[Span]:
    """Give the spans of a request; an empty one is none. Raises MalformedBody, TooLarge."""
    if encoding is Encoding.JSON:
        return json_bodies.decode_spans(body)
    return protobuf_bodies.decode_spans(body)


def decode_log_records(body: bytes, encoding: Encoding) -> list[LogRecord]:
    """Give the log records of a request; raises MalformedBody and TooLarge."""
    if encoding is Encoding.JSON:
        return json_bodies.decode_log_records(body)
    return protobuf_bodies.decode_log_records(body)


def decode_metric_points(body: bytes, encoding: Encoding) -> list[MetricPoint]:
    """Give the points of a request's metrics that add up; raises MalformedBody and TooLarge."""
    if encoding is Encoding.JSON:
        return json_bodies.decode_metric_points(body)
    return protobuf_bodies.decode_metric_points(body)


def encode_success(
    signal: Signal, encoding: Encoding, *, rejected: int = 0, message: str = ""
) -> bytes:
    """Give the body of an answer with status 200.

    ``rejected`` counts what was refused for good, ``message`` tells why, or warns when nothing was.
    With neither the answer is empty: no bytes in protobuf, ``{}`` in JSON.
    """
    is_partial = bool(rejected or message)
    if encoding is Encoding.JSON:
        counted = {
            Signal.TRACES: "rejectedSpans",
            Signal.LOGS: "rejectedLogRecords",
            Signal.METRICS: "rejectedDataPoints",
        }
        partial = {counted[signal]: str(rejected), "errorMessage": message}
        return msgspec.json.encode({"partialSuccess": partial} if is_partial else {})
    if not is_partial:
        return b""
    if signal is Signal.TRACES:
        traces = ExportTraceServiceResponse()
        traces.partial_success.rejected_spans = rejected
        traces.partial_success.error_message = message
        return traces.SerializeToString()
    if signal is Signal.LOGS:
        logs = ExportLogsServiceResponse()
        logs.partial_success.rejected_log_records = rejected
        logs.partial_success.error_message = message
        return logs.SerializeToString()
    metrics = ExportMetricsServiceResponse()
    metrics.partial_success.rejected_data_points = rejected
    metrics.partial_success.error_message = message
    return metrics.SerializeToString()


def encode_error(http_status: int, message: str, encoding: Encoding) -> bytes:
    """Give the body of an error, a ``google.rpc.Status`` with its code and message alone."""
    code = RPC_CODES.get(http_status, INTERNAL)
    if encoding is Encoding.JSON:
        return msgspec.json.encode({"code": code, "message": message})
    text = message.encode(errors="replace")
    return CODE_TAG + _varint(code) + MESSAGE_TAG + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    """Give a protobuf varint: seven bits a byte, the lowest first."""
    digits = bytearray()
    while number > SEVEN_BITS:
        digits.append(number & SEVEN_BITS | MORE)
        number >>= 7
    return bytes((*digits, number))
