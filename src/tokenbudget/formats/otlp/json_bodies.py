"""OTLP in its JSON encoding, as neutral values (opentelemetry-proto, docs/specification.md).

Keys are lowerCamelCase, ids are hex, enumerations are numbers, 64-bit integers are numbers or text,
and what is not known is ignored. A body that breaks this raises MalformedBody.

It refuses to know HTTP and to interpret anything.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Final, TypeVar

import msgspec

from tokenbudget.domain.errors import MalformedBody
from tokenbudget.formats.otlp.bounds import require_bounded_json
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
from tokenbudget.formats.wire import UNREADABLE, plain_fault

ERROR_STATUS: Final = 2
CUMULATIVE: Final = 2

Hex = Annotated[str, msgspec.Meta(max_length=64, pattern="^([0-9a-fA-F]{2})*$")]
Integer = int | Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,20}$")]
RequestT = TypeVar("RequestT")


class _Message(msgspec.Struct, rename="camel"):
    """Keys in camel case; unknown ones are ignored and null says the same as leaving out."""


class _Value(_Message):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Integer | None = None
    double_value: Decimal | None = None
    array_value: _Values | None = None
    kvlist_value: _Pairs | None = None
    bytes_value: str | None = None


class _Values(_Message):
    values: list[_Value] | None = None


class _Pair(_Message):
    key: str = ""
    value: _Value | None = None


class _Pairs(_Message):
    values: list[_Pair] | None = None


class _Resource(_Message):
    attributes: list[_Pair] | None = None


class _Scope(_Message):
    name: str | None = None
    version: str | None = None
    attributes: list[_Pair] | None = None


class _Event(_Message):
    name: str | None = None
    attributes: list[_Pair] | None = None


class _Status(_Message):
    code: int | None = None
    message: str | None = None


class _Span(_Message):
    trace_id: Hex | None = None
    span_id: Hex | None = None
    parent_span_id: Hex | None = None
    name: str | None = None
    start_time_unix_nano: Integer | None = None
    end_time_unix_nano: Integer | None = None
    attributes: list[_Pair] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None


class _ScopeSpans(_Message):
    scope: _Scope | None = None
    spans: list[_Span] | None = None


class _ResourceSpans(_Message):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _TraceRequest(_Message):
    resource_spans: list[_ResourceSpans] | None = None


class _LogRecord(_Message):
    time_unix_nano: Integer | None = None
    observed_time_unix_nano: Integer | None = None
    body: _Value | None = None
    attributes: list[_Pair] | None = None
    event_name: str | None = None
    trace_id: Hex | None = None
    span_id: Hex | None = None


class _ScopeLogs(_Message):
    scope: _Scope | None = None
    log_records: list[_LogRecord] | None = None


class _ResourceLogs(_Message):
    resource: _Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None


class _LogsRequest(_Message):
    resource_logs: list[_ResourceLogs] | None = None


class _Point(_Message):
    attributes: list[_Pair] | None = None
    start_time_unix_nano: Integer | None = None
    time_unix_nano: Integer | None = None
    as_int: Integer | None = None
    as_double: Decimal | None = None
    count: Integer | None = None
    sum: Decimal | None = None


class _Points(_Message):
    data_points: list[_Point] | None = None
    aggregation_temporality: int | None = None


class _Metric(_Message):
    name: str | None = None
    unit: str | None = None
    sum: _Points | None = None
    histogram: _Points | None = None
    exponential_histogram: _Points | None = None


class _ScopeMetrics(_Message):
    scope: _Scope | None = None
    metrics: list[_Metric] | None = None


class _ResourceMetrics(_Message):
    resource: _Resource | None = None
    scope_metrics: list[_ScopeMetrics] | None = None


class _MetricsRequest(_Message):
    resource_metrics: list[_ResourceMetrics] | None = None


_trace_decoder = msgspec.json.Decoder(_TraceRequest)
_logs_decoder = msgspec.json.Decoder(_LogsRequest)
_metrics_decoder = msgspec.json.Decoder(_MetricsRequest)


def decode_spans(body: bytes) -> list[Span]:
    """Give the spans of an ExportTraceServiceRequest; raises MalformedBody and TooLarge."""
    request = _parse(_trace_decoder, body)
    spans: list[Span] = []
    for resource_spans in request.resource_spans or ():
        for scope_spans in resource_spans.scope_spans or ():
            origin = _origin(resource_spans.resource, scope_spans.scope)
            spans.extend(_span(message, origin) for message in scope_spans.spans or ())
    return spans


def decode_log_records(body: bytes) -> list[LogRecord]:
    """Give the records of an ExportLogsServiceRequest; raises MalformedBody and TooLarge."""
    request = _parse(_logs_decoder, body)
    records: list[LogRecord] = []
    for resource_logs in request.resource_logs or ():
        for scope_logs in resource_logs.scope_logs or ():
            origin = _origin(resource_logs.resource, scope_logs.scope)
            records.extend(_log_record(message, origin) for message in scope_logs.log_records or ())
    return records


def decode_metric_points(body: bytes) -> list[MetricPoint]:
    """Give the points of every metric that adds up in an ExportMetricsServiceRequest.

    Gauges and summaries are left out. Raises MalformedBody and TooLarge.
    """
    request = _parse(_metrics_decoder, body)
    points: list[MetricPoint] = []
    for resource_metrics in request.resource_metrics or ():
        for scope_metrics in resource_metrics.scope_metrics or ():
            origin = _origin(resource_metrics.resource, scope_metrics.scope)
            for metric in scope_metrics.metrics or ():
                points.extend(_data_points(metric, origin))
    return points


def _parse(decoder: msgspec.json.Decoder[RequestT], body: bytes) -> RequestT:
    require_bounded_json(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise MalformedBody(f"the body is no OTLP: {plain_fault(error, 'body')}") from None
    except UNREADABLE as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None


def _origin(resource: _Resource | None, scope: _Scope | None) -> Origin:
    resource_attributes = _attributes(resource.attributes) if resource else {}
    if scope is None:
        return Origin(resource_attributes)
    return Origin(
        resource_attributes, scope.name or "", scope.version or "", _attributes(scope.attributes)
    )


def _span(message: _Span, origin: Origin) -> Span:
    status = message.status or _Status()
    return Span(
        origin=origin,
        trace_ref=(message.trace_id or "").lower(),
        span_ref=(message.span_id or "").lower(),
        parent_ref=(message.parent_span_id or "").lower() or None,
        name=message.name or "",
        started_at=instant_of(_integer(message.start_time_unix_nano)),
        ended_at=instant_of(_integer(message.end_time_unix_nano)),
        attributes=_attributes(message.attributes),
        events=tuple(
            SpanEvent(event.name or "", _attributes(event.attributes))
            for event in message.events or ()
        ),
        is_error=status.code == ERROR_STATUS,
        status_message=status.message or "",
    )


def _log_record(message: _LogRecord, origin: Origin) -> LogRecord:
    nanos = _integer(message.time_unix_nano) or _integer(message.observed_time_unix_nano)
    return LogRecord(
        origin=origin,
        name=message.event_name or "",
        occurred_at=instant_of(nanos),
        body=_value(message.body),
        attributes=_attributes(message.attributes),
        trace_ref=(message.trace_id or "").lower(),
        span_ref=(message.span_id or "").lower(),
    )


def _data_points(metric: _Metric, origin: Origin) -> Iterable[MetricPoint]:
    points = metric.sum or metric.histogram or metric.exponential_histogram
    if points is None:
        return
    for point in points.data_points or ():
        given = point.sum if metric.sum is None else point.as_double
        yield MetricPoint(
            origin=origin,
            metric=metric.name or "",
            unit=metric.unit or "",
            started_at=instant_of(_integer(point.start_time_unix_nano)),
            ended_at=instant_of(_integer(point.time_unix_nano)),
            amount=Decimal(_integer(point.as_int)) if given is None else given,
            count=_integer(point.count) if metric.sum is None else None,
            is_cumulative=points.aggregation_temporality == CUMULATIVE,
            attributes=_attributes(point.attributes),
        )


def _attributes(pairs: Iterable[_Pair] | None, depth: int = 0) -> Attributes:
    return {pair.key: _value(pair.value, depth) for pair in pairs or ()}


def _value(value: _Value | None, depth: int = 0) -> AttributeValue:
    if value is None or depth > MAX_DEPTH:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return _integer(value.int_value)
    if value.double_value is not None:
        return value.double_value
    if value.bool_value is not None:
        return value.bool_value
    if value.array_value is not None:
        return tuple(_value(each, depth + 1) for each in value.array_value.values or ())
    if value.kvlist_value is not None:
        return _attributes(value.kvlist_value.values, depth + 1)
    return None if value.bytes_value is None else _bytes(value.bytes_value)


def _integer(number: int | str | None) -> int:
    return int(number or 0)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedBody("the body is no OTLP: bytesValue is not base64") from None
