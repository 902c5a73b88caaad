"""Which price applies to each event of a table: the domain's schedules as flat arrays.

It owns the way from an event to its cell, one for each price that can apply. It refuses quantities
and amounts (``rating.py``). A schedule is asked for once for each distinct (provider, model, tier,
region, account, commitment) of the table, accounts as far as contracts name them. What is left for
each event is to count how many changes of price lie before it and how many thresholds below its
size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from operator import add
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
from tokenbudget.frames.numbering import number_rows

KEY_COLUMNS: Final = ("provider", "model", "service_tier", "region", "account", "commitment")
MICROS_PER_MINUTE: Final = 60_000_000
MICROS_PER_DAY: Final = 86_400_000_000
NO_RATES: Final = UnitRates({}, 1, 1)
NEVER: Final = 2**63 - 1
ONE_STEP: Final = pl.lit(1, dtype=pl.UInt32)
NO_STEP: Final = pl.lit(0, dtype=pl.UInt32)


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

    def reached(self, row: str, value: str, extremes: tuple[int, int]) -> pl.Expr:
        """Give the place that each event's row and value lead to, by the names of their columns.

        ``extremes`` are the least and the largest value.
        """
        least, most = extremes
        # Steps that every value has passed or that none reaches need no look at each value.
        passed = [bisect_right(steps, least) for steps in self.steps]
        ahead = [
            steps[count : bisect_right(steps, most)]
            for steps, count in zip(self.steps, passed, strict=True)
        ]
        first = pl.Series(map(add, self.first, passed), dtype=pl.UInt32)
        place = gather(first, row)
        for number in range(max(map(len, ahead))):
            bounds = [steps[number] if number < len(steps) else NEVER for steps in ahead]
            is_reached = pl.col(value) >= gather(pl.Series(bounds, dtype=pl.Int64), row)
            place += pl.when(is_reached).then(ONE_STEP).otherwise(NO_STEP)
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

    def ladder_at(self, spell: int, minute: int | None) -> int:
        """Give the ladder that is in force at a minute since 1970, the first without a minute."""
        first = self.first_ladder[spell]
        if minute is None:
            return first
        return first + self.spells[spell].ladder_number(from_micros(minute * MICROS_PER_MINUTE))

    def cell_on(self, number: int, quoted_on: date | None, price_list: PriceList) -> int:
        """Give the cell that a day's quote makes of the one of that number; itself without one."""
        cell = self.cells[number]
        if quoted_on is None or cell.match is None:
            return number
        midnight = datetime.combine(quoted_on, time(), tzinfo=UTC)
        match = price_list.in_ledger_currency(cell.match, midnight)
        self.cells.append(self._cell(match, cell.commitment))
        return len(self.cells) - 1

    def _cell(self, match: PriceMatch, commitment: str | None) -> Cell:
        is_rated = match.currency == self.currency
        return Cell(match, None if is_rated else CURRENCY_PREFIX + match.currency, commitment)


def place_events(
    events: pl.DataFrame,
    measured: pl.DataFrame,
    extremes: Mapping[str, tuple[int, int]],
    price_list: PriceList,
) -> tuple[pl.LazyFrame, list[Cell]]:
    """Give ``measured`` with the number of each event's ``cell`` (UInt32), and the cells.

    ``measured`` are the events' units and ``micros`` since 1970 (Int64), in their order, and
    ``extremes`` the least and the largest value of each.
    """
    keys, layout = _number_keys(events, price_list)
    # Without input an event is as small as can be.
    has_input = "input_tokens" in measured.columns
    size = pl.col("input_tokens").fill_null(0) if has_input else pl.lit(0, dtype=pl.Int64)
    sizes = [0, *(limit or 0 for limit in extremes.get("input_tokens", ()))]
    keyed = measured.lazy().with_columns(keys.alias("key"), size.alias("size"))
    spell = layout.spell_of_key.reached("key", "micros", extremes["micros"])
    laddered = _with_ladders(keyed.with_columns(spell=spell), layout)
    cell = layout.cell_of_ladder.reached("ladder", "size", (min(sizes), max(sizes)))
    placed = _with_conversions(laddered.with_columns(cell=cell), layout, price_list)
    return placed.select(*measured.columns, "cell"), layout.cells


def _number_keys(events: pl.DataFrame, price_list: PriceList) -> tuple[pl.Series, _Layout]:
    """Give the number of each event's key (UInt32) and the layout of the keys' schedules."""
    named = _with_contract_accounts(events, price_list)
    texts = [name for name in KEY_COLUMNS if name in named.columns and not _is_blank(named[name])]
    numbers, keys = pl.zeros(events.height, dtype=pl.UInt32, eager=True), [dict[str, str]()]
    if texts:
        numbers, distinct = number_rows(named.select(texts))
        keys = distinct.cast(pl.String).rows(named=True)
    layout = _Layout(price_list.currency)
    for key in keys:
        schedule = price_list.schedule(
            key.get("provider") or "",
            key.get("model") or "",
            key.get("service_tier"),
            key.get("region"),
            key.get("account"),
        )
        layout.add_schedule(schedule, key.get("commitment") or None)
    return numbers, layout


def _with_contract_accounts(events: pl.DataFrame, price_list: PriceList) -> pl.DataFrame:
    """Give the events with only those accounts that contracts name: others change no price."""
    if "account" not in events.columns:
        return events
    account = pl.col("account").cast(pl.String)
    is_named = account.is_in(sorted(price_list.contract_accounts))
    return events.with_columns(account=pl.when(is_named).then(account))


def _is_blank(column: pl.Series) -> bool:
    return column.null_count() == column.len()


def _with_ladders(spelled: pl.LazyFrame, layout: _Layout) -> pl.LazyFrame:
    """Give the frame with ``ladder`` (UInt32): which daily hours each event falls in."""
    is_clocked = [bool(spell.clocks) for spell in layout.spells]
    if not any(is_clocked):
        # Every spell has one ladder then, so both are counted alike.
        return spelled.with_columns(ladder="spell")
    # Daily hours change on whole minutes, so each distinct minute is asked about once.
    minute = pl.when(holds(is_clocked, "spell")).then(pl.col("micros") // MICROS_PER_MINUTE)
    frame = spelled.collect()
    numbers, minutes = number_rows(frame.select("spell", minute=minute))
    ladders = [layout.ladder_at(spell, minute) for spell, minute in minutes.iter_rows()]
    return frame.lazy().with_columns(ladder=pl.Series(ladders, dtype=pl.UInt32).gather(numbers))


def _with_conversions(
    laddered: pl.LazyFrame, layout: _Layout, price_list: PriceList
) -> pl.LazyFrame:
    """Give the frame with a cell of its own for each quote that converts a foreign price."""
    foreign = [layout.foreign_currency(cell) for cell in layout.cells]
    if not any(foreign):
        return laddered
    placed = laddered.collect()
    # A quote holds for whole UTC days, so each distinct day is asked about once.
    currency = gather(pl.Series(foreign, dtype=pl.Categorical), "cell")
    day = pl.when(currency.is_not_null()).then(pl.col("micros") // MICROS_PER_DAY)
    numbers, days = number_rows(placed.select(currency=currency, day=day))
    quoted_on = [
        price_list.quoted_on(currency, from_micros(day * MICROS_PER_DAY)) if currency else None
        for currency, day in days.iter_rows()
    ]
    quotes = pl.Series("quoted_on", quoted_on, dtype=pl.Date).gather(numbers)
    numbers, pairs = number_rows(placed.select("cell", quotes))
    cells = [layout.cell_on(number, day, price_list) for number, day in pairs.iter_rows()]
    return placed.lazy().with_columns(cell=pl.Series(cells, dtype=pl.UInt32).gather(numbers))


def gather(values: pl.Series, places: str) -> pl.Expr:
    """Give the value at the place that each event's column holds."""
    return pl.lit(values).gather(pl.col(places))


def holds(values: Sequence[bool], places: str) -> pl.Expr:
    """Tell whether the value at the place that each event's column holds is true."""
    if len(set(values)) == 1:
        return pl.lit(values[0])
    # A byte a row is gathered in half the time of a bit.
    return gather(pl.Series(values).cast(pl.UInt8), places) == 1
