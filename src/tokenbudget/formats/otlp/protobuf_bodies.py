"""OTLP in its binary encoding, as neutral values.

It owns reading the messages of ``opentelemetry-proto``; bytes that are no such message raise
MalformedBody. It refuses to know HTTP and to interpret anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as LogMessage
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tokenbudget.domain.errors import MalformedBody
from tokenbudget.formats.otlp.bounds import require_bounded_protobuf
from tokenbudget.formats.otlp.shapes import (
    MAX_DEPTH,
    Attributes,
    AttributeValue,
    LogRecord,
    MetricPoint,
    Origin,
    Span,
    SpanEvent,
    instant_of,
)

RequestT = TypeVar("RequestT")
ERROR_STATUS: Final = Status.STATUS_CODE_ERROR
SUMMED_KINDS: Final = frozenset({"sum", "histogram", "exponential_histogram"})


def decode_spans(body: bytes) -> list[Span]:
    """Give the spans of an ExportTraceServiceRequest; raises MalformedBody and TooLarge."""
    require_bounded_protobuf(body, "spans")
    request = _parse(ExportTraceServiceRequest.FromString, body)
    spans: list[Span] = []
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            origin = _origin(resource_spans.resource, scope_spans.scope)
            spans.extend(_span(message, origin) for message in scope_spans.spans)
    return spans


def decode_log_records(body: bytes) -> list[LogRecord]:
    """Give the records of an ExportLogsServiceRequest; raises MalformedBody and TooLarge."""
    require_bounded_protobuf(body, "records")
    request = _parse(ExportLogsServiceRequest.FromString, body)
    records: list[LogRecord] = []
    for resource_logs in request.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            origin = _origin(resource_logs.resource, scope_logs.scope)
            records.extend(_log_record(message, origin) for message in scope_logs.log_records)
    return records


def decode_metric_points(body: bytes) -> list[MetricPoint]:
    """Give the points of every metric that adds up in an ExportMetricsServiceRequest.

    Gauges and summaries are left out. Raises MalformedBody and TooLarge.
    """
    require_bounded_protobuf(body, "metrics")
    request = _parse(ExportMetricsServiceRequest.FromString, body)
    points: list[MetricPoint] = []
    for resource_metrics in request.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            origin = _origin(resource_metrics.resource, scope_metrics.scope)
            for metric in scope_metrics.metrics:
                points.extend(_data_points(metric, origin))
    return points


def _parse(parse: Callable[[bytes], RequestT], body: bytes) -> RequestT:
    try:
        return parse(body)
    except DecodeError:
        raise MalformedBody("the body is no OTLP message in protobuf") from None


def _origin(resource: Resource, scope: InstrumentationScope) -> Origin:
    return Origin(
        _attributes(resource.attributes), scope.name, scope.version, _attributes(scope.attributes)
    )


def _span(message: SpanMessage, origin: Origin) -> Span:
    status, events = message.status, message.events
    return Span(
        origin=origin,
        trace_ref=message.trace_id.hex(),
        span_ref=message.span_id.hex(),
        parent_ref=message.parent_span_id.hex() or None,
        name=message.name,
        started_at=instant_of(message.start_time_unix_nano),
        ended_at=instant_of(message.end_time_unix_nano),
        attributes=_attributes(message.attributes),
        events=tuple([SpanEvent(event.name, _attributes(event.attributes)) for event in events])
        if events
        else (),
        is_error=status.code == ERROR_STATUS,
        status_message=status.message,
    )


def _log_record(message: LogMessage, origin: Origin) -> LogRecord:
    nanos = message.time_unix_nano or message.observed_time_unix_nano
    return LogRecord(
        origin=origin,
        name=message.event_name,
        occurred_at=instant_of(nanos),
        body=_value(message.body),
        attributes=_attributes(message.attributes),
        trace_ref=message.trace_id.hex(),
        span_ref=message.span_id.hex(),
    )


def _data_points(metric: Metric, origin: Origin) -> Iterable[MetricPoint]:
    kind = metric.WhichOneof("data")
    if kind not in SUMMED_KINDS:
        return
    points = getattr(metric, kind)
    is_cumulative = points.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    for point in points.data_points:
        yield MetricPoint(
            origin=origin,
            metric=metric.name,
            unit=metric.unit,
            started_at=instant_of(point.start_time_unix_nano),
            ended_at=instant_of(point.time_unix_nano),
            amount=_amount(point),
            count=None if isinstance(point, NumberDataPoint) else point.count,
            is_cumulative=is_cumulative,
            attributes=_attributes(point.attributes),
        )


def _amount(point: NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint) -> Decimal:
    if not isinstance(point, NumberDataPoint):
        return Decimal(repr(point.sum))
    return Decimal(repr(point.as_double)) if point.HasField("as_double") else Decimal(point.as_int)


def _attributes(pairs: Iterable[KeyValue], depth: int = 0) -> Attributes:
    if depth > MAX_DEPTH:
        return {pair.key: None for pair in pairs}
    # Most values are text or a count, and reading those is cheaper than asking for the kind.
    return {
        pair.key: (value := pair.value).string_value or value.int_value or _value(value, depth)
        for pair in pairs
    }


def _value(value: AnyValue, depth: int = 0) -> AttributeValue:
    if depth > MAX_DEPTH:
        return None
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind == "int_value":
        return value.int_value
    if kind == "double_value":
        return Decimal(repr(value.double_value))
    if kind == "array_value":
        return tuple(_value(each, depth + 1) for each in value.array_value.values)
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values, depth + 1)
    if kind == "bool_value":
        return value.bool_value
    return value.bytes_value if kind == "bytes_value" else None
