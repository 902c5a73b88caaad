"""Metrics of token usage and cost as totals to check the ledger by; they are never usage.

A metric tells sums over a window and by model, not calls, and it repeats what spans and log events
of the same process tell. So it is compared and never added. It owns which metrics are meant and
what their labels mean; gauges, summaries and all other metrics are left out.

A cumulative total contains all earlier ones of its series since it began; of a delta each window
stands for itself. Sources: open-telemetry/semantic-conventions-genai (gen-ai-metrics.md);
https://code.claude.com/docs/en/monitoring-usage; google-gemini/gemini-cli, docs/cli/telemetry.md;
openai/codex, codex-rs/otel/src/metrics/names.rs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from tokenbudget.formats.otlp import names
from tokenbudget.formats.otlp.providers import (
    UNKNOWN_PROVIDER,
    fold_provider,
    provider_of_model,
)
from tokenbudget.formats.otlp.shapes import MetricPoint
from tokenbudget.formats.otlp.traces import UNKNOWN_MODEL, Reading, source_of
from tokenbudget.formats.otlp.values import decimal_of, find_text

COST: Final = "cost"
SERIES_BYTES: Final = 16
TOKEN_METRICS: Final = frozenset(
    {
        "gen_ai.client.token.usage",
        "claude_code.token.usage",
        "gemini_cli.token.usage",
        "codex.turn.token_usage",
    }
)
COST_METRICS: Final = frozenset({"claude_code.cost.usage", "gen_ai.usage.cost", "operation.cost"})
AGENT_PROVIDERS: Final = {"claude_code.": "anthropic", "gemini_cli.": "google", "codex.": "openai"}
MODEL_LABELS: Final = (
    *names.FIELDS[names.RESPONSE_MODEL],
    *names.FIELDS[names.REQUEST_MODEL],
    "model",
)
TYPE_LABELS: Final = ("gen_ai.token.type", "type", "token_type")
UNITS_BY_TYPE: Final[Mapping[str, str]] = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache": "cached_input_tokens",
    "cacheRead": "cached_input_tokens",
    "cached_input": "cached_input_tokens",
    "cacheCreation": "cache_write_tokens",
    "thought": "reasoning_tokens",
    "reasoning_output": "reasoning_tokens",
}


@dataclass(frozen=True, slots=True)
class MetricTotal:
    """One sum that a metric tells.

    ``kind`` is ``cost`` (``amount`` in US dollars), a unit of ours, or the emitter's own word for a
    kind of token we have no unit for; what its input holds is the emitter's to say. The window is
    half open; ``count`` is how many measurements a histogram has, None for a plain sum.
    ``series_ref`` is equal for the points of one series.
    """

    source: str
    metric: str
    provider: str
    model: str
    kind: str
    started_at: datetime | None
    ended_at: datetime
    amount: Decimal
    count: int | None
    is_cumulative: bool
    series_ref: str
    tags: Mapping[str, str]


def read_metric_points(points: Sequence[MetricPoint], reading: Reading) -> list[MetricTotal]:
    """Give the totals among these points, in their order; points without a time are left out."""
    totals = []
    for point in points:
        is_cost = point.metric in COST_METRICS
        amount = decimal_of(point.amount)
        if (not is_cost and point.metric not in TOKEN_METRICS) or amount is None:
            continue
        if point.ended_at is None:
            continue
        model = find_text(point.attributes, *MODEL_LABELS) or UNKNOWN_MODEL
        resource_tags = reading.tag_rules.tags_of(point.origin.resource)
        totals.append(
            MetricTotal(
                source=source_of(point.origin),
                metric=point.metric,
                provider=_provider_of(point, model),
                model=model,
                kind=COST if is_cost else _kind_of(point),
                started_at=point.started_at,
                ended_at=point.ended_at,
                amount=amount,
                count=point.count,
                is_cumulative=point.is_cumulative,
                series_ref=_series_of(point),
                tags={**resource_tags, **reading.tag_rules.tags_of(point.attributes)},
            )
        )
    return totals


def _provider_of(point: MetricPoint, model: str) -> str:
    word = find_text(point.attributes, *names.FIELDS[names.PROVIDER])
    if word is not None:
        return fold_provider(word)
    agent = next(
        (
            provider
            for prefix, provider in AGENT_PROVIDERS.items()
            if point.metric.startswith(prefix)
        ),
        UNKNOWN_PROVIDER,
    )
    return provider_of_model(model) or agent


def _kind_of(point: MetricPoint) -> str:
    told = find_text(point.attributes, *TYPE_LABELS) or ""
    return UNITS_BY_TYPE.get(told, told)


def _series_of(point: MetricPoint) -> str:
    facts = (
        point.metric,
        point.origin.scope,
        *(
            sorted((name, str(value)) for name, value in attributes.items())
            for attributes in (point.origin.resource, point.attributes)
        ),
    )
    return hashlib.blake2b(repr(facts).encode(), digest_size=SERIES_BYTES).hexdigest()
