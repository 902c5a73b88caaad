"""The recorded traces as frames of requests, spread over the replay.

It owns reading and placing them; it refuses to invent tags or models. Every ``…_requests`` function
gives one row a request, in recorded order, with ``number`` Int64 (0, 1, …, the key),
``offset_micros`` Int64 (microseconds since the start of the replay), ``input_tokens`` and
``output_tokens`` Int64, and what the trace has besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from importlib.resources import files
from typing import Final

import polars as pl

from tokenbudget.demo.features import ClientModel
from tokenbudget.domain.money import decimal_to_nanos, format_nanos

MICROS_PER_SECOND: Final = 1_000_000
MICROS_PER_MILLISECOND: Final = 1_000
HOUR_MICROS: Final = 3_600 * MICROS_PER_SECOND
REPLAY_HOURS: Final = 40 * 24

# A forty-minute trace has 240 slices of ten seconds; four hours apart they fill forty days and keep
# to the same hours of every day.
SLICE_MICROS: Final = 10 * MICROS_PER_SECOND
SLICE_EVERY_MICROS: Final = 4 * HOUR_MICROS

# Two years of one person's sessions fit into five weeks when idle time is cut to this.
LONGEST_IDLE_MICROS: Final = 2 * HOUR_MICROS

AZURE_TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S%.6f"
AZURE_TIME_CHARACTERS: Final = 26

# A large prime step through the milliseconds of an hour: neighbouring requests land far apart, and
# always in the same place.
HOUR_MILLISECONDS: Final = 3_600_000
MILLISECOND_STEP: Final = 2_654_435_761

# LiteLLM prefixes, as aider writes them, whose provider goes by another name on the wire.
PROVIDERS_BY_PREFIX: Final = {
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "ollama_chat": "ollama",
    "cohere_chat": "cohere",
}
PROVIDERS_BY_MODEL_START: Final = (
    ("claude-", "anthropic"),
    ("gemini-", "gcp.gemini"),
    ("gpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
)
UNKNOWN_PROVIDER: Final = "unknown"


def read_sample(
    name: str, schema_overrides: Mapping[str, type[pl.DataType]] | None = None
) -> pl.DataFrame:
    """Give the packaged trace file ``name`` with its own columns and row order."""
    content = files("tokenbudget.demo").joinpath("samples", f"{name}.csv.gz").read_bytes()
    return pl.read_csv(content, schema_overrides=schema_overrides, infer_schema_length=None)


def azure_requests(name: str) -> pl.DataFrame:
    """Give all requests of one of the two Azure traces, slice by slice over the replay."""
    instant = (
        pl.col("TIMESTAMP").str.slice(0, AZURE_TIME_CHARACTERS).str.to_datetime(AZURE_TIME_FORMAT)
    )
    elapsed = (instant - instant.min()).dt.total_microseconds()
    return read_sample(name).select(
        number=pl.int_range(pl.len()),
        offset_micros=_sliced(elapsed),
        input_tokens="ContextTokens",
        output_tokens="GeneratedTokens",
    )


def mooncake_requests() -> pl.DataFrame:
    """Give all Mooncake requests.

    Besides: ``cached_input_tokens`` Int64, at most the input, and ``conversation`` Int64.
    """
    return read_sample("mooncake_conversation").select(
        number=pl.int_range(pl.len()),
        offset_micros=_sliced(pl.col("timestamp_ms") * MICROS_PER_MILLISECOND),
        input_tokens="input_length",
        output_tokens="output_length",
        cached_input_tokens=pl.min_horizontal("derived_prefix_hit_tokens", "input_length"),
        conversation="derived_conversation_key",
    )


def aider_requests() -> pl.DataFrame:
    """Give all aider requests with their dirt.

    Besides, all String: ``provider``, ``model``, ``user`` and ``edit_format`` (null when the source
    had none) and ``reported_cost``, the tool's own figure in dollars as it goes on the wire,
    rounded half to even to nanos.
    """
    # Some costs carry more digits than a float, so the column is kept as text and read as decimals.
    rows = read_sample("aider_author_usage", {"cost_usd": pl.String})
    gaps = pl.col("time_utc").str.to_datetime(time_zone="UTC").diff().dt.total_microseconds()
    names = [split_model_name(name) for name in rows["main_model"]]
    return rows.select(
        number=pl.int_range(pl.len()),
        offset_micros=gaps.fill_null(0).clip(upper_bound=LONGEST_IDLE_MICROS).cum_sum(),
        input_tokens="prompt_tokens",
        output_tokens="completion_tokens",
        provider=pl.Series([provider for provider, _ in names]),
        model=pl.Series([model for _, model in names]),
        user="user",
        edit_format="edit_format",
        reported_cost=pl.Series([_wire_amount(text) for text in rows["cost_usd"]]),
    )


def split_model_name(name: str) -> tuple[str, str]:
    """Give (provider, model) of a name as aider writes it.

    ``openrouter/anthropic/claude-3.5-sonnet`` is split at the first slash; a bare name goes to the
    provider its start tells, else to ``unknown``.
    """
    prefix, slash, model = name.partition("/")
    if slash:
        return PROVIDERS_BY_PREFIX.get(prefix, prefix), model
    for start, provider in PROVIDERS_BY_MODEL_START:
        if name.startswith(start):
            return provider, name
    return UNKNOWN_PROVIDER, name


def client_requests(client_models: Mapping[str, ClientModel]) -> pl.DataFrame:
    """Give ServeGen's client-hours thinned to single requests, ``events`` of them for each model.

    Besides: ``trace_model`` String (with ``number`` the key), ``client_id`` Int64 and
    ``reasoning_tokens`` Int64 (null where the trace does not tell). The order is model, client,
    hour, and the sample is systematic over it: within a model every client keeps its share to
    within one request, and no draw is random. Consecutive requests are dealt to successive walks
    through the recorded hours, as many as the replay holds.
    """
    kept = _thinned(read_sample("servegen_client_hours"), client_models)
    walk = pl.col("number") % (REPLAY_HOURS // pl.col("recorded_hours"))
    hour = walk * pl.col("recorded_hours") + pl.col("hour")
    into_hour = pl.col("number") * MILLISECOND_STEP % HOUR_MILLISECONDS * MICROS_PER_MILLISECOND
    output_tokens = pl.col("derived_mean_output_tokens").round()
    reasoning_tokens = (output_tokens * pl.col("derived_mean_reason_ratio")).round()
    return kept.select(
        "number",
        offset_micros=hour * HOUR_MICROS + into_hour,
        input_tokens=pl.col("derived_mean_input_tokens").round().cast(pl.Int64),
        output_tokens=output_tokens.cast(pl.Int64),
        reasoning_tokens=reasoning_tokens.cast(pl.Int64),
        trace_model="model",
        client_id="client_id",
    )


def _thinned(client_hours: pl.DataFrame, client_models: Mapping[str, ClientModel]) -> pl.DataFrame:
    plan = pl.DataFrame(
        {
            "model": list(client_models),
            "events": [model.events for model in client_models.values()],
            "recorded_hours": [model.recorded_hours for model in client_models.values()],
        }
    )
    # All requests of a model stand in one row, and one is kept wherever another even step of
    # total / events is completed; so a stretch of the row keeps its share, rounded up or down.
    total = pl.col("derived_requests").sum().over("model")
    running = pl.col("derived_requests").cum_sum().over("model")
    due = (running * pl.col("events") + total // 2) // total
    due_before = ((running - pl.col("derived_requests")) * pl.col("events") + total // 2) // total
    return (
        client_hours.join(plan, on="model")
        .sort("model", "client_id", "hour")
        .with_columns(copy=pl.int_ranges(due - due_before))
        .filter(pl.col("copy").list.len() > 0)
        .explode("copy")
        .with_columns(number=pl.int_range(pl.len()).over("model"))
    )


def _sliced(elapsed_micros: pl.Expr) -> pl.Expr:
    return elapsed_micros // SLICE_MICROS * SLICE_EVERY_MICROS + elapsed_micros % SLICE_MICROS


def _wire_amount(text: str) -> str:
    return format_nanos(decimal_to_nanos(Decimal(text)))
