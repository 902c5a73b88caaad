"""Whole tables rated at once: the vectorised twin of ``domain/rating.py``, equal to it to the nano.

It owns the arithmetic on columns. It refuses to decide anything about prices: which row applies,
what it flags and what its rates are comes from the domain's schedules (``price_cells.py``).
Whatever is the same for many events is found out once for each distinct case and then gathered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import reduce
from math import lcm
from operator import add, mul
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
from tokenbudget.frames.numbering import find_extremes, number_rows
from tokenbudget.frames.price_cells import NO_RATES, Cell, gather, holds, place_events

REQUIRED_COLUMNS: Final = ("provider", "model", "occurred_at")
CHARGE_COLUMNS: Final[dict[str, pl.DataType]] = {
    "price_ref": pl.Categorical(),
    "price_digest": pl.Categorical(),
    "list_nanos": pl.Int64(),
    "contracted_nanos": pl.Int64(),
    "effective_nanos": pl.Int64(),
    "basis": pl.Enum([basis.value for basis in Basis]),
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


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a charge says besides its amounts, by the names of its columns."""

    price_ref: str | None
    price_digest: str | None
    basis: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Tariff:
    """What units cost in each cell: the sum of quantity x rate, over the divisor, is in nanos.

    Rates are those of quantities as they are told: that of a part is what it adds to its total.
    ``exact`` is the type that holds everything on the way.
    """

    rates: Mapping[str, Sequence[int]]
    divisors: Sequence[int]
    exact: type[pl.DataType]

    def with_rates(self, told: pl.DataFrame, name: str) -> pl.DataFrame:
        """Give the frame with a column of rates for each unit, told apart by the name."""
        columns = [
            pl.Series(f"{name}.{unit}", rates, dtype=self.exact)
            for unit, rates in self.rates.items()
        ]
        # Frames gather in a third of the time that expressions take.
        return told.hstack(pl.DataFrame(columns)[told["cell"]]) if columns else told

    def picos(self, name: str) -> pl.Expr:
        """Give the exact sum of the units times the rates of that name."""
        products = [
            pl.col(unit).fill_null(0).cast(self.exact) * pl.col(f"{name}.{unit}")
            for unit in self.rates
        ]
        return reduce(add, products) if products else pl.lit(0, dtype=self.exact)

    def with_nanos(self, told: pl.LazyFrame, name: str) -> pl.LazyFrame:
        """Give the frame with the sum divided, rounded half to even, where the basis is rated."""
        # Divisors are even. Raised by half a divisor, exact halves become multiples of it. The odd
        # ones, which leave one divisor of a pair, must end below: one less takes them there.
        divisor, pair, half = (
            _per_cell([divisor * by // 2 for divisor in self.divisors], self.exact)
            for by in (2, 4, 1)
        )
        # The sum is a column of its own: the engine would else work it out again for each use.
        raised = pl.col("raised")
        is_half = (raised % pair == divisor).cast(self.exact)
        nanos = ((raised - is_half) // divisor).cast(pl.Int64)
        is_priced = pl.col("basis") == Basis.RATED.value
        return told.with_columns(raised=self.picos(name) + half).with_columns(
            pl.when(is_priced).then(nanos).alias(name)
        )

    def bound(self, largest: Mapping[str, int]) -> int:
        """Give what nothing on the way exceeds, by the largest quantity of each unit."""
        sums = (largest[unit] * max(map(abs, rates)) for unit, rates in self.rates.items())
        return sum(sums) + 2 * max(self.divisors)


def rate_frame(events: pl.DataFrame | pl.LazyFrame, price_list: PriceList) -> pl.DataFrame:
    """Give the events, in their order, with the columns of their charges appended.

    Needs ``provider``, ``model`` and ``occurred_at`` (Datetime in UTC). Optional are
    ``service_tier``, ``region``, ``account``, ``commitment`` and an integer column for each unit,
    where null is absent. Texts are String, Categorical or Enum; the last two are faster.
    CHARGE_COLUMNS are appended, what few prices say as categories; null amounts are unpriced.
    Raises ValueError for a missing column and for times that are not in UTC.
    """
    frame = events.collect() if isinstance(events, pl.LazyFrame) else events
    _require_columns(frame)
    if frame.is_empty():
        return frame.with_columns(**_empty_charges())
    reported = [unit for unit in UNITS if unit in frame.columns]
    measured = frame.select(
        *(pl.col(unit).cast(pl.Int64) for unit in reported),
        micros=pl.col("occurred_at").dt.timestamp("us"),
    )
    extremes = find_extremes(measured)
    placed, cells = place_events(frame, measured, extremes, price_list)
    ranges = {unit: extremes[unit] for unit in reported if any(extremes[unit])}
    told, outcomes = _with_outcomes(placed, measured.select(reported), ranges, cells)
    largest = {unit: most for unit, (_, most) in ranges.items() if most > 0}
    return frame.hstack(_charges(told, largest, outcomes, cells))


def _require_columns(frame: pl.DataFrame) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"events to rate need a column {missing[0]}")
    dtype = frame.schema["occurred_at"]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone != "UTC":
        raise ValueError(f"occurred_at must be Datetime in UTC and is {dtype}")


def _empty_charges() -> dict[str, pl.Series]:
    return {name: pl.Series(name, [], dtype=dtype) for name, dtype in CHARGE_COLUMNS.items()}


def _with_outcomes(
    placed: pl.LazyFrame,
    units: pl.DataFrame,
    ranges: Mapping[str, tuple[int, int]],
    cells: Sequence[Cell],
) -> tuple[pl.DataFrame, list[_Outcome]]:
    """Give the frame with the ``outcome`` of each row, and the outcomes; first are those of cells.

    ``ranges`` are the least and the largest quantity of each unit that any row has something of.
    Few rows have another outcome than that of their cell. They alone are asked for their faults.
    """
    terms = _terms(ranges)
    classes = {unit: reduce(add, parts) for unit, parts in terms.items()}
    # A class of one quantity has something in it, or too little, only where that is told anywhere.
    is_mixed = {unit: len(parts) > 1 or unit not in ranges for unit, parts in terms.items()}
    used = {unit for unit in classes if is_mixed[unit] or ranges[unit][1] > 0}
    negative = [unit for unit in classes if is_mixed[unit] or ranges[unit][0] < 0]
    lacking = [_lacking(cell, used) for cell in cells]
    doubts = [classes[unit] < 0 for unit in negative]
    doubts.append(holds(list(map(bool, lacking)), "cell"))
    if "input_tokens" not in units.columns or units["input_tokens"].null_count():
        doubts += [_is_unknown(units.columns), _lacks_input(units.columns)]
    told = placed.with_columns(is_doubtful=pl.any_horizontal(doubts)).collect()
    fault = _fault(units.columns, classes, _missing_rates(classes, lacking))
    doubtful = told.lazy().with_row_index("row").filter("is_doubtful")
    faults = doubtful.select("row", "cell", fault=fault).collect()
    outcomes = [_outcome(cell, 0) for cell in cells]
    if faults.is_empty():
        return told.with_columns(outcome="cell"), outcomes
    numbers, distinct = number_rows(faults.select("cell", "fault"))
    outcomes.extend(_outcome(cells[cell], fault) for cell, fault in distinct.iter_rows())
    outcome = told["cell"].scatter(faults["row"], numbers + len(cells))
    return told.with_columns(outcome.alias("outcome")), outcomes


def _terms(units: Iterable[str]) -> dict[str, list[pl.Expr]]:
    """Give what adds up to each class that anything is told of, every token in one class only."""
    terms = {unit: [pl.col(unit).fill_null(0)] for unit in units}
    for part in units:
        for total, sign in OVERLAPS.get(part, ()):
            terms.setdefault(total, []).append(sign * pl.col(part).fill_null(0))
    return terms


def _is_unknown(reported: Sequence[str]) -> pl.Expr:
    return pl.all_horizontal([pl.col(unit).is_null() for unit in reported] or [pl.lit(True)])


def _lacks_input(reported: Sequence[str]) -> pl.Expr:
    if "output_tokens" not in reported:
        return pl.lit(False)
    has_output = pl.col("output_tokens").fill_null(0) != 0
    return (
        has_output & pl.col("input_tokens").is_null() if "input_tokens" in reported else has_output
    )


def _lacking(cell: Cell, used: Set[str]) -> Set[str]:
    """Give the units whose use cannot be priced for want of a rate."""
    sheet = cell.published
    return set() if sheet is NO_RATES else used - sheet.rates.keys() - FREE_WITHOUT_RATE


def _missing_rates(classes: Mapping[str, pl.Expr], lacking: Sequence[Set[str]]) -> pl.Expr:
    """Give the bits of the faults of units that were used and have no rate."""
    faults = [pl.lit(0, dtype=pl.Int64)]
    for unit in sorted(set().union(*lacking)):
        is_unrated = (classes[unit] > 0) & holds([unit in units for units in lacking], "cell")
        bit = FAULT_BITS[UNRATED_PREFIX + unit]
        faults.append(pl.when(is_unrated).then(bit).otherwise(0))
    return reduce(add, faults)


def _fault(reported: Sequence[str], classes: Mapping[str, pl.Expr], missing: pl.Expr) -> pl.Expr:
    """Give the bits of FAULTS (Int64); those of missing rates only where nothing else is wrong."""
    is_negative = pl.any_horizontal([pl.lit(False), *(value < 0 for value in classes.values())])
    return (
        pl.when(_is_unknown(reported))
        .then(FAULT_BITS[USAGE_UNKNOWN])
        .when(is_negative)
        .then(FAULT_BITS[USAGE_INCONSISTENT])
        .when(missing > 0)
        .then(missing)
        .when(_lacks_input(reported))
        .then(FAULT_BITS[INPUT_TOKENS_ABSENT])
        .otherwise(0)
        .cast(pl.Int64)
    )


def _outcome(cell: Cell, fault: int) -> _Outcome:
    is_priced = cell.blocked is None and fault in (0, HARMLESS_FAULTS)
    faults = [name for name, bit in FAULT_BITS.items() if fault & bit] if fault else []
    return _Outcome(
        price_ref=cell.match.price.price_ref if cell.match else None,
        price_digest=price_digest(cell.match, cell.commitment) if cell.match else None,
        basis=(Basis.RATED if is_priced else Basis.UNPRICED).value,
        flags=cell.flags if cell.blocked else (*cell.flags, *faults),
    )


def _charges(
    told: pl.DataFrame,
    largest: Mapping[str, int],
    outcomes: Sequence[_Outcome],
    cells: Sequence[Cell],
) -> pl.DataFrame:
    """Give CHARGE_COLUMNS of usage with its ``cell`` and ``outcome``.

    ``largest`` is the largest quantity of each unit that was used.
    """
    said = {name: _said(name, outcomes) for name in ("price_ref", "price_digest", "basis")}
    rated = _with_nanos(told.hstack(pl.DataFrame(said)[told["outcome"]]), largest, cells)
    effective = pl.col("contracted_nanos")
    if any(cell.commitment is not None for cell in cells):
        is_covered = holds([cell.commitment is not None for cell in cells], "cell")
        is_free = is_covered & effective.is_not_null()
        effective = pl.when(is_free).then(0).otherwise(effective)
    # Lists take long to gather: that is left to the query, which all cores work on.
    flags = gather(_said("flags", outcomes), "outcome")
    charges = rated.with_columns(effective_nanos=effective, flags=flags)
    return charges.select(CHARGE_COLUMNS.keys()).collect()


def _said(name: str, outcomes: Sequence[_Outcome]) -> pl.Series:
    """Give what the outcomes say under that name."""
    # Few of them differ, and one by one lists take long to turn into a column.
    places: dict[object, int] = {}
    numbers = [places.setdefault(getattr(said, name), len(places)) for said in outcomes]
    values = [list(value) if isinstance(value, tuple) else value for value in places]
    return pl.Series(values, dtype=CHARGE_COLUMNS[name]).gather(numbers)


def _with_nanos(
    told: pl.DataFrame, largest: Mapping[str, int], cells: Sequence[Cell]
) -> pl.LazyFrame:
    """Give the frame with list and contracted nanos (Int64), null where the usage is unpriced."""
    published = [cell.published for cell in cells]
    contracted = [cell.contracted for cell in cells]
    tariffs = {"list_nanos": _tariff(largest, published)}
    if contracted != published:
        tariffs["contracted_nanos"] = _tariff(largest, contracted)
    for name, tariff in tariffs.items():
        told = tariff.with_rates(told, name)
    rated = told.lazy()
    for name, tariff in tariffs.items():
        rated = tariff.with_nanos(rated, name)
    if contracted == published:
        rated = rated.with_columns(contracted_nanos="list_nanos")
    return rated


def _tariff(largest: Mapping[str, int], sheets: Sequence[UnitRates]) -> _Tariff:
    """Give what all cells cost by their sheets, in the smallest type that is sure to hold it."""
    rates = {
        unit: [_net_rate(unit, sheet.rates) * sheet.numerator for sheet in sheets]
        for unit in largest
    }
    divisors = [PICOS_PER_NANO * sheet.denominator for sheet in sheets]
    # One divisor for all is faster, where it does not make the figures too large.
    common = lcm(*set(divisors))
    if common < SAFE_INT64:
        scales = [common // divisor for divisor in divisors]
        scaled = {unit: list(map(mul, row, scales)) for unit, row in rates.items()}
        alike = _Tariff(scaled, [common] * len(sheets), pl.Int64)
        if alike.bound(largest) < SAFE_INT64:
            return alike
    own = _Tariff(rates, divisors, pl.Int64)
    return own if own.bound(largest) < SAFE_INT64 else replace(own, exact=pl.Int128)


def _net_rate(unit: str, rates: Mapping[str, int]) -> int:
    parts = (sign * rates.get(total, 0) for total, sign in OVERLAPS.get(unit, ()))
    return rates.get(unit, 0) + sum(parts)


def _per_cell(values: Sequence[int], dtype: type[pl.DataType]) -> pl.Expr:
    if len(set(values)) == 1:
        return pl.lit(values[0], dtype=dtype)
    return gather(pl.Series(values, dtype=dtype), "cell")
