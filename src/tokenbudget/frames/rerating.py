"""Rating usage again, whole tables at once. It owns what moves: charges, rollups, differences.

It refuses to choose which usage is looked at and to write anything. A table of ``moves`` has one
row a usage whose charge changes: what stands (``old_…``), what the price list says now (``new_…``),
the quantities, and the period the difference posts to.

A usage's charges are numbered: 0 is its first one, 1 is kept for taking back an earlier revision,
and every re-rating takes the next two, the taking back of what stood and the new charge. So does
whatever else moves or replaces a charge (``services/retagging.py``). ``dimension_set_id`` is where
the charge counts, ``charge_set_id`` what the charge itself says of that: NULL is where its usage
was placed first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import polars as pl

from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rerating import CostDelta, DeltaKey, Reason, posting_period
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.domain.usage import COMMON_UNITS, ESTIMATED_PREFIX, UNITS, Basis
from tokenbudget.frames.rating import rate_frame

COSTS: Final = ("list_nanos", "contracted_nanos", "effective_nanos")
CACHE_WRITES: Final = ("cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
OTHER_UNITS: Final = tuple(unit for unit in UNITS if unit not in COMMON_UNITS)
CANDIDATE_SCHEMA: Final[dict[str, pl.DataType]] = {
    "usage_id": pl.Int64(),
    "occurred_micros": pl.Int64(),
    "dimension_set_id": pl.Int64(),
    "charge_set_id": pl.Int64(),
    "usage_flags": pl.String(),
    "sequence": pl.Int64(),
    "old_basis": pl.String(),
    "old_price_row_id": pl.Int64(),
    "old_price_list_id": pl.Int64(),
    "old_list_nanos": pl.Int64(),
    "old_contracted_nanos": pl.Int64(),
    "old_effective_nanos": pl.Int64(),
    "old_accounting_period": pl.Int64(),
    **dict.fromkeys(COMMON_UNITS, pl.Int64()),
    "other_units": pl.String(),
}
"""One row a usage with the charge that stands for it; ``other_units`` is JSON, ids ascend."""

DIMENSION_SCHEMA: Final[dict[str, pl.DataType]] = {
    "dimension_set_id": pl.Int64(),
    **dict.fromkeys(
        ("provider", "model", "service_tier", "region", "account", "team", "feature", "tenant"),
        pl.String(),
    ),
}
SEEN_COLUMNS: Final = (
    "usage_id",
    "sequence",
    *(f"old_{cost}" for cost in COSTS),
    *(f"new_{cost}" for cost in COSTS),
    "new_price_digest",
    "new_basis",
    "accounting_period",
)
OWNER_COLUMNS: Final = ("team", "feature", "tenant", "accounting_period", "reason")
ROLLUP_KEYS: Final = ("grain_seconds", "starts_at", "dimension_set_id", "price_row_id")
NO_PRICE_ROW: Final = 0
MICROS_PER_SECOND: Final = 1_000_000


def candidate_frame(rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Give the candidates (CANDIDATE_SCHEMA) of rows in the order of its columns."""
    return _frame(rows, CANDIDATE_SCHEMA)


def dimension_frame(rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Give the dimensions (DIMENSION_SCHEMA) of rows in the order of its columns."""
    return _frame(rows, DIMENSION_SCHEMA)


def with_dimensions(candidates: pl.DataFrame, dimensions: pl.DataFrame) -> pl.DataFrame:
    """Give the candidates, in their order, with the columns of their dimensions."""
    return candidates.join(dimensions, on="dimension_set_id", maintain_order="left")


def quarter_hours(candidates: pl.DataFrame) -> Iterator[tuple[int, int]]:
    """Give each (quarter-hour in seconds, dimension set id) that candidates fall in, once."""
    return candidates.select(_bucket(QUARTER_HOUR_SECONDS), "dimension_set_id").unique().iter_rows()


def with_commitments(asked: pl.DataFrame, covering: Mapping[tuple[int, int], str]) -> pl.DataFrame:
    """Give the candidates with the id of the ``commitment`` that covers their quarter-hour."""
    covered = pl.DataFrame(
        [(*key, commitment) for key, commitment in covering.items()],
        schema={"second": pl.Int64, "dimension_set_id": pl.Int64, "commitment": pl.String},
        orient="row",
    )
    bucketed = asked.with_columns(_bucket(QUARTER_HOUR_SECONDS))
    joined = bucketed.join(
        covered, on=["second", "dimension_set_id"], how="left", maintain_order="left"
    )
    return joined.drop("second")


def find_moves(
    asked: pl.DataFrame,
    price_list: PriceList,
    *,
    old_digests: Mapping[int, str],
    fixed_row_ids: frozenset[int],
    closed_before: int | None,
) -> pl.DataFrame:
    """Give the candidates that the price list rates by another row now, in their order.

    They come with their dimensions and, where there are any, commitments. What has no price now is
    never among the moves: nothing becomes unpriced. ``old_digests`` names the price rows that
    charges were rated by, ``fixed_row_ids`` those of them that a fix replaced.
    """
    charged = rate_frame(_with_quantities(asked), price_list)
    rated = charged.with_columns(pl.col("price_digest", "basis").cast(pl.String))
    was_unpriced = pl.col("old_effective_nanos").is_null()
    old_digest = pl.col("old_price_row_id").replace_strict(
        list(old_digests), list(old_digests.values()), default=None, return_dtype=pl.String
    )
    is_moved = was_unpriced | pl.col("price_digest").ne_missing(old_digest)
    moved = rated.filter(pl.col("effective_nanos").is_not_null() & is_moved)
    is_fixed = pl.col("old_price_row_id").is_in(sorted(fixed_row_ids))
    reason = (
        pl.when(was_unpriced)
        .then(pl.lit(Reason.UNPRICED.value))
        .when(is_fixed)
        .then(pl.lit(Reason.FIXED.value))
        .otherwise(pl.lit(Reason.CHANGED.value))
    )
    is_estimated = pl.col("usage_flags").str.contains(ESTIMATED_PREFIX, literal=True)
    basis = pl.when(is_estimated).then(pl.lit(Basis.ESTIMATED.value)).otherwise(pl.col("basis"))
    return moved.select(
        pl.exclude("basis", "flags", "price_digest", "price_ref", *COSTS),
        *(pl.col(cost).alias(f"new_{cost}") for cost in COSTS),
        new_basis=basis,
        new_flags=pl.col("flags").list.join(",").replace("", None),
        new_price_digest="price_digest",
        reason=reason,
        accounting_period=_posting_periods(moved["old_accounting_period"], closed_before),
    )


def sum_moves(moves: pl.DataFrame) -> dict[DeltaKey, CostDelta]:
    """Give the differences by owner, period and reason."""
    sums = moves.group_by(OWNER_COLUMNS).agg(pl.len().alias("usages"), *_deltas())
    return {
        DeltaKey(
            row["team"],
            row["feature"],
            row["tenant"],
            row["accounting_period"],
            Reason(row["reason"]),
        ): CostDelta(row["usages"], *(int(row[cost]) for cost in COSTS))
        for row in sums.iter_rows(named=True)
    }


def seen_bytes(moves: pl.DataFrame) -> bytes:
    """Give what a digest is of: which usage moves, from and to which amounts, and when posted.

    The bytes of two tables, one after the other, are those of both together.
    """
    return moves.select(SEEN_COLUMNS).write_csv(include_header=False).encode()


def effective_moves(moves: pl.DataFrame) -> Iterable[tuple[int, int, int]]:
    """Give (quarter-hour in seconds, dimension set id, difference in nanos) of all that moves."""
    sums = moves.group_by(_bucket(QUARTER_HOUR_SECONDS), "dimension_set_id").agg(*_deltas())
    for second, dimension_set_id, _, _, nanos in sums.iter_rows():
        yield second, dimension_set_id, int(nanos)


def charge_pairs(
    moves: pl.DataFrame, *, new_row_ids: Mapping[str, int], price_list_id: int, rerate_id: int
) -> pl.DataFrame:
    """Give two charges a move, in key order: the old charge taken back, then the new one.

    The columns are named like those of the ledger's charges.
    """
    first = pl.col("sequence") + 2 - pl.col("sequence") % 2
    taken_back = moves.select(
        "usage_id",
        "accounting_period",
        *((-pl.col(f"old_{cost}")).alias(cost) for cost in COSTS),
        sequence=first,
        basis="old_basis",
        price_row_id="old_price_row_id",
        price_list_id="old_price_list_id",
        reverses_usage_id="usage_id",
        dimension_set_id="charge_set_id",
        flags=pl.lit(None, dtype=pl.String),
    )
    charged = moves.select(
        "usage_id",
        "accounting_period",
        *(pl.col(f"new_{cost}").alias(cost) for cost in COSTS),
        sequence=first + 1,
        basis="new_basis",
        price_row_id=_row_ids(new_row_ids),
        price_list_id=pl.lit(price_list_id, dtype=pl.Int64),
        reverses_usage_id=pl.lit(None, dtype=pl.Int64),
        dimension_set_id="charge_set_id",
        flags="new_flags",
    )
    pairs = pl.concat([taken_back, charged]).with_columns(rerate_id=pl.lit(rerate_id))
    return pairs.sort("usage_id", "sequence")


def rollup_sums(moves: pl.DataFrame, *, new_row_ids: Mapping[str, int]) -> pl.DataFrame:
    """Give what is added to rollups of both grains, in key order: quantities follow their amounts.

    The columns are those of the ledger's rollups; ``starts_at`` is in microseconds since 1970.
    """
    was_unpriced = pl.col("old_effective_nanos").is_null()
    requests = pl.col("requests").fill_null(1)
    written = pl.sum_horizontal(*(pl.col(unit).fill_null(0) for unit in CACHE_WRITES))
    counted = moves.with_columns(requests=requests, cache_write_tokens=written)
    old_row_id = pl.when(was_unpriced).then(NO_PRICE_ROW).otherwise(pl.col("old_price_row_id"))
    keys = ("occurred_micros", "dimension_set_id", "price_row_id")
    taken = counted.with_columns(
        price_row_id=old_row_id,
        unpriced_requests=pl.when(was_unpriced).then("requests").otherwise(0),
        **{cost: pl.col(f"old_{cost}") for cost in COSTS},
    ).select(*keys, *(-pl.col(name).fill_null(0) for name in MEASURES))
    given = counted.with_columns(
        price_row_id=_row_ids(new_row_ids),
        unpriced_requests=pl.lit(0),
        **{cost: pl.col(f"new_{cost}") for cost in COSTS},
    ).select(*keys, *(pl.col(name).fill_null(0) for name in MEASURES))
    both = pl.concat([taken, given], how="vertical_relaxed")
    grains = [_sum_by_grain(both, grain) for grain in (QUARTER_HOUR_SECONDS, DAY_SECONDS)]
    return pl.concat(grains).sort(ROLLUP_KEYS)


def _sum_by_grain(measured: pl.DataFrame, grain_seconds: int) -> pl.DataFrame:
    start = _bucket(grain_seconds) * MICROS_PER_SECOND
    # Int64 sums wrap in silence; the cast back refuses what does not fit.
    sums = (pl.col(name).cast(pl.Int128).sum().cast(pl.Int64) for name in MEASURES)
    return measured.group_by(
        pl.lit(grain_seconds).alias("grain_seconds"),
        start.alias("starts_at"),
        "dimension_set_id",
        "price_row_id",
    ).agg(sums)


def _frame(rows: Sequence[Sequence[Any]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    # Column by column takes a quarter of the time of row by row.
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema)


def _with_quantities(asked: pl.DataFrame) -> pl.DataFrame:
    """Give the frame with a column for every unit and ``occurred_at``, as rating wants it."""
    others = pl.Struct(dict.fromkeys(OTHER_UNITS, pl.Int64))
    parsed = asked.with_columns(
        occurred_at=pl.from_epoch("occurred_micros", time_unit="us").dt.replace_time_zone("UTC"),
        other_units=pl.col("other_units").str.json_decode(others),
    )
    return parsed.unnest("other_units")


def _posting_periods(periods: pl.Series, closed_before: int | None) -> pl.Series:
    posted = {period: posting_period(period, closed_before) for period in periods.unique()}
    return periods.replace_strict(posted, return_dtype=pl.Int64)


def _deltas() -> Iterable[pl.Expr]:
    # Int64 sums wrap in silence, so they are done in Int128.
    for cost in COSTS:
        old, new = pl.col(f"old_{cost}").fill_null(0), pl.col(f"new_{cost}")
        yield (new.cast(pl.Int128) - old.cast(pl.Int128)).sum().alias(cost)


def _bucket(grain_seconds: int) -> pl.Expr:
    second = pl.col("occurred_micros") // MICROS_PER_SECOND
    return (second - second % grain_seconds).alias("second")


def _row_ids(new_row_ids: Mapping[str, int]) -> pl.Expr:
    return pl.col("new_price_digest").replace_strict(
        list(new_row_ids), list(new_row_ids.values()), return_dtype=pl.Int64
    )
