"""Whole tables rated at once: the vectorised twin of ``domain/rating.py``, equal to it to the nano.

It owns the layout of schedules as flat arrays and the arithmetic on columns. It refuses to decide
anything about prices: which row applies, what it flags and what its rates are comes from the
domain's schedules, one for each distinct (provider, model, tier, region, account, commitment) of
the table, accounts as far as contracts name them. What is left for each event is to count how many
changes of price lie before it and how many thresholds below its size, and then a few products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Final

import polars as pl

from tokenbudget.domain.commitments import COMMITMENT_PREFIX
from tokenbudget.domain.money import PICOS_PER_NANO
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import (
    CURRENCY_PREFIX,
    FREE_WITHOUT_RATE,
    INPUT_TOKENS_ABSENT,
    OVERLAPS,
    UNRATED_PREFIX,
    USAGE_INCONSISTENT,
    USAGE_UNKNOWN,
    price_digest,
)
from tokenbudget.domain.schedules import (
    ANY_SIZE,
    Ladder,
    PriceMatch,
    Schedule,
    Spell,
    UnitRates,
)
from tokenbudget.domain.usage import UNITS, Basis

KEY_COLUMNS: Final = ("provider", "model", "service_tier", "region", "account", "commitment")
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
MICROS_PER_MINUTE: Final = 60_000_000
MICROS_PER_DAY: Final = 86_400_000_000
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
NO_RATES: Final = UnitRates({}, 1, 1)


@dataclass(frozen=True, slots=True)
class _Cell:
    """One price that can apply: a match, or the reason why there is none (``blocked``).

    ``commitment`` is the id of the one that covers the usage.
    """

    match: PriceMatch | None
    blocked: str | None
    commitment: str | None

    @property
    def flags(self) -> tuple[str, ...]:
        flags = list(self.match.flags) if self.match else []
        if self.commitment is not None:
            flags.append(COMMITMENT_PREFIX + self.commitment)
        return tuple(flags) if self.blocked is None else (*flags, self.blocked)

    @property
    def published(self) -> UnitRates:
        # A blocked cell is unpriced whatever was used; its rates must not add faults of their own.
        return NO_RATES if self.match is None or self.blocked else self.match.published

    @property
    def contracted(self) -> UnitRates:
        return NO_RATES if self.match is None or self.blocked else self.match.contracted


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

    def add_schedule(self, schedule: Schedule, commitment: str | None) -> None:
        """Append the schedule as the next key, of usage that the commitment covers."""
        self.spell_of_key.first.append(len(self.spells))
        self.spell_of_key.steps.append([to_micros(instant) for instant in schedule.instants])
        for spell in schedule.spells:
            self.spells.append(spell)
            self.first_ladder.append(len(self.cell_of_ladder.first))
            for ladder in spell.ladders:
                self._add_ladder(ladder, schedule.absence, commitment)

    def _add_ladder(self, ladder: Ladder, absence: str, commitment: str | None) -> None:
        self.cell_of_ladder.first.append(len(self.cells))
        sizes = [size for size, _ in ladder]
        if sizes[:1] == [ANY_SIZE]:
            sizes = sizes[1:]
        else:
            self.cells.append(_Cell(None, absence, commitment))
        self.cell_of_ladder.steps.append([size + 1 for size in sizes])
        self.cells.extend(self.cell(match, commitment) for _, match in ladder)

    def cell(self, match: PriceMatch, commitment: str | None) -> _Cell:
        """Give the cell of a match, blocked when it is not in the ledger currency."""
        is_rated = match.currency == self.currency
        return _Cell(match, None if is_rated else CURRENCY_PREFIX + match.currency, commitment)


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
    keyed, layout = _with_keys(frame, price_list)
    placed = _with_conversions(_with_cells(keyed, layout), layout, price_list)
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
    frame = _with_contract_accounts(frame, price_list)
    names = [name for name in KEY_COLUMNS if name in frame.columns and not _is_blank(frame[name])]
    needed = frame.select(
        *(pl.col(name).cast(pl.String).fill_null("") for name in names),
        pl.col("occurred_at").dt.timestamp("us").alias("micros"),
        *(pl.col(unit).cast(pl.Int64) for unit in units),
    )
    keys = needed.select(names).unique().with_row_index("key")
    layout = _Layout(price_list.currency)
    for row in keys.iter_rows(named=True):
        schedule = price_list.schedule(
            row.get("provider", ""),
            row.get("model", ""),
            row.get("service_tier"),
            row.get("region"),
            row.get("account"),
        )
        layout.add_schedule(schedule, row.get("commitment") or None)
    keyed = needed.join(keys, on=names, how="left", maintain_order="left")
    return keyed.drop(names), layout


def _with_contract_accounts(frame: pl.DataFrame, price_list: PriceList) -> pl.DataFrame:
    """Give the frame with only those accounts that contracts name: others change no price."""
    if "account" not in frame.columns:
        return frame
    account = pl.col("account").cast(pl.String)
    named = account.is_in(sorted(price_list.contract_accounts))
    return frame.with_columns(account=pl.when(named).then(account))


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


def _with_conversions(placed: pl.DataFrame, layout: _Layout, price_list: PriceList) -> pl.DataFrame:
    """Give the frame with cells of their own for what the quote of a day converts."""
    foreign = [
        number
        for number, cell in enumerate(layout.cells)
        if cell.match and cell.match.currency != layout.currency
    ]
    if not foreign:
        return placed
    # A quote holds for whole UTC days, so each distinct day is asked about once.
    day = pl.col("micros") // MICROS_PER_DAY
    dated = placed.with_columns(day=pl.when(pl.col("cell").is_in(foreign)).then(day))
    days = dated.select("cell", "day").drop_nulls().unique()
    converted = []
    for number, of_day in days.iter_rows():
        cell = layout.cells[number]
        if cell.match is not None:
            match = price_list.in_ledger_currency(cell.match, from_micros(of_day * MICROS_PER_DAY))
            converted.append(len(layout.cells))
            layout.cells.append(layout.cell(match, cell.commitment))
    places = days.with_columns(converted=pl.Series(converted, dtype=pl.UInt32))
    joined = dated.join(places, on=["cell", "day"], how="left", maintain_order="left")
    return joined.with_columns(cell=pl.coalesce("converted", "cell"))


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
    published = [cell.published for cell in layout.cells]
    contracted = [cell.contracted for cell in layout.cells]
    missing = _missing_rates(classes, published)
    is_sound = pl.col("fault").is_in((0, HARMLESS_FAULTS))
    faulted = working.with_columns(
        fault=pl.when(is_sound & (missing > 0)).then(missing).otherwise(pl.col("fault"))
    )
    coded = faulted.with_columns(code=pl.col("cell").cast(pl.Int64) * CELL_SHIFT + pl.col("fault"))
    outcomes = _outcomes(coded["code"].unique(), layout)
    joined = coded.join(outcomes, on="code", how="left", maintain_order="left")
    rated = _with_nanos(joined, "list_nanos", classes, published)
    if contracted == published:
        rated = rated.with_columns(contracted_nanos="list_nanos")
    else:
        rated = _with_nanos(rated, "contracted_nanos", classes, contracted)
    return rated.with_columns(effective_nanos=_effective_nanos(layout.cells))


def _missing_rates(classes: Sequence[str], published: Sequence[UnitRates]) -> pl.Expr:
    """Give the bits of the faults of units that were used and have no rate."""
    faults = [pl.lit(0, dtype=pl.Int64)]
    for unit in classes:
        rates = _cell_rates(unit, published)
        if rates.null_count() and unit not in FREE_WITHOUT_RATE:
            is_unrated = (pl.col(unit) > 0) & _gather(rates, "cell").is_null()
            bit = FAULT_BITS[UNRATED_PREFIX + unit]
            faults.append(pl.when(is_unrated).then(bit).otherwise(0))
    return reduce(add, faults)


def _cell_rates(unit: str, sheets: Sequence[UnitRates]) -> pl.Series:
    found = [0 if sheet is NO_RATES else sheet.rates.get(unit) for sheet in sheets]
    return pl.Series(found, dtype=pl.Int64)


def _effective_nanos(cells: Sequence[_Cell]) -> pl.Expr:
    covered = [cell.commitment is not None for cell in cells]
    contracted = pl.col("contracted_nanos")
    if not any(covered):
        return contracted
    is_covered = _gather(pl.Series(covered), "cell") & contracted.is_not_null()
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
        pl.col(unit).cast(exact) * _gather(series.cast(exact), "cell")
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
    return _gather(pl.Series(values, dtype=dtype), "cell")


def _outcomes(codes: pl.Series, layout: _Layout) -> pl.DataFrame:
    """Give, for each code of cell and fault, what the charge says besides its amount."""
    rows = [_outcome(layout.cells[code // CELL_SHIFT], code % CELL_SHIFT) for code in codes]
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


def _outcome(cell: _Cell, fault: int) -> tuple[str | None, str | None, bool, str, tuple[str, ...]]:
    price_ref = cell.match.price.price_ref if cell.match else None
    digest = price_digest(cell.match, cell.commitment) if cell.match else None
    is_priced = cell.blocked is None and fault in (0, HARMLESS_FAULTS)
    basis = Basis.RATED if is_priced else Basis.UNPRICED
    faults = [name for name, bit in FAULT_BITS.items() if fault & bit and cell.blocked is None]
    return price_ref, digest, is_priced, basis.value, (*cell.flags, *faults)


def _gather(values: pl.Series, places: str) -> pl.Expr:
    return pl.lit(values).gather(pl.col(places))
