"""Rows that say the same but for hour and amount, folded into one line a UTC day.

It owns exact sums over columns of texts and how much is kept in memory; it refuses to know what a
column means. Only what is there in every row by the million (times and numbers) is checked by the
column; everything else is read by the source's own functions, once for each folded row. Where a
column holds something wrong, the same functions read that batch row by row and say what it is.

Numbers are ``Decimal(38, 18)``, and what they have beyond 18 decimals is counted apart in units of
10^-40, so a sum never rounds; one that overflows is an error of Polars, never a wrong sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

import polars as pl

from tokenbudget.domain.money import EXACT
from tokenbudget.domain.periods import Period, from_micros, to_micros
from tokenbudget.formats.bills.lines import MAX_DECIMALS, NUMBER, BillLine, Place
from tokenbudget.formats.bills.tables import Cells, Table

ROW: Final = "\x00row"
ROWS: Final = "\x00rows"
STARTS: Final = "\x00starts"
ENDS: Final = "\x00ends"
NULLS: Final = "\x00nulls"
ALONE: Final = "\x00alone"
WRONG: Final = "\x00wrong"
KEYS: Final = (STARTS, ENDS, NULLS, ALONE)

SCALE: Final = 18
EXACT_TYPE: Final = pl.Decimal(38, SCALE)
PLAIN_NUMBER: Final = r"^-?\d{1,19}(\.\d{1,18})?$"
# A hundred million numbers below it add up within the type; larger ones stay rows of their own.
MAX_FOLDED: Final = 10**11
DAY_MICROS: Final = 86_400_000_000
MAX_GROUPS: Final = 500_000
"""How many folded rows are kept in memory; with more, some that belong together stay two lines."""

COMPACTED_ROWS: Final = 400_000
ROWS_PER_SLICE: Final = 10_000

MAX_FACTS: Final = 50_000
MAX_PERIODS: Final = 4_096

ParseInstant: TypeAlias = Callable[[str], datetime | None]
FactsT = TypeVar("FactsT")


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row to read: ``rows`` of the file are folded in it, of which ``number`` is the first.

    ``period`` is None as long as the row's times have not been read.
    """

    cells: Cells
    place: Place
    number: int
    rows: int = 1
    period: Period | None = None


@dataclass(frozen=True, slots=True)
class TableShape(Generic[FactsT]):
    """What there is to read in a source's tables, by names of our own choice.

    ``starts_at`` and ``ends_at`` are the columns of the billed time, which may be the same one,
    each with what reads it. ``amounts`` add up over rows that agree in all ``dimensions``, of which
    ``decimals`` are numbers too. ``read_facts`` reads the dimensions, once for many rows, and
    ``read_line`` what is left; both raise BadFile.
    """

    starts_at: tuple[str, ParseInstant]
    ends_at: tuple[str, ParseInstant]
    amounts: tuple[str, ...]
    dimensions: tuple[str, ...]
    read_facts: Callable[[Cells, Place], FactsT]
    read_line: Callable[[FactsT, TableRow], BillLine]
    decimals: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Give every column once."""
        times = (self.starts_at[0], self.ends_at[0])
        return tuple(dict.fromkeys((*times, *self.amounts, *self.dimensions)))


def fold_table(
    table: Table, shape: TableShape[FactsT], names: Mapping[str, str], *, may_be_short: bool = False
) -> Iterator[BillLine]:
    """Give the folded lines of a table; ``names`` has the table's column for each of the shape's.

    Columns that the table does not have are absent in every row. Lines come in the order of their
    first rows, unless there are more than memory holds. Raises BadFile naming the row.
    """
    numbered = (*shape.amounts, *shape.decimals)
    numbers = [names[column] for column in numbered if column in names]
    wanted = list(dict.fromkeys(names[column] for column in shape.columns if column in names))
    batches = table.batches(wanted, numbers=numbers, may_be_short=may_be_short, keeps_decimals=True)
    frames = (
        batch.select(
            pl.int_range(first, first + batch.height, dtype=pl.Int64).alias(ROW),
            *(_column(column, names) for column in shape.columns),
        )
        for first, batch in batches
    )
    yield from fold_frames(frames, shape, Place(table.path, "", names))


def _column(column: str, names: Mapping[str, str]) -> pl.Expr:
    if column in names:
        return pl.col(names[column]).alias(column)
    return pl.lit(None, dtype=pl.String).alias(column)


def fold_frames(
    frames: Iterator[pl.DataFrame], shape: TableShape[FactsT], place: Place
) -> Iterator[BillLine]:
    """Give the folded lines of batches of texts that have the shape's columns and ``ROW``."""
    kept: list[pl.DataFrame] = []
    height = 0
    # As numbers they are grouped faster, and nothing of a batch stays in memory for a few texts.
    coded = pl.col(shape.dimensions).cast(pl.Categorical(pl.Categories.random()))
    for frame in frames:
        told = frame.filter(pl.any_horizontal(pl.exclude(ROW).is_not_null()))
        measured = _measured(told, shape)
        if measured[WRONG].any():
            # What is wrong in earlier rows is told first.
            yield from _lines(kept, shape, place)
            yield from _row_by_row(told, shape, place)
            kept, height = [], 0
            continue
        kept.append(_folded(measured.drop(WRONG).with_columns(coded), shape))
        height += kept[-1].height
        if height > COMPACTED_ROWS:
            kept = [_folded(pl.concat(kept, how="diagonal"), shape)]
            height = kept[0].height
        if height > MAX_GROUPS:
            yield from _lines(kept, shape, place)
            kept, height = [], 0
    yield from _lines(kept, shape, place)


def _measured(frame: pl.DataFrame, shape: TableShape[FactsT]) -> pl.DataFrame:
    """Give the rows with times and numbers read, and where one of them cannot be."""
    starts = _micros(frame, *shape.starts_at)
    ends = _micros(frame, *shape.ends_at)
    is_wrong = starts.is_null() | ends.is_null() | (ends <= starts)
    numbers: list[pl.Series] = []
    for name in shape.amounts:
        number, tail, is_odd = _numbers(frame[name])
        is_wrong |= is_odd
        numbers.extend((number, tail) if tail is not None else (number,))
    day = starts - starts % DAY_MICROS
    is_within = ends <= day + DAY_MICROS
    large = [pl.col(name).abs() >= MAX_FOLDED for name in shape.amounts]
    nulls = [
        pl.col(name).is_null().cast(pl.UInt32) * 2**bit for bit, name in enumerate(shape.amounts)
    ]
    return frame.select(
        ROW,
        *shape.dimensions,
        day.zip_with(is_within, starts).alias(STARTS),
        (day + DAY_MICROS).zip_with(is_within, ends).alias(ENDS),
        is_wrong.fill_null(value=True).alias(WRONG),
        pl.lit(1, dtype=pl.Int64).alias(ROWS),
        *numbers,
    ).with_columns(
        pl.sum_horizontal(nulls).alias(NULLS),
        pl.when(pl.any_horizontal(large)).then(ROW).otherwise(0).alias(ALONE),
    )


def _micros(frame: pl.DataFrame, column: str, parse: ParseInstant) -> pl.Series:
    texts = frame[column].unique().drop_nulls().to_list()
    instants = [parse(text) for text in texts]
    micros = pl.Series(
        [None if instant is None else to_micros(instant) for instant in instants], dtype=pl.Int64
    )
    if not texts:
        return pl.Series([None] * frame.height, dtype=pl.Int64)
    return frame[column].replace_strict(texts, micros, default=None, return_dtype=pl.Int64)


def _numbers(cells: pl.Series) -> tuple[pl.Series, pl.Series | None, pl.Series]:
    """Give numbers to 18 decimals, what is beyond if anything is, and where no number stands."""
    if isinstance(cells.dtype, pl.Decimal) and cells.dtype.scale <= SCALE:
        number = cells.cast(EXACT_TYPE, strict=False)
        return number, None, cells.is_not_null() & number.is_null()
    cells = cells.cast(pl.String)
    is_plain = cells.str.contains(PLAIN_NUMBER)
    if (is_plain | cells.is_null()).all():
        return cells.cast(EXACT_TYPE), None, cells.is_null() & False
    texts = cells.filter(~is_plain).unique().to_list()
    parts = [_split_number(text) for text in texts]
    numbers = pl.Series([None if part is None else part[0] for part in parts], dtype=EXACT_TYPE)
    tails = pl.Series([None if part is None else part[1] for part in parts], dtype=pl.Int128)
    plain = cells.set(~is_plain.fill_null(value=True), None).cast(EXACT_TYPE)
    odd = cells.replace_strict(texts, numbers, default=None, return_dtype=EXACT_TYPE)
    tail = cells.replace_strict(texts, tails, default=None, return_dtype=pl.Int128)
    number = plain.zip_with(plain.is_not_null(), odd).alias(cells.name)
    return number, tail.alias(_tail(cells.name)), cells.is_not_null() & number.is_null()


def _tail(name: str) -> str:
    return f"\x00tail {name}"


def _split_number(text: str) -> tuple[Decimal, int] | None:
    """Give a number cut after 18 decimals and the rest in units of 10^-40; None for none."""
    bare = text.strip()
    if not NUMBER.fullmatch(bare):
        return None
    number = EXACT.create_decimal(bare)
    units = EXACT.scaleb(number, MAX_DECIMALS)
    if units.adjusted() > SCALE + 1 + MAX_DECIMALS or units != units.to_integral_value():
        return None
    head, tail = divmod(int(units), 10 ** (MAX_DECIMALS - SCALE))
    return EXACT.scaleb(Decimal(head), -SCALE), tail


def _folded(frame: pl.DataFrame, shape: TableShape[FactsT]) -> pl.DataFrame:
    summed = [name for name in frame.columns if name in shape.amounts or name.startswith(_tail(""))]
    return frame.group_by(*shape.dimensions, *KEYS, maintain_order=True).agg(
        pl.col(ROW).min(), pl.col(ROWS).sum(), pl.col(summed).sum()
    )


def _lines(
    frames: Sequence[pl.DataFrame], shape: TableShape[FactsT], place: Place
) -> Iterator[BillLine]:
    if not frames:
        return
    folded = _folded(pl.concat(frames, how="diagonal"), shape).sort(ROW, maintain_order=True)
    tails = [name for name in shape.amounts if _tail(name) in folded.columns]
    numbers = [_number_text(name) for name in shape.amounts]
    facts_of = _fact_cache(shape)
    printed = (
        cells
        for part in folded.iter_slices(ROWS_PER_SLICE)
        for cells in part.with_columns(
            pl.col(shape.dimensions).cast(pl.String), *numbers
        ).iter_rows(named=True)
    )
    for cells in printed:
        if cells[NULLS] or tails:
            _correct_sums(cells, shape, tails)
        row = TableRow(
            cells,
            Place(place.path, f"row {cells[ROW]}", place.columns),
            cells[ROW],
            cells[ROWS],
            _period(cells[STARTS], cells[ENDS]),
        )
        yield shape.read_line(facts_of(row), row)


def _correct_sums(cells: dict[str, Any], shape: TableShape[FactsT], tails: Sequence[str]) -> None:
    """Put null where nothing was added, and add what lies beyond the 18th decimal."""
    for bit, name in enumerate(shape.amounts):
        if cells[NULLS] >> bit & 1:
            cells[name] = None
        elif name in tails and cells[_tail(name)]:
            tail = EXACT.scaleb(Decimal(cells[_tail(name)]), -MAX_DECIMALS)
            cells[name] = format(EXACT.add(Decimal(cells[name]), tail), "f")


def _fact_cache(shape: TableShape[FactsT]) -> Callable[[TableRow], FactsT]:
    known: dict[tuple[str | None, ...], FactsT] = {}
    key_of = itemgetter(*shape.dimensions)

    def facts_of(row: TableRow) -> FactsT:
        key = key_of(row.cells)
        facts = known.get(key)
        if facts is None:
            if len(known) >= MAX_FACTS:
                known.clear()
            facts = known[key] = shape.read_facts(row.cells, row.place)
        return facts

    return facts_of


@lru_cache(MAX_PERIODS)
def _period(starts: int, ends: int) -> Period:
    return Period(from_micros(starts), from_micros(ends))


def _number_text(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")


def _row_by_row(frame: pl.DataFrame, shape: TableShape[FactsT], place: Place) -> Iterator[BillLine]:
    texts = frame.with_columns(pl.col(pl.Decimal).cast(pl.String))
    for cells in texts.iter_rows(named=True):
        number = cells[ROW]
        row = TableRow(cells, Place(place.path, f"row {number}", place.columns), number)
        yield shape.read_line(shape.read_facts(cells, row.place), row)
