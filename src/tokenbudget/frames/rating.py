"""Whole tables rated at once: the vectorised twin of ``domain/rating.py``, equal to it to the nano.

It owns the arithmetic on columns. It refuses to decide anything about prices: which row applies,
what it flags and what its rates are comes from the domain's schedules (``price_cells.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Final

import polars as pl

from tokenbudget.domain.money import PICOS_PER_NANO
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import (
    FREE_WITHOUT_RATE,
    INPUT_TOKENS_ABSENT,
    OVERLAPS,
    UNRATED_PREFIX,
    USAGE_INCONSISTENT,
    USAGE_UNKNOWN,
    price_digest,
)
from tokenbudget.domain.schedules import UnitRates
from tokenbudget.domain.usage import UNITS, Basis
from tokenbudget.frames.price_cells import NO_RATES, Cell, gather, place_events

REQUIRED_COLUMNS: Final = ("provider", "model", "occurred_at")
CHARGE_COLUMNS: Final[dict[str, pl.DataType]] = {
    "price_ref": pl.String(),
    "price_digest": pl.String(),
    "list_nanos": pl.Int64(),
    "contracted_nanos": pl.Int64(),
    "effective_nanos": pl.Int64(),
    "basis": pl.String(),
    "flags": pl.List(pl.String()),
}
SAFE_INT64: Final = 2**62
"""Sums up to here stay in Int64, larger ones are done in Int128: Int64 wraps in silence."""

FAULTS: Final = (
    USAGE_UNKNOWN,
    USAGE_INCONSISTENT,
    INPUT_TOKENS_ABSENT,
    *(UNRATED_PREFIX + unit for unit in UNITS),
)
"""What can be said about one usage; its place is its bit in the column of faults."""
FAULT_BITS: Final = {fault: 1 << place for place, fault in enumerate(FAULTS)}
HARMLESS_FAULTS: Final = FAULT_BITS[INPUT_TOKENS_ABSENT]
CELL_SHIFT: Final = 1 << len(FAULTS)


def rate_frame(events: pl.DataFrame | pl.LazyFrame, price_list: PriceList) -> pl.DataFrame:
    """Give the events, in their order, with the columns of their charges appended.

    Needs ``provider``, ``model`` (String) and ``occurred_at`` (Datetime in UTC). Optional are
    ``service_tier``, ``region``, ``account``, ``commitment`` (String) and an integer column for
    each unit, where null is absent.
    CHARGE_COLUMNS are appended; amounts that are null are unpriced.
    Raises ValueError for a missing column and for times that are not in UTC.
    """
    frame = events.collect() if isinstance(events, pl.LazyFrame) else events
    _require_columns(frame)
    if frame.is_empty():
        return frame.with_columns(**_empty_charges())
    placed, cells = place_events(frame, price_list)
    classes, working = _with_classes(placed)
    charged = _with_charges(working, classes, cells)
    return frame.hstack(charged.select(CHARGE_COLUMNS.keys()))


def _require_columns(frame: pl.DataFrame) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"events to rate need a column {missing[0]}")
    dtype = frame.schema["occurred_at"]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone != "UTC":
        raise ValueError(f"occurred_at must be Datetime in UTC and is {dtype}")


def _empty_charges() -> dict[str, pl.Series]:
    return {name: pl.Series(name, [], dtype=dtype) for name, dtype in CHARGE_COLUMNS.items()}


def _with_classes(placed: pl.DataFrame) -> tuple[list[str], pl.DataFrame]:
    """Give the units with anything in them and the frame with its units as disjoint classes.

    Also adds ``fault`` (UInt32): the bits of FAULTS that can be told without rates.
    """
    reported = [unit for unit in UNITS if unit in placed.columns]
    terms: dict[str, list[pl.Expr]] = {unit: [pl.col(unit).fill_null(0)] for unit in reported}
    for part in reported:
        for total, sign in OVERLAPS.get(part, ()):
            terms.setdefault(total, []).append(sign * pl.col(part).fill_null(0))
    is_unknown = pl.all_horizontal([pl.col(unit).is_null() for unit in reported] or [pl.lit(True)])
    classes = {unit: reduce(add, parts) for unit, parts in terms.items()}
    is_negative = pl.any_horizontal([pl.lit(False), *(value < 0 for value in classes.values())])
    fault = (
        pl.when(is_unknown)
        .then(FAULT_BITS[USAGE_UNKNOWN])
        .when(is_negative)
        .then(FAULT_BITS[USAGE_INCONSISTENT])
        .when(_lacks_input(reported))
        .then(FAULT_BITS[INPUT_TOKENS_ABSENT])
        .otherwise(0)
    )
    working = placed.with_columns(fault=fault.cast(pl.Int64), **classes)
    largest = _largest_quantities(working, list(classes))
    return [unit for unit, quantity in largest.items() if quantity > 0], working


def _largest_quantities(frame: pl.DataFrame, units: Sequence[str]) -> dict[str, int]:
    return frame.select(pl.col(unit).max() for unit in units).row(0, named=True) if units else {}


def _lacks_input(reported: Sequence[str]) -> pl.Expr:
    if "output_tokens" not in reported:
        return pl.lit(False)
    has_output = pl.col("output_tokens").fill_null(0) != 0
    return (
        has_output & pl.col("input_tokens").is_null() if "input_tokens" in reported else has_output
    )


def _with_charges(
    working: pl.DataFrame, classes: Sequence[str], cells: Sequence[Cell]
) -> pl.DataFrame:
    published = [cell.published for cell in cells]
    contracted = [cell.contracted for cell in cells]
    missing = _missing_rates(classes, published)
    is_sound = pl.col("fault").is_in((0, HARMLESS_FAULTS))
    faulted = working.with_columns(
        fault=pl.when(is_sound & (missing > 0)).then(missing).otherwise(pl.col("fault"))
    )
    coded = faulted.with_columns(code=pl.col("cell").cast(pl.Int64) * CELL_SHIFT + pl.col("fault"))
    outcomes = _outcomes(coded["code"].unique(), cells)
    joined = coded.join(outcomes, on="code", how="left", maintain_order="left")
    rated = _with_nanos(joined, "list_nanos", classes, published)
    if contracted == published:
        rated = rated.with_columns(contracted_nanos="list_nanos")
    else:
        rated = _with_nanos(rated, "contracted_nanos", classes, contracted)
    return rated.with_columns(effective_nanos=_effective_nanos(cells))


def _missing_rates(classes: Sequence[str], published: Sequence[UnitRates]) -> pl.Expr:
    """Give the bits of the faults of units that were used and have no rate."""
    faults = [pl.lit(0, dtype=pl.Int64)]
    for unit in classes:
        rates = _cell_rates(unit, published)
        if rates.null_count() and unit not in FREE_WITHOUT_RATE:
            is_unrated = (pl.col(unit) > 0) & gather(rates, "cell").is_null()
            bit = FAULT_BITS[UNRATED_PREFIX + unit]
            faults.append(pl.when(is_unrated).then(bit).otherwise(0))
    return reduce(add, faults)


def _cell_rates(unit: str, sheets: Sequence[UnitRates]) -> pl.Series:
    found = [0 if sheet is NO_RATES else sheet.rates.get(unit) for sheet in sheets]
    return pl.Series(found, dtype=pl.Int64)


def _effective_nanos(cells: Sequence[Cell]) -> pl.Expr:
    covered = [cell.commitment is not None for cell in cells]
    contracted = pl.col("contracted_nanos")
    if not any(covered):
        return contracted
    is_covered = gather(pl.Series(covered), "cell") & contracted.is_not_null()
    return pl.when(is_covered).then(0).otherwise(contracted)


def _with_nanos(
    frame: pl.DataFrame, name: str, classes: Sequence[str], sheets: Sequence[UnitRates]
) -> pl.DataFrame:
    """Give the frame with a column of nanos (Int64), null where the usage is unpriced.

    They are rounded half to even from sums that are exact.
    """
    rates = {unit: _cell_rates(unit, sheets).fill_null(0) for unit in classes}
    numerators = [sheet.numerator for sheet in sheets]
    divisors = [PICOS_PER_NANO * sheet.denominator for sheet in sheets]
    bound = _largest_sum(frame, rates) * max(numerators)
    exact: type[pl.DataType] = pl.Int64 if 2 * max(bound, *divisors) < SAFE_INT64 else pl.Int128
    products = [
        pl.col(unit).cast(exact) * gather(series.cast(exact), "cell")
        for unit, series in rates.items()
    ]
    picos = reduce(add, products, pl.lit(0, dtype=exact)) * _per_cell(numerators, exact)
    # Each step is a column of its own: the engine would else work the sum out again for each use.
    summed = frame.with_columns(picos=picos, divisor=_per_cell(divisors, exact))
    quotient = pl.col("picos") // pl.col("divisor")
    doubled = (pl.col("picos") - pl.col("quotient") * pl.col("divisor")) * 2
    is_tie, is_odd = pl.col("doubled") == pl.col("divisor"), pl.col("quotient") % 2 == 1
    is_up = (pl.col("doubled") > pl.col("divisor")) | (is_tie & is_odd)
    divided = summed.with_columns(quotient=quotient).with_columns(doubled=doubled)
    nanos = pl.when(pl.col("is_priced")).then((pl.col("quotient") + is_up).cast(pl.Int64))
    return divided.with_columns(nanos.alias(name))


def _largest_sum(frame: pl.DataFrame, rates: dict[str, pl.Series]) -> int:
    """Give a figure that no sum of quantities times rates exceeds."""
    largest = _largest_quantities(frame, list(rates))
    return sum(largest[unit] * max(cell_rates) for unit, cell_rates in rates.items())


def _per_cell(values: Sequence[int], dtype: type[pl.DataType]) -> pl.Expr:
    if len(set(values)) == 1:
        return pl.lit(values[0], dtype=dtype)
    return gather(pl.Series(values, dtype=dtype), "cell")


def _outcomes(codes: pl.Series, cells: Sequence[Cell]) -> pl.DataFrame:
    """Give, for each code of cell and fault, what the charge says besides its amount."""
    rows = [_outcome(cells[code // CELL_SHIFT], code % CELL_SHIFT) for code in codes]
    return pl.DataFrame(
        {
            "code": codes,
            "price_ref": pl.Series([row[0] for row in rows], dtype=pl.String),
            "price_digest": pl.Series([row[1] for row in rows], dtype=pl.String),
            "is_priced": pl.Series([row[2] for row in rows], dtype=pl.Boolean),
            "basis": pl.Series([row[3] for row in rows], dtype=pl.String),
            "flags": pl.Series([list(row[4]) for row in rows], dtype=pl.List(pl.String)),
        }
    )


def _outcome(cell: Cell, fault: int) -> tuple[str | None, str | None, bool, str, tuple[str, ...]]:
    price_ref = cell.match.price.price_ref if cell.match else None
    digest = price_digest(cell.match, cell.commitment) if cell.match else None
    is_priced = cell.blocked is None and fault in (0, HARMLESS_FAULTS)
    basis = Basis.RATED if is_priced else Basis.UNPRICED
    faults = [name for name, bit in FAULT_BITS.items() if fault & bit and cell.blocked is None]
    return price_ref, digest, is_priced, basis.value, (*cell.flags, *faults)
