"""Metrics become totals to compare with, by source, model and kind of token; nothing else does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA

from tests.formats.otlp.captured_runs import list_exports
from tests.formats.otlp.span_builders import START
from tests.formats.otlp.test_decoding import as_json
from tokenbudget.formats.otlp import (
    Encoding,
    MetricTotal,
    Reading,
    decode_metric_points,
    read_metric_points,
)
from tokenbudget.formats.otlp.shapes import MetricPoint, Origin

READING = Reading()


def make_point(metric: str, attributes: dict[str, Any], **changes: Any) -> MetricPoint:
    point = MetricPoint(
        origin=Origin({"service.name": "agent"}),
        metric=metric,
        unit="tokens",
        started_at=START,
        ended_at=START + timedelta(minutes=1),
        amount=Decimal(12),
        count=None,
        is_cumulative=False,
        attributes=attributes,
    )
    return replace(point, **changes)


def totals_in(run: str) -> list[MetricTotal]:
    return [
        total
        for export in list_exports(run, "metrics")
        for total in read_metric_points(decode_metric_points(export.body, export.encoding), READING)
    ]


def test_openlits_histograms_are_cumulative_sums_by_model_and_kind() -> None:
    tokens = [total for total in totals_in("openlit_1.45.0") if total.kind != "cost"]

    sums = {(total.model, total.kind): (int(total.amount), total.count) for total in tokens}
    assert sums["gpt-5-mini-2025-08-07", "input_tokens"] == (3_654, 2)
    assert sums["gpt-5-mini-2025-08-07", "output_tokens"] == (630, 2)
    assert all(total.is_cumulative and total.source == "otlp:support-bot" for total in tokens)
    assert tokens[0].tags["team"] == "support"


def test_logfires_exponential_histograms_repeat_one_series() -> None:
    tokens = [total for total in totals_in("logfire_5.2_pydantic-ai_2.68") if total.kind != "cost"]
    inputs = [total for total in tokens if total.kind == "input_tokens"]

    assert [int(total.amount) for total in inputs] == [1_827, 1_827, 1_827]
    assert len({total.series_ref for total in inputs}) == 1
    assert len({total.series_ref for total in tokens}) == 2
    assert [total.provider for total in inputs] == ["openai"] * 3


def test_costs_are_in_dollars() -> None:
    costs = [total for total in totals_in("logfire_5.2_pydantic-ai_2.68") if total.kind == "cost"]

    assert {total.metric for total in costs} == {"operation.cost"}
    assert sum(total.amount for total in costs if total.ended_at == costs[-1].ended_at) > 0


@pytest.mark.parametrize(
    ("metric", "attributes", "provider", "kind"),
    [
        ("claude_code.token.usage", {"type": "input"}, "anthropic", "input_tokens"),
        ("claude_code.token.usage", {"type": "cacheRead"}, "anthropic", "cached_input_tokens"),
        ("claude_code.token.usage", {"type": "cacheCreation"}, "anthropic", "cache_write_tokens"),
        ("claude_code.cost.usage", {}, "anthropic", "cost"),
        ("gemini_cli.token.usage", {"type": "thought"}, "google", "reasoning_tokens"),
        ("gemini_cli.token.usage", {"type": "tool"}, "google", "tool"),
        ("codex.turn.token_usage", {"token_type": "cached_input"}, "openai", "cached_input_tokens"),
        ("gen_ai.client.token.usage", {"gen_ai.token.type": "output"}, "unknown", "output_tokens"),
        ("gen_ai.client.token.usage", {"gen_ai.system": "gcp.gen_ai"}, "google", ""),
    ],
)
def test_each_emitters_labels_are_understood(
    metric: str, attributes: dict[str, Any], provider: str, kind: str
) -> None:
    (total,) = read_metric_points([make_point(metric, {"model": "house", **attributes})], READING)

    assert (total.model, total.provider, total.kind) == ("house", provider, kind)


def test_a_models_name_tells_the_provider_of_an_agent() -> None:
    point = make_point("claude_code.token.usage", {"model": "us.anthropic.claude-opus-4-8-v1:0"})

    assert read_metric_points([point], READING)[0].provider == "bedrock"


@pytest.mark.parametrize(
    "point",
    [
        make_point("http.client.duration", {}),
        make_point("claude_code.session.count", {}),
        make_point("claude_code.token.usage", {}, ended_at=None),
        make_point("claude_code.token.usage", {}, amount=Decimal("NaN")),
    ],
)
def test_other_metrics_and_empty_points_are_left_out(point: MetricPoint) -> None:
    assert read_metric_points([point], READING) == []


def test_sums_are_read_whole_and_broken_and_gauges_not_at_all() -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    counter = metrics.add(name="claude_code.token.usage").sum
    counter.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
    counter.data_points.add(time_unix_nano=10**18, as_int=7)
    counter.data_points.add(time_unix_nano=10**18, as_double=0.5)
    metrics.add(name="claude_code.token.usage").gauge.data_points.add(as_int=9)

    points = decode_metric_points(request.SerializeToString(), Encoding.PROTOBUF)

    assert [(point.amount, point.count, point.is_cumulative) for point in points] == [
        (Decimal(7), None, False),
        (Decimal("0.5"), None, False),
    ]
    assert decode_metric_points(as_json(request), Encoding.JSON) == points
