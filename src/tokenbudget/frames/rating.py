"""Whole tables rated at once: the vectorised twin of ``domain/rating.py``, equal to it to the nano.

It owns the layout of schedules as flat arrays and the arithmetic on columns. It refuses to decide
anything about prices: which row applies, what it flags and what its rates are comes from the
domain's schedules, one for each distinct (provider, model, tier, region) of the table. What is left
for each event is to count how many changes of price lie before it and how many thresholds below its
size, and then a few products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Final

import polars as pl

from tokenbudget.domain.money import PICOS_PER_NANO
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.domain.price_lists import ANY_SIZE, Ladder, PriceList, PriceMatch, Schedule, Spell
from tokenbudget.domain.rating import (
    CURRENCY_PREFIX,
    FREE_WITHOUT_RATE,
    INPUT_TOKENS_ABSENT,
    OVERLAPS,
    UNRATED_PREFIX,
    USAGE_INCONSISTENT,
    USAGE_UNKNOWN,
)
from tokenbudget.domain.usage import UNITS, Basis

KEY_COLUMNS: Final = ("provider", "model", "service_tier", "region")
REQUIRED_COLUMNS: Final = ("provider", "model", "occurred_at")
CHARGE_COLUMNS: Final[dict[str, pl.DataType]] = {
    "price_ref": pl.String(),
    "list_nanos": pl.Int64(),
    "contracted_nanos": pl.Int64(),
    "effective_nanos": pl.Int64(),
    "basis": pl.String(),
    "flags": pl.List(pl.String()),
}
MICROS_PER_MINUTE: Final = 60_000_000
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


@dataclass(frozen=True, slots=True)
class _Cell:
    """One price that can apply: a match, or the reason why there is none (``blocked``)."""

    match: PriceMatch | None
    blocked: str | None

    @property
    def flags(self) -> tuple[str, ...]:
        flags = self.match.flags if self.match else ()
        return flags if self.blocked is None else (*flags, self.blocked)


@dataclass(slots=True)
class _Level:
    """One step of the way from key to price: a row leads to ``first`` plus its steps."""

    first: list[int] = field(default_factory=list)
    steps: list[list[int]] = field(default_factory=list)

    def reached(self, row: str, value: pl.Expr) -> pl.Expr:
        """Give the place that each event's row and value lead to."""
        place = _gather(pl.Series(self.first, dtype=pl.UInt32), row)
        for number in range(max(map(len, self.steps))):
            bounds = [steps[number] if number < len(steps) else None for steps in self.steps]
            is_reached = value >= _gather(pl.Series(bounds, dtype=pl.Int64), row)
            place += is_reached.fill_null(value=False).cast(pl.UInt32)
        return place


@dataclass(slots=True)
class _Layout:
    """Schedules as flat arrays: key -> spell (time) -> ladder (daily hours) -> cell (size)."""

    currency: str
    spell_of_key: _Level = field(default_factory=_Level)
    first_ladder: list[int] = field(default_factory=list)
    spells: list[Spell] = field(default_factory=list)
    cell_of_ladder: _Level = field(default_factory=_Level)
    cells: list[_Cell] = field(default_factory=list)

    def add_schedule(self, schedule: Schedule) -> None:
        """Append the schedule as the next key."""
        self.spell_of_key.first.append(len(self.spells))
        self.spell_of_key.steps.append([to_micros(instant) for instant in schedule.instants])
        for spell in schedule.spells:
            self.spells.append(spell)
            self.first_ladder.append(len(self.cell_of_ladder.first))
            for ladder in spell.ladders:
                self._add_ladder(ladder, schedule.absence)

    def _add_ladder(self, ladder: Ladder, absence: str) -> None:
        self.cell_of_ladder.first.append(len(self.cells))
        sizes = [size for size, _ in ladder]
        if sizes[:1] == [ANY_SIZE]:
            sizes = sizes[1:]
        else:
            self.cells.append(_Cell(None, absence))
        self.cell_of_ladder.steps.append([size + 1 for size in sizes])
        self.cells.extend(self._cell(match) for _, match in ladder)

    def _cell(self, match: PriceMatch) -> _Cell:
        currency = match.price.currency
        return _Cell(match, None if currency == self.currency else CURRENCY_PREFIX + currency)


def rate_frame(events: pl.DataFrame | pl.LazyFrame, price_list: PriceList) -> pl.DataFrame:
    """Give the events, in their order, with the columns of their charges appended.

    Needs ``provider``, ``model`` (String) and ``occurred_at`` (Datetime in UTC). Optional are
    ``service_tier``, ``region`` and an integer column for each unit, where null is absent.
    CHARGE_COLUMNS are appended; amounts that are null are unpriced.
    Raises ValueError for a missing column and for times that are not in UTC.
    """
    frame = events.collect() if isinstance(events, pl.LazyFrame) else events
    _require_columns(frame)
    if frame.is_empty():
        return frame.with_columns(**_empty_charges())
    keyed, layout = _with_keys(frame, price_list)
    placed = _with_cells(keyed, layout)
    classes, working = _with_classes(placed)
    charged = _with_charges(working, classes, layout)
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


def _with_keys(frame: pl.DataFrame, price_list: PriceList) -> tuple[pl.DataFrame, _Layout]:
    """Give what rating needs, with ``key`` (UInt32), and the layout of the keys' schedules."""
    units = [unit for unit in UNITS if unit in frame.columns]
    names = [name for name in KEY_COLUMNS if name in frame.columns and not _is_blank(frame[name])]
    needed = frame.select(
        *(pl.col(name).cast(pl.String).fill_null("") for name in names),
        pl.col("occurred_at").dt.timestamp("us").alias("micros"),
        *(pl.col(unit).cast(pl.Int64) for unit in units),
    )
    keys = needed.select(names).unique().with_row_index("key")
    layout = _Layout(price_list.currency)
    for row in keys.iter_rows(named=True):
        layout.add_schedule(
            price_list.schedule(
                row.get("provider", ""),
                row.get("model", ""),
                row.get("service_tier"),
                row.get("region"),
            )
        )
    keyed = needed.join(keys, on=names, how="left", maintain_order="left")
    return keyed.drop(names), layout


def _is_blank(column: pl.Series) -> bool:
    return column.null_count() == column.len()


def _with_cells(keyed: pl.DataFrame, layout: _Layout) -> pl.DataFrame:
    """Give the frame with ``cell`` (UInt32): which price applies to each event."""
    spelled = keyed.with_columns(spell=layout.spell_of_key.reached("key", pl.col("micros")))
    laddered = _with_ladders(spelled, layout)
    total_input = (
        pl.col("input_tokens").fill_null(0) if "input_tokens" in keyed.columns else pl.lit(0)
    )
    return laddered.with_columns(cell=layout.cell_of_ladder.reached("ladder", total_input))


def _with_ladders(spelled: pl.DataFrame, layout: _Layout) -> pl.DataFrame:
    first = _gather(pl.Series(layout.first_ladder, dtype=pl.UInt32), "spell")
    clocked = [number for number, spell in enumerate(layout.spells) if spell.clocks]
    if not clocked:
        return spelled.with_columns(ladder=first)
    # Daily hours change on whole minutes, so each distinct minute is asked about once.
    minute = pl.col("micros") // MICROS_PER_MINUTE
    timed = spelled.with_columns(minute=pl.when(pl.col("spell").is_in(clocked)).then(minute))
    minutes = timed.select("spell", "minute").drop_nulls().unique()
    numbers = [
        layout.spells[spell].ladder_number(from_micros(minute * MICROS_PER_MINUTE))
        for spell, minute in minutes.iter_rows()
    ]
    offsets = minutes.with_columns(offset=pl.Series(numbers, dtype=pl.UInt32))
    joined = timed.join(offsets, on=["spell", "minute"], how="left", maintain_order="left")
    return joined.with_columns(ladder=first + pl.col("offset").fill_null(0))


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


def _with_charges(working: pl.DataFrame, classes: Sequence[str], layout: _Layout) -> pl.DataFrame:
    rates = {unit: _cell_rates(unit, layout.cells) for unit in classes}
    unrated = [
        pl.when((pl.col(unit) > 0) & _gather(series, "cell").is_null())
        .then(FAULT_BITS[UNRATED_PREFIX + unit])
        .otherwise(0)
        for unit, series in rates.items()
        if series.null_count() and unit not in FREE_WITHOUT_RATE
    ]
    missing = reduce(add, unrated, pl.lit(0, dtype=pl.Int64))
    is_sound = pl.col("fault").is_in((0, HARMLESS_FAULTS))
    faulted = working.with_columns(
        fault=pl.when(is_sound & (missing > 0)).then(missing).otherwise(pl.col("fault"))
    )
    coded = faulted.with_columns(code=pl.col("cell").cast(pl.Int64) * CELL_SHIFT + pl.col("fault"))
    outcomes = _outcomes(coded["code"].unique(), layout)
    joined = coded.join(outcomes, on="code", how="left", maintain_order="left")
    nanos = pl.when(pl.col("is_priced")).then(pl.col("nanos"))
    return _with_nanos(joined, rates, layout).with_columns(
        list_nanos=nanos, contracted_nanos=nanos, effective_nanos=nanos
    )


def _cell_rates(unit: str, cells: Sequence[_Cell]) -> pl.Series:
    # A blocked cell is unpriced whatever was used, so its rates must not add faults of their own.
    found = [
        cell.match.price.unit_rates.get(unit) if cell.match and not cell.blocked else 0
        for cell in cells
    ]
    return pl.Series(found, dtype=pl.Int64)


def _with_nanos(frame: pl.DataFrame, rates: dict[str, pl.Series], layout: _Layout) -> pl.DataFrame:
    """Give the frame with ``nanos`` (Int64), rounded half to even from sums that are exact."""
    matches = [cell.match for cell in layout.cells]
    numerators = [match.numerator if match else 1 for match in matches]
    divisors = [PICOS_PER_NANO * (match.denominator if match else 1) for match in matches]
    bound = _largest_sum(frame, rates) * max(numerators)
    exact: type[pl.DataType] = pl.Int64 if 2 * max(bound, *divisors) < SAFE_INT64 else pl.Int128
    products = [
        pl.col(unit).cast(exact) * _gather(series.fill_null(0).cast(exact), "cell")
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
    return divided.with_columns(nanos=(pl.col("quotient") + is_up).cast(pl.Int64))


def _largest_sum(frame: pl.DataFrame, rates: dict[str, pl.Series]) -> int:
    """Give a figure that no sum of quantities times rates exceeds."""
    largest = _largest_quantities(frame, list(rates))
    return sum(
        largest[unit] * max(rate or 0 for rate in cell_rates) for unit, cell_rates in rates.items()
    )


def _per_cell(values: Sequence[int], dtype: type[pl.DataType]) -> pl.Expr:
    if len(set(values)) == 1:
        return pl.lit(values[0], dtype=dtype)
    return _gather(pl.Series(values, dtype=dtype), "cell")


def _outcomes(codes: pl.Series, layout: _Layout) -> pl.DataFrame:
    """Give, for each code of cell and fault, what the charge says besides its amount."""
    rows = [_outcome(layout.cells[code // CELL_SHIFT], code % CELL_SHIFT) for code in codes]
    return pl.DataFrame(
        {
            "code": codes,
            "price_ref": pl.Series([row[0] for row in rows], dtype=pl.String),
            "is_priced": pl.Series([row[1] for row in rows], dtype=pl.Boolean),
            "basis": pl.Series([row[2] for row in rows], dtype=pl.String),
            "flags": pl.Series([list(row[3]) for row in rows], dtype=pl.List(pl.String)),
        }
    )


def _outcome(cell: _Cell, fault: int) -> tuple[str | None, bool, str, tuple[str, ...]]:
    price_ref = cell.match.price.price_ref if cell.match else None
    is_priced = cell.blocked is None and fault in (0, HARMLESS_FAULTS)
    basis = Basis.RATED if is_priced else Basis.UNPRICED
    faults = [name for name, bit in FAULT_BITS.items() if fault & bit and cell.blocked is None]
    return price_ref, is_priced, basis.value, (*cell.flags, *faults)


def _gather(values: pl.Series, places: str) -> pl.Expr:
    return pl.lit(values).gather(pl.col(places))
