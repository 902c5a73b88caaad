"""Equal rows get one number, whatever they are made of."""

from __future__ import annotations

from datetime import date
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.frames.numbering import (
    MIN_ROWS_TO_SHARE,
    SAMPLE_ROWS,
    each_row,
    find_extremes,
    number_rows,
)

SEED = 20261123
MANY = 20_000


def assert_numbered(rows: pl.DataFrame) -> None:
    """Check that numbers tell rows apart and nothing else, and lead back to them."""
    numbers, distinct = number_rows(rows)

    assert numbers.dtype == pl.UInt32
    assert distinct[numbers].rows() == rows.rows()
    assert sorted(set(numbers)) == list(range(distinct.height))
    assert distinct.height == rows.n_unique()


@given(
    st.lists(
        st.tuples(
            st.sampled_from((None, "", "a", "b", "a name of more than twelve letters")),
            st.sampled_from((None, "", "a", "b")),
            st.sampled_from((None, 0, 1, -(2**62), 2**62)),
        ),
        min_size=1,
    )
)
def test_texts_and_large_integers_are_told_apart(rows: list[tuple[Any, ...]]) -> None:
    schema = {"first": pl.String, "second": pl.String, "third": pl.Int64}

    assert_numbered(pl.DataFrame(rows, schema=schema, orient="row"))


@pytest.mark.parametrize("dtype", [pl.Categorical(), pl.Enum(["a", "b", "c"])])
def test_categories_are_told_apart(dtype: Any) -> None:
    first = pl.Series("first", ["a", None, "b", "a", "b", None], dtype=dtype)
    second = pl.Series("second", [date(2026, 1, 1), None] * 3)

    assert_numbered(pl.DataFrame([first, second]))


def test_rows_that_share_a_slot_are_told_apart() -> None:
    random = Random(SEED)
    # Twenty thousand distinct rows in twice as many slots: thousands of them share one.
    names = [f"{number}-{random.random()}" for number in range(MANY)]

    assert_numbered(pl.DataFrame({"name": random.choices(names, k=2 * MANY)}))


@pytest.mark.parametrize("dtype", [pl.String(), pl.Categorical()])
def test_rows_unlike_all_of_the_sample_are_told_apart(dtype: Any) -> None:
    names = [*["first"] * SAMPLE_ROWS, "late", None, "first", "later", "late"]

    assert_numbered(pl.DataFrame({"name": pl.Series(names, dtype=dtype)}))


def test_a_column_of_nothing_but_null_has_one_number() -> None:
    assert_numbered(pl.DataFrame({"place": pl.Series([None, None], dtype=pl.Int64)}))


@pytest.mark.parametrize("height", [0, 3, MIN_ROWS_TO_SHARE - 1, 2 * MIN_ROWS_TO_SHARE])
def test_each_row_has_its_value_in_order_however_many_there_are(height: int) -> None:
    rows = pl.DataFrame({"place": pl.int_range(height, eager=True)})

    assert each_row(rows, pl.col("place") * 2).to_list() == list(range(0, 2 * height, 2))
    assert each_row(rows, pl.lit(value=True)).to_list() == [True] * height


def test_extremes_are_those_of_each_column_and_nothing_of_nulls() -> None:
    nothing = pl.Series([None] * 3, dtype=pl.Int64)
    rows = pl.DataFrame({"count": [3, None, -1], "none": nothing})

    assert find_extremes(rows) == {"count": (-1, 3), "none": (None, None)}
