"""Answers have the encoding of their request; errors are ``google.rpc.Status`` in both."""

from __future__ import annotations

import json

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tokenbudget.domain.errors import UnsupportedMediaType
from tokenbudget.formats.otlp import Encoding, Signal, encode_error, encode_success, encoding_of


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/x-protobuf", Encoding.PROTOBUF),
        ("application/json", Encoding.JSON),
        ("Application/JSON; charset=utf-8", Encoding.JSON),
    ],
)
def test_the_encoding_is_that_of_the_content_type(content_type: str, encoding: Encoding) -> None:
    assert encoding_of(content_type) is encoding


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/protobuf"])
def test_another_content_type_is_not_supported(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        encoding_of(content_type)


@pytest.mark.parametrize("signal", Signal)
def test_plain_success_is_empty(signal: Signal) -> None:
    assert encode_success(signal, Encoding.PROTOBUF) == b""
    assert encode_success(signal, Encoding.JSON) == b"{}"


def test_a_partial_success_tells_how_much_was_refused_and_why() -> None:
    traces = encode_success(Signal.TRACES, Encoding.PROTOBUF, rejected=3, message="too old")
    logs = encode_success(Signal.LOGS, Encoding.PROTOBUF, rejected=2, message="too old")
    metrics = encode_success(Signal.METRICS, Encoding.PROTOBUF, rejected=1, message="too old")

    spans = ExportTraceServiceResponse.FromString(traces).partial_success
    records = ExportLogsServiceResponse.FromString(logs).partial_success
    points = ExportMetricsServiceResponse.FromString(metrics).partial_success
    assert (spans.rejected_spans, spans.error_message) == (3, "too old")
    assert (records.rejected_log_records, records.error_message) == (2, "too old")
    assert (points.rejected_data_points, points.error_message) == (1, "too old")


@pytest.mark.parametrize(
    ("signal", "field"),
    [
        (Signal.TRACES, "rejectedSpans"),
        (Signal.LOGS, "rejectedLogRecords"),
        (Signal.METRICS, "rejectedDataPoints"),
    ],
)
def test_a_warning_refuses_nothing(signal: Signal, field: str) -> None:
    body = encode_success(signal, Encoding.JSON, message="2 calls had no ids")

    assert json.loads(body) == {
        "partialSuccess": {field: "0", "errorMessage": "2 calls had no ids"}
    }


@pytest.mark.parametrize(
    ("http_status", "code"),
    [(400, 3), (401, 16), (403, 7), (413, 8), (429, 8), (503, 14), (500, 13)],
)
def test_an_error_is_a_status_in_both_encodings(http_status: int, code: int) -> None:
    message = "the body is no OTLP " * 20

    status = Status.FromString(encode_error(http_status, message, Encoding.PROTOBUF))

    assert (status.code, status.message) == (code, message)
    assert json.loads(encode_error(http_status, message, Encoding.JSON)) == {
        "code": code,
        "message": message,
    }
