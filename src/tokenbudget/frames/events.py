"""Events by the table on their way into the ledger: keys, charges, and what they add up to.

It owns the rows that usage, charges, rollups and counters follow from, as columns: the vectorised
twin of ``services/usage.py`` for events of which nothing but their own columns decides. It refuses
to read files and to know ids; those are handed in.

A table of events has the columns of ``formats/event_tables.py``: fields of the event, units as
``usage.<unit>``, tags as ``tags.<name>``, times in microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

import polars as pl

from tokenbudget.domain.allocation import CALL_DIMENSIONS
from tokenbudget.domain.identity import KEY_BYTES
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.domain.usage import COMMON_UNITS, UNITS, Witness
from tokenbudget.frames.rating import rate_frame

COSTS: Final = ("list_nanos", "contracted_nanos", "effective_nanos")
CACHE_WRITES: Final = ("cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
OTHER_UNITS: Final = tuple(unit for unit in UNITS if unit not in COMMON_UNITS)
USAGE_COLUMNS: Final[Mapping[str, str]] = {
    "event_ref": "event_id",
    "operation_ref": "operation_id",
    "trace_ref": "trace_id",
    "response_ref": "response_id",
    "request_model": "request_model",
    "latency_ms": "latency_ms",
    "time_to_first_token_ms": "time_to_first_token_ms",
    "reported_nanos": "reported_nanos",
}
"""Columns of usage and the columns of events they are taken from, where there are any."""

CONTENT_HASH_BYTES: Final = 8
MICROS_PER_SECOND: Final = 1_000_000
NO_PRICE_ROW: Final = 0
ABSENT: Final = "\x1e"
BETWEEN: Final = "\x1f"


def with_hashes(events: pl.DataFrame, default_source: str) -> pl.DataFrame:
    """Give the events with ``source`` filled, ``content_hash`` and ``event_key`` (Binary).

    ``content`` is dropped. The hash is that of ``formats/events.py``, the key that of
    ``domain/identity.py`` for revision 0.
    """
    source = pl.lit(None, dtype=pl.String) if "source" not in events.columns else pl.col("source")
    sourced = events.with_columns(source=source.fill_null(default_source))
    texts = sourced.select(_key_text("event", pl.col("source"), pl.col("event_id"), "0"))
    hashes = _digests(events["content"], CONTENT_HASH_BYTES)
    return sourced.drop("content").with_columns(
        content_hash=hashes.bin.reinterpret(dtype=pl.Int64, endianness="big"),
        event_key=_digests(texts.to_series().cast(pl.Binary), KEY_BYTES),
    )


def with_response_keys(events: pl.DataFrame, spellings: Mapping[str, str | None]) -> pl.DataFrame:
    """Give the events with ``response_key`` (Binary), null where no response is named.

    ``spellings`` gives each provider as calls are known by, None where its ids do not last.
    """
    if "response_id" not in events.columns:
        return events.with_columns(response_key=pl.lit(None, dtype=pl.Binary))
    provider = pl.col("provider").replace_strict(
        list(spellings), list(spellings.values()), return_dtype=pl.String
    )
    texts = events.select(_key_text("response", provider, pl.col("response_id"))).to_series()
    return events.with_columns(response_key=_digests(texts.cast(pl.Binary), KEY_BYTES))


def key_claims(events: pl.DataFrame) -> pl.DataFrame:
    """Give every key of the events with the usage that claims it, in the order of keys."""
    keys = [
        events.select(pl.col(name).alias("key"), "usage_id").drop_nulls()
        for name in ("event_key", "response_key")
    ]
    return pl.concat(keys).sort("key")


def with_combinations(
    events: pl.DataFrame, *, tag_names: Sequence[str], turns: Sequence[int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the events with the number of their ``combination``, and an example of each in order.

    Events of one combination agree in what is told of the call, in the tags of these names and in
    how many of the ``turns`` (microseconds, ascending) lie before them.
    """
    known = [name for name in (*CALL_DIMENSIONS, *tag_names) if name in events.columns]
    epochs = pl.Series(turns, dtype=pl.Int64).search_sorted(events["occurred_micros"], "right")
    texts = events.select(
        pl.concat_str(
            *(pl.col(name).fill_null(ABSENT) for name in known),
            _is_retry(events).cast(pl.String),
            pl.lit(epochs).cast(pl.String),
            separator=BETWEEN,
        ).alias("combined")
    )
    first = texts.with_row_index("first").unique("combined", keep="first", maintain_order=True)
    numbered = first.with_row_index("combination")
    joined = texts.join(numbered, on="combined", how="left", maintain_order="left")
    told = events.select(*known, "occurred_micros", is_retry=_is_retry(events))
    return events.with_columns(joined["combination"]), told[first["first"]]


def covered_spans(events: pl.DataFrame) -> Iterable[tuple[int, int]]:
    """Give each (combination, quarter-hour in seconds) that events fall in, once."""
    second = _bucket(QUARTER_HOUR_SECONDS).alias("second")
    return events.select("combination", second).unique().iter_rows()


def with_commitments(events: pl.DataFrame, covering: Mapping[tuple[int, int], str]) -> pl.DataFrame:
    """Give the events with the ``commitment`` that covers their combination and quarter-hour."""
    covered = pl.DataFrame(
        [(*key, commitment) for key, commitment in covering.items()],
        schema={"combination": pl.UInt32, "second": pl.Int64, "commitment": pl.String},
        orient="row",
    )
    spans = events.select("combination", _bucket(QUARTER_HOUR_SECONDS).alias("second"))
    joined = spans.join(covered, on=["combination", "second"], how="left", maintain_order="left")
    return events.with_columns(joined["commitment"])


def with_charges(events: pl.DataFrame, price_list: PriceList) -> pl.DataFrame:
    """Give the events with the columns of their charges: CHARGE_COLUMNS of ``rating.py``.

    A column ``commitment`` names what covers the usage.
    """
    facts = ("provider", "model", "service_tier", "region", "account", "commitment")
    asked = events.select(
        *(pl.col(name) for name in facts if name in events.columns),
        *(pl.col(f"usage.{unit}").alias(unit) for unit in UNITS if _has(events, unit)),
        occurred_at=pl.col("occurred_micros").cast(pl.Datetime("us", "UTC")),
    )
    charged = rate_frame(asked, price_list)
    return events.hstack(
        charged.select(
            pl.col("price_digest").cast(pl.String),
            *COSTS,
            pl.col("basis").cast(pl.String),
            flags=_joined(charged["flags"]),
        )
    )


def examples_of_prices(charged: pl.DataFrame) -> pl.DataFrame:
    """Give one event of each price digest that there is."""
    return charged.filter(pl.col("price_digest").is_not_null()).unique(
        "price_digest", keep="first", maintain_order=True
    )


def quantities_of(event: Mapping[str, int | None]) -> dict[str, int]:
    """Give the quantities of an event, as a row of the table, by unit."""
    counts = ((unit, event.get(f"usage.{unit}")) for unit in UNITS)
    return {unit: count for unit, count in counts if count is not None}


def usage_rows(events: pl.DataFrame, *, kept_tags: Sequence[str], recorded: int) -> pl.DataFrame:
    """Give the ledger's rows of usage: values as they are stored, in the order of the events.

    Needs ``usage_id``, ``source_id`` and ``dimension_set_id``. Columns that say nothing are left
    out. ``recorded`` is in microseconds.
    """
    others = {f"usage.{unit}": unit for unit in OTHER_UNITS if _has(events, unit)}
    kept = {name: name.partition(".")[2] for name in kept_tags if name in events.columns}
    rows = events.select(
        "source_id",
        "content_hash",
        "dimension_set_id",
        *(pl.col(f"usage.{unit}").alias(unit) for unit in COMMON_UNITS if _has(events, unit)),
        *(
            pl.col(taken).alias(name)
            for name, taken in USAGE_COLUMNS.items()
            if taken in events.columns
        ),
        id="usage_id",
        revision=pl.lit(0),
        occurred_at="occurred_micros",
        recorded_at=pl.lit(recorded),
        attempt=pl.col("attempt").fill_null(1) if "attempt" in events.columns else pl.lit(1),
        witness=pl.lit(int(Witness.SDK)),
        other_units=_json_object(others, quote=""),
        extra_tags=_json_object(kept, quote='"'),
    )
    return rows.select(name for name in rows.columns if rows[name].null_count() < rows.height)


def charge_rows(
    charged: pl.DataFrame, *, price_row_ids: Mapping[str, int], price_list_id: int
) -> pl.DataFrame:
    """Give the ledger's rows of charges: values as they are stored, in the order of the events."""
    month = pl.col("occurred_micros").cast(pl.Datetime("us"))
    rows = charged.select(
        "usage_id",
        "basis",
        *COSTS,
        "flags",
        sequence=pl.lit(0),
        price_row_id=_row_ids(price_row_ids),
        price_list_id=pl.lit(price_list_id),
        accounting_period=month.dt.year() * 100 + month.dt.month().cast(pl.Int32),
    )
    return rows.select(name for name in rows.columns if rows[name].null_count() < rows.height)


def rollup_rows(charged: pl.DataFrame, *, price_row_ids: Mapping[str, int]) -> pl.DataFrame:
    """Give what is added to rollups of both grains, in key order.

    The columns are those of the ledger's rollups; ``starts_at`` is in microseconds since 1970.
    """
    is_unpriced = pl.col("effective_nanos").is_null()
    row_id = pl.when(is_unpriced).then(None).otherwise(_row_ids(price_row_ids))
    requests = _count(charged, "requests", absent=1)
    measured = charged.select(
        "occurred_micros",
        "dimension_set_id",
        *COSTS,
        price_row_id=row_id.fill_null(NO_PRICE_ROW),
        requests=requests,
        unpriced_requests=pl.when(is_unpriced).then(requests).otherwise(0),
        cache_write_tokens=pl.sum_horizontal(_count(charged, unit) for unit in CACHE_WRITES),
        **{
            unit: _count(charged, unit)
            for unit in (
                "input_tokens",
                "cached_input_tokens",
                "output_tokens",
                "reasoning_tokens",
            )
        },
    )
    quarters = _sum_by_grain(measured, QUARTER_HOUR_SECONDS)
    days = _sum_by_grain(quarters.with_columns(occurred_micros="starts_at"), DAY_SECONDS)
    columns = ("grain_seconds", "starts_at", "dimension_set_id", "price_row_id", *MEASURES)
    both = pl.concat([quarters.select(columns), days.select(columns)])
    return both.sort("grain_seconds", "starts_at", "dimension_set_id", "price_row_id")


def quarter_hours(events: pl.DataFrame) -> list[int]:
    """Give the quarter-hours that events fall in, in seconds, ascending."""
    return events.select(_bucket(QUARTER_HOUR_SECONDS)).to_series().unique().sort().to_list()


def counter_moves(
    charged: pl.DataFrame, matches: Sequence[tuple[int, int]], stretches: Sequence[int]
) -> Iterable[tuple[int, int, int, int, int]]:
    """Give (match, stretch in seconds, nanos, tokens, requests) of all that counts.

    ``matches`` are pairs of a combination and what it matches. A stretch lasts until the next of
    ``stretches``, which ascend from the first event's on.
    """
    starts = pl.Series(stretches, dtype=pl.Int64)
    seconds = charged["occurred_micros"] // MICROS_PER_SECOND
    measured = charged.select(
        "combination",
        starts.gather(starts.search_sorted(seconds, "right") - 1).alias("second"),
        nanos=pl.col("effective_nanos").fill_null(0),
        tokens=_count(charged, "input_tokens") + _count(charged, "output_tokens"),
        requests=_count(charged, "requests", absent=1),
    )
    names = ("nanos", "tokens", "requests")
    combined = measured.group_by("combination", "second").agg(
        _exact_sum(pl.col(name)) for name in names
    )
    matched = pl.DataFrame(
        matches, schema={"combination": pl.UInt32, "match": pl.Int64}, orient="row"
    )
    sums = (
        combined.join(matched, on="combination")
        .group_by("match", "second")
        .agg(_exact_sum(pl.col(name)) for name in names)
    )
    return sums.sort("match", "second").iter_rows()


def operation_moves(charged: pl.DataFrame) -> Iterable[tuple[int, str, int, int, int]]:
    """Give (combination, operation, nanos, tokens, requests) of all that names an operation."""
    if "operation_id" not in charged.columns:
        return
    named = charged.filter(pl.col("operation_id").fill_null("") != "")
    measured = named.select(
        "combination",
        "operation_id",
        nanos=pl.col("effective_nanos").fill_null(0),
        tokens=_count(charged, "input_tokens") + _count(charged, "output_tokens"),
        requests=_count(charged, "requests", absent=1),
    )
    sums = measured.group_by("combination", "operation_id").agg(
        _exact_sum(pl.col(name)) for name in ("nanos", "tokens", "requests")
    )
    yield from sums.sort("combination", "operation_id").iter_rows()


def _key_text(*parts: pl.Expr | str) -> pl.Expr:
    """Give the text that a key of these parts is the digest of, as in ``domain/identity.py``."""
    pieces: list[pl.Expr] = []
    for part in parts:
        if isinstance(part, str):
            pieces.append(pl.lit(f"{len(part)}:{part}"))
        else:
            pieces += [part.str.len_chars().cast(pl.String), pl.lit(":"), part]
    return pl.concat_str(pieces)


def _digests(contents: pl.Series, size: int) -> pl.Series:
    digests = [
        None if content is None else blake2b(content, digest_size=size).digest()
        for content in contents.to_list()
    ]
    return pl.Series(digests, dtype=pl.Binary)


def _is_retry(events: pl.DataFrame) -> pl.Expr:
    return (
        pl.col("attempt").fill_null(1) > 1 if "attempt" in events.columns else pl.lit(value=False)
    )


def _has(events: pl.DataFrame, unit: str) -> bool:
    return f"usage.{unit}" in events.columns


def _count(events: pl.DataFrame, unit: str, *, absent: int = 0) -> pl.Expr:
    if not _has(events, unit):
        return pl.lit(absent, dtype=pl.Int64)
    return pl.col(f"usage.{unit}").fill_null(absent)


def _joined(flags: pl.Series) -> pl.Series:
    return flags.list.join(",").replace("", None)


def _json_object(names: Mapping[str, str], *, quote: str) -> pl.Expr:
    """Give the JSON of what is there in these columns, under new names; null where nothing is."""
    if not names:
        return pl.lit(None, dtype=pl.String)
    members = [
        pl.concat_str(pl.lit(f',"{name}":{quote}'), pl.col(column), pl.lit(quote)).fill_null("")
        for column, name in names.items()
    ]
    inner = pl.concat_str(members).str.slice(1)
    return pl.when(inner != "").then(pl.concat_str(pl.lit("{"), inner, pl.lit("}")))


def _row_ids(price_row_ids: Mapping[str, int]) -> pl.Expr:
    return pl.col("price_digest").replace_strict(
        list(price_row_ids), list(price_row_ids.values()), default=None, return_dtype=pl.Int64
    )


def _sum_by_grain(measured: pl.DataFrame, grain_seconds: int) -> pl.DataFrame:
    return measured.group_by(
        pl.lit(grain_seconds).alias("grain_seconds"),
        (_bucket(grain_seconds) * MICROS_PER_SECOND).alias("starts_at"),
        "dimension_set_id",
        "price_row_id",
    ).agg(_exact_sum(pl.col(name).fill_null(0)).alias(name) for name in MEASURES)


def _exact_sum(values: pl.Expr) -> pl.Expr:
    # Int64 sums wrap in silence; the cast back refuses what does not fit.
    return values.cast(pl.Int128).sum().cast(pl.Int64)


def _bucket(grain_seconds: int) -> pl.Expr:
    second = pl.col("occurred_micros") // MICROS_PER_SECOND
    return second - second % grain_seconds
