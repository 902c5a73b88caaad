"""Which price applies to each event of a table: the domain's schedules as flat arrays.

It owns the way from an event to its cell, one for each price that can apply. It refuses quantities
and amounts (``rating.py``). A schedule is asked for once for each distinct (provider, model, tier,
region, account, commitment) of the table, accounts as far as contracts name them. What is left for
each event is to count how many changes of price lie before it and how many thresholds below its
size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Final

import polars as pl

from tokenbudget.domain.commitments import COMMITMENT_PREFIX
from tokenbudget.domain.periods import from_micros, to_micros
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import CURRENCY_PREFIX
from tokenbudget.domain.schedules import (
    ANY_SIZE,
    Ladder,
    PriceMatch,
    Schedule,
    Spell,
    UnitRates,
)
from tokenbudget.domain.usage import UNITS

KEY_COLUMNS: Final = ("provider", "model", "service_tier", "region", "account", "commitment")
MICROS_PER_MINUTE: Final = 60_000_000
MICROS_PER_DAY: Final = 86_400_000_000
NO_RATES: Final = UnitRates({}, 1, 1)


@dataclass(frozen=True, slots=True)
class Cell:
    """One price that can apply: a match, or the reason why there is none (``blocked``).

    ``commitment`` is the id of the one that covers the usage.
    """

    match: PriceMatch | None
    blocked: str | None
    commitment: str | None

    @property
    def flags(self) -> tuple[str, ...]:
        """Give what a charge says of the price, the reason why there is none last."""
        flags = list(self.match.flags) if self.match else []
        if self.commitment is not None:
            flags.append(COMMITMENT_PREFIX + self.commitment)
        return tuple(flags) if self.blocked is None else (*flags, self.blocked)

    @property
    def published(self) -> UnitRates:
        """Give the published rates."""
        # A blocked cell is unpriced whatever was used; its rates must not add faults of their own.
        return NO_RATES if self.match is None or self.blocked else self.match.published

    @property
    def contracted(self) -> UnitRates:
        """Give the rates under contract."""
        return NO_RATES if self.match is None or self.blocked else self.match.contracted


@dataclass(slots=True)
class _Level:
    """One step of the way from key to price: a row leads to ``first`` plus its steps."""

    first: list[int] = field(default_factory=list)
    steps: list[list[int]] = field(default_factory=list)

    def reached(self, row: str, value: pl.Expr) -> pl.Expr:
        """Give the place that each event's row and value lead to."""
        place = gather(pl.Series(self.first, dtype=pl.UInt32), row)
        for number in range(max(map(len, self.steps))):
            bounds = [steps[number] if number < len(steps) else None for steps in self.steps]
            is_reached = value >= gather(pl.Series(bounds, dtype=pl.Int64), row)
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
    cells: list[Cell] = field(default_factory=list)

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
            self.cells.append(Cell(None, absence, commitment))
        self.cell_of_ladder.steps.append([size + 1 for size in sizes])
        self.cells.extend(self._cell(match, commitment) for _, match in ladder)

    def foreign_currency(self, cell: Cell) -> str | None:
        """Give the currency of a price that is not the ledger's."""
        currency = cell.match.currency if cell.match else self.currency
        return None if currency == self.currency else currency

    def add_converted(self, pairs: Iterable[tuple[int, date]], price_list: PriceList) -> None:
        """Append, for each foreign cell and day of a quote, the cell that the quote makes of it."""
        for number, day in pairs:
            cell = self.cells[number]
            if cell.match is not None:
                midnight = datetime.combine(day, time(), tzinfo=UTC)
                match = price_list.in_ledger_currency(cell.match, midnight)
                self.cells.append(self._cell(match, cell.commitment))

    def _cell(self, match: PriceMatch, commitment: str | None) -> Cell:
        is_rated = match.currency == self.currency
        return Cell(match, None if is_rated else CURRENCY_PREFIX + match.currency, commitment)


def place_events(frame: pl.DataFrame, price_list: PriceList) -> tuple[pl.DataFrame, list[Cell]]:
    """Give the units of each event with the number of its ``cell`` (UInt32), and the cells.

    The frame's order is kept.
    """
    keyed, layout = _with_keys(frame, price_list)
    placed = _with_conversions(_with_cells(keyed, layout), layout, price_list)
    return placed, layout.cells


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
    first = gather(pl.Series(layout.first_ladder, dtype=pl.UInt32), "spell")
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
    """Give the frame with a cell of its own for each quote that converts a foreign price."""
    foreign = [layout.foreign_currency(cell) for cell in layout.cells]
    if not any(foreign):
        return placed
    # A quote holds for whole UTC days, so each distinct day is asked about once.
    dated = placed.with_columns(
        currency=gather(pl.Series(foreign, dtype=pl.String), "cell"),
        day=pl.col("micros") // MICROS_PER_DAY,
    )
    days = dated.select("currency", "day").drop_nulls().unique()
    quoted_on = [
        price_list.quoted_on(currency, from_micros(day * MICROS_PER_DAY))
        for currency, day in days.iter_rows()
    ]
    quoted = dated.join(
        days.with_columns(quoted_on=pl.Series(quoted_on, dtype=pl.Date)),
        on=["currency", "day"],
        how="left",
        maintain_order="left",
    )
    pairs = quoted.select("cell", "quoted_on").drop_nulls().unique()
    first = len(layout.cells)
    layout.add_converted(pairs.iter_rows(), price_list)
    places = pairs.with_columns(converted=pl.int_range(first, first + pl.len(), dtype=pl.UInt32))
    joined = quoted.join(places, on=["cell", "quoted_on"], how="left", maintain_order="left")
    return joined.with_columns(cell=pl.coalesce("converted", "cell"))


def gather(values: pl.Series, places: str) -> pl.Expr:
    """Give the value at the place that each event's column holds."""
    return pl.lit(values).gather(pl.col(places))
