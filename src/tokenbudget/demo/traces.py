"""The replay: recorded requests as events for ``POST /v1/events``.

It owns their order, ids and tags and refuses to rate or store them. The replay is the same on every
call but for its shift in time: ids do not depend on ``now``, so that a second replay into the same
ledger is duplicate or conflict, never more spend.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, TypeAlias

import polars as pl

from tokenbudget.demo.bill import TRACKED_PROJECT
from tokenbudget.demo.features import (
    CHAT_ASSISTANT,
    CLIENT_MODELS,
    CODE_COMPLETION,
    DOCUMENT_CHAT,
    PAIR_PROGRAMMING,
    Feature,
)
from tokenbudget.demo.recordings import (
    HOUR_MICROS,
    SLICE_MICROS,
    aider_requests,
    azure_requests,
    client_requests,
    mooncake_requests,
)

Event: TypeAlias = dict[str, object]

PROVENANCE: Final = (
    "Token counts, arrival shape and clients are recorded traffic (Azure, Mooncake, aider, "
    "ServeGen; see demo/samples/README.md). The team and feature tags, failures and retries, "
    "and the models where a trace names none, are made up."
)

BATCH_EVENTS: Final = 500
AGE_OF_LAST_EVENT: Final = timedelta(hours=1)

# Of the two Azure services every 50th call is a second attempt, when the call before it was near
# enough to be the first.
RETRY_EVERY: Final = 50
CLIENT_FAILURE_EVERY: Final = 211
PROMPT_CHANGE_AGE_MICROS: Final = 14 * 24 * HOUR_MICROS

TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%S%.6fZ"

ENVELOPE_FIELDS: Final = (
    "source",
    "event_id",
    "occurred_at",
    "provider",
    "model",
    "account",
    "operation",
    "status",
    "attempt",
    "operation_id",
    "reported_cost",
)
USAGE_FIELDS: Final = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
TAGS: Final = (
    "team",
    "feature",
    "tenant",
    "request_type",
    "environment",
    "user",
    "prompt_version",
    "edit_format",
)


def events(now: datetime, *, batch_events: int = BATCH_EVENTS) -> Iterator[list[Event]]:
    """Give the whole replay in order of time, in lists of at most ``batch_events`` event bodies.

    The last event occurred exactly one hour before ``now``, which must be aware. What an event does
    not know is absent from its body.
    """
    if now.tzinfo is None:
        raise ValueError("now must be an aware datetime")
    last = pl.lit(now - AGE_OF_LAST_EVENT).dt.convert_time_zone("UTC")
    age = pl.duration(microseconds="age_micros")
    dated = _replay().with_columns(occurred_at=(last - age).dt.to_string(TIME_FORMAT))
    for batch in dated.iter_slices(batch_events):
        yield [_event(row) for row in batch.iter_rows(named=True)]


def event_count() -> int:
    """Give how many events the replay holds; it does not depend on when it is replayed."""
    return _replay().height


@cache
def _replay() -> pl.DataFrame:
    """Give every event as one row, oldest first; ``age_micros`` counts back from the last event."""
    traces = (
        _azure_events("azure-code", "azure_llm_2023_code", CODE_COMPLETION),
        _azure_events("azure-chat", "azure_llm_2023_conv", CHAT_ASSISTANT),
        _mooncake_events(),
        _aider_events(),
        _client_events(),
    )
    age = pl.col("offset_micros").max() - pl.col("offset_micros")
    prompt_version = pl.when(pl.col("age_micros") < PROMPT_CHANGE_AGE_MICROS).then(pl.lit("v2"))
    aged = (trace.with_columns(age_micros=age) for trace in traces)
    return (
        pl.concat(aged, how="diagonal")
        .with_columns(
            prompt_version=prompt_version.otherwise(pl.lit("v1")),
            account=pl.when(provider="openai").then(pl.lit(TRACKED_PROJECT)),
        )
        .sort("age_micros", "source", "event_id", descending=[True, False, False])
    )


def _azure_events(source: str, sample: str, feature: Feature) -> pl.DataFrame:
    number = pl.col("number")
    is_near = pl.col("offset_micros").diff() < SLICE_MICROS
    is_retry = ((number % RETRY_EVERY == RETRY_EVERY - 1) & is_near).fill_null(value=False)
    is_retried = is_retry.shift(-1, fill_value=False)
    return (
        azure_requests(sample)
        .with_columns(*_identity(source), *_feature_columns(feature))
        .with_columns(
            attempt=pl.when(is_retry).then(2).otherwise(1),
            status=pl.when(is_retried).then(pl.lit("error")).otherwise(pl.lit("ok")),
            operation_id=pl.when(is_retry).then(pl.col("event_id").shift(1)).otherwise("event_id"),
            request_type=pl.when(is_retry).then(pl.lit("retry")).otherwise("request_type"),
        )
    )


def _mooncake_events() -> pl.DataFrame:
    operation_id = pl.format("mooncake-conversation-{}", "conversation")
    return mooncake_requests().with_columns(
        *_identity("mooncake"), *_feature_columns(DOCUMENT_CHAT), operation_id=operation_id
    )


def _aider_events() -> pl.DataFrame:
    return aider_requests().with_columns(*_identity("aider"), *_feature_columns(PAIR_PROGRAMMING))


def _client_events() -> pl.DataFrame:
    is_failed = pl.col("number") % CLIENT_FAILURE_EVERY == CLIENT_FAILURE_EVERY - 1
    clients = client_requests(CLIENT_MODELS).partition_by("trace_model", "client_id", as_dict=True)
    tagged = [
        requests.with_columns(
            *_identity(f"servegen-{model}"),
            *_feature_columns(CLIENT_MODELS[model].feature_of(client_id)),
            tenant=pl.lit(f"{model}-{client_id:03d}"),
        )
        for (model, client_id), requests in clients.items()
    ]
    status = pl.when(is_failed).then(pl.lit("error")).otherwise("status")
    return pl.concat(tagged, how="diagonal").with_columns(status=status)


def _identity(source: str) -> tuple[pl.Expr, ...]:
    number = pl.col("number").cast(pl.String).str.zfill(6)
    return (
        pl.lit(source).alias("source"),
        pl.format("{}-{}", pl.lit(source), number).alias("event_id"),
        pl.lit("ok").alias("status"),
        pl.lit(1).alias("attempt"),
    )


def _feature_columns(feature: Feature) -> list[pl.Expr]:
    """Give the columns a feature adds; what it does not know stays as the trace has it."""
    values = {
        "feature": feature.name,
        "team": feature.team,
        "provider": feature.provider,
        "model": feature.model,
        "operation": feature.operation,
        "environment": feature.environment,
        "request_type": feature.request_type,
    }
    return [pl.lit(value).alias(name) for name, value in values.items() if value is not None]


def _event(row: dict[str, Any]) -> Event:
    event = {name: row[name] for name in ENVELOPE_FIELDS if row[name] is not None}
    event["usage"] = {name: row[name] for name in USAGE_FIELDS if row[name] is not None}
    event["tags"] = {name: row[name] for name in TAGS if row[name] is not None}
    return event
