"""What moves, worked out over tables: which usage, from what to what, and where it is posted."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from tests.price_builders import NOON, make_model, make_price, make_price_list
from tokenbudget.domain.periods import to_micros
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rerating import CostDelta, DeltaKey, Reason
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.frames.rerating import (
    CANDIDATE_SCHEMA,
    DIMENSION_SCHEMA,
    candidate_frame,
    charge_pairs,
    dimension_frame,
    effective_moves,
    find_moves,
    quarter_hours,
    rollup_sums,
    seen_bytes,
    sum_moves,
    with_commitments,
    with_dimensions,
)

OLD = make_price()
NEW = make_price({"input_tokens": 3_000_000, "output_tokens": 4_000_000})
BOOK = make_price_list(make_model(NEW))
OLD_ROW, NEW_ROW = 1, 2
NOON_SECOND = to_micros(NOON) // 1_000_000
CANDIDATE: dict[str, Any] = {
    "usage_id": 10,
    "occurred_micros": to_micros(NOON) + 1,
    "dimension_set_id": 5,
    "sequence": 0,
    "old_basis": "rated",
    "old_price_row_id": OLD_ROW,
    "old_price_list_id": 1,
    "old_list_nanos": 1_000_000,
    "old_contracted_nanos": 1_000_000,
    "old_effective_nanos": 1_000_000,
    "old_accounting_period": 202603,
    "input_tokens": 1_000,
}
UNPRICED: dict[str, Any] = {
    "old_basis": "unpriced",
    "old_price_row_id": None,
    "old_list_nanos": None,
    "old_contracted_nanos": None,
    "old_effective_nanos": None,
}
DIMENSIONS: dict[str, Any] = {"dimension_set_id": 5, "provider": "acme", "model": "m", "team": "a"}


def asked(*overrides: dict[str, Any]) -> pl.DataFrame:
    """Give candidates, a dollar a million when they were charged, with their dimensions."""
    rows = [{**CANDIDATE, **each} for each in overrides or ({},)]
    candidates = candidate_frame([[row.get(name) for name in CANDIDATE_SCHEMA] for row in rows])
    dimensions = dimension_frame([[DIMENSIONS.get(name) for name in DIMENSION_SCHEMA]])
    return with_dimensions(candidates, dimensions)


def moves_of(
    *overrides: dict[str, Any], book: PriceList = BOOK, closed_before: int | None = None
) -> pl.DataFrame:
    """Give what moves of the candidates; the old row was fixed."""
    return find_moves(
        asked(*overrides),
        book,
        old_digests={OLD_ROW: OLD.price_ref, NEW_ROW: NEW.price_ref},
        fixed_row_ids=frozenset({OLD_ROW}),
        closed_before=closed_before,
    )


def test_usage_of_another_row_moves_and_usage_of_the_present_row_does_not() -> None:
    moves = moves_of({"usage_id": 1}, {"usage_id": 2, "old_price_row_id": NEW_ROW})

    assert moves["usage_id"].to_list() == [1]
    assert moves.row(0, named=True)["new_effective_nanos"] == 3_000_000


def test_nothing_to_look_at_moves_nothing() -> None:
    candidates = candidate_frame([])

    assert with_dimensions(candidates, dimension_frame([])).is_empty()
    assert list(quarter_hours(candidates)) == []


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({}, Reason.FIXED),
        (UNPRICED, Reason.UNPRICED),
        ({"old_price_row_id": None}, Reason.CHANGED),
    ],
)
def test_every_move_has_its_reason(overrides: dict[str, Any], reason: Reason) -> None:
    assert moves_of(overrides)["reason"].to_list() == [reason.value]


def test_what_has_no_price_now_does_not_move() -> None:
    assert moves_of({"other_units": '{"web_searches": 1}'}).is_empty()


def test_units_without_a_column_are_read_from_their_text() -> None:
    book = make_price_list(make_model(make_price({"web_searches": 10**10})))

    moves = moves_of({"input_tokens": None, "other_units": '{"web_searches": 3}'}, book=book)

    # Three searches of a cent.
    assert moves["new_list_nanos"].to_list() == [30_000_000]


@pytest.mark.parametrize(
    ("flags", "basis"), [(None, "rated"), ("odd", "rated"), ("odd,estimated_bytes_x1", "estimated")]
)
def test_what_was_estimated_stays_so(flags: str | None, basis: str) -> None:
    assert moves_of({"usage_flags": flags})["new_basis"].to_list() == [basis]


def test_differences_are_summed_by_owner_period_and_reason() -> None:
    moves = moves_of({"usage_id": 1}, {"usage_id": 2}, {"usage_id": 3, **UNPRICED})

    assert sum_moves(moves) == {
        DeltaKey("a", None, None, 202603, Reason.FIXED): CostDelta(
            2, 4_000_000, 4_000_000, 4_000_000
        ),
        DeltaKey("a", None, None, 202603, Reason.UNPRICED): CostDelta(
            1, 3_000_000, 3_000_000, 3_000_000
        ),
    }


def test_sums_beyond_64_bits_are_exact() -> None:
    largest = 9 * 10**18
    amounts = dict.fromkeys(("old_list_nanos", "old_contracted_nanos"), 0)
    moves = moves_of(
        {**amounts, "usage_id": 1, "old_effective_nanos": largest},
        {**amounts, "usage_id": 2, "old_effective_nanos": largest},
    )

    [delta] = sum_moves(moves).values()

    assert delta.effective_nanos == 2 * 3_000_000 - 2 * largest
    assert list(effective_moves(moves)) == [(NOON_SECOND, 5, 6_000_000 - 2 * largest)]


def test_a_pair_takes_back_the_old_charge_and_posts_the_new_one() -> None:
    moves = moves_of({"sequence": 3}, closed_before=202604)

    pairs = charge_pairs(moves, new_row_ids={NEW.price_ref: NEW_ROW}, price_list_id=8, rerate_id=9)

    shared = {"usage_id": 10, "accounting_period": 202604, "rerate_id": 9, "flags": None}
    costs = ("list_nanos", "contracted_nanos", "effective_nanos")
    assert pairs.to_dicts() == [
        {
            **shared,
            **dict.fromkeys(costs, -1_000_000),
            "sequence": 4,
            "basis": "rated",
            "price_row_id": OLD_ROW,
            "price_list_id": 1,
            "reverses_usage_id": 10,
            "dimension_set_id": None,
        },
        {
            **shared,
            **dict.fromkeys(costs, 3_000_000),
            "sequence": 5,
            "basis": "rated",
            "price_row_id": NEW_ROW,
            "price_list_id": 8,
            "reverses_usage_id": None,
            "dimension_set_id": None,
        },
    ]


def test_quantities_move_from_rollup_to_rollup_with_their_amounts() -> None:
    moves = moves_of({"cached_input_tokens": 400, "output_tokens": 10, **UNPRICED})

    sums = rollup_sums(moves, new_row_ids={NEW.price_ref: NEW_ROW})

    # 600 plain and 400 cached input tokens at three dollars a million, ten of output at four.
    given = dict(zip(MEASURES, (3_040_000,) * 3 + (1, 0, 1_000, 400, 0, 10, 0), strict=True))
    taken = {name: -amount for name, amount in given.items()}
    taken.update(list_nanos=0, contracted_nanos=0, effective_nanos=0, unpriced_requests=-1)
    noon, midnight = NOON_SECOND, NOON_SECOND - NOON_SECOND % DAY_SECONDS
    assert sums.to_dicts() == [
        {
            "grain_seconds": grain,
            "starts_at": second * 1_000_000,
            "dimension_set_id": 5,
            "price_row_id": price_row_id,
            **amounts,
        }
        for grain, second in ((QUARTER_HOUR_SECONDS, noon), (DAY_SECONDS, midnight))
        for price_row_id, amounts in ((0, taken), (NEW_ROW, given))
    ]


def test_what_is_seen_tells_zero_from_unpriced_and_does_not_depend_on_the_cut() -> None:
    unpriced = moves_of(UNPRICED)
    free = moves_of({**UNPRICED, "old_effective_nanos": 0, "old_price_row_id": OLD_ROW})
    both = moves_of({"usage_id": 1}, {"usage_id": 2})

    assert seen_bytes(unpriced) != seen_bytes(free)
    assert seen_bytes(both) == seen_bytes(both[:1]) + seen_bytes(both[1:])


def test_commitments_cover_by_quarter_hour() -> None:
    later = {"usage_id": 11, "occurred_micros": to_micros(NOON) + 900 * 1_000_000}
    candidates = asked({}, later)

    covered = with_commitments(candidates, {(NOON_SECOND, 5): "ptu"})

    assert sorted(quarter_hours(candidates)) == [(NOON_SECOND, 5), (NOON_SECOND + 900, 5)]
    assert covered["commitment"].to_list() == ["ptu", None]
    assert covered.columns == [*candidates.columns, "commitment"]
