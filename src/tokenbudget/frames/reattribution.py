"""Attributing usage again, whole tables at once. It owns what moves: charges, rollups, amounts.

It refuses to resolve tags and to write anything. A table of ``moves`` has one row a usage that
counts elsewhere from now on: its standing charge, the dimension set it leaves
(``dimension_set_id``), the digest of the one it goes to (``target``), and the accounting period the
pair posts to. Charges are numbered as in ``frames/rerating.py``: the pair takes the next two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import polars as pl

from tokenbudget.domain.periods import to_micros
from tokenbudget.domain.rerating import CostDelta, posting_period
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.domain.usage import COMMON_UNITS

COSTS: Final = ("list_nanos", "contracted_nanos", "effective_nanos")
CACHE_WRITES: Final = ("cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
SEEN_SCHEMA: Final[dict[str, pl.DataType | None]] = {
    "usage_id": pl.Int64(),
    "occurred_micros": pl.Int64(),
    "dimension_set_id": pl.Int64(),
    "sequence": pl.Int64(),
    **dict.fromkeys(COSTS, pl.Int64()),
    "old_accounting_period": pl.Int64(),
}
"""What tells that a standing charge moves, and that it is still the one that was seen."""

STANDING_SCHEMA: Final[dict[str, pl.DataType | None]] = {
    **SEEN_SCHEMA,
    # As the driver gives it, which is for the store to know.
    "basis": None,
    "price_row_id": pl.Int64(),
    "price_list_id": pl.Int64(),
    "flags": pl.String(),
    **dict.fromkeys(COMMON_UNITS, pl.Int64()),
    "other_units": pl.String(),
}
"""All that posting a pair needs, one row a usage; ``other_units`` is JSON, ids ascend."""

SEEN_COLUMNS: Final = (
    "usage_id",
    "sequence",
    "dimension_set_id",
    "target",
    *COSTS,
    "accounting_period",
)
QUANTITIES: Final = tuple(name for name in MEASURES if name not in COSTS)
ROLLUP_KEYS: Final = ("grain_seconds", "starts_at", "dimension_set_id", "price_row_id")
NO_PRICE_ROW: Final = 0
MICROS_PER_SECOND: Final = 1_000_000


class Movement(NamedTuple):
    """What leaves one dimension set for another in a quarter-hour, and may move counters."""

    second: int
    dimension_set_id: int
    target: str
    nanos: int
    tokens: int
    requests: int


def standing_frame(rows: Sequence[Sequence[Any]], turns: Iterable[datetime]) -> pl.DataFrame:
    """Give the standing charges (SEEN_SCHEMA or STANDING_SCHEMA) with the ``epoch`` of use."""
    is_whole = not rows or len(rows[0]) == len(STANDING_SCHEMA)
    schema = STANDING_SCHEMA if is_whole else SEEN_SCHEMA
    # Column by column takes a quarter of the time of row by row.
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    named = dict(zip(schema, columns, strict=True))
    frame = pl.DataFrame(
        [pl.Series(name, named[name], dtype=dtype) for name, dtype in schema.items()]
    )
    instants = pl.Series([to_micros(turn) for turn in turns], dtype=pl.Int64)
    epochs = instants.search_sorted(frame["occurred_micros"], side="right")
    return frame.with_columns(pl.Series("epoch", epochs, dtype=pl.Int64))


def places(standing: pl.DataFrame) -> list[tuple[int, int]]:
    """Give each (dimension set id, epoch) that usage counts under, once, in order."""
    return sorted(standing.select("dimension_set_id", "epoch").unique().iter_rows())


def find_moves(
    standing: pl.DataFrame,
    targets: Mapping[tuple[int, int], str],
    *,
    closed_before: int | None,
) -> pl.DataFrame:
    """Give what counts under another dimension set now, in the order of usage ids.

    ``targets`` are the digests of those sets by (dimension set id, epoch); what stays has none.
    """
    elsewhere = pl.DataFrame(
        [(*place, target) for place, target in targets.items()],
        schema={"dimension_set_id": pl.Int64, "epoch": pl.Int64, "target": pl.String},
        orient="row",
    )
    moved = standing.join(elsewhere, on=["dimension_set_id", "epoch"], maintain_order="left")
    periods = moved["old_accounting_period"]
    posted = {period: posting_period(period, closed_before) for period in periods.unique()}
    return moved.with_columns(
        accounting_period=periods.replace_strict(posted, return_dtype=pl.Int64)
    )


def sum_moves(moves: pl.DataFrame) -> Iterable[tuple[int, str, int, CostDelta]]:
    """Give (dimension set left, target, posting period, all that moves) for each of them."""
    keys = ("dimension_set_id", "target", "accounting_period")
    sums = moves.group_by(keys).agg(pl.len().alias("usages"), *_sums(COSTS))
    for left, target, period, usages, *costs in sums.sort(keys).iter_rows():
        yield left, target, period, CostDelta(usages, *map(int, costs))


def seen_bytes(moves: pl.DataFrame) -> bytes:
    """Give what a digest is of: which usage moves where to, with which amounts, posted when.

    The bytes of two tables, one after the other, are those of both together.
    """
    return moves.select(SEEN_COLUMNS).write_csv(include_header=False).encode()


def counter_movements(moves: pl.DataFrame) -> list[Movement]:
    """Give what moves by quarter-hour and both dimension sets, in order."""
    counted = _with_measures(moves).with_columns(
        second=_bucket(QUARTER_HOUR_SECONDS),
        tokens=pl.col("input_tokens") + pl.col("output_tokens"),
    )
    keys = ("second", "dimension_set_id", "target")
    measured = ("effective_nanos", "tokens", "requests")
    sums = counted.group_by(keys).agg(_sums(measured)).sort(keys)
    return [
        Movement(*key, *map(int, amounts))
        for *key, nanos, tokens, requests in sums.iter_rows()
        for amounts in ((nanos, tokens, requests),)
    ]


def usage_movements(moves: pl.DataFrame) -> Iterable[tuple[int, Movement]]:
    """Give what moves of each usage, by its id; the second of a movement is its quarter-hour."""
    counted = _with_measures(moves).select(
        "usage_id",
        "dimension_set_id",
        "target",
        "effective_nanos",
        "requests",
        second=_bucket(QUARTER_HOUR_SECONDS),
        tokens=pl.col("input_tokens") + pl.col("output_tokens"),
    )
    for row in counted.iter_rows(named=True):
        quantities = (row["effective_nanos"], row["tokens"], row["requests"])
        yield (
            row["usage_id"],
            Movement(row["second"], row["dimension_set_id"], row["target"], *quantities),
        )


def charge_pairs(
    moves: pl.DataFrame, *, target_ids: Mapping[str, int], reattribution_id: int
) -> pl.DataFrame:
    """Give two charges a move, in key order: taken back where it counted, charged where it goes.

    The columns are named like those of the ledger's charges.
    """
    first = pl.col("sequence") + 2 - pl.col("sequence") % 2
    common = ("usage_id", "basis", "price_row_id", "price_list_id", "accounting_period")
    taken_back = moves.select(
        *common,
        "dimension_set_id",
        *(-pl.col(cost) for cost in COSTS),
        sequence=first,
        reverses_usage_id="usage_id",
        flags=pl.lit(None, dtype=pl.String),
    )
    charged = moves.select(
        *common,
        _target_ids(target_ids).alias("dimension_set_id"),
        *COSTS,
        sequence=first + 1,
        reverses_usage_id=pl.lit(None, dtype=pl.Int64),
        flags="flags",
    )
    pairs = pl.concat([taken_back, charged]).with_columns(reattribution_id=pl.lit(reattribution_id))
    return pairs.sort("usage_id", "sequence")


def rollup_sums(moves: pl.DataFrame, *, target_ids: Mapping[str, int]) -> pl.DataFrame:
    """Give what is added to rollups of both grains, in key order, negative where usage leaves.

    The columns are those of the ledger's rollups; ``starts_at`` is in microseconds since 1970.
    """
    is_unpriced = pl.col("effective_nanos").is_null()
    row_id = pl.when(is_unpriced).then(NO_PRICE_ROW).otherwise(pl.col("price_row_id"))
    counted = moves.with_columns(price_row_id=row_id.fill_null(NO_PRICE_ROW))
    measured = _with_measures(counted)
    keys = ("occurred_micros", "dimension_set_id", "price_row_id")
    given = measured.with_columns(_target_ids(target_ids).alias("dimension_set_id"))
    both = pl.concat(
        [
            measured.select(*keys, *(-pl.col(name) for name in MEASURES)),
            given.select(*keys, *MEASURES),
        ]
    )
    grains = [_sum_by_grain(both, grain) for grain in (QUARTER_HOUR_SECONDS, DAY_SECONDS)]
    return pl.concat(grains).sort(ROLLUP_KEYS)


def _with_measures(moves: pl.DataFrame) -> pl.DataFrame:
    """Give the moves with every measure of a rollup, where nothing is known as zero."""
    requests = pl.Struct({"requests": pl.Int64})
    said = pl.col("other_units").str.json_decode(requests).struct.field("requests").fill_null(1)
    written = pl.sum_horizontal(*(pl.col(unit).fill_null(0) for unit in CACHE_WRITES))
    is_unpriced = pl.col("effective_nanos").is_null()
    counted = moves.with_columns(requests=said, cache_write_tokens=written)
    return counted.with_columns(
        unpriced_requests=pl.when(is_unpriced).then("requests").otherwise(0)
    ).with_columns(pl.col(name).cast(pl.Int64).fill_null(0) for name in MEASURES)


def _sum_by_grain(measured: pl.DataFrame, grain_seconds: int) -> pl.DataFrame:
    start = _bucket(grain_seconds) * MICROS_PER_SECOND
    # The cast back from Int128 refuses what does not fit.
    sums = (total.cast(pl.Int64) for total in _sums(MEASURES))
    return measured.group_by(
        pl.lit(grain_seconds).alias("grain_seconds"),
        start.alias("starts_at"),
        "dimension_set_id",
        "price_row_id",
    ).agg(sums)


def _sums(names: Iterable[str]) -> Iterable[pl.Expr]:
    # Int64 sums wrap in silence, so they are done in Int128.
    return [pl.col(name).fill_null(0).cast(pl.Int128).sum() for name in names]


def _bucket(grain_seconds: int) -> pl.Expr:
    second = pl.col("occurred_micros") // MICROS_PER_SECOND
    return second - second % grain_seconds


def _target_ids(target_ids: Mapping[str, int]) -> pl.Expr:
    return pl.col("target").replace_strict(
        list(target_ids), list(target_ids.values()), return_dtype=pl.Int64
    )
