"""Both encodings say the same, whatever is in them, and what is no OTLP is refused as such."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.formats.otlp.captured_runs import RUNS, Export, list_exports
from tokenbudget.domain.errors import MalformedBody
from tokenbudget.formats.otlp import (
    Encoding,
    Reading,
    decode_log_records,
    decode_metric_points,
    decode_spans,
    read_log_records,
    read_metric_points,
    read_spans,
)
from tokenbudget.formats.otlp.shapes import MAX_DEPTH, instant_of

ID_KEYS = frozenset({"traceId", "spanId", "parentSpanId"})
TRACES = [export for run in RUNS for export in list_exports(run)]
BINARY_TRACES = [export for export in TRACES if export.encoding is Encoding.PROTOBUF]
LOGS = [export for run in RUNS for export in list_exports(run, "logs")]
METRICS = [export for run in RUNS for export in list_exports(run, "metrics")]
READING = Reading()


def as_json(message: Message) -> bytes:
    """Give a message in OTLP/JSON: ids in hex, enumerations as numbers."""
    return json.dumps(
        _hex_ids(MessageToDict(message, use_integers_for_enums=True)), ensure_ascii=False
    ).encode()


def _hex_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_hex_ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64decode(inner).hex().upper() if key in ID_KEYS else _hex_ids(inner)
        for key, inner in value.items()
    }


def span_with(value: str) -> bytes:
    """Give a JSON request of one span with one attribute."""
    span = '{"attributes":[{"key":"a","value":' + value + "}]}"
    return ('{"resourceSpans":[{"scopeSpans":[{"spans":[' + span + "]}]}]}").encode()


def attribute_of(body: bytes) -> object:
    (span,) = decode_spans(body, Encoding.JSON)
    return span.attributes["a"]


@pytest.mark.parametrize("export", BINARY_TRACES, ids=lambda export: export.name)
def test_spans_in_json_are_those_in_protobuf(export: Export) -> None:
    twin = as_json(ExportTraceServiceRequest.FromString(export.body))

    spans, twins = export.spans(), decode_spans(twin, Encoding.JSON)

    assert twins == spans
    assert read_spans(twins, READING) == read_spans(spans, READING)


@pytest.mark.parametrize("export", LOGS, ids=lambda export: export.name)
def test_log_records_in_json_are_those_in_protobuf(export: Export) -> None:
    twin = as_json(ExportLogsServiceRequest.FromString(export.body))

    assert decode_log_records(twin, Encoding.JSON) == decode_log_records(
        export.body, Encoding.PROTOBUF
    )


@pytest.mark.parametrize("export", METRICS, ids=lambda export: export.name)
def test_data_points_in_json_are_those_in_protobuf(export: Export) -> None:
    twin = as_json(ExportMetricsServiceRequest.FromString(export.body))

    points = decode_metric_points(export.body, Encoding.PROTOBUF)

    assert points
    assert decode_metric_points(twin, Encoding.JSON) == points


def test_a_request_of_each_kind_of_value_is_the_same_in_both_encodings() -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="n", trace_id=b"\1" * 16)
    values = {
        "text": AnyValue(string_value="x"),
        "empty": AnyValue(string_value=""),
        "number": AnyValue(int_value=-7),
        "fraction": AnyValue(double_value=0.25),
        "flag": AnyValue(bool_value=False),
        "bytes": AnyValue(bytes_value=b"\xff\0"),
        "nothing": AnyValue(),
    }
    for name, value in values.items():
        span.attributes.add(key=name, value=value)
    inner = span.attributes.add(key="list").value.array_value
    inner.values.add(string_value="y")
    inner.values.add().kvlist_value.values.add(key="k", value=AnyValue(int_value=2**62))

    decoded = decode_spans(request.SerializeToString(), Encoding.PROTOBUF)

    assert decode_spans(as_json(request), Encoding.JSON) == decoded
    assert dict(decoded[0].attributes) == {
        "text": "x",
        "empty": "",
        "number": -7,
        "fraction": Decimal("0.25"),
        "flag": False,
        "bytes": b"\xff\0",
        "nothing": None,
        "list": ("y", {"k": 2**62}),
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"intValue":"1824"}', 1824),
        ('{"intValue":1824}', 1824),
        ('{"intValue":-1}', -1),
        ('{"doubleValue":1.5}', Decimal("1.5")),
        ('{"doubleValue":"Infinity"}', Decimal("Infinity")),
        ('{"stringValue":null,"boolValue":true}', True),
        ('{"bytesValue":"/wA="}', b"\xff\0"),
        ('{"unknownValue":{"deep":[1]}}', None),
        ("null", None),
    ],
)
def test_values_in_json_are_read_as_the_specification_allows(value: str, expected: object) -> None:
    assert attribute_of(span_with(value)) == expected


def test_values_deeper_than_the_limit_are_left_out() -> None:
    depth = MAX_DEPTH + 5
    nested = '{"arrayValue":{"values":[' * depth + '{"intValue":1}' + "]}}" * depth

    value = attribute_of(span_with(nested))

    levels = 0
    while isinstance(value, tuple):
        levels, value = levels + 1, value[0]
    assert levels == MAX_DEPTH + 1
    assert value is None


def test_binary_values_deeper_than_the_limit_are_left_out() -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    value = span.attributes.add(key="a").value
    for _ in range(MAX_DEPTH + 5):
        value = value.array_value.values.add()

    (decoded,) = decode_spans(request.SerializeToString(), Encoding.PROTOBUF)

    assert str(decoded.attributes["a"]).count("(") == MAX_DEPTH + 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"resourceSpans":[1]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"abc"}]}]}]}',
        span_with('{"intValue":"12.5"}'),
        span_with('{"intValue":"' + "9" * 5_000 + '"}'),
        span_with('{"intValue":' + "9" * 5_000 + "}"),
        span_with('{"doubleValue":"many"}'),
        span_with('{"bytesValue":"!"}'),
        span_with('{"stringValue":"\\ud800"}'),
        span_with('{"arrayValue":{"values":[' * 100_000),
        span_with('{"arrayValue":{"values":[' * 20_000 + "]}}" * 20_000),
        b"[" * 1_000_000,
    ],
    ids=range(17),
)
def test_a_json_body_that_is_no_otlp_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_spans(body, Encoding.JSON)


def test_an_empty_binary_request_holds_nothing() -> None:
    assert decode_spans(b"", Encoding.PROTOBUF) == []
    assert decode_log_records(b"", Encoding.PROTOBUF) == []
    assert decode_metric_points(b"", Encoding.PROTOBUF) == []


@pytest.mark.parametrize(
    "body", ["{}", '{"resourceSpans":null}', '{"resourceSpans":[{"scopeSpans":[{}]}]}']
)
def test_an_empty_json_request_holds_nothing(body: str) -> None:
    assert decode_spans(body.encode(), Encoding.JSON) == []
    assert decode_log_records(b"{}", Encoding.JSON) == []
    assert decode_metric_points(b"{}", Encoding.JSON) == []


def test_a_deep_binary_bomb_is_malformed() -> None:
    value = b""
    for _ in range(5_000):
        value = (
            b"\x2a"
            + _length(len(value) + 1 + len(_length(len(value))))
            + (b"\x0a" + _length(len(value)) + value)
        )
    bomb = _nested(1, 2, 2, 9, 2, payload=value)

    with pytest.raises(MalformedBody):
        decode_spans(bomb, Encoding.PROTOBUF)


def _nested(*numbers: int, payload: bytes) -> bytes:
    for number in reversed(numbers):
        payload = bytes((number << 3 | 2,)) + _length(len(payload)) + payload
    return payload


def _length(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))


@pytest.mark.parametrize(
    ("nanos", "expected"),
    [
        (0, None),
        (-1, None),
        (999, None),
        (1_795_230_281_633_003_966, datetime(2026, 11, 21, 3, 4, 41, 633003, tzinfo=UTC)),
        (2**64 - 1, None),
    ],
)
def test_times_are_cut_to_microseconds_and_impossible_ones_are_none(
    nanos: int, expected: datetime | None
) -> None:
    assert instant_of(nanos) == expected


def read_anything(body: bytes, encoding: Encoding) -> None:
    """Read a body as each signal: it is refused as malformed or read, and nothing else happens."""
    for read in (
        lambda: read_spans(decode_spans(body, encoding), READING),
        lambda: read_log_records(decode_log_records(body, encoding), READING),
        lambda: read_metric_points(decode_metric_points(body, encoding), READING),
    ):
        with suppress(MalformedBody):
            read()


@given(body=st.binary(max_size=400), encoding=st.sampled_from(Encoding))
def test_random_bytes_are_read_or_malformed(body: bytes, encoding: Encoding) -> None:
    read_anything(body, encoding)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    export=st.sampled_from([*TRACES, *LOGS, *METRICS]),
    place=st.floats(0, 1, exclude_max=True),
    length=st.integers(0, 40),
    replacement=st.binary(max_size=40),
)
def test_a_damaged_request_is_read_or_malformed(
    export: Export, place: float, length: int, replacement: bytes
) -> None:
    start = int(place * len(export.body))
    damaged = export.body[:start] + replacement + export.body[start + length :]

    read_anything(damaged, export.encoding)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    export=st.sampled_from(TRACES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7)
)
def test_a_request_with_one_bit_turned_is_read_or_malformed(
    export: Export, place: float, bit: int
) -> None:
    body = bytearray(export.body)
    body[int(place * len(body))] ^= 1 << bit

    read_anything(bytes(body), export.encoding)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(export=st.sampled_from(TRACES), place=st.floats(0, 1, exclude_max=True))
def test_a_truncated_request_is_read_or_malformed(export: Export, place: float) -> None:
    read_anything(export.body[: int(place * len(export.body))], export.encoding)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["usage", "input", "output", "id", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
"""JSON that an emitter might put into an attribute that should hold an object."""


@settings(deadline=None)
@given(
    values=st.dictionaries(
        st.sampled_from(
            [
                "gen_ai.usage.input_tokens",
                "gen_ai.usage.output_tokens",
                "gen_ai.usage.cache_read.input_tokens",
                "gen_ai.usage.total_tokens",
                "gen_ai.usage.raw",
                "gen_ai.usage.cost",
                "langfuse.observation.usage_details",
                "langfuse.observation.cost_details",
                "ai.response.providerMetadata",
                "openinference.span.kind",
                "output.value",
                "metadata",
                "tag.tags",
                "server.address",
                "gen_ai.response.time_to_first_chunk",
                "error.type",
            ]
        ),
        JSON_VALUES.map(json.dumps) | st.text(max_size=30),
    )
)
def test_any_text_in_any_attribute_gives_an_event(values: dict[str, str]) -> None:
    attributes = [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}] + [
        {"key": name, "value": {"stringValue": text}} for name, text in values.items()
    ]
    span = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "endTimeUnixNano": 10**18}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [{**span, "attributes": attributes}]}]}]}

    read = read_spans(
        decode_spans(json.dumps(body, ensure_ascii=True).encode(), Encoding.JSON), READING
    )

    (event,) = read.events
    texts = [event.provider, event.model, event.response_ref or "", *event.tags.values()]
    assert all(len(text) <= 256 and "\0" not in text for text in texts)
    assert all(count >= 0 for count in (event.quantities or {}).values())
