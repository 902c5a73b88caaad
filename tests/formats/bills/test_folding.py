"""Folding keeps every total, to the last digit, whatever rows there are."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.money import EXACT
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import folding
from tokenbudget.formats.bills.folding import ROW, TableRow, TableShape, fold_frames
from tokenbudget.formats.bills.lines import (
    BillLine,
    Place,
    amount_cell,
    decimal_cell,
    parse_utc,
    required_text_cell,
)
from tokenbudget.formats.bills.tables import Cells

FIRST = datetime(2026, 9, 1, tzinfo=UTC)
PLACE = Place(Path("bill.csv"), "")


def read_facts(cells: Cells, place: Place) -> str:
    return required_text_cell(cells["model"], place, "model")


def read_line(model: str, row: TableRow) -> BillLine:
    cells, place = row.cells, row.place
    period = row.period
    if period is None:
        start, end = parse_utc(cells["start"] or ""), parse_utc(cells["end"] or "")
        if start is None or end is None:
            raise place.refuse("start", "is no time")
        period = Period(start, end)
    quantity = cells["quantity"]
    return BillLine(
        row_number=row.number,
        folded_rows=row.rows,
        provider="openai",
        account="",
        period=period,
        category=ChargeCategory.USAGE,
        billed=amount_cell((cells["cost"] or "").strip(), place, "cost"),
        currency="USD",
        model=model,
        quantity=None if quantity is None else decimal_cell(quantity, place, "quantity"),
    )


SHAPE = TableShape(
    starts_at=("start", parse_utc),
    ends_at=("end", parse_utc),
    amounts=("cost", "quantity"),
    dimensions=("model",),
    read_facts=read_facts,
    read_line=read_line,
)


def frame_of(*rows: dict[str, Any], first: int = 1) -> pl.DataFrame:
    schema = {ROW: pl.Int64, **dict.fromkeys(SHAPE.columns, pl.String)}
    return pl.DataFrame([{ROW: n, **row} for n, row in enumerate(rows, start=first)], schema=schema)


def make_row(**overrides: str | None) -> dict[str, str | None]:
    row = {
        "model": "gpt-4.1",
        "start": "2026-09-01T00:00:00Z",
        "end": "2026-09-01T01:00:00Z",
        "cost": "0.5",
        "quantity": "10",
    }
    return {**row, **overrides}


def fold(*frames: pl.DataFrame) -> list[BillLine]:
    return list(fold_frames(iter(frames), SHAPE, PLACE))


numbers = st.decimals(
    min_value=Decimal("-9e9"), max_value=Decimal("9e9"), allow_nan=False, places=None
) | st.integers(-(10**30), 10**30).map(lambda units: Decimal(units).scaleb(-25))
rows = st.builds(
    lambda model, hour, length, cost, quantity: (model, hour, length, cost, quantity),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 60),
    st.sampled_from([1, 2, 24, 700]),
    numbers,
    st.none() | numbers,
)


def text_of(number: Decimal | None) -> str | None:
    return None if number is None else format(number, "f")


def is_readable(number: Decimal | None) -> bool:
    if number is None:
        return True
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= 40


@settings(max_examples=150, deadline=None)
@given(told=st.lists(rows, max_size=40), batch=st.integers(1, 12))
def test_folding_keeps_every_total_exactly(told: list[tuple[Any, ...]], batch: int) -> None:
    told = [row for row in told if is_readable(row[3]) and is_readable(row[4])]
    cells = []
    expected: Counter[tuple[str, Period]] = Counter()
    quantities: Counter[str] = Counter()
    for model, hour, length, cost, quantity in told:
        start = FIRST + timedelta(hours=hour)
        end = start + timedelta(hours=length)
        cells.append(
            make_row(
                model=model,
                start=start.strftime("%Y-%m-%dT%H:%M:%SZ"),
                end=end.strftime("%Y-%m-%dT%H:%M:%SZ"),
                cost=text_of(cost),
                quantity=text_of(quantity),
            )
        )
        day = start.replace(hour=0)
        within = end <= day + timedelta(days=1)
        period = Period(day, day + timedelta(days=1)) if within else Period(start, end)
        with_all_digits = EXACT.add(expected[model, period] or Decimal(0), cost)
        expected[model, period] = with_all_digits  # type: ignore[assignment]
        if quantity is not None:
            sum_of = EXACT.add(quantities[model] or Decimal(0), quantity)
            quantities[model] = sum_of  # type: ignore[assignment]
    frames = [
        frame_of(*cells[first : first + batch], first=first + 1)
        for first in range(0, len(cells), batch)
    ]
    if any(abs(cost) > Decimal(9_000_000_000) for cost in expected.values()):
        return

    lines = fold(*frames)

    assert sum(line.folded_rows for line in lines) == len(told)
    billed: dict[tuple[str, Period], Decimal] = {}
    counted: dict[str, Decimal] = {}
    for line in lines:
        key = (line.model or "", line.period)
        billed[key] = EXACT.add(billed.get(key, Decimal(0)), line.billed)
        if line.quantity is not None:
            before = counted.get(line.model or "", Decimal(0))
            counted[line.model or ""] = EXACT.add(before, line.quantity)
    assert billed == dict(expected)
    assert counted == dict(quantities)


def test_hours_of_a_day_are_one_line_and_the_next_day_another() -> None:
    late = make_row(start="2026-09-01T23:00:00Z", end="2026-09-02T00:00:00Z", cost="0.25")
    next_day = make_row(start="2026-09-02T00:00:00Z", end="2026-09-02T01:00:00Z")

    first, second = fold(frame_of(make_row(), late, next_day))

    assert (first.folded_rows, first.billed, first.quantity) == (2, Decimal("0.75"), Decimal(20))
    assert first.period == Period(FIRST, FIRST + timedelta(days=1))
    assert (second.folded_rows, second.row_number) == (1, 3)


def test_what_crosses_midnight_or_takes_longer_keeps_its_time() -> None:
    month = make_row(start="2026-09-01T00:00:00Z", end="2026-10-01T00:00:00Z")
    night = make_row(start="2026-09-01T23:00:00Z", end="2026-09-02T01:00:00Z")

    lines = fold(frame_of(month, night, month))

    assert [line.folded_rows for line in lines] == [2, 1]
    assert lines[1].period.start.hour == 23


def test_absent_is_not_zero() -> None:
    lines = fold(frame_of(make_row(quantity=None), make_row(quantity="0"), make_row(quantity=None)))

    assert [(line.quantity, line.folded_rows) for line in lines] == [(None, 2), (Decimal(0), 1)]


def test_numbers_that_are_too_large_to_add_up_stay_rows_of_their_own() -> None:
    large = make_row(quantity="9999999999999999999")

    lines = fold(frame_of(large, large, make_row()))

    assert [line.folded_rows for line in lines] == [1, 1, 1]
    assert lines[0].quantity == Decimal("9999999999999999999")


def test_odd_prints_of_numbers_are_read_exactly() -> None:
    texts = ["1e-30", "+2.5", " 3 ", "-0.0000000000000000000000000000000000000001", "35E-1"]

    [line] = fold(frame_of(*(make_row(cost=text) for text in texts)))

    assert line.billed == Decimal("9.0000000000000000000000000000009999999999")


def test_decimals_of_a_file_are_not_made_texts() -> None:
    frame = frame_of(make_row(), make_row()).with_columns(
        cost=pl.Series([Decimal("0.1"), Decimal("0.2")], dtype=pl.Decimal(38, 12)),
        quantity=pl.Series([Decimal("1e-25")] * 2, dtype=pl.Decimal(38, 25)),
    )

    [line] = fold(frame)

    assert (line.billed, line.quantity) == (Decimal("0.3"), Decimal("2e-25"))


def test_the_first_wrong_row_is_told_also_when_it_was_read_long_before() -> None:
    good, without_model = make_row(), make_row(model=None)

    with pytest.raises(BadFile, match=r"bill\.csv: row 2, column model: must not be null"):
        fold(frame_of(good, without_model), frame_of(make_row(cost="much"), first=3))
    with pytest.raises(BadFile, match=r"row 3, column cost: 'much' is not a decimal number"):
        fold(frame_of(good, good), frame_of(make_row(cost="much"), first=3))


@pytest.mark.parametrize(
    "cell",
    ["1e999", "1e-41", "x", "99999999999999999999", "0.00000000000000000000000000000000000000001"],
)
def test_numbers_that_are_none_are_refused(cell: str) -> None:
    with pytest.raises(BadFile, match="row 1, column quantity"):
        fold(frame_of(make_row(quantity=cell)))


def test_a_decimal_of_a_file_that_is_too_large_is_refused() -> None:
    cost = pl.Series([Decimal("1e24")], dtype=pl.Decimal(38, 2))

    with pytest.raises(BadFile, match="row 1, column cost"):
        fold(frame_of(make_row()).with_columns(cost=cost))


def test_a_batch_whose_times_only_its_source_can_read_is_read_row_by_row() -> None:
    def read_anything(model: str, row: TableRow) -> BillLine:
        return read_line(model, TableRow(row.cells, row.place, row.number, row.rows, DAY))

    lenient = TableShape(
        SHAPE.starts_at, SHAPE.ends_at, SHAPE.amounts, SHAPE.dimensions, read_facts, read_anything
    )
    frame = frame_of(make_row(start="some day"), make_row(start=None, end=None))

    lines = list(fold_frames(iter([frame]), lenient, PLACE))

    assert [line.row_number for line in lines] == [1, 2]


DAY = Period(FIRST, FIRST + timedelta(days=1))


def test_more_than_memory_should_hold_is_given_out_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folding, "COMPACTED_ROWS", 2)
    monkeypatch.setattr(folding, "MAX_GROUPS", 3)
    monkeypatch.setattr(folding, "MAX_FACTS", 1)
    frames = [
        frame_of(*(make_row(model=model) for model in "abab"), first=first) for first in (1, 5)
    ] + [frame_of(*(make_row(model=model) for model in "cdef"), first=9)]

    lines = fold(*frames, frame_of(make_row(model="a"), first=13))

    assert sum((line.billed for line in lines), Decimal(0)) == Decimal("6.5")
    assert [line.model for line in lines] == ["a", "b", "c", "d", "e", "f", "a"]
    assert lines[0].folded_rows == 4


def test_rows_of_nothing_are_passed_over() -> None:
    assert fold(frame_of(dict.fromkeys(SHAPE.columns))) == []
    assert fold() == []
